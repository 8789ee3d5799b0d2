"""Tables of a configuration that define something: each is understood, or refused with file, line and reason.

Used by whoever reads definitions, of facets and of cohorts; pure functions, for any thread.
"""

import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec

from omidbfs.base.errors import UserError
from omidbfs.base.names import printable
from omidbfs.base.words import meant

Text = Annotated[str | None, msgspec.Meta(description="has to be text")]
"""A value of a table; the description is what is said of any other value."""

_Defined = TypeVar("_Defined")
_Table = TypeVar("_Table", bound=msgspec.Struct)
_HEADER = re.compile(r"\s*(\[[^\[].*\])\s*(#.*)?")
_DEEPEST = 4
"""Keys that lead to the deepest place that is told: ``cohorts``, ``test``, ``exclude``, ``path``."""

Where = Callable[..., str]
"""``where(*keys)``: file, line and table of a definition, at one of its keys."""


class RefusedError(Exception):
    """A definition is wrong: the message says why, ``remedy`` what to do, and ``keys`` lead to where."""

    def __init__(self, message: str, *keys: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy
        self.keys = keys

    def below(self, *keys: str) -> "RefusedError":
        """Return the same, of what ``keys`` lead to."""
        return RefusedError(str(self), *keys, remedy=self.remedy)


def defined(
    kind: str,
    tables: Mapping[str, object],
    place: Path,
    text: str,
    understand: Callable[[str, object, Where, Path], _Defined],
) -> tuple[_Defined, ...]:
    """Return what ``understand(name, table, where, directory)`` makes of each ``[kind.NAME]``.

    Parameters
    ----------
    tables
        Name -> table, as decoded.
    place, text
        The file that they are in, and its content, to say where a mistake is.

    Raises
    ------
    UserError
        ``understand`` raised :class:`RefusedError`: file, line, reason.
    """
    found = []
    lines = Lines(text)
    for name, table in tables.items():

        def where(*keys: str, name: str = name) -> str:
            return f"{place}:{lines.of(kind, name, *keys)}: [{kind}.{printable(name)}]"

        try:
            found.append(understand(name, table, where, place.parent))
        except RefusedError as error:
            raise UserError(printable(str(error)), printable(error.remedy), where(*error.keys)) from None
    return tuple(found)


def understood(kind: type[_Table], table: Mapping[str, object], unknown: str, *inside: str) -> _Table:
    """Return a table as a Struct, whose fields are the keys that it may have.

    Parameters
    ----------
    kind
        A field that not every value fits is annotated with the description of those that do.
    unknown
        What is said of a key that the Struct does not have.
    inside
        The keys that lead to the table.

    Raises
    ------
    RefusedError
        A key is unknown, or its value does not fit.
    """
    fields = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
    for key, value in table.items():
        if key not in fields:
            others = [name for name in fields if name not in table]
            raise RefusedError(f"{key} {unknown}", *inside, key, remedy=meant(key, others))
        try:
            msgspec.convert(value, fields[key])
        except msgspec.ValidationError:
            raise RefusedError(f"{key} {fields[key].__metadata__[0].description}", *inside, key) from None
    return msgspec.convert(table, kind)


class Lines:
    """The lines at which the tables and keys of a TOML document begin."""

    def __init__(self, text: str) -> None:
        self._lines: dict[tuple[str, ...], int] = {}
        table: tuple[str, ...] = ()
        for number, line in enumerate(text.split("\n"), 1):
            header = _HEADER.fullmatch(line)
            key, equals, _ = line.partition("=")
            if header is not None:
                path = table = _keys(header[1]) or table
            else:
                path = (*table, *_keys(f"{key} = 0")) if equals else ()
            for length in range(1, len(path) + 1):
                self._lines.setdefault(path[:length], number)

    def __contains__(self, keys: tuple[str, ...]) -> bool:
        return keys in self._lines

    def of(self, *keys: str) -> int:
        """Return the line of a key, else of what it is in: of an inline table, say; 1 where nothing is found."""
        return next((self._lines[keys[:end]] for end in range(len(keys), 0, -1) if keys[:end] in self._lines), 1)


def _keys(text: str) -> tuple[str, ...]:
    """Return the keys in the header of a table, or in an assignment; none if it is neither."""
    try:
        value: object = tomllib.loads(text)
    except (ValueError, RecursionError):
        return ()
    keys: list[str] = []
    while isinstance(value, dict) and value and len(keys) < _DEEPEST:
        key, value = next(iter(value.items()))
        keys.append(key)
    return tuple(keys)
