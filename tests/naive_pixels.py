"""What a rendition shows, as the formulas of the standard say, one pixel at a time.

This is what the tables and matrices of ``omidbfs.pixels`` are compared with. It shares nothing with them: numbers
are fractions, and loops are loops.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from numpy.typing import NDArray

Image = list[list[int]]


@dataclass(frozen=True)
class LUT:
    """A lookup table: the first input value, and entries of ``bits`` bits."""

    first: int
    entries: Sequence[int]
    bits: int

    def of(self, x: Fraction | int) -> int:
        """Return the entry for an input."""
        place = math.floor(x) - self.first
        return self.entries[min(max(place, 0), len(self.entries) - 1)]


@dataclass(frozen=True)
class Grey:
    """A file: how its values are stored, and what it says of their transformation. Numbers are decimal texts."""

    bits: int
    signed: bool = False
    photometric: str = "MONOCHROME2"
    shape: str | None = None
    slope: str | None = None
    intercept: str | None = None
    modality: LUT | None = None
    window: tuple[str, str] | None = None
    function: str | None = None
    voi: LUT | None = None
    padding: tuple[int, int] | None = None

    @property
    def limits(self) -> tuple[int, int]:
        """The smallest and the largest value that fits into the bits stored."""
        return (-(2 ** (self.bits - 1)), 2 ** (self.bits - 1) - 1) if self.signed else (0, 2**self.bits - 1)

    def is_padding(self, v: int) -> bool:
        """Return whether a stored value is padding."""
        return self.padding is not None and min(self.padding) <= v <= max(self.padding)

    def x(self, v: int) -> Fraction:
        """Return the output of the modality LUT."""
        if self.modality is not None:
            return Fraction(self.modality.of(v))
        return Fraction(self.slope or "1") * v + Fraction(self.intercept or "0")


def shown(
    file: Grey, stored: NDArray, peak: int, window: str | tuple[float, float] = "voi", inverts: bool = True
) -> Image:
    """Return the values for display; ``window`` is ``voi``, ``stored``, ``minmax``, or centre and width."""
    values = [int(v) for v in stored.flat if not file.is_padding(int(v))]
    dark = file.shape == "INVERSE" if file.shape else file.photometric == "MONOCHROME1"
    result: Image = []
    for row in stored:
        result.append([])
        for value in row:
            v = int(value)
            if file.is_padding(v):
                result[-1].append(0)
                continue
            y = _y(file, v, peak, window, values)
            result[-1].append(math.floor(peak - y if dark and inverts else y))
    return result


def _y(file: Grey, v: int, peak: int, window: str | tuple[float, float], values: list[int]) -> Fraction | float:
    x = file.x(v)
    if isinstance(window, tuple):
        return _linear(x, Fraction(str(window[0])), Fraction(str(window[1])), peak)
    if window == "minmax":
        return _between(x, file.x(min(values)), file.x(max(values)), peak)
    if window == "voi" and file.voi is not None:
        return Fraction(peak * file.voi.of(x), 2**file.voi.bits - 1)
    if window == "voi" and file.window is not None:
        c, w = Fraction(file.window[0]), Fraction(file.window[1])
        if file.function == "SIGMOID":
            exponent = float(-4 * (x - c) / w)
            return peak / (1 + math.exp(exponent)) if exponent < 700 else 0.0
        if file.function == "LINEAR_EXACT":
            if x <= c - w / 2:
                return Fraction(0)
            if x > c + w / 2:
                return Fraction(peak)
            return ((x - c) / w + Fraction(1, 2)) * peak
        return _linear(x, c, w, peak)
    if file.modality is not None:
        return _between(x, Fraction(0), Fraction(2**file.modality.bits - 1), peak)
    return _between(x, file.x(file.limits[0]), file.x(file.limits[1]), peak)


def _linear(x: Fraction, c: Fraction, w: Fraction, peak: int) -> Fraction:
    half = Fraction(1, 2)
    if x <= c - half - (w - 1) / 2:
        return Fraction(0)
    if x > c - half + (w - 1) / 2:
        return Fraction(peak)
    return ((x - (c - half)) / (w - 1) + half) * peak


def _between(x: Fraction, one: Fraction, other: Fraction, peak: int) -> Fraction:
    low, high = min(one, other), max(one, other)
    if x <= low:
        return Fraction(0)
    if x > high:
        return Fraction(peak)
    return (x - low) / (high - low) * peak


def scaled(image: Image, rows: int, columns: int) -> Image:
    """Return an image of other numbers of rows and columns: averaged by area, or interpolated, along each axis."""
    down = [_weights(len(image), rows, i) for i in range(rows)]
    across = [_weights(len(image[0]), columns, j) for j in range(columns)]

    def mean(one: dict[int, Fraction], other: dict[int, Fraction]) -> Fraction:
        return sum((a * b * image[r][c] for r, a in one.items() for c, b in other.items()), Fraction(0))

    return [[math.floor(mean(one, other)) for other in across] for one in down]


def _weights(length: int, count: int, at: int) -> dict[int, Fraction]:
    """Return how much each pixel of ``length`` counts for the pixel ``at`` of ``count``."""
    if count <= length:
        begin, end = Fraction(at * length, count), Fraction((at + 1) * length, count)
        covered = {i: min(end, Fraction(i + 1)) - max(begin, Fraction(i)) for i in range(length)}
        return {i: part / (end - begin) for i, part in covered.items() if part > 0}
    centre = Fraction(2 * at + 1, 2) * length / count - Fraction(1, 2)
    centre = min(max(centre, Fraction(0)), Fraction(length - 1))
    below = math.floor(centre)
    if centre == below:
        return {below: Fraction(1)}
    return {below: 1 - (centre - below), below + 1: centre - below}


def size(rows: int, columns: int, s: Fraction) -> tuple[int, int]:
    """Return the size of an image that is scaled by ``s``."""
    half = Fraction(1, 2)
    return max(1, math.floor(rows * s + half)), max(1, math.floor(columns * s + half))


def framed(image: Image, rows: int, columns: int, side: str | None) -> Image:
    """Return an image with 0 around it, its columns at one side or in the middle, its rows in the middle."""
    free = columns - len(image[0])
    left = 0 if side == "left" else free if side == "right" else free // 2
    top = (rows - len(image)) // 2
    result = [[0] * columns for _ in range(rows)]
    for r, row in enumerate(image):
        for c, value in enumerate(row):
            result[top + r][left + c] = value
    return result
