"""Pages of files that the kernel may have from before an edit that neither size nor time shows.

Used by the handlers and by the observer that stands for the kernel, in their loop, but for what is said to be of
threads. A refresh finds out that something of a client has changed, and not which file. So the pages of all files
of the client that look as they did are in doubt. Those of open files are dropped at once, all others before the
next opening is answered. So however many clients a ``chmod`` has touched, the kernel is told of no more files than
are in use.
"""

import logging
from collections.abc import Iterable

import pyfuse3
import trio
from pyroaring import BitMap64

from omidbfs.serving.disks import Threads
from omidbfs.view.inode import file_key

log = logging.getLogger(__name__)

_AT_ONCE = 16
_PATIENCE = 5.0
"""Seconds that a refresh waits for pages that somebody is just reading: their disk may hang."""


class Pages:
    """Which files are in doubt. ``threads`` tell the kernel, which may first wait for reads that are under way."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._doubtful = BitMap64()
        self.times = 0
        """How often files have come to be in doubt."""
        self._being_dropped: set[int] = set()

    def doubt(self, keys: BitMap64) -> None:
        """Note files, by :func:`~omidbfs.view.inode.file_key`, of which the kernel may have old pages."""
        # Another set, so that a file that is being settled meanwhile comes to be in doubt again.
        self._doubtful = self._doubtful | keys
        self.times += 1

    def are_doubtful(self, inode: int) -> bool:
        """Return whether the kernel may have old pages of a file."""
        return file_key(inode) in self._doubtful

    async def drop(self, inode: int) -> None:
        """Have the kernel drop the pages of a file.

        Raises
        ------
        OSError
            It did not: the file stays in doubt.
        """
        doubtful = self._doubtful
        await self._threads.run(inode, _drop, inode, self._being_dropped)
        doubtful.discard(file_key(inode))

    async def drop_open(self, inodes: Iterable[int]) -> None:
        """Drop those of some files that are in doubt, and give up waiting for files whose disk hangs.

        These stay in doubt, and are tried again the next time.
        """
        waiting = iter([inode for inode in inodes if self.are_doubtful(inode)])

        async def work() -> None:
            for inode in waiting:
                if inode in self._being_dropped:
                    continue  # by a thread that an earlier refresh gave up waiting for
                try:
                    await self.drop(inode)
                except OSError as error:
                    log.warning("the kernel did not take a change: %s", error.strerror)

        with trio.move_on_after(_PATIENCE):
            async with trio.open_nursery() as nursery:
                for _ in range(_AT_ONCE):
                    nursery.start_soon(work)


def _drop(inode: int, being_dropped: set[int]) -> None:
    being_dropped.add(inode)  # here and not in the loop: a thread that is given up goes on
    try:
        pyfuse3.invalidate_inode(inode, False)
    except FileNotFoundError:
        pass  # the kernel does not know it, and so has no pages
    finally:
        being_dropped.discard(inode)
