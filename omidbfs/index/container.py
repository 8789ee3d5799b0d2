"""Files of arrays in the safetensors format, opened by mapping them into memory.

``store`` keeps the index in one, and ``measured`` what was found in pixels, from a thread that may wait for a
disk.

A file has a little-endian uint64 with the length of the header, the header (JSON: name -> dtype, shape, place;
``__metadata__``: text -> text), and the raw little-endian arrays. The metadata hold what kind of file it is, the
version of its format, the fingerprint of the source, and a CRC-32 of every array and of the header. A file that
does not agree with them is refused, at once or at the first use of the array (:mod:`~omidbfs.index.sections`). The
files hold patient data, so their mode is 0600.
"""

import json
import mmap
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from omidbfs.database.permissions import patiently
from omidbfs.index.fingerprint import is_of
from omidbfs.index.sections import IndexFileError, Sections, checksum

_DTYPES = {"BOOL": np.bool_, "U8": np.uint8, "U16": np.uint16, "U32": np.uint32, "U64": np.uint64}
_DTYPES |= {"I32": np.int32, "I64": np.int64, "F64": np.float64}
_DTYPE_NAMES = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}
_METADATA = ("format", "schema", "source", "checksums", "header")
_UNSEALED = "........"
"""Placeholder in the header for its own checksum, while that is computed."""
_LONGEST_HEADER = 1 << 24
NOT_OURS = (LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)
"""Exceptions from content that is valid JSON but was not written by :func:`save_arrays`."""

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class FileKind:
    """What a file holds, and the version of its format, which changes with the meaning of its arrays."""

    format: str
    schema: str


class NoFileError(IndexFileError):
    """There is no file."""


def may_replace(path: Path, kind: FileKind) -> bool:
    """Return whether ``path`` does not exist, is an empty file, or has the header of such a file of any version.

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
    return not start or _is_of_kind(text, kind)


def _is_of_kind(header: bytes, kind: FileKind) -> bool:
    try:
        metadata = json.loads(header)["__metadata__"]
        return metadata["format"] == kind.format and all(isinstance(metadata[name], str) for name in _METADATA)
    except NOT_OURS:
        return False


def save_arrays(path: Path, kind: FileKind, arrays: Arrays, source_fingerprint: str) -> None:
    """Write a file, completely or not at all (:mod:`omidbfs.base.whole`).

    Raises
    ------
    OSError
        The file cannot be written. An old file stays as it was.
    """
    from omidbfs.base.whole import replacing

    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Arrays with large items come first, so that each array is aligned to its items.
    names = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
    header: dict[str, object] = {}
    checksums, place = {}, 0
    for name in names:
        array = np.ascontiguousarray(arrays[name])
        shape, end = list(array.shape), place + array.nbytes
        header[name] = {"dtype": _DTYPE_NAMES[array.dtype], "shape": shape, "data_offsets": [place, end]}
        checksums[name] = checksum(array)
        place = end
    header["__metadata__"] = {
        "format": kind.format,
        "schema": kind.schema,
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


def mapped(path: Path, kind: FileKind, source_fingerprint: str) -> Sections:
    """Map a file into memory. No section has been compared with its checksum yet.

    Raises
    ------
    IndexFileError
        There is no usable file of this kind and source at ``path``.
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
        raise NoFileError("missing") from None
    except OSError as error:
        raise IndexFileError(f"cannot be read: {error.strerror}") from error
    try:
        header, data = _header(content, kind)
        metadata = header.pop("__metadata__")
        if not is_of(metadata["source"], source_fingerprint):
            raise IndexFileError("of another source")
        arrays = {name: _array(entry, data) for name, entry in header.items()}
        return Sections(arrays, json.loads(metadata["checksums"]))
    except NOT_OURS as error:
        raise IndexFileError(f"damaged: {type(error).__name__}") from error


def _opened(path: str, flags: int) -> int:
    # Without O_NONBLOCK, opening a pipe waits for a writer. Another program, such as Samba, may hold a lease.
    return patiently(os.open, path, flags | os.O_NONBLOCK)


def _header(content: memoryview, wanted: FileKind) -> tuple[dict[str, Any], memoryview]:
    """Return the header of a file and the data after it."""
    length = int.from_bytes(content[:8], "little")
    if length > min(len(content) - 8, _LONGEST_HEADER):
        raise IndexFileError("damaged or no index")
    text = bytes(content[8 : 8 + length])
    try:
        header = json.loads(text)
        metadata = header["__metadata__"]
        kind, seal = metadata["format"], metadata["header"].encode()
    except NOT_OURS:
        raise IndexFileError("damaged or no index") from None
    if kind != wanted.format:
        raise IndexFileError(f"no {wanted.format.removeprefix('omidbfs ')} of omidbfs")
    if b"%08x" % crc32(text.replace(seal, _UNSEALED.encode(), 1)) != seal:
        raise IndexFileError("damaged: header")
    if metadata["schema"] != wanted.schema:
        raise IndexFileError(f"of another version (schema {metadata['schema']})")
    data = content[8 + length :]
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    if max(ends, default=0) != len(data):
        raise IndexFileError("damaged: cut off or too long")
    return header, data


def _array(entry: Mapping[str, Any], data: memoryview) -> NDArray[Any]:
    first, end = entry["data_offsets"]
    return np.frombuffer(data[first:end], _DTYPES[entry["dtype"]]).reshape(entry["shape"])
