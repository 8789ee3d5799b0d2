"""Drops old pages of the kernel after an edit that changed neither size nor time of a file.

Used by the handlers and by :class:`~omidbfs.fuse.forgetting.Kernel`, in their loop. Calls to the kernel run in
threads. A refresh finds out that something of a client has changed, but not which file. So the pages of all
files of the client whose size and time are unchanged are *doubtful*. The doubtful pages of open files are
dropped at once. Those of other files are dropped when the file is next opened. So even if a ``chmod`` touches
many clients, the kernel is told only of files that are in use.
"""

import logging
from collections.abc import Iterable

import pyfuse3
import trio

from omidbfs.serving.disks import Threads
from omidbfs.view.file_keys import FileKeys
from omidbfs.view.inode import file_key, is_rendition, source_key

log = logging.getLogger(__name__)

_AT_ONCE = 16
_PATIENCE = 5.0
"""Seconds that a refresh waits for pages that are being read: their disk may hang."""


class Pages:
    """The files with doubtful pages. ``threads`` call the kernel, which may first wait for reads in progress."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._doubtful = FileKeys()
        self._touched = FileKeys()
        self._renditions: set[int] = set()
        self.times = 0
        """How often :meth:`doubt` was called."""
        self._being_dropped: set[int] = set()

    def doubt(self, keys: FileKeys) -> None:
        """Note the files of which the kernel may have old pages, by :func:`~omidbfs.view.inode.file_key`."""
        # A new set: a file that is being dropped at this moment leaves the old set, and stays doubtful in this
        # one.
        self._doubtful = self._doubtful | keys
        # A file may have many renditions. So its key stays, and the renditions are noted whose pages are dropped.
        self._touched = self._touched | keys
        self._renditions = set()
        self.times += 1

    def are_doubtful(self, inode: int) -> bool:
        """Return whether the kernel may have old pages of a file."""
        # Every opening asks. Most drives have never doubted.
        if not self.times:
            return False
        if is_rendition(inode):
            return source_key(inode) in self._touched and inode not in self._renditions
        return file_key(inode) in self._doubtful

    def were_doubted(self, inode: int, times: int) -> bool:
        """Return whether what was opened when ``self.times`` was ``times`` may give the kernel old pages."""
        if self.times == times:
            return False
        # A rendition may have been made before the refresh. Another handle may have dropped its pages since.
        return source_key(inode) in self._touched if is_rendition(inode) else self.are_doubtful(inode)

    async def drop(self, inode: int) -> None:
        """Make the kernel drop the pages of a file.

        Raises
        ------
        OSError
            The kernel refused. The file stays doubtful.
        """
        doubtful, renditions = self._doubtful, self._renditions
        await self._threads.run(inode, _drop, inode, self._being_dropped)
        if is_rendition(inode):
            renditions.add(inode)
        else:
            doubtful.discard(file_key(inode))

    async def drop_open(self, inodes: Iterable[int]) -> None:
        """Drop the doubtful pages of some files. Give up waiting for files whose disk hangs.

        These files stay doubtful, and the next refresh tries them again.
        """
        waiting = iter([inode for inode in inodes if self.are_doubtful(inode)])

        async def work() -> None:
            for inode in waiting:
                if inode in self._being_dropped:
                    continue  # an earlier refresh gave up waiting for a thread that still drops it
                try:
                    await self.drop(inode)
                except OSError as error:
                    log.warning("the kernel did not take a change: %s", error.strerror)

        with trio.move_on_after(_PATIENCE):
            async with trio.open_nursery() as nursery:
                for _ in range(_AT_ONCE):
                    nursery.start_soon(work)


def _drop(inode: int, being_dropped: set[int]) -> None:
    being_dropped.add(inode)  # in the thread, because a thread that is given up goes on
    try:
        pyfuse3.invalidate_inode(inode, False)
    except FileNotFoundError:
        pass  # the kernel does not know the file, so it has no pages of it
    finally:
        being_dropped.discard(inode)
