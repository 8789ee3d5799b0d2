"""A cohort as files of a rendition, below a directory, without a mount. ``omidbfs export --as`` uses it.

The main thread plans the files, gives tasks to an executor, and keeps the record of the directory
(``rendition_record``). A task renders in a process of its own, because hostile pixels may end it, and writes the
files: each appears whole or not at all. An image that is shown in several directories is one file with several
links.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from omidbfs.base.names import printable
from omidbfs.base.whole import replacing, sweep
from omidbfs.cohorts.cohort import Cohort, Cohorts
from omidbfs.database.file_kinds import DCM
from omidbfs.database.layout import Source
from omidbfs.database.permissions import TreeReader
from omidbfs.database.pixel_format import PixelFormat
from omidbfs.database.records import mtime_of
from omidbfs.exports.rendition_record import Entry, Record, State, has_size, removed
from omidbfs.facets import Facet
from omidbfs.index.columns import Index
from omidbfs.index.executors import Work, in_order
from omidbfs.index.flat_names import flat_names
from omidbfs.pixels.apart import Apart
from omidbfs.pixels.rendition import Rendition
from omidbfs.pixels.sizes import size_of
from omidbfs.pixels.worker import Request

WRITTEN_TO = "the file was written to meanwhile"

_SMALLEST_TASK, _LARGEST_TASK = 32, 128
"""Images of a task. A task starts a process, which takes as long as a few full images."""
_TASKS = 8
"""Tasks for each worker, so that all end at about the same time."""
_PART = 1 << 24

_Result = TypeVar("_Result")


class Failed(NamedTuple):
    """An image that could not be rendered, and why, without identifiers."""

    image: str
    kind: str


@dataclass(slots=True)
class Outcome:
    """What an export did: numbers of images whose files were made, or were up to date; and the images that failed.

    ``removed`` is the number of files of images that the cohort has no more.
    """

    made: int = 0
    up_to_date: int = 0
    removed: int = 0
    failed: list[Failed] = field(default_factory=list)

    @property
    def kinds(self) -> list[tuple[str, int]]:
        """Why images failed, and how many, most first."""
        return Counter(one.kind for one in self.failed).most_common()


class Image(NamedTuple):
    """An image to render: the path of its DICOM file, and what is known of its pixels."""

    path: bytes
    format: PixelFormat
    side: str | None


class _Task(NamedTuple):
    """Images to render, with the files to write for each, and what is known of these."""

    source: Source
    directory: str
    rendition: Rendition
    images: list[Image]
    files: list[tuple[str, ...]]
    known: list[Entry | None]


class _Made(NamedTuple):
    """What a task did for an image: the entry of its files, or the kind of its failure."""

    entry: Entry | None
    kind: str = ""
    is_new: bool = False
    is_outdated: bool = False


# The plan


def placed(cohorts: Cohorts, cohort: Cohort, rendition: Rendition, layout: str) -> dict[int, tuple[str, ...]]:
    """Return row -> paths of its files, as the drive shows them in the directory of a cohort.

    ``layout`` is ``flat``, or ``by-<facet>``: the paths are those below this directory. Every image of
    ``cohort`` must have the rendition.
    """
    index, suffix = cohorts.index, rendition.suffix
    found: dict[int, tuple[str, ...]] = {}
    for before, rows in _parts(cohorts, cohort, layout):
        names = flat_names(index, rows)
        if layout == "by-client":
            studies = index.studies.take(index.study_of[rows])
            names = [b"%b/%b" % pair for pair in zip(studies, index.images.take(rows), strict=True)]
        for row, name in zip(rows.tolist(), names, strict=True):
            found[row] = (*found.get(row, ()), os.fsdecode(before + name + suffix))
    return dict(sorted(found.items()))


def _parts(cohorts: Cohorts, cohort: Cohort, layout: str) -> Iterator[tuple[bytes, NDArray[np.uint32]]]:
    if layout == "flat":
        yield b"", cohorts.rows(cohort)
        return
    facet = cohorts.facet(layout.removeprefix("by-"))
    assert facet is not None, "the caller has checked the layout"
    for value in cohorts.names(facet, cohorts.values(cohort, facet)):
        yield value + b"/", cohorts.rows(_narrowed(cohorts, cohort, facet, value))


def _narrowed(cohorts: Cohorts, cohort: Cohort, facet: Facet, value: bytes) -> Cohort:
    term = cohorts.term(facet, os.fsdecode(value))
    assert term is not None, "a listed value is found"
    return cohort.narrowed(term)


def images_at(index: Index, rows: Sequence[int]) -> list[Image]:
    """Return what there is to render of the images at some rows."""
    return [Image(index.image_path(row, DCM), index.pixel_format(row), index.chest_wall_side(row)) for row in rows]


def task_size(images: int, workers: int) -> int:
    """Return how many images a task has."""
    return min(max(images // (_TASKS * workers), _SMALLEST_TASK), _LARGEST_TASK)


class Steps:
    """Reports the progress of tasks, which render the images of an index at ``rows`` in order."""

    def __init__(self, index: Index, rows: Sequence[int], work: Work) -> None:
        self._ends = np.cumsum(np.diff(index.client_of[np.array(rows, np.intp)], prepend=-1) != 0)
        self._work, self._done = work, 0

    def done(self, images: int) -> None:
        """Report that some more images are done."""
        self._done += images
        if self._work.progress is not None and self._done:
            clients, total = int(self._ends[self._done - 1]), int(self._ends[-1])
            self._work.progress("rendering", clients, total, self._done)


# The work


def write_files(
    source: Source,
    index: Index,
    files: dict[int, tuple[str, ...]],
    rendition: Rendition,
    record: Record,
    work: Callable[[], AbstractContextManager[Work]],
    others: Iterable[str] = (),
) -> Outcome:
    """Make the files of images that are not up to date below the directory of ``record``, and remove others of it.

    Parameters
    ----------
    files
        Row -> paths of the files of its image (:func:`placed`).
    work
        Gives the executor for as long as it is needed.
    others
        Paths of files of the record that are no images, and stay.

    Raises
    ------
    OSError
        A file cannot be written. What is done is in the record.
    UserError
        A worker was killed, or a process that renders does not start.
    """
    planned = {path for paths in files.values() for path in paths}
    outcome = Outcome(removed=removed(record, planned.union(others)))
    root, rows = record.directory, list(files)
    directories = make_directories(root, planned)
    try:
        with work() as how:
            steps = Steps(index, rows, how)
            size = task_size(len(rows), how.workers)
            tasks = list(_tasks(source, index, files, rendition, record, size))
            done = in_order(how.executor, how.workers, _files_made, tasks, takes_long=True)
            at = 0
            for task, made in zip(tasks, done, strict=True):
                names = index.images.take(np.array(rows[at : at + len(made)], np.intp))
                for paths, name, one in zip(task.files, names, made, strict=True):
                    _note(outcome, record, paths, printable(os.fsdecode(name)), one)
                record.flush()
                at += len(made)
                steps.done(len(made))
    except BaseException:
        for directory in directories:  # workers that were killed have left unfinished files
            sweep(root / directory)
        raise
    return outcome


def make_directories(root: Path, files: Iterable[str]) -> list[str]:
    """Make and return the directories of files below another. Remove what killed processes left there."""
    directories = sorted({str(Path(path).parent) for path in files})
    for directory in directories:
        for part in reversed([Path(directory), *Path(directory).parents][:-1]):
            with suppress(FileExistsError):
                (root / part).mkdir(0o700)
        sweep(root / directory)
    return directories


def _note(outcome: Outcome, record: Record, paths: tuple[str, ...], image: str, made: _Made) -> None:
    if made.entry is None:
        outcome.failed.append(Failed(image, made.kind))
        if made.is_outdated:  # a file that is there is not what the source has
            record.remove(paths)
    elif made.is_new:
        outcome.made += 1
        record.add(paths, made.entry)
    else:
        outcome.up_to_date += 1


def _tasks(
    source: Source,
    index: Index,
    files: dict[int, tuple[str, ...]],
    rendition: Rendition,
    record: Record,
    size: int,
) -> Iterator[_Task]:
    rows = list(files)
    for first in range(0, len(rows), size):
        some = rows[first : first + size]
        paths = [files[row] for row in some]
        known = [record.known(each) for each in paths]
        yield _Task(source, str(record.directory), rendition, images_at(index, some), paths, known)


def _files_made(task: _Task) -> list[_Made]:
    """Make the files of a task; a worker of the executor calls it."""

    root = Path(task.directory)

    def made(number: int, descriptor: int, state: State, apart: Apart, memory: int) -> _Made:
        image, paths, known = task.images[number], task.files[number], task.known[number]
        is_current = known is not None and known.is_of(state, image.side)
        if known is not None and is_current and has_size(root / paths[0], known.size):
            return _Made(known, is_new=_linked(root, paths))
        size = size_of(task.rendition, image.format) or 0
        request = Request(task.rendition, image.format, image.side, size)
        kind = made_apart(descriptor, state, request, apart, memory)
        if kind is not None:
            return _Made(None, kind, is_outdated=not is_current)
        with replacing(root / paths[0], sweeps=False) as stream:
            size = copied(memory, stream.fileno(), root / paths[0])
        _linked(root, paths)
        return _Made(Entry(size, *state, image.side), is_new=True)

    def failed(kind: str) -> _Made:
        return _Made(None, kind)

    return each_opened(task.source, task.images, made, failed)


def each_opened(
    source: Source,
    images: list[Image],
    do: Callable[[int, int, State, Apart, int], _Result],
    failed: Callable[[str], _Result],
) -> list[_Result]:
    """Return ``do(number, descriptor, state, process, memory)`` for each image, or ``failed(kind)``.

    ``number`` is the place of the image in the list, and ``descriptor`` that of its DICOM file. ``memory`` is a
    file in memory, into which ``process`` can render: it gets nothing of the directory that is written to.
    """
    assert source.images is not None, "these images have DICOM files"
    tree = TreeReader(source.images, follow_symlinks=source.follow_symlinks)
    results = []
    memory = os.memfd_create("omidbfs")
    try:
        with Apart() as apart:
            for number, image in enumerate(images):
                try:
                    descriptor, seen = tree.open_with_facts(image.path)
                except OSError as error:
                    results.append(failed(_unreadable(error)))
                    continue
                try:
                    results.append(do(number, descriptor, (seen.st_size, mtime_of(seen)), apart, memory))
                finally:
                    os.close(descriptor)
    finally:
        os.close(memory)
        tree.close()
    return results


def made_apart(descriptor: int, state: State, request: Request, apart: Apart, memory: int) -> str | None:
    """Render into ``memory``, which is emptied before. Return why that failed, or ``None``.

    ``state`` is that of the DICOM file when it was opened.
    """
    os.ftruncate(memory, 0)
    os.lseek(memory, 0, os.SEEK_SET)
    kind = apart.asked(request, [descriptor, memory])
    try:
        after = os.fstat(descriptor)
    except OSError as error:
        return _unreadable(error)
    return kind if (after.st_size, mtime_of(after)) == state else WRITTEN_TO


def _unreadable(error: OSError) -> str:
    return f"cannot be read: {error.strerror}"


def copied(memory: int, target: int, place: Path) -> int:
    """Copy all of a file to the position of another, which is at ``place``; return its size in bytes."""
    size, at = os.fstat(memory).st_size, 0
    try:
        while at < size:
            at += os.sendfile(target, memory, at, min(_PART, size - at))
    except OSError as error:
        error.filename = str(place)
        raise
    return size


def _linked(root: Path, paths: tuple[str, ...]) -> bool:
    """Make the paths behind the first hard links to it, or copies where the file system has no links.

    Return whether there was something to do.
    """
    first, is_new = root / paths[0], False
    for path in (root / each for each in paths[1:]):
        with suppress(FileNotFoundError):
            if os.path.samestat(first.stat(), path.lstat()):
                continue
            path.unlink()
        is_new = True
        try:
            os.link(first, path)
        except OSError:
            with first.open("rb") as content, replacing(path, sweeps=False) as stream:
                copied(content.fileno(), stream.fileno(), path)
    return is_new
