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


@dataclass(frozen=True, slots=True, eq=False)
class ExportsDirectory(Directory):
    """The files that can be made from the images of ``of``, the directory that contains it."""

    of: Directory

    def lookup(self, context: Context, name: bytes) -> Export | None:
        """Return a file, unless the package that makes it is not installed."""
        known = BY_FILE.get(name)
        if known is None or not known.is_there():
            return None
        return Export(export_inode(self.view, self.path + b"/" + name), self, known.name)

    def listing(self, context: Context) -> Listing:
        """Return the files, without making them."""
        return context.looked_up(self, [name for name in BY_FILE if self.lookup(context, name)])

    @property
    def stands_for(self) -> Cohort:
        """The images for which the directory that contains it stands."""
        return self.of.stands_for

    def image_names(self, index: Index, rows: NDArray[np.integer]) -> list[bytes]:
        """Return the paths of images in the directory that contains it."""
        return self.of.image_names(index, rows)
