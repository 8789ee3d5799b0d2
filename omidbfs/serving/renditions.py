"""Makes renditions when they are opened, keeps them in the spool, and reads them from there.

Used by :class:`~omidbfs.serving.drive.Drive`, in its loop. Worker processes make renditions (``workers``). The
first request for a rendition has it made. Further requests for the same one wait for it, and other requests do
not. A rendition that is a header and the DICOM file's own bytes is read from that file, and not kept.
"""

import errno
import os
from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

import trio

from omidbfs.database.permissions import is_local
from omidbfs.database.records import FileFacts, mtime_of
from omidbfs.pixels.apart import PROBLEMS
from omidbfs.pixels.worker import Answer, Request
from omidbfs.serving.counters import Counters
from omidbfs.serving.disks import Disks, complaints, stale
from omidbfs.serving.reader import OpenFile, Reader, are_same
from omidbfs.serving.spool import Content, Spool
from omidbfs.serving.workers import Workers
from omidbfs.view.renditions import Found
from omidbfs.view.view import View

WRONG_SIZE = "the size is not the stated one"
UNREADABLE = "the file cannot be read"

_MOST_DIRECT = 8 << 20
"""The largest number of bytes that are remembered of renditions that are a header and bytes of a DICOM file."""
_OF_DIRECT = 1024
"""Bytes that are remembered of such a rendition, without its header."""
_MOST_FAILED = 4096
_SILENCE = 60.0
"""Seconds for which a rendition that could not be made is not tried again, unless its file changes."""
_PART = 1 << 20
_MOST_AHEAD = 4 << 30
"""Bytes of a DICOM file that are read before a worker reads it. A tomosynthesis of 2 GB is a large one."""
_UNCOMPRESSED = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", None)
"""The transfer syntaxes whose pixels may be the rendition's own; ``None`` is unknown."""

_State = tuple[int, int, int]
"""Size, time and time of change of a file, in ns. A changed permission changes the last one, too."""


class ContradictionFoundError(OSError):
    """ESTALE: a DICOM file contradicts the index. The view shows what the file says."""


class _Key(NamedTuple):
    """What the spool and the failures are kept by: a rendition of one state of a DICOM file."""

    inode: int
    size: int
    of_file: _State


@dataclass(frozen=True, slots=True)
class _Direct:
    """A rendition that is ``header`` and ``length`` bytes of the DICOM file from ``start`` on."""

    header: bytes
    start: int
    length: int


class OpenRendition:
    """A rendition, open for one handle: ``header``, and ``length`` bytes of ``file`` from ``start`` on.

    ``file`` is a file of the spool, or the DICOM file, or ``None`` for a small rendition, which is all header.
    ``state`` is that of the DICOM file from which the rendition was made. ``doubts`` counts how often its bytes
    were put in doubt, and ``compared`` how many of these are settled.
    """

    __slots__ = ("compared", "doubts", "facts", "file", "header", "inode", "length", "start", "state")

    def __init__(self, key: _Key, facts: FileFacts, file: OpenFile | None, parts: _Direct) -> None:
        self.inode = key.inode
        self.facts = facts
        self.file = file
        self.header, self.start, self.length = parts.header, parts.start, parts.length
        self.state = key.of_file
        self.doubts = self.compared = 0

    @property
    def descriptor(self) -> int:
        """The descriptor of ``file``; -1 without one."""
        return -1 if self.file is None else self.file.descriptor


class _Making:
    """A rendition that is being made. ``errno`` is the error if that fails; 0 if the maker was cancelled."""

    __slots__ = ("done", "errno")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.errno = 0


class RenditionFiles:
    """The renditions of the current view that are kept, being made, or known to fail."""

    def __init__(self, spool: Spool, disks: Disks, workers: Workers, counters: Counters) -> None:
        self._spool = spool
        self._disks = disks
        self._workers = workers
        self._counters = counters
        self._targets = trio.CapacityLimiter(workers.largest)
        self._making: dict[_Key, _Making] = {}
        self._direct: OrderedDict[_Key, _Direct] = OrderedDict()
        self._direct_bytes = 0
        self._failed: OrderedDict[_Key, float] = OrderedDict()

    async def open(self, view: View, reader: Reader, inode: int, found: Found, source: OpenFile) -> OpenRendition:
        """Open a rendition, which ``view`` has ``found`` for its inode. Have it made if it is not kept.

        ``source`` is its DICOM file, which is closed if it is not needed further.

        Raises
        ------
        OSError
            EIO: the rendition cannot be made. ENOSPC: the disk of the spool is full. ESTALE: the DICOM file was
            written to meanwhile. EMFILE: too many files are open. EAGAIN, ENOMEM: the system has no room for a
            process.
        ContradictionFoundError
            The file contradicts the index, and the view has learned what the file says.
        """
        try:
            key = _Key(inode, found.size, await _state(source))
            parts = await self._parts(view, key, found, source)
        except BaseException:
            await reader.close(source)
            raise
        if isinstance(parts, _Direct):
            return OpenRendition(key, found.facts, source, parts)
        try:
            await reader.close(source)
        except BaseException:
            if isinstance(parts, Content):
                os.close(parts.descriptor)
            raise
        if isinstance(parts, bytes):
            return OpenRendition(key, found.facts, None, _Direct(parts, 0, 0))
        return OpenRendition(key, found.facts, self._in_spool(inode, parts), _Direct(b"", 0, found.size))

    async def compare(self, reader: Reader, file: OpenRendition, again: OpenRendition) -> None:
        """Compare an open rendition with itself as opened ``again``, which is closed.

        Raises
        ------
        OSError
            ESTALE: the DICOM file is in another state, and the rendition has other bytes. After a ``chmod`` it has
            the same.
        """
        try:
            if again.state != file.state and not await _is_same(file, again):
                complaints.info("a file of the source was written to while it was open")
                raise stale()
        finally:
            if again.file is not None:
                await reader.close(again.file)
        file.state = again.state

    def read_at_once(
        self, reader: Reader, file: OpenRendition, offset: int, size: int
    ) -> bytes | memoryview | None:
        """Return what :meth:`read` does; ``None`` if that might wait."""
        if file.file is None:
            return file.header[offset : offset + size]
        at = offset - len(file.header)
        if at < 0:
            return None
        return reader.read_at_once(file.file, file.start + at, max(min(size, file.length - at), 0))

    async def read(
        self, reader: Reader, file: OpenRendition, offset: int, size: int
    ) -> bytes | bytearray | memoryview:
        """Return up to ``size`` bytes; fewer only at the end. They are valid until the next read of any file.

        Raises
        ------
        OSError
            As :meth:`~omidbfs.serving.reader.Reader.read`.
        """
        at = offset - len(file.header)
        if file.file is None:
            return file.header[offset : offset + size]
        if at >= 0:
            return await reader.read(file.file, file.start + at, max(min(size, file.length - at), 0))
        begin = file.header[offset : offset + size]
        rest = min(size - len(begin), file.length)
        return begin + await reader.read(file.file, file.start, rest) if rest else begin

    async def _parts(self, view: View, key: _Key, found: Found, source: OpenFile) -> Content | bytes | _Direct:
        """Return the content of a rendition: a new descriptor, bytes, or the parts of the DICOM file."""
        while True:
            kept = self._spool.find(key) or self._direct.get(key)
            if kept is not None:
                return kept
            if self._failed.get(key, 0) > trio.current_time():
                raise _failure()
            making = self._making.get(key)
            if making is None:
                return await self._make(view, key, found, source)
            await making.done.wait()  # the first request makes it for all
            if making.errno:
                raise OSError(making.errno, os.strerror(making.errno))

    def _in_spool(self, inode: int, content: Content) -> OpenFile:
        """Return an open file for a content. It is read like a file of the source."""
        descriptor = content.descriptor
        try:
            seen = os.fstat(descriptor)
            disk = self._disks.disk(seen.st_dev, local=is_local(descriptor))
            self._disks.count_open()
        except BaseException:
            os.close(descriptor)
            raise
        return OpenFile(inode, descriptor, FileFacts(content.size, mtime_of(seen), 0, 0, 0), disk)

    async def _make(self, view: View, key: _Key, found: Found, source: OpenFile) -> Content | bytes | _Direct:
        making = self._making[key] = _Making()
        try:
            made = await self._direct_parts(view, key, found, source) or await self._made(view, key, found, source)
        except OSError as error:
            making.errno = error.errno or errno.EIO
            raise
        except Exception:
            making.errno = errno.EIO
            raise
        finally:
            del self._making[key]
            making.done.set()
        self._counters.renditions += 1
        return made

    async def _direct_parts(self, view: View, key: _Key, found: Found, source: OpenFile) -> _Direct | None:
        """Return the parts of a rendition that is the DICOM file's own bytes; ``None`` for any other."""
        if found.rendition.window is not None or found.format.TransferSyntaxUID not in _UNCOMPRESSED:
            return None
        if not source.disk.at_once:
            await self._read_ahead(source)
        answer = await self._workers.run(_request(found), source.descriptor)
        if answer.header is None:  # making it tells why, if there is a problem
            return None
        self._check(view, answer, await _state(source), key, found)
        parts = _Direct(answer.header, answer.start, answer.length)
        self._remember(key, parts)
        return parts

    def _remember(self, key: _Key, parts: _Direct) -> None:
        """Remember the parts of a rendition. What was remembered first is forgotten first."""
        self._direct[key] = parts
        self._direct_bytes += _OF_DIRECT + len(parts.header)
        while self._direct_bytes > _MOST_DIRECT:
            _, first = self._direct.popitem(last=False)
            self._direct_bytes -= _OF_DIRECT + len(first.header)

    async def _read_ahead(self, source: OpenFile) -> None:
        # A worker must not wait for a disk, as then nothing could end it.
        await source.disk.threads.run(source.inode, _read_whole, source.descriptor)

    async def _made(self, view: View, key: _Key, found: Found, source: OpenFile) -> Content | bytes:
        await self._read_ahead(source)
        async with self._targets:  # each has a descriptor until it is kept
            answer, target = await self._written(found, source)
            if self._spool.makes_room(answer.errno):
                os.close(target)
                answer, target = await self._written(found, source)
            try:
                self._check(view, answer, await _state(source), key, found)
                if os.fstat(target).st_size != found.size:
                    raise self._failure(key, WRONG_SIZE)
            except BaseException:
                os.close(target)
                raise
            with trio.CancelScope(shield=True):  # the spool closes the file
                content = await trio.to_thread.run_sync(self._spool.keep, key, target, found.size)
        return content

    async def _written(self, found: Found, source: OpenFile) -> tuple[Answer, int]:
        """Have a rendition written to a new file; return the answer, and the descriptor of the file."""
        target = await trio.to_thread.run_sync(self._spool.new_file)
        try:
            return await self._workers.run(_request(found), source.descriptor, target), target
        except BaseException:
            os.close(target)
            raise

    def _check(self, view: View, answer: Answer, state: _State, key: _Key, found: Found) -> None:
        """Raise the error of an answer. The file, now in ``state``, may have been written to in the meantime."""
        if state[:2] != key.of_file[:2]:
            complaints.info("a file of the source was written to while it was open")
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        if answer.errno in (errno.ENOSPC, errno.EDQUOT):
            complaints.warning("the disk of the spool is full")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if answer.errno:
            raise self._failure(key, WRONG_SIZE if answer.errno == errno.EFBIG else UNREADABLE)
        if answer.found is not None and view.renditions.learn(found.row, found.rendition, answer.found):
            complaints.info("a DICOM file contradicts its sidecar: %s", answer.problem)
            raise ContradictionFoundError(errno.ESTALE, os.strerror(errno.ESTALE))
        if answer.problem is not None:
            raise self._failure(key, answer.problem)
        if answer.header is not None:
            is_inside = answer.start >= 0 and 0 <= answer.length <= state[0] - answer.start
            if not is_inside or len(answer.header) + answer.length != found.size:
                raise self._failure(key, WRONG_SIZE)

    def _failure(self, key: _Key, kind: str) -> OSError:
        """Count, log and remember a failure, and return its error."""
        self._counters.failed_renditions[kind] += 1
        say = complaints.warning if kind in PROBLEMS else complaints.info
        say("a rendition could not be made: %s", kind)
        self._failed[key] = trio.current_time() + _SILENCE
        self._failed.move_to_end(key)
        while len(self._failed) > _MOST_FAILED:
            self._failed.popitem(last=False)
        return _failure()


async def _state(source: OpenFile) -> _State:
    """Return size, time and time of change of a file."""
    if source.disk.at_once:
        seen = os.fstat(source.descriptor)
    else:
        seen = await source.disk.threads.run(source.inode, os.fstat, source.descriptor)
    return seen.st_size, mtime_of(seen), seen.st_ctime_ns


async def _is_same(one: OpenRendition, other: OpenRendition) -> bool:
    """Return whether two handles of one rendition give the same bytes."""
    if (one.header, one.start, one.length) != (other.header, other.start, other.length):
        return False
    if one.file is None or other.file is None:
        return True
    run = one.file.disk.threads.run
    return await run(one.inode, are_same, one.descriptor, other.descriptor)


def _request(found: Found) -> Request:
    return Request(found.rendition, found.format, found.chest_wall_side, found.size)


def _read_whole(descriptor: int) -> None:
    """Read a file whole, so that it is in the page cache; of a huge one, which may be sparse, only the begin."""
    buffer, at = bytearray(_PART), 0
    while at < _MOST_AHEAD and (count := os.preadv(descriptor, [buffer], at)):
        at += count


def _failure() -> OSError:
    return OSError(errno.EIO, os.strerror(errno.EIO))
