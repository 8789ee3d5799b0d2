"""What the kernel knows, by inode: directories and generated files. Other inodes say by themselves what they are.

Used by the handlers, in their loop, but for :meth:`Directories.in_view`, which any thread may call. Each look
compares with the view that the drive shows, so nothing here has to be told when that is replaced.
"""

import errno
import logging
from collections.abc import Iterator

from omidbfs.serving.drive import Drive
from omidbfs.view.inode import ROOT_INODE
from omidbfs.view.nodes import Directory, Export
from omidbfs.view.view import View

log = logging.getLogger(__name__)


class Directories:
    """Counts, for every directory the kernel has been told of, how often: it is forgotten at zero.

    When the view is replaced, a directory is found again by its path, at its next use. What the kernel does not
    forget keeps no view, and its index, alive: a directory only names its own.
    """

    def __init__(self, drive: Drive) -> None:
        self._drive = drive
        self._known: dict[int, tuple[Directory, int]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def times(self) -> dict[int, int]:
        """Return how often the kernel was told of each directory and has not yet forgotten it."""
        return {inode: times for inode, (_, times) in self._known.items()}

    def paths(self) -> list[bytes]:
        """Return the paths of the directories that the kernel knows, without the root."""
        return [directory.path for directory, _ in self._known.values()]

    def in_view(self, view: View) -> Iterator[Directory]:
        """Return those that the kernel knows now, as they are in a view, without the root and what is not in it.

        Any thread may look for them: there may be a million.
        """
        known = list(self._known.values())
        found = (one if view.has_made(one) else view.resolve(one.path) for one, _ in known)
        return (directory for directory in found if directory is not None)

    def get(self, inode: int) -> Directory | None:
        """Return the directory of an inode; ``None`` if the inode is a file's, was forgotten, or is gone."""
        view = self._drive.view
        if inode == view.root.inode:
            return view.root
        known = self._known.get(inode)
        if known is None:
            return None
        directory, times = known
        if not view.has_made(directory):
            found = view.resolve(directory.path)
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
        if directory.inode == ROOT_INODE:
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


class _Generated:
    """A file that the kernel was told of: how often, and its size as soon as it has been made."""

    __slots__ = ("export", "size", "times")

    def __init__(self, export: Export) -> None:
        self.export = export
        self.times = 0
        self.size: int | None = None


class Generated:
    """The generated files that the kernel knows, as long as it does, and their sizes.

    A size is remembered until the kernel forgets the file: told another it would cut off what it has in memory.
    """

    def __init__(self, drive: Drive) -> None:
        self._drive = drive
        self._known: dict[int, _Generated] = {}

    def __len__(self) -> int:
        return len(self._known)

    def get(self, inode: int) -> Export | None:
        """Return the file of an inode, ``None`` if the kernel does not know it, or the view is another by now."""
        known = self._known.get(inode)
        return known.export if known is not None and self._drive.view.has_made(known.export) else None

    def size(self, inode: int) -> int | None:
        """Return the size that the kernel knows a file to have, ``None`` if it has not been made for it."""
        known = self._known.get(inode)
        return None if known is None else known.size

    def told(self, export: Export, size: int | None = None) -> None:
        """Count that the kernel was told of a file, and note its size if that is known."""
        self._known.setdefault(export.inode, _Generated(export)).times += 1
        self.note(export.inode, size)

    def note(self, inode: int, size: int | None) -> None:
        """Note the size of a file, if that and the file are known."""
        known = self._known.get(inode)
        if known is not None and size is not None:
            known.size = size

    def forget(self, inode: int, times: int) -> None:
        """Count down; inodes that are not those of generated files are none of our business."""
        known = self._known.get(inode)
        if known is not None:
            known.times -= times
            if known.times <= 0:
                del self._known[inode]
