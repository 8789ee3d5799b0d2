"""The images that have a rendition, by the index.

Views and completion use the functions; any thread may call them.
"""

import numpy as np
from numpy.typing import NDArray

from omidbfs.cohorts.cohort import FORMATS, IMAGES, Term
from omidbfs.index.codes import compact
from omidbfs.index.columns import Index
from omidbfs.pixels.rendition import Rendition
from omidbfs.pixels.sizes import RENDITION_IDENTITIES, size_of

NONE = -1
"""The size of a rendition that does not exist."""


def sizes_in(index: Index, rendition: Rendition) -> NDArray[np.int64]:
    """Return the bytes of a rendition for each of ``index.pixel_formats``, or :data:`NONE`."""
    found = [size_of(rendition, each) for each in index.pixel_formats]
    return np.array([NONE if size is None else size for size in found], np.int64)


def terms_of(index: Index, sizes: NDArray[np.int64]) -> list[Term]:
    """Return the terms of the images that have a rendition with these ``sizes``."""
    terms = [Term(FORMATS, compact(np.flatnonzero(sizes != NONE).tolist()))]
    if len(index.row_of) > RENDITION_IDENTITIES:
        beyond = np.flatnonzero(index.identity >= RENDITION_IDENTITIES)
        terms.append(Term(IMAGES, compact(beyond.tolist()), negated=True))
    return terms
