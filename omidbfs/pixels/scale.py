"""Scales images for display and puts them into a frame. Exact: whole numbers, and one ``floor`` at the end.

``render`` uses it. Pure functions: any thread may call them. An axis that becomes shorter is averaged by area: an
output pixel is the mean of the input that it covers, where a pixel counts by the part of it that is covered. An
axis that becomes longer is interpolated linearly between the centres of pixels, and constant outside them.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omidbfs.pixels.rendition import Box, Longest

_PRODUCT = 1 << 18
"""The square of the rows of output, times the columns of input, of a product: a processor's cache holds it."""
_WIDTH = 32
"""Columns of output of a product: few, since most weights of wide ones are 0."""


def inner_size(size: Box | Longest | None, rows: int, columns: int) -> tuple[int, int]:
    """Return the rows and columns to which an image is scaled, without what a :class:`Box` adds around it.

    They are max(1, floor(n s + 1/2)). For a box, s is the largest that fits, and may be above 1; for
    :class:`Longest`, it is at most 1.
    """
    if isinstance(size, Box):
        is_limited_by_rows = size.rows * columns <= size.columns * rows
        numerator, denominator = (size.rows, rows) if is_limited_by_rows else (size.columns, columns)
    elif size is not None and size.pixels < max(rows, columns):
        numerator, denominator = size.pixels, max(rows, columns)
    else:
        return rows, columns
    scaled = (max(1, (2 * count * numerator + denominator) // (2 * denominator)) for count in (rows, columns))
    return next(scaled), next(scaled)


def scaled(image: NDArray[Any], rows: int, columns: int) -> NDArray[Any]:
    """Return an image of rows x columns (x samples), of type u1 or u2, with other numbers of rows and columns."""
    if image.shape[:2] == (rows, columns):
        return image
    if image.ndim > 2:
        samples = [scaled(image[..., sample], rows, columns) for sample in range(image.shape[2])]
        return np.stack(samples, axis=-1)
    height = max(1, math.isqrt(_PRODUCT // max(1, image.size // rows)))
    across = [_band(image.shape[1], columns, at, _WIDTH) for at in range(0, columns, _WIDTH)]
    divisor = _divisor(image.shape[0], rows) * _divisor(image.shape[1], columns)
    result = np.empty((rows, columns), image.dtype)
    totals = np.empty((height, columns))
    for at in range(0, rows, height):
        down = _band(image.shape[0], rows, at, height)
        # Products of numbers of 64 bits with floating point: whole numbers below 2^53, so the order is no matter.
        part = down.weights @ image[down.inputs].astype(float)
        for band in across:
            np.matmul(part[:, band.inputs], band.weights.T, out=totals[: len(part), band.outputs])
        # Never rounded up to a whole number: the quotient is below 2^16, the divisor at most 2^32.
        result[down.outputs] = totals[: len(part)] / divisor
    return result


def framed(image: NDArray[Any], rows: int, columns: int, top: int, left: int) -> NDArray[Any]:
    """Return an image in a frame of 0, from row ``top`` and column ``left`` on."""
    if image.shape[:2] == (rows, columns):
        return image
    result = np.zeros((rows, columns, *image.shape[2:]), image.dtype)
    result[top : top + image.shape[0], left : left + image.shape[1]] = image
    return result


@dataclass(frozen=True, slots=True)
class _Band:
    """Consecutive output pixels of an axis, the input that they are made of, and outputs x inputs weights."""

    outputs: slice
    inputs: slice
    weights: NDArray[np.float64]


def _divisor(length: int, count: int) -> int:
    """Return the sum of the weights of an output pixel."""
    return length if count <= length else 2 * count


def _band(length: int, count: int, first: int, most: int) -> _Band:
    """Return at most ``most`` output pixels from ``first`` on, of ``count`` that are made of ``length``."""
    outputs = np.arange(first, min(count, first + most))[:, None]
    if count <= length:
        # Output i covers the input from i length / count to (i + 1) length / count; weights are in 1 / count.
        begin, end = outputs * length, (outputs + 1) * length
        inputs = np.arange(begin[0, 0] // count, -(-end[-1, 0] // count))
        weights = np.minimum(end, (inputs + 1) * count) - np.maximum(begin, inputs * count)
    else:
        # The centre of output i is at (2 i + 1) length / (2 count) - 1/2; weights are in 1 / (2 count).
        centres = np.clip((2 * outputs + 1) * length - count, 0, 2 * count * (length - 1))
        inputs = np.arange(centres[0, 0] // (2 * count), -(-centres[-1, 0] // (2 * count)) + 1)
        weights = 2 * count - np.abs(centres - inputs * 2 * count)
    weights = np.maximum(weights, 0).astype(float)
    return _Band(slice(first, first + len(outputs)), slice(inputs[0], inputs[-1] + 1), weights)
