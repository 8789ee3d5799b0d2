"""Reads one DICOM file: its header without the pixels, and its pixels as an array, in any transfer syntax.

Renditions and ``omidbfs check --pixels`` use it. A call changes global settings of pydicom, so a process makes one
call at a time. Hostile data may end the process (the decoders are native code): call it in a process of its own,
with limits of memory and time.

Nothing is allocated because a header promises it: the length of the file is compared first, and the size that a
codestream states. Uncompressed pixels are read once, into the array that is returned. They are not mapped: a file
that becomes shorter while it is mapped ends the process, and reading 17 MB takes 4 ms.
"""

import errno
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, uid
from pydicom._dicom_dict import DicomDictionary
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_partial

from omidbfs.database.dicom import PIXELS, WITH_GROUPS, Inflated, beginning, inflated, pixel_format, quiet
from omidbfs.database.pixel_format import PixelFormat
from omidbfs.pixels.compressed import decoded, is_encapsulated, rgb
from omidbfs.pixels.errors import PixelError

_PIXEL_DATA = max(PIXELS)
_UNDEFINED = 0xFFFFFFFF
_IMAGE_GROUPS = (0x0028, 0x2050)
_WANTED = sorted(WITH_GROUPS | {tag for tag in DicomDictionary if tag >> 16 in _IMAGE_GROUPS})
_NATIVE = {
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.DeflatedExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
}
_OF_HEADERS = (None, errno.EFBIG, errno.E2BIG)
"""Numbers of errors by which reading gives up a header; others are the system's."""
_OTHERS = ("NumberOfFrames", "HighBit", "PlanarConfiguration")
_CHUNK = 1 << 30
"""Most bytes of one read: the kernel gives at most 2 GB at once."""
_MOST_INFLATED = 1032
"""Deflated data become at most so many times as long."""


@dataclass(frozen=True, slots=True)
class _Pixels:
    """The element with the pixels: where its value begins, its length, and whether it has bytes (``OB``).

    ``high_bit`` is the place of the highest bit of a value, and ``planes`` whether each sample has its own plane.
    """

    offset: int
    length: int
    has_bytes: bool
    high_bit: int
    planes: bool


@dataclass(frozen=True, slots=True)
class Source:
    """An opened DICOM file.

    ``header`` has the attributes that decide how pixels look: groups 0028 and 2050, functional groups, and those
    that the index keeps. ``format`` says how the pixels are stored; all of it is known but for ``NumberOfFrames``
    and ``PresentationLUTShape``. ``place`` is offset and length of bytes of the file that are those of
    :meth:`stored`: uncompressed, little endian, one sample, and all bits used; ``None`` if there are none.
    """

    header: Dataset
    format: PixelFormat
    place: tuple[int, int] | None
    _descriptor: int
    _pixels: _Pixels

    def stored(self) -> NDArray[Any]:
        """Return the stored values. Each call decodes.

        Returns
        -------
        NDArray
            Rows x columns, with several frames before and several samples behind. Shape and type are those of
            pydicom's ``pixel_array``, in little endian: u1, i1, u2 or i2. Bits that are not used are masked, the
            sign is extended, and a high bit that is not ``BitsStored`` - 1 is moved there. Three samples are RGB,
            whatever the file has.

        Raises
        ------
        PixelError
            The pixels are cut off, damaged, contradict the header or cannot be decoded.
        OSError
            The file cannot be read.
        """
        form = self.format
        with quiet():
            if is_encapsulated(form.TransferSyntaxUID or ""):
                offset, length = self._pixels.offset, self._pixels.length
                rest = os.fstat(self._descriptor).st_size - offset
                data = _read(self._descriptor, offset, rest if length == _UNDEFINED else min(length, rest))
                words, precision = decoded(data.tobytes(), form, self._pixels.planes)
            else:
                words = self._native()
                precision = words.dtype.itemsize * 8
        stored, high = form.BitsStored or 0, self._pixels.high_bit
        shift = high + 1 - stored if high < precision else 0
        values = _fit(words, min(stored, precision), shift, bool(form.PixelRepresentation))
        return values if form.NumberOfFrames and form.NumberOfFrames > 1 else values[0]

    def _native(self) -> NDArray[Any]:
        """Return the words of uncompressed pixels: frames x rows x columns (x samples)."""
        form, pixels = self.format, self._pixels
        shape = (form.NumberOfFrames or 1, form.Rows or 0, form.Columns or 0)
        samples, bits = form.SamplesPerPixel or 1, form.BitsAllocated or 0
        colour = form.PhotometricInterpretation or ""
        is_subsampled = samples == 3 and colour == "YBR_FULL_422"
        count = shape[0] * shape[1] * shape[2] * (2 if is_subsampled else samples)
        needed = count * bits // 8
        swaps = form.TransferSyntaxUID == uid.ExplicitVRBigEndian and (bits == 16 or not pixels.has_bytes)
        data = self._bytes(needed + (needed % 2 if swaps else 0))
        if swaps:  # big endian has words of 16 bits, also where these are two pixels of 8 bits
            data = data.view("<u2").byteswap().view("u1")[:needed]
        words: NDArray[Any] = data.view(f"<u{bits // 8}")
        if samples == 1:
            return words.reshape(shape)
        if is_subsampled:
            if shape[2] % 2:
                raise PixelError("subsampled colours in an odd number of columns")
            pairs = words.reshape(-1, 4)  # two pixels: Y, Y, CB, CR (PS3.3, C.7.6.3.1.2)
            words = np.stack([pairs[:, [0, 2, 3]], pairs[:, [1, 2, 3]]], axis=1).reshape(*shape, samples)
        elif pixels.planes:
            words = words.reshape(shape[0], samples, *shape[1:]).transpose(0, 2, 3, 1)
        else:
            words = words.reshape(*shape, samples)
        return rgb(words, colour)

    def _bytes(self, count: int) -> NDArray[np.uint8]:
        """Return the first bytes of uncompressed pixels; refuse what the file cannot have before allocating."""
        pixels, size = self._pixels, os.fstat(self._descriptor).st_size
        if pixels.length == _UNDEFINED:
            raise PixelError("uncompressed pixel data without a length")
        if self.format.TransferSyntaxUID != uid.DeflatedExplicitVRLittleEndian:
            if min(pixels.length, size - pixels.offset) < count:
                raise PixelError("the pixel data are cut off")
            return _read(self._descriptor, pixels.offset, count)
        if min(pixels.length, size * _MOST_INFLATED) < count:
            raise PixelError("the pixel data are cut off")
        most = pixels.offset + count
        meta, data = inflated(self._descriptor, most)
        at = pixels.offset - len(meta)
        if len(data) < at + count:
            raise PixelError("the pixel data are cut off")
        return np.frombuffer(data, "u1", count, at)


def read(descriptor: int) -> Source:
    """Return the header of the DICOM file that is open as ``descriptor``, and what decodes its pixels.

    The descriptor stays open, and its position may change; it belongs to the caller, who keeps it open while the
    source is used.

    Raises
    ------
    PixelError
        It is no DICOM file, its header is damaged or states no format, or its pixels are of a kind that has none.
    OSError
        The file cannot be read.
    """
    found: list[tuple[int, int, int, bool]] = []  # tag, offset, length, whether it has bytes
    with quiet():
        os.lseek(descriptor, 0, os.SEEK_SET)
        with beginning(descriptor) as stream:

            def is_beyond(tag: int, vr: str | None, length: int) -> bool:
                if tag in PIXELS:
                    found.append((tag, stream.tell(), length, vr == "OB"))
                return tag >= min(PIXELS)

            try:
                header: Any = read_partial(stream, is_beyond, specific_tags=_WANTED)
                if isinstance(stream, Inflated):  # the stream is inflated; the file itself is not
                    header.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
                form = pixel_format(header)
                frames, high, planes = (header.get(name) for name in _OTHERS)
                high_bit = (form.BitsStored or 0) - 1 if high in (None, "") else int(high)
            except InvalidDicomError:
                raise PixelError("not a DICOM file") from None
            except Exception as error:  # pydicom raises nearly anything on damaged input
                if isinstance(error, OSError) and error.errno not in _OF_HEADERS:
                    raise
                raise PixelError("the header is damaged or cut off") from None
    if not found:
        raise PixelError("no pixel data")
    tag, offset, length, has_bytes = found[0]
    if tag != _PIXEL_DATA:
        raise PixelError("floating point pixel data")
    if form.NumberOfFrames is None and frames not in (None, "", 0):
        raise PixelError("an impossible number of frames")
    _check(form, high_bit)
    needed = (form.NumberOfFrames or 1) * (form.Rows or 0) * (form.Columns or 0) * (form.BitsAllocated or 0) // 8
    is_plain = (
        form.TransferSyntaxUID in (uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian)
        and form.SamplesPerPixel == 1
        and form.BitsStored == form.BitsAllocated
        and length != _UNDEFINED
        and needed <= min(length, os.fstat(descriptor).st_size - offset)
    )
    pixels = _Pixels(offset, length, has_bytes, high_bit, bool(planes))
    return Source(header, form, (offset, needed) if is_plain else None, descriptor, pixels)


def _check(form: PixelFormat, high_bit: int) -> None:
    """Refuse a format that is not stated, contradicts itself, or is of no mammogram."""
    allocated, stored = form.BitsAllocated, form.BitsStored
    if not (form.Rows and form.Columns and form.SamplesPerPixel and allocated and stored):
        raise PixelError("the header does not say how pixels are stored")
    if form.PixelRepresentation is None:
        raise PixelError("the header does not say how pixels are stored")
    if allocated not in (8, 16):
        raise PixelError("neither 8 nor 16 bits allocated")
    if stored > allocated:
        raise PixelError("more bits stored than allocated")
    if not stored <= high_bit + 1 <= allocated:
        raise PixelError("the high bit contradicts the bits stored")
    if form.SamplesPerPixel not in (1, 3):
        raise PixelError("neither 1 nor 3 samples")
    syntax = form.TransferSyntaxUID or ""
    if syntax not in _NATIVE and not is_encapsulated(syntax):
        raise PixelError("a transfer syntax that is not supported")


def _read(descriptor: int, offset: int, count: int) -> NDArray[np.uint8]:
    """Return bytes of a file, which is at least so long."""
    data = np.empty(count, "u1")
    view = data.data
    at = 0
    while at < count:
        done = os.preadv(descriptor, [view[at : at + _CHUNK]], offset + at)
        if not done:
            raise PixelError("the pixel data are cut off")
        at += done
    return data


def _fit(words: NDArray[Any], bits: int, shift: int, is_signed: bool) -> NDArray[Any]:
    """Return the values in words whose lowest ``shift`` bits and those from ``bits`` on are not used."""
    unused = words.dtype.itemsize * 8 - bits
    if shift:
        words = words >> shift
    if not is_signed:
        return words & ((1 << bits) - 1) if unused and int(words.max()) >> bits else words
    values: NDArray[Any] = words.view(words.dtype.str.replace("u", "i"))
    if unused and (int(values.min()) < -(1 << bits - 1) or int(values.max()) >> bits - 1):
        values = (values << unused) >> unused
    return values
