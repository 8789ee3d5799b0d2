"""Reads the tables of a configuration that define facets and cohorts; an error names the file, line and reason.

The readers of facet and cohort definitions use it. Pure functions: any thread may call them.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from omidbfs.base.errors import UserError
from omidbfs.base.names import printable

_Defined = TypeVar("_Defined")
_HEADER = re.compile(r"\s*(\[[^\[].*\])\s*(#.*)?")
_DEEPEST = 4
"""Number of keys on the path to the deepest place that an error names: ``cohorts.test.exclude.path``."""

Where = Callable[..., str]
"""``where(*keys)`` returns file, line and table of a definition, at the key that ``keys`` lead to."""


class RefusedError(Exception):
    """A definition is wrong: the message says why, ``remedy`` how to correct it; ``keys`` lead to the mistake."""

    def __init__(self, message: str, *keys: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy
        self.keys = keys

    def below(self, *keys: str) -> "RefusedError":
        """Return the same error at the key that ``keys`` lead to."""
        return RefusedError(str(self), *keys, remedy=self.remedy)


def defined(
    kind: str,
    tables: Mapping[str, object],
    place: Path,
    text: str,
    understand: Callable[[str, object, Where, Path], _Defined],
) -> tuple[_Defined, ...]:
    """Return the result of ``understand(name, table, where, directory)`` for each table ``[kind.NAME]``.

    Parameters
    ----------
    tables
        Name -> decoded table.
    place, text
        The file that holds the tables, and its content. They locate a mistake.

    Raises
    ------
    UserError
        ``understand`` raised :class:`RefusedError`. The message gives the file, the line and the reason.
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
        """Return the line of a key, or else of the nearest table around it, or else 1."""
        return next((self._lines[keys[:end]] for end in range(len(keys), 0, -1) if keys[:end] in self._lines), 1)


def _keys(text: str) -> tuple[str, ...]:
    """Return the keys in a table header or an assignment, nothing for any other text."""
    import tomllib  # imported here, because every command imports this module and few have a configuration

    try:
        value: object = tomllib.loads(text)
    except (ValueError, RecursionError):
        return ()
    keys: list[str] = []
    while isinstance(value, dict) and value and len(keys) < _DEEPEST:
        key, value = next(iter(value.items()))
        keys.append(key)
    return tuple(keys)
