"""Decodes a JSON sidecar into the header of its image, without building what no header needs.

The reader of a study uses it. Pure functions: any thread may call them. What is unusual is left to ``header.py``,
by the same rules.
"""

from functools import lru_cache
from operator import itemgetter
from typing import Annotated, Any

import msgspec
from msgspec.structs import astuple, replace

from omidbfs.database.dataset import CODE_VALUE, LARGEST, MODIFIERS, VIEW_CODES, Elements, number, stated
from omidbfs.database.dataset import orientation as read_orientation
from omidbfs.database.dataset import spacing as read_spacing
from omidbfs.database.header import (
    IMAGE_TYPE,
    NUMBERS,
    ORIENTATION,
    SPACING,
    TAGS,
    Header,
    JsonError,
    has_groups,
    header_of,
    load_json,
    with_groups,
)
from omidbfs.database.problems import Report
from omidbfs.database.values import ANONYMISED


# The typed decoder picks these tags out of 110 and more without building the rest, 4.5 times as fast as the
# standard json module. It refuses several values where one belongs; the slower reader then reports them.
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
    AcquisitionDateTime: _Text | None = None
    AcquisitionDate: _Text | None = None
    AcquisitionTime: _Text | None = None
    ContentDate: _Text | None = None
    ContentTime: _Text | None = None
    InstanceNumber: _Number | None = None


_decoder = msgspec.json.Decoder(_Sidecar)

# Most images state the same as another, except for these attributes. So the others are kept as they are in the
# file, and decoded only if no other file has stated the same.
_OWN: dict[str, Any] = {
    "SOPInstanceUID": _Text | None,
    "PatientAge": _Text | None,
    "EstimatedRadiographicMagnificationFactor": _Number | None,
    "BodyPartThickness": _Number | None,
    "SeriesInstanceUID": _Text | None,
    "AcquisitionDateTime": _Text | None,
    "AcquisitionDate": _Text | None,
    "AcquisitionTime": _Text | None,
    "ContentDate": _Text | None,
    "ContentTime": _Text | None,
    "InstanceNumber": _Number | None,
}
_QuickSidecar: Any = msgspec.defstruct(
    "_QuickSidecar",
    [
        (name, _OWN.get(name, msgspec.Raw), None if name in _OWN else msgspec.Raw())
        for name in _Sidecar.__struct_fields__
    ],
    rename=dict(zip(_Sidecar.__struct_fields__, _Sidecar.__struct_encode_fields__, strict=True)),
    gc=False,
)
_quick_decoder = msgspec.json.Decoder(_QuickSidecar)
_SHARED = [number for number, name in enumerate(_Sidecar.__struct_fields__) if name not in _OWN]
_SHARED_TAGS = [_Sidecar.__struct_encode_fields__[number].encode() for number in _SHARED]
_shared_of = itemgetter(*_SHARED)
_END = b"\0"
"""Ends the bytes of an attribute. JSON does not have this byte."""
_LONGEST = 8192
"""The most bytes of shared attributes that are remembered. Real ones have 2,000."""


def decode_sidecar(content: bytes, report: Report) -> Header:
    """Return the header in a sidecar.

    Raises
    ------
    JsonError
        The content is not a JSON object.
    """
    try:
        quick = _quick_decoder.decode(content)
        values = _END.join(_shared_of(astuple(quick)))
        shared = None if _END in content or len(values) > _LONGEST else _shared(values)
        if shared is None:
            return _typed(content, report)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return header_of(load_json(content), report)
    return replace(
        shared,
        SOPInstanceUID=_text(quick.SOPInstanceUID),
        PatientAge=_text(quick.PatientAge),
        BodyPartThickness=_real(quick.BodyPartThickness, "BodyPartThickness", report),
        EstimatedRadiographicMagnificationFactor=_real(
            quick.EstimatedRadiographicMagnificationFactor, "EstimatedRadiographicMagnificationFactor", report
        ),
        SeriesInstanceUID=_text(quick.SeriesInstanceUID),
        AcquisitionDateTime=_text(quick.AcquisitionDateTime),
        AcquisitionDate=_text(quick.AcquisitionDate),
        AcquisitionTime=_text(quick.AcquisitionTime),
        ContentDate=_text(quick.ContentDate),
        ContentTime=_text(quick.ContentTime),
        InstanceNumber=_real(quick.InstanceNumber, "InstanceNumber", report),
    )


@lru_cache(4096)  # a database has few different ones; decoding them for each image takes 7 us longer
def _shared(values: bytes) -> Header | None:
    """Return a header with the attributes that many images share; ``None`` if anything about them is unusual.

    ``values`` has the JSON of each attribute, empty where it is absent.
    """
    parts = zip(_SHARED_TAGS, values.split(_END), strict=True)
    content = b"{%b}" % b",".join([b'"%b":%b' % (tag, value) for tag, value in parts if value])
    problems: list[str] = []
    try:
        header = _typed(content, lambda kind, detail: problems.append(kind))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, JsonError):
        return None
    return None if problems or has_groups(header) else header


def _typed(content: bytes, report: Report) -> Header:
    """Return the header in a sidecar whose attributes have the usual types.

    Raises
    ------
    msgspec.DecodeError, UnicodeDecodeError, RecursionError
        They have not.
    """
    sidecar = _decoder.decode(content)
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
        _text(sidecar.AcquisitionDateTime),
        _text(sidecar.AcquisitionDate),
        _text(sidecar.AcquisitionTime),
        _text(sidecar.ContentDate),
        _text(sidecar.ContentTime),
        _real(sidecar.InstanceNumber, "InstanceNumber", report),
    )
    return (
        with_groups(header, _whole_document(content, report), Elements(report)) if has_groups(header) else header
    )


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
