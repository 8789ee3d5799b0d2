"""Makes the kernel forget what has changed: the kernel as an observer of the drive.

Used by the handlers, in their loop, except for :func:`tell_kernel`, which must be called in a thread.
"""

import errno
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator

import pyfuse3
import trio

from omidbfs.fuse.known import Directories
from omidbfs.fuse.pages import Pages
from omidbfs.serving.changes import Changes
from omidbfs.serving.drive import Drive
from omidbfs.view.nodes import Directory
from omidbfs.view.view import View

log = logging.getLogger(__name__)


class Kernel:
    """The kernel, which keeps names, attributes and pages: an :class:`~omidbfs.serving.observers.Observer`."""

    def __init__(self, drive: Drive, directories: Directories, pages: Pages) -> None:
        self._drive = drive
        self._directories = directories
        self._pages = pages

    def paths(self) -> list[bytes]:
        """Return the paths of the directories that the kernel knows, without the root."""
        return self._directories.paths()

    def directories(self, view: View) -> Iterator[Directory]:
        """Return the same directories as they are in a view."""
        return self._directories.in_view(view)

    async def tell(self, found: Changes) -> bool:
        """Make the kernel forget names and attributes, and mark pages as doubtful; return whether it succeeded."""
        if found.touched:  # doubting nothing would undo drops in progress
            self._pages.doubt(found.touched)
            self._drive.doubt(found.touched)
        # In a thread with its own limiter: the kernel may first wait for requests of the same inodes. This loop
        # has to answer them, and they may wait for threads of a slow disk.
        return await trio.to_thread.run_sync(tell_kernel, found, limiter=trio.CapacityLimiter(1))

    async def settle(self) -> None:
        """Make the kernel drop the doubtful pages of open files."""
        await self._pages.drop_open(self.open_files())

    def open_files(self) -> list[int]:
        """Return the inodes of open files, without earlier versions, whose pages are never doubtful."""
        view = self._drive.view
        return [inode for inode in self._drive.open_files() if view.attributes(inode) is not None]


def tell_kernel(found: Changes) -> bool:
    """Make the kernel forget, and return whether it succeeded.

    Do not call this in the loop that answers requests: the kernel may first wait for answers.
    """
    refused: Counter[str] = Counter()
    for inode in found.attributes:
        _tell(refused, pyfuse3.invalidate_inode, inode, True)
    for inode, name in found.entries:
        _tell(refused, pyfuse3.invalidate_entry, inode, name)
    for reason, times in refused.items():  # one line for all: there may be millions
        log.warning("the kernel did not take a change: %s%s", reason, f" ({times} times)" if times > 1 else "")
    return not refused


def _tell(refused: Counter[str], tell: Callable[..., None], *arguments: object) -> None:
    try:
        tell(*arguments)
    except FileNotFoundError:
        pass  # the kernel does not know the inode, so it has nothing to forget
    except OSError as error:
        refused[os.strerror(error.errno or errno.EIO)] += 1
