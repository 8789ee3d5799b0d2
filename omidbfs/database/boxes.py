"""Decides whether the bounding box of a mark is valid in an image of known size, and where it lies.

The reader of a study, facets and the index use it. Pure functions: any thread may call them.
"""

from collections.abc import Iterable

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


Corners = tuple[int, int, int, int]
"""Top, left, bottom and right of a region in pixels, with the ends outside."""


def place_of_box(mark: Mark, rows: int, columns: int, breast: Corners | None = None) -> str:
    """Return where the bounding box of a mark lies: a value of the facet ``box``.

    ``breast`` is the bounding box of the breast, if it is known. A box in the image that has nothing in common
    with it is ``off-breast``. A box that has nothing in common with the breast, or else with the image, and would
    be inside if X and Y were exchanged, is ``transposed``.
    """
    left, right = sorted((mark.x1, mark.x2))
    top, bottom = sorted((mark.y1, mark.y2))
    whole = (bottom - top) * (right - left)
    if not whole:
        return "degenerate"
    image, box = (0, 0, rows, columns), (top, left, bottom, right)
    inside, of_breast = _common(box, image), _common(box, breast or image)
    if not of_breast and _common((left, top, right, bottom), breast or image) == whole:
        return "transposed"
    if inside < whole:
        return "partly-outside" if inside else "outside"
    return "inside" if of_breast else "off-breast"


def _common(one: Iterable[int], other: Iterable[int]) -> int:
    """Return the number of pixels that two regions have in common."""
    (top, left, bottom, right), (above, before, below, behind) = one, other
    return max(0, min(bottom, below) - max(top, above)) * max(0, min(right, behind) - max(left, before))
