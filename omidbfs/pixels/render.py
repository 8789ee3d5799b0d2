"""Makes a rendition of a DICOM file: decodes it, transforms, crops and scales its values, and writes the file.

Workers and exports use it. As decoding does, a call changes global settings of pydicom, so a process makes one
call at a time; hostile data may end the process.
"""

import os
from collections.abc import Iterable
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omidbfs.database.pixel_format import PixelFormat
from omidbfs.pixels.decode import Source, read
from omidbfs.pixels.encode import Piece, npy, png, tiff_header
from omidbfs.pixels.errors import ContradictionError, PixelError
from omidbfs.pixels.placement import Placement, Region, placement
from omidbfs.pixels.rendition import Format, Rendition, Window
from omidbfs.pixels.scale import framed, scaled
from omidbfs.pixels.sizes import pixels_of, size_of
from omidbfs.pixels.values import extent, table

LONGEST_HEADER = 1 << 15
"""The largest number of bytes of a header that :func:`direct` returns: that of a TIFF file of 127 frames.

A header is a message of a worker, and the drive remembers it.
"""
_MOST_PIECES = 1024
"""Most pieces that one call writes (IOV_MAX of Linux)."""
_ENTRIES_AT_ONCE = 1 << 15


def render(source: int, rendition: Rendition, expected: PixelFormat, side: str | None, target: int) -> None:
    """Write the rendition of a DICOM file: exactly ``size_of(rendition, expected)`` bytes, or an error is raised.

    Parameters
    ----------
    source
        A descriptor of the file; its position may change.
    expected
        What the index says about the pixels.
    side
        Where the chest wall is, ``left`` or ``right``; ``None`` if that is unknown.
    target
        A descriptor to write to, from its position on.

    Raises
    ------
    ContradictionError
        By what the file says about its pixels, the rendition has another size.
    PixelError
        The pixels cannot be decoded, or the image has no such rendition.
    OSError
        The file cannot be read, or the rendition cannot be written.
    """
    found = _opened(source, rendition, expected)
    _write(target, _pieces(_shown(found, rendition, side), rendition, found.format))


def render_bare(source: int, rendition: Rendition, expected: PixelFormat, side: str | None, target: int) -> None:
    """Write the numbers of a rendition alone, without a file around them, as ``pixels_of`` describes the array.

    Parameters and errors are those of :func:`render`.
    """
    found = _opened(source, rendition, expected)
    shown = _shown(found, rendition, side)
    _write(target, [_bytes_of(shown.astype(pixels_of(rendition, found.format).dtype, copy=False))])


def direct(source: int, rendition: Rendition, expected: PixelFormat) -> tuple[bytes, int, int] | None:
    """Return a rendition as a header, and offset and length of the bytes of the DICOM file that follow it.

    This is for stored values of uncompressed, little endian files with one sample and no unused bits, if the
    header has no more than :data:`LONGEST_HEADER` bytes. For any other rendition or file, and where file and index
    contradict each other, it returns ``None``: call :func:`render`, which raises what there is to raise. It raises
    ``PixelError`` and ``OSError`` as that does.
    """
    if rendition.window is not None:
        return None
    found = read(source)
    size = size_of(rendition, found.format)
    if found.place is None or size is None or size != size_of(rendition, expected):
        return None
    pixels = pixels_of(rendition, found.format)
    if size - pixels.bytes > LONGEST_HEADER:
        return None
    return (tiff_header(pixels) if rendition.format is Format.TIFF else npy(pixels)), *found.place


def _opened(source: int, rendition: Rendition, expected: PixelFormat) -> Source:
    found = read(source)
    size = size_of(rendition, found.format)
    if size != size_of(rendition, expected):
        raise ContradictionError("the file contradicts the index")
    if size is None:
        raise PixelError("the image has no such rendition")
    return found


def _shown(found: Source, rendition: Rendition, side: str | None) -> NDArray[Any]:
    stored = found.stored()
    if rendition.window is None:
        return stored
    # The box of a record is not used: the file may have been written to since, without a trace in size and time.
    place = placement(found.format, rendition, side, _breast(found, stored) if rendition.crops else None)
    shown = _grey(found, rendition, stored, place) if found.format.SamplesPerPixel == 1 else _cut(stored, place)
    return _placed(shown, place)


def _breast(found: Source, stored: NDArray[Any]) -> Region | None:
    """Return the bounding box of the breast; ``None`` if there is none."""
    try:
        from omidbfs.pixels.geometry import measured  # it needs scipy, and nothing else does
    except ImportError:
        raise PixelError("finding the breast needs scipy: pip install 'omidbfs[pixels]'") from None
    return measured(found, stored).box


def _cut(image: NDArray[Any], place: Placement) -> NDArray[Any]:
    """Return the part of an image that is shown."""
    region = place.region
    return image[region.top : region.bottom, region.left : region.right]


def _grey(found: Source, rendition: Rendition, stored: NDArray[Any], place: Placement) -> NDArray[Any]:
    """Return the values for display: u1 for ``png``, else u2, in the byte order that the file needs."""
    is_deep = rendition.format is not Format.PNG
    limits = extent(found.header, found.format, stored) if rendition.window is Window.MINMAX else None
    entries = table(found.header, found.format, rendition, 65535 if is_deep else 255, limits)
    is_png_as_it_is = rendition.format is Format.PNG16 and rendition.size is None
    entries = entries.astype((">u2" if is_png_as_it_is else "<u2") if is_deep else "u1")
    part = _cut(stored, place)
    result = np.empty(part.shape, entries.dtype)
    # By parts: indices of 64 bits for the whole image do not fit into a processor's cache, and take 3 x as long.
    most = max(1, _ENTRIES_AT_ONCE // part.shape[1])
    for at in range(0, len(part), most):
        np.take(entries, part[at : at + most], out=result[at : at + most], mode="wrap")
    return result


def _placed(image: NDArray[Any], place: Placement) -> NDArray[Any]:
    """Return the part of an image that is shown, scaled, mirrored and padded."""
    image = scaled(image, place.inner_rows, place.inner_columns)
    if place.mirrored:
        image = image[:, ::-1]
    return framed(image, place.rows, place.columns, place.top, place.left)


def _pieces(array: NDArray[Any], rendition: Rendition, form: PixelFormat) -> Iterable[Piece]:
    if rendition.format in (Format.PNG, Format.PNG16):
        return png(array)
    pixels = pixels_of(rendition, form)
    header = tiff_header(pixels) if rendition.format is Format.TIFF else npy(pixels)
    return header, _bytes_of(array)


def _bytes_of(array: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view("u1").data


def _write(target: int, pieces: Iterable[Piece]) -> None:
    waiting = iter(pieces)
    while batch := list(islice(waiting, _MOST_PIECES)):
        while batch:
            written = os.writev(target, batch)
            done = 0
            while done < len(batch) and written >= len(batch[done]):
                written -= len(batch[done])
                done += 1
            batch = batch[done:]
            if batch:
                batch[0] = memoryview(batch[0])[written:]
