"""Draws mammograms of which the bounding box of the breast and the side of the chest wall are known.

It follows textbooks, not the detector: a compressed breast fades at the skin line, and noise lies over everything.
There are lead letters, plates with text that may touch the skin, a pectoral muscle, implants, collimator blades,
and padding. Images are stored in 8 to 16 bits, bright or dark.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Drawing:
    """What to draw. Lengths are parts of the height of the image."""

    seed: int = 0
    rows: int = 640
    columns: int = 512
    side: str = "left"
    extent: float = 0.35
    above: float = 0.4
    below: float = 0.35
    middle: float = 0.5
    fade: float = 0.03
    noise: float = 0.01
    air: float = 0.05
    muscle: bool = False
    implant: bool = False
    label: str = ""
    """``corner``, ``near`` or ``touching``; no label if empty."""
    collimator: float = 0.0
    padding: float = 0.0
    is_inverted: bool = False
    bits: int = 12


@dataclass(frozen=True)
class Drawn:
    """A drawing as a file stores it. ``box`` is top, left, bottom, right, with the ends outside."""

    stored: NDArray[np.uint16]
    padding: tuple[int, int] | None
    box: tuple[int, int, int, int]
    side: str
    share: float


def drawn(of: Drawing) -> Drawn:
    """Return a drawing."""
    rng = np.random.default_rng(of.seed)
    rows, columns = of.rows, of.columns
    y = ((np.arange(rows) + 0.5) / rows)[:, None]
    x = ((np.arange(columns) + 0.5) / rows)[None, :]
    t = (y - of.middle) / np.where(y < of.middle, of.above, of.below)
    reach = of.extent * np.sqrt(np.clip(1 - t**2, 0, None))
    nipple = 0.02 * np.exp(-(((y - of.middle - 0.02) / 0.012) ** 2))
    depth = np.where(reach > 0, reach + nipple, 0) - x
    is_breast = depth > 0
    tissue = 0.25 + 0.12 * _cloud(rng, rows, columns, 7) + 0.08 * _cloud(rng, rows, columns, 23)
    tissue = tissue + 0.2 * np.exp(-((x - 0.45 * of.extent) ** 2 + (y - of.middle) ** 2) / (0.4 * of.extent) ** 2)
    if of.muscle:
        tissue = tissue + 0.2 * np.clip((0.3 - y * 0.45 - x) * 12, 0, 1)
    if of.implant:
        far = ((x - 0.3 * of.extent) / (0.55 * of.extent)) ** 2 + ((y - of.middle) / (0.6 * of.below)) ** 2
        tissue = np.where(far < 1, 0.93, tissue)
    skin = np.clip(depth / of.fade, 0, 1)
    image = of.air + np.where(is_breast, np.clip(tissue, 0.1, 0.95) * skin, 0)
    image = image + of.noise * rng.standard_normal(image.shape)
    _letter(image, of, is_breast, rng)
    if of.side == "right":
        image, is_breast = image[:, ::-1].copy(), is_breast[:, ::-1].copy()
    is_padding = np.zeros(image.shape, bool)
    _blades(image, is_breast, is_padding, of)
    return _stored(np.clip(image, 0, 1), is_breast, is_padding, of)


def _cloud(rng: np.random.Generator, rows: int, columns: int, cells: int) -> NDArray[Any]:
    """Return smooth noise of about -1 to 1."""
    waves = np.zeros((rows, columns))
    y, x = np.arange(rows)[:, None] / rows, np.arange(columns)[None, :] / rows
    for _ in range(5):
        down, across, phase = rng.uniform(-cells, cells), rng.uniform(-cells, cells), rng.uniform(0, 6.28)
        waves += np.cos(down * y * 3 + across * x * 3 + phase) / 5
    return waves


def _letter(image: NDArray[Any], of: Drawing, is_breast: NDArray[Any], rng: np.random.Generator) -> None:
    """Draw a plate of lead with letters cut out, or letters alone, in white."""
    if not of.label:
        return
    rows, columns = image.shape
    height, width = round(rows * rng.uniform(0.03, 0.05)), round(rows * rng.uniform(0.04, 0.08))
    glyphs = np.ones((height, width), bool)
    if rng.random() < 0.5:  # letters: strokes with gaps between them
        stroke = max(1, height // 6)
        glyphs[:, :: 2 * stroke] = False
        glyphs[::, 1 :: 2 * stroke] = False
        glyphs[:stroke] = glyphs[-stroke:] = True
    else:
        glyphs[height // 3 : height // 2, width // 4 : width // 2] = False
    ends = np.where(is_breast.any(1), is_breast.shape[1] - np.argmax(is_breast[:, ::-1], 1), 0)
    if of.label == "corner":
        top, left = round(rows * 0.02), columns - width - round(rows * 0.02)
    else:
        top = round(rows * (of.middle - of.above * rng.uniform(0.35, 0.6)))
        gap = 0 if of.label == "touching" else round(rows * 0.02)
        left = int(ends[max(top, 0) : top + height].max()) + gap
        if of.label == "touching":
            left -= round(rows * 0.004)
    top, left = max(top, 0), min(left, columns - width)
    place = image[top : top + height, left : left + width]
    place[glyphs[: place.shape[0], : place.shape[1]]] = 0.99


def _blades(image: NDArray[Any], is_breast: NDArray[Any], is_padding: NDArray[Any], of: Drawing) -> None:
    """Draw blades of a collimator, white, and padding, above and below."""
    rows = image.shape[0]
    for part, value, mask in ((of.collimator, 1.0, None), (of.padding, 0.0, is_padding)):
        width = round(rows * part)
        if width:
            for lines in (slice(0, width), slice(rows - width, rows)):
                image[lines], is_breast[lines] = value, False
                if mask is not None:
                    mask[lines] = True


def _stored(image: NDArray[Any], is_breast: NDArray[Any], is_padding: NDArray[Any], of: Drawing) -> Drawn:
    most = (1 << of.bits) - 1
    values = np.rint(image * (most - 1)).astype(np.int64) + 1  # 0 is padding
    if of.is_inverted:
        values = most + 1 - values
    values[is_padding] = 0
    down, across = np.flatnonzero(is_breast.any(1)), np.flatnonzero(is_breast.any(0))
    box = int(down[0]), int(across[0]), int(down[-1]) + 1, int(across[-1]) + 1
    words = values.astype(np.uint8 if of.bits == 8 else np.uint16)
    return Drawn(words, (0, 0) if is_padding.any() else None, box, of.side, float(is_breast.mean()))


def overlap(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> float:
    """Return the intersection over union of two boxes."""

    def area(box: tuple[int, int, int, int]) -> int:
        return max(0, box[2] - box[0]) * max(0, box[3] - box[1])

    inner = max(one[0], other[0]), max(one[1], other[1]), min(one[2], other[2]), min(one[3], other[3])
    return area(inner) / (area(one) + area(other) - area(inner))
