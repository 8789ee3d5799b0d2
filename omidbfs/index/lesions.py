"""The lesions of an index: one row for each, in the order of their episodes.

The index, chunks and exports use them. Columns are immutable, for any thread.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from omidbfs.database.codes import LESION_POSITIONS, OPINIONS, SIDES
from omidbfs.database.records import OTHER, Episode, Lesion
from omidbfs.facets import BY_NAME
from omidbfs.facets.mark import LESION_FACTS
from omidbfs.index.names import Names
from omidbfs.index.schema import EPISODE, LESION, Column
from omidbfs.index.sections import ReadLater

PROCEDURES = ("assessment", "clinical", "biopsy_wide", "biopsy_fine", "surgery")
"""The procedures that give an opinion on a lesion."""

CODES: Mapping[str, tuple[str | None, ...]] = {
    **{name: (None, OTHER, *(value.code for value in BY_NAME[name].values)) for name in LESION_FACTS},
    "lesion-position": (None, OTHER, *LESION_POSITIONS),
    **{f"{procedure}-opinion": (None, *OPINIONS) for procedure in PROCEDURES},
}
"""What is known of a lesion -> the values that its codes stand for, ``None`` for unknown."""

_CODE_OF = [{code: number for number, code in enumerate(codes)} for codes in CODES.values()]


@dataclass(frozen=True, slots=True)
class LesionColumns(ReadLater):
    """One row per lesion, in the order of episodes and, within an episode, of the NBSS file.

    ``per_episode`` is the number of lesions of each episode. ``numbers`` are the keys of lesions in NBSS, unique
    on one ``side`` (uint8, a position in ``SIDES``) of an episode. ``codes`` (uint8) has a column for each entry
    of :data:`CODES`. ``size`` (float64) is the whole size of the tumour in mm, 0 for unknown.
    """

    per_episode: Annotated[NDArray[np.unsignedinteger], Column(EPISODE, np.uint8)]
    numbers: Annotated[Names, Column(LESION)]
    side: Annotated[NDArray[np.uint8], Column()]
    codes: Annotated[NDArray[np.uint8], Column(width=len(CODES))]
    size: Annotated[NDArray[np.float64], Column()]


def add_lesions(found: Mapping[str, Any], episodes: Sequence[Episode]) -> None:
    """Append the lesions of one client to the lists of ``found``, by the names of columns."""
    for episode in episodes:
        found["lesions.per_episode"].append(len(episode.lesions))
        for lesion in episode.lesions:
            found["lesions.numbers"].append(lesion.number.encode("utf-8", "surrogatepass"))
            found["lesions.side"].append(SIDES.index(lesion.side))
            found["lesions.size"].append(_size(lesion) or 0)
            known = zip(_CODE_OF, _values(lesion), strict=True)
            found["lesions.codes"].extend([code_of[value] for code_of, value in known])


def _values(lesion: Lesion) -> list[str | None]:
    found = map(lesion.procedures.get, PROCEDURES)
    opinions = [None if procedure is None else procedure.opinion for procedure in found]
    return [*(read(lesion) for read in LESION_FACTS.values()), lesion.position, *opinions]


def _size(lesion: Lesion) -> float | None:
    """Return the whole size of the tumour in mm: at surgery, else at biopsy."""
    examined = [lesion.procedures.get(name) for name in ("surgery", "biopsy_wide")]
    return next((one.whole_size for one in examined if one is not None and one.whole_size is not None), None)
