"""The facets and named cohorts that the root of a drive lists, and the link counts of images that result.

Used by sessions, by views, and by the comparison of views. Any thread may use it.
"""

import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from omidbfs.cohorts.cohort import COHORT, Cohort, Cohorts
from omidbfs.cohorts.members import Broken
from omidbfs.facets import Facet
from omidbfs.index.columns import Index, blocks


@dataclass(frozen=True, slots=True)
class Root:
    """The root of a drive over ``cohorts.index``.

    ``facets`` are listed. All others can be entered, too. ``named`` are the cohorts in ``cohorts/``. ``broken``
    has the mistake of each cohort that is not there because its definition has one.
    """

    cohorts: Cohorts
    facets: tuple[Facet, ...]
    named: Mapping[str, Cohort] = field(default_factory=dict)
    broken: Mapping[str, Broken] = field(default_factory=dict)
    links: "Links" = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "links", Links(self.cohorts, self.facets, tuple(self.named.values())))

    def listed_files(self) -> int:
        """Return the number of paths of source files in a walk of the drive, without ``list_nested``."""
        index, found = self.cohorts.index, 0
        for rows in blocks(len(index)):
            links = self.links.of(rows)
            found += sum(int(links.sum(dtype=np.int64, where=files.access[rows] != 0)) for files in index.files)
        return found + int(np.count_nonzero(index.documents.access))


class Links:
    """The number of paths that list each image: the link count of each of its files.

    Link counts are computed for the requested rows, until :meth:`count_all` computes and keeps those of all
    rows. A drive calls it before it serves. Then a link count is one access to an array.
    """

    def __init__(self, cohorts: Cohorts, facets: Sequence[Facet], named: Collection[Cohort]) -> None:
        index = cohorts.index
        self._cohorts, self._named = cohorts, named
        self._once = 1 + sum(not facet.several for facet in facets)  # all/, and one value of each of these facets
        several = [
            (facet.name, [len(codes) for codes in index.combinations[facet.name]])
            for facet in facets
            if facet.several and facet.name != COHORT
        ]
        self._lists_named = any(facet.name == COHORT for facet in facets)
        most = self._once + sum(max(counts, default=0) for _, counts in several) + (len(named) + 1) * 2
        self._type: np.dtype[np.unsignedinteger] = np.min_scalar_type(most)
        self._several = [(name, np.array(counts, self._type)) for name, counts in several if counts]
        self._all: NDArray[np.unsignedinteger] | None = None
        self._lock = threading.Lock()

    def of(self, rows: NDArray[np.integer] | slice) -> NDArray[np.unsignedinteger]:
        """Return the link counts of some rows."""
        if self._all is not None:
            return self._all[rows]
        links = self._in_facets(rows)
        named = np.zeros_like(links)
        for cohort in self._named:
            named += self._cohorts.which(cohort, rows)
        return links + self._of_named(named)

    def _of_named(self, named: NDArray[np.unsignedinteger]) -> NDArray[np.unsignedinteger]:
        """Return the number of paths below ``cohorts`` and ``by-cohort`` of images that so many cohorts have."""
        return named + np.maximum(named, named.dtype.type(1)) if self._lists_named else named

    def item(self, row: int) -> int:
        """Return the link count of one row."""
        links = self._all
        return self.of(np.array([row])).item(0) if links is None else links.item(row)

    def count_all(self) -> None:
        """Compute and keep the link counts of all rows, once."""
        with self._lock:
            if self._all is None:
                links = np.empty(len(self._cohorts.index), self._type)
                for rows in blocks(len(links)):
                    links[rows] = self._in_facets(rows)
                if self._named:
                    named = np.zeros_like(links)
                    for cohort in self._named:
                        named[self._cohorts.rows(cohort)] += 1
                    links += self._of_named(named)
                self._all = links

    def _in_facets(self, rows: NDArray[np.integer] | slice) -> NDArray[np.unsignedinteger]:
        index = self._cohorts.index
        links = np.full(len(index.study_of[rows]), self._once, self._type)
        for name, counts in self._several:
            links += counts[index.columns[name][rows]]
        return links


def root_of(
    index: Index, facets: Iterable[Facet] | None = None, named: Mapping[str, Cohort] | None = None
) -> Root:
    """Return a root that lists some facets, by default all, and named cohorts, which refer to no other cohort."""
    cohorts = Cohorts(index)
    return Root(cohorts, tuple(cohorts.facets if facets is None else facets), named or {})
