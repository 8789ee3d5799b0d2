"""``omidbfs export``: chooses a format and writes a cohort in it, or its images in a rendition. ``cli/main.py``
declares the command and uses this module, in the main thread.
"""

import csv
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from omidbfs.base.errors import UserError
from omidbfs.base.words import counted, meant
from omidbfs.cli.options import mount_point, session_of, warn
from omidbfs.cli.output import STANDARD, aligned, write
from omidbfs.cli.selection import directory_at, selected_by, view_and_age
from omidbfs.database.layout import Source
from omidbfs.exports.formats import FORMATS, OMIDB_SUMMARY, format_of
from omidbfs.exports.omidb import Row, lines, omidb_summary
from omidbfs.exports.packing import packed, shards
from omidbfs.exports.paths import Paths, below, in_the_source
from omidbfs.exports.selection import Selection
from omidbfs.pixels.rendition import Box, Format, Rendition
from omidbfs.serving.session import Session
from omidbfs.view.nodes import Directory
from omidbfs.view.view import View

if TYPE_CHECKING:
    from omidbfs.exports.rendered import Outcome
    from omidbfs.index.executors import Work


def checked_format(name: str | None, output: Path | None) -> str:
    """Return the name of the format: ``name``, or the one that the name of the file gives.

    A table whose file is named ``.parquet`` is written as Parquet.

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
    if output is not None and output.suffix.lower() == ".parquet" and f"{name}-parquet" in FORMATS:
        name = f"{name}-parquet"
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
    names = ", ".join(one.name for one in alike)
    files = ", ".join(one.file for one in alike)
    return f"{suffix} is of several formats ({names}). Add --format, or name the file as one of {files}"


def checked_shards(name: str, shard_size: int | None, output: Path | None) -> None:
    """Refuse shards of anything but archives, and on standard output.

    Raises
    ------
    click.UsageError
        ``--shard-size`` does not fit the format or the output.
    """
    if shard_size is not None and name != "tar":
        raise click.UsageError("--shard-size goes with --format tar")
    if shard_size == 0:
        raise click.UsageError("--shard-size 0 leaves no room: give a size such as 1G")
    if shard_size is not None and output in (None, STANDARD):
        raise click.UsageError("--shard-size needs -o FILE: shards are files of their own")


def written(
    session: Session,
    view: View,
    directory: Directory,
    name: str,
    output: Path | None,
    shard_size: int | None = None,
    absolute: str | None = None,
) -> str:
    """Write the cohort of a directory in a format. Return the number of images or rows as text.

    With ``absolute``, paths are those of the ``drive`` that SOURCE is, or of the files of the ``source``.

    Raises
    ------
    OSError
        The file cannot be written.
    UserError
        A file that belongs into an archive cannot be read or rendered, or has changed.
    """
    if name in FORMATS:
        format_ = FORMATS[name]
        chosen = view.selection(directory)
        if absolute is not None:
            chosen = replace(chosen, paths=_absolute(absolute, session.source))
        if format_.has_coordinates:
            view.check_coordinates(chosen.cohort, chosen.title)
        if format_.of_client and chosen.client is None:
            raise UserError(
                f"{format_.file} is of the directory of one client",
                "name one, as in by-client/demd1",
                place=chosen.title,
            )
        number = len(view.cohorts.rows(chosen.cohort)) if format_.rows is None else format_.rows(chosen)
        images = counted(number, format_.unit)
        if format_.content is not None:
            write(format_.content(chosen), output)
        elif shard_size is None or output is None:
            assert format_.archive is not None
            write(packed(format_.archive(chosen), session.source), output)
        else:
            return f"{images} in {counted(_write_shards(chosen, session.source, output, shard_size), 'file')}"
        return images
    cohort = view.cohort(directory)
    rows = _Counted(omidb_summary(session.source, session.classification, view.cohorts, cohort))
    write(lines(rows), output)
    return counted(rows.count - 1, "row")


def checked_absolute(absolute: str | None, name: str | None) -> None:
    """Refuse absolute paths in a format without paths, and on a drive if SOURCE is none.

    Raises
    ------
    click.UsageError
        ``--absolute`` does not fit the format or SOURCE.
    """
    if absolute is None:
        return
    with_paths = [one.name for one in FORMATS.values() if one.has_paths]
    if name not in with_paths:
        *others, last = (one for one in with_paths if not one.endswith("-parquet"))
        raise click.UsageError(f"--absolute goes with --format {', '.join(others)} or {last}")
    if absolute == "drive" and mount_point() is None:
        raise click.UsageError("--absolute drive needs a mounted drive as SOURCE")


def _absolute(absolute: str, source: Source) -> Paths:
    """Return the function for absolute paths of files."""
    place = mount_point() if absolute == "drive" else None
    return in_the_source(source) if place is None else below(place)


def _write_shards(chosen: Selection, source: Source, output: Path, largest: int) -> int:
    """Write the shards of a selection, and return how many there are."""
    name, number = output.name.removesuffix(".tar"), 0

    def numbered(number: int) -> Path:
        return output.with_name(f"{name}-{number:06}.tar")

    for number, archive in enumerate(shards(chosen, largest), 1):
        write(packed(archive, source), numbered(number - 1))
    if numbered(number).exists():
        raise UserError("is left of an earlier export, and not a part of this one", "remove it", numbered(number))
    return number


class _Counted:
    """Counts rows while they are read."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = rows
        self.count = 0

    def __iter__(self) -> Iterator[Row]:
        for row in self._rows:
            self.count += 1
            yield row


# Renditions


def is_table(format: str | None, output: Path | None) -> bool:
    """Return whether a format, or else the name of a file, is that of a file in ``.omidbfs/`` or a summary."""
    if format is None and output is not None and not output.is_dir():
        format = format_of(output.name)
    return format in FORMATS or format == OMIDB_SUMMARY


def export_renditions(
    source: Path,
    path: str,
    name: str | None,
    layout: str | None,
    format: str | None,
    output: Path | None,
    options: dict[str, Any],
) -> int:
    """Write the images of the cohort at a path in a rendition; the arguments are those of the command.

    Return the exit status. Images that failed are printed as a table, which ``exclude`` of a cohort takes.
    """
    from omidbfs.exports.rendered import placed, write_files
    from omidbfs.exports.rendition_record import What, recorded
    from omidbfs.exports.stacked import write_array
    from omidbfs.exports.yolo import write_data_set

    if name is None:
        place = "--layout" if layout is not None else f"--format {format}"
        raise UserError("needs a rendition", "add --as, as in --as png16-1024x768", place)
    if format not in (None, "npy", "yolo"):
        raise UserError("is one file, without directories", "leave out --layout", f"--format {format}")
    if output is None or output == STANDARD:
        raise UserError("needs a directory to write to", "add -o DIRECTORY", "--as")
    is_array = format == "npy" or (format is None and output.suffix == ".npy" and not output.is_dir())
    if is_array and layout is not None:
        raise UserError("an array has no directories", "leave out --layout", "--layout")
    session = session_of(source, options)
    view, age = view_and_age(session, options)
    selected_by(view, path)
    directory = directory_at(view, with_rendition(path, name))
    cohort, rendition = view.cohort(directory), directory.cohort.rendition
    assert rendition is not None, "the directory of a rendition"

    @contextmanager
    def work() -> "Iterator[Work]":
        from omidbfs.index.executors import Work, executor_for

        with session.progress() as progress, executor_for(session.executor, session.workers) as executor:
            yield Work(executor, session.workers, progress)

    left_out: Mapping[str, int] = {}
    if is_array or format == "yolo":
        view.check_coordinates(cohort, os.fsdecode(directory.path))
    if is_array:
        _check_array(output, rendition)
        outcome = write_array(session.source, view.selection(directory), output, work)
    else:
        layout = _layout(view, layout or "flat")
        shown = os.fsdecode(directory.path.rpartition(b"/")[0]) or "all"
        if format == "yolo":
            _check_yolo(rendition)
            with recorded(output.absolute(), What(shown, f"yolo {layout}", rendition.name), rendition) as record:
                chosen = view.selection(directory)
                outcome, left_out = write_data_set(session.source, chosen, layout, record, work)
        else:
            with recorded(output.absolute(), What(shown, layout, rendition.name), rendition) as record:
                files = placed(view.cohorts, cohort, rendition, layout)
                outcome = write_files(session.source, view.index, files, rendition, record, work)
    _report(outcome, output)
    if left_out:
        reasons = ", ".join(f"{reason}: {number}" for reason, number in left_out.items())
        click.echo(f"{output}: {counted(sum(left_out.values()), 'mark')} left out ({reasons})", err=True)
    if age:  # not only on a terminal: the files are kept
        warn(age)
    return 1 if outcome.failed else 0


def with_rendition(path: str, name: str) -> str:
    """Return the path of a rendition of the cohort at ``path``, which is empty for every image."""
    return f"{path}/as-{name.removeprefix('as-')}".lstrip("/")


def _layout(view: View, name: str) -> str:
    """Return the name of a layout, if there is such a facet."""
    known = ["flat", *(f"by-{facet.name}" for facet in view.cohorts.facets)]
    if name not in known:
        raise UserError(
            f"there is no {name}", meant(name, known) or "`omidbfs facets SOURCE` shows what there is", "--layout"
        )
    return name


def _check_array(output: Path, rendition: Rendition) -> None:
    from omidbfs.exports.stacked import table_of

    if not isinstance(rendition.size, Box):
        raise UserError(
            "its images have different sizes, and an array has one",
            "name a size of rows and columns, as in png16-1024x768",
            f"--as {rendition.name}",
        )
    if output.suffix != ".npy":
        raise UserError("an array needs a name that ends in .npy", "as in -o images.npy", output)
    if table_of(output).exists() and not output.exists():
        raise UserError("is there, and would be replaced", "remove it, or choose another name", table_of(output))


def _check_yolo(rendition: Rendition) -> None:
    if rendition.format is Format.NPY:
        raise UserError("YOLO reads no npy files", "choose a png, as in --as png-640", f"--as {rendition.name}")


def _report(outcome: "Outcome", output: Path) -> None:
    """Print what was done, and the images that failed."""
    if outcome.failed:
        table = csv.writer(sys.stdout, lineterminator="\n")
        table.writerow(("image", "kind"))
        table.writerows(outcome.failed)
        sys.stdout.flush()
    parts = [counted(outcome.made + outcome.up_to_date, "image")]
    parts += [f"{outcome.up_to_date} of them up to date"] if outcome.up_to_date else []
    parts += [f"{counted(outcome.removed, 'file')} removed"] if outcome.removed else []
    parts += [f"{len(outcome.failed)} that cannot be rendered"] if outcome.failed else []
    click.echo(f"{output}: {', '.join(parts)}", err=True)
    for line in aligned([(number, kind) for kind, number in outcome.kinds], 8):
        click.echo(line, err=True)
