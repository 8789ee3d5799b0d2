"""The meaning of the bits of an inode number: the kind of node, its identity, and its version.

Used by ``files`` and ``view``, and by the modules that tell the kernel of changes. Pure functions: any thread may
call them.

Bits 59 to 62 are the class. The bits below them are, from the top:

- a directory: 60 bits of a hash of its path; the highest of them is bit 59, so bit 62 alone is the class;
- a file of the source, and a text: 24 bits of a version, and 35 bits of a number;
- a generated file: 59 bits of a hash of its path and of the view that made it;
- a rendition: 24 bits of the identity of its image, 16 of a hash of the rendition's text, and 19 of a version.

The root is 1. Bit 63 is never set.
"""

import errno
from typing import NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from omidbfs.base.names import digest
from omidbfs.database.file_kinds import DCM, FILE_KINDS, FileKind
from omidbfs.database.layout import DOCUMENTS
from omidbfs.database.records import FileFacts
from omidbfs.index.columns import Index
from omidbfs.pixels.sizes import RENDITION_IDENTITIES

ROOT_INODE = 1

_CLASS_AT = 59
_TEXT, _DOCUMENT, _IMAGE, _RENDITION, _EXPORT, _DIRECTORY = 0b0001, 0b0010, 0b0100, 0b0101, 0b0110, 0b1000

_VERSION_AT = 35
_VERSION = (1 << _CLASS_AT - _VERSION_AT) - 1
NUMBER = (1 << _VERSION_AT) - 1
"""The bits of the number of a file of the source, or of a text."""
_MIX_SIZE, _MIX_TIME = 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F
_MIX_RENDERED, _MIX_SALT = 0x165667B19E3779F9, 0xD6E8FEB86659FD93
_MIXED = 0xFFFFFFFFFFFFFFFF

IMAGE, DOCUMENT = _IMAGE << _CLASS_AT, _DOCUMENT << _CLASS_AT
"""A file of the source has one of these bits: it is a file of an image, or a document of a client."""
KEY = 0b1111 << _CLASS_AT | NUMBER
"""The bits that identify a file of the source: all its versions share them."""

_IDENTITY_BITS, _TEXT_BITS, _RENDITION_VERSION_BITS = RENDITION_IDENTITIES.bit_length() - 1, 16, 19


# Classes


def is_directory(inode: int) -> bool:
    """Return whether an inode is that of a directory."""
    return inode >> _CLASS_AT >= _DIRECTORY or inode == ROOT_INODE


def is_source(inode: int) -> bool:
    """Return whether an inode is that of a file of the source."""
    return inode >> _CLASS_AT in (_IMAGE, _DOCUMENT)


def is_text(inode: int) -> bool:
    """Return whether an inode is that of a text of the drive."""
    return inode >> _CLASS_AT == _TEXT


def is_export(inode: int) -> bool:
    """Return whether an inode is that of a file that is made from a cohort."""
    return inode >> _CLASS_AT == _EXPORT


def is_rendition(inode: int) -> bool:
    """Return whether an inode is that of a rendition."""
    return inode >> _CLASS_AT == _RENDITION


# Directories and generated files


def directory_inode(path: bytes) -> int:
    """Return the inode of a directory. No file has the same inode, and it is the same in every mount."""
    return _DIRECTORY << _CLASS_AT | int(digest(path)[:15], 16) if path else ROOT_INODE


def parent_inode(path: bytes) -> int:
    """Return the inode of the directory above a path. The root is its own parent."""
    return directory_inode(path.rpartition(b"/")[0])


def export_inode(view: bytes, path: bytes) -> int:
    """Return the inode of a file that is made from a cohort. It differs between views; ``view`` is their name."""
    return _EXPORT << _CLASS_AT | int(digest(view + path)[:15], 16) >> 1


# Files of the source


def image_key(identity: int, kind: FileKind) -> int:
    """Return the key of a file of an image: its inode without the version (:data:`KEY`)."""
    return IMAGE | identity << 1 | kind.number


def document_key(identity: int, slot: int) -> int:
    """Return the key of a document of a client."""
    return DOCUMENT | identity * len(DOCUMENTS) + slot


def file_key(inode: int) -> int:
    """Return the key of a file of the source from the inode of any version."""
    return inode & KEY


def source_key(inode: int) -> int:
    """Return the key of a file of the source; for a rendition, that of its DICOM file."""
    return image_key(rendition_fields(inode).identity, DCM) if is_rendition(inode) else file_key(inode)


def image_keys(identities: NDArray[np.uint32], kinds: int | NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the keys of files of some images; ``kinds`` has the number of each kind, or is one number for all."""
    return identities.astype(np.uint64) << np.uint64(1) | np.uint64(IMAGE) | np.asarray(kinds, np.uint64)


def document_keys(identities: NDArray[np.uint32], slot: int) -> NDArray[np.uint64]:
    """Return the keys of one of the documents of some clients."""
    return identities.astype(np.uint64) * np.uint64(len(DOCUMENTS)) + np.uint64(DOCUMENT | slot)


def identity_and_part(inode: int) -> tuple[int, int]:
    """Return the identity of an image and the number of a kind of file, or the identity of a client and a slot."""
    return divmod(inode & NUMBER, 2 if inode & IMAGE else len(DOCUMENTS))


def all_keys(index: Index) -> tuple[range, range]:
    """Return the keys of all files that are or were in an index: of images, and of documents."""
    images, documents = len(FILE_KINDS) * len(index.row_of), len(DOCUMENTS) * len(index.client_ordinal)
    return range(IMAGE, IMAGE + images), range(DOCUMENT, DOCUMENT + documents)


def versioned(key: int, facts: FileFacts) -> int:
    """Return the inode of one version of a file of the source."""
    mixed = (facts.size * _MIX_SIZE + facts.mtime_ns * _MIX_TIME) & _MIXED
    return key | mixed >> 40 << _VERSION_AT


def all_versioned(
    keys: NDArray[np.uint64], sizes: NDArray[np.unsignedinteger], mtimes: NDArray[np.int64]
) -> NDArray[np.uint64]:
    """Return the inodes of versions of many files."""
    mixed = sizes.astype(np.uint64) * np.uint64(_MIX_SIZE) + mtimes.view(np.uint64) * np.uint64(_MIX_TIME)
    return keys | mixed >> np.uint64(40) << np.uint64(_VERSION_AT)


# Texts


def text_inode(number: int, content: bytes | memoryview) -> int:
    """Return the inode of one version of a text of the drive."""
    return _TEXT << _CLASS_AT | (crc32(content) & _VERSION) << _VERSION_AT | number


def text_number(inode: int) -> int:
    """Return the number of the text that an inode belongs to."""
    return inode & NUMBER


# Renditions


class RenditionFields(NamedTuple):
    """The fields of the inode of a rendition.

    ``identity`` is the identity of the image. ``text`` is the :func:`rendition_hash` of the rendition. ``version``
    is 19 bits of a hash of everything else that determines its bytes.
    """

    identity: int
    text: int
    version: int


def rendition_hash(text: bytes) -> int:
    """Return a hash of 16 bits of the canonical text of a rendition. A drive shows one text for each hash."""
    return int(digest(text)[:4], 16)


def rendition_version(size: int, mtime_ns: int, rendered: int, salt: int) -> int:
    """Return the version of a rendition: of the size and time of its source, its own size, and a number."""
    mixed = size * _MIX_SIZE + mtime_ns * _MIX_TIME + rendered * _MIX_RENDERED + salt * _MIX_SALT
    return (mixed & _MIXED) >> 64 - _RENDITION_VERSION_BITS


def all_rendition_inodes(
    identities: NDArray[np.uint32],
    text: int,
    sizes: NDArray[np.unsignedinteger],
    mtimes: NDArray[np.int64],
    rendered: NDArray[np.int64],
    salts: NDArray[np.uint64],
) -> NDArray[np.uint64]:
    """Return the inodes of one rendition of many images; the identities must have room for it."""
    mixed = sizes.astype(np.uint64) * np.uint64(_MIX_SIZE) + mtimes.view(np.uint64) * np.uint64(_MIX_TIME)
    mixed += rendered.view(np.uint64) * np.uint64(_MIX_RENDERED) + salts * np.uint64(_MIX_SALT)
    first = np.uint64((_RENDITION << _CLASS_AT) | text << _RENDITION_VERSION_BITS)
    of = identities.astype(np.uint64) << np.uint64(_TEXT_BITS + _RENDITION_VERSION_BITS)
    return of | first | mixed >> np.uint64(64 - _RENDITION_VERSION_BITS)


def rendition_inode(fields: RenditionFields) -> int:
    """Return the inode of a rendition.

    Raises
    ------
    OSError
        EOVERFLOW: the identity of the image is :data:`~omidbfs.pixels.sizes.RENDITION_IDENTITIES` or more.
    """
    identity, text, version = fields
    if identity >> _IDENTITY_BITS:
        raise OSError(errno.EOVERFLOW, "the image has no room for renditions in an inode")
    assert not text >> _TEXT_BITS
    assert not version >> _RENDITION_VERSION_BITS
    return ((_RENDITION << _IDENTITY_BITS | identity) << _TEXT_BITS | text) << _RENDITION_VERSION_BITS | version


def rendition_fields(inode: int) -> RenditionFields:
    """Return the fields from which :func:`rendition_inode` made an inode."""
    rest, version = inode >> _RENDITION_VERSION_BITS, inode & (1 << _RENDITION_VERSION_BITS) - 1
    return RenditionFields(rest >> _TEXT_BITS & (1 << _IDENTITY_BITS) - 1, rest & (1 << _TEXT_BITS) - 1, version)
