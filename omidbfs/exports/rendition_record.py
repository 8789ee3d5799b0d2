"""The record in a directory of exported renditions: which files are there, and what they were made from.

``rendered`` uses it, in the main thread. The record makes the directory one of omidbfs, so that an export never
replaces the files of a user. It is lines of JSON: a header for each run, with everything that all files depend on,
and a line for each image that was made. A run that was killed leaves a record of what it had finished. A line that
was not written whole is ignored.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import orjson

from omidbfs.base.errors import UserError
from omidbfs.base.version import installed_version
from omidbfs.base.whole import replacing
from omidbfs.pixels.rendition import Rendition

RECORD = ".omidbfs-export.jsonl"
"""The name of the record in its directory."""


State = tuple[int, int]
"""Size of a DICOM file in bytes, and its time in ns."""


class Entry(NamedTuple):
    """A file that was made: its size, and size, time in ns and chest wall side of what it was made from."""

    size: int
    source_size: int
    source_mtime: int
    side: str | None

    def is_of(self, state: State, side: str | None) -> bool:
        """Return whether it was made from a DICOM file of this size and time, and for this side."""
        return (self.source_size, self.source_mtime) == state and self.side == side


class What(NamedTuple):
    """What a directory holds: the path of the cohort on the drive, the layout, and the name of the rendition."""

    cohort: str
    layout: str
    rendition: str

    def __str__(self) -> str:
        return f"{self.cohort} as {self.rendition}, layout {self.layout}"


class Record:
    """The record of a directory, open for writing."""

    def __init__(self, directory: Path, entries: dict[tuple[str, ...], Entry], old: set[str]) -> None:
        self.directory = directory
        self._entries = entries
        self.files = {path for paths in entries for path in paths} | old
        """Every file of the record, of this or an earlier definition or version."""
        self._lines: list[bytes] = []
        self._stream = (directory / RECORD).open("ab")

    def known(self, paths: tuple[str, ...]) -> Entry | None:
        """Return how the files of an image were made, if that was by the same definition and version."""
        return self._entries.get(paths)

    def add(self, paths: tuple[str, ...], entry: Entry) -> None:
        """Note that the files of an image were made."""
        self._lines.append(_line(paths, entry))

    def remove(self, paths: tuple[str, ...]) -> None:
        """Remove files, if they are there."""
        for path in paths:
            (self.directory / path).unlink(missing_ok=True)

    def flush(self) -> None:
        """Write what was noted."""
        self._stream.write(b"".join(self._lines))
        self._stream.flush()
        self._lines.clear()

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


@contextmanager
def recorded(directory: Path, what: What, rendition: Rendition) -> Iterator[Record]:
    """Give the record of a directory, which is made if it does not exist.

    Raises
    ------
    UserError
        The directory has files and no record, or holds something else, or another process exports into it.
    OSError
        The directory cannot be made or written to.
    """
    with suppress(FileExistsError):
        directory.mkdir(0o700)
    with _locked(directory):
        path = directory / RECORD
        if not path.exists() and any(name != RECORD for name in os.listdir(directory)):
            raise UserError(
                "holds files, and none is the record of an export",
                "name a new or empty directory",
                directory,
            )
        header = {"omidbfs": installed_version(), **what._asdict(), "definition": rendition.text.decode()}
        entries, old = _read(path, what, header) if path.exists() else ({}, set())
        with replacing(path) as stream:
            stream.write(orjson.dumps(header, option=orjson.OPT_APPEND_NEWLINE))
            if old:
                stream.write(orjson.dumps({"old": sorted(old)}, option=orjson.OPT_APPEND_NEWLINE))
            stream.writelines(_line(*entry) for entry in entries.items())
        record = Record(directory, entries, old)
        try:
            yield record
        finally:
            record.close()


def removed(record: Record, planned: set[str]) -> int:
    """Remove the files of a record that are not planned, and directories that become empty. Return the number."""
    gone = sorted(record.files - planned)
    record.remove(tuple(gone))
    directories = {parent for path in gone for parent in Path(path).parents if parent != Path()}
    for directory in sorted(directories, reverse=True):  # a directory stands behind the one that contains it
        with suppress(OSError):
            (record.directory / directory).rmdir()
    return len(gone)


def has_size(path: Path, size: int) -> bool:
    """Return whether a file is there and has a size."""
    try:
        return path.stat().st_size == size
    except FileNotFoundError:
        return False


def _line(paths: tuple[str, ...], entry: Entry) -> bytes:
    return orjson.dumps({"files": paths, **entry._asdict()}, option=orjson.OPT_APPEND_NEWLINE)


def _read(path: Path, what: What, header: dict[str, str]) -> tuple[dict[tuple[str, ...], Entry], set[str]]:
    """Return the entries that were made with a header, and the files of all other entries."""
    entries: dict[tuple[str, ...], Entry] = {}
    old: set[str] = set()
    is_same = False
    for number, line in enumerate(path.read_bytes().splitlines()):
        try:
            found = orjson.loads(line)
            if number == 0:
                held = What(found["cohort"], found["layout"], found["rendition"])
                is_same = found == header
                if held != what:
                    raise UserError(f"holds {held}", "name another directory", path.parent)
            elif "old" in found:
                old.update(map(_inside, found["old"]))
            elif is_same:
                entries[tuple(map(_inside, found["files"]))] = Entry(*(found[name] for name in Entry._fields))
            else:
                old.update(map(_inside, found["files"]))
        except (ValueError, KeyError, TypeError):
            if number == 0:
                raise UserError("is no record of an export", "name another directory", path) from None
    return entries, old


def _inside(path: str) -> str:
    """Return a path of a record if it stays in the directory: files of a record may be removed."""
    if path.startswith("/") or ".." in path.split("/"):
        raise ValueError(path)
    return path


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Lock a directory against other exports, where the file system has locks."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno == errno.EWOULDBLOCK:
                raise UserError("another export writes into it", "wait until it ends", directory) from None
        yield
    finally:
        os.close(descriptor)
