"""What a header says of pixels: how they are stored, how large they are, on which side of them the chest wall is.

The index keeps it (``index/chunk.py``), and the reader of a study (``study.py``) asks whether it suffices. Pure
functions: any thread may call them.
"""

from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

from omidbfs.database.header import Header
from omidbfs.database.terms import laterality
from omidbfs.database.uids import LONGEST_UID, MULTI_FRAME


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
    """How large pixels are: ImagerPixelSpacing (0018,1164) in mm, and the magnification; ``None`` is unknown.

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
"""What decides how many bytes the pixels of a frame are, stored or rendered; with ``NumberOfFrames`` of an image
of a class that has frames (:data:`~omidbfs.database.uids.MULTI_FRAME`), those of an image. None of it may be 0."""

_LARGEST_MAGNIFICATION = 1000

_size = attrgetter(*DECIDE_SIZE)
format_key = attrgetter(*PixelFormat._fields)
geometry_key = attrgetter("ImagerPixelSpacing", "EstimatedRadiographicMagnificationFactor")
orientation_key = attrgetter(
    "PatientOrientation", "ImageLaterality", "FrameLaterality", "Laterality", "ViewPosition"
)
"""What formats, geometries and orientations follow from: headers for which it is the same have the same."""


def lacks_size(header: Header) -> bool:
    """Return whether a header does not say how many bytes the pixels of its image are."""
    if not all(_size(header)):
        return True
    return not header.NumberOfFrames and header.SOPClassUID in MULTI_FRAME


def completed(header: Header, other: Header) -> Header:
    """Return a header that says of pixels what the other says where it says nothing itself."""
    own, of_other = format_of(header), format_of(other)
    missing: dict[str, Any] = {
        name: value
        for name, value in of_other._asdict().items()
        if getattr(own, name) is None and value is not None
    }
    return msgspec.structs.replace(header, **missing) if missing else header


def format_of(header: Header) -> PixelFormat:
    """Return how the pixels are stored; a size of 0 is none."""
    found = PixelFormat(*format_key(header))
    nothing = {name: None for name in (*DECIDE_SIZE, "NumberOfFrames") if getattr(found, name) == 0}
    return found._replace(**nothing)


def geometry_of(header: Header) -> Geometry:
    """Return how large pixels are; a magnification that cannot be is unknown."""
    factor = header.EstimatedRadiographicMagnificationFactor
    rows, columns = header.ImagerPixelSpacing or (None, None)
    is_possible = factor is not None and 0 < factor < _LARGEST_MAGNIFICATION
    return Geometry(rows, columns, factor if is_possible else None)


def orientation_of(header: Header) -> Orientation:
    """Return the orientation, and the side of the chest wall that follows.

    That is where rows run from: at the left where they run to anterior (``A``), at the right where they run to
    posterior (``P``). Otherwise it is where the image is hung by custom: a left breast at the left.
    """
    rows, columns = header.PatientOrientation or ("", "")
    by_rows = {"A": "left", "P": "right"}.get(rows.upper())
    return Orientation(rows, columns, by_rows or {"L": "left", "R": "right"}.get(laterality(header) or ""))


def uid(text: str | None) -> bytes:
    """Return a UID as it is kept, nothing for what is none: one of more than 64 characters."""
    return b"" if text is None or len(text) > LONGEST_UID else text.encode("utf-8", "surrogatepass")
