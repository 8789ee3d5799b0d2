"""The attributes of one image, from its JSON sidecar or from a DICOM header in the same form.

The reader of a study uses it. Pure functions: any thread may call them. A sidecar follows the DICOM JSON model
(PS3.18, F.2), and ``dicom.py`` converts a DICOM header to that model, so that the same rules apply to both. Tags
count at their place in the dataset only, since nested sequences repeat them. A multi-frame image states some
attributes in its functional groups.
"""

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Annotated, Any

import msgspec
import orjson

from omidbfs.database.dataset import CODE_VALUE, LARGEST, MODIFIERS, VIEW_CODES, Elements, number, stated
from omidbfs.database.dataset import orientation as read_orientation
from omidbfs.database.dataset import spacing as read_spacing
from omidbfs.database.problems import Report
from omidbfs.database.uids import TOMOSYNTHESIS
from omidbfs.database.values import ANONYMISED


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

MAX_DOCUMENT = 16 << 20
"""Most bytes of JSON that are decoded whole: Python objects take up to 30 times as much memory."""


# The typed decoder picks these tags out of 120 without building the rest, 4.5 times as fast as the standard json
# module. It refuses several values where one belongs; the slower reader then reports them.
class _Text(msgspec.Struct, gc=False):
    Value: Annotated[list[str | None], msgspec.Meta(max_length=1)] | None = None


class _Texts(msgspec.Struct, gc=False):
    Value: list[str | None] | None = None


class _Number(msgspec.Struct, gc=False):
    Value: Annotated[list[int | float | str | None], msgspec.Meta(max_length=1)] | None = None


class _Numbers(msgspec.Struct, gc=False):
    Value: list[int | float | str | None] | None = None


class _Code(msgspec.Struct, gc=False, rename={"code": CODE_VALUE}):
    code: _Text | None = None


class _Modifiers(msgspec.Struct, gc=False):
    Value: list[_Code] | None = None


class _View(msgspec.Struct, gc=False, rename={"code": CODE_VALUE, "modifiers": MODIFIERS}):
    code: _Text | None = None
    modifiers: _Modifiers | None = None


_TAG = re.compile("[0-9A-Fa-f]{8}")
_NO_VIEW = _View()


class _Views(msgspec.Struct, gc=False):
    Value: list[_View] | None = None


_OTHERS = {
    "ImageType": IMAGE_TYPE,
    "PatientOrientation": ORIENTATION,
    "ImagerPixelSpacing": SPACING,
    "Views": VIEW_CODES,
    "Modifiers": MODIFIERS,
}


class _Sidecar(msgspec.Struct, gc=False, rename={**TAGS, **NUMBERS, **_OTHERS}):
    TransferSyntaxUID: _Text | None = None
    ImageType: _Texts | None = None
    SOPClassUID: _Text | None = None
    SOPInstanceUID: _Text | None = None
    Modality: _Text | None = None
    PresentationIntentType: _Text | None = None
    Manufacturer: _Text | None = None
    ManufacturerModelName: _Text | None = None
    PatientAge: _Text | None = None
    EstimatedRadiographicMagnificationFactor: _Number | None = None
    ImagerPixelSpacing: _Numbers | None = None
    BodyPartThickness: _Number | None = None
    ViewPosition: _Text | None = None
    SeriesInstanceUID: _Text | None = None
    PatientOrientation: _Texts | None = None
    Laterality: _Text | None = None
    ImageLaterality: _Text | None = None
    SamplesPerPixel: _Number | None = None
    PhotometricInterpretation: _Text | None = None
    NumberOfFrames: _Number | None = None
    Rows: _Number | None = None
    Columns: _Number | None = None
    BitsAllocated: _Number | None = None
    BitsStored: _Number | None = None
    PixelRepresentation: _Number | None = None
    BreastImplantPresent: _Text | None = None
    PartialView: _Text | None = None
    Views: _Views | None = None
    Modifiers: _Modifiers | None = None
    PresentationLUTShape: _Text | None = None


_decoder = msgspec.json.Decoder(_Sidecar)


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


def decode_sidecar(content: bytes, report: Report) -> Header:
    """Return the header in a sidecar.

    Raises
    ------
    JsonError
        The content is not a JSON object.
    """
    try:
        sidecar = _decoder.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return header_of(load_json(content), report)
    view = sidecar.Views.Value[0] if sidecar.Views is not None and sidecar.Views.Value else _NO_VIEW
    codes: list[str] = []
    for modifiers in (view.modifiers, sidecar.Modifiers):
        if modifiers is not None and modifiers.Value:
            codes += [code for item in modifiers.Value if (code := _text(item.code)) is not None]
    header = Header(
        _text(sidecar.SOPInstanceUID),
        _text(sidecar.Manufacturer),
        _text(sidecar.ManufacturerModelName),
        _text(sidecar.PatientAge),
        _text(sidecar.PresentationIntentType),
        _text(sidecar.ViewPosition),
        _text(sidecar.Laterality),
        _text(sidecar.ImageLaterality),
        _text(sidecar.BreastImplantPresent),
        _text(sidecar.SOPClassUID),
        _text(sidecar.Modality),
        _text(sidecar.PhotometricInterpretation),
        _text(sidecar.PartialView),
        _text(sidecar.TransferSyntaxUID),
        _whole(sidecar.Rows, "Rows", report),
        _whole(sidecar.Columns, "Columns", report),
        _whole(sidecar.NumberOfFrames, "NumberOfFrames", report),
        _real(sidecar.BodyPartThickness, "BodyPartThickness", report),
        _real(
            sidecar.EstimatedRadiographicMagnificationFactor, "EstimatedRadiographicMagnificationFactor", report
        ),
        None,
        _text(view.code),
        tuple(codes),
        _all_stated(tuple(sidecar.ImageType.Value)) if sidecar.ImageType and sidecar.ImageType.Value else (),
        _text(sidecar.PresentationLUTShape),
        _text(sidecar.SeriesInstanceUID),
        _whole(sidecar.SamplesPerPixel, "SamplesPerPixel", report),
        _whole(sidecar.BitsAllocated, "BitsAllocated", report),
        _whole(sidecar.BitsStored, "BitsStored", report),
        _whole(sidecar.PixelRepresentation, "PixelRepresentation", report),
        read_orientation(oriented.Value, report)
        if (oriented := sidecar.PatientOrientation) and oriented.Value
        else (),
        read_spacing(spaced.Value, report) if (spaced := sidecar.ImagerPixelSpacing) and spaced.Value else (),
    )
    return (
        _with_groups(header, _whole_document(content, report), Elements(report)) if has_groups(header) else header
    )


def has_groups(header: Header) -> bool:
    """Return whether an image may state attributes in functional groups: a tomosynthesis or several frames."""
    return header.SOPClassUID in TOMOSYNTHESIS or (header.NumberOfFrames or 1) > 1


def _whole_document(content: bytes, report: Report) -> dict[str, Any]:
    """Return the whole dataset of a sidecar that the typed decoder has read, ``{}`` where JSON is refused."""
    try:
        return load_json(content)
    except JsonError as error:
        report("odd-value", f"its functional groups cannot be read: {error}")
        return {}


@lru_cache(1024)  # a database has few different ones
def _all_stated(values: tuple[str | None, ...]) -> tuple[str, ...]:
    return tuple(text for value in values if (text := stated(value)) is not None)


def _text(element: _Text | None) -> str | None:
    if element is None or not element.Value or not (value := element.Value[0]):
        return None
    text = value.strip(" \0")
    return text if text and text != ANONYMISED else None


def _whole(element: _Number | None, keyword: str, report: Report) -> int | None:
    if element is None or not element.Value:
        return None
    value = element.Value[0]
    if type(value) is int and 0 <= value <= LARGEST[keyword]:  # as nearly always
        return value
    return number(element.Value, keyword, report)  # type: ignore[return-value]


def _real(element: _Number | None, keyword: str, report: Report) -> float | None:
    if element is None or not element.Value:
        return None
    value = element.Value[0]  # the typed decoder accepts finite numbers only
    if type(value) is float:
        return value
    return number(element.Value, keyword, report)


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
    return _with_groups(header, document, elements) if has_groups(header) else header


def _with_groups(header: Header, document: dict[str, Any], elements: Elements) -> Header:
    """Return a header, completed by functional groups and acquisition where the dataset states nothing."""
    found: dict[str, Any] = {}
    for item in _macros(document, elements):
        for keyword, tag in IN_GROUPS.items():
            if tag in item and found.get(keyword, getattr(header, keyword)) in (None, ()):
                found[keyword] = _in_group(item, keyword, tag, elements)
        if header.ViewCode is None and found.get("ViewCode") is None and VIEW_CODES in item:
            found["ViewCode"], found["ViewModifierCodes"] = elements.view(item)
    return msgspec.structs.replace(header, **found) if found else header


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
