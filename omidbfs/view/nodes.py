"""The things a drive is made of: directories, entries, attributes.

Used by whatever shows a drive, and by the modules of each kind of directory. All are immutable values: any thread
may use them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from omidbfs.cohorts.cohort import Cohort
from omidbfs.index.columns import Index
from omidbfs.index.flat_names import flat_names
from omidbfs.view.inode import directory_inode

OMIDBFS = b".omidbfs"
"""In the root the texts about the drive; in each directory of images the files that can be made of them."""


@dataclass(frozen=True, slots=True, eq=False)
class Directory:
    """A directory. Each kind is a class of its own, which knows what is in it.

    ``path`` leads to it from the root; ``inode`` is a hash of the path, so that it survives a remount. What it
    shows is pruned to ``cohort``. It holds ordinals and codes of one index, so it belongs to the view that made
    it. ``view`` names that view and does not hold it: the kernel may know a directory for longer than the view
    lasts.

    Only ``view/`` calls :meth:`lookup` and :meth:`listing`. All others ask a :class:`~omidbfs.view.view.View`,
    which refuses the directories of other views. ``context`` is a :class:`~omidbfs.view.context.Context`, which
    this module cannot import: a context has files, and the entries of files are defined here.
    """

    view: bytes
    path: bytes
    inode: int
    cohort: Cohort

    has_images: ClassVar[bool] = False
    """Whether it shows images themselves, and so has the extended attributes of a cohort."""

    def lookup(self, context: Any, name: bytes) -> "Node | None":
        """Return the child of a name."""
        raise NotImplementedError

    def listing(self, context: Any) -> "Listing":
        """Return the children that are listed."""
        raise NotImplementedError

    def lists_at_once(self, context: Any) -> bool:
        """Return whether :meth:`listing` takes no longer than a few lookups."""
        return True

    @property
    def stands_for(self) -> Cohort:
        """The images that it stands for: a place in the real tree is a term like others."""
        return self.cohort

    def image_names(self, index: Index, rows: NDArray[np.integer]) -> list[bytes]:
        """Return the paths in it of images, less their suffixes."""
        return flat_names(index, rows)

    def below(self, name: bytes) -> tuple[bytes, bytes, int]:
        """Return view, path and inode of a directory in it."""
        path = self.path + b"/" + name if self.path else name
        return self.view, path, directory_inode(path)


@dataclass(frozen=True, slots=True, eq=False)
class Export:
    """A file that is made of a cohort when somebody asks for it.

    ``directory`` is the ``.omidbfs/`` that it is in, ``format`` the name of what it is made as; the inode is
    another one in every view, as the content may be.
    """

    inode: int
    directory: Directory
    format: str

    @property
    def view(self) -> bytes:
        """The name of the view that it belongs to, as of :class:`Directory`."""
        return self.directory.view


Node = Directory | Export | int
"""A directory, a generated file, or the inode of any other file."""


class Attributes(NamedTuple):
    """What ``stat`` says of a node; ``mode`` includes the type, ``size`` in bytes, ``mtime`` in ns."""

    inode: int
    mode: int
    nlink: int
    uid: int
    gid: int
    size: int
    mtime: int


class Entry(NamedTuple):
    """One line of a listing: a name, the fields of :class:`Attributes`; ``directory`` is ``None`` for a file."""

    name: bytes
    inode: int
    mode: int
    nlink: int
    uid: int
    gid: int
    size: int
    mtime: int
    directory: Directory | None

    @property
    def attributes(self) -> Attributes:
        """What ``stat`` says of it."""
        return Attributes(*self[1:-1])


@dataclass(frozen=True, slots=True)
class Listing:
    """The entries of a directory at one moment, produced a page at a time: ``page(start, count)``."""

    length: int
    page: Callable[[int, int], list[Entry]]


def joined(first: Listing, second: Listing) -> Listing:
    """Return the entries of one listing followed by those of another."""

    def page(start: int, count: int) -> list[Entry]:
        entries = first.page(start, count) if start < first.length else []
        rest = count - len(entries)
        return entries + (second.page(max(0, start - first.length), rest) if rest else [])

    return Listing(first.length + second.length, page)
