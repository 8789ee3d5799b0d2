"""Makes generated files when their size or content is needed, keeps them in the spool, and reads them from there.

Used by :class:`~omidbfs.serving.drive.Drive`, in its loop; files are made in threads. The first request for a file
makes it. Further requests for the same file wait for it, and other requests do not.
"""

import errno
import functools
import logging
import os

import trio

from omidbfs.database.records import FileFacts
from omidbfs.serving.archives import Archives, OpenArchive
from omidbfs.serving.disks import Disks, stale
from omidbfs.serving.sources import Sources
from omidbfs.serving.spool import Content, Spool
from omidbfs.view.nodes import Export
from omidbfs.view.view import View

log = logging.getLogger(__name__)

_AT_ONCE = 2
"""The largest number of files made at the same time. Others wait."""


class OpenGenerated:
    """A generated file, open for one handle. Its descriptor stays valid even if the spool drops the content."""

    __slots__ = ("descriptor", "facts", "inode")

    def __init__(self, inode: int, descriptor: int, facts: FileFacts) -> None:
        self.inode = inode
        self.descriptor = descriptor
        self.facts = facts


class _Making:
    """A file that is being made: its size afterwards, or the error of a failure; neither if it was cancelled."""

    __slots__ = ("done", "errno", "size")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.size: int | None = None
        self.errno = 0

    async def result(self) -> int | None:
        """Wait until the file is made, and return its size."""
        await self.done.wait()
        if self.errno:
            raise OSError(self.errno, os.strerror(self.errno))
        return self.size


class GeneratedFiles:
    """The contents of the generated files of the current view."""

    def __init__(self, view: View, spool: Spool, disks: Disks, sources: Sources) -> None:
        self._view = view
        self._spool = spool
        self._disks = disks
        self.archives = Archives(view, sources)
        self._making: dict[int, _Making] = {}
        self._limiter = trio.CapacityLimiter(_AT_ONCE)

    def replace_view(self, view: View) -> None:
        """Replace the view, and drop the files of the old one. Those that are open stay open."""
        self._view = view
        self.archives.replace_view(view)
        self._spool.forget_those(lambda key: isinstance(key, int))

    async def size(self, export: Export) -> int:
        """Return the size of a file. Make the file if the spool lacks it, unless it is an archive.

        If the view is replaced in the meantime, it is the size that the file had before.

        Raises
        ------
        OSError
            The file cannot be made. ENOSPC: the disk is full; ESTALE: the file is of another view.
        """
        if export.is_archive:
            return await self.archives.size(export)
        making = self._making.get(export.inode)
        size = None if making is None else await making.result()
        if size is None:
            content = await self._content(export)
            os.close(content.descriptor)
            size = content.size
        return size

    async def open(self, export: Export) -> OpenGenerated | OpenArchive:
        """Open a file. Make it if the spool lacks it.

        Raises
        ------
        OSError
            ESTALE: the file is of another view. EMFILE: too many files are open. Otherwise as :meth:`size`.
        """
        if export.is_archive:
            return await self.archives.open(export)
        view = self._view
        self._disks.count_open()
        try:
            content = await self._content(export)
        except BaseException:
            self._disks.open_files -= 1
            raise
        shown = view.export_attributes(export, content.size)
        facts = FileFacts(content.size, shown.mtime, shown.mode & 0o777, shown.uid, shown.gid)
        return OpenGenerated(export.inode, content.descriptor, facts)

    async def read(self, file: OpenGenerated, offset: int, size: int) -> bytes:
        """Return up to ``size`` bytes; fewer only at the end."""
        return await self._disks.threads("generated").run(file.inode, os.pread, file.descriptor, size, offset)

    def close(self, file: OpenGenerated) -> None:
        """Close a handle's descriptor."""
        self._disks.open_files -= 1
        os.close(file.descriptor)

    async def _content(self, export: Export) -> Content:
        while self._view.has_made(export):
            kept = self._spool.open(export.inode)
            if kept is not None:
                return kept
            making = self._making.get(export.inode)
            if making is None:
                return await self._make(export)
            await making.result()  # the first request makes it for all
        raise stale()

    async def _make(self, export: Export) -> Content:
        view, inode = self._view, export.inode
        making = self._making[inode] = _Making()
        try:
            content = await trio.to_thread.run_sync(
                self._spool.make, inode, functools.partial(view.content, export), limiter=self._limiter
            )
            making.size = content.size
        except (OSError, MemoryError) as error:
            making.errno = errno.ENOMEM if isinstance(error, MemoryError) else error.errno or errno.EIO
            if making.errno != errno.EINTR:
                log.warning("a file of a cohort could not be made: %s", os.strerror(making.errno))
            raise
        except Exception:
            making.errno = errno.EIO
            raise
        finally:
            del self._making[inode]
            making.done.set()
        if view is not self._view:  # no request can ask for it again
            self._spool.forget(inode)
        return content

    def stop(self) -> None:
        """Make the making of files end soon, with EINTR, and drop all contents."""
        self._spool.stop()
