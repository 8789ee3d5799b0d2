"""The size of a rendition in bytes, from what the index knows of the pixels. Nothing is opened.

The view, exports and commands use it, and the workers that render, which must make exactly this many bytes. Pure
functions: any thread may call them.
"""

import functools
import io
from typing import NamedTuple

import numpy as np
from numpy.lib import format as npy_format

from omidbfs.database.pixel_format import DECIDE_SIZE, PixelFormat
from omidbfs.pixels.rendition import BUILT_IN, Box, Format, Longest, Rendition
from omidbfs.pixels.scale import inner_size

_PNG_FRAME = 8 + 25 + 12 + 2 + 4 + 12
"""Bytes of a PNG file around its pixels: signature, IHDR, IDAT, the header and checksum of zlib, IEND."""
_BLOCK = 65535
"""The largest block of pixels that deflate stores as it is; each has a header of 5 bytes."""
_TIFF_HEADER, _TIFF_DIRECTORY = 8, 256
_LONGEST_CHUNK = (1 << 31) - 1
_LARGEST_FILE = 1 << 62

RENDITION_IDENTITIES = 1 << 24
"""The number of images that can have renditions: those with a smaller identity. The inodes of renditions have so
many bits for it."""

_GREY = (None, "MONOCHROME1", "MONOCHROME2")
_COLOUR = (None, "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT")


class Pixels(NamedTuple):
    """The array of a rendition: its shape, and the type of a number."""

    frames: int
    rows: int
    columns: int
    samples: int
    dtype: np.dtype[np.integer]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape in a ``npy`` file: frames if there are several, rows, columns, samples if it is in colour."""
        frames = (self.frames,) if self.frames > 1 else ()
        samples = (self.samples,) if self.samples > 1 else ()
        return (*frames, self.rows, self.columns, *samples)

    @property
    def bytes(self) -> int:
        """The number of bytes of the array."""
        return self.frames * self.rows * self.columns * self.samples * self.dtype.itemsize


def size_of(rendition: Rendition, format: PixelFormat) -> int | None:
    """Return the bytes of the file; ``None`` where the image has no such rendition (:func:`why_not`)."""
    if why_not(rendition, format) is not None:
        return None
    size = file_size(rendition.format, pixels_of(rendition, format))
    return size if size < _LARGEST_FILE else None


def keeps_renditions(found: PixelFormat, by_index: PixelFormat) -> bool:
    """Return whether an image whose file contradicts the index still has every rendition that the index gives it.

    Directories list renditions by the index, so an image that lost one would be listed there in vain.
    """
    return all(size_of(each, found) or not size_of(each, by_index) for each in BUILT_IN.values())


def why_not(rendition: Rendition, format: PixelFormat) -> str | None:
    """Return why an image has no such rendition, as the end of a sentence; ``None`` if it has one."""
    unknown = [name for name in DECIDE_SIZE if not getattr(format, name)]
    if unknown:
        return f"{unknown[0]} is unknown"
    allocated, stored, samples = format.BitsAllocated, format.BitsStored, format.SamplesPerPixel
    assert allocated is not None
    assert stored is not None
    if allocated not in (8, 16) or not 8 <= stored <= allocated:
        return f"it stores {stored} bits in {allocated}; 8 to 16 bits in 8 or 16 are rendered"
    if samples not in (1, 3):
        return f"it has {samples} samples per pixel; 1 or 3 are rendered"
    if _is_stored(rendition):
        return None
    if _frames(format) > 1:
        return "it has several frames"
    if format.PhotometricInterpretation not in (_GREY if samples == 1 else _COLOUR):
        return f"it is {format.PhotometricInterpretation}; grey and RGB are rendered"
    is_rgb = allocated == 8 and format.PixelRepresentation != 1
    if samples == 3 and not (is_rgb and rendition.format is Format.PNG):
        return "it is in colour, which is rendered in 8 bits as png"
    if file_size(rendition.format, pixels_of(rendition, format)) > _LONGEST_CHUNK:
        return "it is larger than 2 GiB"
    return None


def pixels_of(rendition: Rendition, format: PixelFormat) -> Pixels:
    """Return the array of a rendition that an image has."""
    assert format.Rows
    assert format.Columns
    assert format.SamplesPerPixel
    rows, columns = scaled(rendition.size, format.Rows, format.Columns)
    if _is_stored(rendition):
        sign = "i" if format.PixelRepresentation == 1 else "u"
        dtype = np.dtype(f"<{sign}{1 if format.BitsAllocated == 8 else 2}")
    else:
        dtype = np.dtype("u1" if rendition.format is Format.PNG else "<u2")
    return Pixels(_frames(format), rows, columns, format.SamplesPerPixel, dtype)


def scaled(size: Box | Longest | None, rows: int, columns: int) -> tuple[int, int]:
    """Return the rows and columns of an image that is scaled and padded to a size."""
    return (size.rows, size.columns) if isinstance(size, Box) else inner_size(size, rows, columns)


def file_size(format: Format, pixels: Pixels) -> int:
    """Return the bytes of a file in a format that holds an array."""
    if format is Format.NPY:
        return len(npy_header(pixels.dtype.str, pixels.shape)) + pixels.bytes
    if format is Format.TIFF:
        return tiff_size(pixels)
    deflated = pixels.bytes + pixels.rows  # before each row is a byte for its filter
    return _PNG_FRAME + deflated + 5 * -(-deflated // _BLOCK)


def tiff_size(pixels: Pixels) -> int:
    """Return the bytes of a TIFF file: a header, a directory for each frame, and the array.

    A classic file and a BigTIFF file have the same size (``encode``).
    """
    return _TIFF_HEADER + _TIFF_DIRECTORY * pixels.frames + pixels.bytes


@functools.lru_cache(maxsize=1024)
def npy_header(dtype: str, shape: tuple[int, ...]) -> bytes:
    """Return the bytes before the array in a ``npy`` file, as ``numpy.save`` writes them."""
    stream = io.BytesIO()
    npy_format.write_array_header_1_0(stream, {"descr": dtype, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def _is_stored(rendition: Rendition) -> bool:
    return rendition.window is None


def _frames(format: PixelFormat) -> int:
    return max(1, format.NumberOfFrames or 1)
