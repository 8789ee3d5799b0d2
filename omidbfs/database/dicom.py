"""The attributes of one image from its DICOM header, where there is no sidecar to use; through pydicom.

A header is read up to the last attribute that is wanted, and no farther: what follows may be large or cut off.
What stands before an error counts. No more of a file is looked at than :data:`MAX_DICOM`, whatever lengths its
elements claim.
"""

import errno
import io
import logging
import os
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator, MutableSequence, Sequence
from contextlib import contextmanager
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
from omidbfs.database.problems import Report

MAX_DICOM = 16 << 20
"""Most bytes of a DICOM file that are read, or inflated, for its header: a thousand times what headers have."""

MAX_READS = 200_000
"""Most pieces that a header is read in: headers have a thousand, those of tomosyntheses some ten thousand."""

_DEFLATED = b"1.2.840.10008.1.2.1.99"
_EXPLICIT = b"1.2.840.10008.1.2.1".ljust(len(_DEFLATED), b"\0")
_UNDEFINED_LENGTH = 0xFFFFFFFF
_FILE_META = 0x0002
_META_AT = 144
"""Where in a file the group begins whose length it states: after preamble, magic word and that length."""
_SHARED, _PER_FRAME = (int(tag, 16) for tag in GROUPS)
_PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
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
"""What stands so far behind all others that it is worth nothing in between, large or damaged, to get there."""
_WITH_GROUPS = _PLAIN | {_SHARED, _PER_FRAME}


def read_dicom(descriptor: int, report: Report) -> Header:
    """Return the header of the DICOM file open as ``descriptor``, which stays open; as far as it can be read.

    What cannot be read is a problem ``bad-dicom``, or ``unreadable`` if the system refuses. Nothing is raised.
    Functional groups are read of tomosyntheses, and of what else has several frames.
    """
    problems: list[tuple[str, str]] = []
    with _quiet():
        dataset = _dataset(descriptor, _PLAIN, problems)
        document = {} if dataset is None else _document(dataset)
        if not problems and has_groups(header_of(document, _silent)):
            dataset = _dataset(descriptor, _WITH_GROUPS, problems)
            document = {} if dataset is None else _document(dataset)
    for problem in problems:
        report(*problem)
    return header_of(document, report)


def _silent(kind: str, detail: str) -> None:
    pass


def dicom_texts(descriptor: int, paths: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], str | None]:
    """Return what a DICOM header says at paths of tags (``00540220``, ``00080104``: in the first item).

    A tag may have the number of a value or item behind it: ``00080008[3]``. What cannot be read is ``None``.
    """
    first = [numbered(path[0])[0] for path in paths]
    with _quiet():
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
    except Exception:  # absent or damaged, in whatever way pydicom says so
        return None


@contextmanager
def _quiet() -> Iterator[None]:
    """Have pydicom take values as they are, and keep them to itself."""
    from pydicom import config  # here: most databases never need it, and it takes 0.2 s to import

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd values are no news here, and a log must not quote them
        logging.getLogger("pydicom").setLevel(logging.CRITICAL)
        mode, config.settings.reading_validation_mode = config.settings.reading_validation_mode, config.IGNORE
        try:
            yield
        finally:
            config.settings.reading_validation_mode = mode


def _dataset(descriptor: int, tags: frozenset[int], problems: list[tuple[str, str]]) -> Any:
    """Return the elements with ``tags`` that stand before an error, if there is one; ``None`` where none does."""
    last, needed = max(tags), max(tags - _FAR, default=0)
    begun: list[int] = []

    def is_beyond(tag: int, vr: str | None, length: int) -> bool:
        begun.append(tag)
        return tag > last or tag in _PIXELS or (tag > needed and length == _UNDEFINED_LENGTH)

    try:
        dataset = _partial(descriptor, tags, is_beyond)
    except Exception as error:  # pydicom raises nearly anything on damaged input
        if not begun or begun[-1] <= needed:
            problems.append(_problem(error))
        before = len(begun)  # pydicom drops what it had: read it again, up to the element that was too much

        def is_at_the_error(tag: int, vr: str | None, length: int) -> bool:
            begun.append(tag)
            return len(begun) >= 2 * before

        try:
            return _partial(descriptor, tags, is_at_the_error) if before else None
        except Exception:  # it is damaged before its first element, too
            return None
    if _is_meta_cut_off(dataset, descriptor):
        problems.append(_problem(EOFError()))
        return None
    cut_off = [tag for tag in tags if tag in dataset and _is_cut_off(_raw(dataset, tag))]
    for tag in cut_off:  # pydicom reads "ML" of an "MLO" at the end of the file
        del dataset[tag]
        if tag <= needed:
            problems.append(_problem(EOFError()))
    return dataset


def _partial(descriptor: int, tags: frozenset[int], is_beyond: Callable[[int, str | None, int], bool]) -> Any:
    from pydicom import uid
    from pydicom.filereader import read_partial

    os.lseek(descriptor, 0, os.SEEK_SET)
    with _beginning(descriptor) as stream:
        dataset = read_partial(stream, is_beyond, specific_tags=sorted(tags))
        if isinstance(stream, _Inflated):  # inflated here: the file still is as it is
            dataset.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
        return dataset


def _problem(error: Exception) -> tuple[str, str]:
    """Return kind and detail of what went wrong, without quoting the file."""
    from pydicom.errors import InvalidDicomError

    if isinstance(error, InvalidDicomError):
        return "bad-dicom", "not a DICOM file"
    if isinstance(error, OSError) and error.errno == errno.EFBIG:
        return "bad-dicom", "an attribute reaches beyond the first 16 MB; what stands before it is used"
    if isinstance(error, OSError) and error.errno == errno.E2BIG:
        return "bad-dicom", f"more than {MAX_READS:,} pieces; what stands before is used"
    if isinstance(error, OSError) and error.errno is not None:
        return "unreadable", os.strerror(error.errno)
    if isinstance(error, (EOFError, OSError, struct.error)):
        return "bad-dicom", "the header is cut off; what stands before is used"
    return "bad-dicom", f"the header is damaged ({type(error).__name__}); what stands before is used"


class _Bounded(io.FileIO):
    """A file of which so many bytes can be read: an element may claim any length, and a file have any size."""

    left = MAX_DICOM

    def readinto(self, buffer: Any) -> int:
        count: int = super().readinto(buffer)
        self.left -= count
        if self.left < 0:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        return count


class _InPieces(io.BufferedIOBase):
    """A stream that gives no more than so many pieces: 16 MB of zeros are two million empty elements."""

    left = MAX_READS

    def read(self, size: int | None = -1, /) -> bytes:
        self.left -= 1
        if self.left < 0:
            raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
        return super().read(size)


class _Opened(_InPieces, io.BufferedReader):
    pass


class _Inflated(_InPieces, io.BytesIO):
    pass


def _beginning(descriptor: int) -> BinaryIO:
    """Return a stream of a DICOM file, deflated or not, that ends at :data:`MAX_DICOM` and :data:`MAX_READS`."""
    start = os.pread(descriptor, 4096, 0)
    if _DEFLATED not in start:
        return _Opened(_Bounded(descriptor, closefd=False))
    # pydicom inflates all of it at once, and a megabyte may stand for a gigabyte (PS3.5, A.5). The file meta
    # information starts with its own length and says, after it is inflated here, that there is nothing to inflate.
    content = os.pread(descriptor, MAX_DICOM, 0)
    end = 144 + int.from_bytes(content[140:144], "little")
    try:
        data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content[end:], MAX_DICOM)
    except zlib.error:
        data = b""
    return _Inflated(content[:end].replace(_DEFLATED, _EXPLICIT) + data)


def _raw(dataset: Any, tag: int) -> Any:
    """Return an element as it was read; ``None`` where it is absent.

    Without ``keep_deferred`` pydicom decodes one without a value, and raises for one of an unknown VR.
    """
    return dataset.get_item(tag, keep_deferred=True)


def _is_cut_off(element: Any) -> bool:
    """Return whether the file ends inside an element as read, not yet decoded (``RawDataElement``)."""
    length = getattr(element, "length", _UNDEFINED_LENGTH)
    return length != _UNDEFINED_LENGTH and len(element.value or b"") < length


def _is_meta_cut_off(dataset: Any, descriptor: int) -> bool:
    try:
        length = int(dataset.file_meta.FileMetaInformationGroupLength)
    except Exception:  # absent or damaged
        length = 0
    return _META_AT + length > os.fstat(descriptor).st_size


def _document(dataset: Any) -> dict[str, Any]:
    """Return a dataset in the DICOM JSON model, its values as texts; of frames the first."""
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
    except Exception:  # absent, or not to be decoded as what it is: then as it stands
        value = getattr(_raw(dataset, tag), "value", None)
    values = value if isinstance(value, MutableSequence) else [value]
    return [one.decode("latin-1") if isinstance(one, bytes) else str(one) for one in values if one is not None]
