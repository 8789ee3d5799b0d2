"""Tables of a configuration that define something: each is understood, or refused with file, line and reason."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from omidbfs.errors import UserError
from omidbfs.names import printable

_Defined = TypeVar("_Defined")


class RefusedError(Exception):
    """A definition is wrong; the message says why."""


def defined(
    kind: str,
    tables: Mapping[str, object],
    place: Path,
    text: str,
    understand: Callable[[str, object, str, Path], _Defined],
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
    for name, table in tables.items():
        where = f"{place}:{_line_of(text, kind, name)}: [{kind}.{printable(name)}]"
        try:
            found.append(understand(name, table, where, place.parent))
        except RefusedError as error:
            raise UserError(f"{where}: {printable(str(error))}") from None
    return tuple(found)


def _line_of(text: str, kind: str, name: str) -> int:
    """Return the line at which ``[kind.name]``, or what it holds, begins; 1 where that is not found."""
    quoted = rf"""["']?{re.escape(name)}["']?"""
    patterns = (rf"^\s*\[\s*{kind}\s*\.\s*{quoted}\s*\]", rf"^\s*({kind}\s*\.\s*)?{quoted}\s*[.=]")
    for pattern in patterns:
        match = re.search(pattern, text, re.M)
        if match is not None:
            return text.count("\n", 0, match.start(0) + len(match[0]) - len(match[0].lstrip())) + 1
    return 1
