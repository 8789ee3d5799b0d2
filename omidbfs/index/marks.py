"""The marks of an index: one row for each, in the order of their images.

The index, chunks, cohorts and exports use them. Columns are immutable, for any thread.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from omidbfs.database.imagedb import BENIGN_CLASSIFICATIONS, CONSPICUITIES, MARK_FEATURES, MASS_CLASSIFICATIONS
from omidbfs.database.records import OTHER, Mark
from omidbfs.index.names import Names
from omidbfs.index.schema import IMAGE, MARK, Column
from omidbfs.index.sections import ReadLater

CODES: Mapping[str, tuple[str | None, ...]] = {
    "conspicuity": (None, OTHER, *CONSPICUITIES),
    "mass_classification": (None, OTHER, *MASS_CLASSIFICATIONS),
    "benign_classification": (None, OTHER, *BENIGN_CLASSIFICATIONS),
}
"""Column -> the values that its codes stand for; ``None`` for unknown."""

_CODE_OF = {name: {code: number for number, code in enumerate(codes)} for name, codes in CODES.items()}
_CORNERS = ("x1", "y1", "x2", "y2")
_LEAST, _MOST = int(np.iinfo(np.int32).min), int(np.iinfo(np.int32).max)


@dataclass(frozen=True, slots=True)
class MarkColumns(ReadLater):
    """One row for each mark, ascending by ``row`` (uint32), the row of its image.

    Corners (int32) are in pixels, as in the source. ``conspicuity``, ``mass_classification`` and
    ``benign_classification`` (uint8) are positions in :data:`CODES`. ``features`` (uint16) has a bit for each of
    ``MARK_FEATURES``. ``ids`` are the names of the marks. ``lesions`` are the numbers of their lesions, joined by
    commas, empty for none.
    """

    row: Annotated[NDArray[np.uint32], Column(points_to=IMAGE)]
    x1: Annotated[NDArray[np.int32], Column()]
    y1: Annotated[NDArray[np.int32], Column()]
    x2: Annotated[NDArray[np.int32], Column()]
    y2: Annotated[NDArray[np.int32], Column()]
    conspicuity: Annotated[NDArray[np.uint8], Column()]
    mass_classification: Annotated[NDArray[np.uint8], Column()]
    benign_classification: Annotated[NDArray[np.uint8], Column()]
    features: Annotated[NDArray[np.uint16], Column()]
    ids: Annotated[Names, Column(MARK)]
    lesions: Annotated[Names, Column(MARK)]

    def __len__(self) -> int:
        return len(self.row)

    def of_rows(self, first: int, end: int) -> slice:
        """Return the slice with the marks of the images from row ``first`` to before ``end``."""
        start, stop = np.searchsorted(self.row, [first, end]).tolist()
        return slice(start, stop)

    def mark(self, number: int) -> Mark:
        """Return the mark at a position."""
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


def add_marks(found: Mapping[str, Any], row: int, marks: Sequence[Mark]) -> None:
    """Append the marks of one image to the lists of ``found``, by the names of columns."""
    for mark in marks:
        found["marks.row"].append(row)
        found["marks.ids"].append(mark.id.encode("utf-8", "surrogatepass"))
        found["marks.lesions"].append(",".join(sorted(mark.lesion_numbers or ())).encode())
        for name in _CORNERS:
            found[f"marks.{name}"].append(min(max(getattr(mark, name), _LEAST), _MOST))
        for name, known in _CODE_OF.items():
            found[f"marks.{name}"].append(known[getattr(mark, name)])
        found["marks.features"].append(
            sum(1 << bit for bit, name in enumerate(MARK_FEATURES) if name in mark.features)
        )
