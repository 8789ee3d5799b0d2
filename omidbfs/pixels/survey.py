"""Measures the images of a cohort, and keeps what is found beside the index. ``omidbfs geometry`` uses it.

The main thread gives tasks to an executor; each task decodes in a process of its own, so that hostile pixels end
neither the survey nor a worker of the executor. What has been found is saved from time to time, and at the end
whatever ends the survey.
"""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from omidbfs.base.errors import UserError
from omidbfs.base.whole import locked
from omidbfs.database.layout import Source
from omidbfs.database.permissions import TreeReader
from omidbfs.database.pixel_format import PixelFormat
from omidbfs.database.records import mtime_of
from omidbfs.index.columns import Index
from omidbfs.index.container import may_replace
from omidbfs.index.executors import Work, in_order
from omidbfs.index.measured import KIND, Measured, Record, joined, keys_of, load, made, save, without
from omidbfs.index.sections import IndexFileError
from omidbfs.pixels.apart import Apart
from omidbfs.pixels.check import Task, tasks_of
from omidbfs.pixels.rendition import DETECTOR

_BETWEEN_SAVES = 60.0
"""Seconds after which what has been found is saved."""
_SHARE_OF_SAVING = 50
"""Saving takes at most this part of the time, as the file of millions of images takes seconds."""


class _Surveyed(NamedTuple):
    """What was found in an image, and size and time of its file. ``None`` if the file could not be opened."""

    record: Record
    file: tuple[int, int] | None


@dataclass(slots=True)
class Survey:
    """The records of a source while they are brought up to date: the place of their file, and what is known.

    Other processes may write to the same file meanwhile. Each keeps what the others have found, and brings back
    nothing that they have dropped.
    """

    path: Path
    fingerprint: str
    known: Measured
    failed: list[tuple[int, str]] = field(default_factory=list)
    """Row and kind of the images that could not be measured."""
    computed: int = 0

    def missing(self, index: Index, rows: NDArray[np.integer]) -> NDArray[np.integer]:
        """Return which of some images have no current record."""
        found: NDArray[np.integer] = rows[self.known.places(index, rows) < 0]
        return found

    def run(self, source: Source, index: Index, rows: NDArray[np.integer], work: Work) -> None:
        """Measure the images at ``rows``, which have DICOM files.

        Raises
        ------
        UserError
            A worker of the executor was killed, or the file cannot be written.
        """
        clients = index.client_of[rows]
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.diff(clients) != 0)]) + 1
        waiting: list[tuple[Task, list[_Surveyed]]] = []
        saved, took = time.monotonic(), 0.0
        tasks = list(tasks_of(source, index, rows, work.workers))
        try:
            done = in_order(work.executor, work.workers, surveyed, tasks, takes_long=True)
            for task, found in zip(tasks, done, strict=True):
                waiting.append((task, found))
                self.computed += len(found)
                if work.progress is not None:
                    work.progress("measuring", int(starts[self.computed - 1]), int(starts[-1]), self.computed)
                if time.monotonic() - saved > max(_BETWEEN_SAVES, took * _SHARE_OF_SAVING):
                    before = time.monotonic()
                    self._keep(index, waiting)
                    waiting, saved = [], time.monotonic()
                    took = saved - before
        finally:
            if waiting:
                self._keep(index, waiting)

    def _keep(self, index: Index, found: list[tuple[Task, list[_Surveyed]]]) -> None:
        pairs = [pair for task, some in found for pair in zip(task.rows, some, strict=True)]
        self.failed += [(row, one.record.kind) for row, one in pairs if one.record.kind]
        kept = [(row, one.record, one.file) for row, one in pairs if one.file is not None]
        keys = keys_of(index, np.array([row for row, *_ in kept], np.intp))
        files, records = [file for *_, file in kept], [record for _, record, _ in kept]
        self.save(made(keys, files, records, DETECTOR))

    def save(self, new: Measured | None = None, gone: NDArray[np.uint64] | None = None) -> None:
        """Add ``new`` records to those that are in the file now, and drop those with ``gone`` keys.

        Raises
        ------
        UserError
            The file cannot be written, or omidbfs did not write what is there.
        """
        try:
            if not may_replace(self.path, KIND):
                raise UserError(
                    "is not known to be a file of omidbfs, and is left alone",
                    "name another --index, or remove it",
                    self.path,
                )
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with locked(self.path):
                with suppress(IndexFileError):  # a damaged file has been told of, and is written anew
                    there = load(self.path, self.fingerprint, DETECTOR)
                    if len(there):  # otherwise it was removed, or replaced by another version of omidbfs
                        self.known = there
                if new is not None:
                    self.known = joined(self.known, new)
                if gone is not None:
                    self.known = without(self.known, gone)
                save(self.path, self.known, self.fingerprint)
        except OSError as error:
            raise UserError(
                f"the geometry cannot be kept there ({error.strerror})", "name another --index FILE", self.path
            ) from error


def surveyed(task: Task) -> list[_Surveyed]:
    """Measure the images of a task; a worker of the executor calls it."""
    return list(_each(task))


def _each(task: Task) -> Iterator[_Surveyed]:
    assert task.source.images is not None, "these images have DICOM files"
    tree = TreeReader(task.source.images, follow_symlinks=task.source.follow_symlinks)
    try:
        with Apart() as apart:
            for path, expected in task.images:
                yield _of(tree, path, expected, apart)
    finally:
        tree.close()


def _of(tree: TreeReader, path: bytes, expected: PixelFormat, apart: Apart) -> _Surveyed:
    try:
        descriptor, seen = tree.open_with_facts(path)
    except OSError as error:
        return _Surveyed(Record(kind=f"cannot be read: {error.strerror}"), None)
    try:
        found = apart.measured(descriptor, expected)
    finally:
        os.close(descriptor)
    file = seen.st_size, mtime_of(seen)
    if isinstance(found, str):
        # A disk that fails may be well tomorrow, so it is asked again then.
        return _Surveyed(Record(kind=found), None if found.startswith("cannot be read") else file)
    return _Surveyed(Record(found.box, found.side, found.share), file)
