"""What was found in the pixels of images, in a file beside the index: the breast, and the side of the chest wall.

``omidbfs geometry`` writes the file (``pixels/survey.py``). Sessions read it, from a thread that may wait for a
disk.

Records are found by the names of client, study and image, and count as long as the DICOM file has the same size
and time. So they survive refreshes, and an index that is built anew. An image that could not be measured has a
record too, with the kind of its failure, so that it is not tried again in vain.
"""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from omidbfs.database.file_kinds import DCM
from omidbfs.index.columns import Index, blocks
from omidbfs.index.container import NOT_OURS, FileKind, NoFileError, mapped, save_arrays
from omidbfs.index.names import Names
from omidbfs.index.sections import IndexFileError

KIND = FileKind("omidbfs geometry", "1")
CHEST_WALL, BOX = OF_PIXELS = "chest-wall", "box"
"""The facets that depend on records (``measured_facets``)."""

SIDES = (None, "left", "right")
"""The sides of a chest wall, by code."""

_WHOLE = 65535
"""The share that stands for a whole image."""
_FACTOR, _MIX = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)
_CORNERS = 4


class Record(NamedTuple):
    """What was found in an image: its box (top, left, bottom, right, in pixels, the ends outside), or ``None``;

    the side of its chest wall, ``left``, ``right`` or ``None``; the share of the image that is breast, 0 to 1; and
    why it could not be measured, empty if it could.
    """

    box: tuple[int, int, int, int] | None = None
    side: str | None = None
    share: float = 0.0
    kind: str = ""


def place_of(index_path: Path) -> Path:
    """Return the file that belongs to an index."""
    return index_path.with_name(f"{index_path.name}.geometry")


def keys_of(index: Index, rows: NDArray[np.integer] | None = None) -> NDArray[np.uint64]:
    """Return a hash of the names of client, study and image, of all images or of those at ``rows``."""
    clients, studies = _hashes(index.clients), _hashes(index.studies)
    rows = np.arange(len(index)) if rows is None else rows
    found = np.empty(len(rows), np.uint64)
    for part in blocks(len(rows)):
        some = rows[part]
        found[part] = _hashed(index.images, some)
        found[part] = _mixed(found[part] + _mixed(studies[index.study_of[some]]))
        found[part] = _mixed(found[part] + _mixed(clients[index.client_of[some]]))
    return found


def _hashes(names: Names) -> NDArray[np.uint64]:
    parts = [_hashed(names, np.arange(len(names))[part]) for part in blocks(len(names))]
    return np.concatenate([np.zeros(0, np.uint64), *parts])


def _hashed(names: Names, ordinals: NDArray[np.integer]) -> NDArray[np.uint64]:
    starts = names.offsets[ordinals].astype(np.int64)
    lengths = names.offsets[ordinals + 1].astype(np.int64) - starts
    found: NDArray[np.uint64] = lengths.astype(np.uint64)
    # By position, for all names at once: a loop over 3 million names takes three times as long.
    for at in range(int(lengths.max(initial=0))):
        has = at < lengths
        letters = names.heap[np.where(has, starts + at, 0)]
        found = np.where(has, (found ^ letters) * _FACTOR + (found >> np.uint64(29)), found)
    return found


def _mixed(found: NDArray[np.uint64]) -> NDArray[np.uint64]:
    found = (found ^ (found >> np.uint64(30))) * _MIX
    mixed: NDArray[np.uint64] = found ^ (found >> np.uint64(27))
    return mixed


@dataclass(frozen=True)
class Measured:
    """Records, ascending by ``keys`` (uint64, :func:`keys_of`).

    ``size`` (uint64) in bytes and ``mtime`` (int64) in ns are those of the DICOM file. ``box`` (uint16, n x 4) is
    all 0 for none. ``side`` (uint8) is a position in :data:`SIDES`. ``share`` (uint16) is in 1/65,535. ``kind``
    (uint16) is a position in ``kinds``, whose first entry stands for success. ``detector`` is the version of what
    found them, and ``written`` the time in seconds since 1970.
    """

    keys: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    size: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    mtime: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    box: NDArray[np.uint16] = field(default_factory=lambda: np.zeros((0, _CORNERS), np.uint16))
    side: NDArray[np.uint8] = field(default_factory=lambda: np.zeros(0, np.uint8))
    share: NDArray[np.uint16] = field(default_factory=lambda: np.zeros(0, np.uint16))
    kind: NDArray[np.uint16] = field(default_factory=lambda: np.zeros(0, np.uint16))
    kinds: tuple[str, ...] = ("",)
    detector: int = 0
    written: float = 0.0

    def __len__(self) -> int:
        return len(self.keys)

    def record(self, place: int) -> Record:
        """Return the record at a place."""
        box = tuple(self.box[place].tolist())
        return Record(
            box if any(box) else None,
            SIDES[self.side[place]],
            float(self.share[place] / _WHOLE),
            self.kinds[self.kind[place]],
        )

    def places(self, index: Index, rows: NDArray[np.integer] | None = None) -> NDArray[np.int64]:
        """Return the place of the current record of each image, or of those at ``rows``; -1 for none."""
        count = len(index) if rows is None else len(rows)
        if not len(self):
            return np.full(count, -1, np.int64)
        keys, files = keys_of(index, rows), index.files[DCM]
        which = slice(None) if rows is None else rows
        places = np.minimum(np.searchsorted(self.keys, keys), len(self) - 1)
        is_current = (
            (self.keys[places] == keys)
            & (files.access[which] != 0)
            & (self.size[places] == files.size[which])
            & (self.mtime[places] == files.mtime[which])
        )
        found: NDArray[np.int64] = np.where(is_current, places, -1)
        return found


class Geometries:
    """The records of the images of an index. ``read`` gives all records; it is called at the first use."""

    def __init__(self, index: Index, read: Callable[[], Measured] = Measured) -> None:
        self._index, self._read = index, read

    @cached_property
    def measured(self) -> Measured:
        """All records."""
        return self._read()

    @cached_property
    def places(self) -> NDArray[np.int64]:
        """The place of the current record of each image, -1 for none."""
        return self.measured.places(self._index)

    def prepare(self) -> None:
        """Find the records of all images now: a second for 3 million."""
        if len(self.measured):
            _ = self.places

    def record(self, row: int) -> Record | None:
        """Return what was found in an image, ``None`` if that is not known."""
        if not len(self.measured):
            return None
        place = self.places.item(row)
        return None if place < 0 else self.measured.record(place)

    @cached_property
    def unknown(self) -> NDArray[np.bool_]:
        """For each image whether it has not been measured, or not without a failure."""
        if not len(self.measured):
            return np.ones(len(self._index), np.bool_)
        failed = np.append(self.measured.kind != 0, True)  # -1, no record, reads the last
        return failed[self.places]

    def boxes(self, rows: NDArray[np.integer]) -> NDArray[np.uint16]:
        """Return the boxes of images, n x 4 (:class:`Measured`): all 0 for none."""
        places = self.places[rows]
        boxes = np.zeros((len(rows), _CORNERS), np.uint16)
        boxes[places >= 0] = self.measured.box[places[places >= 0]]
        return boxes


def made(
    keys: NDArray[np.uint64], files: Sequence[tuple[int, int]], records: Iterable[Record], detector: int
) -> Measured:
    """Return records of images. ``files`` are size and time of their DICOM files."""
    kinds: dict[str, int] = {"": 0}
    found, order = list(records), np.argsort(keys)
    boxes = np.array([record.box or (0,) * _CORNERS for record in found], np.uint16).reshape(-1, _CORNERS)
    return Measured(
        keys[order],
        np.array([size for size, _ in files], np.uint64)[order],
        np.array([mtime for _, mtime in files], np.int64)[order],
        boxes[order],
        np.array([SIDES.index(record.side) for record in found], np.uint8)[order],
        np.array([round(record.share * _WHOLE) for record in found], np.uint16)[order],
        np.array([kinds.setdefault(record.kind, len(kinds)) for record in found], np.uint16)[order],
        tuple(kinds),
        detector,
    )


def joined(before: Measured, after: Measured) -> Measured:
    """Return the records of ``before``, with those of ``after`` in the place of those that have the same keys."""
    numbers = {kind: number for number, kind in enumerate(before.kinds)}
    translated = np.array([numbers.setdefault(kind, len(numbers)) for kind in after.kinds], np.uint16)
    after = replace(after, kind=translated[after.kind])
    keys, first = np.unique(np.concatenate([after.keys, before.keys]), return_index=True)  # of equal ones, after
    both: dict[str, Any] = {
        name: np.concatenate([getattr(after, name), getattr(before, name)])[first] for name in _ARRAYS
    }
    return replace(after, keys=keys, kinds=tuple(numbers), **both)


def without(measured: Measured, keys: NDArray[np.uint64]) -> Measured:
    """Return the records that have none of some keys."""
    kept = ~np.isin(measured.keys, keys)
    return replace(measured, **{name: getattr(measured, name)[kept] for name in ("keys", *_ARRAYS)})


_ARRAYS = ("size", "mtime", "box", "side", "share", "kind")


def save(path: Path, measured: Measured, source_fingerprint: str) -> None:
    """Write records, completely or not at all, with mode 0600.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    meta = {"kinds": measured.kinds, "detector": measured.detector, "written": time.time()}
    arrays = {name: getattr(measured, name) for name in ("keys", *_ARRAYS)}
    arrays["meta"] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    save_arrays(path, KIND, arrays, source_fingerprint)


def load(path: Path, source_fingerprint: str, detector: int) -> Measured:
    """Return the records at ``path``, as far as ``detector`` found them. There need be no file, or an empty one.

    Raises
    ------
    IndexFileError
        The file cannot be used.
    """
    try:
        sections = mapped(path, KIND, source_fingerprint)
    except NoFileError:
        return Measured(detector=detector)
    except IndexFileError:
        with suppress(OSError):
            if not path.stat().st_size:  # it is about to be written for the first time
                return Measured(detector=detector)
        raise
    try:
        sections.verify()
        meta = json.loads(sections.read("meta").tobytes())
        arrays = {name: sections.read(name) for name in ("keys", *_ARRAYS)}
        found = Measured(**arrays, kinds=tuple(meta["kinds"]), detector=meta["detector"], written=meta["written"])
        if not _is_sound(found):
            raise ValueError
    except NOT_OURS as error:
        raise IndexFileError(f"damaged: {type(error).__name__}") from error
    return found if found.detector == detector else Measured(detector=detector)


def _is_sound(found: Measured) -> bool:
    """Return whether records are what :func:`save` writes, apart from their values."""
    number = len(found.keys)
    empty = Measured()
    return (
        all(
            getattr(found, name).shape == (number, *getattr(empty, name).shape[1:])
            and getattr(found, name).dtype == getattr(empty, name).dtype
            for name in ("keys", *_ARRAYS)
        )
        and int(found.kind.max(initial=0)) < len(found.kinds)
        and int(found.side.max(initial=0)) < len(SIDES)
    )
