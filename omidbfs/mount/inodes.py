"""The directories that the kernel knows, by inode. Files need no memory: their inode says what they are."""

import errno
import logging
from collections.abc import Iterator

from omidbfs.nodes import Directory
from omidbfs.view import View

log = logging.getLogger(__name__)


class Directories:
    """Counts, for every directory the kernel has been told of, how often: it is forgotten at zero.

    When the view is replaced, a directory is found again by its path, at its next use.
    """

    def __init__(self, view: View) -> None:
        self._view = view
        # By number, not itself: what the kernel does not forget must not keep a view, and its index, alive.
        self._view_number = 0
        self._known: dict[int, tuple[Directory, int, int]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def times(self) -> dict[int, int]:
        """Return how often the kernel was told of each directory and has not yet forgotten it."""
        return {inode: times for inode, (_, times, _) in self._known.items()}

    def paths(self) -> list[bytes]:
        """Return the paths of the directories that the kernel knows, without the root."""
        return [directory.path for directory, _, _ in self._known.values()]

    def known_in(self, view: View) -> Iterator[Directory]:
        """Return those that the kernel knows now, as they are in a view, without the root and what is not in it.

        Any thread may look for them: there may be a million.
        """
        number = self._view_number if view is self._view else -1
        known = list(self._known.values())
        found = (one if of == number >= 0 else view.resolve(one.path) for one, _, of in known)
        return (directory for directory in found if directory is not None)

    def replace_view(self, view: View) -> None:
        """Find directories in another view from now on."""
        self._view = view
        self._view_number += 1

    def get(self, inode: int) -> Directory | None:
        """Return the directory of an inode; ``None`` if the inode is a file's, was forgotten, or is gone."""
        if inode == self._view.root.inode:
            return self._view.root
        known = self._known.get(inode)
        if known is None:
            return None
        directory, times, view_number = known
        if view_number != self._view_number:
            found = self._view.resolve(directory.path)
            if found is None:
                return None
            directory = found
            self._known[inode] = (directory, times, self._view_number)
        return directory

    def told(self, directory: Directory, view: View) -> None:
        """Count that the kernel was told of a directory of ``view``.

        Raises
        ------
        OSError
            EIO: another path has the same inode, a one in 10^18 chance; the kernel must not confuse them.
        """
        if directory.inode == self._view.root.inode:
            return
        known = self._known.get(directory.inode)
        if known is None:
            self._known[directory.inode] = (directory, 1, self._view_number if view is self._view else -1)
        elif known[0].path != directory.path:
            raise OSError(errno.EIO, "two directories with one inode")
        else:
            self._known[directory.inode] = (known[0], known[1] + 1, known[2])

    def forget(self, inode: int, times: int) -> None:
        """Count down; inodes that are not directories are none of our business.

        More than was told is a defect, here or in the kernel: it is logged, and the count stays at zero.
        """
        known = self._known.get(inode)
        if known is None:
            return
        directory, told, view_number = known
        if told < times:
            log.error("a directory was forgotten %d times and told %d times; a defect", times, told)
        if told > times:
            self._known[inode] = (directory, told - times, view_number)
        else:
            del self._known[inode]
