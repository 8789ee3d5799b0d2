"""Reading of the lists and tables that users write.

Cohorts, facets and ``--clients-file`` use it. It has no state, so any thread may call it.

A file whose name ends in ``.csv`` is a table with a header. Any other file has one name a line. Both are UTF-8,
with or without a byte order mark, with any line ends. Blanks around names, empty lines and repeated names are
ignored.
"""

import csv
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from omidbfs.base.definitions import RefusedError
from omidbfs.base.names import printable
from omidbfs.base.words import meant
from omidbfs.database.problems import Problem
from omidbfs.facets.model import Level

COLUMNS: Mapping[Level, tuple[str, str]] = {
    Level.CLIENT: ("client", "ClientID"),
    Level.STUDY: ("study", "StudyInstanceUID"),
    Level.IMAGE: ("image", "SOPInstanceUID"),
}
"""Level -> the names that a column with identifiers of that level may have."""

_MOST = 1000
"""Most problems of one kind for a list or table, which may be written for a far larger database."""


def listed(path: Path, level: Level, column: str | None = None) -> tuple[str, ...]:
    """Return the names in a list, each once. In a table they are in ``column``, or in one of :data:`COLUMNS`.

    Raises
    ------
    RefusedError
        The file cannot be read, or has no such column.
    """
    with _opened(path, "list") as stream:
        if path.suffix.lower() != ".csv":
            names = [line.strip() for line in stream]
        else:
            header, rows = _table(stream)
            columns = COLUMNS[level] if column is None else (column,)
            place = next((header.index(name) for name in columns if name in header), None)
            if place is None:
                remedy = "rename a column, or name one with column"
                hint = meant(columns[0], header)
                raise RefusedError(
                    f"{path} has no column {' or '.join(columns)}",
                    remedy=f"{remedy}; {hint}" if hint else remedy,
                )
            names = [row[place] for row in rows]
    return tuple(dict.fromkeys(name for name in names if name))


def table(
    path: Path, key: str | None = None, column: str | None = None
) -> tuple[Level, str, tuple[tuple[str, str], ...]]:
    """Return the level of the identifiers in a table, the name of the column read, and pairs (identifier, text).

    Each pair comes once. Rows without a text are left out. ``key`` names the column with the identifiers, and
    ``column`` the column with the texts. Either may be ``None`` if the table leaves only one choice.

    Raises
    ------
    RefusedError
        The file cannot be read, or it lacks these columns.
    """
    with _opened(path, "table") as stream:
        header, rows = _table(stream)
        level, key = _key(header, key)
        others = [name for name in header if name and name not in _LEVELS]
        if column is None and len(others) != 1:
            reason = f"name one of {', '.join(others)}" if others else "the table has only identifiers"
            raise RefusedError(f"column: {reason}")
        column = column or others[0]
        if column not in header:
            raise RefusedError(f"column: {path} has no column {column}", "column", remedy=meant(column, header))
        places = header.index(key), header.index(column)
        pairs = dict.fromkeys((row[places[0]], row[places[1]]) for row in rows)
    return level, column, tuple(pair for pair in pairs if pair[1])


_LEVELS = {name: level for level, names in COLUMNS.items() for name in names}


def _key(header: Sequence[str], wanted: str | None) -> tuple[Level, str]:
    """Return the level of a table, and the column that holds the identifiers."""
    known = [name for name in header if name in _LEVELS]
    if wanted is not None:
        of_level = [name for name in known if _LEVELS[name] == _LEVELS.get(wanted)]
        if not of_level:
            reason = f"key: {wanted} is not client, study or image, or the table has no such column"
            raise RefusedError(reason, "key", remedy=meant(wanted, known))
        known = [name for name in of_level if name == wanted] or of_level
    if not known:
        raise RefusedError("the table has no column client, study or image for the identifiers")
    if len(known) > 1:
        raise RefusedError(f"key: name one of {', '.join(known)}: each has identifiers")
    return _LEVELS[known[0]], known[0]


@contextmanager
def _opened(path: Path, what: str) -> Iterator[TextIO]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as stream:
            yield stream
    except OSError as error:
        raise RefusedError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, csv.Error) as error:
        raise RefusedError(f"{path} is no {what} in UTF-8: {error}") from None


def _table(stream: TextIO) -> tuple[list[str], Iterator[list[str]]]:
    """Return the header of a CSV file and its rows, padded to the length of the header, with cells stripped."""
    reader = csv.reader(stream, strict=True)  # otherwise an unclosed quote would swallow all rows after it
    header = [name.strip() for name in next(reader, [])]
    twice = [name for name, times in Counter(header).items() if name and times > 1]
    if twice:
        raise RefusedError(f"{stream.name} has two columns {twice[0]}")

    def rows() -> Iterator[list[str]]:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells[len(header) :]):
                raise RefusedError(f"{stream.name}: line {reader.line_num} has more cells than the header")
            yield cells + [""] * (len(header) - len(cells))

    return header, rows()


def lost(kind: str, where: str, names: Mapping[str, str]) -> list[Problem]:
    """Return a problem for each name in a list or table, with its detail, and one for all beyond 1,000."""
    few = list(names.items())[:_MOST]
    problems = [Problem(printable(name) or "(blank)", kind, f"{where}{detail}") for name, detail in few]
    if len(names) > _MOST:
        problems.append(Problem("(more)", kind, f"{where}: {len(names) - _MOST:,} more"))
    return problems
