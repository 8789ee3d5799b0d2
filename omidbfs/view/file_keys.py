"""Sets of files of the source, such as those whose pages the kernel must drop.

Used by the modules that tell the kernel of changes. A set belongs to the thread, or to the loop, that changes it.
"""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from omidbfs.view.inode import DOCUMENT, IMAGE, NUMBER


class FileKeys:
    """Files of the source by :func:`~omidbfs.view.inode.file_key`, one bit each: 1 MB for 3 million images."""

    __slots__ = ("_bits",)

    def __init__(self, keys: Iterable[int] = ()) -> None:
        self._bits = {IMAGE: bytearray(), DOCUMENT: bytearray()}
        self.add(np.array(list(keys), np.uint64))

    def add(self, keys: NDArray[np.uint64]) -> None:
        """Add some keys."""
        kinds, numbers = keys & ~np.uint64(NUMBER), keys & np.uint64(NUMBER)
        for kind, bits in self._bits.items():
            of_kind = numbers[kinds == np.uint64(kind)]
            bits.extend(bytes(max(0, (int(of_kind.max(initial=0)) >> 3) + 1 - len(bits))))
            places = (of_kind >> np.uint64(3)).astype(np.intp)
            values = np.left_shift(1, of_kind & np.uint64(7)).astype(np.uint8)
            np.bitwise_or.at(np.frombuffer(bits, np.uint8), places, values)

    def discard(self, key: int) -> None:
        """Remove a key if it is in the set."""
        if key in self:
            self._bits[key & ~NUMBER][(key & NUMBER) >> 3] ^= 1 << (key & 7)

    def __contains__(self, key: int) -> bool:
        bits, place = self._bits.get(key & ~NUMBER, b""), (key & NUMBER) >> 3
        return place < len(bits) and bits[place] >> (key & 7) & 1 == 1

    def __or__(self, other: "FileKeys") -> "FileKeys":
        """Return a new set of the keys of both."""
        both = FileKeys()
        for kind, bits in both._bits.items():
            shorter, longer = sorted((self._bits[kind], other._bits[kind]), key=len)
            bits[:] = longer
            start = np.frombuffer(bits, np.uint8, len(shorter))
            start |= np.frombuffer(shorter, np.uint8)
        return both

    def __iter__(self) -> Iterator[int]:
        for kind, bits in self._bits.items():
            numbers = np.flatnonzero(np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little"))
            yield from (kind | number for number in numbers.tolist())

    def __len__(self) -> int:
        return sum(int.from_bytes(bits, "little").bit_count() for bits in self._bits.values())
