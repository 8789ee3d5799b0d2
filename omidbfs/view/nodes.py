"""The types that make up a view: directories, generated files, entries, attributes, listings.

Used by front ends, and by the modules of each kind of directory. All values are immutable: any thread may use
them.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from itertools import repeat
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from omidbfs.cohorts.cohort import Cohort
from omidbfs.exports.formats import FORMATS
from omidbfs.index.columns import Index
from omidbfs.index.flat_names import flat_names
from omidbfs.view.inode import directory_inode

OMIDBFS = b".omidbfs"
"""The directory of texts about the drive in the root, and of files that can be made from images elsewhere."""


@dataclass(frozen=True, slots=True, eq=False)
class Directory:
    """A directory. Each kind has its own class, which knows its content.

    ``path`` leads to the directory from the root. ``inode`` is a hash of the path, so it survives a remount. The
    directory shows only images of ``cohort``. It has ordinals and codes of one index, so it belongs to the view
    that made it. ``view`` is only the name of that view, because the kernel may know a directory for longer than
    the view exists.

    Only modules in ``view/`` call :meth:`lookup` and :meth:`listing`. All others call a
    :class:`~omidbfs.view.view.View`, which refuses the directories of other views. ``context`` is a
    :class:`~omidbfs.view.context.Context`. This module cannot import it: a context has files, and the entries of
    files are defined here.
    """

    view: bytes
    path: bytes
    inode: int
    cohort: Cohort

    has_images: ClassVar[bool] = False
    """Whether it shows images, and so has the extended attributes of a cohort."""

    def lookup(self, context: Any, name: bytes) -> "Node | None":
        """Return the child with a name; ``None`` if there is none."""
        raise NotImplementedError

    def listing(self, context: Any) -> "Listing":
        """Return the children that are listed."""
        raise NotImplementedError

    def lists_at_once(self, context: Any) -> bool:
        """Return whether :meth:`listing` takes no longer than a few lookups."""
        return True

    @property
    def stands_for(self) -> Cohort:
        """The images for which it stands. A client or study in the path is a term, too."""
        return self.cohort

    def client_shown(self, context: Any) -> int | None:
        """Return the client whose directory it is, if it shows the client's JSON files; otherwise ``None``."""
        return None

    def image_names(self, index: Index, rows: NDArray[np.integer]) -> list[bytes]:
        """Return the paths of images in this directory, without suffixes."""
        return flat_names(index, rows)

    def below(self, name: bytes) -> tuple[bytes, bytes, int]:
        """Return view, path and inode of a subdirectory."""
        path = self.path + b"/" + name if self.path else name
        return self.view, path, directory_inode(path)


@dataclass(frozen=True, slots=True, eq=False)
class Export:
    """A file that is made from a cohort when it is needed.

    ``directory`` is the ``.omidbfs/`` that contains it, and ``format`` the name of its format. The inode differs
    between views, because the content may differ.
    """

    inode: int
    directory: Directory
    format: str

    @property
    def is_archive(self) -> bool:
        """Whether its size is known without making it, and its bytes are those of files of the source."""
        return FORMATS[self.format].archive is not None

    @property
    def view(self) -> bytes:
        """The name of the view to which it belongs, as in :class:`Directory`."""
        return self.directory.view


Node = Directory | Export | int
"""A directory, a generated file, or the inode of any other file."""


class Attributes(NamedTuple):
    """What ``stat`` shows of a node. ``mode`` includes the type, ``size`` is in bytes, and ``mtime`` in ns."""

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
        """What ``stat`` shows of it."""
        return Attributes(*self[1:-1])


new_entry: Callable[[tuple[object, ...]], Entry] = functools.partial(tuple.__new__, Entry)
"""Makes an entry from its fields, in half the time."""


class Columns(NamedTuple):
    """The fields of entries that are files, as arrays: those of :class:`Entry`, which describes them."""

    name: list[bytes]
    inode: NDArray[np.uint64]
    mode: NDArray[np.integer]
    nlink: NDArray[np.integer]
    uid: NDArray[np.integer]
    gid: NDArray[np.integer]
    size: NDArray[np.integer]
    mtime: NDArray[np.int64]

    def entries(self) -> list[Entry]:
        """Return the entries."""
        fields = (self.name, *(column.tolist() for column in self[1:]), repeat(None, len(self.name)))
        return list(map(new_entry, zip(*fields, strict=True)))


def _no_columns(start: int, count: int) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Listing:
    """The entries of a directory at one moment, produced a page at a time: ``page(start, count)``.

    ``columns(start, count)`` returns the same page as columns, in half the time; ``None`` where it cannot.
    """

    length: int
    page: Callable[[int, int], list[Entry]]
    columns: Callable[[int, int], Columns | None] = _no_columns


def joined(first: Listing, second: Listing) -> Listing:
    """Return the entries of one listing followed by those of another."""

    def page(start: int, count: int) -> list[Entry]:
        entries = first.page(start, count) if start < first.length else []
        rest = count - len(entries)
        return entries + (second.page(max(0, start - first.length), rest) if rest else [])

    def columns(start: int, count: int) -> Columns | None:
        return second.columns(start - first.length, count) if start >= first.length else None

    return Listing(first.length + second.length, page, columns)
