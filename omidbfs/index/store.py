"""The index on disk: one file in the safetensors format, opened by mapping it into memory.

Sessions save and load it, from a thread that may wait for a disk.

The file has a little-endian uint64 with the length of the header, the header (JSON: name -> dtype, shape, place;
``__metadata__``: text -> text), and the raw little-endian arrays. The metadata hold a schema version, the
fingerprint of the source, and a CRC-32 of every array and of the header. A file that does not agree with them is
refused. The file holds patient data, so its mode is 0600.
"""

import json
import mmap
import os
import stat
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from omidbfs.base.errors import UserError
from omidbfs.base.places import user_directory
from omidbfs.base.whole import replacing
from omidbfs.database.layout import Source
from omidbfs.database.permissions import born, patiently
from omidbfs.facets import BY_NAME, Facet, Registry
from omidbfs.facets.defined import stored_facet
from omidbfs.index.columns import COLUMNS, LISTS, Index, TextValue
from omidbfs.index.names import NameTable
from omidbfs.index.schema import Derived, arrays_of, declared, fields_of, values_in, values_of

SCHEMA = "4"
"""Version of the format. It changes with any change to the meaning of the arrays."""

_DTYPES = {"BOOL": np.bool_, "U8": np.uint8, "U16": np.uint16, "U32": np.uint32, "U64": np.uint64}
_DTYPES |= {"I32": np.int32, "I64": np.int64}
_DTYPE_NAMES = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}
_FORMAT = "omidbfs index"
_METADATA = ("format", "schema", "source", "checksums", "header")
_UNSEALED = "........"
"""Placeholder in the header for its own checksum, while that is computed."""
_LONGEST_HEADER = 1 << 24
_NOT_OURS = (LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)
"""Exceptions from a header that is valid JSON but was not written by :func:`save`."""
_DERIVED: Mapping[str, Derived] = declared(Index, Derived)

Arrays = dict[str, NDArray[Any]]


class IndexFileError(Exception):
    """An index file cannot be used. The message gives the reason in a few words, such as missing or damaged."""


class NoIndexError(IndexFileError):
    """There is no index file."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An index from disk, and when it was written, in seconds since 1970."""

    index: Index
    written: float


def default_path(source: Source) -> Path:
    """Return the default place for the index of a source, in the user's cache.

    Raises
    ------
    UserError
        The user has no home directory.
    """
    cache = user_directory("cache")
    if cache is None:
        raise UserError("no place for the index: name one with --index, or set HOME")
    key = blake2b(repr((source.images, source.data, source.follow_symlinks)).encode(), digest_size=12)
    return cache / f"{key.hexdigest()}.index"


def fingerprint(source: Source) -> str:
    """Return a text that identifies a source on every machine that mounts its disk.

    It holds the inode and the birth time of each root, because disks that were filled in the same way have the
    same inodes. :func:`is_of` compares fingerprints.

    Raises
    ------
    OSError
        A tree cannot be reached, because its disk is not mounted.
    """
    trees = (source.images, source.data)
    facts = {
        "inodes": [os.stat(tree).st_ino if tree is not None else None for tree in trees],
        "born": [born(tree) if tree is not None else None for tree in trees],
        "labels": [source.images_label, source.data_label],
        "follow_symlinks": source.follow_symlinks,
    }
    return json.dumps(facts)


def is_of(saved: str, now: str) -> bool:
    """Return whether two fingerprints belong to the same source.

    Not every file system gives the birth time of a directory, and an NFS server may know birth times that its
    clients do not. A birth time counts only if both fingerprints have it.
    """
    if saved == now:
        return True
    try:
        one, other = json.loads(saved), json.loads(now)
        pairs = list(zip(one.pop("born"), other.pop("born"), strict=True))
    except _NOT_OURS:
        return False
    return bool(one == other) and all(None in pair or pair[0] == pair[1] for pair in pairs)


def is_certain(source_fingerprint: str) -> bool:
    """Return whether a fingerprint has the birth time of a root: then no other source has the same fingerprint."""
    return any(json.loads(source_fingerprint)["born"])


def may_replace(path: Path) -> bool:
    """Return whether ``path`` does not exist, is an empty file, or has the header of an index of any version.

    omidbfs never replaces another file.

    Raises
    ------
    PermissionError
        The user may not read the file.
    """
    try:
        with open(path, "rb", opener=_opened) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                return False
            start = stream.read(8)
            length = int.from_bytes(start, "little")
            text = stream.read(length) if length <= _LONGEST_HEADER else b""
    except (FileNotFoundError, NotADirectoryError):
        return True  # if something else is in the way, writing reports it
    except PermissionError:
        raise
    except OSError:
        return False
    return not start or _metadata_of(text) is not None


def _metadata_of(header: bytes) -> dict[str, str] | None:
    """Return the metadata in the header of an index; ``None`` if it is not the header of an index."""
    try:
        metadata = json.loads(header)["__metadata__"]
        is_ours = metadata["format"] == _FORMAT and all(isinstance(metadata[name], str) for name in _METADATA)
    except _NOT_OURS:
        return None
    return metadata if is_ours else None


def save(path: Path, index: Index, source_fingerprint: str) -> None:
    """Write an index with all windows off and unique links, completely or not at all (:mod:`omidbfs.base.whole`).

    Raises
    ------
    OSError
        The file cannot be written. An old file stays as it was.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    arrays = _arrays(index)
    # Arrays with large items come first, so that each array is aligned to its items.
    names = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
    header: dict[str, object] = {}
    checksums, place = {}, 0
    for name in names:
        array = np.ascontiguousarray(arrays[name])
        shape, end = list(array.shape), place + array.nbytes
        header[name] = {"dtype": _DTYPE_NAMES[array.dtype], "shape": shape, "data_offsets": [place, end]}
        checksums[name] = crc32(array.view(np.uint8).data if array.size else b"")
        place = end
    header["__metadata__"] = {
        "format": _FORMAT,
        "schema": SCHEMA,
        "source": source_fingerprint,
        "checksums": json.dumps(checksums),
        "header": _UNSEALED,
    }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    text = text.replace(_UNSEALED.encode(), b"%08x" % crc32(text))
    with replacing(path) as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            stream.write(np.ascontiguousarray(arrays[name]).data)


def load(path: Path, source_fingerprint: str) -> Stored:
    """Map the index at ``path`` into memory.

    Every checksum is compared first, which takes 0.1 s for the 500 MB of 3 million images (scripts/bench index).

    Raises
    ------
    IndexFileError
        There is no usable index of this source.
    """
    try:
        with open(path, "rb", opener=_opened) as stream:
            facts = os.fstat(stream.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise IndexFileError("cannot be read: not a regular file")
            if facts.st_size < 8:
                raise IndexFileError("damaged: shorter than its header")
            content = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
    except FileNotFoundError:
        raise NoIndexError("missing") from None
    except OSError as error:
        raise IndexFileError(f"cannot be read: {error.strerror}") from error
    try:
        header, data = _header(content)
        metadata = header.pop("__metadata__")
        if not is_of(metadata["source"], source_fingerprint):
            raise IndexFileError("of another source")
        arrays = {name: _array(entry, data) for name, entry in header.items()}
        _compare(arrays, json.loads(metadata["checksums"]))
        return _stored(arrays)
    except _NOT_OURS as error:
        raise IndexFileError(f"damaged: {type(error).__name__}") from error


def _opened(path: str, flags: int) -> int:
    # Without O_NONBLOCK, opening a pipe waits for a writer. Another program, such as Samba, may hold a lease.
    return patiently(os.open, path, flags | os.O_NONBLOCK)


def _header(content: memoryview) -> tuple[dict[str, Any], memoryview]:
    """Return the header of an index file and the data after it."""
    length = int.from_bytes(content[:8], "little")
    if length > min(len(content) - 8, _LONGEST_HEADER):
        raise IndexFileError("damaged or no index")
    text = bytes(content[8 : 8 + length])
    try:
        header = json.loads(text)
        metadata = header["__metadata__"]
        kind, seal = metadata["format"], metadata["header"].encode()
    except _NOT_OURS:
        raise IndexFileError("damaged or no index") from None
    if kind != _FORMAT:
        raise IndexFileError("no index of omidbfs")
    if b"%08x" % crc32(text.replace(seal, _UNSEALED.encode(), 1)) != seal:
        raise IndexFileError("damaged: header")
    if metadata["schema"] != SCHEMA:
        raise IndexFileError(f"of another version (schema {metadata['schema']})")
    data = content[8 + length :]
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    if max(ends, default=0) != len(data):
        raise IndexFileError("damaged: cut off or too long")
    return header, data


def _array(entry: Mapping[str, Any], data: memoryview) -> NDArray[Any]:
    first, end = entry["data_offsets"]
    return np.frombuffer(data[first:end], _DTYPES[entry["dtype"]]).reshape(entry["shape"])


def _compare(arrays: Arrays, checksums: Mapping[str, int]) -> None:
    def damaged(name: str) -> bool:
        array = arrays[name]
        return crc32(array.reshape(-1).view(np.uint8).data if array.size else b"") != checksums[name]

    with ThreadPoolExecutor(2) as threads:  # crc32 releases the interpreter lock
        for name, is_damaged in zip(arrays, threads.map(damaged, arrays), strict=True):
            if is_damaged:
                raise IndexFileError(f"damaged: {name}")


# Index <-> arrays -------------------------------------------------------------------------------------------


def _arrays(index: Index) -> Arrays:
    arrays: Arrays = arrays_of(COLUMNS, values_of(index))
    for field, derived in _DERIVED.items():
        value = getattr(index, field)
        arrays |= {f"{derived.names}.slots": value.slots} if derived.names else {field: value}
    arrays |= {f"columns.{name}": column for name, column in index.columns.items()}
    arrays["duplicates"] = np.array(index.duplicates.to_array(), np.uint32)
    arrays["problems"] = np.frombuffer(index.problem_lines, np.uint8)
    meta = {
        "lists": {name: getattr(index, name) for name in LISTS},
        "texts": {name: [[value.label, value.raw] for value in values] for name, values in index.texts.items()},
        "raw_images": list(index.raw_images.items()),
        "raw_studies": list(index.raw_studies.items()),
        "studies_unique": index.studies_unique,
        "newest": index.newest,
        "combinations": index.combinations,
        "facets": {name: definition_of(BY_NAME[name]) for name in index.columns if name in BY_NAME},
        "user": [[facet.name, facet.definition] for facet in index.registry.user],
        "written": time.time(),
    }
    arrays["meta"] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    return arrays


def _stored(arrays: Arrays) -> Stored:
    meta = json.loads(arrays["meta"].tobytes())
    values = values_in(COLUMNS, arrays)
    # Facets whose definition has changed are left out, and facets of the user whose names the program now uses.
    own = {
        name
        for name, definition in meta["facets"].items()
        if name in BY_NAME and definition == definition_of(BY_NAME[name])
    }
    user = [stored_facet(definition) for name, definition in meta["user"] if name not in BY_NAME]
    coded = own | {facet.name for facet in user}
    whole = fields_of(Index, values)
    for field, derived in _DERIVED.items():
        slots = f"{derived.names}.slots"
        whole[field] = NameTable(values[derived.names], arrays[slots]) if derived.names else arrays[field]
    for name, listed in LISTS.items():
        whole[name] = tuple(_entry(listed.nothing, one) for one in meta["lists"][name])
    index = Index(
        **whole,
        columns={name: arrays[f"columns.{name}"] for name in coded},
        combinations={
            name: tuple(tuple(one) for one in combinations)
            for name, combinations in meta["combinations"].items()
            if name in coded
        },
        texts={
            name: tuple(TextValue(label, tuple(raw)) for label, raw in values)
            for name, values in meta["texts"].items()
            if name in coded
        },
        duplicates=BitMap(arrays["duplicates"]),
        studies_unique=meta["studies_unique"],
        raw_images=dict(meta["raw_images"]),
        raw_studies=dict(meta["raw_studies"]),
        newest=meta["newest"],
        problem_lines=arrays["problems"].data,
        registry=Registry(tuple(user)),
    )
    return Stored(index, meta["written"])


def _entry(nothing: tuple[Any, ...], stored: Sequence[Any]) -> tuple[Any, ...]:
    """Return an entry of a list, in the class of ``nothing`` and with as many items."""
    entry: tuple[Any, ...] = getattr(nothing, "_make", tuple)(stored)
    if len(entry) != len(nothing):
        raise ValueError
    return entry


def definition_of(facet: Facet) -> str:
    """Return a text that changes with the meaning of the codes of a facet of the program, and with its places.

    A change of the code that reads the facet shows only in ``definition`` of the facet.
    """
    places = [tag.path for tag in facet.tags], [(key.document, key.path) for key in facet.keys]
    codes = [value.code for value in facet.values]
    numbers = (facet.lowest, facet.highest)
    facts = (facet.kind.name, facet.several, numbers, codes, places, facet.label.__name__, facet.definition)
    return blake2b(repr(facts).encode(), digest_size=8).hexdigest()
