"""The columns of the facets ``chest-wall`` and ``box``, as far as pixels were measured.

Sessions use it for the index that they show, which is never saved. Pure functions: any thread may call them. A
column is made at its first use: most commands need none.
"""

from collections.abc import Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from omidbfs.database.boxes import place_of_box
from omidbfs.facets import BY_NAME
from omidbfs.index.columns import FIRST_CODE, RESERVED_CODES, Index
from omidbfs.index.measured import BOX, CHEST_WALL, SIDES, Geometries
from omidbfs.index.schema import smallest
from omidbfs.index.sections import overlaid, replaced

_PLACES = {value.code: code for code, value in enumerate(BY_NAME[BOX].values, FIRST_CODE)}
_TOGETHER = [
    tuple(code for place, code in enumerate(_PLACES.values()) if mask >> place & 1)
    for mask in range(1 << len(_PLACES))
]
"""All combinations of places, by their bits. Which of them occur is known with the column."""


def with_measured(index: Index, geometries: Geometries) -> Index:
    """Return an index whose facets say what was found in pixels."""
    together = {codes: number for number, codes in enumerate(index.combinations[BOX])}
    for codes in _TOGETHER[1:]:
        together.setdefault(codes, len(together))
    made = {
        CHEST_WALL: partial(_chest_walls, index, geometries),
        BOX: partial(_boxes, index, geometries, together),
    }
    combinations = {**index.combinations, BOX: tuple(together)}
    return replaced(index, columns=overlaid(index.columns, made), combinations=combinations)


def _chest_walls(index: Index, geometries: Geometries) -> NDArray[np.unsignedinteger]:
    codes = {value.code: code for code, value in enumerate(BY_NAME[CHEST_WALL].values, FIRST_CODE)}
    by_header = np.array([SIDES.index(one.chest_wall_side) for one in index.orientations], np.uint8)
    said, places = by_header[index.orientation_of], geometries.places
    is_known = places >= 0
    seen = np.zeros(len(index), np.uint8)
    seen[is_known] = geometries.measured.side[places[is_known]]
    found = np.where(said == seen, codes["agrees"], codes["contradicts"])
    found[(said == 0) | (seen == 0)] = RESERVED_CODES["unknown"]
    found[~is_known] = codes["unmeasured"]
    return found.astype(np.uint8)


def _boxes(
    index: Index, geometries: Geometries, together: Mapping[tuple[int, ...], int]
) -> NDArray[np.unsignedinteger]:
    """Return the column of combinations: as it was for images that have no box of a breast."""
    before, marks = index.columns[BOX], index.marks
    boxes = geometries.boxes(marks.row)
    masks: dict[int, int] = {}
    numbers = np.flatnonzero(boxes.any(1))
    rows = marks.row[numbers].tolist()
    for number, row, box in zip(numbers.tolist(), rows, boxes[numbers].tolist(), strict=True):
        form = index.pixel_format(row)
        if form.Rows and form.Columns:
            place = place_of_box(marks.mark(number), form.Rows, form.Columns, tuple(box))
            masks[row] = masks.get(row, 0) | 1 << (_PLACES[place] - FIRST_CODE)
    column = before.astype(np.uint32)
    for row, mask in masks.items():
        column[row] = together[_TOGETHER[mask]]
    return smallest(column)
