"""The things a drive is made of: directories, entries, attributes. Values without behaviour."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

from omidbfs.cohorts.cohort import EVERYTHING, Cohort
from omidbfs.facets import FACETS, Facet


class Shape(Enum):
    """What a directory lists."""

    ROOT = auto()
    FACET = auto()
    """The values of a facet."""
    COHORT = auto()
    """The pairs of a cohort, flat."""
    CLIENT = auto()
    """The real directory of a client, pruned to the cohort."""
    STUDY = auto()
    """The real directory of a study, pruned to the cohort."""
    NAMED = auto()
    """The named cohorts of the configuration."""
    ABOUT = auto()
    """Facts about the mount itself."""
    EXPORTS = auto()
    """The files that can be made of a cohort, which it does not list."""


@dataclass(frozen=True, slots=True, eq=False)
class Directory:
    """A directory: its path from the root, its inode (a hash of the path, so that it survives a remount).

    It holds ordinals and codes of one index, so it belongs to the view that made it, which ``view`` names.
    """

    view: bytes
    path: bytes
    inode: int
    shape: Shape
    cohort: Cohort = EVERYTHING
    facet: Facet = FACETS[0]
    client: int = -1
    study: int = -1


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
