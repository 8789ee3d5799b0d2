"""Finds the breast in an image: its bounding box, the side of the chest wall, and the share of the image.

``omidbfs geometry`` and the workers that render use it. Pure functions: any thread may call them. The result
depends on the pixels and on what the file says of them, and on nothing else. So a box that was kept and a box that
is found anew are the same. ``rendition.DETECTOR`` is the version of what is found: change it with any change here.

Dark is background, as the file is displayed: polarity and rescaling count, windows do not. The work is done on
means of square blocks, and the edges of the box are then found in the pixels themselves:

1. Lines at the border that are constant and bright are cut away (collimator). Padding is left out.
2. A threshold between the dark and the bright part (Otsu's, of the square roots, so that bright labels count
   little) gives the level and the noise of the background. A second threshold lies just above them, so that faint
   skin is inside.
3. The largest component above it is the breast. What hangs on it by less than the width of a label, or is no wider
   than one, is taken away if it is as bright as the brightest tissue and does not lie at the chest wall.
"""

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from omidbfs.database.dicom import header_in
from omidbfs.database.terms import view_of
from omidbfs.pixels.decode import Source
from omidbfs.pixels.placement import Region
from omidbfs.pixels.values import is_darker_upwards, padding

Mask = NDArray[np.bool_]
Floats = NDArray[np.float32]

_SPECIMEN = "SPECIMEN"
_BLOCKS = 640
"""The largest number of blocks along an image."""
_BINS = 256
_SMALLEST = 0.01
"""The smallest share of an image that is a breast."""
_NOISE = 4.0
"""Standard deviations above the background that are no noise."""
_FAINT = 0.08
"""The part of the difference between tissue and background from which on there is skin, where noise is less."""
_UNEVEN = 0.15
"""A background that varies by a larger part of this difference is tissue: the breast fills the image."""
_NOISY = 0.5
"""The noise of single pixels that have to be smoothed, as a part of the difference of the faintest skin to air."""
_BRIGHTER = 1.3
"""How many times as bright as the tissue beside it a label is at least, above air."""
_LABEL = 0.09
"""The width of what is no label, as a part of the longer side of an image."""
_NEAR = 0.025
"""The distance from bright pixels up to which there may be faint skin, as a part of this side."""
_ONE_SIDED = 1.25
"""How many times as high as at its other end a breast is at the chest wall."""


class Breast(NamedTuple):
    """The breast in an image.

    ``box`` is its bounding box; ``None`` if the image has none. ``side`` is where the chest wall is, ``left`` or
    ``right``; ``None`` if the pixels do not tell. ``share`` is the share of the image that is breast, 0 to 1.
    """

    box: Region | None = None
    side: Literal["left", "right"] | None = None
    share: float = 0.0


class _Air(NamedTuple):
    """The background: its level and standard deviation, and how much brighter the faintest skin is."""

    level: float
    noise: float
    skin: float


def measured(source: Source, stored: NDArray[Any] | None = None) -> Breast:
    """Return the breast in an opened DICOM file. A specimen, and an image in colour or with frames, has none.

    ``stored`` are the stored values of the file, if they have been decoded.

    Raises
    ------
    PixelError
        The pixels cannot be decoded, or what the file says of its values makes no sense.
    OSError
        The file cannot be read.
    """
    form = source.format
    is_plain = form.SamplesPerPixel == 1 and (form.NumberOfFrames or 1) == 1
    if not is_plain or view_of(header_in(source.header)) == _SPECIMEN:
        return Breast()
    pad, darker_upwards = padding(source.header, form), is_darker_upwards(source.header, form)
    return breast_in(source.stored() if stored is None else stored, pad, darker_upwards)


def breast_in(stored: NDArray[Any], pad: tuple[int, int] | None = None, darker_upwards: bool = False) -> Breast:
    """Return the breast in an image.

    Parameters
    ----------
    stored
        The stored values, rows x columns of whole numbers of 8 or 16 bits.
    pad
        The smallest and the largest value that is padding.
    darker_upwards
        Whether the largest value is displayed as the darkest.
    """
    factor = -(-max(stored.shape) // _BLOCKS)
    blocks = _means(stored, factor)
    ignored = np.zeros(blocks.shape, np.bool_)
    if pad is not None:
        is_padding = (stored >= pad[0]) & (stored <= pad[1])
        if is_padding.any():
            if is_padding.all():
                return Breast()
            values = stored[~is_padding]
            darkest = values.max() if darker_upwards else values.min()
            blocks = _means(np.where(is_padding, darkest, stored), factor)
            ignored = _means(is_padding.view(np.uint8), factor) > 0
    bright = -blocks if darker_upwards else blocks
    window = _inside(bright, ignored, factor)
    part = bright[window], ignored[window]
    if not part[0].size or part[1].all():
        return Breast()
    found = _found(*part, smooths=factor > 1)
    if found is None:
        return Breast()
    mask, level = found
    top, left = window[0].start, window[1].start
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    edges = Region(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)
    box = Region(edges.top + top, edges.left + left, edges.bottom + top, edges.right + left)
    share = float(mask.sum() / bright.size)
    if factor > 1:
        whole = np.zeros(bright.shape, np.bool_)
        whole[window] = mask
        box = _refined(stored, whole, box, factor, -level if darker_upwards else level, darker_upwards)
    return Breast(box, _side(mask[:, edges.left : edges.right]), share)


def _means(image: NDArray[Any], factor: int) -> Floats:
    """Return the means of square blocks. The blocks at the end have fewer pixels."""
    if factor == 1:
        return image.astype(np.float32)
    whole = image.shape[0] // factor * factor
    kind = np.int32 if image.dtype.kind == "i" else np.uint32
    # Rows first, which are contiguous; sums of so few values of 16 bits are exact in 32 bits.
    sums = image[:whole].reshape(-1, factor, image.shape[1]).sum(1, dtype=kind).astype(np.float32)
    if whole < image.shape[0]:
        rest = image[whole:]
        last = rest.sum(0, dtype=kind).astype(np.float32) * np.float32(factor / len(rest))
        sums = np.concatenate([sums, last[None]])
    missing = -sums.shape[1] % factor
    if missing:
        sums = np.concatenate([sums, np.repeat(sums[:, -1:], missing, 1)], 1)
    total: Floats = sums[:, ::factor].copy()
    for at in range(1, factor):
        total += sums[:, at::factor]
    total /= np.float32(factor * factor)
    return total


def _inside(bright: Floats, ignored: Mask, factor: int) -> tuple[slice, slice]:
    """Return the part of the blocks inside of bright constant lines at the borders, at most a fifth at each."""
    ends = [[0, bright.shape[0]], [0, bright.shape[1]]]
    dark, high = np.percentile(bright, (0, 99))
    for axis in (0, 1):
        most = bright.shape[axis] // 5
        for end, step in ((0, 1), (1, -1)):
            lines = 0
            while lines < most:
                at = ends[axis][0] if end == 0 else ends[axis][1] - 1
                across = slice(*ends[1 - axis])
                line = bright[at, across] if axis == 0 else bright[across, at]
                if not line.size or np.ptp(line) or line[0] <= dark + 0.1 * (high - dark):
                    break
                ends[axis][end] += step
                lines += 1
            if lines and factor > 1:  # the block on the edge
                ends[axis][end] += step
    return slice(*ends[0]), slice(*ends[1])


def _found(bright: Floats, ignored: Mask, *, smooths: bool) -> tuple[Mask, float] | None:
    """Return the blocks of the breast, and the value from which on there is skin; ``None`` if there is none."""
    if smooths:
        bright = ndimage.uniform_filter(bright, 3, mode="nearest")
    first = _between(bright[~ignored])
    if first is None:
        return None
    inner = (bright > first) & ~ignored
    reach = 2 * max(2, round(max(bright.shape) * _NEAR)) + 1
    near = ndimage.maximum_filter(inner.view(np.uint8), reach).view(np.bool_)
    around = bright[~near & ~ignored]
    air = _air(around, float(np.percentile(bright[inner], 20))) if around.size > bright.size / 400 else None
    if air is None:
        return ~ignored, -np.inf
    if not smooths and air.noise > air.skin * _NOISY:
        return _found(bright, ignored, smooths=True)
    level = air.level + max(_NOISE * air.noise, air.skin)
    main = _largest((bright > level) & ~ignored)
    if main is None or main.sum() < _SMALLEST * main.size:
        return None
    return _without_labels(_filled(main), bright, air.level), level


def _between(values: Floats) -> float | None:
    """Return the threshold that separates dark and bright values best; ``None`` if all are equal."""
    low, high = np.percentile(values, (0.5, 98))
    if high <= low:
        low, high = float(values.min()), float(values.max())
        if high <= low:
            return None
    roots = np.sqrt(np.clip((values - low) / (high - low), 0, 1))
    counts = np.bincount((roots * (_BINS - 1) + 0.5).astype(np.intp), minlength=_BINS).astype(float)
    below = np.cumsum(counts)
    sums = np.cumsum(counts * np.arange(_BINS))
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    # All thresholds in an empty range between two groups are equally good: the middle of these.
    apart = np.nan_to_num(apart)
    best = np.flatnonzero(apart >= apart.max() * (1 - 1e-9))
    root = (float(best[0] + best[-1]) / 2 + 0.5) / (_BINS - 1)
    return float(low + root**2 * (high - low))


def _air(values: Floats, tissue: float) -> _Air | None:
    """Return what there is of air in values far from bright ones; ``None`` if that is no air."""
    middle, high = map(float, np.percentile(values, (50, 95)))
    noise = max(1.4826 * float(np.median(np.abs(values - middle))), (high - middle) / 1.645)
    apart = tissue - middle
    return _Air(middle, noise, _FAINT * apart) if apart > 0 and noise < _UNEVEN * apart else None


def _largest(mask: Mask) -> Mask | None:
    """Return the largest component of a mask, ``None`` if the mask is empty."""
    labels, count = ndimage.label(mask)
    if not count:
        return None
    sizes = np.bincount(labels.reshape(-1))
    sizes[0] = 0
    found: Mask = labels == int(sizes.argmax())
    return found


def _filled(mask: Mask) -> Mask:
    """Return a mask without holes."""
    labels, count = ndimage.label(~mask)
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    is_outside = np.zeros(count + 1, np.bool_)
    is_outside[border] = True
    is_outside[0] = False
    found: Mask = ~is_outside[labels]
    return found


def _without_labels(main: Mask, bright: Floats, air: float) -> Mask:
    """Return a component without labels that touch it."""
    width = round(max(main.shape) * _LABEL) // 2 * 2 + 1
    opened = main.view(np.uint8)
    for filtered in (ndimage.minimum_filter1d, ndimage.maximum_filter1d):
        for axis in (0, 1):
            opened = filtered(opened, width, axis, mode="nearest")
    core = _largest(opened.view(np.bool_) & main)
    if core is None:
        return main
    # A square does not reach into the end of a curve.
    core = ndimage.maximum_filter(core.view(np.uint8), 5 if width > 15 else 3).view(np.bool_) & main
    labels, count = ndimage.label(main & ~core)
    if not count:
        return main
    brightest = float(np.percentile(bright[core], 97))
    wall = _side(core[:, core.any(0)])
    edge = {"left": labels[:, 0], "right": labels[:, -1]}.get(wall or "", labels[:, :0])
    at_wall = set(np.unique(edge).tolist())
    kept = main.copy()
    for number, place in enumerate(ndimage.find_objects(labels), 1):
        if number in at_wall:
            continue
        is_one = labels[place] == number
        level = float(np.percentile(bright[place][is_one], 75))
        around = tuple(slice(max(one.start - width // 2, 0), one.stop + width // 2) for one in place)
        beside = bright[around][core[around]]
        if level > brightest or (beside.size and level - air > _BRIGHTER * float(np.percentile(beside, 75) - air)):
            kept[place] &= ~is_one
    return _largest(kept) if kept.any() else main  # type: ignore[return-value]


def _side(mask: Mask) -> Literal["left", "right"] | None:
    """Return the side of the chest wall of a mask, whose first and last column are not empty."""
    heights = mask.sum(0)
    width = max(1, len(heights) // 10)
    left, right = float(heights[:width].mean()), float(heights[-width:].mean())
    if left > _ONE_SIDED * right:
        return "left"
    return "right" if right > _ONE_SIDED * left else None


def _refined(
    stored: NDArray[Any], mask: Mask, box: Region, factor: int, level: float, darker_upwards: bool
) -> Region:
    """Return the box in pixels: each edge is where the mean of a line, across the breast, passes a level."""
    rows = _ends(stored, mask, (box.top, box.bottom), factor, level, darker_upwards)
    columns = _ends(stored.T, mask.T, (box.left, box.right), factor, level, darker_upwards)
    return Region(rows[0], columns[0], rows[1], columns[1])


def _ends(
    stored: NDArray[Any], mask: Mask, ends: tuple[int, int], factor: int, level: float, darker_upwards: bool
) -> tuple[int, int]:
    """Return the first pixel, and the one behind the last, along the rows of an image."""
    found = []
    length = stored.shape[0]
    for block, outer, step in ((ends[0], 0, 1), (ends[1] - 1, mask.shape[0] - 1, -1)):
        edge = block * factor if step == 1 else min((block + 1) * factor, length)
        if block != outer:
            across = np.flatnonzero(mask[block])
            band = slice(int(across[0]) * factor, (int(across[-1]) + 1) * factor)
            first = max((block - 1) * factor, 0)
            lines = stored[first : (block + 2) * factor, band].mean(1)
            inside = np.flatnonzero(lines < level if darker_upwards else lines > level)
            if len(inside):
                edge = first + (int(inside[0]) if step == 1 else int(inside[-1]) + 1)
        found.append(edge)
    return found[0], found[1]
