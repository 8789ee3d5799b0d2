"""What the drive looks like: path -> node, a node's children and files. No FUSE in it.

Used by ``mount/operations.py``, which translates between the kernel and a view, and by tests. A view is
immutable but for ``files.update``, which records that a source file was found changed; every method may be
called from any thread. Names are bytes. Directories are :class:`Directory` values, files are inode numbers.

A directory or generated file belongs to the view that made it: what it holds means something else in any other.
A view refuses those of others with ESTALE.
"""

import errno
import functools
import os
import stat
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from omidbfs.cohorts.cohort import EVERYTHING, Cohort, Term
from omidbfs.database.file_kinds import FILE_KINDS, JSON, FileKind
from omidbfs.database.layout import DOCUMENTS
from omidbfs.database.permissions import Access
from omidbfs.exports.formats import BY_FILE, FORMATS, Selection
from omidbfs.facets import BY_NAME, Facet, Kind
from omidbfs.index.columns import Index
from omidbfs.index.flat_names import flat_names
from omidbfs.view.files import Content, Files, split_name
from omidbfs.view.inode import ROOT_INODE, directory_inode, export_inode
from omidbfs.view.nodes import Attributes, Directory, Entry, Export, Listing, Shape, joined
from omidbfs.view.ownership import Ownership
from omidbfs.view.quoting import export_access
from omidbfs.view.root import Root, root_of

EXPORTS = b".omidbfs"
"""The directory of generated files, found in every cohort and listed in none."""
LONGEST_PATH = 3072
"""Bytes of the path of a directory of images in which facets are found.

Each directory that the kernel knows keeps its path and what that says; it would let anybody go deeper for ever.
What is below has at most three names more, of a value, a study and a file: PATH_MAX, 4,096, holds them all.
"""
_FEW = 1 << 16
"""Images, of which the rows are gathered and the codes counted in 1 ms."""

_CLIENT, _STUDY = BY_NAME["client"], BY_NAME["study"]


class View:
    """The drive over one index.

    Parameters
    ----------
    generated
        Name -> content of the texts: ``README.txt`` in the root, all others in ``.omidbfs/``. Each is looked up
        when somebody first asks for it.
    links_to
        The directories of the two trees, (images, data), where files are to be symbolic links into them.
    list_nested
        Whether nested facet directories are listed; they are always found.
    list_empty
        Whether a facet in a cohort lists the values that it has in the root, identifiers left out.
    root
        What the root lists; by default every facet, and no named cohorts.
    ownership
        What is shown in place of the owners and modes of the source.
    """

    def __init__(
        self,
        index: Index,
        access: Access,
        generated: Mapping[str, Content],
        *,
        links_to: tuple[bytes, bytes] | None = None,
        list_nested: bool = False,
        list_empty: bool = False,
        root: Root | None = None,
        ownership: Ownership | None = None,
    ) -> None:
        ownership = ownership or Ownership()
        access = Access(*ownership.shown(access.mode, access.uid, access.gid))
        self.index = index
        self.lists = root_of(index) if root is None else root
        self.cohorts = self.lists.cohorts
        self.name = os.urandom(16)
        self.root = Directory(self.name, b"", ROOT_INODE, Shape.ROOT)
        self._access = access
        self.export_access = export_access(index, access, ownership)
        """Who may read what quotes the source: generated files, and lists of problems and values."""
        self.files = Files(index, access, self.export_access, generated, self.lists.links, links_to, ownership)
        self._list_nested = list_nested
        self._list_empty = list_empty
        self._shared: WeakValueDictionary[tuple[Cohort, str, int], NDArray[np.integer]] = WeakValueDictionary()

    def prepare(self) -> None:
        """Make now what is otherwise made at its first use, which takes 0.1 s and more for a million images.

        A drive does that where nobody waits; a command makes only what it needs.
        """
        self.cohorts.prepare()
        self.files.prepare()

    def has_made(self, node: Directory | Export) -> bool:
        """Return whether a directory or generated file is of this view."""
        return node.view == self.name

    def _check(self, directory: Directory) -> None:
        if directory.view != self.name:
            raise OSError(errno.ESTALE, "a directory of another view")

    # Lookup

    def lookup(self, directory: Directory, name: bytes) -> Directory | Export | int | None:
        """Return the child of a directory: a directory, a generated file, the inode of a file, or ``None``.

        Raises
        ------
        OSError
            ESTALE: the directory is of another view. So do all methods that take a directory or generated file.
            ENAMETOOLONG: a facet in a directory whose path has more than :data:`LONGEST_PATH` bytes.
        """
        self._check(directory)
        match directory.shape:
            case Shape.COHORT:  # first: the cases are tried in turn, and most lookups are here
                return self._facet(directory, name) or self._in_cohort(directory, name)
            case Shape.ROOT:
                if name == b"README.txt":
                    return self.files.text(name)
                if name == b"all":
                    return self._child(directory, name, Shape.COHORT, EVERYTHING)
                if name == b".omidbfs":
                    return self._child(directory, name, Shape.ABOUT, EVERYTHING)
                if name == b"cohorts" and self.lists.named:
                    return self._child(directory, name, Shape.NAMED, EVERYTHING)
                return self._facet(directory, name)
            case Shape.NAMED:
                named = self.lists.named.get(os.fsdecode(name))
                return None if named is None else self._child(directory, name, Shape.COHORT, named)
            case Shape.ABOUT:
                return self.files.text(name) if name != b"README.txt" else None
            case Shape.EXPORTS:
                return self._export(directory, name)
            case Shape.FACET:
                return self._value(directory, name)
            case Shape.CLIENT:
                return self._facet(directory, name) or self._in_client(directory, name)
            case Shape.STUDY:
                return self._facet(directory, name) or self._in_study(directory, name)

    def resolve(self, path: bytes) -> Directory | None:
        """Return the directory at a path from the root, ``None`` if there is none."""
        directory = self.root
        for name in path.split(b"/") if path else ():
            child = self.lookup(directory, name)
            if not isinstance(child, Directory):
                return None
            directory = child
        return directory

    def cohort(self, directory: Directory) -> Cohort:
        """Return the images that a directory stands for: a place in the real tree is a term like others."""
        self._check(directory)
        cohort = directory.cohort
        if directory.client >= 0:
            cohort = cohort.narrowed(Term("client", frozenset([directory.client])))
        if directory.study >= 0:
            cohort = cohort.narrowed(Term("study", frozenset([directory.study])))
        return cohort

    def _child(self, parent: Directory, name: bytes, shape: Shape, cohort: Cohort, **fields: object) -> Directory:
        path = parent.path + b"/" + name if parent.path else name
        return Directory(self.name, path, directory_inode(path), shape, cohort, **fields)  # type: ignore[arg-type]

    def _facet(self, directory: Directory, name: bytes) -> Directory | None:
        """Return what every directory of images has, listed or not: facets, and its generated files."""
        if not name.startswith(b"by-"):
            if name != EXPORTS:
                return None
            client, study = directory.client, directory.study
            return self._child(directory, name, Shape.EXPORTS, directory.cohort, client=client, study=study)
        facet = self.index.registry.by_name.get(os.fsdecode(name[3:]))
        if facet is None:
            return None
        if len(directory.path) > LONGEST_PATH:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        return self._child(directory, name, Shape.FACET, self.cohort(directory), facet=facet)

    def _value(self, directory: Directory, name: bytes) -> Directory | None:
        if directory.facet is _CLIENT:
            client = self.index.client_table.find(name)
            if client:
                return self._child(directory, name, Shape.CLIENT, directory.cohort, client=client[0])
        term = self.cohorts.term(directory.facet, os.fsdecode(name))
        if term is None:
            return None
        return self._child(directory, name, Shape.COHORT, directory.cohort.narrowed(term))

    def _in_client(self, directory: Directory, name: bytes) -> Directory | int | None:
        index, client = self.index, directory.client
        for slot in range(len(DOCUMENTS)):
            if name == index.document_name(client, slot):
                return self.files.document(client, slot) if self._shows_documents(directory) else None
        for study in index.study_table.find(name):
            if index.study_client[study] == client and len(self._study_rows(directory.cohort, study)):
                return self._child(directory, name, Shape.STUDY, directory.cohort, client=client, study=study)
        return None

    def _in_study(self, directory: Directory, name: bytes) -> int | None:
        split = split_name(name, directory.cohort.files)
        if split is None:
            return None
        stem, kind = split
        first, end = self.index.study_rows[directory.study : directory.study + 2].tolist()
        rows = self.index.image_table.find(stem)
        number = bisect_left(rows, first)
        is_there = number < len(rows) and rows[number] < end
        return self._image_inode(directory.cohort, rows[number], kind) if is_there else None

    def _in_cohort(self, directory: Directory, name: bytes) -> int | None:
        split = split_name(name, directory.cohort.files)
        if split is None:
            return None
        stem, kind = split
        rows = self.index.image_table.find(stem)
        if not rows and b"~" in stem:
            rows = self.index.image_table.find(stem[: stem.index(b"~")])
            rows = [row for row in rows if row in self.index.duplicates and self.files.flat_name(row) == stem]
        elif len(rows) > 1:
            return None  # never under the bare name: it would move to another file as the database grows
        return self._image_inode(directory.cohort, rows[0], kind) if rows else None

    def _image_inode(self, cohort: Cohort, row: int, kind: FileKind) -> int | None:
        if cohort.terms and not self.cohorts.contains(cohort, row):
            return None
        return self.files.image(row, kind)

    def _shows_documents(self, directory: Directory) -> bool:
        """Return whether the JSON files of a client belong to what is shown: always, or with an image of hers."""
        cohort = directory.cohort
        if JSON not in cohort.files:
            return False
        return cohort == EVERYTHING or len(self._client_rows(directory)) > 0

    def _client_rows(self, directory: Directory) -> NDArray[np.uint32]:
        first, end = self.index.client_rows[directory.client : directory.client + 2].tolist()
        return self.cohorts.rows_between(directory.cohort, first, end)

    def _study_rows(self, cohort: Cohort, study: int) -> NDArray[np.uint32]:
        first, end = self.index.study_rows[study : study + 2].tolist()
        return self.cohorts.rows_between(cohort, first, end)

    # Generated files

    def _export(self, directory: Directory, name: bytes) -> Export | None:
        known = BY_FILE.get(name)
        if known is None or not known.is_there():
            return None
        return Export(export_inode(self.name, directory.path + b"/" + name), directory, known.name)

    def content(self, export: Export) -> Iterator[bytes]:
        """Yield the content of a generated file of this view."""
        return FORMATS[export.format].content(self.selection(export.directory))

    def selection(self, directory: Directory) -> Selection:
        """Return what is exported of a directory, which may be the ``.omidbfs/`` in it."""
        path = directory.path.removesuffix(EXPORTS).rstrip(b"/") or b"all"
        title = path.decode("utf-8", "backslashreplace")
        return Selection(self.cohorts, self.cohort(directory), title, functools.partial(self._names_in, directory))

    def _names_in(self, directory: Directory, rows: NDArray[np.uint32]) -> list[bytes]:
        """Return the names of images, less their suffixes, relative to the directory that they are in."""
        if directory.client < 0:
            return flat_names(self.index, rows)
        names = self.index.images.take(rows)
        if directory.study >= 0:
            return names
        studies = self.index.studies.take(self.index.study_of[rows])
        return [study + b"/" + name for study, name in zip(studies, names, strict=True)]

    def export_attributes(self, export: Export, size: int) -> Attributes:
        """Return the attributes of a generated file whose content has a size."""
        access = self.export_access
        mode = stat.S_IFREG | access.mode
        return Attributes(export.inode, mode, 1, access.uid, access.gid, size, self.index.newest)

    # Listing

    def lists_at_once(self, directory: Directory) -> bool:
        """Return whether :meth:`listing` takes no longer than a few lookups; otherwise do not let others wait."""
        if len(self.index) <= _FEW or directory.shape not in (Shape.COHORT, Shape.FACET):
            return True
        return _shared_key(directory) in self._shared or self.cohorts.are_at_hand(directory.cohort, _FEW)

    def listing(self, directory: Directory) -> Listing:
        """Return the entries of a directory, without ``.`` and ``..``.

        What takes room for each image, or value, is shared by all listings of one cohort.
        """
        self._check(directory)
        cohort = directory.cohort
        match directory.shape:
            case Shape.ROOT:
                names = [b"README.txt", b"all", *_names_of(self.lists.facets), b".omidbfs"]
                return self._looked_up(directory, names + [b"cohorts"] * bool(self.lists.named))
            case Shape.NAMED:
                return self._looked_up(directory, [name.encode() for name in self.lists.named])
            case Shape.ABOUT:
                return self._looked_up(directory, [name for name in self.files.texts() if name != b"README.txt"])
            case Shape.EXPORTS:
                return self._looked_up(directory, [name for name in BY_FILE if self._export(directory, name)])
            case Shape.FACET:
                return self._values(directory)
            case Shape.CLIENT:
                rows = self._client_rows(directory)
                studies = np.unique(self.index.study_of[rows])
                names = self.index.studies.take(studies)
                if self._shows_documents(directory):
                    present = np.flatnonzero(self.index.documents.access[directory.client]).tolist()
                    names = [self.index.document_name(directory.client, slot) for slot in present] + names
                return self._looked_up(directory, names)
            case Shape.STUDY:
                return self._files(directory, lambda: self._study_rows(cohort, directory.study))
            case Shape.COHORT:
                listing = self._files(directory, lambda: self.cohorts.row_array(cohort))
                return joined(self._nested(directory), listing) if self._list_nested else listing

    def _shared_by_all(self, directory: Directory, make: Callable[[], NDArray[np.integer]]) -> NDArray[np.integer]:
        """Return what ``make`` gives, the same for all listings of a cohort, as long as there is one."""
        key = _shared_key(directory)
        known = self._shared.get(key)
        if known is None:
            known = self._shared[key] = make()
        return known

    def _nested(self, directory: Directory) -> Listing:
        used = {term.facet for term in directory.cohort.terms}
        if directory.cohort.files != FILE_KINDS:
            used.add("file-type")
        is_deep = len(directory.path) > LONGEST_PATH
        facets = [facet for facet in self.lists.facets if facet.name not in used and not is_deep]
        return self._looked_up(directory, _names_of(facets))

    def _values(self, directory: Directory) -> Listing:
        facet, cohorts, cohort = directory.facet, self.cohorts, directory.cohort
        if self._list_empty and facet.kind not in (Kind.NAME, Kind.FILE):
            cohort = EVERYTHING
        found = self._shared_by_all(directory, lambda: cohorts.values(cohort, facet))
        if facet.kind is Kind.NAME and (facet is not _STUDY or self.index.studies_unique):
            return self._named(directory, found)
        return self._looked_up(directory, found, functools.partial(cohorts.names, facet))

    def _named(self, directory: Directory, ordinals: NDArray[np.integer]) -> Listing:
        """Return the listing of clients, studies or episodes: there are too many to look each of them up."""
        cohort, facet = directory.cohort, directory.facet

        def child(name: bytes, ordinal: int) -> Directory:
            if facet is _CLIENT:
                return self._child(directory, name, Shape.CLIENT, cohort, client=ordinal)
            term = Term(facet.name, frozenset([ordinal]))
            return self._child(directory, name, Shape.COHORT, cohort.narrowed(term))

        def page(start: int, count: int) -> list[Entry]:
            part = ordinals[start : start + count]
            pairs = zip(self.cohorts.names(facet, part), part.tolist(), strict=True)
            return [self._directory_entry(name, child(name, ordinal)) for name, ordinal in pairs]

        return Listing(len(ordinals), page)

    def _looked_up(
        self, directory: Directory, keys: Any, names_of: Callable[[Any], Iterable[bytes]] = iter
    ) -> Listing:
        """Return a listing of names that lookup answers, so that the two cannot disagree: those of ``keys``."""

        def page(start: int, count: int) -> list[Entry]:
            return [self._entry(directory, name) for name in names_of(keys[start : start + count])]

        return Listing(len(keys), page)

    def _entry(self, directory: Directory, name: bytes) -> Entry:
        child = self.lookup(directory, name)
        assert child is not None, "a listed name is found"
        if isinstance(child, Directory):
            return self._directory_entry(name, child)
        if isinstance(child, Export):  # its size is known to nobody before it is made
            return Entry(name, *self.export_attributes(child, 0), None)
        attributes = self.files.attributes(child)
        assert attributes is not None, "what was just found is current"
        return Entry(name, *attributes, None)

    def _directory_entry(self, name: bytes, directory: Directory) -> Entry:
        return Entry(name, *self.directory_attributes(directory), directory)

    def _files(self, directory: Directory, rows: Callable[[], NDArray[np.uint32]]) -> Listing:
        of, shown, flat = self.files, directory.cohort.files, directory.shape is Shape.COHORT
        files = self._shared_by_all(directory, lambda: of.of_rows(rows(), shown))
        return Listing(len(files), lambda start, count: of.page(files[start : start + count], shown, flat=flat))

    def directory_attributes(self, directory: Directory) -> Attributes:
        """Return the attributes of a directory; its link count of 1 says that it is not counted."""
        access = self._access
        mode = stat.S_IFDIR | access.mode
        return Attributes(directory.inode, mode, 1, access.uid, access.gid, 0, self.index.newest)


def _shared_key(directory: Directory) -> tuple[Cohort, str, int]:
    return directory.cohort, directory.facet.name if directory.shape is Shape.FACET else "", directory.study


def _names_of(facets: Iterable[Facet]) -> list[bytes]:
    return [b"by-" + facet.name.encode() for facet in facets]
