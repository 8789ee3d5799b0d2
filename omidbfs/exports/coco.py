"""``coco.json``: the marks of a cohort as bounding boxes of COCO (https://cocodataset.org/#format-data).

``formats`` uses it. It is pure, for any thread.

Categories are the features of marks. The category of a mark is its first feature in the order of the table, or
``unspecified`` if it has none. Its attributes have all its features. The origin is the top left corner.

A bounding box is corrected if its meaning is plain: corners in the wrong order are swapped, and a box with at
least half of its area inside the image is cut off at the edges. All other wrong boxes are left out, and listed
under ``info``.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import orjson
from numpy.typing import NDArray

from omidbfs.base.version import installed_version
from omidbfs.database.boxes import MOSTLY_OUTSIDE, NO_AREA, OUTSIDE
from omidbfs.database.file_kinds import DCM
from omidbfs.exports.coordinates import FOLLOWING, Coordinates, Places
from omidbfs.exports.fields import FEATURES, described, pages
from omidbfs.exports.selection import Selection
from omidbfs.index.columns import Index
from omidbfs.index.levels import Marks, Rows

UNSPECIFIED = len(FEATURES) + 1
"""Category of a mark without a feature. The category of feature ``i`` is ``i + 1``."""

LEFT_OUT = (
    "",
    "the size of its image is unknown",
    NO_AREA,
    OUTSIDE,
    MOSTLY_OUTSIDE,
    "it is outside of what the rendition shows",
)
"""Why a mark is left out, by :attr:`Boxes.reason`."""

_CORRECTIONS = ("corners swapped", "cut off at the edge")


@dataclass(frozen=True, slots=True)
class Boxes:
    """Marks as bounding boxes: ``x y width height`` in pixels, and how each was corrected.

    ``numbers`` are positions in ``index.marks``. In a rendition, boxes are floats. ``swapped`` and ``cut`` mark
    the two corrections. ``reason`` is the position of the reason for which a mark is left out, 0 for one that is
    kept.
    """

    numbers: NDArray[np.intp]
    box: NDArray[np.int64] | NDArray[np.float64]
    swapped: NDArray[np.bool_]
    cut: NDArray[np.bool_]
    reason: NDArray[np.uint8]


def boxes_of(index: Index, numbers: NDArray[np.intp], coordinates: Coordinates | None = None) -> Boxes:
    """Return the corrected bounding boxes of marks; ``numbers`` are their positions in ``index.marks``.

    With ``coordinates``, they are in pixels of a rendition, and in that part of the image that it shows.
    """
    marks = index.marks
    given = np.stack([getattr(marks, name)[numbers] for name in ("x1", "y1", "x2", "y2")]).astype(np.int64)
    low, high = np.minimum(given[:2], given[2:]), np.maximum(given[:2], given[2:])
    places = None if coordinates is None else coordinates.of(marks.row[numbers])
    # columns, rows: x, y
    size = index.matrix[marks.row[numbers]].T[::-1].astype(np.int64) if places is None else places.sizes
    inner_low, inner_high = np.clip(low, 0, size), np.clip(high, 0, size)
    whole, inside = _areas(low, high), _areas(inner_low, inner_high)
    reasons = [(size == 0).any(axis=0), whole == 0, inside == 0, 2 * inside < whole]
    if places is not None:
        limits = places.limits
        inner_low, inner_high = (np.clip(side, limits[:2], limits[2:]) for side in (inner_low, inner_high))
        inside = _areas(inner_low, inner_high)
        reasons.append(inside == 0)
    reason = np.select(reasons, list(range(1, len(reasons) + 1)), 0).astype(np.uint8)  # places in LEFT_OUT
    swapped: NDArray[np.bool_] = np.any(given[:2] > given[2:], axis=0)
    corners = np.concatenate([inner_low, inner_high])
    shown = corners if places is None else places.boxes(corners)
    return Boxes(numbers, np.concatenate([shown[:2], shown[2:] - shown[:2]]).T, swapped, inside < whole, reason)


def _areas(low: NDArray[np.int64], high: NDArray[np.int64]) -> NDArray[np.float64]:
    areas: NDArray[np.float64] = (high - low).astype(np.float64).prod(axis=0)  # as floats, which cannot overflow
    return areas


def coco(chosen: Selection) -> Iterator[bytes]:
    """Yield ``coco.json`` of a cohort, or of its renditions."""
    index, cohort, coordinates = chosen.cohorts.index, chosen.cohort, chosen.coordinates
    rows = chosen.cohorts.rows(cohort)
    rows = rows[index.files[DCM].access[rows] != 0] if DCM in cohort.files else rows[:0]
    boxes = boxes_of(index, Marks(index).among(rows), coordinates)
    sized = rows[(index.matrix[rows] != 0).all(axis=1)] if coordinates is None else rows
    yield b'{"info":' + orjson.dumps(_info(index, boxes, chosen.title, len(rows) - len(sized)))
    yield b',\n"licenses":[],\n"categories":' + orjson.dumps(categories()) + b',\n"images":'
    yield from _array(_images(chosen, sized))
    yield b',\n"annotations":'
    yield from _array(_annotations(index, boxes))
    yield b"}\n"


def _info(index: Index, boxes: Boxes, title: str, without_size: int) -> dict[str, object]:
    left_out = np.flatnonzero(boxes.reason)
    reasons = [LEFT_OUT[reason] for reason in boxes.reason[left_out].tolist()]
    numbers = boxes.numbers[left_out]
    names = index.images.take(index.marks.row[numbers]) if len(numbers) else []
    return {
        "description": f"OMI-DB, {title}",
        "version": installed_version(),
        "images_left_out": {"the size is unknown": without_size} if without_size else {},
        "marks_left_out": dict(sorted(Counter(reasons).items())),
        "marks_corrected": {
            what: int(np.count_nonzero(done & (boxes.reason == 0)))
            for what, done in zip(_CORRECTIONS, (boxes.swapped, boxes.cut), strict=True)
        },
        "left_out": [
            {"image": name.decode(), "mark": mark["id"], "reason": reason}
            for name, mark, reason in zip(names, described(index.marks, numbers), reasons, strict=True)
        ],
    }


def categories() -> list[dict[str, object]]:
    """Return the categories of COCO, whose numbers are 1, 2, ..."""
    names = (*FEATURES, "unspecified")
    return [{"id": number, "name": name, "supercategory": "finding"} for number, name in enumerate(names, 1)]


def category_of(features: list[str]) -> int:
    """Return the number of the category of a mark with some features, which are in the order of their table."""
    return FEATURES.index(features[0]) + 1 if features else UNSPECIFIED


def _array(parts: Iterable[list[dict[str, object]]]) -> Iterator[bytes]:
    """Yield a JSON array with one item in each line."""
    before = b"["
    for part in parts:
        if part:
            yield before + b"\n" + b",\n".join(map(orjson.dumps, part))
            before = b","
    yield b"]" if before == b"," else b"[]"


def _images(chosen: Selection, rows: Rows) -> Iterator[list[dict[str, object]]]:
    index, coordinates = chosen.cohorts.index, chosen.coordinates
    for page in pages(rows):
        files = [file.decode("ascii") for file in chosen.files(page)]
        if coordinates is None:
            sizes = [{"width": width, "height": height} for height, width in index.matrix[page].tolist()]
        else:
            sizes = _sizes(coordinates.of(page))
        yield [
            {"id": row + 1, "file_name": file, **size}
            for row, file, size in zip(page.tolist(), files, sizes, strict=True)
        ]


def _sizes(places: Places) -> list[dict[str, object]]:
    """Return the sizes of renditions, and where their images are in them."""
    names = {"columns": "width", "rows": "height"}
    columns = [getattr(places, name).tolist() for name in (*names, *FOLLOWING)]
    keys = (*names.values(), *FOLLOWING)
    return [dict(zip(keys, values, strict=True)) for values in zip(*columns, strict=True)]


def _annotations(index: Index, boxes: Boxes) -> Iterator[list[dict[str, object]]]:
    kept = np.flatnonzero(boxes.reason == 0)
    for start in range(0, len(kept), 1024):
        part = kept[start : start + 1024]
        numbers = boxes.numbers[part]
        rows, shapes = index.marks.row[numbers].tolist(), boxes.box[part].tolist()
        done = zip(boxes.swapped[part].tolist(), boxes.cut[part].tolist(), strict=True)
        corrected = ([what for what, is_so in zip(_CORRECTIONS, made, strict=True) if is_so] for made in done)
        columns = (numbers.tolist(), rows, shapes, described(index.marks, numbers), corrected)
        yield [_annotation(*values) for values in zip(*columns, strict=True)]


def _annotation(
    number: int, row: int, box: list[int] | list[float], mark: dict[str, object], corrected: list[str]
) -> dict[str, object]:
    features = mark["features"]
    assert isinstance(features, list)
    return {
        "id": number + 1,
        "image_id": row + 1,
        "category_id": category_of(features),
        "bbox": box,
        "area": box[2] * box[3],
        "iscrowd": 0,
        "attributes": {
            "mark": mark["id"],
            "features": features,
            "conspicuity": mark["conspicuity"],
            "mass_classification": mark["mass_classification"],
            "benign_classification": mark["benign_classification"],
            "lesions": mark["lesions"],
            "corrected": corrected,
        },
    }
