"""What the directories of one view share: the index, the files, and functions that make entries and listings.

Made by ``view``, and used by each kind of directory. Immutable, except for the arrays of open listings. Any thread
may use it.
"""

import stat
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from omidbfs.cohorts.cohort import Cohort, Cohorts
from omidbfs.database.permissions import Access
from omidbfs.index.columns import Index, blocks
from omidbfs.index.measured import Geometries
from omidbfs.view.files import Files
from omidbfs.view.inode import is_rendition
from omidbfs.view.nodes import Attributes, Directory, Entry, Export, Listing, Node
from omidbfs.view.renditions import Renditions
from omidbfs.view.root import Root

_FEW = 1 << 16
"""A number of images whose rows are gathered, and whose codes are counted, in 1 ms."""

_ANSWERS = 64
"""The number of cohorts of which it is remembered whether they have been measured."""

Enter = Callable[["Context", Directory, bytes], Directory | None]
"""Returns the directory to which a name leads in a directory of images; ``None`` if it leads nowhere."""


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """What the directories of one view share.

    ``entrances`` maps the beginning of a name to the function that looks up such names, in the root and in every
    directory of images. These names need not be listed. ``access`` is the access to directories, and ``quoting``
    the access to generated files. The other fields are those of :class:`~omidbfs.view.view.View`.
    """

    index: Index
    cohorts: Cohorts
    lists: Root
    files: Files
    renditions: Renditions
    geometries: Geometries
    access: Access
    quoting: Access
    entrances: Mapping[bytes, Enter]
    list_nested: bool
    list_empty: bool
    are_measured: Callable[[Cohort], bool] = field(init=False)
    """Returns whether each image of a cohort has been measured."""
    _beginnings: tuple[bytes, ...] = field(init=False)
    _shared: WeakValueDictionary[Hashable, NDArray[np.integer]] = field(
        init=False, default_factory=WeakValueDictionary
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "_beginnings", tuple(self.entrances))
        # Each lookup in .omidbfs/ asks, and the answer takes up to 10 ms for 3 million images.
        asked = lru_cache(_ANSWERS)(partial(_are_measured, self.cohorts, self.geometries))
        object.__setattr__(self, "are_measured", asked)

    def entered(self, directory: Directory, name: bytes) -> Directory | None:
        """Return the directory to which a name leads in the root and in every directory of images, or ``None``."""
        # All beginnings at once: most names are names of files, and a loop over the table takes 0.4 us longer.
        if name.startswith(self._beginnings):
            for beginning, enter in self.entrances.items():
                if name.startswith(beginning) and (found := enter(self, directory, name)):
                    return found
        return None

    # Entries

    def attributes(self, directory: Directory) -> Attributes:
        """Return the attributes of a directory. The link count 1 means that subdirectories are not counted."""
        access = self.access
        mode = stat.S_IFDIR | access.mode
        return Attributes(directory.inode, mode, 1, access.uid, access.gid, 0, self.index.newest)

    def export_attributes(self, export: Export, size: int) -> Attributes:
        """Return the attributes of a generated file with a size in bytes."""
        access = self.quoting
        mode = stat.S_IFREG | access.mode
        return Attributes(export.inode, mode, 1, access.uid, access.gid, size, self.index.newest)

    def entry(self, name: bytes, node: Node) -> Entry:
        """Return the entry of a child."""
        if isinstance(node, Directory):
            return Entry(name, *self.attributes(node), node)
        if isinstance(node, Export):  # its size is unknown before it is made
            return Entry(name, *self.export_attributes(node, 0), None)
        attributes = self.renditions.attributes(node) if is_rendition(node) else self.files.attributes(node)
        assert attributes is not None, "a node that was just found is current"
        return Entry(name, *attributes, None)

    # Listings

    def looked_up(
        self, directory: Directory, keys: Any, names_of: Callable[[Any], Iterable[bytes]] = iter
    ) -> Listing:
        """Return a listing of the names of ``keys``. Each entry comes from a lookup, so they cannot disagree."""

        def entry(name: bytes) -> Entry:
            node = directory.lookup(self, name)
            assert node is not None, "a listed name is found"
            return self.entry(name, node)

        return Listing(
            len(keys), lambda start, count: [entry(name) for name in names_of(keys[start : start + count])]
        )

    def shared(self, key: Hashable, make: Callable[[], NDArray[np.integer]]) -> NDArray[np.integer]:
        """Return the array that ``make`` returns. All open listings with the same key share one array."""
        known = self._shared.get(key)
        if known is None:
            known = self._shared[key] = make()
        return known

    def is_shared_at_once(self, key: Hashable, cohort: Cohort) -> bool:
        """Return whether :meth:`shared` takes no longer than a few lookups, for an array made from a cohort."""
        return len(self.index) <= _FEW or key in self._shared or self.cohorts.are_at_hand(cohort, _FEW)


def _are_measured(cohorts: Cohorts, geometries: Geometries, cohort: Cohort) -> bool:
    rows, unknown = cohorts.rows(cohort), geometries.unknown
    return not any(unknown[rows[part]].any() for part in blocks(len(rows)))
