"""What the directories of one view share: the index, the files, and how entries and listings of them are made.

Used by each kind of directory, and made by ``view``. Immutable but for the listings that are open; any thread may
use it.
"""

import stat
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from omidbfs.cohorts.cohort import Cohort, Cohorts
from omidbfs.database.permissions import Access
from omidbfs.index.columns import Index
from omidbfs.view.files import Files
from omidbfs.view.nodes import Attributes, Directory, Entry, Export, Listing, Node
from omidbfs.view.root import Root

_FEW = 1 << 16
"""Images, of which the rows are gathered and the codes counted in 1 ms."""

Enter = Callable[["Context", Directory, bytes], Directory | None]
"""Returns the directory that a name leads to in a directory of images, ``None`` if it leads nowhere."""


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """What the directories of one view share.

    ``entrances`` are what the root and every directory of images can be entered by, listed or not: by how a name
    begins, the functions that know such names.
    ``access`` is that of directories, ``quoting`` that of generated files. The other fields are as of
    :class:`~omidbfs.view.view.View`.
    """

    index: Index
    cohorts: Cohorts
    lists: Root
    files: Files
    access: Access
    quoting: Access
    entrances: Mapping[bytes, Enter]
    list_nested: bool
    list_empty: bool
    _beginnings: tuple[bytes, ...] = field(init=False)
    _shared: WeakValueDictionary[Hashable, NDArray[np.integer]] = field(
        init=False, default_factory=WeakValueDictionary
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "_beginnings", tuple(self.entrances))

    def entered(self, directory: Directory, name: bytes) -> Directory | None:
        """Return what a name leads to in the root and in any directory of images; ``None``: nothing like that."""
        # All beginnings at once: most names are those of files, and going through the table takes 0.4 us longer.
        if name.startswith(self._beginnings):
            for beginning, enter in self.entrances.items():
                if name.startswith(beginning) and (found := enter(self, directory, name)):
                    return found
        return None

    # Entries

    def attributes(self, directory: Directory) -> Attributes:
        """Return the attributes of a directory; its link count of 1 says that it is not counted."""
        access = self.access
        mode = stat.S_IFDIR | access.mode
        return Attributes(directory.inode, mode, 1, access.uid, access.gid, 0, self.index.newest)

    def export_attributes(self, export: Export, size: int) -> Attributes:
        """Return the attributes of a generated file whose content has a size."""
        access = self.quoting
        mode = stat.S_IFREG | access.mode
        return Attributes(export.inode, mode, 1, access.uid, access.gid, size, self.index.newest)

    def entry(self, name: bytes, node: Node) -> Entry:
        """Return the entry of a child."""
        if isinstance(node, Directory):
            return Entry(name, *self.attributes(node), node)
        if isinstance(node, Export):  # its size is known to nobody before it is made
            return Entry(name, *self.export_attributes(node, 0), None)
        attributes = self.files.attributes(node)
        assert attributes is not None, "what was just found is current"
        return Entry(name, *attributes, None)

    # Listings

    def looked_up(
        self, directory: Directory, keys: Any, names_of: Callable[[Any], Iterable[bytes]] = iter
    ) -> Listing:
        """Return a listing of names that lookup answers, so that the two cannot disagree: those of ``keys``."""

        def entry(name: bytes) -> Entry:
            node = directory.lookup(self, name)
            assert node is not None, "a listed name is found"
            return self.entry(name, node)

        return Listing(
            len(keys), lambda start, count: [entry(name) for name in names_of(keys[start : start + count])]
        )

    def shared(self, key: Hashable, make: Callable[[], NDArray[np.integer]]) -> NDArray[np.integer]:
        """Return what ``make`` gives, the same for all listings that have a key, as long as there is one."""
        known = self._shared.get(key)
        if known is None:
            known = self._shared[key] = make()
        return known

    def is_shared_at_once(self, key: Hashable, cohort: Cohort) -> bool:
        """Return whether :meth:`shared` takes no longer than a few lookups, for what is made of a cohort."""
        return len(self.index) <= _FEW or key in self._shared or self.cohorts.are_at_hand(cohort, _FEW)
