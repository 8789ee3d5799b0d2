"""The attributes of one image, from JSON or from a DICOM header in the same form.

The readers of sidecars and DICOM files use it. Pure functions: any thread may call them. A sidecar follows the
DICOM JSON model (PS3.18, F.2), and ``dicom.py`` converts a DICOM header to that model. So the same rules apply to
both. Tags count at their place in the dataset only, since nested sequences repeat them. A multi-frame image states
some attributes in its functional groups.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import orjson
from msgspec.structs import replace

from omidbfs.database.dataset import VIEW_CODES, Elements
from omidbfs.database.problems import Report
from omidbfs.database.uids import TOMOSYNTHESIS


class Header(msgspec.Struct, frozen=True, gc=False):  # made 5 x as fast as a frozen dataclass
    """First values of the attributes that facets need, under their DICOM keywords; ``None`` is "not stated".

    ``ViewCode`` is the code value of the first item of ViewCodeSequence (0054,0220). ``ViewModifierCodes`` are the
    code values of ViewModifierCodeSequence (0054,0222) inside that item and beside the sequence. ``ImageType`` has
    all stated values. ``PatientOrientation`` has no values or two, one of which may be empty.
    ``ImagerPixelSpacing`` is between rows and between columns, in mm. The attributes of :data:`IN_GROUPS` may come
    from the functional groups of a multi-frame image.
    """

    SOPInstanceUID: str | None = None
    Manufacturer: str | None = None
    ManufacturerModelName: str | None = None
    PatientAge: str | None = None
    PresentationIntentType: str | None = None
    ViewPosition: str | None = None
    Laterality: str | None = None
    ImageLaterality: str | None = None
    BreastImplantPresent: str | None = None
    SOPClassUID: str | None = None
    Modality: str | None = None
    PhotometricInterpretation: str | None = None
    PartialView: str | None = None
    TransferSyntaxUID: str | None = None
    Rows: int | None = None
    Columns: int | None = None
    NumberOfFrames: int | None = None
    BodyPartThickness: float | None = None
    EstimatedRadiographicMagnificationFactor: float | None = None
    FrameLaterality: str | None = None
    ViewCode: str | None = None
    ViewModifierCodes: tuple[str, ...] = ()
    ImageType: tuple[str, ...] = ()
    PresentationLUTShape: str | None = None
    SeriesInstanceUID: str | None = None
    SamplesPerPixel: int | None = None
    BitsAllocated: int | None = None
    BitsStored: int | None = None
    PixelRepresentation: int | None = None
    PatientOrientation: tuple[str, ...] = ()
    ImagerPixelSpacing: tuple[float, ...] = ()
    AcquisitionDateTime: str | None = None
    AcquisitionDate: str | None = None
    AcquisitionTime: str | None = None
    ContentDate: str | None = None
    ContentTime: str | None = None
    InstanceNumber: float | None = None


TAGS = {
    "SOPInstanceUID": "00080018",
    "Manufacturer": "00080070",
    "ManufacturerModelName": "00081090",
    "PatientAge": "00101010",
    "PresentationIntentType": "00080068",
    "ViewPosition": "00185101",
    "Laterality": "00200060",
    "ImageLaterality": "00200062",
    "BreastImplantPresent": "00281300",
    "SOPClassUID": "00080016",
    "Modality": "00080060",
    "PhotometricInterpretation": "00280004",
    "PartialView": "00281350",
    "TransferSyntaxUID": "00020010",
    "PresentationLUTShape": "20500020",
    "SeriesInstanceUID": "0020000E",
    "AcquisitionDateTime": "0008002A",
    "AcquisitionDate": "00080022",
    "AcquisitionTime": "00080032",
    "ContentDate": "00080023",
    "ContentTime": "00080033",
}
"""Keyword -> tag of the attributes of :class:`Header` that are text."""

NUMBERS = {
    "Rows": "00280010",
    "Columns": "00280011",
    "NumberOfFrames": "00280008",
    "BodyPartThickness": "001811A0",
    "EstimatedRadiographicMagnificationFactor": "00181114",
    "SamplesPerPixel": "00280002",
    "BitsAllocated": "00280100",
    "BitsStored": "00280101",
    "PixelRepresentation": "00280103",
    "InstanceNumber": "00200013",
}
"""Keyword -> tag of the attributes of :class:`Header` that are numbers."""

IMAGE_TYPE = "00080008"
ORIENTATION, SPACING = "00200020", "00181164"
"""PatientOrientation, ImagerPixelSpacing."""

IN_GROUPS = {
    "FrameLaterality": "00209072",
    "BreastImplantPresent": TAGS["BreastImplantPresent"],
    "PartialView": TAGS["PartialView"],
    "BodyPartThickness": NUMBERS["BodyPartThickness"],
    "EstimatedRadiographicMagnificationFactor": NUMBERS["EstimatedRadiographicMagnificationFactor"],
    "PatientOrientation": ORIENTATION,
    "ImagerPixelSpacing": SPACING,
}
"""Keyword -> tag of attributes, besides the view, in functional groups (PS3.3, C.7.6.16) and in the acquisition
(C.8.21.3.4)."""

ACQUISITIONS = "00189507"
"""X-Ray 3D Acquisition Sequence."""
GROUPS = ("52009229", "52009230")
"""Shared and Per-frame Functional Groups Sequence; only the first frame of the latter is read."""

_TAG = re.compile("[0-9A-Fa-f]{8}")

MAX_DOCUMENT = 16 << 20
"""Most bytes of JSON that are decoded whole: Python objects take up to 30 times as much memory."""


class JsonError(ValueError):
    """A file is not a JSON object; the message says why, without quoting the file."""


def load_json(content: bytes) -> dict[str, object]:
    """Return the JSON object in ``content``, read by orjson or else by the more tolerant standard module.

    Raises
    ------
    JsonError
        The content is empty, cut off, nested too deeply, larger than :data:`MAX_DOCUMENT`, or not an object.
    """
    if len(content) > MAX_DOCUMENT:
        raise JsonError("larger than 16 MB")
    if not content.strip():
        raise JsonError("empty file")
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError:
        try:  # orjson refuses NaN, huge integers, a byte order mark and UTF-16; json reads them
            document = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise JsonError("cut off or not valid JSON") from error
    if not isinstance(document, dict):
        raise JsonError("not a JSON object")
    return document


def has_groups(header: Header) -> bool:
    """Return whether an image may state attributes in functional groups: a tomosynthesis or several frames."""
    return header.SOPClassUID in TOMOSYNTHESIS or (header.NumberOfFrames or 1) > 1


# Any dataset ---------------------------------------------------------------------------------------------------


def header_of(document: dict[str, Any], report: Report) -> Header:
    """Return the header in a dataset in the DICOM JSON model, whatever the types of its values are."""
    elements = Elements(report)
    texts: dict[str, Any] = {keyword: elements.text(document, tag, keyword) for keyword, tag in TAGS.items()}
    numbers: dict[str, Any] = {
        keyword: elements.number(document, tag, keyword) for keyword, tag in NUMBERS.items()
    }
    code, modifiers = elements.view(document)
    image_type = elements.texts(document, IMAGE_TYPE)
    header = Header(
        **texts,
        **numbers,
        ViewCode=code,
        ViewModifierCodes=modifiers,
        ImageType=image_type,
        PatientOrientation=elements.orientation(document, ORIENTATION),
        ImagerPixelSpacing=elements.spacing(document, SPACING),
    )
    return with_groups(header, document, elements) if has_groups(header) else header


def with_groups(header: Header, document: dict[str, Any], elements: Elements) -> Header:
    """Return a header, completed by functional groups and acquisition where the dataset states nothing."""
    found: dict[str, Any] = {}
    for item in _macros(document, elements):
        for keyword, tag in IN_GROUPS.items():
            if tag in item and found.get(keyword, getattr(header, keyword)) in (None, ()):
                found[keyword] = _in_group(item, keyword, tag, elements)
        if header.ViewCode is None and found.get("ViewCode") is None and VIEW_CODES in item:
            found["ViewCode"], found["ViewModifierCodes"] = elements.view(item)
    return replace(header, **found) if found else header


def _in_group(item: dict[str, object], keyword: str, tag: str, elements: Elements) -> object:
    if tag == ORIENTATION:
        return elements.orientation(item, tag)
    if tag == SPACING:
        return elements.spacing(item, tag)
    return (elements.number if keyword in NUMBERS else elements.text)(item, tag, keyword)


def _macros(document: dict[str, Any], elements: Elements) -> Iterator[dict[str, object]]:
    """Yield the item of the first acquisition of a multi-frame image, and the first item of each macro."""
    yield from elements.items(document, ACQUISITIONS)[:1]
    for tag in GROUPS:
        for group in elements.items(document, tag)[:1]:
            for macro in filter(_TAG.fullmatch, group):  # a key that is not a tag may be as long as the file
                yield from elements.items(group, macro)[:1]
