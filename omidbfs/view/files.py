"""The files of a drive: the meaning of each inode, its attributes, and the place of its bytes.

Used by views, by the readers of files, and by the comparison of views. Any thread may read. Only the loop of a
drive calls ``update``.

The inode of a file identifies one of the two files of an image, a document of a client, or a generated text. It
also contains a *version*: 24 bits of a hash of size and time. So a replaced file has another inode. Programs
that have the old file open go on reading its bytes, and the kernel can never mix the two. ``inode`` defines the
bits.
"""

import functools
import stat
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from omidbfs.database.file_kinds import FILE_KINDS, FileKind, Tree
from omidbfs.database.permissions import Access, no_more_than
from omidbfs.database.records import FileFacts
from omidbfs.index.columns import Index, blocks
from omidbfs.index.flat_names import flat_name, flat_names
from omidbfs.index.identity import NOBODY
from omidbfs.pixels.rendition import Rendition
from omidbfs.view.inode import (
    IMAGE,
    KEY,
    all_versioned,
    document_key,
    identity_and_part,
    image_key,
    image_keys,
    is_source,
    versioned,
)
from omidbfs.view.nodes import Attributes, Columns, Entry
from omidbfs.view.ownership import Ownership
from omidbfs.view.root import Links
from omidbfs.view.texts import Content, Texts

_Found = tuple[tuple[int, int], FileFacts]
"""The place of a source file, as :meth:`Files._place` returns it, and its facts."""


class Files:
    """The files over one index.

    Immutable, except for :meth:`update`, which records that a source file was found changed, and for texts.

    Parameters
    ----------
    access
        The access to texts about the drive.
    quoting
        The access to texts that quote the source.
    generated
        Name -> content of the generated texts. Each content is looked up once, when it is needed.
    links
        The link counts of rows.
    links_to
        The directories of the two trees, (images, data), if files are to be symbolic links into them.
    ownership
        Replaces the owners and modes of the source.
    """

    def __init__(
        self,
        index: Index,
        access: Access,
        quoting: Access,
        generated: Mapping[str, Content],
        links: Links,
        links_to: tuple[bytes, bytes] | None = None,
        ownership: Ownership | None = None,
    ) -> None:
        self._index = index
        self._ownership = ownership or Ownership()
        self._accesses = [self._ownership.shown(*access) for access in index.accesses]
        self.texts = Texts(generated, access, quoting)
        self._links_to = links_to
        self._links = links
        self._modes_and_owners = np.array(self._accesses, np.int64).T | [[stat.S_IFREG], [0], [0]]
        self._changed: dict[int, FileFacts] = {}
        self._last: tuple[int, int, _Found] = (-1, -1, ((0, 0), FileFacts(0, 0, 0, 0, 0)))
        """The file that was found last, with its inode and the number of updates at that time.

        After the lookup of a name, its attributes are asked for, and then the file is opened.
        """
        self.updates = 0
        """How often a file was found changed. Pages of entries from before may have outdated inodes."""

    def prepare(self) -> None:
        """Make link counts, texts and the total size, so that no request has to wait for them."""
        self._links.count_all()
        self.texts.prepare()
        self.size  # noqa: B018  a cached property

    @functools.cached_property
    def size(self) -> int:
        """The bytes of all source files, each counted once, in blocks of 512 as in ``du``."""
        columns = (*self._index.files, self._index.documents)
        return sum(_disk_size(one.size.reshape(-1)) for one in columns)

    # Inodes

    def image(self, row: int, kind: FileKind) -> int | None:
        """Return the inode of a file of an image; ``None`` if there is no such file."""
        index, number = self._index, kind.number
        # item() gives a Python int at once: half the time of int() of a numpy scalar, in every lookup and open.
        if not index.files[number].access.item(row):
            return None
        updates, key, place = self.updates, image_key(index.identity.item(row), kind), (row, number)
        facts = self._facts(key, place)
        inode = versioned(key, facts)
        self._last = inode, updates, (place, facts)
        return inode

    def images(self, rows: NDArray[np.integer], kind: FileKind) -> NDArray[np.uint64]:
        """Return the inodes of files of one kind, by size and time in the index. The files must exist."""
        columns = self._index.files[kind]
        return all_versioned(
            image_keys(self._index.identity[rows], kind.number), columns.size[rows], columns.mtime[rows]
        )

    def facts_of_image(self, row: int, kind: FileKind) -> FileFacts:
        """Return the facts of a file of an image, which must exist."""
        return self._facts(image_key(self._index.identity.item(row), kind), (row, kind.number))

    def document(self, client: int, slot: int) -> int | None:
        """Return the inode of an NBSS or ImageDB file; ``None`` if the client has no such file."""
        if not self._index.documents.access.item(client, slot):
            return None
        return self._inode(document_key(self._index.client_identity.item(client), slot))

    def _inode(self, key: int) -> int:
        return versioned(key, self._facts(key))

    def _place(self, key: int) -> tuple[int, int] | None:
        """Return (row, kind) of a file of an image, or (client, slot) of a document; ``None`` if it is gone.

        ``key`` may also be any inode of the file.
        """
        identity, part = identity_and_part(key)
        inverse = self._index.row_of if key & IMAGE else self._index.client_ordinal
        place = inverse.item(identity) if identity < len(inverse) else NOBODY
        return None if place == NOBODY else (place, part)

    # Attributes and contents

    def attributes(self, inode: int) -> Attributes | None:
        """Return the attributes of a file; ``None`` if it is gone or has another version."""
        found = self._found(inode)
        if found is not None:
            return self._attributes(inode, *found)
        content = self.texts.content(inode)
        if content is None:
            return None
        access = self.texts.access(inode)
        mode = stat.S_IFREG | access.mode & 0o444
        return Attributes(inode, mode, 1, access.uid, access.gid, len(content), self._index.newest)

    def _attributes(self, inode: int, place: tuple[int, int], facts: FileFacts) -> Attributes:
        links = self._links.item(place[0]) if inode & IMAGE else 1
        if self._links_to is not None:
            size, mode = len(self.link_target(inode)), stat.S_IFLNK | 0o777
            return Attributes(inode, mode, links, facts.uid, facts.gid, size, facts.mtime_ns)
        mode = stat.S_IFREG | facts.mode
        return Attributes(inode, mode, links, facts.uid, facts.gid, facts.size, facts.mtime_ns)

    def attributes_as_opened(self, inode: int, facts: FileFacts) -> Attributes:
        """Return the attributes of a file that was opened with ``facts``, even if it was replaced or removed."""
        mode = stat.S_IFREG | facts.mode
        return Attributes(inode, mode, 1, facts.uid, facts.gid, facts.size, facts.mtime_ns)

    def facts(self, inode: int) -> FileFacts | None:
        """Return the facts of a source file; ``None`` if it is gone or has another version."""
        found = self._found(inode)
        return None if found is None else found[1]

    def _found(self, inode: int) -> _Found | None:
        """Return place and facts of a source file; ``None`` if it is gone or has another version."""
        last, updates = self._last, self.updates
        if last[0] == inode and last[1] == updates:
            return last[2]
        place = self._place(inode) if is_source(inode) else None
        if place is None:
            return None
        key = inode & KEY
        facts = self._facts(key, place)
        if versioned(key, facts) != inode:
            return None
        self._last = inode, updates, (place, facts)
        return self._last[2]

    def current(self, inode: int) -> int | None:
        """Return the current inode of the source file of an inode; ``None`` if there is no such file."""
        if self._found(inode) is not None:
            return inode
        return self._inode(inode & KEY) if is_source(inode) and self._place(inode) is not None else None

    def _facts(self, key: int, place: tuple[int, int] | None = None) -> FileFacts:
        changed = self._changed.get(key)
        if changed is not None:
            return changed
        index, place = self._index, place or self._place(key)
        assert place is not None
        where: tuple[int, ...] = place
        if key & IMAGE:
            columns, where = index.files[place[1]], place[:1]
        else:
            columns = index.documents
        mode, uid, gid = self._accesses[columns.access.item(*where)]
        return FileFacts(columns.size.item(*where), columns.mtime.item(*where), mode, uid, gid)

    def place(self, inode: int) -> tuple[int, FileKind | None] | None:
        """Return (row, kind) of a file of an image, or (client, ``None``) of a document of a client.

        Return ``None`` for source files that are gone or have another version, and for all other files.
        """
        return None if self._found(inode) is None else self.place_of_any_version(inode)

    def place_of_any_version(self, inode: int) -> tuple[int, FileKind | None] | None:
        """Return the same for a source file that may have another version."""
        place = self._place(inode)
        return None if place is None else (place[0], FILE_KINDS[place[1]] if inode & IMAGE else None)

    def update(self, inode: int, facts: FileFacts) -> None:
        """Record that a source file was found changed. From then on it has these facts, and so another inode.

        The mode is limited to the rights of the earlier version. These take account of the directories above the
        file, which are not examined again here.
        """
        access = self._ownership.shown(facts.mode, facts.uid, facts.gid)
        key = inode & KEY
        self._changed[key] = self._limited(key, FileFacts(facts.size, facts.mtime_ns, *access))
        self.updates += 1

    def _limited(self, key: int, facts: FileFacts) -> FileFacts:
        """Return the facts of a changed file, with no more rights than its known version has."""
        before = self._facts(key)
        mode = no_more_than(Access(before.mode, before.uid, before.gid), facts.mode, facts.uid, facts.gid)
        return FileFacts(facts.size, facts.mtime_ns, mode, facts.uid, facts.gid)

    def found_changed(self) -> dict[int, FileFacts]:
        """Return a copy of what :meth:`update` has recorded, for :meth:`continue_from`."""
        return dict(self._changed)

    def is_found_changed(self, inode: int) -> bool:
        """Return whether a source file was found changed."""
        return inode & KEY in self._changed

    def found_changed_inodes(self) -> list[int]:
        """Return the inodes of the source files that were found changed."""
        # list() copies the keys in one step: this may run in a thread while the loop records another file.
        return [self._inode(key) for key in list(self._changed)]

    def continue_from(self, old: "Files", seen: Mapping[int, FileFacts]) -> None:
        """Take over the changes that the files of the previous view found, unless this index includes them.

        ``seen`` has the changes that were found before the source was read for this index.
        """
        self.texts.continue_from(old.texts)
        for key, facts in old._changed.items():
            if seen.get(key) != facts and self._place(key) is not None:
                self._changed[key] = self._limited(key, facts)
                self.updates += 1

    def source_file(self, inode: int) -> tuple[Tree, bytes]:
        """Return the tree of a source file, and its path in the tree."""
        found = self._found(inode)
        index, place = self._index, self._place(inode) if found is None else found[0]
        assert place is not None
        if inode & IMAGE:
            row, kind = place[0], FILE_KINDS[place[1]]
            return kind.tree, index.image_path(row, kind)
        client, slot = place
        return Tree.DATA, index.clients[client] + b"/" + index.document_name(client, slot)

    def names(self, inode: int) -> tuple[bytes, bytes]:
        """Return the names of a source file, of any version, in flat cohorts and in the real tree."""
        index, place = self._index, self._place(inode)
        assert place is not None
        number, part = place
        if not inode & IMAGE:
            return (name := index.document_name(number, part)), name
        suffix = FILE_KINDS[part].suffix
        name = index.images[number] + suffix
        return (self.flat_name(number) + suffix if number in index.duplicates else name), name

    def link_target(self, inode: int) -> bytes:
        """Return the target of the symbolic link that stands for a file, with ``links_to``."""
        assert self._links_to is not None
        tree, path = self.source_file(inode)
        return self._links_to[tree] + b"/" + path

    # Listing

    def of_rows(self, rows: NDArray[np.uint32], shown: Sequence[FileKind]) -> NDArray[np.integer]:
        """Return the files of some kinds of images, with the files of an image side by side.

        Each file is a number: the row times the number of kinds, plus the position of its kind. The array has the
        smallest type that holds them, because listings keep it.
        """
        count = len(shown)
        kept = np.min_scalar_type(count * len(self._index))
        files = np.repeat(rows.astype(kept) * kept.type(count), count)
        present = np.empty(len(files), np.bool_)
        for position, kind in enumerate(shown):
            files[position::count] += kept.type(position)
            present[position::count] = self._index.files[kind].access[rows] != 0
        return files if present.all() else files[present]

    def page(self, files: NDArray[np.integer], shown: Sequence[FileKind], *, flat: bool) -> list[Entry]:
        """Return the entries of files of images; ``files`` and ``shown`` are those of :meth:`of_rows`."""
        page = self._columns(files, shown, flat=flat).entries() if len(files) else []
        changed, is_link = self._changed, self._links_to is not None
        if changed or is_link:
            page = [self._anew(entry) if is_link or entry.inode & KEY in changed else entry for entry in page]
        return page

    def columns(self, files: NDArray[np.integer], shown: Sequence[FileKind], *, flat: bool) -> Columns | None:
        """Return the entries as :meth:`page` does, as columns; ``None`` if the index alone does not tell them."""
        is_known = len(files) and not self._changed and self._links_to is None
        return self._columns(files, shown, flat=flat) if is_known else None

    def _columns(self, files: NDArray[np.integer], shown: Sequence[FileKind], *, flat: bool) -> Columns:
        index = self._index
        rows, positions = np.divmod(files.astype(np.intp), len(shown))

        def gathered(name: str) -> NDArray[np.integer]:
            values: NDArray[np.integer] = getattr(index.files[shown[0]], name)[rows]
            for position, kind in enumerate(shown[1:], 1):
                values = np.where(positions == position, getattr(index.files[kind], name)[rows], values)
            return values

        names = flat_names(index, rows) if flat else index.images.take(rows)
        suffixes = [kind.suffix for kind in shown]
        names = [name + suffixes[position] for name, position in zip(names, positions.tolist(), strict=True)]
        sizes, mtimes = gathered("size").astype(np.uint64), gathered("mtime").astype(np.int64)
        kinds = np.array([kind.number for kind in shown], np.uint64)[positions]
        inodes = all_versioned(image_keys(index.identity[rows], kinds), sizes, mtimes)
        modes, uids, gids = self.rights(gathered("access"))
        return Columns(names, inodes, modes, self._links.of(rows), uids, gids, sizes, mtimes)

    def _anew(self, entry: Entry) -> Entry:
        key = entry.inode & KEY
        place = self._place(key)
        assert place is not None
        return Entry(entry.name, *self._attributes(self._inode(key), place, self._facts(key, place)), None)

    def rights(self, accesses: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return the modes, owners and groups that ``accesses``, positions in ``Index.accesses``, stand for.

        The array has three rows.
        """
        return self._modes_and_owners[:, accesses]

    def flat_name(self, row: int) -> bytes:
        """Return the name in flat cohorts, without suffix, of an image whose UID occurs more than once."""
        return flat_name(self._index, row)


def _disk_size(sizes: NDArray[np.unsignedinteger]) -> int:
    rounded = (
        sizes[rows].astype(np.uint64) + np.uint64(511) & np.uint64(0xFFFFFFFFFFFFFE00)
        for rows in blocks(len(sizes))
    )
    return sum(int(part.sum()) for part in rounded)


def split_name(name: bytes, shown: Iterable[FileKind | Rendition]) -> tuple[bytes, FileKind | Rendition] | None:
    """Split a file name into the name of the image and what is shown of it; ``None`` if no suffix fits."""
    for one in shown:
        suffix = one.suffix
        if name.endswith(suffix):
            return name[: -len(suffix)], one
    return None
