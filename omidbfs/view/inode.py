"""What the number of an inode says: directory or file, whose, and which version of it.

Used by ``files`` and ``view``, and by what tells the kernel of changes. Pure functions: any thread may call them.
"""

from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from omidbfs.base.names import digest
from omidbfs.database.layout import DOCUMENTS
from omidbfs.database.records import FileFacts
from omidbfs.index.columns import Index

DIRECTORY, IMAGE, DOCUMENT, GENERATED = 1 << 62, 1 << 61, 1 << 60, 1 << 59
_VERSION_AT = 35
_VERSION = 0xFFFFFF
NUMBER = (1 << _VERSION_AT) - 1
KEY = IMAGE | DOCUMENT | GENERATED | NUMBER
_MIX_SIZE, _MIX_TIME = 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F
_MIXED = 0xFFFFFFFFFFFFFFFF
_EXPORT = IMAGE | DOCUMENT  # both bits: nothing else has them

ROOT_INODE = 1


def directory_inode(path: bytes) -> int:
    """Return the inode of a directory: no file has it, and it stays from mount to mount."""
    return DIRECTORY | int(digest(path)[:15], 16) if path else ROOT_INODE


def parent_inode(path: bytes) -> int:
    """Return the inode of the directory above one; the root is above itself."""
    return directory_inode(path.rpartition(b"/")[0])


def export_inode(view: bytes, path: bytes) -> int:
    """Return the inode of a file that is made of a cohort: another one in every view, which ``view`` names."""
    return _EXPORT | int(digest(view + path)[:15], 16) >> 1


def is_export(inode: int) -> bool:
    """Return whether an inode can only be that of a file that is made of a cohort."""
    return inode & (DIRECTORY | _EXPORT) == _EXPORT


def file_key(inode: int) -> int:
    """Return what all versions of a file of the source have in common, and no two files do."""
    return inode & KEY


def image_keys(identities: NDArray[np.uint32], kinds: int | NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the keys of files of some images; ``kinds`` are the numbers of their kinds, or of the kind of all."""
    return identities.astype(np.uint64) << np.uint64(1) | np.uint64(IMAGE) | np.asarray(kinds, np.uint64)


def document_keys(identities: NDArray[np.uint32], slot: int) -> NDArray[np.uint64]:
    """Return the keys of one of the documents of some clients."""
    return identities.astype(np.uint64) * np.uint64(len(DOCUMENTS)) + np.uint64(DOCUMENT | slot)


def all_keys(index: Index) -> tuple[range, range]:
    """Return the keys of all files of an index, and of those that were in it once."""
    images, documents = 2 * len(index.row_of), len(DOCUMENTS) * len(index.client_ordinal)
    return range(IMAGE, IMAGE + images), range(DOCUMENT, DOCUMENT + documents)


def text_inode(number: int, content: bytes | memoryview) -> int:
    """Return the inode of one version of a generated text."""
    return GENERATED | (crc32(content) & _VERSION) << _VERSION_AT | number


def versioned(key: int, facts: FileFacts) -> int:
    """Return the inode of one version of a source file."""
    mixed = (facts.size * _MIX_SIZE + facts.mtime_ns * _MIX_TIME) & _MIXED
    return key | mixed >> 40 << _VERSION_AT


def all_versioned(
    keys: NDArray[np.uint64], sizes: NDArray[np.unsignedinteger], mtimes: NDArray[np.int64]
) -> NDArray[np.uint64]:
    """Return the same of many files."""
    mixed = sizes.astype(np.uint64) * np.uint64(_MIX_SIZE) + mtimes.view(np.uint64) * np.uint64(_MIX_TIME)
    return keys | mixed >> np.uint64(40) << np.uint64(_VERSION_AT)


def is_directory(inode: int) -> bool:
    """Return whether an inode can only be a directory's."""
    return inode >= DIRECTORY
