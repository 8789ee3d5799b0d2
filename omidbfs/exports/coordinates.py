"""Where the pixels and the marks of images are in a rendition, for many images at once.

Tables, COCO and YOLO use it. It has the placements by which renditions are made (``pixels/placement``).
:class:`Coordinates` remembers its last answer, so one thread uses it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omidbfs.index.columns import Index
from omidbfs.index.levels import Rows
from omidbfs.pixels.placement import Placement, Region, placement
from omidbfs.pixels.rendition import Rendition

Numbers = NDArray[np.float64]
Corners = NDArray[np.integer] | Numbers
"""``x1 y1 x2 y2`` of boxes, in pixels: shape (4, n)."""

FOLLOWING = ("scale_row", "scale_column", "offset_row", "offset_column", "mirrored")
"""The fields of :class:`Places` that say where an image is in its rendition, for tables."""

Breasts = Callable[[Rows], NDArray[np.integer]]
"""Rows -> the bounding boxes of breasts, n x 4: top, left, bottom and right; all 0 for an image without one."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where images are in a rendition: arrays with one item for each image.

    ``rows`` and ``columns`` (int64) are the size of the rendition in pixels. A row r of the image is at
    ``offset_row + scale_row * r``. A column c is at ``offset_column + scale_column * c``, or, where ``mirrored``,
    as far from the right edge of the rendition. ``limits`` (int64, shape (4, n)) are ``x1 y1 x2 y2`` of what is
    shown of the image, and ``sizes`` (int64, shape (2, n)) the columns and rows of the image.
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    scale_row: Numbers
    scale_column: Numbers
    offset_row: Numbers
    offset_column: Numbers
    mirrored: NDArray[np.bool_]
    limits: NDArray[np.int64]
    sizes: NDArray[np.int64]

    def boxes(self, corners: Corners) -> Numbers:
        """Return where boxes of the images are in the rendition, one box for each image.

        The two columns of a mirrored box change places, so that ``x1`` stays below ``x2``.
        """
        x1, x2 = (self.offset_column + self.scale_column * corners[side] for side in (0, 2))
        y1, y2 = (self.offset_row + self.scale_row * corners[side] for side in (1, 3))
        left = np.where(self.mirrored, self.columns - x2, x1)
        right = np.where(self.mirrored, self.columns - x1, x2)
        return np.stack([left, y1, right, y2])


class Coordinates:
    """The places of the images of an index in one rendition.

    Parameters
    ----------
    breasts
        Needed by renditions that crop, and by no other.
    """

    def __init__(self, index: Index, rendition: Rendition, breasts: Breasts | None = None) -> None:
        assert breasts is not None or not rendition.crops
        self.rendition = rendition
        self._index, self._breasts = index, breasts if rendition.crops else None
        self._sides = [one.chest_wall_side for one in index.orientations]
        self._last: tuple[Rows, Places] | None = None

    def of(self, rows: Rows) -> Places:
        """Return the places of images, which must have the rendition."""
        if self._last is None or self._last[0] is not rows:  # each column of a table asks for the same page
            self._last = rows, self._found(rows)
        return self._last[1]

    def _found(self, rows: Rows) -> Places:
        index = self._index
        formats, orientations = index.format_of[rows].astype(np.int64), index.orientation_of[rows]
        # An index has few formats and orientations, so images have few places, unless each is cropped by itself.
        keys = formats * len(self._sides) + orientations
        if self._breasts is not None:
            boxes = [Region(*box) if any(box) else None for box in self._breasts(rows).tolist()]
            return _arrays([self._place(key, box) for key, box in zip(keys.tolist(), boxes, strict=True)])
        distinct, which = np.unique(keys, return_inverse=True)
        return _arrays([self._place(key) for key in distinct.tolist()], which)

    def _place(self, key: int, box: Region | None = None) -> Placement:
        number, orientation = divmod(key, len(self._sides))
        return placement(self._index.pixel_formats[number], self.rendition, self._sides[orientation], box)


def _arrays(found: list[Placement], which: NDArray[np.intp] | slice = slice(None)) -> Places:
    def each(of: Callable[[Placement], object], dtype: type, *shape: int) -> NDArray[Any]:
        return np.array([of(one) for one in found], dtype).reshape(-1, *shape).T[..., which]

    return Places(
        each(lambda one: one.rows, np.int64),
        each(lambda one: one.columns, np.int64),
        each(lambda one: one.scale_row, np.float64),
        each(lambda one: one.scale_column, np.float64),
        each(lambda one: one.offset_row, np.float64),
        each(_offset_column, np.float64),
        each(lambda one: one.mirrored, np.bool_),
        each(_limits, np.int64, 4),
        each(lambda one: (one.image_columns, one.image_rows), np.int64, 2),
    )


def _limits(place: Placement) -> tuple[int, int, int, int]:
    region = place.region
    return region.left, region.top, region.right, region.bottom


def _offset_column(place: Placement) -> float:
    """Return where column 0 of the image would be, if the rendition were not mirrored."""
    if not place.mirrored:
        return place.offset_column
    left = place.columns - place.left - place.inner_columns
    return left - place.scale_column * place.region.left
