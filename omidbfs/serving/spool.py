"""Keeps the contents of generated files and renditions that are likely to be read again.

Used by ``generated`` and ``renditions``. Any thread may call a spool. Small contents are kept in memory, and all
others on disk. There each content is a file without a name. Such a file is private, and disappears with the
process. Bytes and descriptors are bounded.
"""

import errno
import itertools
import logging
import math
import os
import resource
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from omidbfs.base.places import user_directory

log = logging.getLogger(__name__)

MEMORY = 8 << 20
"""The largest number of bytes kept in memory. A content of more than a 256th of this goes to disk."""
LIMIT = 2 << 30
"""The largest number of bytes kept on disk. The last content made may be larger, and open files do not count."""
FEWEST_FILES, MOST_FILES = 32, 16384
"""The largest number of contents kept on disk is between these numbers. Each content takes a descriptor, so it is
an eighth of the process's limit of descriptors."""

_Answer = TypeVar("_Answer")

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

    def found(self) -> Content | bytes:
        return self.opened() if self.data is None else self.data

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
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()
        self._size = 0

    def find(self, key: Hashable) -> _Kept | None:
        kept = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
        return kept

    def put(self, key: Hashable, content: _Kept) -> None:
        self.remove(key)
        self._kept[key] = content
        self._size += content.size
        while len(self._kept) > 1 and (self._size > self._limit or len(self._kept) > self._most):
            self.remove(next(iter(self._kept)))

    def remove(self, key: Hashable) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._size -= kept.size
            kept.close()

    def clear(self, condition: Callable[[Hashable], bool] = lambda key: True) -> bool:
        """Remove the contents whose keys meet a condition; return whether there were any."""
        keys = [key for key in self._kept if condition(key)]
        for key in keys:
            self.remove(key)
        return bool(keys)


class Spool:
    """Keeps contents by key, and drops the least recently used first. Thread-safe.

    Contents on disk are in the first of ``directories`` that can be written to. ``limit`` and ``memory`` are the
    bounds :data:`LIMIT` and :data:`MEMORY`. ``most_files`` is the largest number of contents on disk, by default
    the one that :data:`MOST_FILES` describes.
    """

    def __init__(
        self,
        directories: tuple[Path, ...],
        limit: int = LIMIT,
        *,
        memory: int = MEMORY,
        most_files: int | None = None,
    ) -> None:
        self._directories = directories
        self._small = memory // 256
        self._in_memory = _Shelf(memory)
        self.most_files = _most_files() if most_files is None else most_files
        self._on_disk = _Shelf(limit, self.most_files)
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def open(self, key: Hashable) -> Content | None:
        """Return the content of a key, or ``None``."""
        with self._lock:
            kept = self._in_memory.find(key) or self._on_disk.find(key)
            return None if kept is None else kept.opened()

    def find(self, key: Hashable) -> Content | bytes | None:
        """Return the content of a key as it is kept, or ``None``; ``bytes`` if it is in memory."""
        with self._lock:
            kept = self._in_memory.find(key) or self._on_disk.find(key)
            return None if kept is None else kept.found()

    def make(self, key: Hashable, chunks: Callable[[], Iterator[bytes]]) -> Content:
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
            if not self.makes_room(error.errno):
                raise
            content = self._written(chunks())
        return self._put(key, content, content.opened)

    def keep(self, key: Hashable, descriptor: int, size: int) -> Content | bytes:
        """Keep a content that was written to a file of :meth:`new_file`, and return it as :meth:`find` does.

        The file belongs to the spool from then on, also after an error.

        Raises
        ------
        OSError
            The content cannot be read. EINTR: :meth:`stop` was called.
        """
        content = _Kept(size, descriptor=descriptor)
        if size <= self._small:
            try:
                content = _Kept(size, os.pread(descriptor, size, 0))
            finally:
                os.close(descriptor)
        return self._put(key, content, content.found)

    def makes_room(self, number: int | None) -> bool:
        """Remove all contents on disk if an errno says that the disk is full; return whether there were any."""
        return number in _FULL and self._clear(self._on_disk)

    def _put(self, key: Hashable, content: _Kept, answer: Callable[[], _Answer]) -> _Answer:
        with self._lock:
            try:
                if self._stopped.is_set():
                    raise _stopped()
                own = answer()
            except BaseException:
                content.close()
                raise
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
        descriptor = self.new_file()
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

    def new_file(self) -> int:
        """Return a new file without a name, of mode 0600.

        Raises
        ------
        OSError
            None of the directories can be written to.
        """
        problem: OSError | None = None
        for directory in self._directories:
            try:
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
                    return os.dup(file.fileno())
            except OSError as error:
                problem = problem or error
        raise problem or OSError(errno.ENOENT, os.strerror(errno.ENOENT))

    def forget(self, key: Hashable) -> None:
        """Remove a content. Open descriptors stay valid."""
        with self._lock:
            self._in_memory.remove(key)
            self._on_disk.remove(key)

    def forget_those(self, condition: Callable[[Hashable], bool]) -> None:
        """Remove the contents whose keys meet a condition."""
        with self._lock:
            self._in_memory.clear(condition)
            self._on_disk.clear(condition)

    def forget_all(self) -> None:
        """Remove all contents."""
        self.forget_those(lambda key: True)

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


def _most_files() -> int:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_FILES if hard == resource.RLIM_INFINITY else min(max(hard // 8, FEWEST_FILES), MOST_FILES)


def _stopped() -> OSError:
    return OSError(errno.EINTR, "the drive ends")


def spool_directories() -> tuple[Path, ...]:
    """Return the directories for contents: the user's cache, and else the system's temporary directory."""
    cache, temporary = user_directory("cache"), Path(tempfile.gettempdir())
    return (temporary,) if cache is None else (cache, temporary)
