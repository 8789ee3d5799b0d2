"""The sections of an index file: its arrays, each compared with its checksum before its first use.

``store`` makes them, and the index and its parts read their fields from them. Any thread may read; if two threads
read a section for the first time, both compare it.

An index of 3 million images has 500 MB, and a command or the first requests of a drive need a few of them. So a
field of a loaded index stays unread until it is used. Then its section is compared, and the field is put into the
object. Once all are read, the object is like any other.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import fields
from functools import cache, partial
from typing import Any, TypeVar
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Read = Callable[[], Any]
"""Reads the value of a field."""

_FEW = 1 << 22
"""Bytes that are compared in less time than it takes to start a thread."""

_Class = TypeVar("_Class", bound="ReadLater")


class IndexFileError(Exception):
    """An index file cannot be used. The message gives the reason in a few words, such as missing or damaged."""


class DamagedError(IndexFileError):
    """A section of an open index is damaged. Nothing of the section has been used."""


def checksum(array: Array) -> int:
    """Return the CRC-32 of the bytes of an array."""
    return crc32(array.reshape(-1).view(np.uint8).data if array.size else b"")


class Sections:
    """The arrays of one file by name, and their checksums.

    Raises
    ------
    KeyError
        An array has no checksum, or a checksum has no array.
    """

    def __init__(self, arrays: Mapping[str, Array], checksums: Mapping[str, int]) -> None:
        self._unverified = {name: checksums[name] for name in arrays}
        self._arrays = {name: arrays[name] for name in checksums}

    def later(self, name: str) -> Callable[[], Array]:
        """Return a function that reads a section. Raise KeyError if there is no such section."""
        if name not in self._arrays:
            raise KeyError(name)
        return partial(self.read, name)

    def read(self, name: str) -> Array:
        """Return a section.

        Raises
        ------
        DamagedError
            It differs from its checksum.
        """
        array, expected = self._arrays[name], self._unverified.get(name)
        if expected is not None:
            if expected >= 0 and checksum(array) != expected:
                self._unverified[name] = expected = -1  # no later use has to compare it again
            if expected < 0:
                raise DamagedError(f"damaged: {name}")
            self._unverified.pop(name, None)
        return array

    def verify(self) -> None:
        """Compare all sections that have not been compared: 0.1 s for the 500 MB of 3 million images.

        Raises
        ------
        DamagedError
            A section differs from its checksum.
        """
        names = list(self._unverified)
        if sum(self._arrays[name].nbytes for name in names) < _FEW:
            for name in names:
                self.read(name)
            return
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(2) as threads:  # crc32 releases the interpreter lock
            for _ in threads.map(self.read, names):
                pass


class ReadLater:
    """The base of dataclasses with slots whose fields can be read at their first use: see :func:`unread`."""

    __slots__ = ("_reads",)
    _reads: Mapping[str, Read]


@cache
def _unread(kind: type[ReadLater]) -> type[ReadLater]:
    """Return the class of the objects of a class as long as any of their fields is unread.

    A class with ``__getattr__`` makes every access to a field slow. So an object gets its proper class as soon as
    all of its fields are read.
    """

    def read(self: ReadLater, name: str) -> Any:
        reads = object.__getattribute__(self, "_reads")
        if name not in reads:
            raise AttributeError(name)
        value = reads[name]()
        object.__setattr__(self, name, value)
        if all(map(partial(_is_read, self), reads)):
            object.__setattr__(self, "__class__", kind)
        return value

    def reduced(self: ReadLater) -> tuple[type, tuple[Any, ...]]:
        return kind, tuple(getattr(self, field.name) for field in fields(kind))  # type: ignore[arg-type]

    return type(kind.__name__, (kind,), {"__slots__": (), "__getattr__": read, "__reduce__": reduced})


def _is_read(thing: ReadLater, name: str) -> bool:
    try:
        object.__getattribute__(thing, name)
    except AttributeError:
        return False
    return True


def unread(kind: type[_Class], reads: Mapping[str, Read], **known: object) -> _Class:
    """Return an object of a class, with the functions that read the fields that are not ``known``."""
    thing: Any = object.__new__(_unread(kind))  # type: ignore[arg-type]
    for name, value in known.items():
        object.__setattr__(thing, name, value)
    object.__setattr__(thing, "_reads", reads)
    unread_thing: _Class = thing
    return unread_thing


def replaced(thing: _Class, later: Mapping[str, Read] | None = None, **values: object) -> _Class:
    """Return an object like another, with other values of some fields. What is unread there stays unread.

    ``later`` has functions that read the values of further fields at their first use.
    """
    reads: dict[str, Read] = {}
    with suppress(AttributeError):
        reads |= object.__getattribute__(thing, "_reads")
    reads |= later or {}
    kind: Any = type(thing)
    new: Any = object.__new__(_unread(kind) if later and "__getattr__" not in vars(kind) else kind)
    for field in fields(thing):  # type: ignore[arg-type]
        if field.name not in (later or {}):
            with suppress(AttributeError):
                object.__setattr__(new, field.name, object.__getattribute__(thing, field.name))
    object.__setattr__(new, "_reads", reads)
    for name, value in values.items():
        object.__setattr__(new, name, value)
    found: _Class = new
    return found


def read_all(thing: object) -> None:
    """Read all fields of an object, and of the objects in them. Then it is like one that was never unread."""
    if isinstance(thing, tuple):
        for each in thing:
            read_all(each)
    elif isinstance(thing, ReadLater):
        for field in fields(thing):  # type: ignore[arg-type]
            value = getattr(thing, field.name)
            if isinstance(value, UnreadMapping):
                object.__setattr__(thing, field.name, dict(value))
            read_all(value)


class UnreadMapping(Mapping[str, Array]):
    """Arrays by name, each of which is read at its first use."""

    __slots__ = ("_read", "_reads")

    def __init__(self, reads: Mapping[str, Callable[[], Array]]) -> None:
        self._reads, self._read = reads, dict[str, Array]()

    def __getitem__(self, name: str) -> Array:
        try:
            return self._read[name]
        except KeyError:
            array = self._read[name] = self._reads[name]()
            return array

    def __contains__(self, name: object) -> bool:
        return name in self._reads

    def __iter__(self) -> Iterator[str]:
        return iter(self._reads)

    def __len__(self) -> int:
        return len(self._reads)


def overlaid(known: Mapping[str, Array], reads: Mapping[str, Callable[[], Array]]) -> UnreadMapping:
    """Return arrays by name: those of ``reads``, and otherwise those that are known. Nothing is read yet."""
    return UnreadMapping({**{name: partial(known.__getitem__, name) for name in known}, **reads})
