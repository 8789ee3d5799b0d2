"""Writes files that appear whole or not at all (:func:`replacing`), one process after the other (:func:`locked`).

Every part that writes patient data to a file uses it. Any thread may use it, but a signal removes only the
unfinished file of the main thread. An unfinished file has a temporary name in the directory of its target, mode
0600 and a lock. It is removed when writing fails and when a signal ends the process. After a SIGKILL it stays
until the next file is written in that directory: an unfinished file without a lock has no writer.
"""

import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import BinaryIO

from omidbfs.base.process import handled_ending

_PREFIX = ".omidbfs-unfinished-"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a write to a disk that is full, or to a file that may not grow."""


@contextmanager
def replacing(path: Path, *, sweeps: bool = True, syncs: bool = True) -> Iterator[BinaryIO]:
    """Yield a stream. At the end of the block the file written to it replaces ``path``.

    Whoever writes many files into one directory calls :func:`sweep` once, and not with each file (``sweeps``). A
    file that is compared with what it should be before its next use need not be on the disk yet (``syncs``).

    A symbolic link at ``path`` stays, and its target is replaced. A process that has the old file open can read on
    in it. If the block raises, ``path`` does not change.

    Raises
    ------
    OSError
        The file cannot be written; an old one does not change.
    """
    path = Path(os.path.realpath(path))
    if sweeps:
        sweep(path.parent)
    temporary = path.parent / f"{_PREFIX}{secrets.token_hex(8)}"
    with _removed_on_signals(temporary), named_when_full(path):
        try:
            with open(_locked(temporary), "wb") as stream:
                yield stream
                stream.flush()
                if syncs:
                    os.fsync(stream.fileno())
                os.replace(temporary, path)
        except BaseException as error:
            temporary.unlink(missing_ok=True)
            if isinstance(error, OSError) and error.filename == str(temporary):
                error.filename = str(path)  # the caller does not know the temporary name
            raise


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait until no other process is in such a block for the file at ``path``, and keep others out until the end.

    So a file can be read, changed and replaced without losing what others write. If there is no file, an empty one
    is made. If it cannot be opened, or the file system has no locks, the block runs without a lock.
    """
    place, descriptor = os.path.realpath(path), -1
    try:
        with suppress(OSError):
            while True:
                descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                if os.path.samestat(os.fstat(descriptor), os.stat(place)):
                    break
                os.close(descriptor)  # the process before replaced it
                descriptor = -1
        yield
    finally:
        if descriptor >= 0:
            os.close(descriptor)


@contextmanager
def named_when_full(path: Path) -> Iterator[None]:
    """Give an error of a full disk the name of what is being written: the system gives none."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in _FULL:
            error.filename = str(path)
        raise


def _locked(path: Path) -> int:
    """Return a descriptor on a new file at ``path`` that holds its lock, where the file system has locks."""
    while True:
        descriptor = os.open(str(path), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)  # another process removed it before it was locked


def sweep(directory: Path) -> None:
    """Remove the unfinished files of killed processes from a directory."""
    with suppress(OSError), os.scandir(directory) as entries:
        for name in [entry.path for entry in entries if entry.name.startswith(_PREFIX)]:
            with suppress(OSError):
                _remove_if_left(name)


def _remove_if_left(name: str) -> None:
    descriptor = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        facts = os.fstat(descriptor)
        if stat.S_ISREG(facts.st_mode) and facts.st_uid == os.geteuid():
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(name)
    finally:
        os.close(descriptor)


@contextmanager
def _removed_on_signals(path: Path) -> Iterator[None]:
    """Remove a file when a signal ends this process."""

    def remove(number: int, frame: FrameType | None) -> None:
        path.unlink(missing_ok=True)

    with handled_ending(remove):
        yield
