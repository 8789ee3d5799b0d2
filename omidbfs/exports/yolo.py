"""A cohort as a data set for YOLO: ``images/``, ``labels/`` and ``data.yaml``, as ultralytics reads them.

``omidbfs export --format yolo`` uses it, in its main thread. Images are made as by ``omidbfs export --as``
(``rendered``), so only where something has changed. The other files are made from the index each time.

A label file has a line for each box: the number of its class, the centre, and the size. These four are shares of
the width and height of the image. Classes and boxes are those of ``coco.json``, except that the first class is 0.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress

import numpy as np

from omidbfs.base.whole import replacing
from omidbfs.database.layout import Source
from omidbfs.exports.coco import LEFT_OUT, boxes_of, categories, category_of
from omidbfs.exports.fields import features_of, pages
from omidbfs.exports.rendered import Outcome, make_directories, placed, write_files
from omidbfs.exports.rendition_record import Entry, Record
from omidbfs.exports.selection import Selection
from omidbfs.index.executors import Work
from omidbfs.index.levels import Marks, Rows

IMAGES, LABELS, DATA = "images", "labels", "data.yaml"

_PARTS: Mapping[str, tuple[str, ...]] = {
    "train": ("train",),
    "val": ("val", "valid", "validation"),
    "test": ("test",),
}
"""Key of ``data.yaml`` -> the names of the directory for which it stands."""


def write_data_set(
    source: Source,
    chosen: Selection,
    layout: str,
    record: Record,
    work: Callable[[], AbstractContextManager[Work]],
) -> tuple[Outcome, dict[str, int]]:
    """Write a data set below the directory of ``record``; remove files of the record that it does not have.

    Return what was done, and the number of marks that were left out by reason. Parameters and errors are those of
    :func:`~omidbfs.exports.rendered.write_files`; ``layout`` is that of :func:`~omidbfs.exports.rendered.placed`.
    An image that cannot be rendered has no label file.
    """
    index, rendition = chosen.cohorts.index, chosen.cohort.rendition
    assert rendition is not None
    files = placed(chosen.cohorts, chosen.cohort, rendition, layout)
    images = {row: tuple(f"{IMAGES}/{path}" for path in paths) for row, paths in files.items()}
    label_of = {path: _label(path) for paths in images.values() for path in paths}
    outcome = write_files(source, index, images, rendition, record, work, {*label_of.values(), DATA})
    root = record.directory
    make_directories(root, label_of.values())
    parts = {path.split("/")[0] for paths in files.values() for path in paths if "/" in path}
    _write(record, DATA, _data(parts).encode())
    left_out: Counter[str] = Counter()
    for rows, labels in _labels(chosen, np.array(list(files), np.uint32), left_out):
        for row, text in zip(rows.tolist(), labels, strict=True):
            for path in images[row]:
                if (root / path).exists():
                    _write(record, label_of[path], text)
                else:
                    record.remove((label_of[path],))
        record.flush()
    return outcome, dict(sorted(left_out.items()))


def _label(image: str) -> str:
    return f"{LABELS}/{image.removeprefix(IMAGES + '/').rpartition('.')[0]}.txt"


def _write(record: Record, path: str, content: bytes) -> None:
    """Write a file that has not this content yet."""
    place = record.directory / path
    with suppress(FileNotFoundError):
        if place.read_bytes() == content and record.known((path,)):
            return
    record.add((path,), Entry(len(content), 0, 0, None))
    with replacing(place, sweeps=False, syncs=False) as stream:
        stream.write(content)


def _labels(chosen: Selection, rows: Rows, left_out: Counter[str]) -> Iterator[tuple[Rows, list[bytes]]]:
    """Yield rows in pages, with the content of the label file of each. Count the marks that are left out."""
    index, coordinates = chosen.cohorts.index, chosen.coordinates
    assert coordinates is not None
    for page in pages(rows):
        boxes = boxes_of(index, Marks(index).among(page), coordinates)
        left_out.update(LEFT_OUT[reason] for reason in boxes.reason[boxes.reason != 0].tolist())
        kept = np.flatnonzero(boxes.reason == 0)
        numbers = boxes.numbers[kept]
        of_row = index.marks.row[numbers]
        places = coordinates.of(of_row)
        size = np.stack([places.columns, places.rows])
        low = boxes.box[kept, :2].T
        # Within the image: a product may be above a whole number by the last digit.
        low, high = (np.clip(corner, 0, size) for corner in (low, low + boxes.box[kept, 2:].T))
        shares = np.concatenate([(low + high) / 2 / size, (high - low) / size])
        lines: dict[int, list[bytes]] = {}
        features = index.marks.features[numbers].tolist()
        for row, bits, *box in zip(of_row.tolist(), features, *shares.tolist(), strict=True):
            words = (category_of(features_of(bits)) - 1, *box)
            lines.setdefault(row, []).append(" ".join(map(repr, words)).encode() + b"\n")
        yield page, [b"".join(lines.get(row, ())) for row in page.tolist()]


def _data(parts: set[str]) -> str:
    """Return ``data.yaml``. ``parts`` are the directories in ``images/``.

    It names no place, so the data set can be moved: ultralytics looks beside the file.
    """
    found = {key: f"{IMAGES}/{name}" for key, names in _PARTS.items() for name in names if name in parts}
    # ultralytics needs both. Where there is no part for validation, it validates on what it trains on.
    train = found.get("train")
    found = {"train": IMAGES, "val": IMAGES} if train is None else {"train": train, "val": train, **found}
    lines = [f"{key}: {directory}" for key, directory in found.items()]
    names = [str(category["name"]) for category in categories()]
    lines += [f"nc: {len(names)}", "names:", *(f"  {number}: {name}" for number, name in enumerate(names))]
    return "".join(f"{line}\n" for line in lines)
