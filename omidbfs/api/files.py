"""Files of a drive as binary streams of Python.

``opened`` makes them for images and for the file system of fsspec. A stream belongs to one thread at a time.
"""

import errno
import io
import os
from collections.abc import Callable, Sized
from typing import TYPE_CHECKING

from omidbfs.database.records import FileFacts
from omidbfs.serving.disks import stale
from omidbfs.serving.reader import is_as_it_was

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

_BUFFER = 128 << 10
"""Bytes that a buffered stream reads ahead: most of a DICOM header, and little of its pixels."""


class RawFile(io.RawIOBase):
    """A file of ``size`` bytes that can be read anywhere. ``part(start, end)`` reads some of it.

    ``name`` is its place on disk, or on the drive if it has none. Readers such as pydicom ask for it.
    """

    def __init__(self, name: str, size: int) -> None:
        self.name, self.size = name, size
        self._position = 0

    def part(self, start: int, end: int) -> bytes:
        """Return the bytes from ``start`` to before ``end``, which is at most ``size``.

        Raises
        ------
        OSError
            ESTALE: the file was written to after it was opened. Otherwise the error of the disk.
        """
        raise NotImplementedError

    def readable(self) -> bool:
        """Return ``True``."""
        return True

    def seekable(self) -> bool:
        """Return ``True``."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Change the position, and return it."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Read into a buffer until it is full or the file ends, and return the number of bytes."""
        with memoryview(buffer).cast("B") as view:
            done = self._read_into(view[: max(0, self.size - self._position)])
        self._position += done
        return done

    def _read_into(self, view: memoryview) -> int:
        content = self.part(self._position, self._position + len(view)) if len(view) else b""
        view[: len(content)] = content
        return len(content)

    def readall(self) -> bytes:
        """Return the rest of the file."""
        start, self._position = self._position, max(self._position, self.size)
        return self.part(start, self.size) if start < self.size else b""

    def write(self, content: "ReadableBuffer") -> int:
        """Refuse to write (EROFS)."""
        raise read_only()


class SourceFile(RawFile):
    """A file of the source, read by the thread that asks. ``facts`` are those at the time of opening."""

    def __init__(self, name: str, descriptor: int, facts: FileFacts) -> None:
        super().__init__(name, facts.size)
        self.descriptor, self.facts = descriptor, facts

    def part(self, start: int, end: int) -> bytes:
        """Return some bytes (:meth:`RawFile.part`)."""
        parts = []
        while start < end:
            content = os.pread(self.descriptor, end - start, start)
            parts.append(content)
            start += len(content)
            self._check(content)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _read_into(self, view: memoryview) -> int:
        done = 0
        while done < len(view):
            count = os.preadv(self.descriptor, [view[done:]], self._position + done)
            done += count
            self._check(range(count))
        return done

    def _check(self, read: Sized) -> None:
        # After reading: a write sets the new time before it writes. So no byte of another version is returned.
        if not read or not is_as_it_was(self.descriptor, self.facts):
            raise stale()

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            super().close()
            os.close(self.descriptor)


class DriveFile(RawFile):
    """Any other file: a rendition, a generated file or a text. The loop of the drive reads it.

    ``read(offset, size)`` returns some of it; ``close`` is called once.
    """

    def __init__(self, name: str, size: int, read: Callable[[int, int], bytes], close: Callable[[], None]) -> None:
        super().__init__(name, size)
        self._read, self._close = read, close

    def part(self, start: int, end: int) -> bytes:
        """Return some bytes (:meth:`RawFile.part`)."""
        parts = []
        while start < end:
            content = self._read(start, end - start)
            if not content:
                raise stale()
            parts.append(content)
            start += len(content)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            super().close()
            self._close()


class Stream(io.BufferedReader):
    """A file with a buffer, past which large reads go. ``size`` is its number of bytes, for which fsspec asks."""

    def __init__(self, file: RawFile) -> None:
        super().__init__(file, _BUFFER)
        self.size = file.size


def read_only() -> OSError:
    """Return the error EROFS."""
    return OSError(errno.EROFS, os.strerror(errno.EROFS))
