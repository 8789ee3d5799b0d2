"""Finds the node at a path, as far as an identity may search, and says what HTTP shows of it.

Used by ``files``, ``dav`` and the pages, in the loop of the drive.
"""

import errno
import functools
import os
import secrets
from collections.abc import Iterable, Sequence
from email.utils import formatdate

from omidbfs.serving.changes import Changes
from omidbfs.serving.drive import Drive
from omidbfs.serving.rights import Identity
from omidbfs.view.nodes import Attributes, Directory, Entry, Export
from omidbfs.view.view import View

Node = Directory | Export | int

_TEXTS = (b".omidbfs", b"README.txt")
_TYPES = {
    b"csv": "text/csv; charset=utf-8",
    b"dcm": "application/dicom",
    b"json": "application/json",
    b"jsonl": "application/x-ndjson",
    b"parquet": "application/vnd.apache.parquet",
    b"png": "image/png",
    b"tar": "application/x-tar",
    b"tiff": "image/tiff",
    b"txt": "text/plain; charset=utf-8",
}


def content_type(name: bytes) -> str:
    """Return the media type of a file, by the end of its name."""
    return _TYPES.get(name.rpartition(b".")[2], "application/octet-stream")


@functools.lru_cache(maxsize=8192)
def http_date(second: int) -> str:
    """Return a time in seconds since 1970 as RFC 9110 writes it."""
    return formatdate(second, usegmt=True)


class Tags:
    """Makes entity tags, and changes all of them when a refresh has found edited files. An observer of the drive.

    An edit in place that restores size and time changes no inode, so tags also have the number of such refreshes,
    and a number of this process. So two equal tags are two equal files, and tags are strong (RFC 9110, 8.8.1).
    """

    def __init__(self, drive: Drive) -> None:
        self._process = secrets.token_hex(4)
        self._edits = 0
        drive.observers.add(self)

    def of(self, inode: int, size: int, mtime: int) -> str:
        """Return the tag of a file with an inode, a size in bytes and a time in nanoseconds."""
        return f'"{self._process}-{self._edits:x}-{inode:x}-{size:x}-{mtime & 0xFFFFFFFFFFFFFFFF:x}"'

    def paths(self) -> list[bytes]:
        """Return no path: no name is kept."""
        return []

    def directories(self, view: View) -> Iterable[Directory]:
        """Return no directory."""
        return ()

    async def tell(self, found: Changes) -> bool:
        """Note that files may have been edited."""
        if found.touched:
            self._edits += 1
        return True

    async def settle(self) -> None:
        """Do nothing: nothing is left over."""


async def found(drive: Drive, identity: Identity, names: Sequence[bytes]) -> Node:
    """Return the node at a path of the current view. What follows before the next await is of the same view.

    Raises
    ------
    OSError
        ENOENT, ENOTDIR, EACCES: as the kernel says it for a mount. Otherwise as ``View.lookup``.
    """
    if names and names[0] in _TEXTS:
        await drive.texts_made()
    view = drive.view
    node: Node | None = view.root
    for name in names:
        if not isinstance(node, Directory):
            raise _error(errno.ENOTDIR)
        if not drive.may_search(identity, node):
            raise _error(errno.EACCES)
        if not drive.looks_up_at_once(node):
            await drive.listing(node)
            if drive.view is not view:
                return await found(drive, identity, names)
        node = view.lookup(node, name)
        if node is None:
            raise _error(errno.ENOENT)
    assert node is not None
    return node


def check_readable(drive: Drive, identity: Identity, node: Node) -> None:
    """Raise EACCES if an identity may not read a file, or list a directory."""
    if not drive.may_read(identity, node):
        raise _error(errno.EACCES)


def attributes(view: View, node: Directory | int) -> Attributes:
    """Return the attributes of a node of a view.

    Raises
    ------
    OSError
        ESTALE: the node has another version.
    """
    shown = view.directory_attributes(node) if isinstance(node, Directory) else view.attributes(node)
    if shown is None:
        raise _error(errno.ESTALE)
    return shown


async def sized(drive: Drive, export: Export) -> Attributes:
    """Return the attributes of a generated file, which is made for that unless it is an archive."""
    view = drive.view
    return view.export_attributes(export, await drive.generated.size(export))


async def sized_entry(drive: Drive, identity: Identity, directory: Directory, view: View, entry: Entry) -> Entry:
    """Return the entry of a generated file with its size; with the size -1 if that cannot be known."""
    export = view.lookup(directory, entry.name)
    size = -1
    if isinstance(export, Export) and drive.may_read(identity, export):
        try:
            size = await drive.generated.size(export)
        except OSError:
            size = -1
    return entry._replace(size=size)


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
