"""The marks of an index: one row for each, in the order of their images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omidbfs.database.imagedb import BENIGN_CLASSIFICATIONS, CONSPICUITIES, MARK_FEATURES, MASS_CLASSIFICATIONS
from omidbfs.database.records import OTHER, Mark
from omidbfs.index.names import Names, joined_names

CODES: Mapping[str, tuple[str | None, ...]] = {
    "conspicuity": (None, OTHER, *CONSPICUITIES),
    "mass_classification": (None, OTHER, *MASS_CLASSIFICATIONS),
    "benign_classification": (None, OTHER, *BENIGN_CLASSIFICATIONS),
}
"""What the codes of a column stand for; ``None`` where the source does not say."""

_CODE_OF = {name: {code: number for number, code in enumerate(codes)} for name, codes in CODES.items()}
_CORNERS = ("x1", "y1", "x2", "y2")
_LEAST, _MOST = int(np.iinfo(np.int32).min), int(np.iinfo(np.int32).max)

COLUMNS = ("row", *_CORNERS, *CODES, "features")
"""The columns of :class:`MarkColumns`, without the names."""


@dataclass(frozen=True, slots=True)
class MarkColumns:
    """One row for each mark, ascending by ``row`` (uint32), the image it is in.

    Corners (int32) are as the source gives them; ``conspicuity``, ``mass_classification`` and
    ``benign_classification`` are uint8, ``features`` is a uint16 with a bit for each of ``MARK_FEATURES``. ``ids``
    names the marks, ``lesions`` the numbers that they name, joined by commas, empty for none.
    """

    row: NDArray[np.uint32]
    x1: NDArray[np.int32]
    y1: NDArray[np.int32]
    x2: NDArray[np.int32]
    y2: NDArray[np.int32]
    conspicuity: NDArray[np.uint8]
    mass_classification: NDArray[np.uint8]
    benign_classification: NDArray[np.uint8]
    features: NDArray[np.uint16]
    ids: Names
    lesions: Names

    def __len__(self) -> int:
        return len(self.row)

    def of_rows(self, first: int, end: int) -> slice:
        """Return where the marks of the images from ``first`` to before ``end`` are."""
        start, stop = np.searchsorted(self.row, [first, end]).tolist()
        return slice(start, stop)

    def mark(self, number: int) -> Mark:
        """Return a mark as it was read."""
        features, lesions = int(self.features[number]), self.lesions[number].decode()
        return Mark(
            id=self.ids[number].decode("utf-8", "surrogatepass"),
            x1=int(self.x1[number]),
            y1=int(self.y1[number]),
            x2=int(self.x2[number]),
            y2=int(self.y2[number]),
            lesion_numbers=frozenset(lesions.split(",")) if lesions else None,
            conspicuity=CODES["conspicuity"][self.conspicuity[number]],
            mass_classification=CODES["mass_classification"][self.mass_classification[number]],
            benign_classification=CODES["benign_classification"][self.benign_classification[number]],
            features=frozenset(name for bit, name in enumerate(MARK_FEATURES) if features >> bit & 1),
        )

    def part(self, rows: slice) -> "MarkColumns":
        """Return the marks of the images in ``rows``, counted from its start."""
        inside = self.of_rows(rows.start, rows.stop)
        columns: dict[str, Any] = {name: getattr(self, name)[inside] for name in COLUMNS}
        columns["row"] = columns["row"] - np.uint32(rows.start)
        ids, lesions = (names.between(inside.start, inside.stop) for names in (self.ids, self.lesions))
        return MarkColumns(**columns, ids=ids, lesions=lesions)


def joined_marks(parts: Sequence[tuple[int, MarkColumns]]) -> MarkColumns:
    """Return the marks of all parts, one after the other; each comes with the number of its images."""
    first, rows = 0, []
    for count, part in parts:
        rows.append(part.row + np.uint32(first))
        first += count
    empty = MarkLists().columns()
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in (empty, *(part for _, part in parts))])
        for name in COLUMNS
    }
    columns["row"] = np.concatenate([empty.row, *rows])
    return MarkColumns(
        **columns,
        ids=joined_names([part.ids for _, part in parts]),
        lesions=joined_names([part.lesions for _, part in parts]),
    )


def _corner(pixel: int) -> int:
    return min(max(pixel, _LEAST), _MOST)


@dataclass(slots=True)
class MarkLists:
    """:class:`MarkColumns` in the making."""

    rows: list[int] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)

    def add(self, row: int, marks: Sequence[Mark]) -> None:
        """Append the marks of one image."""
        self.rows += [row] * len(marks)
        self.marks += marks

    def columns(self) -> MarkColumns:
        """Return the columns."""
        marks = self.marks
        corners: dict[str, Any] = {
            name: np.array([_corner(getattr(mark, name)) for mark in marks], np.int32) for name in _CORNERS
        }
        codes: dict[str, Any] = {
            name: np.array([known[getattr(mark, name)] for mark in marks], np.uint8)
            for name, known in _CODE_OF.items()
        }
        features = [
            sum(1 << bit for bit, name in enumerate(MARK_FEATURES) if name in mark.features) for mark in marks
        ]
        return MarkColumns(
            row=np.array(self.rows, np.uint32),
            **corners,
            **codes,
            features=np.array(features, np.uint16),
            ids=Names.of([mark.id.encode("utf-8", "surrogatepass") for mark in marks]),
            lesions=Names.of([",".join(sorted(mark.lesion_numbers or ())).encode() for mark in marks]),
        )
