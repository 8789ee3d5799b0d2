"""The attributes of one image: from its JSON sidecar, or from the DICOM header where there is none to use.

The sidecar follows the DICOM JSON model (PS3.18, F.2). A tag is found by its place in the dataset: nested
sequences repeat the same tags.
"""

import errno
import io
import json
import logging
import os
import warnings
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO

import msgspec
import orjson

from omidbfs.database.problems import Report
from omidbfs.database.values import ANONYMISED


class Header(msgspec.Struct, frozen=True, gc=False):  # made 5 x as fast as a frozen dataclass
    """First values of the attributes that facets need, under their DICOM keywords; ``None`` is "not stated".

    ``ViewCode`` is the code value of the first item of ViewCodeSequence (0054,0220), ``ViewModifierCodes``
    those of its ViewModifierCodeSequence (0054,0222).
    """

    Manufacturer: str | None = None
    ManufacturerModelName: str | None = None
    PatientAge: str | None = None
    PresentationIntentType: str | None = None
    ViewPosition: str | None = None
    Laterality: str | None = None
    ImageLaterality: str | None = None
    BreastImplantPresent: str | None = None
    ViewCode: str | None = None
    ViewModifierCodes: tuple[str, ...] = ()


TAGS = {
    "Manufacturer": "00080070",
    "ManufacturerModelName": "00081090",
    "PatientAge": "00101010",
    "PresentationIntentType": "00080068",
    "ViewPosition": "00185101",
    "Laterality": "00200060",
    "ImageLaterality": "00200062",
    "BreastImplantPresent": "00281300",
}
"""Keyword -> tag of the plain attributes of :class:`Header`."""

MAX_DOCUMENT = 16 << 20
"""Most bytes of JSON that are decoded whole: as Python objects they take up to 30 times as much memory."""

MAX_DICOM = 16 << 20
"""Most bytes of a DICOM file that are read, or inflated, for its header: a thousand times what headers have."""

_DEFLATED = b"1.2.840.10008.1.2.1.99"
_EXPLICIT = b"1.2.840.10008.1.2.1".ljust(len(_DEFLATED), b"\0")
_VIEW_CODES, _MODIFIERS, _CODE_VALUE = "00540220", "00540222", "00080100"
_UNDEFINED_LENGTH = 0xFFFFFFFF


# The typed decoder picks a dozen tags out of 120 without building the rest: 4.5 x the standard json module.
class _Text(msgspec.Struct, gc=False):
    Value: list[str | None] | None = None


class _Code(msgspec.Struct, gc=False, rename={"code": _CODE_VALUE}):
    code: _Text | None = None


class _Modifiers(msgspec.Struct, gc=False):
    Value: list[_Code] | None = None


class _View(msgspec.Struct, gc=False, rename={"code": _CODE_VALUE, "modifiers": _MODIFIERS}):
    code: _Text | None = None
    modifiers: _Modifiers | None = None


_NO_VIEW = _View()


class _Views(msgspec.Struct, gc=False):
    Value: list[_View] | None = None


class _Sidecar(msgspec.Struct, gc=False, rename={**TAGS, "Views": _VIEW_CODES}):
    Manufacturer: _Text | None = None
    ManufacturerModelName: _Text | None = None
    PatientAge: _Text | None = None
    PresentationIntentType: _Text | None = None
    ViewPosition: _Text | None = None
    Laterality: _Text | None = None
    ImageLaterality: _Text | None = None
    BreastImplantPresent: _Text | None = None
    Views: _Views | None = None


_decoder = msgspec.json.Decoder(_Sidecar)


class JsonError(ValueError):
    """A file is not a JSON object; the message says what is wrong with it, without quoting it."""


def load_json(content: bytes) -> dict[str, object]:
    """Return the JSON object in ``content``: by orjson, or by the more tolerant standard module.

    Raises
    ------
    JsonError
        Empty, cut off, nested too deeply, larger than :data:`MAX_DOCUMENT`, or not an object.
    """
    if len(content) > MAX_DOCUMENT:
        raise JsonError("larger than 16 MB")
    if not content.strip():
        raise JsonError("empty file")
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError:
        try:  # NaN, huge integers, a byte order mark, UTF-16: orjson is right to refuse them, json reads them
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
        The content is no JSON object.
    """
    try:
        sidecar = _decoder.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _lenient(load_json(content), report)
    view = sidecar.Views.Value[0] if sidecar.Views is not None and sidecar.Views.Value else _NO_VIEW
    modifiers = view.modifiers.Value if view.modifiers is not None else None
    codes = [code for item in modifiers if (code := _first_text(item.code)) is not None] if modifiers else ()
    return Header(
        _first_text(sidecar.Manufacturer),
        _first_text(sidecar.ManufacturerModelName),
        _first_text(sidecar.PatientAge),
        _first_text(sidecar.PresentationIntentType),
        _first_text(sidecar.ViewPosition),
        _first_text(sidecar.Laterality),
        _first_text(sidecar.ImageLaterality),
        _first_text(sidecar.BreastImplantPresent),
        _first_text(view.code),
        tuple(codes),
    )


def _first_text(element: _Text | None) -> str | None:
    if element is None or not element.Value or not (value := element.Value[0]):
        return None
    text = value.strip(" \0")
    return text if text and text != ANONYMISED else None


def _stated(value: str | None) -> str | None:
    text = value and value.strip(" \0")
    return text if text and text != ANONYMISED else None


def _lenient(document: dict[str, object], report: Report) -> Header:
    """Read a sidecar whose values are not of the types that the standard gives."""

    def first(container: object, tag: str) -> object:
        element = container.get(tag) if isinstance(container, dict) else None
        if element is None:
            return None
        values = element.get("Value") if isinstance(element, dict) else element
        if values is None or values == []:
            return None
        if isinstance(element, dict) and isinstance(values, list):
            return values[0]
        report("odd-value", f"{tag} is not in the form of the DICOM JSON model")
        return None

    def text(container: object, tag: str) -> str | None:
        value = first(container, tag)
        if value is None or isinstance(value, str):
            return _stated(value)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return str(value)
        report("odd-value", f"{tag} holds neither text nor a number")
        return None

    view = first(document, _VIEW_CODES)
    sequence = view.get(_MODIFIERS) if isinstance(view, dict) else None
    items = sequence.get("Value") if isinstance(sequence, dict) else None
    codes = [text(item, _CODE_VALUE) for item in items] if isinstance(items, list) else []
    plain: dict[str, Any] = {keyword: text(document, tag) for keyword, tag in TAGS.items()}
    return Header(
        **plain,
        ViewCode=text(view, _CODE_VALUE),
        ViewModifierCodes=tuple(code for code in codes if code is not None),
    )


class DicomError(ValueError):
    """A DICOM header cannot be read; the message says why, without quoting it."""


def read_dicom(descriptor: int) -> Header:
    """Return the header of the DICOM file open as ``descriptor``, which stays open.

    Raises
    ------
    DicomError
        The file is not DICOM, or its header is damaged.
    """
    from pydicom import config, dcmread  # here: most databases never need it, and it takes 0.2 s to import

    with warnings.catch_warnings(), _beginning(descriptor) as stream:
        warnings.simplefilter("ignore")  # odd values are no news here, and a log must not quote them
        logging.getLogger("pydicom").setLevel(logging.CRITICAL)
        mode, config.settings.reading_validation_mode = config.settings.reading_validation_mode, config.IGNORE
        try:
            dataset = dcmread(stream, stop_before_pixels=True, specific_tags=[*TAGS, "ViewCodeSequence"])
            if any(_is_cut_off(dataset.get_item(keyword)) for keyword in (*TAGS, "ViewCodeSequence")):
                raise EOFError  # pydicom reads "ML" of an "MLO" at the end of the file
            plain = {keyword: _stated(_element_text(dataset, keyword)) for keyword in TAGS}
            view = _attempt(lambda: dataset.ViewCodeSequence[0])
            modifiers = _attempt(lambda: list(view.ViewModifierCodeSequence)) or []
            codes = [_stated(_element_text(item, "CodeValue")) for item in modifiers]
            return Header(
                **plain,
                ViewCode=_stated(_element_text(view, "CodeValue")),
                ViewModifierCodes=tuple(code for code in codes if code is not None),
            )
        except Exception as error:  # pydicom raises nearly anything on damaged input
            raise DicomError(f"not a readable DICOM header ({type(error).__name__})") from error
        finally:
            config.settings.reading_validation_mode = mode


class _Bounded(io.FileIO):
    """A file of which so many bytes can be read: an element may claim any length, and a file have any size."""

    left = MAX_DICOM

    def readinto(self, buffer: Any) -> int:
        count: int = super().readinto(buffer)
        self.left -= count
        if self.left < 0:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        return count


def _beginning(descriptor: int) -> BinaryIO:
    """Return a stream of a DICOM file, deflated or not, that gives no more than :data:`MAX_DICOM` bytes."""
    start = os.pread(descriptor, 4096, 0)
    if _DEFLATED not in start:
        return io.BufferedReader(_Bounded(descriptor, closefd=False))
    # pydicom inflates all of it at once, and a megabyte may stand for a gigabyte (PS3.5, A.5). The file meta
    # information starts with its own length and says, after it is inflated here, that there is nothing to inflate.
    content = os.pread(descriptor, MAX_DICOM, 0)
    end = 144 + int.from_bytes(content[140:144], "little")
    try:
        data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content[end:], MAX_DICOM)
    except zlib.error:
        data = b""
    return io.BytesIO(content[:end].replace(_DEFLATED, _EXPLICIT) + data)


def _is_cut_off(element: Any) -> bool:
    """Return whether the file ends inside an element as read, not yet decoded (``RawDataElement``)."""
    length = getattr(element, "length", _UNDEFINED_LENGTH)
    return length != _UNDEFINED_LENGTH and len(element.value or b"") < length


def _element_text(dataset: Any, keyword: str) -> str | None:
    def read() -> str | None:
        element = dataset[keyword]
        value = (element.value or [None])[0] if element.VM > 1 else element.value
        return None if value is None else str(value)

    text: str | None = _attempt(read)
    return text


def _attempt(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except Exception:  # an absent or damaged element, in whatever way pydicom says so
        return None
