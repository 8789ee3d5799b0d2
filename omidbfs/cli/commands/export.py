"""``omidbfs export``: chooses a format and writes a cohort in it. ``cli/main.py`` declares the command and
uses this module, in the main thread.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from omidbfs.base.errors import UserError
from omidbfs.base.words import counted
from omidbfs.cli.output import write
from omidbfs.exports.formats import FORMATS, format_of
from omidbfs.exports.omidb import Row, lines, omidb_summary
from omidbfs.serving.session import Session
from omidbfs.view.nodes import Directory
from omidbfs.view.view import View


def checked_format(name: str | None, output: Path | None) -> str:
    """Return the name of the format: ``name``, or the one that the name of the file gives.

    Raises
    ------
    click.UsageError
        Neither gives a format.
    UserError
        The format needs a library that is not installed.
    """
    if name is None:
        name = format_of(output.name) if output is not None else None
        if name is None:
            raise click.UsageError(f"what to write? {_choices(output)}")
    if name in FORMATS and not FORMATS[name].is_there():
        raise UserError(
            "pyarrow is not installed, and is needed to write it", "pip install 'omidbfs[parquet]'", place=name
        )
    return name


def _choices(output: Path | None) -> str:
    """Return a hint for a file whose name gives no format: the formats with its suffix, if there are any."""
    suffix = "" if output is None else output.suffix.lower()
    alike = [one for one in FORMATS.values() if suffix and one.file.endswith(suffix)]
    if not alike:
        return "Add --format, or name the file as one on the drive: -o index.csv"
    names, files = (" or ".join(words) for words in zip(*((one.name, one.file) for one in alike), strict=True))
    return f"{suffix} may be {names}: add --format {names}, or name the file {files}"


def written(session: Session, view: View, directory: Directory, name: str, output: Path | None) -> str:
    """Write the cohort of a directory in a format. Return the number of images or rows as text.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    if name in FORMATS:
        chosen = view.selection(directory)
        write(FORMATS[name].content(chosen), output)
        return counted(len(view.cohorts.rows(chosen.cohort)), "image")
    cohort = view.cohort(directory)
    rows = _Counted(omidb_summary(session.source, session.classification, view.cohorts, cohort))
    write(lines(rows), output)
    return counted(rows.count - 1, "row")


class _Counted:
    """Counts rows while they are read."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = rows
        self.count = 0

    def __iter__(self) -> Iterator[Row]:
        for row in self._rows:
            self.count += 1
            yield row
