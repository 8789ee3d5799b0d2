"""The directories that the kernel knows, by inode. Files need no memory: their inode says what they are."""

import errno
import logging
from collections.abc import Iterator

from omidbfs.view.nodes import Directory
from omidbfs.view.view import View

log = logging.getLogger(__name__)


class Directories:
    """Counts, for every directory the kernel has been told of, how often: it is forgotten at zero.

    When the view is replaced, a directory is found again by its path, at its next use. What the kernel does not
    forget keeps no view, and its index, alive: a directory only names its own.
    """

    def __init__(self, view: View) -> None:
        self._view = view
        self._known: dict[int, tuple[Directory, int]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def times(self) -> dict[int, int]:
        """Return how often the kernel was told of each directory and has not yet forgotten it."""
        return {inode: times for inode, (_, times) in self._known.items()}

    def paths(self) -> list[bytes]:
        """Return the paths of the directories that the kernel knows, without the root."""
        return [directory.path for directory, _ in self._known.values()]

    def known_in(self, view: View) -> Iterator[Directory]:
        """Return those that the kernel knows now, as they are in a view, without the root and what is not in it.

        Any thread may look for them: there may be a million.
        """
        known = list(self._known.values())
        found = (one if view.has_made(one) else view.resolve(one.path) for one, _ in known)
        return (directory for directory in found if directory is not None)

    def replace_view(self, view: View) -> None:
        """Find directories in another view from now on."""
        self._view = view

    def get(self, inode: int) -> Directory | None:
        """Return the directory of an inode; ``None`` if the inode is a file's, was forgotten, or is gone."""
        if inode == self._view.root.inode:
            return self._view.root
        known = self._known.get(inode)
        if known is None:
            return None
        directory, times = known
        if not self._view.has_made(directory):
            found = self._view.resolve(directory.path)
            if found is None:
                return None
            directory = found
            self._known[inode] = (directory, times)
        return directory

    def told(self, directory: Directory) -> None:
        """Count that the kernel was told of a directory, of whatever view.

        Raises
        ------
        OSError
            EIO: another path has the same inode, a one in 10^18 chance; the kernel must not confuse them.
        """
        if directory.inode == self._view.root.inode:
            return
        known = self._known.get(directory.inode)
        if known is None:
            self._known[directory.inode] = (directory, 1)
        elif known[0].path != directory.path:
            raise OSError(errno.EIO, "two directories with one inode")
        else:
            self._known[directory.inode] = (known[0], known[1] + 1)

    def forget(self, inode: int, times: int) -> None:
        """Count down; inodes that are not directories are none of our business.

        More than was told is a defect, here or in the kernel: it is logged, and the count stays at zero.
        """
        known = self._known.get(inode)
        if known is None:
            return
        directory, told = known
        if told < times:
            log.error("a directory was forgotten %d times and told %d times; a defect", times, told)
        if told > times:
            self._known[inode] = (directory, told - times)
        else:
            del self._known[inode]
