"""The directories and generated files that the kernel knows, by inode. All other inodes describe themselves.

Used by the handlers, in their loop, except for :meth:`Directories.in_view`, which any thread may call. Each
look-up compares with the view that the drive shows, so these tables need no message when the view is replaced.
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
    """Counts how often the kernel was told of each directory. At zero the directory is forgotten.

    When the view has been replaced, a directory is found again by its path at its next use. A directory refers to
    its view only by name, so a directory that the kernel never forgets does not keep an old index in memory.
    """

    def __init__(self, drive: Drive) -> None:
        self._drive = drive
        self._known: dict[int, tuple[Directory, int]] = {}

    def paths(self) -> list[bytes]:
        """Return the paths of the directories that the kernel knows, without the root."""
        return [directory.path for directory, _ in self._known.values()]

    def in_view(self, view: View) -> Iterator[Directory]:
        """Return the known directories as they are in a view, without the root and those that the view lacks.

        There may be a million. Any thread may iterate over them.
        """
        known = list(self._known.values())
        found = (one if view.has_made(one) else view.resolve(one.path) for one, _ in known)
        return (directory for directory in found if directory is not None)

    def get(self, inode: int) -> Directory | None:
        """Return the directory of an inode; ``None`` if it is a file, was forgotten, or is gone from the view."""
        view, known = self._drive.view, self._known.get(inode)
        if known is None:
            return view.root if inode == ROOT_INODE else None
        directory, times = known
        if directory.view != view.name:
            found = view.resolve(directory.path)
            if found is None:
                return None
            directory = found
            self._known[inode] = (directory, times)
        return directory

    def told(self, directory: Directory) -> None:
        """Count that the kernel was told of a directory, which may be of an earlier view.

        Raises
        ------
        OSError
            EIO: another path has the same inode. The chance is 1 in 10^18. The kernel must not confuse them.
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
        """Subtract from the count of a directory; other inodes are ignored.

        If the kernel forgets a directory more often than it was told of it, that is a defect. It is logged.
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
    """A generated file: how often the kernel was told of it, and its size as soon as it has been made."""

    __slots__ = ("export", "size", "times")

    def __init__(self, export: Export) -> None:
        self.export = export
        self.times = 0
        self.size: int | None = None


class Generated:
    """The generated files that the kernel knows, and their sizes.

    A size is kept until the kernel forgets the file. If it were told another size, it would truncate its pages.
    """

    def __init__(self, drive: Drive) -> None:
        self._drive = drive
        self._known: dict[int, _Generated] = {}

    def get(self, inode: int) -> Export | None:
        """Return the file of an inode; ``None`` if the kernel does not know it, or the view has been replaced."""
        known = self._known.get(inode)
        return known.export if known is not None and self._drive.view.has_made(known.export) else None

    def size(self, inode: int) -> int | None:
        """Return the size that the kernel was told; ``None`` if the file has not been made."""
        known = self._known.get(inode)
        return None if known is None else known.size

    def told(self, export: Export) -> None:
        """Count that the kernel was told of a file."""
        self._known.setdefault(export.inode, _Generated(export)).times += 1

    def note(self, inode: int, size: int) -> None:
        """Note the size of a file, if the kernel knows the file."""
        known = self._known.get(inode)
        if known is not None:
            known.size = size

    def forget(self, inode: int, times: int) -> None:
        """Subtract from the count of a generated file; other inodes are ignored."""
        known = self._known.get(inode)
        if known is not None:
            known.times -= times
            if known.times <= 0:
                del self._known[inode]
