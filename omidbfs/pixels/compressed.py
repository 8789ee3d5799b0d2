"""Decodes encapsulated pixel data (PS3.5, A.4), one frame after the other. ``decode`` uses it, in one thread.

This module takes frames apart, compares each with the header before a decoder may allocate, and chooses
the decoder: the first plug-in of a fixed list that is installed, so that one file has the same pixels wherever the
same plug-ins are installed. RLE needs no plug-in.
"""

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import uid
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import convert_color_space

from omidbfs.database.pixel_format import PixelFormat
from omidbfs.pixels.codestream import Frame, frame_of, is_complete
from omidbfs.pixels.errors import PixelError
from omidbfs.pixels.rle import decode

_PLUGINS = {
    uid.RLELossless: (),
    uid.JPEGBaseline8Bit: ("pillow", "gdcm"),
    uid.JPEGExtended12Bit: ("gdcm",),
    uid.JPEGLossless: ("gdcm",),
    uid.JPEGLosslessSV1: ("gdcm",),
    uid.JPEGLSLossless: ("pyjpegls", "gdcm"),
    uid.JPEGLSNearLossless: ("pyjpegls", "gdcm"),
    uid.JPEG2000Lossless: ("pylibjpeg", "gdcm"),
    uid.JPEG2000: ("pylibjpeg", "gdcm"),
    uid.HTJ2KLossless: ("pylibjpeg",),
    uid.HTJ2KLosslessRPCL: ("pylibjpeg",),
    uid.HTJ2K: ("pylibjpeg",),
}
"""Transfer syntax -> plug-ins of pydicom, the preferred one first. Pillow decodes signed JPEG 2000 wrongly."""

_ITEM, _END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
_MOST_RLE = 64
"""A run of RLE (PS3.5, G.3.1) makes at most 128 bytes out of two."""
_DAMAGED = "the frame is damaged"
_CUT_OFF = "the pixel data are cut off"


def is_encapsulated(syntax: str) -> bool:
    """Return whether this module decodes a transfer syntax."""
    return syntax in _PLUGINS


def decoded(data: bytes, form: PixelFormat, planes: bool) -> tuple[NDArray[Any], int]:
    """Return all frames of encapsulated pixel data, and their precision.

    Parameters
    ----------
    data
        The items, from the basic offset table on. What follows them does not matter.
    form
        How the header says that pixels are stored; all of it but the number of frames is known.
    planes
        Whether each sample has a plane of its own (PlanarConfiguration).

    Returns
    -------
    tuple
        Unsigned words of ``BitsAllocated`` bits, frames x rows x columns (x samples), and how many bits of them
        the codestream uses. Negative values are in two's complement of that many bits. Three samples are RGB.

    Raises
    ------
    PixelError
        The data are cut off, damaged, or not what the header says, or no decoder is installed.
    """
    syntax, count = uid.UID(form.TransferSyntaxUID or ""), form.NumberOfFrames or 1
    plugin = _plugin(syntax)
    frames = _frames(data, count)
    heads = [_checked(frame, form, syntax) for frame in frames]
    if len({*heads}) != 1:
        raise PixelError("frames of different kinds")
    precision = heads[0].precision
    # Not from the header: it may contradict the codestream, by which a decoder chooses the size of its words.
    options = {
        "rows": form.Rows,
        "columns": form.Columns,
        "samples_per_pixel": form.SamplesPerPixel,
        "number_of_frames": 1,
        "bits_allocated": 8 if precision <= 8 else 16,
        "bits_stored": precision,
        "pixel_representation": int(heads[0].is_signed),
        "photometric_interpretation": form.PhotometricInterpretation or "",
        "planar_configuration": int(planes),
    }
    word = np.dtype(f"<u{(form.BitsAllocated or 0) // 8}")
    result: NDArray[Any] | None = None
    for number, frame in enumerate(frames):
        values = _decode(frame, syntax, plugin, options)
        values = values.view(f"u{values.dtype.itemsize}")
        if count == 1:
            return values.astype(word, copy=False)[None], precision
        if result is None:
            result = np.empty((count, *values.shape), word)
        result[number] = values
    assert result is not None, "there is a frame"
    return result, precision


def _plugin(syntax: uid.UID) -> str:
    if syntax == uid.RLELossless:
        return ""
    available = get_decoder(syntax).available_plugins
    for plugin in _PLUGINS[syntax]:
        if plugin in available:
            return plugin
    raise PixelError("no decoder is installed for the transfer syntax: pip install 'omidbfs[pixels]'")


def _decode(frame: bytes, syntax: uid.UID, plugin: str, options: dict[str, Any]) -> NDArray[Any]:
    rows, columns, samples = options["rows"], options["columns"], options["samples_per_pixel"]
    colour = options["photometric_interpretation"]
    try:
        if syntax == uid.RLELossless:
            values = decode(frame, rows * columns, samples, options["bits_allocated"] // 8)
            values = values.reshape(rows, columns, samples) if samples > 1 else values.reshape(rows, columns)
        elif syntax == uid.JPEGExtended12Bit and options["bits_stored"] > 8 and samples == 1:
            values = _extended(frame, rows, columns)
        else:  # raw: a colour stays as it is stored
            values, found = get_decoder(syntax).as_array(
                encapsulate([frame], has_bot=False), raw=True, decoding_plugin=plugin, **options
            )
            colour = str(found["photometric_interpretation"])
    except PixelError:
        raise
    except MemoryError:
        raise PixelError("more memory is needed than allowed") from None
    except Exception:  # decoders raise nearly anything on damaged input
        raise PixelError(_DAMAGED) from None
    return rgb(values, colour) if samples > 1 else values


def rgb(values: NDArray[Any], colour: str) -> NDArray[Any]:
    """Return three samples of a pixel as RGB; ``colour`` is the photometric interpretation that they have."""
    if colour in ("YBR_FULL", "YBR_FULL_422") and values.dtype.itemsize == 1:
        return convert_color_space(values, "YBR_FULL", "RGB")
    if colour != "RGB":
        raise PixelError("a colour space that is not supported")
    return values


def _extended(frame: bytes, rows: int, columns: int) -> NDArray[Any]:
    """Decode 12 bits of JPEG Extended with GDCM, which pydicom does not ask for them."""
    import gdcm

    fragment, fragments = gdcm.Fragment(), gdcm.SequenceOfFragments.New()
    fragment.SetByteStringValue(frame)
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((columns, rows, 1))
    image.SetDataElement(element)
    image.SetPhotometricInterpretation(
        gdcm.PhotometricInterpretation(gdcm.PhotometricInterpretation.GetPIType("MONOCHROME2"))
    )
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGExtendedProcess2_4))
    image.SetPixelFormat(gdcm.PixelFormat(1, 16, 12, 11, 0))
    content = image.GetBuffer().encode("utf-8", "surrogateescape")
    return np.frombuffer(content, "<u2").reshape(rows, columns)


def _checked(code: bytes, form: PixelFormat, syntax: uid.UID) -> Frame:
    """Return what a frame says about itself; refuse it if the header says something else."""
    rows, columns = form.Rows or 0, form.Columns or 0
    samples, allocated = form.SamplesPerPixel or 0, form.BitsAllocated or 0
    if syntax == uid.RLELossless:
        if len(code) * _MOST_RLE < rows * columns * samples * allocated // 8:
            raise PixelError(_CUT_OFF)
        return Frame(rows, columns, samples, allocated)
    head = frame_of(code)
    if head is None:
        raise PixelError(_DAMAGED)
    if (head.rows, head.columns, head.samples) != (rows, columns, samples):
        raise PixelError("the frame has another size than the header says")
    if head.precision > allocated:
        raise PixelError("the frame has more bits than the header says")
    if not is_complete(code):
        raise PixelError(_CUT_OFF)
    return head


def _frames(data: bytes, count: int) -> list[bytes]:
    """Return the frames of encapsulated pixel data.

    Nothing relies on offset tables alone, as they may be absent, extended or wrong: one fragment is one frame if
    there are as many fragments as frames. Otherwise the basic offset table counts, if it names places where items
    begin, else the ends of codestreams.
    """
    (_, table), *items = [*_items(data)] or [(0, b"")]
    if len(items) < count:
        raise PixelError(_CUT_OFF)
    if count == 1:
        return [items[0][1] if len(items) == 1 else b"".join(item for _, item in items)]
    if len(items) == count:
        return [item for _, item in items]
    begins = _begins(table, [place - items[0][0] for place, _ in items], count)
    if begins is None:
        begins = [0, *(number + 1 for number, (_, item) in enumerate(items) if is_complete(item[-10:]))][:-1]
        if len(begins) != count:
            raise PixelError("the fragments do not say which frame they belong to")
    ends = [*begins[1:], len(items)]
    return [b"".join(item for _, item in items[begin:end]) for begin, end in zip(begins, ends, strict=True)]


def _begins(table: bytes, places: list[int], count: int) -> list[int] | None:
    """Return the number of the first item of each frame by the basic offset table, ``None`` if it is no use."""
    if len(table) != 4 * count:
        return None
    numbers = {place: number for number, place in enumerate(places)}
    begins = [numbers.get(offset, -1) for offset in struct.unpack(f"<{count}I", table)]
    return begins if begins[0] == 0 and begins == sorted({*begins}) else None


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield place and content of each item, first the basic offset table; refuse an item that is cut off."""
    at = 0
    while data[at : at + 4] == _ITEM:
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        if at + 8 + length > len(data) or len(data) < at + 8:
            raise PixelError(_CUT_OFF)
        yield at, data[at + 8 : at + 8 + length]
        at += 8 + length
    if data[at : at + 4] not in (_END, b""):
        if len(data) < at + 4:
            raise PixelError(_CUT_OFF)
        raise PixelError("the pixel data are not in items")
