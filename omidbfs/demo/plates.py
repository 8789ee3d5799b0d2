"""Draws the pixels of images. ``tree`` uses it."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from omidbfs.demo.anatomy import Floats, Shape, box_of, shape_of
from omidbfs.demo.history import Lesion
from omidbfs.demo.imaging import Image

AIR, WHITE = 3900, 4095
"""The pixel value of the unattenuated beam in images FOR PROCESSING, and the largest 12-bit value."""


def _smooth(rng: np.random.Generator, cells: tuple[int, int], rows: int, columns: int) -> Floats:
    """Return noise with a period of one image, linear between ``cells`` random values down and across."""
    grid = rng.random(cells, dtype=np.float32) - 0.5
    for axis, length in enumerate((rows, columns)):
        at = np.arange(length, dtype=np.float32) * cells[axis] / length
        low = at.astype(np.intp)
        part = (at - low).reshape((-1, 1) if axis == 0 else (1, -1))
        grid = grid.take(low, axis) * (1 - part) + grid.take((low + 1) % cells[axis], axis) * part
    return grid.astype(np.float32)


class Plates:
    """Makes the pixels of images of ``rows`` by ``columns`` from textures, which it draws once from ``seed``."""

    def __init__(self, rows: int, columns: int, seed: int) -> None:
        self.rows, self.columns = rows, columns
        rng = np.random.Generator(np.random.PCG64(seed))
        octaves = ((5, 4, 900.0), (13, 10, 420.0), (26, 20, 260.0))
        self._tissue = np.zeros((rows, columns), np.float32)
        for down, across, gain in octaves:
            self._tissue += gain * _smooth(rng, (down, across), rows, columns)
        self._grain = 28 * rng.standard_normal((rows, columns), dtype=np.float32)
        # Shifting textures drawn once takes 0.14 ms an image (0.08 s at full size), drawing new ones 0.6 ms (1 s).
        # A template of full size has 34 MB, so the cache keeps few.
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

    def outline(self, image: Image, size: int) -> NDArray[np.bool_]:
        """Return where :meth:`pixels` draws tissue: the breast, or a specimen; rows x columns."""
        tissue: NDArray[np.bool_] = self._template(shape_of(image.view, image.modifiers, size), 0) > 0
        return tissue[:, ::-1] if image.side == "R" else tissue

    def pixels(self, image: Image, size: int, density: int, key: int) -> bytes:
        """Return the pixels of ``image`` as little-endian 16-bit words of which 12 bits are used.

        ``key`` is a number from 0 that identifies the exposure; two images of one exposure have the same key.
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
