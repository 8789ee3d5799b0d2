"""Named cohorts: the cohorts that a configuration defines, and their images in an index.

The configuration, sessions and completion in shells use it. It has plain data and pure functions, for any thread.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
from pyroaring import FrozenBitMap

from omidbfs.base.definitions import RefusedError, Where, defined
from omidbfs.base.errors import UserError
from omidbfs.base.tables import Text, understood
from omidbfs.base.words import closest, did_you_mean, meant
from omidbfs.cohorts.cohort import IMAGES, LEVEL_OF, Cohort, Cohorts, Term
from omidbfs.cohorts.readings import compact
from omidbfs.database.problems import Problem
from omidbfs.facets import Kind, Level
from omidbfs.facets.lists import listed, lost

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,199}")
_LISTS = {"clients": Level.CLIENT, "studies": Level.STUDY, "images": Level.IMAGE}
"""Key -> the level of the names in its list."""
_FACET_OF = {level: facet for facet, level in LEVEL_OF.items()}
_UNKNOWN = "is not understood; path, clients, studies, images, column and exclude are"


class _Selected(msgspec.Struct, forbid_unknown_fields=True):
    """A table that selects images."""

    path: Text = None
    clients: Text = None
    studies: Text = None
    images: Text = None
    column: Text = None


class _Cohort(_Selected, forbid_unknown_fields=True):
    """A table ``[cohorts.NAME]``."""

    exclude: Annotated[
        str | dict[str, object] | None,
        msgspec.Meta(description="is a path, or a table of path, clients, studies, images"),
    ] = None


@dataclass(frozen=True, slots=True)
class Criteria:
    """Images that are in all ``lists`` (level, names) and in ``path``, a path as on the drive.

    ``place`` is the place of the path in the configuration, for messages.
    """

    path: str
    place: str
    lists: tuple[tuple[Level, tuple[str, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class NamedCohort:
    """A cohort of the configuration: the images of ``include`` (``None``: all) without those of ``exclude``."""

    name: str
    include: Criteria | None
    exclude: Criteria | None = None


def named_cohorts(tables: Mapping[str, object], place: Path, text: str) -> tuple[NamedCohort, ...]:
    """Return the cohorts in the ``[cohorts.NAME]`` tables of a configuration. Their lists are read.

    Raises
    ------
    UserError
        A definition is wrong: file, line, reason.
    """
    return defined("cohorts", tables, place, text, _named_cohort)


def _named_cohort(name: str, table: object, where: Where, directory: Path) -> NamedCohort:
    if not _NAME.fullmatch(name):
        raise RefusedError("a name has letters, digits and . _ + -, and begins with a letter or digit")
    if not isinstance(table, dict):
        raise RefusedError("is not a table")
    given = understood(_Cohort, table, _UNKNOWN)
    include = {key: value for key, value in table.items() if key != "exclude"}
    taken: Criteria | None = None
    if isinstance(given.exclude, str):
        taken = Criteria(given.exclude, where("exclude"))
    elif given.exclude is not None:
        listed_there = understood(_Selected, given.exclude, _UNKNOWN, "exclude")
        taken = _selection(listed_there, where, directory, "exclude")
    if taken is not None and not include:
        return NamedCohort(name, None, taken)
    return NamedCohort(name, _selection(given, where, directory), taken)


def _selection(given: _Selected, where: Where, directory: Path, *inside: str) -> Criteria:
    """Return the selection of a table; the keys ``inside`` lead to it from the definition."""
    lists = []
    for key, level in _LISTS.items():
        file: str | None = getattr(given, key)
        if file is not None:
            try:
                lists.append((level, listed(directory / file, level, given.column)))
            except RefusedError as error:
                raise error.below(*inside, *(error.keys or (key,))) from None
    if not lists and given.path is None:
        raise RefusedError("needs a path or a list of clients, studies or images", *inside)
    return Criteria(given.path or "", where(*inside, "path"), tuple(lists))


def resolved(cohorts: Cohorts, definitions: Sequence[NamedCohort]) -> tuple[dict[str, Cohort], list[Problem]]:
    """Return name -> cohort, and a problem for every name that the database does not have.

    Raises
    ------
    UserError
        A path is wrong.
    """
    named: dict[str, Cohort] = {}
    problems: list[Problem] = []
    for one in definitions:
        missing: dict[str, str] = {}
        include = Cohort() if one.include is None else _selected(cohorts, one.include, missing)
        if one.exclude is not None:
            rows = FrozenBitMap(cohorts.rows(_selected(cohorts, one.exclude, missing)))
            include = include.narrowed(Term(IMAGES, rows, negated=True))
        named[one.name] = include
        problems += lost("entry-missing", f"in the cohort {one.name}", missing)
    return named, problems


def _selected(cohorts: Cohorts, selection: Criteria, missing: dict[str, str]) -> Cohort:
    cohort = _at(cohorts, selection.path, selection.place, missing)
    for level, names in selection.lists:
        ordinals: list[int] = []
        for name in names:
            known = cohorts.levels[level].named(name)
            ordinals += known
            if not known:
                missing[name] = ""
        cohort = cohort.narrowed(Term(_FACET_OF[level], compact(ordinals)))
    return cohort


def _at(cohorts: Cohorts, path: str, place: str, missing: dict[str, str]) -> Cohort:
    """Return the cohort at a path. A value that only other data might have is empty, and added to ``missing``."""
    cohort = Cohort()
    words = [word for word in path.split("/") if word]
    if words[:1] == ["all"]:
        del words[0]
    if len(words) % 2:
        raise UserError(f"path: {path} has a facet without a value", place=place)
    for name, value in zip(words[::2], words[1::2], strict=True):
        facet = cohorts.index.registry.by_name.get(name.removeprefix("by-"))
        if facet is None or not name.startswith("by-"):
            known = {one: f"by-{one}" for one in cohorts.index.registry.by_name}
            hint = did_you_mean(closest(name.removeprefix("by-"), known))
            raise UserError(f"path: there is no {name}", hint, place)
        if facet.kind is Kind.FILE:
            raise UserError(
                f"path: {name} narrows files, but a cohort has images: append it where you use the cohort",
                place=place,
            )
        term = cohorts.term(facet, value)
        if term is None and facet.kind not in (Kind.TEXT, Kind.NAME):
            hint = meant(value, (one.label for one in facet.values))
            raise UserError(f"path: {value} is no value of {name}", hint, place)
        if term is None:
            missing[f"{name}/{value}"] = ""
        cohort = cohort.narrowed(term or Term(facet.name, frozenset()))
    return cohort
