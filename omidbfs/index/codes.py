"""Sets of codes and ordinals, and which values of a column are among them.

The index, levels, cohorts and views use them. They are immutable, for any thread.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from sys import getsizeof

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

_FEW = 32
_SPARSE = 512
"""A number of a plain set takes about as much memory as so many bits."""


@dataclass(frozen=True, slots=True)
class Bits:
    """A set of whole numbers from 0 on, one bit each: 3 million rows take 375 kB.

    The lowest bit of the first byte of ``packed`` stands for 0. The last byte is 0. It stands for all numbers that
    have no byte. ``count`` is the size of the set.
    """

    packed: bytes
    count: int

    @classmethod
    def of(cls, numbers: NDArray[np.integer]) -> "Bits":
        """Return the set of some numbers, in any order."""
        mask = np.zeros(int(numbers.max(initial=0)) + 9, np.bool_)
        mask[numbers] = True
        return cls(np.packbits(mask, bitorder="little").tobytes(), int(np.count_nonzero(mask)))

    def __contains__(self, number: int) -> bool:
        place = number >> 3
        return 0 <= place < len(self.packed) and self.packed[place] >> (number & 7) & 1 == 1

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        return iter(self.array().tolist())

    def array(self) -> NDArray[np.intp]:
        """Return the numbers, ascending."""
        bits = np.unpackbits(np.frombuffer(self.packed, np.uint8), bitorder="little")
        return np.flatnonzero(bits.view(np.bool_))

    def holds(self, values: NDArray[np.integer]) -> Mask:
        """Return for each value, from -1 on, whether it is in the set."""
        places = values.astype(np.intp)
        packed = np.frombuffer(self.packed, np.uint8)
        found = packed.take(np.minimum(places >> 3, len(packed) - 1)) >> (places & 7).astype(np.uint8)
        mask: Mask = (found & np.uint8(1)).view(np.bool_)
        return mask


Codes = frozenset[int] | range | Bits
"""Equal sets of codes that :func:`compact` returns are equal objects."""


def compact(codes: Iterable[int]) -> Codes:
    """Return codes, from -1 on, in a small object."""
    distinct = frozenset(codes)
    if len(distinct) <= _FEW:
        return distinct
    run = as_run(distinct)
    if run is not None:
        return run
    is_sparse = max(distinct) > _SPARSE * len(distinct)
    return distinct if is_sparse or min(distinct) < 0 else Bits.of(np.fromiter(distinct, np.intp, len(distinct)))


def as_run(codes: Codes) -> range | None:
    """Return codes that follow each other without a gap as a range, ``None`` for others."""
    if isinstance(codes, range):
        return codes
    if isinstance(codes, Bits):
        return None
    low = min(codes, default=0)
    return range(low, low + len(codes)) if max(codes, default=-1) - low < len(codes) else None


def size_of(codes: Codes) -> int:
    """Return about how many bytes of memory codes take."""
    if isinstance(codes, frozenset):
        return getsizeof(codes) + getsizeof(1) * len(codes)
    return len(codes.packed) if isinstance(codes, Bits) else getsizeof(codes)


def as_array(codes: Codes) -> NDArray[np.intp]:
    """Return codes, ascending."""
    if isinstance(codes, range):
        return np.arange(codes.start, codes.stop)
    return codes.array() if isinstance(codes, Bits) else np.array(sorted(codes), np.intp)


def matching(codes: Codes) -> Callable[[NDArray[np.integer]], Mask]:
    """Return a function that returns for each value of a column, from -1 on, whether it is among the codes."""
    if isinstance(codes, Bits):
        return codes.holds
    run = as_run(codes)
    if run is None:
        # The first entry stands for -1, and the last one for all values above the codes.
        table = np.zeros(max(codes) + 3, np.bool_)
        table[as_array(codes) + 1] = True
        codes_only = table[1:]

        def find(values: NDArray[np.integer]) -> Mask:
            if values.dtype.kind == "u":
                return codes_only.take(values, mode="clip")  # by an index it would take three times as long
            return table.take(values + 1, mode="clip")

        return find
    if not run:
        return lambda values: np.zeros(len(values), np.bool_)
    low, high = run[0], run[-1]
    if low == high:
        return lambda values: values == low
    return lambda values: (values >= low) & (values <= high)
