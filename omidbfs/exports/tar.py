"""``cohort.tar``: the files of a cohort as an archive, in which the place of every byte is known before a file is
read.

The drive and ``omidbfs export`` use it. An archive is immutable: any thread may use it. Sizes and times come from
the index. Places are a sum over its columns, and headers are made where they are read.

The format is pax (POSIX.1-2017, ``pax``, "pax Interchange Format"), with the same bytes as Python's ``tarfile``.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from omidbfs.cohorts.rendered import sizes_in
from omidbfs.database.file_kinds import DCM, FileKind
from omidbfs.exports.fields import pages
from omidbfs.exports.selection import Selection
from omidbfs.index.columns import Index
from omidbfs.index.levels import Rows
from omidbfs.pixels.rendition import Rendition

NamesOf = Callable[[Rows], list[bytes]]
"""Returns the names of images without suffixes, relative to the directory whose archive it is."""

_STEM = b"/image"
"""What follows the name of an image in the name of a member. WebDataset takes the path up to the first dot of its
last component as the key of a sample. So the dots of a UID belong to the key."""
_BLOCK = 512
_RECORD = 20 * _BLOCK
"""Bytes of which the size of an archive is a multiple, as ``tar`` writes it by default."""
_LONGEST_NAME = 100
_BEYOND = 8**11
"""The first size and the first time, in seconds, that 11 octal digits cannot hold."""
_SECOND = 10**9
_STEP = 16
"""Images between two offsets that are kept."""


class Facts(NamedTuple):
    """What the index says of one file of each of some images: if it is there, its bytes, and its time in ns."""

    is_there: NDArray[np.bool_]
    sizes: NDArray[np.int64]
    mtimes: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One file of each image: a kind of file of the source, or a rendition. ``facts`` are those at some rows."""

    shown: FileKind | Rendition
    facts: Callable[[Rows], Facts]


def layers_of(chosen: Selection) -> tuple[Layer, ...]:
    """Return what the directory of a selection shows of each image."""
    index, rendition = chosen.cohorts.index, chosen.cohort.rendition
    if rendition is not None:
        sizes = sizes_in(index, rendition)
        return (Layer(rendition, functools.partial(_of_renditions, index, sizes, chosen.defined)),)
    return tuple(Layer(kind, functools.partial(_of_files, index, kind)) for kind in chosen.cohort.files)


def _of_files(index: Index, kind: FileKind, rows: Rows) -> Facts:
    files = index.files[kind]
    return Facts(files.access[rows] != 0, files.size[rows].astype(np.int64), files.mtime[rows])


def _of_renditions(index: Index, sizes: NDArray[np.int64], defined: int, rows: Rows) -> Facts:
    files = _of_files(index, DCM, rows)
    return Facts(files.is_there, sizes[index.format_of[rows]], np.maximum(files.mtimes, defined))


class Member(NamedTuple):
    """A file in an archive: its image and kind, what the index says of it, and its offsets in the archive.

    The header begins at ``start``, the content at ``content``, and the next member at ``end``.
    """

    row: int
    shown: FileKind | Rendition
    name: bytes
    size: int
    mtime_ns: int
    start: int
    content: int
    end: int


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of a member's file: ``length`` of them, from ``start`` on."""

    member: Member
    start: int
    length: int


@dataclass(frozen=True, slots=True, eq=False)
class Archive:
    """The archive of some images: of each of ``rows`` the files of ``layers`` that it has.

    ``starts`` (int64) has the offset of every 16th
    image, and at last the end of the last member. ``size`` is the size of the archive in bytes.
    """

    index: Index
    names: NamesOf
    layers: tuple[Layer, ...]
    rows: Rows
    starts: NDArray[np.int64]
    size: int

    @property
    def memory(self) -> int:
        """The bytes that it takes."""
        return self.rows.nbytes + self.starts.nbytes

    def members(self, group: int) -> list[Member]:
        """Return the members of the images of ``starts[group]`` and those before the next."""
        rows = self.rows[group * _STEP : (group + 1) * _STEP]
        facts = [(one.shown, *(column.tolist() for column in one.facts(rows))) for one in self.layers]
        members, start = [], self.starts.item(group)
        for place, (row, name) in enumerate(zip(rows.tolist(), self.names(rows), strict=True)):
            for shown, are_there, sizes, mtimes in facts:
                if are_there[place]:
                    full, size, mtime = _member_name(name, shown), sizes[place], mtimes[place]
                    content = start + _header_size(len(full), size, mtime)
                    end = content + -(-size // _BLOCK) * _BLOCK
                    members.append(Member(row, shown, full, size, mtime, start, content, end))
                    start = end
        return members

    def parts(
        self, offset: int, end: int, members: Callable[[int], list[Member]] | None = None
    ) -> Iterator[bytes | Part]:
        """Yield the bytes from ``offset`` to before ``end`` in their order, and parts of files instead of theirs.

        ``members`` is :meth:`members`, perhaps with a memory.
        """
        members, end = members or self.members, min(end, self.size)
        group = int(np.searchsorted(self.starts, offset, "right")) - 1
        while offset < end and group < len(self.starts) - 1:
            for member in members(group):
                if offset < member.end and offset < end:
                    for part in _parts_of(member, offset, end):
                        yield part
                        offset += len(part) if isinstance(part, bytes) else part.length
            group += 1
        while offset < end:
            yield (zeros := bytes(min(end - offset, _RECORD)))
            offset += len(zeros)


def _parts_of(member: Member, offset: int, end: int) -> Iterator[bytes | Part]:
    if offset < member.content:
        yield header(member.name, member.size, member.mtime_ns)[offset - member.start : end - member.start]
    first, last = max(offset - member.content, 0), min(end - member.content, member.size)
    if first < last:
        yield Part(member, first, last - first)
    padding = min(end, member.end) - max(offset, member.content + member.size)
    if padding > 0:
        yield bytes(padding)


def archive(chosen: Selection) -> Archive:
    """Return the archive of a selection: half a second for a million images."""
    rows, layers = chosen.cohorts.rows(chosen.cohort), layers_of(chosen)
    return archive_of(chosen, layers, rows, extents(layers, chosen.names, rows))


def archive_of(chosen: Selection, layers: tuple[Layer, ...], rows: Rows, sizes: NDArray[np.int64]) -> Archive:
    """Return the archive of some images of a selection; ``sizes`` are their :func:`extents`."""
    ends = np.cumsum(sizes)
    total = int(ends[-1]) if len(ends) else 0
    starts = np.append((ends - sizes)[::_STEP], total)
    return Archive(chosen.cohorts.index, chosen.names, layers, rows, starts, size_with(total))


def extents(layers: tuple[Layer, ...], names: NamesOf, rows: Rows) -> NDArray[np.int64]:
    """Return the bytes that the members of each of some images take in an archive."""
    found = [_extents(layers, names, page) for page in pages(rows)]
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def size_with(members: int) -> int:
    """Return the size of an archive whose members take so many bytes."""
    return -(-(members + 2 * _BLOCK) // _RECORD) * _RECORD


def room_in(largest: int) -> int:
    """Return the bytes that members may take in an archive of at most ``largest`` bytes; negative if none may."""
    return largest // _RECORD * _RECORD - 2 * _BLOCK


def _extents(layers: tuple[Layer, ...], names: NamesOf, rows: Rows) -> NDArray[np.int64]:
    total = np.zeros(len(rows), np.int64)
    lengths = np.fromiter(map(len, names(rows)), np.intp, len(rows))
    for layer in layers:
        (is_there, sizes, mtimes), more = layer.facts(rows), len(_member_name(b"", layer.shown))
        heads = _header_sizes(int(lengths.max()) + more)[lengths + more]
        odd = (sizes >= _BEYOND) | (mtimes < 0) | (mtimes >= _BEYOND * _SECOND)
        for place in np.flatnonzero(odd).tolist():
            heads[place] = _header_size(lengths.item(place) + more, sizes.item(place), mtimes.item(place))
        total += np.where(is_there, heads - (-sizes // _BLOCK) * _BLOCK, 0)
    return total


@functools.lru_cache(4)
def _header_sizes(longest: int) -> NDArray[np.int64]:
    """Return the size of the header by the length of the name, for sizes and times that need no record."""
    return np.array([_header_size(length, 0, 0) for length in range(longest + 1)], np.int64)


def _header_size(length: int, size: int, mtime_ns: int) -> int:
    """Return the size of the header of a member whose name has ``length`` bytes."""
    if size < _BEYOND and 0 <= mtime_ns < _BEYOND * _SECOND:
        return _usual_header_size(length)
    return len(header(bytes(length), size, mtime_ns))


@functools.lru_cache(1024)
def _usual_header_size(length: int) -> int:
    return len(header(bytes(length), 0, 0))


def _member_name(name: bytes, shown: FileKind | Rendition) -> bytes:
    return name + _STEM + shown.suffix


def header(name: bytes, size: int, mtime_ns: int) -> bytes:
    """Return the header of a member. Its name is ASCII, as all names on the drive are.

    The length is a multiple of 512. Records come first if something does not fit into the fields: a name of more
    than 100 bytes, a size of 8 GiB or more, a time before 1970 or after 2241.
    """
    seconds = mtime_ns // _SECOND
    records = _record(b"path", name) if len(name) > _LONGEST_NAME else b""
    if size >= _BEYOND:
        records += _record(b"size", b"%d" % size)
        size = 0
    if not 0 <= seconds < _BEYOND:
        records += _record(b"mtime", b"%d" % seconds)
        seconds = 0
    own = _fields(name, 0o444, size, seconds, b"0")
    if not records:
        return own
    padding = bytes(-len(records) % _BLOCK)
    return _fields(b"././@PaxHeader", 0, len(records), 0, b"x") + records + padding + own


def _record(key: bytes, value: bytes) -> bytes:
    """Return a record, which begins with its own length."""
    rest = b" %b=%b\n" % (key, value)
    length = len(rest)
    while length != len(rest) + len(b"%d" % length):
        length = len(rest) + len(b"%d" % length)
    return b"%d%b" % (length, rest)


def _fields(name: bytes, mode: int, size: int, seconds: int, kind: bytes) -> bytes:
    before = name[:_LONGEST_NAME].ljust(_LONGEST_NAME, b"\0")
    before += b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (mode, 0, 0, size, seconds)
    after = (kind + bytes(100) + b"ustar\00000").ljust(_BLOCK - 156, b"\0")
    return b"%b%06o\0 %b" % (before, sum(before) + sum(after) + 8 * ord(" "), after)
