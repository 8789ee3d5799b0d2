"""The contents of generated files, kept on disk for as long as they are likely to be read again.

Each content is a file of its own that has no name: it is private, and gone when the process is, whatever happens.
"""

import errno
import logging
import os
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from omidbfs.places import user_directory

log = logging.getLogger(__name__)

LIMIT = 2 << 30
"""Bytes that are kept, besides the last content made, which may be larger, and what is open."""

_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class Content:
    """A descriptor of its own on a content, to be closed by whoever got it, and its size in bytes."""

    descriptor: int
    size: int


class Spool:
    """Keeps contents by key, the least recently used ones for the shortest time. Thread-safe.

    ``directories`` are where it may be kept: the first that can be written to.
    """

    def __init__(self, directories: tuple[Path, ...], limit: int = LIMIT) -> None:
        self._directories = directories
        self._limit = limit
        self._kept: OrderedDict[int, Content] = OrderedDict()
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def open(self, key: int) -> Content | None:
        """Return what is kept under a key, ``None`` if that is nothing."""
        with self._lock:
            kept = self._kept.get(key)
            if kept is None:
                return None
            self._kept.move_to_end(key)
            return Content(os.dup(kept.descriptor), kept.size)

    def make(self, key: int, chunks: Callable[[], Iterator[bytes]]) -> Content:
        """Write a content, keep it, and return it.

        Raises
        ------
        OSError
            It cannot be written: ENOSPC where the disk is full, also without all that is kept. EINTR after
            :meth:`stop`.
        """
        try:
            content = self._written(chunks())
        except OSError as error:
            if error.errno not in _FULL or not self.forget_all():
                raise
            content = self._written(chunks())
        with self._lock:
            if self._stopped.is_set():
                os.close(content.descriptor)
                raise _stopped()
            replaced = self._kept.pop(key, None)
            self._kept[key] = content
            dropped = [replaced] if replaced is not None else []
            while len(self._kept) > 1 and sum(kept.size for kept in self._kept.values()) > self._limit:
                dropped.append(self._kept.popitem(last=False)[1])
            own = Content(os.dup(content.descriptor), content.size)
        for old in dropped:
            os.close(old.descriptor)
        return own

    def _written(self, chunks: Iterator[bytes]) -> Content:
        descriptor = self._temporary()
        size = 0
        try:
            for chunk in chunks:
                if self._stopped.is_set():
                    raise _stopped()
                with memoryview(chunk) as view:
                    done = 0
                    while done < len(view):
                        done += os.write(descriptor, view[done:])
                size += len(chunk)
        except BaseException:
            os.close(descriptor)
            raise
        return Content(descriptor, size)

    def _temporary(self) -> int:
        """Return a new file without a name, of mode 0600."""
        problem: OSError | None = None
        for directory in self._directories:
            try:
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
                    return os.dup(file.fileno())
            except OSError as error:
                problem = problem or error
        raise problem or OSError(errno.ENOENT, os.strerror(errno.ENOENT))

    def forget(self, key: int) -> None:
        """Let go of a content; who has it open keeps it."""
        with self._lock:
            kept = self._kept.pop(key, None)
        if kept is not None:
            os.close(kept.descriptor)

    def forget_all(self) -> bool:
        """Let go of everything; return whether there was anything."""
        with self._lock:
            contents, self._kept = list(self._kept.values()), OrderedDict()
        for content in contents:
            os.close(content.descriptor)
        return bool(contents)

    def stop(self) -> None:
        """Have whatever is being made end soon, and make nothing more."""
        self._stopped.set()
        self.forget_all()


def _stopped() -> OSError:
    return OSError(errno.EINTR, "the drive ends")


def spool_directories() -> tuple[Path, ...]:
    """Return where a drive may keep contents: the user's cache, else where the system has temporary files."""
    cache, temporary = user_directory("cache"), Path(tempfile.gettempdir())
    return (temporary,) if cache is None else (cache, temporary)
