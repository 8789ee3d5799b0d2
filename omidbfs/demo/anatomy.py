"""The shape of a breast, and the place of a lesion in its image. ``imaging`` and ``plates`` use it.

Images hang as mammograms do: the chest wall of a left breast is the left edge of the image, that of a right
breast the right edge; up is lateral (CC) or cranial (MLO, ML). All functions compute a left breast, which is
mirrored for a right one. Distances are fractions: ``x`` of the width from the chest wall, ``y`` of the height from
the top.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from omidbfs.demo.history import Lesion

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Box:
    """A bounding box in pixels; the origin is top left, and the corners are inclusive."""

    x1: int
    y1: int
    x2: int
    y2: int


@dataclass(frozen=True, slots=True)
class Shape:
    """The outline of a compressed breast in one view.

    A half ellipse that reaches ``extent`` from the chest wall at height ``centre``, and ends ``above`` and
    ``below`` that height. The pectoral muscle cuts the top and the chest wall at ``muscle``. A specimen is a full
    ellipse of that size about ``x``.
    """

    extent: float
    centre: float
    above: float
    below: float
    muscle: tuple[float, float] = (0.0, 0.0)
    x: float = 0.0

    def reach(self, y: Floats | float) -> Floats:
        """Return the half width of the outline at each height."""
        t = (y - self.centre) / np.where(y < self.centre, self.above, self.below)
        return np.asarray(self.extent * np.sqrt(np.clip(1 - t * t, 0, None)), dtype=np.float32)


def shape_of(view: str, modifiers: tuple[str, ...], size: int) -> Shape:
    """Return the outline of a breast of ``size`` 0 to 4 in ``view``."""
    s = 0.8 + 0.05 * size
    if view == "SPECIMEN":
        return Shape(0.2 * s, 0.5, 0.15 * s, 0.15 * s, x=0.5)
    if "magnification" in modifiers or "spot-compression" in modifiers:
        return Shape(0.9 * s, 0.5, 0.58, 0.58)
    pushed = 0.85 if "implant-displaced" in modifiers else 1.0
    if view == "MLO":
        return Shape(0.68 * s * pushed, 0.58, 0.85, 0.36 * s, (0.36 * s, 0.6))
    if view == "ML":
        return Shape(0.66 * s, 0.55, 0.75, 0.36 * s, (0.12 * s, 0.3))
    if view == "XCCL":
        return Shape(0.56 * s, 0.42, 0.7, 0.38 * s, (0.14, 0.22))
    return Shape(0.64 * s * pushed, 0.5, 0.42 * s, 0.4 * s)


def _place(shape: Shape, lesion: Lesion) -> tuple[float, float]:
    """Return the depth of a lesion along the breast, and its offset across the breast."""
    y = shape.centre + lesion.offset * (min(shape.above, 0.45) if lesion.offset < 0 else shape.below)
    return float(lesion.depth * shape.reach(y)), y


def box_of(shape: Shape, lesion: Lesion, rows: int, columns: int) -> Box:
    """Return the bounding box of ``lesion`` in an image of ``rows`` by ``columns``; it lies inside the breast.

    A box that would cross the skin or the edge of the image is made smaller.
    """
    x, y = _place(shape, lesion)
    half = max(2, round(lesion.radius * rows))
    column, row = round(x * columns), round(y * rows)

    def inside(half: int) -> bool:
        width = columns * min(float(shape.reach(y / rows)) for y in (row - half - 1, row + half + 1))
        return column - half >= 0 and row - half >= 0 and row + half < rows and column + half + 1 < width

    while half > 1 and not inside(half):
        half -= 1
    if lesion.side == "R":
        column = columns - 1 - column
    return Box(column - half, row - half, column + half, row + half)
