"""``coco.json``: the marks of a cohort as bounding boxes of COCO (https://cocodataset.org/#format-data).

``formats`` uses it. It is pure, for any thread.

Categories are the features of marks. The category of a mark is its first feature in the order of the table, or
``unspecified`` if it has none. Its attributes have all its features. The origin is the top left corner.

A bounding box is corrected if its meaning is plain: corners in the wrong order are swapped, and a box with at
least half of its area inside the image is cut off at the edges. All other wrong boxes are left out, and listed
under ``info``.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import orjson
from numpy.typing import NDArray

from omidbfs import __version__
from omidbfs.cohorts.cohort import Cohort, Cohorts
from omidbfs.database.boxes import MOSTLY_OUTSIDE, NO_AREA, OUTSIDE
from omidbfs.database.file_kinds import DCM
from omidbfs.exports.fields import FEATURES, Rows, described, pages
from omidbfs.index.columns import Index
from omidbfs.index.levels import Marks

UNSPECIFIED = len(FEATURES) + 1
"""Category of a mark without a feature. The category of feature ``i`` is ``i + 1``."""

_LEFT_OUT = ("", "the size of its image is unknown", NO_AREA, OUTSIDE, MOSTLY_OUTSIDE)
_NO_SIZE, _NO_AREA, _OUTSIDE, _MOSTLY_OUTSIDE = range(1, len(_LEFT_OUT))
_CORRECTIONS = ("corners swapped", "cut off at the edge")


@dataclass(frozen=True, slots=True)
class Boxes:
    """Marks as bounding boxes: ``x y width height`` (int64, pixels) of each, and how it was corrected.

    ``numbers`` are positions in ``index.marks``. ``swapped`` and ``cut`` mark the two corrections. ``reason`` is
    the position of the reason for which a mark is left out, 0 for a mark that is kept.
    """

    numbers: NDArray[np.intp]
    box: NDArray[np.int64]
    swapped: NDArray[np.bool_]
    cut: NDArray[np.bool_]
    reason: NDArray[np.uint8]


def boxes_of(index: Index, numbers: NDArray[np.intp]) -> Boxes:
    """Return the corrected bounding boxes of marks; ``numbers`` are their positions in ``index.marks``."""
    marks = index.marks
    given = np.stack([getattr(marks, name)[numbers] for name in ("x1", "y1", "x2", "y2")]).astype(np.int64)
    low, high = np.minimum(given[:2], given[2:]), np.maximum(given[:2], given[2:])
    size = index.matrix[marks.row[numbers]].T[::-1].astype(np.int64)  # columns, rows: x, y
    inner_low, inner_high = np.clip(low, 0, size), np.clip(high, 0, size)
    whole, inside = _areas(low, high), _areas(inner_low, inner_high)
    reason = np.select(
        [(size == 0).any(axis=0), whole == 0, inside == 0, 2 * inside < whole],
        [_NO_SIZE, _NO_AREA, _OUTSIDE, _MOSTLY_OUTSIDE],
        0,
    ).astype(np.uint8)
    swapped: NDArray[np.bool_] = np.any(given[:2] > given[2:], axis=0)
    return Boxes(numbers, np.concatenate([inner_low, inner_high - inner_low]).T, swapped, inside < whole, reason)


def _areas(low: NDArray[np.int64], high: NDArray[np.int64]) -> NDArray[np.float64]:
    areas: NDArray[np.float64] = (high - low).astype(np.float64).prod(axis=0)  # as floats, which cannot overflow
    return areas


def coco(cohorts: Cohorts, cohort: Cohort, title: str, names: Callable[[Rows], list[bytes]]) -> Iterator[bytes]:
    """Yield ``coco.json`` of a cohort.

    ``names`` returns the names of images without suffixes, relative to the directory of the cohort.
    """
    index = cohorts.index
    rows = cohorts.row_array(cohort)
    rows = rows[index.files[DCM].access[rows] != 0] if DCM in cohort.files else rows[:0]
    boxes = boxes_of(index, Marks(index).among(rows))
    sized = rows[(index.matrix[rows] != 0).all(axis=1)]
    yield b'{"info":' + orjson.dumps(_info(index, boxes, title, len(rows) - len(sized)))
    yield b',\n"licenses":[],\n"categories":' + orjson.dumps(_categories()) + b',\n"images":'
    yield from _array(_images(index, sized, names))
    yield b',\n"annotations":'
    yield from _array(_annotations(index, boxes))
    yield b"}\n"


def _info(index: Index, boxes: Boxes, title: str, without_size: int) -> dict[str, object]:
    left_out = np.flatnonzero(boxes.reason)
    reasons = [_LEFT_OUT[reason] for reason in boxes.reason[left_out].tolist()]
    numbers = boxes.numbers[left_out]
    names = index.images.take(index.marks.row[numbers]) if len(numbers) else []
    return {
        "description": f"OMI-DB, {title}",
        "version": __version__,
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


def _categories() -> list[dict[str, object]]:
    names = (*FEATURES, "unspecified")
    return [{"id": number, "name": name, "supercategory": "finding"} for number, name in enumerate(names, 1)]


def _array(parts: Iterable[list[dict[str, object]]]) -> Iterator[bytes]:
    """Yield a JSON array with one item in each line."""
    before = b"["
    for part in parts:
        if part:
            yield before + b"\n" + b",\n".join(map(orjson.dumps, part))
            before = b","
    yield b"]" if before == b"," else b"[]"


def _images(index: Index, rows: Rows, names: Callable[[Rows], list[bytes]]) -> Iterator[list[dict[str, object]]]:
    for page in pages(rows):
        files = ((name + DCM.suffix).decode("ascii") for name in names(page))
        sizes = index.matrix[page].tolist()
        yield [
            {"id": row + 1, "file_name": file, "width": width, "height": height}
            for row, file, (height, width) in zip(page.tolist(), files, sizes, strict=True)
        ]


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
    number: int, row: int, box: list[int], mark: dict[str, object], corrected: list[str]
) -> dict[str, object]:
    features = mark["features"]
    assert isinstance(features, list)
    return {
        "id": number + 1,
        "image_id": row + 1,
        "category_id": FEATURES.index(features[0]) + 1 if features else UNSPECIFIED,
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
