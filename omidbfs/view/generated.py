"""The directory ``.omidbfs/`` in every directory of images: the files that can be made from these images.

Used by ``view``, and by modules that must know this kind of directory. Directories are immutable: any thread may
use them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from omidbfs.cohorts.cohort import Cohort
from omidbfs.exports.formats import BY_FILE
from omidbfs.index.columns import Index
from omidbfs.view.context import Context
from omidbfs.view.inode import export_inode
from omidbfs.view.nodes import OMIDBFS, Directory, Export, Listing


def enter_exports(context: Context, directory: Directory, name: bytes) -> Directory | None:
    """Return the ``.omidbfs/`` of a directory of images; ``None`` for any other name."""
    return ExportsDirectory(*directory.below(name), directory.cohort, directory) if name == OMIDBFS else None


def has_coordinates(context: Context, cohort: Cohort) -> bool:
    """Return whether it is known where each image of a cohort is in the rendition that it shows, if any."""
    return cohort.rendition is None or not cohort.rendition.crops or context.are_measured(cohort)


def number_without_coordinates(context: Context, cohort: Cohort) -> int:
    """Return for how many images of a cohort it is not known where they are in the rendition that it shows."""
    if has_coordinates(context, cohort):
        return 0
    return int(np.count_nonzero(context.geometries.unknown[context.cohorts.rows(cohort)]))


@dataclass(frozen=True, slots=True, eq=False)
class ExportsDirectory(Directory):
    """The files that can be made from the images of ``of``, the directory that contains it."""

    of: Directory

    def lookup(self, context: Context, name: bytes) -> Export | None:
        """Return a file, unless the package that makes it is not installed, or the directory cannot have it."""
        known = BY_FILE.get(name)
        if known is None or not known.is_there():
            return None
        if known.has_coordinates and not has_coordinates(context, self.stands_for):
            return None
        if known.of_client and self.client_shown(context) is None:
            return None
        return Export(export_inode(self.view, self.path + b"/" + name), self, known.name)

    def listing(self, context: Context) -> Listing:
        """Return the files, without making them."""
        return context.looked_up(self, [name for name in BY_FILE if self.lookup(context, name)])

    def lists_at_once(self, context: Context) -> bool:
        """Return whether it is quickly found out which files there are, and so which names are found."""
        cohort = self.stands_for
        return cohort.rendition is None or not cohort.rendition.crops or context.is_shared_at_once(None, cohort)

    @property
    def stands_for(self) -> Cohort:
        """The images for which the directory that contains it stands."""
        return self.of.stands_for

    def client_shown(self, context: Context) -> int | None:
        """Return the client whose directory contains it, if that shows the client's JSON files."""
        return self.of.client_shown(context)

    def image_names(self, index: Index, rows: NDArray[np.integer]) -> list[bytes]:
        """Return the paths of images in the directory that contains it."""
        return self.of.image_names(index, rows)
