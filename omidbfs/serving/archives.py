"""Reads archives of cohorts (``cohort.tar``): headers are made, contents are those of the files in the cohort.

Used by :class:`~omidbfs.serving.drive.Drive` and ``generated``, in the loop of the drive. The places of members
are summed up in a thread, once for each archive, and remembered. No content is stored.
"""

import errno
import functools
import os
from collections import OrderedDict
from contextlib import suppress

import trio

from omidbfs.database.records import FileFacts
from omidbfs.exports.tar import Archive, Member, Part
from omidbfs.serving.disks import stale
from omidbfs.serving.sources import OpenSource, Sources
from omidbfs.view.nodes import Export
from omidbfs.view.view import View

MEMORY = 32 << 20
"""The largest number of bytes that the remembered archives take. The last one is always remembered."""
_MOST_OPEN = 4
"""Members that a handle keeps open. The kernel requests a few parts of an archive at the same time."""
_IN_A_ROW = 16
"""Members that are read before other requests get their turn."""

_Key = tuple[int, bytes]
"""The row and the suffix of a member."""


class _OpenMember:
    """The file of a member that an archive has open. ``users`` is the number of requests that read it."""

    __slots__ = ("file", "users")

    def __init__(self, file: OpenSource) -> None:
        self.file = file
        self.users = 0


class OpenArchive:
    """An archive, open for one handle. Its members are the files as ``view`` knows them.

    ``opened`` are the members whose files are open, the one that was read last at the end. ``recent`` is that one.
    """

    __slots__ = ("archive", "facts", "inode", "members", "opened", "recent", "view")

    def __init__(self, inode: int, view: View, archive: Archive, facts: FileFacts) -> None:
        self.inode = inode
        self.view = view
        self.archive = archive
        self.facts = facts
        self.members = functools.lru_cache(_MOST_OPEN)(archive.members)
        self.opened: OrderedDict[_Key, _OpenMember] = OrderedDict()
        self.recent: Member | None = None

    def surplus(self) -> list[OpenSource]:
        """Forget files that no request reads, until there is room for one more; return them."""
        idle = [number for number, member in self.opened.items() if not member.users]
        return [self.opened.pop(number).file for number in idle[: max(len(self.opened) + 1 - _MOST_OPEN, 0)]]

    def descriptors(self) -> list[int]:
        """Return the descriptors that it has open."""
        return [member.file.descriptor for member in self.opened.values() if member.file.descriptor >= 0]


class Archives:
    """The archives of the current view."""

    def __init__(self, view: View, sources: Sources) -> None:
        self._view = view
        self._sources = sources
        self._known: OrderedDict[int, Archive] = OrderedDict()
        self._one_at_a_time = trio.Lock()

    def replace_view(self, view: View) -> None:
        """Replace the view. Archives that are open stay open."""
        self._view = view
        self._known.clear()

    async def size(self, export: Export) -> int:
        """Return the size of an archive.

        Raises
        ------
        OSError
            ESTALE: the file is of another view.
        """
        return (await self._archive(export)).size

    async def open(self, export: Export) -> OpenArchive:
        """Open an archive. No file of a member is opened before it is read.

        Raises
        ------
        OSError
            As :meth:`size`.
        """
        view = self._view
        archive = await self._archive(export)
        shown = view.export_attributes(export, archive.size)
        facts = FileFacts(archive.size, shown.mtime, shown.mode & 0o777, shown.uid, shown.gid)
        return OpenArchive(export.inode, view, archive, facts)

    async def _archive(self, export: Export) -> Archive:
        async with self._one_at_a_time:
            view = self._view
            if not view.has_made(export):
                raise stale()
            known = self._known.get(export.inode)
            if known is None:
                known = await trio.to_thread.run_sync(view.archive, export, abandon_on_cancel=True)
                if view is not self._view:
                    raise stale()
                self._known[export.inode] = known
            self._known.move_to_end(export.inode)
            while len(self._known) > 1 and sum(one.memory for one in self._known.values()) > MEMORY:
                self._known.popitem(last=False)
            return known

    def read_at_once(self, file: OpenArchive, offset: int, size: int) -> bytes | memoryview | None:
        """Return what :meth:`read` does within the member that was read last; ``None`` if that might wait.

        Raises
        ------
        OSError
            As :meth:`read`.
        """
        recent = file.recent
        if recent is None or not recent.content <= offset <= offset + size <= recent.content + recent.size:
            return None
        member = file.opened.get(_key(recent))
        if member is None:
            return None
        try:
            return self._sources.read_at_once(member.file, offset - recent.content, size)
        except OSError as error:
            raise _explained(error) from error

    async def read(self, file: OpenArchive, offset: int, size: int) -> bytes | bytearray | memoryview:
        """Return up to ``size`` bytes; fewer only at the end. They are valid until the next read of any file.

        Raises
        ------
        OSError
            EIO: a file of the source is not what the index says, or a rendition cannot be made. EMFILE: too many
            files are open. Otherwise as :meth:`~omidbfs.serving.sources.Sources.read`.
        """
        wanted = min(size, file.archive.size - offset)
        if wanted <= 0:
            return b""
        answer, done = bytearray(wanted), 0
        for number, part in enumerate(file.archive.parts(offset, offset + wanted, file.members), 1):
            if isinstance(part, bytes):
                answer[done : done + len(part)] = part
                done += len(part)
                continue
            try:
                content = await self._content(file, part)
            except OSError as error:
                raise _explained(error) from error
            if part.length == wanted:
                return content
            answer[done : done + part.length] = content
            done += part.length
            if not number % _IN_A_ROW:
                await trio.lowlevel.checkpoint()
        return answer

    async def _content(self, file: OpenArchive, part: Part) -> bytes | bytearray | memoryview:
        member = file.opened.get(_key(part.member)) or await self._opened(file, part.member)
        file.opened.move_to_end(_key(part.member))
        file.recent = part.member
        member.users += 1
        try:
            at_once = self._sources.read_at_once(member.file, part.start, part.length)
            if at_once is not None:
                return at_once
            return await self._sources.read(self._view, member.file, part.start, part.length)
        finally:
            member.users -= 1

    async def _opened(self, file: OpenArchive, member: Member) -> _OpenMember:
        """Open the file of a member, and close files that no request reads."""
        inode = file.view.file(member.row, member.shown)
        facts = None if inode is None else file.view.facts(inode)
        if inode is None or facts is None or (facts.size, facts.mtime_ns) != (member.size, member.mtime_ns):
            raise stale()
        found = await self._sources.open(file.view, inode)
        key = _key(member)
        opened = file.opened.get(key)
        if opened is None:
            opened, surplus = _OpenMember(found), file.surplus()
            file.opened[key] = opened
        else:  # another request has opened it meanwhile
            surplus = [found]
        opened.users += 1
        try:
            for one in surplus:
                with suppress(OSError):  # a failure is nothing to anyone
                    await self._sources.close(one)
        finally:
            opened.users -= 1
        return opened

    def close_at_once(self, file: OpenArchive) -> bool:
        """Close an archive; return ``False`` if that might wait, and must be left to :meth:`close`."""
        while file.opened:
            if not self._sources.close_at_once(next(iter(file.opened.values())).file):
                return False
            file.opened.popitem(last=False)
        return True

    async def close(self, file: OpenArchive) -> None:
        """Close an archive."""
        while file.opened:
            await self._sources.close(file.opened.popitem(last=False)[1].file)


def _key(member: Member) -> _Key:
    return member.row, member.shown.suffix


def _explained(error: OSError) -> OSError:
    """Return the error for the caller: no new lookup of the archive finds another version of its member."""
    return OSError(errno.EIO, os.strerror(errno.EIO)) if error.errno == errno.ESTALE else error
