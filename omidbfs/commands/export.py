"""``omidbfs export``: what to write of a cohort."""

from collections.abc import Iterator
from pathlib import Path

from omidbfs.errors import UserError
from omidbfs.export.formats import FORMATS, format_of
from omidbfs.export.omidb_summary import lines, omidb_summary
from omidbfs.nodes import Directory
from omidbfs.session import Session
from omidbfs.view import View

_OMIDB_SUMMARY = "omidb-summary"


def checked_format(name: str | None, output: Path | None) -> str:
    """Return the format that was asked for, by name or by the name of the file.

    Raises
    ------
    UserError
        None was, or there is none of that name, or it needs a library that is not installed.
    """
    known = [*FORMATS, _OMIDB_SUMMARY]
    if name is None:
        name = format_of(output.name) if output is not None else None
        if name is None:
            what = "standard output" if output is None else str(output)
            raise UserError(
                f"{what}: the name does not say what to write; add --format, one of {', '.join(known)}"
            )
    if name not in known:
        raise UserError(f"--format: there is no format {name}; there are {', '.join(known)}")
    if name in FORMATS and not FORMATS[name].is_there():
        raise UserError(f"--format {name}: needs pyarrow, which is not installed; pip install 'omidbfs[{name}]'")
    return name


def exported(session: Session, view: View, directory: Directory, name: str) -> Iterator[bytes]:
    """Return the content of a file in a format, of what a directory shows."""
    if name != _OMIDB_SUMMARY:
        return FORMATS[name].content(view.selection(directory))
    cohort = view.cohort(directory)
    return lines(omidb_summary(session.source, session.classification, view.cohorts, cohort))
