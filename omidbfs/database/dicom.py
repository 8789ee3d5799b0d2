"""The attributes of one image from its DICOM header, where there is no sidecar to use; through pydicom.

No more of a file is looked at than :data:`MAX_DICOM`, whatever lengths its elements claim.
"""

import errno
import io
import logging
import os
import warnings
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, BinaryIO, TypeVar

from omidbfs.database.header import NUMBERS, TAGS, Header, numbers_of, stated

MAX_DICOM = 16 << 20
"""Most bytes of a DICOM file that are read, or inflated, for its header: a thousand times what headers have."""

_DEFLATED = b"1.2.840.10008.1.2.1.99"
_EXPLICIT = b"1.2.840.10008.1.2.1".ljust(len(_DEFLATED), b"\0")
_UNDEFINED_LENGTH = 0xFFFFFFFF


class DicomError(ValueError):
    """A DICOM header cannot be read; the message says why, without quoting it."""


def read_dicom(descriptor: int) -> Header:
    """Return the header of the DICOM file open as ``descriptor``, which stays open.

    Raises
    ------
    DicomError
        The file is not DICOM, or its header is damaged.
    """
    keywords = [*(keyword for keyword in TAGS if keyword != "TransferSyntaxUID"), *NUMBERS]

    def header(dataset: Any) -> Header:
        if any(_is_cut_off(dataset.get_item(keyword)) for keyword in (*keywords, "ViewCodeSequence")):
            raise EOFError  # pydicom reads "ML" of an "MLO" at the end of the file
        meta_length = _attempt(lambda: int(dataset.file_meta.FileMetaInformationGroupLength)) or 0
        if _META_AT + meta_length > os.fstat(descriptor).st_size:
            raise EOFError
        texts: dict[str, Any] = {keyword: stated(_element_text(dataset, keyword)) for keyword in keywords}
        numbers = numbers_of({keyword: texts.pop(keyword) for keyword in NUMBERS})
        view = _attempt(lambda: dataset.ViewCodeSequence[0])
        modifiers = _attempt(lambda: list(view.ViewModifierCodeSequence)) or []
        codes = [stated(_element_text(item, "CodeValue")) for item in modifiers]
        return Header(
            **texts,
            **numbers,
            TransferSyntaxUID=stated(_element_text(dataset.file_meta, "TransferSyntaxUID")),
            ViewCode=stated(_element_text(view, "CodeValue")),
            ViewModifierCodes=tuple(code for code in codes if code is not None),
        )

    return _from_dicom(descriptor, [*keywords, "ViewCodeSequence"], header)


def dicom_texts(descriptor: int, paths: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], str | None]:
    """Return what a DICOM header says at paths of tags (``00540220``, ``00080104``: in the first item).

    Raises
    ------
    DicomError
        As :func:`read_dicom`.
    """

    def texts(dataset: Any) -> dict[tuple[str, ...], str | None]:
        return {path: stated(_attempt(partial(_text_at, dataset, path))) for path in paths}

    return _from_dicom(descriptor, [int(path[0], 16) for path in paths], texts)


def _text_at(dataset: Any, path: Sequence[str]) -> str | None:
    *sequences, last = (int(tag, 16) for tag in path)
    for tag in sequences:
        dataset = dataset[tag].value[0]
    return _element_text(dataset.file_meta if last >> 16 == _FILE_META else dataset, last)


_FILE_META = 0x0002
_META_AT = 144
"""Where in a file the group begins whose length it states: after preamble, magic word and that length."""
_Found = TypeVar("_Found")


def _from_dicom(descriptor: int, tags: list[Any], read: Callable[[Any], _Found]) -> _Found:
    from pydicom import config, dcmread, uid  # here: most databases never need it, and it takes 0.2 s to import

    with warnings.catch_warnings(), _beginning(descriptor) as stream:
        warnings.simplefilter("ignore")  # odd values are no news here, and a log must not quote them
        logging.getLogger("pydicom").setLevel(logging.CRITICAL)
        mode, config.settings.reading_validation_mode = config.settings.reading_validation_mode, config.IGNORE
        try:
            dataset = dcmread(stream, stop_before_pixels=True, specific_tags=tags)
            if isinstance(stream, io.BytesIO):  # inflated here: the file still is as it is
                dataset.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
            return read(dataset)
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


def _element_text(dataset: Any, keyword: str | int) -> str | None:
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
