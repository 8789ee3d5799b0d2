"""Finds the images of a cohort whose pixels cannot be decoded. ``omidbfs check --pixels`` uses it.

The main thread gives tasks to an executor; each task decodes in a process of its own, so that hostile pixels end
neither the check nor a worker of the executor.
"""

import os
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from omidbfs.database.file_kinds import DCM
from omidbfs.database.layout import Source
from omidbfs.database.permissions import TreeReader
from omidbfs.database.pixel_format import PixelFormat
from omidbfs.index.columns import Index
from omidbfs.index.executors import Work, in_order
from omidbfs.pixels.apart import Apart
from omidbfs.pixels.worker import Request

_SMALLEST_TASK, _LARGEST_TASK = 32, 256
"""Images of a task. A task starts a process, which takes as long as decoding a hundred images."""
_TASKS = 8
"""Tasks for each worker, so that all end at about the same time."""


class Undecodable(NamedTuple):
    """An image whose pixels cannot be decoded, and why, without identifiers."""

    client: str
    study: str
    image: str
    kind: str


class Task(NamedTuple):
    """Some images of a source: rows in the index, paths of DICOM files, and what the index says of the pixels."""

    source: Source
    rows: list[int]
    images: list[tuple[bytes, PixelFormat]]


def with_dicom(index: Index, rows: NDArray[np.integer]) -> NDArray[np.integer]:
    """Return the rows of images that have a DICOM file."""
    has_one: NDArray[np.bool_] = index.files[DCM.number].access[rows] != 0
    return rows[has_one]


def undecodable(source: Source, index: Index, rows: NDArray[np.integer], work: Work) -> Iterator[Undecodable]:
    """Yield the images at ``rows``, all :func:`with_dicom`, whose pixels cannot be decoded, in order.

    Raises
    ------
    UserError
        A worker of the executor was killed.
    """
    clients = index.client_of[rows]
    total, done = len(np.unique(clients)), 0
    tasks = list(tasks_of(source, index, rows, work.workers))
    answers = in_order(work.executor, work.workers, _kinds, tasks, takes_long=True)
    for task, found in zip(tasks, answers, strict=True):
        done += len(task.rows)
        if work.progress is not None:
            work.progress("decoding", len(np.unique(clients[:done])), total, done)
        for row, kind in zip(task.rows, found, strict=True):
            if kind is not None:
                client, study = index.clients[index.client_of[row]], index.studies[index.study_of[row]]
                yield Undecodable(client.decode(), study.decode(), index.images[row].decode(), kind)


def tasks_of(source: Source, index: Index, rows: NDArray[np.integer], workers: int) -> Iterator[Task]:
    """Yield the tasks for the images at ``rows``, all :func:`with_dicom`, in order."""
    size = min(max(len(rows) // (_TASKS * workers), _SMALLEST_TASK), _LARGEST_TASK)
    for first in range(0, len(rows), size):
        some = rows[first : first + size].tolist()
        yield Task(source, some, [(index.image_path(row, DCM), index.pixel_format(row)) for row in some])


def _kinds(task: Task) -> list[str | None]:
    """Return for each image of a task why its pixels cannot be decoded; a worker of the executor calls it."""
    assert task.source.images is not None, "these images have DICOM files"
    tree = TreeReader(task.source.images, follow_symlinks=task.source.follow_symlinks)
    try:
        with Apart() as apart:
            return [_kind(tree, path, form, apart) for path, form in task.images]
    finally:
        tree.close()


def _kind(tree: TreeReader, path: bytes, form: PixelFormat, apart: Apart) -> str | None:
    try:
        descriptor = tree.open(path)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    try:
        return apart.asked(Request(None, form), [descriptor])
    finally:
        os.close(descriptor)
