"""Converts attributes of nodes to those of pyfuse3.

Used by the handlers, in their loop.
"""

import ctypes
import functools
import stat

import numpy as np
from pyfuse3 import EntryAttributes

from omidbfs.view.nodes import Attributes, Columns

TIMEOUT = 86_400.0
"""Seconds for which the kernel may keep names and attributes. The drive tells the kernel of every change."""

_SECOND = 10**9
_TIMES = ("st_mtime_ns", "st_ctime_ns", "st_atime_ns")
_FIELDS = ("st_ino", "st_mode", "st_nlink", "st_uid", "st_gid", "st_size", "st_blocks", "seconds", "nanoseconds")


def entry_of(known: Attributes) -> EntryAttributes:
    """Return attributes that the kernel may keep."""
    attributes = EntryAttributes()
    attributes.entry_timeout = attributes.attr_timeout = TIMEOUT
    fill(attributes, *known)
    return attributes


def fill(
    attributes: EntryAttributes, inode: int, mode: int, nlink: int, uid: int, gid: int, size: int, mtime: int
) -> None:
    """Write the fields of :class:`~omidbfs.view.nodes.Attributes` into the attributes of pyfuse3."""
    attributes.st_ino = inode
    attributes.st_mode = mode
    attributes.st_nlink = nlink
    attributes.st_uid = uid
    attributes.st_gid = gid
    attributes.st_size = size
    attributes.st_blocks = (size + 511) >> 9
    attributes.st_mtime_ns = attributes.st_ctime_ns = attributes.st_atime_ns = mtime


class Memory:
    """Attributes of pyfuse3 into whose memory those of an entry are written as bytes, made for a whole page.

    Setters for each entry take much of the time of a listing. Where the fields lie in memory is found out with
    these setters, and checked byte by byte.

    Raises
    ------
    LookupError
        This version of pyfuse3 keeps the fields in another way.
    """

    def __init__(self) -> None:
        self.attributes = EntryAttributes()
        places = [(name, place) for name in _FIELDS for place in _places(name)]
        first = min(offset for _, (offset, _) in places)
        end = max(offset + int(kind[-1]) for _, (offset, kind) in places)
        self._names = [name for name, _ in places]
        self._dtype = np.dtype(
            {
                "names": [str(number) for number in range(len(places))],
                "formats": [kind for _, (_, kind) in places],
                "offsets": [offset - first for _, (offset, _) in places],
                "itemsize": end - first,
            }
        )
        # Not of another object: if its own address were among the fields, the check would find out.
        self._empty = _memory_of(self.attributes)[first:end]
        self._check(first, end)
        content = (ctypes.c_char * (end - first)).from_address(id(self.attributes) + first)
        self.content = memoryview(content).cast("B")

    def packed(self, columns: Columns) -> list[tuple[bytes, bytes]]:
        """Return the name of each entry, and the bytes to write into ``content``."""
        rows = np.frombuffer(bytearray(self._empty * len(columns.name)), self._dtype)
        seconds, nanoseconds = np.divmod(columns.mtime, _SECOND)
        fields = {f"st_{name}": column for name, column in columns._asdict().items()}
        fields["st_ino"], fields["seconds"], fields["nanoseconds"] = columns.inode, seconds, nanoseconds
        fields["st_blocks"] = (columns.size.astype(np.uint64) + np.uint64(511)) >> np.uint64(9)
        for number, name in enumerate(self._names):
            rows[str(number)] = fields[name]
        return list(zip(columns.name, rows.view(f"V{len(self._empty)}").tolist(), strict=True))

    def _check(self, first: int, end: int) -> None:
        """Compare what setters and bytes make of some attributes. Nothing is written to memory before."""
        largest, mode = (1 << 63) - 1, stat.S_IFREG | 0o640
        for entry in (
            (1, mode, 1, 0, 0, 0, 0),
            ((1 << 64) - 1, mode, 0x7FFF, 0xFFFFFFFE, 0x7FFFFFFF, 1 << 40, largest),
            (0x0807060504030201, 0o777, 300, 4001, 70_000, 12_345, -1_234_567_890_123_456_789),
        ):
            expected = EntryAttributes()
            fill(expected, *entry)
            types = ("u8", "i8", "u4", "i8", "i8", "u8", "i8")
            columns = Columns([b""], *(np.array([value], kind) for value, kind in zip(entry, types, strict=True)))
            [(_, content)] = self.packed(columns)
            if content != _memory_of(expected)[first:end]:
                raise LookupError("attributes lie in memory in another way")


def _memory_of(attributes: EntryAttributes) -> bytes:
    return ctypes.string_at(id(attributes), type(attributes).__basicsize__)


def _places(field: str) -> list[tuple[int, str]]:
    """Return the places of a field in the memory of attributes, and their types. ``st_ino`` has two."""
    if field.endswith("seconds"):
        pattern = 0x01020304 if field == "seconds" else 0x05060708
        time = pattern * _SECOND if field == "seconds" else pattern
        return [place for name in _TIMES for place in _found(name, time, pattern, "i8")]
    try:
        return _found(field, 0x0102030405060708, 0x0102030405060708, "u8")
    except OverflowError:
        return _found(field, 0x01020304, 0x01020304, "u4")


def _found(field: str, value: int, pattern: int, kind: str) -> list[tuple[int, str]]:
    attributes = EntryAttributes()
    before = _memory_of(attributes)
    setattr(attributes, field, value)
    after, size, word = _memory_of(attributes), int(kind[-1]), np.array(pattern, kind).tobytes()
    places = [
        (offset, kind)
        for offset in range(0, len(after) - size + 1, size)
        if after[offset : offset + size] == word != before[offset : offset + size]
    ]
    if not places:
        raise LookupError(f"no place of {field}")
    return places


@functools.cache
def memory() -> Memory | None:
    """Return the memory of attributes of this process; ``None`` if this version of pyfuse3 has another."""
    try:
        return Memory()
    except LookupError:
        return None
