"""``omidbfs export``: what to write of a cohort."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from omidbfs.errors import UserError
from omidbfs.export.formats import FORMATS, format_of
from omidbfs.export.omidb_summary import Row, lines, omidb_summary
from omidbfs.export.output import write
from omidbfs.nodes import Directory
from omidbfs.session import Session
from omidbfs.view import View


def checked_format(name: str | None, output: Path | None) -> str:
    """Return the format that was asked for, by name or by the name of the file.

    Raises
    ------
    click.UsageError
        None was.
    UserError
        It needs a library that is not installed.
    """
    if name is None:
        name = format_of(output.name) if output is not None else None
        if name is None:
            raise click.UsageError(
                "what to write? Add --format, or name the file as one on the drive: -o index.csv"
            )
    if name in FORMATS and not FORMATS[name].is_there():
        raise UserError(
            f"{name}: pyarrow is not installed, and is needed to write it; pip install 'omidbfs[parquet]'"
        )
    return name


def written(session: Session, view: View, directory: Directory, name: str, output: Path | None) -> str:
    """Write what a directory shows in a format; return what was written, for people.

    Raises
    ------
    OSError
        It cannot be written.
    """
    if name in FORMATS:
        chosen = view.selection(directory)
        write(FORMATS[name].content(chosen), output)
        return f"{len(view.cohorts.rows(chosen.cohort))} images"
    cohort = view.cohort(directory)
    rows = _Counted(omidb_summary(session.source, session.classification, view.cohorts, cohort))
    write(lines(rows), output)
    return f"{rows.count - 1} rows"


class _Counted:
    """Rows, counted as they are taken."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = rows
        self.count = 0

    def __iter__(self) -> Iterator[Row]:
        for row in self._rows:
            self.count += 1
            yield row
