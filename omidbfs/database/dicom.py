"""Reads the attributes of one image from its DICOM header, with pydicom, where the image has no usable sidecar.

The reader of a study uses it, from any thread. While calls are under way, pydicom has other global settings.
Reading stops after the last attribute that is wanted, since the rest may be large or cut off. Attributes before an
error count. No more than :data:`MAX_DICOM` bytes of a file are read, whatever lengths its elements claim.
"""

import errno
import io
import logging
import os
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator, MutableSequence, Sequence
from contextlib import ExitStack, contextmanager
from threading import Lock
from typing import Any, BinaryIO

from omidbfs.database.dataset import MODIFIERS, VIEW_CODES, numbered, stated
from omidbfs.database.header import (
    ACQUISITIONS,
    GROUPS,
    IMAGE_TYPE,
    NUMBERS,
    ORIENTATION,
    SPACING,
    TAGS,
    Header,
    has_groups,
    header_of,
)
from omidbfs.database.pixel_format import PixelFormat, format_of
from omidbfs.database.problems import Report

MAX_DICOM = 16 << 20
"""Most bytes of a DICOM file that are read, or inflated, for its header: a thousand times a usual header."""

MAX_READS = 200_000
"""Most reads of one header: a usual header takes a thousand, that of a tomosynthesis some ten thousand."""

_DEFLATED = b"1.2.840.10008.1.2.1.99"
_EXPLICIT = b"1.2.840.10008.1.2.1".ljust(len(_DEFLATED), b"\0")
_UNDEFINED_LENGTH = 0xFFFFFFFF
_FILE_META = 0x0002
_META_AT = 144
"""Offset in bytes of the part of the file meta group that FileMetaInformationGroupLength measures."""
_SHARED, _PER_FRAME = (int(tag, 16) for tag in GROUPS)
PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
"""Tags of pixel data: as floats, as doubles, and as whole numbers."""
_PLAIN = frozenset(
    int(tag, 16)
    for tag in (
        *TAGS.values(),
        *NUMBERS.values(),
        IMAGE_TYPE,
        ORIENTATION,
        SPACING,
        ACQUISITIONS,
        VIEW_CODES,
        MODIFIERS,
    )
    if int(tag, 16) >> 16 != _FILE_META
)
_FAR = frozenset({int(TAGS["PresentationLUTShape"], 16)})
"""Attributes far behind all others. Reading gives them up at an element of undefined length or a damaged one."""
WITH_GROUPS = _PLAIN | {_SHARED, _PER_FRAME}
"""All attributes that are read, with the functional groups of a file with several frames."""


def read_dicom(descriptor: int, report: Report) -> Header:
    """Return the header of the DICOM file open as ``descriptor``, as far as it can be read; leave it open.

    A damaged header is reported as ``bad-dicom``, a refusal of the system as ``unreadable``. Nothing is raised.
    Functional groups are read for tomosyntheses and for other images with several frames.
    """
    problems: list[tuple[str, str]] = []
    with quiet():
        dataset = _dataset(descriptor, _PLAIN, problems)
        document = {} if dataset is None else _document(dataset)
        if not problems and has_groups(header_of(document, _silent)):
            dataset = _dataset(descriptor, WITH_GROUPS, problems)
            document = {} if dataset is None else _document(dataset)
    for problem in problems:
        report(*problem)
    return header_of(document, report)


def header_in(dataset: Any) -> Header:
    """Return the header of a dataset that was read with :data:`WITH_GROUPS`. Nothing is reported or raised."""
    with quiet():
        return header_of(_document(dataset), _silent)


def _silent(kind: str, detail: str) -> None:
    pass


def dicom_texts(descriptor: int, paths: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], str | None]:
    """Return the texts in a DICOM header at paths of tags (``00540220``, ``00080104``: in the first item).

    The number of a value or item may follow a tag: ``00080008[3]``. A text that cannot be read is ``None``.
    """
    first = [numbered(path[0])[0] for path in paths]
    with quiet():
        dataset = _dataset(descriptor, frozenset(int(tag, 16) for tag in first), [])
        return {path: None if dataset is None else _text_at(dataset, path) for path in paths}


def _text_at(dataset: Any, path: Sequence[str]) -> str | None:
    *sequences, last = path
    try:
        for part in sequences:
            tag, place = numbered(part)
            dataset = dataset[int(tag, 16)].value[place - 1]
        tag, place = numbered(last)
        where = dataset.file_meta if int(tag, 16) >> 16 == _FILE_META else dataset
        return stated(_values(where, int(tag, 16))[place - 1])
    except Exception:  # absent or damaged; pydicom raises nearly anything
        return None


@contextmanager
def quiet() -> Iterator[None]:
    """Keep pydicom from validating values, and from quoting them in warnings and logs."""
    _QUIET.enter()
    try:
        yield
    finally:
        _QUIET.leave()


class _Quiet:
    """The settings that all calls share: the first call makes them, and the last one takes them back."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._calls = 0
        self._before = ExitStack()

    def enter(self) -> None:
        from pydicom import config  # not at the top: the import takes 0.2 s, and few databases need it

        with self._lock:
            self._calls += 1
            if self._calls == 1:
                self._before.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")  # a log must not quote values
                logging.getLogger("pydicom").setLevel(logging.CRITICAL)
                settings = config.settings
                self._before.callback(
                    setattr, settings, "reading_validation_mode", settings.reading_validation_mode
                )
                settings.reading_validation_mode = config.IGNORE

    def leave(self) -> None:
        with self._lock:
            self._calls -= 1
            if self._calls == 0:
                self._before.close()


_QUIET = _Quiet()


def _dataset(descriptor: int, tags: frozenset[int], problems: list[tuple[str, str]]) -> Any:
    """Return the elements with ``tags``, in a damaged header those before the error; ``None`` if none is read."""
    last, needed = max(tags), max(tags - _FAR, default=0)
    begun: list[int] = []

    def is_beyond(tag: int, vr: str | None, length: int) -> bool:
        begun.append(tag)
        return tag > last or tag in PIXELS or (tag > needed and length == _UNDEFINED_LENGTH)

    try:
        dataset = _partial(descriptor, tags, is_beyond)
    except Exception as error:  # pydicom raises nearly anything on damaged input
        if not begun or begun[-1] <= needed:
            problems.append(_problem(error))
        before = len(begun)  # pydicom drops the elements before the error: read again up to the bad one

        def is_at_the_error(tag: int, vr: str | None, length: int) -> bool:
            begun.append(tag)
            return len(begun) >= 2 * before

        try:
            return _partial(descriptor, tags, is_at_the_error) if before else None
        except Exception:  # damaged before its first element
            return None
    if _is_meta_cut_off(dataset, descriptor):
        problems.append(_problem(EOFError()))
        return None
    cut_off = [tag for tag in tags if tag in dataset and _is_cut_off(_raw(dataset, tag))]
    for tag in cut_off:  # at the end of a file pydicom reads "MLO" as "ML" without an error
        del dataset[tag]
        if tag <= needed:
            problems.append(_problem(EOFError()))
    return dataset


def _partial(descriptor: int, tags: frozenset[int], is_beyond: Callable[[int, str | None, int], bool]) -> Any:
    from pydicom import uid
    from pydicom.filereader import read_partial

    os.lseek(descriptor, 0, os.SEEK_SET)
    with beginning(descriptor) as stream:
        dataset = read_partial(stream, is_beyond, specific_tags=sorted(tags))
        if isinstance(stream, Inflated):  # the stream is inflated; the file itself is not
            dataset.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
        return dataset


def _problem(error: Exception) -> tuple[str, str]:
    """Return kind and detail of the problem that an error is, without quoting the file."""
    from pydicom.errors import InvalidDicomError

    if isinstance(error, InvalidDicomError):
        return "bad-dicom", "not a DICOM file"
    if isinstance(error, OSError) and error.errno == errno.EFBIG:
        return "bad-dicom", "an attribute reaches beyond the first 16 MB; the attributes before it are used"
    if isinstance(error, OSError) and error.errno == errno.E2BIG:
        return "bad-dicom", f"more than {MAX_READS:,} pieces; the attributes in them are used"
    if isinstance(error, OSError) and error.errno is not None:
        return "unreadable", os.strerror(error.errno)
    if isinstance(error, (EOFError, OSError, struct.error)):
        return "bad-dicom", "the header is cut off; the attributes before that are used"
    return "bad-dicom", f"the header is damaged ({type(error).__name__}); the attributes before that are used"


class _Bounded(io.FileIO):
    """A file that gives at most :data:`MAX_DICOM` bytes: its size and the lengths in it may be anything."""

    left = MAX_DICOM

    def readinto(self, buffer: Any) -> int:
        count: int = super().readinto(buffer)
        self.left -= count
        if self.left < 0:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        return count


class _InPieces(io.BufferedIOBase):
    """A stream that allows at most :data:`MAX_READS` reads: 16 MB of zeros are two million empty elements."""

    left = MAX_READS

    def read(self, size: int | None = -1, /) -> bytes:
        self.left -= 1
        if self.left < 0:
            raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
        return super().read(size)


class _Opened(_InPieces, io.BufferedReader):
    pass


class Inflated(_InPieces, io.BytesIO):
    """A stream of the file meta group and of the inflated dataset behind it."""


def beginning(descriptor: int) -> BinaryIO:
    """Return a stream for a header: inflated, and ended at :data:`MAX_DICOM` and :data:`MAX_READS`."""
    start = os.pread(descriptor, 4096, 0)
    if _DEFLATED not in start:
        return _Opened(_Bounded(descriptor, closefd=False))
    # pydicom would inflate the whole file at once (PS3.5, A.5), and a megabyte may become a gigabyte. The dataset
    # is inflated here instead, and the stream claims a transfer syntax without deflation.
    meta, data = inflated(descriptor, MAX_DICOM)
    return Inflated(meta.replace(_DEFLATED, _EXPLICIT) + data)


def inflated(descriptor: int, most: int) -> tuple[bytes, bytes]:
    """Return a deflated file up to its dataset, and at most ``most`` bytes of the inflated dataset."""
    longest = most + most // 256 + 4096  # deflation adds less than that to any data
    content = os.pread(descriptor, min(longest, os.fstat(descriptor).st_size), 0)
    end = _META_AT + int.from_bytes(content[_META_AT - 4 : _META_AT], "little")
    try:
        return content[:end], zlib.decompressobj(-zlib.MAX_WBITS).decompress(content[end:], most)
    except zlib.error:
        return content[:end], b""


def pixel_format(dataset: Any) -> PixelFormat:
    """Return how the pixels of a pydicom dataset are stored, by the rules for any header."""
    document: dict[str, Any] = {}
    for name in PixelFormat._fields:
        tag = int({**TAGS, **NUMBERS}[name], 16)
        where = dataset.file_meta if tag >> 16 == _FILE_META else dataset
        if values := _values(where, tag):
            document[f"{tag:08X}"] = {"Value": values}
    return format_of(header_of(document, _silent))


def _raw(dataset: Any, tag: int) -> Any:
    """Return an element before decoding; ``None`` where it is absent.

    Without ``keep_deferred`` pydicom decodes an element that has no value, and raises if its VR is unknown.
    """
    return dataset.get_item(tag, keep_deferred=True)


def _is_cut_off(element: Any) -> bool:
    """Return whether the file ends inside an element that is not decoded yet (``RawDataElement``)."""
    length = getattr(element, "length", _UNDEFINED_LENGTH)
    return length != _UNDEFINED_LENGTH and len(element.value or b"") < length


def _is_meta_cut_off(dataset: Any, descriptor: int) -> bool:
    try:
        length = int(dataset.file_meta.FileMetaInformationGroupLength)
    except Exception:  # absent or damaged
        length = 0
    return _META_AT + length > os.fstat(descriptor).st_size


def _document(dataset: Any) -> dict[str, Any]:
    """Return a dataset in the DICOM JSON model, with values as texts and with the first frame only."""
    tags, syntax = dataset.keys(), int(TAGS["TransferSyntaxUID"], 16)
    found = {f"{tag:08X}": {"Value": values} for tag in tags if (values := _values(dataset, tag))}
    if hasattr(dataset, "file_meta") and (values := _values(dataset.file_meta, syntax)):
        found[f"{syntax:08X}"] = {"Value": values}
    return found


def _values(dataset: Any, tag: int) -> list[Any]:
    try:
        element = dataset[tag]
        value = element.value
        if element.VR == "SQ":
            return [_document(item) for item in (value[:1] if tag == _PER_FRAME else value)]
    except Exception:  # absent, or its value does not fit its VR: then use the raw value
        value = getattr(_raw(dataset, tag), "value", None)
    values = value if isinstance(value, MutableSequence) else [value]
    return [one.decode("latin-1") if isinstance(one, bytes) else str(one) for one in values if one is not None]
