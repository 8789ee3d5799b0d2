"""Named cohorts: the definitions in the tables ``[cohorts.NAME]`` of a configuration.

The configuration reads them, and :mod:`~omidbfs.cohorts.resolved` turns them into cohorts of an index. They are
plain data, and the functions are pure, for any thread.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from omidbfs.base.definitions import RefusedError, Where, defined
from omidbfs.base.names import printable
from omidbfs.base.tables import Text, understood
from omidbfs.cohorts.members import Broken
from omidbfs.facets import NONE, Level
from omidbfs.facets.lists import listed

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,199}")
_LISTS = {"clients": Level.CLIENT, "studies": Level.STUDY, "images": Level.IMAGE}
"""Key -> the level of the names in its list."""
_UNKNOWN = "is not understood; path, clients, studies, images, column, include and exclude are"
_NAMES = "is a list of names of cohorts"


class _Selected(msgspec.Struct, forbid_unknown_fields=True):
    """A table that selects images."""

    path: Text = None
    clients: Text = None
    studies: Text = None
    images: Text = None
    column: Text = None


class _Cohort(_Selected, forbid_unknown_fields=True):
    """A table ``[cohorts.NAME]``."""

    include: Annotated[
        list[str] | None,
        msgspec.Meta(description=f"{_NAMES}; for a path use path, and for lists clients, studies or images"),
    ] = None
    exclude: Annotated[
        str | list[str] | dict[str, object] | None,
        msgspec.Meta(
            description="is a path, a list of names of cohorts, or a table of path, clients, studies, images"
        ),
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
class Others:
    """Images that are in any of the cohorts with these ``names``; ``place`` as in :class:`Criteria`."""

    names: tuple[str, ...]
    place: str


@dataclass(frozen=True, slots=True)
class NamedCohort:
    """A cohort of the configuration: the images of ``include`` (``None``: all) without those of ``exclude``.

    With ``of``, these are images of other cohorts only. ``broken`` is the mistake of a definition that cannot be
    read: such a definition has nothing else.
    """

    name: str
    include: Criteria | None
    exclude: Criteria | Others | None = None
    of: Others | None = None
    broken: Broken | None = None


def named_cohorts(tables: Mapping[str, object], place: Path, text: str) -> tuple[NamedCohort, ...]:
    """Return the cohorts in the ``[cohorts.NAME]`` tables of a configuration. Their lists are read.

    Raises
    ------
    UserError
        ``cohorts`` is not a table: file, line, reason.
    """
    return defined("cohorts", tables, place, text, _understood)


def _understood(name: str, table: object, where: Where, directory: Path) -> NamedCohort:
    if not name:
        raise RefusedError("cohorts is a table of tables [cohorts.NAME]")
    try:
        return _named_cohort(name, table, where, directory)
    except RefusedError as error:
        mistake = Broken(printable(str(error)), printable(error.remedy), where(*error.keys))
        return NamedCohort(name, None, broken=mistake)


def _named_cohort(name: str, table: object, where: Where, directory: Path) -> NamedCohort:
    if not _NAME.fullmatch(name):
        raise RefusedError("a name has letters, digits and . _ + -, and begins with a letter or digit")
    if name == NONE:
        raise RefusedError(f"by-cohort/{NONE} has the images that no cohort has", remedy="choose another name")
    if not isinstance(table, dict):
        raise RefusedError("is not a table")
    given = understood(_Cohort, table, _UNKNOWN)
    of = None if given.include is None else Others(_names(given.include, "include"), where("include"))
    exclude: Criteria | Others | None = None
    if isinstance(given.exclude, str):
        exclude = Criteria(given.exclude, where("exclude"))
    elif isinstance(given.exclude, list):
        exclude = Others(_names(given.exclude, "exclude"), where("exclude"))
    elif given.exclude is not None:
        listed_there = understood(_Selected, given.exclude, _UNKNOWN, "exclude")
        exclude = _selection(listed_there, where, directory, "exclude")
    criteria = {key: value for key, value in table.items() if key not in ("include", "exclude")}
    include = None
    if criteria or (of is None and exclude is None):
        include = _selection(given, where, directory)
    return NamedCohort(name, include, exclude, of)


def _names(names: list[str], key: str) -> tuple[str, ...]:
    if not names:
        raise RefusedError(f"{key} {_NAMES}, and this list is empty", key)
    path = next((name for name in names if "/" in name), None)
    if path is not None:
        name = path.removeprefix("cohorts/")
        remedy = "write path = and the path" if key == "include" else f'write exclude = "{path}"'
        if name != path and "/" not in name:
            remedy = f'write "{name}"'
        raise RefusedError(f"{key}: {path} is a path, and the list has names of cohorts", key, remedy=remedy)
    return tuple(dict.fromkeys(names))


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
