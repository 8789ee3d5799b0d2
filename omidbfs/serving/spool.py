"""Keeps the contents of generated files that are likely to be read again.

Used by ``generated``. Any thread may call a spool. Small contents are kept in memory, and all others on disk.
There each content is a file without a name. Such a file is private, and disappears with the process. Bytes and
descriptors are bounded.
"""

import errno
import itertools
import logging
import math
import os
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from omidbfs.base.places import user_directory

log = logging.getLogger(__name__)

MEMORY = 8 << 20
"""The largest number of bytes kept in memory. A content of more than a 256th of this goes to disk."""
LIMIT = 2 << 30
"""The largest number of bytes kept on disk. The last content made may be larger, and open files do not count."""
MOST_FILES = 32
"""The largest number of contents kept on disk. Each takes a descriptor."""

_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class Content:
    """A content that is open: a descriptor, which the caller closes, and the size in bytes."""

    descriptor: int
    size: int


@dataclass(frozen=True, slots=True)
class _Kept:
    """A content of ``size`` bytes, in memory (``data``) or in a file (``descriptor``)."""

    size: int
    data: bytes | None = None
    descriptor: int = -1

    def opened(self) -> Content:
        if self.data is None:
            return Content(os.dup(self.descriptor), self.size)
        descriptor = os.memfd_create("omidbfs")
        try:
            os.fchmod(descriptor, 0o600)
            _write(descriptor, self.data)
        except BaseException:
            os.close(descriptor)
            raise
        return Content(descriptor, self.size)

    def close(self) -> None:
        if self.data is None:
            os.close(self.descriptor)


class _Shelf:
    """Contents by key: up to ``most`` contents and ``limit`` bytes. The last content is always kept.

    The least recently used content is removed first.
    """

    def __init__(self, limit: int, most: float = math.inf) -> None:
        self._limit = limit
        self._most = most
        self._kept: OrderedDict[int, _Kept] = OrderedDict()
        self._size = 0

    def find(self, key: int) -> _Kept | None:
        kept = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
        return kept

    def put(self, key: int, content: _Kept) -> None:
        self.remove(key)
        self._kept[key] = content
        self._size += content.size
        while len(self._kept) > 1 and (self._size > self._limit or len(self._kept) > self._most):
            self.remove(next(iter(self._kept)))

    def remove(self, key: int) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._size -= kept.size
            kept.close()

    def clear(self) -> bool:
        """Remove all contents; return whether there were any."""
        keys = list(self._kept)
        for key in keys:
            self.remove(key)
        return bool(keys)


class Spool:
    """Keeps contents by key, and drops the least recently used first. Thread-safe.

    Contents on disk are in the first of ``directories`` that can be written to. ``limit``, ``memory`` and
    ``most_files`` are the bounds :data:`LIMIT`, :data:`MEMORY` and :data:`MOST_FILES`.
    """

    def __init__(
        self,
        directories: tuple[Path, ...],
        limit: int = LIMIT,
        *,
        memory: int = MEMORY,
        most_files: int = MOST_FILES,
    ) -> None:
        self._directories = directories
        self._small = memory // 256
        self._in_memory = _Shelf(memory)
        self._on_disk = _Shelf(limit, most_files)
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def open(self, key: int) -> Content | None:
        """Return the content of a key, or ``None``."""
        with self._lock:
            kept = self._in_memory.find(key) or self._on_disk.find(key)
            return None if kept is None else kept.opened()

    def make(self, key: int, chunks: Callable[[], Iterator[bytes]]) -> Content:
        """Write a content, keep it, and return it.

        Raises
        ------
        OSError
            The content cannot be written. ENOSPC: the disk is full, even after all kept contents were removed.
            EINTR: :meth:`stop` was called.
        """
        try:
            content = self._written(chunks())
        except OSError as error:
            if error.errno not in _FULL or not self._clear(self._on_disk):
                raise
            content = self._written(chunks())
        with self._lock:
            if self._stopped.is_set():
                content.close()
                raise _stopped()
            own = content.opened()
            (self._on_disk if content.data is None else self._in_memory).put(key, content)
        return own

    def _written(self, chunks: Iterator[bytes]) -> _Kept:
        first = bytearray()
        for chunk in self._until_stopped(chunks):
            first += chunk
            if len(first) > self._small:
                return self._written_to_disk(itertools.chain((first,), self._until_stopped(chunks)))
        return _Kept(len(first), bytes(first))

    def _written_to_disk(self, chunks: Iterable[bytes | bytearray]) -> _Kept:
        descriptor = self._temporary()
        size = 0
        try:
            for chunk in chunks:
                _write(descriptor, chunk)
                size += len(chunk)
        except BaseException:
            os.close(descriptor)
            raise
        return _Kept(size, descriptor=descriptor)

    def _until_stopped(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            if self._stopped.is_set():
                raise _stopped()
            yield chunk

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
        """Remove a content. Open descriptors stay valid."""
        with self._lock:
            self._in_memory.remove(key)
            self._on_disk.remove(key)

    def forget_all(self) -> None:
        """Remove all contents."""
        self._clear(self._in_memory)
        self._clear(self._on_disk)

    def _clear(self, shelf: _Shelf) -> bool:
        with self._lock:
            return shelf.clear()

    def stop(self) -> None:
        """Make :meth:`make` end soon in all threads, and refuse further calls."""
        self._stopped.set()
        self.forget_all()


def _write(descriptor: int, content: bytes | bytearray) -> None:
    with memoryview(content) as view:
        done = 0
        while done < len(view):
            done += os.write(descriptor, view[done:])


def _stopped() -> OSError:
    return OSError(errno.EINTR, "the drive ends")


def spool_directories() -> tuple[Path, ...]:
    """Return the directories for contents: the user's cache, and else the system's temporary directory."""
    cache, temporary = user_directory("cache"), Path(tempfile.gettempdir())
    return (temporary,) if cache is None else (cache, temporary)
