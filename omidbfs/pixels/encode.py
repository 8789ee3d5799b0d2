"""Writes arrays as PNG, TIFF and NPY files whose sizes do not depend on the values (``sizes``).

``render`` uses it. Pure functions: any thread may call them.

A PNG file has one IDAT chunk, whose deflate stream stores its blocks as they are, and filters no row. A TIFF file
has all pixels behind its directories, one strip per frame, so that they are one array (``tifffile.memmap``). It is
little endian, and a BigTIFF file from 4 GiB on.
"""

import struct
import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from omidbfs.pixels.sizes import Pixels, npy_header, tiff_size

Piece = bytes | memoryview

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_BLOCK = 65535
_CLASSIC = 1 << 32
"""A TIFF file of fewer bytes needs no BigTIFF."""
_DIRECTORY = 248
"""Bytes from one directory to the next; a directory of BigTIFF has 236."""
_SHORT, _LONG, _LONG8 = 3, 4, 16


def png(image: NDArray[np.unsignedinteger]) -> Iterator[Piece]:
    """Return the pieces of a PNG file, in order.

    Parameters
    ----------
    image
        Rows x columns of u1 or u2, of either byte order, or rows x columns x 3 of u1: red, green, blue.
    """
    rows, columns, *samples = image.shape
    depth = 8 * image.dtype.itemsize
    row = image[0].nbytes
    lines = np.empty((rows, 1 + row), "u1")
    lines[:, 0] = 0  # no filter
    most = max(1, (1 << 17) // row)
    for at in range(0, rows, most):
        part = image[at : at + most].astype(image.dtype.newbyteorder(">"), order="C", copy=False)
        lines[at : at + most, 1:] = part.reshape(len(part), -1).view("u1")
    yield _SIGNATURE
    yield from _chunk(b"IHDR", struct.pack(">IIBBBBB", columns, rows, depth, 2 if samples else 0, 0, 0, 0))
    data = lines.reshape(-1).data
    blocks = -(-len(data) // _BLOCK)
    yield struct.pack(">I4s", 2 + 5 * blocks + len(data) + 4, b"IDAT")
    adler, crc = 1, zlib.crc32(b"IDAT")
    for number in range(blocks):
        block = data[number * _BLOCK : (number + 1) * _BLOCK]
        header = struct.pack("<BHH", number == blocks - 1, len(block), len(block) ^ 0xFFFF)
        if number == 0:
            header = b"\x78\x01" + header  # deflate with a window of 32 KiB, made as fast as can be
        adler = zlib.adler32(block, adler)
        crc = zlib.crc32(block, zlib.crc32(header, crc))
        yield header
        yield block
    trailer = struct.pack(">I", adler)
    yield trailer + struct.pack(">I", zlib.crc32(trailer, crc))
    yield from _chunk(b"IEND", b"")


def tiff_header(pixels: Pixels) -> bytes:
    """Return what is before the array in a TIFF file: the header, and 256 bytes for each frame."""
    is_big = tiff_size(pixels) >= _CLASSIC
    size = tiff_size(pixels) - pixels.bytes
    strip = pixels.bytes // pixels.frames
    header = b"II\x2b\0\x08\0\0\0" + struct.pack("<Q", 16) if is_big else b"II\x2a\0" + struct.pack("<I", 8)
    result = bytearray(size)
    result[: len(header)] = header
    at = len(header)
    for frame in range(pixels.frames):
        following = len(header) + (frame + 1) * _DIRECTORY if frame + 1 < pixels.frames else 0
        directory = _directory(pixels, is_big, at, size + frame * strip, strip, following)
        result[at : at + len(directory)] = directory
        at += _DIRECTORY
    return bytes(result)


def npy(pixels: Pixels) -> bytes:
    """Return what is before the array in a NPY file, as ``numpy.save`` writes it."""
    return npy_header(pixels.dtype.str, pixels.shape)


def _chunk(kind: bytes, data: bytes) -> Iterator[bytes]:
    yield struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _directory(pixels: Pixels, is_big: bool, at: int, offset: int, length: int, following: int) -> bytes:
    """Return the directory of a frame, which stands at ``at``: 11 entries, and the next directory's place."""
    bits = 8 * pixels.dtype.itemsize
    place = _LONG8 if is_big else _LONG
    entries: list[tuple[int, int, tuple[int, ...]]] = [
        (256, _LONG, (pixels.columns,)),
        (257, _LONG, (pixels.rows,)),
        (258, _SHORT, (bits,) * pixels.samples),
        (259, _SHORT, (1,)),  # not compressed
        (262, _SHORT, (2 if pixels.samples > 1 else 1,)),  # RGB or BlackIsZero
        (273, place, (offset,)),
        (277, _SHORT, (pixels.samples,)),
        (278, _LONG, (pixels.rows,)),
        (279, place, (length,)),
        (284, _SHORT, (1,)),  # samples of a pixel together
        (339, _SHORT, (2 if pixels.dtype.kind == "i" else 1,) * pixels.samples),
    ]
    code, count, field = ("<HHQ", "<Q", 8) if is_big else ("<HHI", "<H", 4)
    behind = at + len(struct.pack(count, 0)) + len(entries) * (struct.calcsize(code) + field) + field
    result, values = struct.pack(count, len(entries)), b""
    for tag, kind, numbers in entries:
        packed = struct.pack(f"<{len(numbers)}{ {_SHORT: 'H', _LONG: 'I', _LONG8: 'Q'}[kind] }", *numbers)
        if len(packed) > field:
            values, packed = values + packed, struct.pack("<Q", behind + len(values))[:field]
        result += struct.pack(code, tag, kind, len(numbers)) + packed.ljust(field, b"\0")
    return result + struct.pack("<Q", following)[:field] + values
