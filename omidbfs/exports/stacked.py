"""A cohort as one array of a rendition, N x rows x columns, with the table of its rows beside it.

``omidbfs export --as RENDITION --format npy`` uses it. Tasks of an executor write the numbers of each image to its
place in the unfinished file. The main thread then moves images together where others have failed.
"""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from omidbfs.base.names import printable
from omidbfs.base.whole import replacing
from omidbfs.cohorts.cohort import IMAGES, Term
from omidbfs.database.layout import Source
from omidbfs.exports.fields import images as images_table
from omidbfs.exports.rendered import (
    Failed,
    Image,
    Outcome,
    Steps,
    copied,
    each_opened,
    images_at,
    made_apart,
    task_size,
)
from omidbfs.exports.rendition_record import State
from omidbfs.exports.selection import Selection
from omidbfs.exports.table import csv
from omidbfs.index.codes import compact
from omidbfs.index.executors import Work, in_order
from omidbfs.pixels.apart import Apart
from omidbfs.pixels.rendition import Box, Format, Rendition
from omidbfs.pixels.sizes import npy_header, size_of
from omidbfs.pixels.worker import Request

IN_COLOUR = "it is in colour"

_PART = 1 << 24


class _Task(NamedTuple):
    """Images to write into a file, from a place on; ``size`` is the number of bytes of each.

    ``output`` is the name that the file will have.
    """

    source: Source
    output: str
    file: str
    start: int
    size: int
    rendition: Rendition
    images: list[Image]


def write_array(
    source: Source,
    chosen: Selection,
    output: Path,
    work: Callable[[], AbstractContextManager[Work]],
) -> Outcome:
    """Write the images of a cohort as one array, and ``index.csv`` of its rows beside it (:func:`table_of`).

    The order of the array and the rows is that of the drive. Both files have the images that were rendered.
    The rendition of the cohort has a size of rows and columns.

    Raises
    ------
    OSError
        A file cannot be written. Neither file changes.
    UserError
        A worker was killed, or a process that renders does not start.
    """
    cohort, rendition, index = chosen.cohort, chosen.cohort.rendition, chosen.cohorts.index
    rows, outcome = chosen.cohorts.rows(cohort).tolist(), Outcome()
    assert rendition is not None
    assert isinstance(rendition.size, Box)
    shape = (rendition.size.rows, rendition.size.columns)
    dtype = np.dtype("u1" if rendition.format is Format.PNG else "<u2")
    header, each = _header(dtype, len(rows), shape), dtype.itemsize * shape[0] * shape[1]
    with replacing(output) as stream, replacing(table_of(output)) as table:
        stream.write(header)
        stream.flush()
        with work() as how:
            steps, size = Steps(index, rows, how), task_size(len(rows), how.workers)
            place = os.readlink(f"/proc/self/fd/{stream.fileno()}")  # another process may have to open it
            tasks = [
                _Task(
                    source,
                    str(output),
                    place,
                    len(header) + at * each,
                    each,
                    rendition,
                    images_at(index, rows[at : at + size]),
                )
                for at in range(0, len(rows), size)
            ]
            kinds: list[str | None] = []
            for made in in_order(how.executor, how.workers, _written, tasks, takes_long=True):
                kinds += made
                steps.done(len(made))
        failed = [number for number, kind in enumerate(kinds) if kind is not None]
        outcome.made = _closed_up(stream.fileno(), len(header), each, len(rows), failed)
        stream.seek(0)
        stream.write(_header(dtype, outcome.made, shape))
        left_out = Term(IMAGES, compact(rows[number] for number in failed), negated=True)
        written = replace(chosen, cohort=cohort.narrowed(left_out)) if failed else chosen
        table.writelines(csv(images_table(written)))
    names = index.images.take(np.array(rows, np.intp)[failed])
    outcome.failed = [
        Failed(printable(os.fsdecode(name)), kinds[number] or "")
        for number, name in zip(failed, names, strict=True)
    ]
    return outcome


def table_of(output: Path) -> Path:
    """Return the place of the table beside an array: ``images.csv`` for ``images.npy``."""
    return output.with_suffix(".csv")


def _header(dtype: "np.dtype[np.integer]", count: int, shape: tuple[int, int]) -> bytes:
    header = npy_header(dtype.str, (count, *shape))
    assert len(header) == 128, "a shorter number leaves it as long as it is"
    return header


def _written(task: _Task) -> list[str | None]:
    """Write the images of a task, for a worker; return for each why it failed, or ``None``."""
    with open(task.file, "r+b", buffering=0) as file:

        def written(number: int, descriptor: int, state: State, apart: Apart, memory: int) -> str | None:
            image = task.images[number]
            if image.format.SamplesPerPixel != 1:
                return IN_COLOUR
            size = size_of(task.rendition, image.format) or 0
            request = Request(task.rendition, image.format, image.side, size, is_bare=True)
            kind = made_apart(descriptor, state, request, apart, memory)
            if kind is None and os.fstat(memory).st_size != task.size:
                return IN_COLOUR  # by the file, against the index
            if kind is None:
                file.seek(task.start + number * task.size)
                copied(memory, file.fileno(), Path(task.output))
            return kind

        return each_opened(task.source, task.images, written, lambda kind: kind)


def _closed_up(file: int, start: int, size: int, count: int, failed: list[int]) -> int:
    """Move images that stand behind one that failed; cut off the rest. Return the number of images left."""
    lacking, to = set(failed), 0
    for number in range(count):
        if number not in lacking:
            if to != number:
                _moved(file, start + number * size, start + to * size, size)
            to += 1
    os.ftruncate(file, start + to * size)
    return to


def _moved(file: int, source: int, target: int, size: int) -> None:
    for at in range(0, size, _PART):
        part = os.pread(file, min(_PART, size - at), source + at)
        os.pwrite(file, part, target + at)
