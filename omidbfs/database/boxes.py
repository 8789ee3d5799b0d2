"""Which boxes of marks mean something in an image of a known size."""

from omidbfs.database.records import Mark

NO_AREA = "it has no area"
OUTSIDE = "it is outside of its image"
MOSTLY_OUTSIDE = "more than half of it is outside of its image"


def box_problem(mark: Mark, rows: int, columns: int) -> str | None:
    """Return what is wrong with the box of a mark, ``None`` if it can be used.

    Corners in the wrong order are no problem, nor is a box that reaches beyond the image with at most half of its
    area: it is plain what is meant. ``omidbfs.exports.coco`` judges by the same rules, for many marks at once.
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
