"""Many names in one heap, and a hash table from name to ordinal.

The index and everything above it use them. They are immutable, for any thread.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from omidbfs.base.names import safe_bytes
from omidbfs.index.sections import ReadLater

_EMPTY = 0xFFFFFFFF
_FEW = 64
"""Slots that are compared one by one. Only names that occur many times need more."""


@dataclass(frozen=True, slots=True)
class Names(ReadLater):
    """``n`` names: ``heap`` (uint8), and ``offsets`` (uint32, or uint64 if needed) of length ``n + 1``.

    A list of 3 million ``bytes`` objects would take 300 MB of private memory. The arrays of a saved index are
    mapped from its file.
    """

    heap: NDArray[np.uint8]
    offsets: NDArray[np.unsignedinteger]

    @classmethod
    def of(cls, names: Sequence[bytes]) -> "Names":
        """Return the heap of ``names``."""
        offsets = np.zeros(len(names) + 1, np.uint64)
        np.cumsum([len(name) for name in names], out=offsets[1:])
        return cls(np.frombuffer(b"".join(names), np.uint8), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, ordinal: int) -> bytes:
        return bytes(self.heap.data[self.offsets.item(ordinal) : self.offsets.item(ordinal + 1)])

    def take(self, ordinals: NDArray[np.integer]) -> list[bytes]:
        """Return the names of ``ordinals``, in their order."""
        # Slices of one memoryview are three times as fast as slices of the array (scripts/bench drive).
        heap = self.heap.data
        starts, ends = self.offsets[ordinals].tolist(), self.offsets[ordinals + np.uint8(1)].tolist()
        return [bytes(heap[start:end]) for start, end in zip(starts, ends, strict=True)]

    def between(self, first: int, end: int) -> "Names":
        """Return the names from ``first`` to before ``end``."""
        start = self.offsets[first]
        return Names(self.heap[int(start) : int(self.offsets[end])], self.offsets[first : end + 1] - start)

    def __iter__(self) -> Iterator[bytes]:
        for start in range(0, len(self), 4096):
            yield from self.take(np.arange(start, min(start + 4096, len(self))))


def joined_names(parts: Sequence[Names]) -> Names:
    """Return the concatenated names of all parts."""
    heap = np.concatenate([part.heap for part in parts] or [np.zeros(0, np.uint8)])
    lengths = np.concatenate([np.diff(part.offsets) for part in parts] or [np.zeros(0, np.uint64)])
    return Names(heap, shorter(np.concatenate([np.zeros(1, np.uint64), np.cumsum(lengths, dtype=np.uint64)])))


def shorter(column: NDArray[np.unsignedinteger]) -> NDArray[np.unsignedinteger]:
    """Return a column as uint32 if its values fit, which saves 17 bytes for each image."""
    return column.astype(np.uint32) if int(column.max(initial=0)) < 1 << 32 else column


def checksums(names: Names | Sequence[bytes]) -> NDArray[np.uint32]:
    """Return the crc32 of each name."""
    return np.fromiter(map(crc32, names), np.uint32, len(names))


@dataclass(frozen=True, slots=True)
class NameTable(ReadLater):
    """A hash table with open addressing on crc32.

    ``slots`` (uint32, its length a power of two) holds ordinals, or ``0xFFFFFFFF`` for an empty slot.
    """

    names: Names
    slots: NDArray[np.uint32]

    @classmethod
    def of(cls, names: Names, sums: NDArray[np.uint32] | None = None) -> "NameTable":
        """Return the table of ``names``, which may repeat; ``sums`` are their checksums, if known."""
        sums = checksums(names) if sums is None else sums
        size = 1 << max(3, (2 * len(names) - 1).bit_length())
        slots = np.full(size, _EMPTY, np.uint32)
        # Linear probing for all names at once: they are sorted by their wanted slots. Each gets its wanted slot or
        # the next one after the slot of the previous name. Those beyond the end take the free slots at the start.
        wanted = sums & np.uint32(size - 1)
        order = np.argsort(wanted).astype(np.uint32)
        before = np.arange(len(names))
        places = np.maximum.accumulate(wanted[order] - before) + before
        inside = np.searchsorted(places, size)
        slots[places[:inside]] = order[:inside]
        slots[np.flatnonzero(slots[: 2 * len(names)] == _EMPTY)[: len(names) - inside]] = order[inside:]
        return cls(names, slots)

    def find(self, name: bytes) -> list[int]:
        """Return the ordinals of ``name``, ascending, in about 1 us; empty if there is none."""
        slots, mask = self.slots, len(self.slots) - 1
        heap, offset = self.names.heap.data, self.names.offsets.item
        start = crc32(name) & mask
        found: list[int] = []
        for place in range(start, start + _FEW):
            ordinal = slots.item(place & mask)
            if ordinal == _EMPTY:
                found.sort()
                return found
            if heap[offset(ordinal) : offset(ordinal + 1)] == name:
                found.append(ordinal)
        return self._found_at_once(name, start)

    def _found_at_once(self, name: bytes, start: int) -> list[int]:
        """Return the same, for a long run of slots from ``start`` on: 10 ms for a million names."""
        slots, offsets, heap = np.roll(self.slots, -start), self.names.offsets, self.names.heap
        run = slots[: int(np.argmax(slots == _EMPTY))]
        run = run[offsets[run + np.uint32(1)] - offsets[run] == len(name)]
        for position, byte in enumerate(name):
            run = run[heap[offsets[run] + np.uint8(position)] == byte]
        found: list[int] = np.sort(run).tolist()
        return found


def duplicated(names: Names, sums: NDArray[np.uint32] | None = None) -> NDArray[np.uint32]:
    """Return the ordinals of all names that occur more than once, ascending; ``sums`` are checksums, if known."""
    sums = checksums(names) if sums is None else sums
    order = np.argsort(sums, kind="stable")
    same = sums[order][1:] == sums[order][:-1]
    suspects = np.unique(np.concatenate([order[1:][same], order[:-1][same]]))
    groups: dict[bytes, list[int]] = {}
    for ordinal, name in zip(suspects.tolist(), names.take(suspects), strict=True):
        groups.setdefault(name, []).append(ordinal)
    return np.sort(np.array(_in_groups(groups.values()), np.uint32))


def first_of_each(names: Names, ordinals: NDArray[np.integer]) -> NDArray[np.uint32]:
    """Return the ``ordinals`` at which a name occurs for the first time."""
    first: dict[bytes, int] = {}
    for ordinal, name in zip(ordinals.tolist(), names.take(ordinals), strict=True):
        first.setdefault(name, ordinal)
    return np.array(list(first.values()), np.uint32)


def spread(names: Names, ordinals: NDArray[np.integer]) -> list[bytes]:
    """Return the names of ordinals. It is fast if neighbouring ordinals are often equal."""
    changes = np.flatnonzero(np.diff(ordinals, prepend=ordinals[:1] + 1))
    distinct = np.array(names.take(ordinals[changes]), object)
    texts: list[bytes] = np.repeat(distinct, np.diff(changes, append=len(ordinals))).tolist()
    return texts


def safe_cells(names: Names, ordinals: NDArray[np.integer]) -> list[bytes]:
    """Return the names on the drive of ordinals, empty for negative ones."""
    distinct, places = np.unique(ordinals, return_inverse=True)
    there = distinct[np.searchsorted(distinct, 0) :]
    cells = [b""] * (len(distinct) - len(there)) + list(map(safe_bytes, names.take(there)))
    texts: list[bytes] = np.array([*cells, b""], object)[places].tolist()
    return texts


def _in_groups(groups: Iterable[list[int]]) -> list[int]:
    return [ordinal for group in groups if len(group) > 1 for ordinal in group]
