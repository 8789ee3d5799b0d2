"""The directory ``by-<facet>``, in the root and in every directory of images. Each value in it leads to a cohort.

Used by ``view``, and by modules that must know this kind of directory. Directories are immutable: any thread may
use them.
"""

import errno
import functools
import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from omidbfs.cohorts.cohort import EVERYTHING, Term
from omidbfs.facets import BY_NAME, Facet, Kind
from omidbfs.view.context import Context
from omidbfs.view.images import LONGEST_PATH, ClientDirectory, CohortDirectory
from omidbfs.view.nodes import Directory, Entry, Listing

_CLIENT, _STUDY = BY_NAME["client"], BY_NAME["study"]


def enter_facet(context: Context, directory: Directory, name: bytes) -> Directory | None:
    """Return the directory of a facet of the images in a directory; ``None`` if there is no such facet.

    Raises
    ------
    OSError
        ENAMETOOLONG: the path already has more than :data:`LONGEST_PATH` bytes.
    """
    facet = context.cohorts.facet(os.fsdecode(name.removeprefix(b"by-")))
    if facet is None:
        return None
    if len(directory.path) > LONGEST_PATH:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    return FacetDirectory(*directory.below(name), directory.stands_for, facet)


@dataclass(frozen=True, slots=True, eq=False)
class FacetDirectory(Directory):
    """The directory of a facet: the values that the images of a cohort have."""

    facet: Facet

    def lookup(self, context: Context, name: bytes) -> Directory | None:
        """Return the cohort for a name, which need not be listed; for one client the real directory."""
        if self.facet is _CLIENT:
            client = context.index.client_table.find(name)
            if client:
                return ClientDirectory(*self.below(name), self.cohort, client[0])
        term = context.cohorts.term(self.facet, os.fsdecode(name))
        return None if term is None else CohortDirectory(*self.below(name), self.cohort.narrowed(term))

    def listing(self, context: Context) -> Listing:
        """Return the values. With ``list_empty`` return those of all images, unless they are identifiers."""
        facet, cohorts, cohort = self.facet, context.cohorts, self.cohort
        if context.list_empty and facet.kind not in (Kind.NAME, Kind.FILE):
            cohort = EVERYTHING
        found = context.shared(self._key, lambda: cohorts.values(cohort, facet))
        if facet.kind is Kind.NAME and (facet is not _STUDY or context.index.studies_unique):
            return self._by_ordinal(context, found)
        return context.looked_up(self, found, functools.partial(cohorts.names, facet))

    def _by_ordinal(self, context: Context, ordinals: NDArray[np.integer]) -> Listing:
        """Return the listing of clients, studies or episodes. There are too many for a lookup of each."""

        def child(name: bytes, ordinal: int) -> Directory:
            if self.facet is _CLIENT:
                return ClientDirectory(*self.below(name), self.cohort, ordinal)
            term = Term(self.facet.name, frozenset([ordinal]))
            return CohortDirectory(*self.below(name), self.cohort.narrowed(term))

        def page(start: int, count: int) -> list[Entry]:
            part = ordinals[start : start + count]
            pairs = zip(context.cohorts.names(self.facet, part), part.tolist(), strict=True)
            return [context.entry(name, child(name, ordinal)) for name, ordinal in pairs]

        return Listing(len(ordinals), page)

    def lists_at_once(self, context: Context) -> bool:
        """Return whether its values, or the rows of its cohort, are at hand."""
        # The values of by-cohort need the rows of every named cohort, however few rows its own cohort has.
        return context.is_shared_at_once(self._key, EVERYTHING if self.facet.kind is Kind.COHORT else self.cohort)

    @property
    def _key(self) -> object:
        return self.cohort, self.facet.name
