"""Decodes RLE Lossless (PS3.5, G). ``compressed`` uses it. A pure function for any thread.

The decoder of pydicom expands whatever a segment holds; this one ends with the last pixel, so that a frame never
takes more memory than the image that it is.
"""

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omidbfs.pixels.errors import PixelError

_HEADER = 64
_MOST_SEGMENTS = 15


def decode(code: bytes, pixels: int, samples: int, size: int) -> NDArray[Any]:
    """Return the unsigned words of a frame, pixels x samples.

    Parameters
    ----------
    code
        The frame.
    size
        Bytes of a word.

    Raises
    ------
    PixelError
        The frame is cut off, or has segments for another kind of image.
    """
    if len(code) < _HEADER:
        raise PixelError("the pixel data are cut off")
    count, *offsets = struct.unpack(f"<{_MOST_SEGMENTS + 1}I", code[:_HEADER])
    if count != samples * size or count > _MOST_SEGMENTS:
        raise PixelError("the frame is damaged")
    ends = [*offsets[1:count], len(code)]
    segments = [_expanded(code[begin:end], pixels) for begin, end in zip(offsets[:count], ends, strict=True)]
    words = np.empty((pixels, samples, size), "u1")
    for number, segment in enumerate(segments):  # of each sample, the most significant byte first
        words[:, number // size, size - 1 - number % size] = np.frombuffer(segment, "u1")
    return words.view(f"<u{size}")[:, :, 0]


def _expanded(data: bytes, length: int) -> bytearray:
    result, at = bytearray(), 0
    while len(result) < length:
        if at >= len(data):
            raise PixelError("the pixel data are cut off")
        head = data[at]
        if head < 128:
            result += data[at + 1 : at + 2 + head]
            at += 2 + head
        elif head > 128:
            result += data[at + 1 : at + 2] * (257 - head)
            at += 2
        else:
            at += 1
    return result[:length]
