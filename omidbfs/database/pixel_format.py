"""The attributes of a header that describe pixels: storage, spacing, orientation and the side of the chest wall.

The index stores them (``index/chunk.py``), and the reader of a study (``study.py``) checks that they suffice. Pure
functions: any thread may call them.
"""

from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from omidbfs.database.terms import laterality
from omidbfs.database.uids import LONGEST_UID, MULTI_FRAME

if TYPE_CHECKING:
    from omidbfs.database.header import Header


class PixelFormat(NamedTuple):
    """How the pixels of an image are stored, under DICOM keywords (PS3.3, C.7.6.3, C.11.6); ``None`` is unknown.

    ``NumberOfFrames`` is ``None`` also for an image of one frame that does not say so.
    """

    Rows: int | None = None
    Columns: int | None = None
    NumberOfFrames: int | None = None
    SamplesPerPixel: int | None = None
    BitsAllocated: int | None = None
    BitsStored: int | None = None
    PixelRepresentation: int | None = None
    PhotometricInterpretation: str | None = None
    PresentationLUTShape: str | None = None
    TransferSyntaxUID: str | None = None


class Geometry(NamedTuple):
    """The size of pixels: ImagerPixelSpacing (0018,1164) in mm, and the magnification; ``None`` is unknown.

    Dividing the spacing by EstimatedRadiographicMagnificationFactor (0018,1114) gives the spacing in the breast.
    """

    row_spacing: float | None = None
    column_spacing: float | None = None
    magnification: float | None = None


class Orientation(NamedTuple):
    """PatientOrientation (0020,0020) of rows and of columns, empty where unknown, and the side of the chest wall.

    ``chest_wall_side`` is ``left``, ``right``, or ``None`` where it is unknown.
    """

    rows: str = ""
    columns: str = ""
    chest_wall_side: str | None = None


DECIDE_SIZE = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored")
"""Attributes that decide how many bytes the pixels of a frame have, stored or rendered. For an image of a class
with frames (:data:`~omidbfs.database.uids.MULTI_FRAME`), ``NumberOfFrames`` decides too. None of them may be 0."""

_LARGEST_MAGNIFICATION = 1000

_size = attrgetter(*DECIDE_SIZE)
format_key = attrgetter(*PixelFormat._fields)
geometry_key = attrgetter("ImagerPixelSpacing", "EstimatedRadiographicMagnificationFactor")
orientation_key = attrgetter(
    "PatientOrientation", "ImageLaterality", "FrameLaterality", "Laterality", "ViewPosition"
)
"""Keys of a header: two headers with equal keys have the same format, geometry or orientation."""


def lacks_size(header: "Header") -> bool:
    """Return whether a header leaves open how many bytes the pixels of its image have."""
    if not all(_size(header)):
        return True
    return not header.NumberOfFrames and header.SOPClassUID in MULTI_FRAME


def completed(header: "Header", other: "Header") -> "Header":
    """Return a header with the pixel attributes of ``other`` where ``header`` states none."""
    own, of_other = format_of(header), format_of(other)
    missing: dict[str, Any] = {
        name: value
        for name, value in of_other._asdict().items()
        if getattr(own, name) is None and value is not None
    }
    return msgspec.structs.replace(header, **missing) if missing else header


def format_of(header: "Header") -> PixelFormat:
    """Return how the pixels are stored; a size of 0 counts as unknown."""
    found = PixelFormat(*format_key(header))
    nothing = {name: None for name in (*DECIDE_SIZE, "NumberOfFrames") if getattr(found, name) == 0}
    return found._replace(**nothing)


def geometry_of(header: "Header") -> Geometry:
    """Return the size of pixels; an impossible magnification counts as unknown."""
    factor = header.EstimatedRadiographicMagnificationFactor
    rows, columns = header.ImagerPixelSpacing or (None, None)
    is_possible = factor is not None and 0 < factor < _LARGEST_MAGNIFICATION
    return Geometry(rows, columns, factor if is_possible else None)


def orientation_of(header: "Header") -> Orientation:
    """Return the orientation, and the side of the chest wall that follows from it.

    The chest wall is at the left if rows run to anterior (``A``), at the right if they run to posterior (``P``).
    Otherwise laterality decides by the usual hanging: the chest wall of a left breast is at the left.
    """
    rows, columns = header.PatientOrientation or ("", "")
    by_rows = {"A": "left", "P": "right"}.get(rows.upper())
    return Orientation(rows, columns, by_rows or {"L": "left", "R": "right"}.get(laterality(header) or ""))


def uid(text: str | None) -> bytes:
    """Return a UID as the index stores it, ``b""`` for a text that is too long to be a UID."""
    return b"" if text is None or len(text) > LONGEST_UID else text.encode("utf-8", "surrogatepass")
