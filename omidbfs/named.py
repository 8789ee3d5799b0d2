"""Named cohorts: what a configuration calls a cohort, found in an index."""

import csv
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pyroaring import FrozenBitMap

from omidbfs.cohort import IMAGES, Cohort, Cohorts, Term
from omidbfs.database.problems import Problem
from omidbfs.definitions import RefusedError, defined
from omidbfs.errors import UserError
from omidbfs.facets import Kind
from omidbfs.names import printable, safe_bytes

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,199}")
_LISTS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "clients": ("client", ("client", "ClientID")),
    "studies": ("study", ("study", "StudyInstanceUID")),
    "images": ("image", ("image", "SOPInstanceUID")),
}
"""Key -> what its list names, and the column of a CSV file that holds it."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Images that satisfy all of it: a path as on the drive, and lists (level, names)."""

    path: str = ""
    lists: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class NamedCohort:
    """A cohort of the configuration: what it includes, less what it excludes; ``place`` is where it is defined."""

    name: str
    place: str
    include: Selection
    exclude: Selection | None = None


def named_cohorts(tables: Mapping[str, object], place: Path, text: str) -> tuple[NamedCohort, ...]:
    """Return the cohorts in the ``[cohorts.NAME]`` tables of a configuration, their lists read.

    Raises
    ------
    UserError
        A definition is wrong: file, line, reason.
    """
    return defined("cohorts", tables, place, text, _named_cohort)


def _named_cohort(name: str, table: object, where: str, directory: Path) -> NamedCohort:
    if not _NAME.fullmatch(name):
        raise RefusedError("a name has letters, digits and . _ + -, and begins with a letter or digit")
    include, exclude = _parts(table)
    return NamedCohort(
        name,
        where,
        _selection(include, directory),
        None if exclude is None else _selection(exclude, directory),
    )


def _parts(table: object) -> tuple[dict[str, object], dict[str, object] | None]:
    if not isinstance(table, dict):
        raise RefusedError("is not a table")
    include = {key: value for key, value in table.items() if key != "exclude"}
    exclude = table.get("exclude")
    if isinstance(exclude, str):
        exclude = {"path": exclude}
    if exclude is not None and not isinstance(exclude, dict):
        raise RefusedError("exclude is a path, or a table of path, clients, studies, images")
    if not include and not exclude:
        raise RefusedError("needs a path or a list of clients, studies or images")
    return include, exclude


def _selection(table: Mapping[str, object], directory: Path) -> Selection:
    lists = []
    for key, value in table.items():
        if key not in ("path", "column", *_LISTS):
            raise RefusedError(f"{key} is not understood; path, clients, studies, images, column and exclude are")
        if not isinstance(value, str):
            raise RefusedError(f"{key} has to be text")
        if key in _LISTS:
            level, columns = _LISTS[key]
            column = table.get("column")
            lists.append((level, _listed(directory / value, (str(column),) if column is not None else columns)))
    return Selection(str(table.get("path", "")), tuple(lists))


def _listed(path: Path, columns: Sequence[str]) -> tuple[str, ...]:
    """Return what a file lists: one name a line, or a column of a CSV file."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as stream:
            if path.suffix.lower() != ".csv":
                names = [line.strip() for line in stream]
            else:
                reader = csv.DictReader(stream)
                column = next((name for name in columns if name in (reader.fieldnames or ())), None)
                if column is None:
                    raise RefusedError(f"{path} has no column {' or '.join(columns)}; name one with column")
                names = [(row[column] or "").strip() for row in reader]
    except OSError as error:
        raise RefusedError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, csv.Error) as error:
        raise RefusedError(f"{path} is no list in UTF-8: {error}") from None
    return tuple(dict.fromkeys(name for name in names if name))


def resolved(cohorts: Cohorts, definitions: Sequence[NamedCohort]) -> tuple[dict[str, Cohort], list[Problem]]:
    """Return name -> cohort, and a problem for everything named that the database does not have.

    Raises
    ------
    UserError
        A path is none.
    """
    found: dict[str, Cohort] = {}
    problems: list[Problem] = []
    for one in definitions:
        missing: list[str] = []
        include = _found(cohorts, one.include, one.place, missing)
        if one.exclude is not None:
            rows = FrozenBitMap(cohorts.rows(_found(cohorts, one.exclude, one.place, missing)))
            include = include.narrowed(Term(IMAGES, rows, negated=True))
        found[one.name] = include
        problems += (
            Problem(printable(name), "cohort-entry-missing", f"named in the cohort {one.name}") for name in missing
        )
    return found, problems


def _found(cohorts: Cohorts, selection: Selection, place: str, missing: list[str]) -> Cohort:
    cohort = _at(cohorts, selection.path, place, missing)
    index = cohorts.index
    tables = {"client": index.client_table, "study": index.study_table, "image": index.image_table}
    for level, names in selection.lists:
        ordinals: list[int] = []
        for name in names:
            known = tables[level].find(safe_bytes(os.fsencode(name)))
            if not known and level == "image":
                bare = name.removesuffix(".dcm").removesuffix(".json")
                known = tables[level].find(safe_bytes(os.fsencode(bare)))
            ordinals += known
            if not known:
                missing.append(name)
        term = Term(IMAGES, FrozenBitMap(ordinals)) if level == "image" else Term(level, frozenset(ordinals))
        cohort = cohort.narrowed(term)
    return cohort


def _at(cohorts: Cohorts, path: str, place: str, missing: list[str]) -> Cohort:
    """Return the cohort at a path; what names nothing, but might with other data, is ``missing`` and empty."""
    cohort = Cohort()
    words = [word for word in path.split("/") if word]
    if words[:1] == ["all"]:
        del words[0]
    if len(words) % 2:
        raise UserError(f"{place}: path: {path} has a facet without a value")
    for name, value in zip(words[::2], words[1::2], strict=True):
        facet = cohorts.index.registry.by_name.get(name.removeprefix("by-"))
        if facet is None or not name.startswith("by-"):
            raise UserError(f"{place}: path: there is no {name}")
        if facet.kind is Kind.FILE:
            raise UserError(
                f"{place}: path: {name} narrows files, and a cohort has images: append it where you use it"
            )
        term = cohorts.term(facet, value)
        if term is None and facet.kind not in (Kind.TEXT, Kind.NAME):
            raise UserError(f"{place}: path: {value} is no value of {name}")
        if term is None:
            missing.append(f"{name}/{value}")
        cohort = cohort.narrowed(term or Term(facet.name, frozenset()))
    return cohort
