"""The shape of a breast, its pixels, and where in them a lesion lies.

Images hang as mammograms do: the chest wall of a left breast is the left edge of the image, that of a right
breast the right edge; up is lateral (CC) or to the head (MLO, ML). Everything is computed for a left breast
and mirrored for a right one. Distances are fractions: ``x`` of the width from the chest wall, ``y`` of the
height from the top.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from omidbfs.demo.history import Lesion

if TYPE_CHECKING:
    from omidbfs.demo.imaging import Image

Floats = NDArray[np.float32]

AIR, WHITE = 3900, 4095
"""Pixel values FOR PROCESSING of the unattenuated beam, and the largest 12-bit value."""


@dataclass(frozen=True, slots=True)
class Box:
    """A box in pixels, origin top left, corners inclusive."""

    x1: int
    y1: int
    x2: int
    y2: int


@dataclass(frozen=True, slots=True)
class Shape:
    """The outline of a compressed breast in one view.

    A half ellipse that reaches ``extent`` from the chest wall at height ``centre`` and ends ``above`` and
    ``below`` it; ``muscle`` is where the pectoral muscle cuts the top and the chest wall. A specimen is a
    full ellipse of that size about ``x``.
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
    """Return where a lesion lies: its depth along the breast, its offset across it."""
    y = shape.centre + lesion.offset * (min(shape.above, 0.45) if lesion.offset < 0 else shape.below)
    return float(lesion.depth * shape.reach(y)), y


def box_of(shape: Shape, lesion: Lesion, rows: int, columns: int) -> Box:
    """Return the box of ``lesion`` in an image of ``rows`` by ``columns``; it lies inside the breast.

    A box that would reach over the skin or the edge of the image is made smaller.
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


def _smooth(rng: np.random.Generator, cells: tuple[int, int], rows: int, columns: int) -> Floats:
    """Return noise with a period of one image, linear between ``cells`` random values each way."""
    grid = rng.random(cells, dtype=np.float32) - 0.5
    for axis, length in enumerate((rows, columns)):
        at = np.arange(length, dtype=np.float32) * cells[axis] / length
        low = at.astype(np.intp)
        part = (at - low).reshape((-1, 1) if axis == 0 else (1, -1))
        grid = grid.take(low, axis) * (1 - part) + grid.take((low + 1) % cells[axis], axis) * part
    return grid.astype(np.float32)


class Plates:
    """Makes the pixels of images of ``rows`` by ``columns``, of textures drawn once from ``seed``."""

    def __init__(self, rows: int, columns: int, seed: int) -> None:
        self.rows, self.columns = rows, columns
        rng = np.random.Generator(np.random.PCG64(seed))
        octaves = ((5, 4, 900.0), (13, 10, 420.0), (26, 20, 260.0))
        self._tissue = np.zeros((rows, columns), np.float32)
        for down, across, gain in octaves:
            self._tissue += gain * _smooth(rng, (down, across), rows, columns)
        self._grain = 28 * rng.standard_normal((rows, columns), dtype=np.float32)
        # Rolling textures drawn once takes 0.14 ms an image (0.08 s at full size), drawing them anew 0.6 ms
        # (1 s). A template of full size has 34 MB: few are kept.
        self._template = lru_cache(maxsize=256 if rows * columns < 10**6 else 6)(self._render)

    def _render(self, shape: Shape, density: int) -> Floats:
        """Return a left breast without texture; 0 is air."""
        y, x = (
            (np.arange(length) + 0.5).astype(np.float32) / np.float32(length)
            for length in (self.rows, self.columns)
        )
        y = y[:, None]
        nipple = 0.0 if shape.x else 0.03 * np.exp(-(((y - shape.centre) / 0.02) ** 2))
        reach = np.maximum(shape.reach(y) + nipple, 1e-6)
        inward = 1 - ((x - shape.x) / reach) ** 2
        skin = np.clip(inward * 5, 0, 1)
        middle = np.exp(-(((x - shape.x - 0.55 * reach) / (0.6 * reach)) ** 2) - ((y - shape.centre) / 0.22) ** 2)
        breast = 650 + 750 * skin + (250 + 330 * density) * middle
        if shape.muscle[0]:
            across, down = shape.muscle
            breast += 850 * np.clip((1 - x / across - y / down) * 9, 0, 1)
        return np.where((inward > 0) & (reach > 0.001), breast, 0).astype(np.float32)

    def pixels(self, image: "Image", size: int, density: int, key: int) -> bytes:
        """Return the pixels of ``image`` as little-endian 16-bit words of which 12 bits are used.

        ``key`` is a number from 0 that tells one exposure from another: twins have the same one.
        """
        shape = shape_of(image.view, image.modifiers, size)
        template = self._template(shape, density)
        across, down = key % self.columns, (key // self.columns) % self.rows
        plate = np.roll(self._tissue, (down, across), (0, 1)) * (0.5 + 0.25 * density)
        plate += template
        for lesion in image.lesions:
            self._draw(plate, shape, lesion, key)
        if image.intent == "FOR PROCESSING":
            plate = AIR * np.exp(-np.clip(plate, 0, WHITE) / 1500)
            plate[template == 0] = AIR
            plate += np.roll(self._grain, (across, down), (0, 1))
        else:
            plate += np.roll(self._grain, (across, down), (0, 1))
            plate[template == 0] = 0
        np.clip(plate, 0, WHITE, out=plate)
        if image.side == "R":
            plate = plate[:, ::-1]
        return plate.astype("<u2").tobytes()

    def _draw(self, plate: Floats, shape: Shape, lesion: Lesion, key: int) -> None:
        """Add a lesion to a left breast: a spiculated mass, a cluster of specks, or radiating lines."""
        left = Lesion("L", lesion.number, lesion.appearance, lesion.depth, lesion.offset, lesion.radius)
        if shape.x:
            left = Lesion("L", "1", lesion.appearance, 0.0, 0.0, lesion.radius)
        box = box_of(shape, left, self.rows, self.columns)
        shift = round(shape.x * self.columns)
        x1, x2 = max(box.x1 + shift, 0), box.x2 + 1 + shift
        patch = plate[max(box.y1, 0) : box.y2 + 1, x1:x2]
        dy, dx = np.mgrid[-1 : 1 : patch.shape[0] * 1j, -1 : 1 : patch.shape[1] * 1j].astype(np.float32)
        radius, angle = np.hypot(dx, dy), np.arctan2(dy, dx)
        if lesion.appearance == "mass":
            patch += 1100 * np.exp(-3 * (radius * (1.15 + 0.35 * np.cos(7 * angle + key))) ** 2)
        elif lesion.appearance == "distortion":
            patch += 1200 * np.exp(-1.5 * radius) * np.cos(4 * angle + key) ** 2
        else:
            rng = np.random.Generator(np.random.PCG64(key))
            rows, columns = (rng.integers(0, length, 9) for length in patch.shape)
            patch[rows, columns] += 1500
