"""What the root of a drive lists: which facets, which named cohorts; and how often it thereby lists each image.

Used by ``session``, which chooses, and by ``view``. Immutable values and pure functions: any thread may use them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from omidbfs.cohorts.cohort import Cohort, Cohorts
from omidbfs.facets import Facet
from omidbfs.index.columns import Index, blocks


@dataclass(frozen=True, slots=True)
class Root:
    """The root of a drive over ``cohorts.index``.

    ``facets`` are listed; all others are found. ``named`` are the cohorts of ``cohorts/``. ``links`` says for each
    row under how many paths either of its files is listed: its link count.
    """

    cohorts: Cohorts
    facets: tuple[Facet, ...]
    named: Mapping[str, Cohort] = field(default_factory=dict)
    links: NDArray[np.unsignedinteger] = field(init=False)

    def __post_init__(self) -> None:
        rows = [self.cohorts.rows(cohort) for cohort in self.named.values()]
        object.__setattr__(self, "links", _listed_paths(self.cohorts.index, self.facets, rows))

    def listed_files(self) -> int:
        """Return how many paths of source files a walk of the whole drive meets (without ``list_nested``)."""
        index = self.cohorts.index
        images = sum(int(self.links.sum(dtype=np.int64, where=files.access != 0)) for files in index.files)
        return images + int(np.count_nonzero(index.documents.access))


def root_of(
    index: Index, facets: Iterable[Facet] | None = None, named: Mapping[str, Cohort] | None = None
) -> Root:
    """Return a root that lists some facets, by default all."""
    return Root(Cohorts(index), tuple(index.registry.facets if facets is None else facets), named or {})


def _listed_paths(index: Index, facets: Iterable[Facet], cohorts: Iterable[BitMap]) -> NDArray[np.unsignedinteger]:
    facets, cohorts = list(facets), list(cohorts)
    once = 1 + sum(not facet.several for facet in facets)  # all/, and one value of each single-valued facet
    values = {
        facet.name: [len(codes) for codes in index.combinations[facet.name]] for facet in facets if facet.several
    }
    most = once + sum(max(counts, default=0) for counts in values.values()) + len(cohorts)
    links = np.full(len(index), once, np.min_scalar_type(most))
    for name, counts in values.items():
        if counts:
            of_code = np.array(counts, links.dtype)
            for rows in blocks(len(index)):
                links[rows] += of_code[index.columns[name][rows]]
    for cohort in cohorts:
        links[np.array(cohort.to_array(), np.uint32)] += 1
    return links
