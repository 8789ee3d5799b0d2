"""The directories at the top of a drive: the root, its ``cohorts/``, and its ``.omidbfs/``.

Used by ``view``, and by modules that must know these kinds of directory. Directories are immutable: any thread may
use them.
"""

import os
from dataclasses import dataclass

from omidbfs.view.context import Context
from omidbfs.view.images import CohortDirectory, facet_names
from omidbfs.view.nodes import OMIDBFS, Directory, Listing, Node

_ALL, _COHORTS, _README = b"all", b"cohorts", b"README.txt"


@dataclass(frozen=True, slots=True, eq=False)
class RootDirectory(Directory):
    """The root: all images, facets, named cohorts, and the texts of the drive.

    With a rendition of each image instead of its files it is a directory in the root, which has no texts.
    """

    def lookup(self, context: Context, name: bytes) -> Node | None:
        """Return an entry of the root, or a facet that it does not list."""
        if name == _ALL:
            return CohortDirectory(*self.below(name), self.cohort)
        if name == _COHORTS and context.lists.named:
            return NamedDirectory(*self.below(name), self.cohort)
        if not self.path:
            if name == _README:
                return context.files.texts.inode(name)
            if name == OMIDBFS:  # before the entrances, because in the root it is a different directory
                return AboutDirectory(*self.below(name), self.cohort)
        return context.entered(self, name)

    def listing(self, context: Context) -> Listing:
        """Return its entries, with the facets and cohorts that the configuration chooses."""
        lists = context.lists
        names = [_ALL, *facet_names(lists.facets)]
        if not self.path:
            names = [_README, *names, OMIDBFS]
        return context.looked_up(self, names + [_COHORTS] * bool(lists.named))


@dataclass(frozen=True, slots=True, eq=False)
class NamedDirectory(Directory):
    """``cohorts/``: the cohorts that the configuration names."""

    def lookup(self, context: Context, name: bytes) -> Directory | None:
        """Return a named cohort."""
        named = context.lists.named.get(os.fsdecode(name))
        if named is not None and self.cohort.rendition is not None:
            named = context.renditions.cohort(named, self.cohort.rendition)
        return None if named is None else CohortDirectory(*self.below(name), named)

    def listing(self, context: Context) -> Listing:
        """Return the named cohorts."""
        return context.looked_up(self, [name.encode() for name in context.lists.named])


@dataclass(frozen=True, slots=True, eq=False)
class AboutDirectory(Directory):
    """``.omidbfs/`` in the root: the texts about the drive, except ``README.txt``, which is in the root."""

    def lookup(self, context: Context, name: bytes) -> int | None:
        """Return a text."""
        return context.files.texts.inode(name) if name != _README else None

    def listing(self, context: Context) -> Listing:
        """Return the texts."""
        return context.looked_up(self, [name for name in context.files.texts.names if name != _README])
