"""Where the pixels of an image are in a rendition of it: what is cut out, scaled, mirrored, and put where.

``render`` makes renditions by it, and tables have coordinates by it. Pure functions: any thread may call them.

Coordinates are continuous: pixel c covers [c, c + 1), so an image of C columns reaches from 0 to C. They are
floats and are never rounded.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from omidbfs.database.pixel_format import PixelFormat
from omidbfs.pixels.rendition import Box, Rendition
from omidbfs.pixels.scale import inner_size

Numbers = NDArray[np.float64]


class Region(NamedTuple):
    """A part of an image: rows ``top`` to before ``bottom``, and columns ``left`` to before ``right``."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self.bottom - self.top

    @property
    def columns(self) -> int:
        """The number of columns."""
        return self.right - self.left


@dataclass(frozen=True, slots=True)
class Placement:
    """How a rendition of an image comes about.

    ``region`` is cut out of an image of ``image_rows`` x ``image_columns`` pixels. If ``mirrored``, it is turned
    left to right. It is scaled to ``inner_rows`` x ``inner_columns`` pixels, which stand in a frame of ``rows`` x
    ``columns`` pixels, from row ``top`` and column ``left`` on.
    """

    region: Region
    image_rows: int
    image_columns: int
    mirrored: bool
    inner_rows: int
    inner_columns: int
    rows: int
    columns: int
    top: int
    left: int

    @property
    def scale_row(self) -> float:
        """Rows of the rendition for each row of the image."""
        return self.inner_rows / self.region.rows

    @property
    def scale_column(self) -> float:
        """Columns of the rendition for each column of the image."""
        return self.inner_columns / self.region.columns

    @property
    def offset_row(self) -> float:
        """Where row 0 of the image is: a row r is at ``offset_row + scale_row * r``."""
        return self.top - self.scale_row * self.region.top

    @property
    def offset_column(self) -> float:
        """Where column 0 is, of the image or of its mirror image.

        A column c is at ``offset_column + scale_column * c``, or, if mirrored, at
        ``offset_column + scale_column * (image_columns - c)``.
        """
        region = self.region
        first = self.image_columns - region.right if self.mirrored else region.left
        return self.left - self.scale_column * first

    def row(self, row: Numbers) -> Numbers:
        """Return where rows of the image are in the rendition."""
        return self.offset_row + self.scale_row * row

    def column(self, column: Numbers) -> Numbers:
        """Return where columns of the image are in the rendition. If mirrored, left and right change places."""
        along = self.image_columns - column if self.mirrored else column
        return self.offset_column + self.scale_column * along

    def image_row(self, row: Numbers) -> Numbers:
        """Return where rows of the rendition are in the image: the inverse of :meth:`row`."""
        return (row - self.offset_row) / self.scale_row

    def image_column(self, column: Numbers) -> Numbers:
        """Return where columns of the rendition are in the image: the inverse of :meth:`column`."""
        along = (column - self.offset_column) / self.scale_column
        return self.image_columns - along if self.mirrored else along


def placement(format: PixelFormat, rendition: Rendition, side: str | None, box: Region | None = None) -> Placement:
    """Return how the rendition of an image comes about.

    Parameters
    ----------
    format
        Its ``Rows`` and ``Columns`` are known.
    side
        The side of the chest wall, ``left`` or ``right``; ``None`` if that is unknown.
    box
        The bounding box of the breast, ``None`` if the image has none. Only a rendition that crops uses it.
    """
    assert format.Rows
    assert format.Columns
    region = _shown(rendition, format.Rows, format.Columns, box)
    size = rendition.size
    inner_rows, inner_columns = inner_size(size, region.rows, region.columns)
    mirrored = rendition.mirrors and side == "right"
    if not isinstance(size, Box):
        inner = inner_rows, inner_columns
        return Placement(region, format.Rows, format.Columns, mirrored, *inner, *inner, 0, 0)
    # In the middle of the rows. Where the space is odd, the smaller half is above, or at the left.
    free = size.columns - inner_columns
    left = {"left": 0, "right": free}.get("left" if mirrored else side or "", free // 2)
    return Placement(
        region,
        format.Rows,
        format.Columns,
        mirrored,
        inner_rows,
        inner_columns,
        size.rows,
        size.columns,
        (size.rows - inner_rows) // 2,
        left,
    )


def _shown(rendition: Rendition, rows: int, columns: int, box: Region | None) -> Region:
    """Return the part of an image that is shown: the box with a margin, as far as the image reaches."""
    whole = Region(0, 0, rows, columns)
    if not rendition.crops or box is None:
        return whole
    margin = int(rendition.margin * max(box.rows, box.columns) + 0.5)
    top, left = max(box.top - margin, 0), max(box.left - margin, 0)
    found = Region(top, left, min(box.bottom + margin, rows), min(box.right + margin, columns))
    return found if found.rows > 0 and found.columns > 0 else whole
