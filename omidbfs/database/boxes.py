"""Decides whether the bounding box of a mark is valid in an image of known size.

The reader of a study uses it. Pure functions: any thread may call them.
"""

from omidbfs.database.records import Mark

NO_AREA = "it has no area"
OUTSIDE = "it is outside of its image"
MOSTLY_OUTSIDE = "more than half of it is outside of its image"


def box_problem(mark: Mark, rows: int, columns: int) -> str | None:
    """Return what is wrong with the bounding box of a mark, ``None`` if nothing is.

    Corners may be in the wrong order, and up to half of the area may lie outside the image: the intended box is
    clear. ``omidbfs.exports.coco`` applies the same rules to many marks at once.
    """
    whole = inside = 1
    for one, other, size in ((mark.x1, mark.x2, columns), (mark.y1, mark.y2, rows)):
        low, high = min(one, other), max(one, other)
        whole *= high - low
        inside *= max(0, min(high, size) - max(low, 0))
    if not whole:
        return NO_AREA
    if not inside:
        return OUTSIDE
    return MOSTLY_OUTSIDE if 2 * inside < whole else None
