"""Generated files: made when the kernel asks for one, kept on disk, and read from there like any other file.

The kernel must know the size of a file before anybody may read it, so whoever looks one up waits until it is made;
everybody else goes on. Where the size is not known, what the kernel is told is not to be kept: listing a directory
makes nothing, nor does a caller who may not read the file.
"""

import errno
import functools
import logging
import os

import trio
from pyfuse3 import EntryAttributes, RequestContext

from omidbfs.database.records import FileFacts
from omidbfs.fuse.answers import entry_of
from omidbfs.fuse.callers import may_read
from omidbfs.serving.disks import Disks
from omidbfs.serving.spool import Content, Spool
from omidbfs.view.nodes import Export
from omidbfs.view.view import View

log = logging.getLogger(__name__)

_AT_ONCE = 2
"""How many are made at the same time; others wait for their turn."""


class OpenContent:
    """A generated file, open for one handle: the descriptor is its own, and outlives whatever else happens."""

    __slots__ = ("descriptor", "facts", "inode")

    def __init__(self, inode: int, descriptor: int, facts: FileFacts) -> None:
        self.inode = inode
        self.descriptor = descriptor
        self.facts = facts


class _Known:
    """A file that the kernel was told of: how often, and its size as soon as it has been made."""

    __slots__ = ("export", "size", "times")

    def __init__(self, export: Export) -> None:
        self.export = export
        self.times = 0
        self.size: int | None = None


class _Making:
    """A file that is being made; ``errno`` says why it could not be."""

    __slots__ = ("done", "errno")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.errno = 0


class Exports:
    """The generated files that the kernel knows, as long as it does, and their contents.

    Sizes are remembered until the kernel forgets the file: told another it would cut off what it has in memory.
    """

    def __init__(self, view: View, spool: Spool, disks: Disks) -> None:
        self._view = view
        self._spool = spool
        self._disks = disks
        self._known: dict[int, _Known] = {}
        self._making: dict[int, _Making] = {}
        self._limiter = trio.CapacityLimiter(_AT_ONCE)

    def __len__(self) -> int:
        return len(self._known)

    def replace_view(self, view: View) -> None:
        """Make files of another view from now on: all have other inodes there. What is open stays as it is."""
        self._view = view
        self._spool.forget_all()

    def told(self, export: Export, size: int | None = None) -> None:
        """Count that the kernel was told of a file, and note its size if that is known."""
        self._known.setdefault(export.inode, _Known(export)).times += 1
        self._note(export, size)

    def _note(self, export: Export, size: int | None) -> None:
        known = self._known.get(export.inode)
        if known is not None and size is not None:
            known.size = size

    def forget(self, inode: int, times: int) -> None:
        """Count down; other inodes are none of our business."""
        known = self._known.get(inode)
        if known is not None:
            known.times -= times
            if known.times <= 0:
                del self._known[inode]

    def size(self, inode: int) -> int | None:
        """Return the size that the kernel knows a file to have, ``None`` if it has not been made for it."""
        known = self._known.get(inode)
        return None if known is None else known.size

    def find(self, inode: int) -> Export | None:
        """Return the file of an inode, ``None`` if the kernel does not know it, or the view is another by now."""
        known = self._known.get(inode)
        return known.export if known is not None and self._view.has_made(known.export) else None

    def entry(self, export: Export) -> EntryAttributes:
        """Return the attributes of a file; where its size is not known, the kernel is to ask again each time."""
        size = self.size(export.inode)
        entry = entry_of(self._view.export_attributes(export, size or 0))
        if size is None:
            entry.attr_timeout = 0
        return entry

    async def size_for(self, caller: RequestContext, export: Export) -> int | None:
        """Return the size of a file; makes it if nobody has yet, and the caller may read it.

        ``None`` if the caller may not, or another view has taken the place of the file's meanwhile.

        Raises
        ------
        OSError
            It cannot be made: ENOSPC where the disk is full.
        """
        size = self.size(export.inode)
        if size is None and may_read(self._view.export_access, caller):
            content = await self._content(export)
            if content is not None:
                os.close(content.descriptor)
                size = content.size
                self._note(export, size)
        return size

    async def open(self, inode: int) -> OpenContent:
        """Open a file; makes it if it is not kept. The kernel has seen to it that the caller may read it.

        Raises
        ------
        OSError
            ESTALE if it is not of the view, EMFILE if too many are open; otherwise as :meth:`size_for`.
        """
        view, export = self._view, self.find(inode)
        if export is None:
            raise _stale()
        self._disks.count_open()
        try:
            content = await self._content(export)
            if content is None:
                raise _stale()
        except BaseException:
            self._disks.open_files -= 1
            raise
        self._note(export, content.size)
        told = view.export_attributes(export, content.size)
        facts = FileFacts(content.size, told.mtime, told.mode & 0o777, told.uid, told.gid)
        return OpenContent(inode, content.descriptor, facts)

    async def read(self, file: OpenContent, offset: int, size: int) -> bytes:
        """Return up to ``size`` bytes; fewer only at the end."""
        return await self._disks.threads("generated").run(file.inode, os.pread, file.descriptor, size, offset)

    def close(self, file: OpenContent) -> None:
        """Close a handle's descriptor."""
        self._disks.open_files -= 1
        os.close(file.descriptor)

    async def _content(self, export: Export) -> Content | None:
        """Return the content of a file, ``None`` if it is not of the view, perhaps no more."""
        while self._view.has_made(export):
            kept = self._spool.open(export.inode)
            if kept is not None:
                return kept
            making = self._making.get(export.inode)
            if making is None:
                return await self._make(export)
            await making.done.wait()  # whoever came first makes it for all
            if making.errno:
                raise OSError(making.errno, os.strerror(making.errno))
        return None

    async def _make(self, export: Export) -> Content:
        view, inode = self._view, export.inode
        making = self._making[inode] = _Making()
        try:
            content = await trio.to_thread.run_sync(
                self._spool.make, inode, functools.partial(view.content, export), limiter=self._limiter
            )
        except OSError as error:
            making.errno = error.errno or errno.EIO
            if making.errno != errno.EINTR:
                log.warning("a file of a cohort could not be made: %s", os.strerror(making.errno))
            raise
        except Exception:
            making.errno = errno.EIO
            raise
        finally:
            del self._making[inode]
            making.done.set()
        if view is not self._view:  # nobody will ask for it again
            self._spool.forget(inode)
        return content

    def stop(self) -> None:
        """Have whatever is being made end soon, with EINTR, and let go of everything."""
        self._spool.stop()


def _stale() -> OSError:
    return OSError(errno.ESTALE, os.strerror(errno.ESTALE))
