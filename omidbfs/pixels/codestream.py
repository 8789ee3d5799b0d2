"""What the codestream of a compressed frame says about itself. ``compressed`` uses it. Pure functions: any thread.

A native decoder allocates by these numbers, so they are compared with the header before it starts.
"""

import struct
from dataclasses import dataclass

_END = b"\xff\xd9"
"""The marker that ends a frame of JPEG, JPEG-LS (EOI) and JPEG 2000 (EOC); compressed data do not contain it."""
_JPEG, _JPEG2000 = b"\xff\xd8\xff", b"\xff\x4f\xff\x51"
_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
"""Markers of frame headers (ISO 10918-1, B.1.1.3; ISO 14495-1, C.1.1)."""
_SCAN = 0xDA


@dataclass(frozen=True, slots=True)
class Frame:
    """Rows, columns and samples of a frame, bits of a sample, and whether its values are signed."""

    rows: int
    columns: int
    samples: int
    precision: int
    is_signed: bool = False


def frame_of(code: bytes) -> Frame | None:
    """Return what a JPEG, JPEG-LS or JPEG 2000 codestream says, ``None`` if it is none of these or damaged."""
    try:
        return _jpeg(code) if code.startswith(_JPEG) else _jpeg2000(code)
    except (struct.error, IndexError):
        return None


def is_complete(code: bytes) -> bool:
    """Return whether a codestream ends, whatever follows its end."""
    return code.rfind(_END) > 0


def _jpeg(code: bytes) -> Frame | None:
    at = 2
    while code[at] == 0xFF:
        while code[at] == 0xFF:  # any number of them may precede a marker
            at += 1
        marker = code[at]
        length, precision, rows, columns, samples = struct.unpack_from(">HBHHB", code, at + 1)
        if marker in _FRAMES:
            return Frame(rows, columns, samples, precision)
        if marker == _SCAN:
            return None
        at += 1 + length
    return None


def _jpeg2000(code: bytes) -> Frame | None:
    """Read the size (ISO 15444-1, A.5.1) of a codestream, which may be inside a JP2 file."""
    start = code.find(_JPEG2000, 0, 4096)
    if start < 0:
        return None
    right, bottom, left, top = struct.unpack_from(">4I", code, start + 8)
    (samples,) = struct.unpack_from(">H", code, start + 40)
    components = [struct.unpack_from(">3B", code, start + 42 + 3 * number) for number in range(samples)]
    if len({*components}) != 1 or components[0][1:] != (1, 1):  # of different depths, or subsampled
        return None
    depth = components[0][0]
    return Frame(bottom - top, right - left, samples, (depth & 0x7F) + 1, depth > 0x7F)
