"""The files of one client as listed, and the digest by which a refresh sees that one of them has changed.

The scanner of a source makes them; whatever reads a client uses them. They belong to the thread that made them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

import msgspec

from omidbfs.database.problems import Problem
from omidbfs.database.records import FileFacts


class ImageFiles(msgspec.Struct, gc=False):  # a Struct, as FileFacts: there is one for each image
    """The two files of an image; ``sidecar_suffix`` is ``.json`` or ``.dcm.json``.

    ``double`` marks the second of two JSON files of one image: it stands alone, under the name ``<image>.dcm``.
    """

    dcm: FileFacts | None = None
    sidecar: FileFacts | None = None
    sidecar_suffix: str = ".json"
    double: bool = False


@dataclass(slots=True)
class ClientFiles:
    """The files of one client in both trees.

    ``documents`` maps the name of each NBSS and ImageDB file to its facts. ``studies`` maps study to image to
    files. ``in_data`` holds the studies with a directory in data/, ``ctimes`` the ``st_ctime_ns`` of all files.
    """

    name: str
    documents: dict[str, FileFacts] = field(default_factory=dict)
    studies: dict[str, dict[str, ImageFiles]] = field(default_factory=dict)
    in_data: set[str] = field(default_factory=set)
    ctimes: list[int] = field(default_factory=list)


def listing_digest(files: ClientFiles, problems: Sequence[Problem]) -> int:
    """Return 64 bits that change with any name, size, time or permission among a client's files.

    The times include ``st_ctime``, which no program can set: it reveals an edit whose author restored the
    modification time. ``problems`` are those of listing the client: entries that are not shown may change too.
    """
    ctimes = [ctime & _64_BITS for ctime in files.ctimes]
    facts = (files.documents, files.studies, sorted(files.in_data), [(p.file, p.kind) for p in problems], ctimes)
    try:
        encoded = msgspec.msgpack.encode(facts)
    except UnicodeEncodeError:  # a name that is no UTF-8
        encoded = repr(facts).encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(encoded, digest_size=8).digest(), "big")


def bytes_to_read(files: ClientFiles) -> int:
    """Return about how many bytes are read of a client: its JSON files, and the headers of images without JSON."""
    images = [image for study in files.studies.values() for image in study.values()]
    facts = [*files.documents.values(), *(one.sidecar for one in images if one.sidecar is not None)]
    without = len(images) + len(files.documents) - len(facts)
    return sum([fact.size for fact in facts]) + without * _OF_HEADER + len(images) * _OF_RECORD


_OF_HEADER, _OF_RECORD = 64_000, 1_000
"""Bytes to allow for the header of a DICOM file, and for what is kept of an image until its turn comes."""
_64_BITS = (1 << 64) - 1
