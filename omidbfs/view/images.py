"""The directories of images: a cohort, a client, a study.

Used by ``view``, and by modules that must know these kinds of directory. Directories are immutable: any thread may
use them. Each can be entered by facets, and by all other entrances of :class:`~omidbfs.view.context.Context`.
"""

from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from omidbfs.cohorts.cohort import EVERYTHING, Cohort, Term
from omidbfs.database.file_kinds import FILE_KINDS, JSON, FileKind
from omidbfs.database.layout import DOCUMENTS
from omidbfs.facets import Facet
from omidbfs.index.columns import Index
from omidbfs.pixels.rendition import Rendition
from omidbfs.view.context import Context
from omidbfs.view.files import split_name
from omidbfs.view.nodes import Columns, Directory, Entry, Listing, Node, joined

LONGEST_PATH = 3072
"""The largest number of bytes in the path of a directory of images in which facets are found.

The drive keeps the path of each directory that the kernel knows, and without a limit a program could go deeper for
ever. Below a facet there are at most three more names, of a value, a study and a file. PATH_MAX, 4,096 bytes, has
room for them.
"""


@dataclass(frozen=True, slots=True, eq=False)
class CohortDirectory(Directory):
    """A cohort: the files of its images, flat."""

    has_images = True

    def lookup(self, context: Context, name: bytes) -> Node | None:
        """Return a file of an image, by its name in flat cohorts."""
        return context.entered(self, name) or self._file(context, name)

    def _file(self, context: Context, name: bytes) -> int | None:
        index, split = context.index, split_name(name, self.cohort.shown)
        if split is None:
            return None
        stem, kind = split
        rows = index.image_table.find(stem)
        if not rows and b"~" in stem:
            rows = index.image_table.find(stem[: stem.index(b"~")])
            rows = [row for row in rows if row in index.duplicates and context.files.flat_name(row) == stem]
        elif len(rows) > 1:
            return None  # the bare name would move to another file as the database grows
        return _image(context, self.cohort, rows[0], kind) if rows else None

    def listing(self, context: Context) -> Listing:
        """Return the files. With ``list_nested`` the facets that the path does not name come first."""
        listing = _files(context, self, self.cohort, lambda: context.cohorts.rows(self.cohort), flat=True)
        return joined(self._facets(context), listing) if context.list_nested else listing

    def lists_at_once(self, context: Context) -> bool:
        """Return whether its rows are known or quickly found."""
        return context.is_shared_at_once(self.cohort, self.cohort)

    def _facets(self, context: Context) -> Listing:
        used = {term.facet for term in self.cohort.terms}
        if self.cohort.files != FILE_KINDS:
            used.add("file-type")
        is_deep = len(self.path) > LONGEST_PATH
        facets = [facet for facet in context.lists.facets if facet.name not in used and not is_deep]
        return context.looked_up(self, facet_names(facets))


@dataclass(frozen=True, slots=True, eq=False)
class ClientDirectory(Directory):
    """The real directory of a client, pruned to a cohort: the JSON files of the client, and studies."""

    client: int

    has_images = True

    def lookup(self, context: Context, name: bytes) -> Node | None:
        """Return a JSON file of the client, or a study that has an image in the cohort."""
        return context.entered(self, name) or self._document_or_study(context, name)

    def _document_or_study(self, context: Context, name: bytes) -> Node | None:
        index, client = context.index, self.client
        for slot in range(len(DOCUMENTS)):
            if name == index.document_name(client, slot):
                return context.files.document(client, slot) if self._shows_documents(context) else None
        for study in index.study_table.find(name):
            if index.study_client[study] == client and len(_rows_of_study(context, self.cohort, study)):
                return StudyDirectory(*self.below(name), self.cohort, client, study)
        return None

    def listing(self, context: Context) -> Listing:
        """Return the JSON files and the studies."""
        index = context.index
        names = index.studies.take(np.unique(index.study_of[self._rows(context)]))
        if self._shows_documents(context):
            present = np.flatnonzero(index.documents.access[self.client]).tolist()
            names = [index.document_name(self.client, slot) for slot in present] + names
        return context.looked_up(self, names)

    def _shows_documents(self, context: Context) -> bool:
        """Return whether the JSON files are shown: always without conditions, else with an image of the client."""
        if JSON not in self.cohort.files:
            return False
        return self.cohort == EVERYTHING or len(self._rows(context)) > 0

    def client_shown(self, context: Context) -> int | None:
        """Return the client, if the JSON files of the client are shown."""
        return self.client if self._shows_documents(context) else None

    def _rows(self, context: Context) -> NDArray[np.uint32]:
        first, end = context.index.client_rows[self.client : self.client + 2].tolist()
        return context.cohorts.rows_between(self.cohort, first, end)

    @property
    def stands_for(self) -> Cohort:
        """The images of the client that are in the cohort."""
        return self.cohort.narrowed(Term("client", frozenset([self.client])))

    def image_names(self, index: Index, rows: NDArray[np.integer]) -> list[bytes]:
        """Return the paths of images: study and image."""
        studies = index.studies.take(index.study_of[rows])
        return [study + b"/" + name for study, name in zip(studies, index.images.take(rows), strict=True)]


@dataclass(frozen=True, slots=True, eq=False)
class StudyDirectory(Directory):
    """The real directory of a study of a client, pruned to a cohort: the files of its images."""

    client: int
    study: int

    has_images = True

    def lookup(self, context: Context, name: bytes) -> Node | None:
        """Return a file of an image of the study, by its name in the source."""
        return context.entered(self, name) or self._file(context, name)

    def _file(self, context: Context, name: bytes) -> int | None:
        split = split_name(name, self.cohort.shown)
        if split is None:
            return None
        stem, kind = split
        first, end = context.index.study_rows[self.study : self.study + 2].tolist()
        rows = context.index.image_table.find(stem)
        number = bisect_left(rows, first)
        is_there = number < len(rows) and rows[number] < end
        return _image(context, self.cohort, rows[number], kind) if is_there else None

    def listing(self, context: Context) -> Listing:
        """Return the files."""
        key = self.cohort, self.study
        return _files(context, self, key, lambda: _rows_of_study(context, self.cohort, self.study), flat=False)

    @property
    def stands_for(self) -> Cohort:
        """The images of the study that are in the cohort."""
        client = self.cohort.narrowed(Term("client", frozenset([self.client])))
        return client.narrowed(Term("study", frozenset([self.study])))

    def image_names(self, index: Index, rows: NDArray[np.integer]) -> list[bytes]:
        """Return the names of images."""
        return index.images.take(rows)


def facet_names(facets: Iterable[Facet]) -> list[bytes]:
    """Return the names of the directories of facets."""
    return [b"by-" + facet.name.encode() for facet in facets]


def _image(context: Context, cohort: Cohort, row: int, shown: FileKind | Rendition) -> int | None:
    if cohort.terms and not context.cohorts.contains(cohort, row):
        return None
    return (
        context.renditions.inode(row, shown) if isinstance(shown, Rendition) else context.files.image(row, shown)
    )


def _rows_of_study(context: Context, cohort: Cohort, study: int) -> NDArray[np.uint32]:
    first, end = context.index.study_rows[study : study + 2].tolist()
    return context.cohorts.rows_between(cohort, first, end)


def _files(
    context: Context, directory: Directory, key: Hashable, rows: Callable[[], NDArray[np.uint32]], *, flat: bool
) -> Listing:
    of, kinds, rendition = context.files, directory.cohort.files, directory.cohort.rendition
    files = context.shared(key, lambda: of.of_rows(rows(), kinds))  # of one kind: a file is its row

    def page(start: int, count: int) -> list[Entry]:
        part = files[start : start + count]
        if rendition is not None:
            return context.renditions.page(part, rendition, flat=flat)
        return of.page(part, kinds, flat=flat)

    def columns(start: int, count: int) -> Columns | None:
        part = files[start : start + count]
        if rendition is not None:
            return context.renditions.columns(part, rendition, flat=flat)
        return of.columns(part, kinds, flat=flat)

    return Listing(len(files), page, columns)
