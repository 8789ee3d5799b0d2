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
from omidbfs.serving.disks import Disks
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
    """A file that is being made. ``errno`` is the error if that fails."""

    __slots__ = ("done", "errno")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.errno = 0


class GeneratedFiles:
    """The contents of the generated files of the current view."""

    def __init__(self, view: View, spool: Spool, disks: Disks) -> None:
        self._view = view
        self._spool = spool
        self._disks = disks
        self._making: dict[int, _Making] = {}
        self._limiter = trio.CapacityLimiter(_AT_ONCE)

    def replace_view(self, view: View) -> None:
        """Replace the view, and drop all contents, because inodes differ in the new view. Open files stay open."""
        self._view = view
        self._spool.forget_all()

    async def size(self, export: Export) -> int | None:
        """Return the size of a file. Make the file if the spool lacks it.

        Return ``None`` if the view was replaced in the meantime.

        Raises
        ------
        OSError
            The file cannot be made. ENOSPC: the disk is full.
        """
        content = await self._content(export)
        if content is None:
            return None
        os.close(content.descriptor)
        return content.size

    async def open(self, export: Export) -> OpenGenerated:
        """Open a file. Make it if the spool lacks it.

        Raises
        ------
        OSError
            ESTALE: the file is of another view. EMFILE: too many files are open. Otherwise as :meth:`size`.
        """
        view = self._view
        self._disks.count_open()
        try:
            content = await self._content(export)
            if content is None:
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
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

    async def _content(self, export: Export) -> Content | None:
        """Return the content of a file; ``None`` if the file is of another view."""
        while self._view.has_made(export):
            kept = self._spool.open(export.inode)
            if kept is not None:
                return kept
            making = self._making.get(export.inode)
            if making is None:
                return await self._make(export)
            await making.done.wait()  # the first request makes it for all
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
        if view is not self._view:  # no request can ask for it again
            self._spool.forget(inode)
        return content

    def stop(self) -> None:
        """Make the making of files end soon, with EINTR, and drop all contents."""
        self._spool.stop()
