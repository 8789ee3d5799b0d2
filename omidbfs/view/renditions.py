"""The renditions of a view: the sizes, inodes and attributes of ``as-<rendition>``, without opening a file.

Used by views, by the readers of renditions, and by the comparison of views. Any thread may call every method.

An image has a rendition if its pixel format has one (:func:`~omidbfs.pixels.sizes.size_of`). An index has few
distinct formats. So the sizes of a rendition are a small table, and those of images are looked up in it.

The inode of a rendition has a hash of its definition, and a version: a hash of the size and time of the DICOM
file, and of all else that decides the bytes. The drive remembers the definitions only.
"""

import stat
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from omidbfs.base.names import digest
from omidbfs.cohorts.cohort import Cohort, Term
from omidbfs.cohorts.rendered import NONE, sizes_in, terms_of
from omidbfs.database.file_kinds import DCM
from omidbfs.database.pixel_format import PixelFormat
from omidbfs.database.records import FileFacts
from omidbfs.index.columns import Index
from omidbfs.index.flat_names import flat_names
from omidbfs.index.identity import NOBODY
from omidbfs.pixels.rendition import Configured, Rendition
from omidbfs.pixels.sizes import RENDITION_IDENTITIES, keeps_renditions, size_of
from omidbfs.view.files import Files
from omidbfs.view.inode import (
    RenditionFields,
    all_rendition_inodes,
    image_key,
    is_rendition,
    rendition_fields,
    rendition_hash,
    rendition_inode,
    rendition_version,
    versioned,
)
from omidbfs.view.nodes import Attributes, Columns, Entry
from omidbfs.view.root import Links

_TABLES = 64
"""The number of renditions whose sizes are kept."""

_SIDES = {None: 0, "left": 1, "right": 2}


@dataclass(frozen=True, slots=True)
class Found:
    """A rendition of an image: the file that an inode stands for.

    ``source`` is the inode of the DICOM file, and ``size`` in bytes. ``format`` and
    ``chest_wall_side`` are what is known of the image. ``facts`` are those of the rendition: its size, time, mode
    and owner.
    """

    row: int
    rendition: Rendition
    size: int
    source: int
    format: PixelFormat
    chest_wall_side: str | None
    facts: FileFacts


@dataclass(frozen=True, slots=True)
class _Learned:
    """How the pixels of a DICOM file with this size and time are stored."""

    version: tuple[int, int]
    format: PixelFormat


@dataclass(frozen=True, slots=True)
class _Table:
    """What is known of a rendition in one index.

    ``sizes`` (int64) has the bytes for each of ``Index.pixel_formats``, or -1. ``number`` is the hash of name and
    definition. ``mtime`` is the time of the definition in ns, and ``salt`` a hash of both that is below 2^56.
    ``terms`` are those of the images that have the rendition.
    """

    rendition: Rendition
    number: int
    salt: int
    mtime: int
    sizes: NDArray[np.int64]
    terms: tuple[Term, ...]


class Renditions:
    """The renditions of the images of one index.

    Parameters
    ----------
    files
        The files of the same view.
    links
        The link counts of rows.
    configured
        The renditions that the configuration defines.
    """

    def __init__(self, index: Index, files: Files, links: Links, configured: Configured) -> None:
        self._index, self._files, self._links, self._configured = index, files, links, configured
        self._tables: dict[str, _Table] = {}
        self._by_number: dict[int, Rendition] = {}
        self._learned: dict[int, _Learned] = {}
        self.updates = 0
        """How often :meth:`learn` has recorded something. Pages of entries from before have outdated inodes."""
        self._sides = np.array([_SIDES[one.chest_wall_side] for one in index.orientations], np.uint64)

    def continue_from(self, old: "Renditions") -> None:
        """Take over the definitions that have an inode in the view before, and what it has learned of files."""
        self._by_number = old._by_number
        self._learned = old._learned

    # What a file says of itself

    def learn(self, row: int, rendition: Rendition, format: PixelFormat) -> bool:
        """Record how the pixels of a DICOM file are stored, which contradicts the index.

        From then on the renditions of the image have the sizes that follow, and so other inodes, until the file
        changes. Return ``False``, and record nothing, if that gives ``rendition`` no other size, or if the image
        would lose a rendition, because directories list it by the index.
        """
        by_index = self._index.pixel_formats[self._index.format_of.item(row)]
        same = (None, self._size(self._known(rendition), row))
        if not keeps_renditions(format, by_index) or size_of(rendition, format) in same:
            return False
        self._learned[self._index.identity.item(row)] = _Learned(self._version_of(row), format)
        self.updates += 1
        return True

    def learned_rows(self) -> NDArray[np.uint32]:
        """Return the images of which :meth:`learn` has recorded something."""
        # list() copies the keys in one step: this may run in a thread while the loop records another image.
        identities = np.array(list(self._learned), np.int64)
        rows = self._index.row_of[identities[identities < len(self._index.row_of)]]
        found: NDArray[np.uint32] = rows[rows != NOBODY]
        return found

    def _version_of(self, row: int) -> tuple[int, int]:
        facts = self._files.facts_of_image(row, DCM)
        return facts.size, facts.mtime_ns

    def _format(self, row: int) -> PixelFormat:
        """Return how the pixels of an image are stored, by its file if that was learned, else by the index."""
        learned = self._learned.get(self._index.identity.item(row))
        if learned is not None and learned.version == self._version_of(row):
            return learned.format
        return self._index.pixel_formats[self._index.format_of.item(row)]

    def _size(self, table: _Table, row: int) -> int:
        size: int = table.sizes.item(self._index.format_of.item(row))
        if size == NONE or self._index.identity.item(row) not in self._learned:
            return size
        return size_of(table.rendition, self._format(row)) or NONE

    # Definitions

    def named(self, name: str) -> Rendition | None:
        """Return the rendition with a name; ``None`` if there is none.

        The first rendition with a hash of 16 bits takes it. Others with this hash are not found.
        """
        rendition = self._configured.named(name)
        return None if rendition is None or self._table(rendition) is None else rendition

    def cohort(self, cohort: Cohort, rendition: Rendition) -> Cohort:
        """Return the images of a cohort that have a rendition, which :meth:`named` has returned."""
        return cohort.rendered(rendition, self._known(rendition).terms)

    def _known(self, rendition: Rendition) -> _Table:
        table = self._table(rendition)
        assert table is not None, "a directory has renditions of its own view"
        return table

    def _table(self, rendition: Rendition) -> _Table | None:
        known = self._tables.get(rendition.name)
        if known is not None:
            return known
        text = b"%b %b" % (rendition.name.encode(), rendition.text)
        number = rendition_hash(text)
        if self._by_number.setdefault(number, rendition) != rendition:
            if self._configured.named(self._by_number[number].name) == self._by_number[number]:
                return None
            self._by_number[number] = rendition  # what had the hash is defined no more
        table = self._made(rendition, number)
        while len(self._tables) >= _TABLES:
            self._tables.pop(next(iter(list(self._tables))), None)
        self._tables[rendition.name] = table
        return table

    def _made(self, rendition: Rendition, number: int) -> _Table:
        index, mtime = self._index, self._configured.time_of(rendition)
        salt = int(digest(b"%d %b" % (mtime, rendition.text))[:14], 16)
        sizes = sizes_in(index, rendition)
        return _Table(rendition, number, salt, mtime, sizes, tuple(terms_of(index, sizes)))

    # Files

    def inode(self, row: int, rendition: Rendition) -> int | None:
        """Return the inode of the rendition of an image; ``None`` if the image does not have it."""
        table, index = self._known(rendition), self._index
        identity, size = index.identity.item(row), self._size(table, row)
        if size == NONE or identity >= RENDITION_IDENTITIES or not index.has_file(row, DCM):
            return None
        return self._inode(table, row, size, self._files.facts_of_image(row, DCM))

    def are_there(self, rows: NDArray[np.integer], rendition: Rendition) -> NDArray[np.bool_]:
        """Return which of some images have a rendition."""
        index, sizes = self._index, self._known(rendition).sizes
        has = (sizes[index.format_of[rows]] != NONE) & (index.files[DCM].access[rows] != 0)
        found: NDArray[np.bool_] = has & (index.identity[rows] < RENDITION_IDENTITIES)
        return found

    def _inode(self, table: _Table, row: int, size: int, facts: FileFacts) -> int:
        index = self._index
        side = self._sides.item(index.orientation_of.item(row))
        version = rendition_version(facts.size, facts.mtime_ns, size, table.salt + side)
        return rendition_inode(RenditionFields(index.identity.item(row), table.number, version))

    def found(self, inode: int) -> Found | None:
        """Return the file of an inode; ``None`` if it is gone, has another version, or is no rendition."""
        found = self._found(inode)
        if found is None:
            return None
        row, table, facts = found
        source = versioned(image_key(self._index.identity.item(row), DCM), facts)
        size, side = self._size(table, row), self._index.chest_wall_side(row)
        own = FileFacts(size, max(facts.mtime_ns, table.mtime), facts.mode, facts.uid, facts.gid)
        return Found(row, table.rendition, size, source, self._format(row), side, own)

    def _found(self, inode: int) -> tuple[int, _Table, FileFacts] | None:
        place = self._place(inode)
        if place is None or self._configured.named(place[1].name) != place[1] or self.inode(*place) != inode:
            return None
        row, rendition = place
        return row, self._known(rendition), self._files.facts_of_image(row, DCM)

    def _place(self, inode: int) -> tuple[int, Rendition] | None:
        """Return the image and the rendition of an inode of any version; ``None`` for any other inode."""
        if not is_rendition(inode):
            return None
        identity, number, _ = rendition_fields(inode)
        rows, rendition = self._index.row_of, self._by_number.get(number)
        row = rows.item(identity) if identity < len(rows) else NOBODY
        return None if row == NOBODY or rendition is None else (row, rendition)

    def names(self, inode: int) -> tuple[bytes, ...]:
        """Return the names of a rendition, of any version, in flat cohorts and in studies; none if it is gone."""
        place = self._place(inode)
        source = None if place is None else self._files.image(place[0], DCM)
        if place is None or source is None:
            return ()
        return tuple(name.removesuffix(DCM.suffix) + place[1].suffix for name in self._files.names(source))

    def definition(self, rendition: Rendition) -> tuple[Rendition, int]:
        """Return a rendition with the time of its definition: all that its inodes depend on, beside the image."""
        return rendition, self._configured.time_of(rendition)

    def attributes(self, inode: int) -> Attributes | None:
        """Return the attributes of a rendition; ``None`` if it is gone or has another version."""
        found = self._found(inode)
        return None if found is None else self._attributes(inode, *found)

    def _attributes(self, inode: int, row: int, table: _Table, facts: FileFacts) -> Attributes:
        size, links = self._size(table, row), self._links.item(row)
        mtime = max(facts.mtime_ns, table.mtime)
        return Attributes(inode, stat.S_IFREG | facts.mode, links, facts.uid, facts.gid, size, mtime)

    # Listing

    def inodes(self, rows: NDArray[np.integer], rendition: Rendition) -> NDArray[np.uint64]:
        """Return the inodes of the renditions of images, which must have it, by the index alone."""
        table, index, sources = self._known(rendition), self._index, self._index.files[DCM]
        return all_rendition_inodes(
            index.identity[rows],
            table.number,
            sources.size[rows],
            sources.mtime[rows],
            table.sizes[index.format_of[rows]],
            self._sides[index.orientation_of[rows]] + np.uint64(table.salt),
        )

    def page(self, rows: NDArray[np.integer], rendition: Rendition, *, flat: bool) -> list[Entry]:
        """Return the entries of the renditions of images, which must have it."""
        page = self._columns(rows, rendition, flat=flat).entries() if len(rows) else []
        files, learned = self._files, self._learned
        if files.updates or learned:
            table, identities = self._known(rendition), self._index.identity[rows].tolist()
            page = [
                self._anew(entry, row, table)
                if identity in learned or files.is_found_changed(image_key(identity, DCM))
                else entry
                for entry, row, identity in zip(page, rows.tolist(), identities, strict=True)
            ]
        return page

    def columns(self, rows: NDArray[np.integer], rendition: Rendition, *, flat: bool) -> Columns | None:
        """Return the entries as :meth:`page` does, as columns; ``None`` if the index alone does not tell them."""
        is_known = len(rows) and not self._files.updates and not self._learned
        return self._columns(rows, rendition, flat=flat) if is_known else None

    def _columns(self, rows: NDArray[np.integer], rendition: Rendition, *, flat: bool) -> Columns:
        table, index = self._known(rendition), self._index
        sources, suffix = index.files[DCM], rendition.suffix
        names = flat_names(index, rows) if flat else index.images.take(rows)
        modes, uids, gids = self._files.rights(sources.access[rows])
        return Columns(
            [name + suffix for name in names],
            self.inodes(rows, rendition),
            modes,
            self._links.of(rows),
            uids,
            gids,
            table.sizes[index.format_of[rows]],
            np.maximum(sources.mtime[rows], table.mtime),
        )

    def _anew(self, entry: Entry, row: int, table: _Table) -> Entry:
        facts = self._files.facts_of_image(row, DCM)
        inode = self._inode(table, row, self._size(table, row), facts)
        return Entry(entry.name, *self._attributes(inode, row, table, facts), None)
