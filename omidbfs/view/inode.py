"""What the number of an inode says: directory or file, whose, and which version of it.

Used by ``files`` and ``view``, and by what tells the kernel of changes. Pure functions: any thread may call them.

The four bits from 59 to 62 are the class. Below them are, from the top:

- of a directory 60 bits of a hash of its path: the highest of them is bit 59, and bit 62 alone is the class;
- of a file of the source, and of a text, 24 bits of a version and 35 of a number;
- of a generated file 59 bits of a hash of its path and of the view that made it;
- of a rendition 24 bits of the identity of its image, 16 of a hash of the rendition's text and 19 of a version.

The root is 1. No number has bit 63.
"""

import errno
from typing import NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from omidbfs.base.names import digest
from omidbfs.database.file_kinds import FILE_KINDS, FileKind
from omidbfs.database.layout import DOCUMENTS
from omidbfs.database.records import FileFacts
from omidbfs.index.columns import Index

ROOT_INODE = 1

_CLASS_AT = 59
_TEXT, _DOCUMENT, _IMAGE, _RENDITION, _EXPORT, _DIRECTORY = 0b0001, 0b0010, 0b0100, 0b0101, 0b0110, 0b1000

_VERSION_AT = 35
_VERSION = (1 << _CLASS_AT - _VERSION_AT) - 1
_NUMBER = (1 << _VERSION_AT) - 1
_MIX_SIZE, _MIX_TIME = 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F
_MIXED = 0xFFFFFFFFFFFFFFFF

IMAGE, DOCUMENT = _IMAGE << _CLASS_AT, _DOCUMENT << _CLASS_AT
"""Of a file of the source, one of these bits is set: it is an image's, or a document of a client."""
KEY = 0b1111 << _CLASS_AT | _NUMBER
"""The bits that all versions of a file of the source have in common, and no two files do."""

_IDENTITY_BITS, _TEXT_BITS, _RENDITION_VERSION_BITS = 24, 16, 19
RENDITION_IDENTITIES = 1 << _IDENTITY_BITS
"""Images that can have renditions: those that were known before as many others had been."""


# Classes


def is_directory(inode: int) -> bool:
    """Return whether an inode can only be a directory's."""
    return inode >> _CLASS_AT >= _DIRECTORY or inode == ROOT_INODE


def is_source(inode: int) -> bool:
    """Return whether an inode can only be that of a file of the source."""
    return inode >> _CLASS_AT in (_IMAGE, _DOCUMENT)


def is_text(inode: int) -> bool:
    """Return whether an inode can only be that of a text of the drive."""
    return inode >> _CLASS_AT == _TEXT


def is_export(inode: int) -> bool:
    """Return whether an inode can only be that of a file that is made of a cohort."""
    return inode >> _CLASS_AT == _EXPORT


def is_rendition(inode: int) -> bool:
    """Return whether an inode can only be that of a rendition."""
    return inode >> _CLASS_AT == _RENDITION


# Directories and generated files


def directory_inode(path: bytes) -> int:
    """Return the inode of a directory: no file has it, and it stays from mount to mount."""
    return _DIRECTORY << _CLASS_AT | int(digest(path)[:15], 16) if path else ROOT_INODE


def parent_inode(path: bytes) -> int:
    """Return the inode of the directory above one; the root is above itself."""
    return directory_inode(path.rpartition(b"/")[0])


def export_inode(view: bytes, path: bytes) -> int:
    """Return the inode of a file that is made of a cohort: another one in every view, which ``view`` names."""
    return _EXPORT << _CLASS_AT | int(digest(view + path)[:15], 16) >> 1


# Files of the source


def image_key(identity: int, kind: FileKind) -> int:
    """Return the key of a file of an image: its inode less the version (:data:`KEY`)."""
    return IMAGE | identity << 1 | kind.number


def document_key(identity: int, slot: int) -> int:
    """Return the key of a document of a client."""
    return DOCUMENT | identity * len(DOCUMENTS) + slot


def file_key(inode: int) -> int:
    """Return the key of a file of the source, whatever version of it the inode is."""
    return inode & KEY


def image_keys(identities: NDArray[np.uint32], kinds: int | NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the keys of files of some images; ``kinds`` are the numbers of their kinds, or of the kind of all."""
    return identities.astype(np.uint64) << np.uint64(1) | np.uint64(IMAGE) | np.asarray(kinds, np.uint64)


def document_keys(identities: NDArray[np.uint32], slot: int) -> NDArray[np.uint64]:
    """Return the keys of one of the documents of some clients."""
    return identities.astype(np.uint64) * np.uint64(len(DOCUMENTS)) + np.uint64(DOCUMENT | slot)


def identity_and_part(inode: int) -> tuple[int, int]:
    """Return whose a file of the source is, and which: image and number of its kind, or client and slot."""
    return divmod(inode & _NUMBER, 2 if inode & IMAGE else len(DOCUMENTS))


def all_keys(index: Index) -> tuple[range, range]:
    """Return the keys of all files of an index, and of those that were in it once."""
    images, documents = len(FILE_KINDS) * len(index.row_of), len(DOCUMENTS) * len(index.client_ordinal)
    return range(IMAGE, IMAGE + images), range(DOCUMENT, DOCUMENT + documents)


def versioned(key: int, facts: FileFacts) -> int:
    """Return the inode of one version of a file of the source."""
    mixed = (facts.size * _MIX_SIZE + facts.mtime_ns * _MIX_TIME) & _MIXED
    return key | mixed >> 40 << _VERSION_AT


def all_versioned(
    keys: NDArray[np.uint64], sizes: NDArray[np.unsignedinteger], mtimes: NDArray[np.int64]
) -> NDArray[np.uint64]:
    """Return the same of many files."""
    mixed = sizes.astype(np.uint64) * np.uint64(_MIX_SIZE) + mtimes.view(np.uint64) * np.uint64(_MIX_TIME)
    return keys | mixed >> np.uint64(40) << np.uint64(_VERSION_AT)


# Texts


def text_inode(number: int, content: bytes | memoryview) -> int:
    """Return the inode of one version of a text of the drive."""
    return _TEXT << _CLASS_AT | (crc32(content) & _VERSION) << _VERSION_AT | number


def text_number(inode: int) -> int:
    """Return which text of the drive an inode is a version of."""
    return inode & _NUMBER


# Renditions


class RenditionFields(NamedTuple):
    """What the inode of a rendition says.

    ``identity`` is that of the image, ``text`` the :func:`rendition_hash` of the rendition, ``version`` 19 bits of
    a hash of what else decides its bytes.
    """

    identity: int
    text: int
    version: int


def rendition_hash(text: bytes) -> int:
    """Return the 16 bits that stand for the canonical text of a rendition. A drive shows one text for each."""
    return int(digest(text)[:4], 16)


def rendition_inode(fields: RenditionFields) -> int:
    """Return the inode of a rendition.

    Raises
    ------
    OSError
        EOVERFLOW: the identity of the image is :data:`RENDITION_IDENTITIES` or more.
    """
    identity, text, version = fields
    if identity >> _IDENTITY_BITS:
        raise OSError(errno.EOVERFLOW, "the image has no room for renditions in an inode")
    assert not text >> _TEXT_BITS
    assert not version >> _RENDITION_VERSION_BITS
    return ((_RENDITION << _IDENTITY_BITS | identity) << _TEXT_BITS | text) << _RENDITION_VERSION_BITS | version


def rendition_fields(inode: int) -> RenditionFields:
    """Return what :func:`rendition_inode` was given."""
    rest, version = inode >> _RENDITION_VERSION_BITS, inode & (1 << _RENDITION_VERSION_BITS) - 1
    return RenditionFields(rest >> _TEXT_BITS & (1 << _IDENTITY_BITS) - 1, rest & (1 << _TEXT_BITS) - 1, version)
