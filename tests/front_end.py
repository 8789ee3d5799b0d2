"""A minimal front end of a drive, neither FUSE nor HTTP. It shows what a front end must do.

Used by tests, in the loop of the drive.
"""

import errno
import itertools
import os
from collections import deque
from collections.abc import AsyncIterator, Iterator

from omidbfs.serving.changes import Changes
from omidbfs.serving.drive import Drive
from omidbfs.serving.rights import Identity
from omidbfs.view.inode import directory_inode, parent_inode
from omidbfs.view.nodes import Directory, Entry, Export
from omidbfs.view.view import View

ROOT = Identity(0, 0)
_PAGE = 500


class FrontEnd:
    """Reads files by path for one identity. It keeps names of files until the drive tells it to forget them."""

    def __init__(self, drive: Drive, identity: Identity = ROOT) -> None:
        self.drive = drive
        self.identity = identity
        self.kept: dict[bytes, dict[bytes, int]] = {}
        self.told: deque[tuple[list[tuple[int, bytes]], list[int]]] = deque(maxlen=10)
        self.refreshes = 0
        drive.observers.add(self)

    def find(self, path: bytes) -> Directory | Export | int:
        """Return the node at a path. Raise the errors of a kernel."""
        node: Directory | Export | int | None = self.drive.view.root
        for name in path.split(b"/") if path else ():
            if not isinstance(node, Directory):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            if not self.drive.may_search(self.identity, node):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            place = node
            kept = self.kept.setdefault(place.path, {})
            node = kept.get(name) or self.drive.view.lookup(place, name)
            if isinstance(node, int):
                kept[name] = node
        if node is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return node

    def readable(self, path: bytes) -> Directory | Export | int:
        """Return the node at a path, if it may be read."""
        node = self.find(path)
        if not self.drive.may_read(self.identity, node):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return node

    async def entries(self, path: bytes) -> list[Entry]:
        """Return the entries of a directory."""
        directory = self.readable(path)
        assert isinstance(directory, Directory)
        listing = await self.drive.listing(directory)
        starts = range(0, listing.length, _PAGE)
        return [entry for start in starts for entry in listing.page(start, _PAGE)]

    async def walk(self, path: bytes = b"") -> AsyncIterator[tuple[bytes, Entry]]:
        """Yield the path and the entry of every file that is listed below a directory."""
        for entry in await self.entries(path):
            below = path + b"/" + entry.name if path else entry.name
            if entry.directory is None:
                yield below, entry
            else:
                async for found in self.walk(below):
                    yield found

    async def read(self, path: bytes) -> bytes:
        """Return the content of a file. Look it up again if it was replaced meanwhile."""
        try:
            return await self._content(path)
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            return await self._content(path)

    async def _content(self, path: bytes) -> bytes:
        node = self.readable(path)
        assert not isinstance(node, Directory)
        file = await self.drive.open(node)
        try:
            content = bytearray()
            while part := bytes(await self.drive.read(file, len(content), 1 << 20)):
                content += part
            return bytes(content)
        finally:
            await self.drive.close_file(file)

    # What the drive tells it

    def paths(self) -> list[bytes]:
        """Return the directories whose names it keeps."""
        return [path for path in self.kept if path]

    def directories(self, view: View) -> Iterator[Directory]:
        """Return the same directories in a view."""
        return (found for path in self.paths() if (found := view.resolve(path)) is not None)

    async def tell(self, found: Changes) -> bool:
        """Forget names and everything below them."""
        entries, attributes = list(found.entries), list(found.attributes)
        gone = set(entries)
        for path, names in [*self.kept.items()]:
            above = itertools.accumulate(path.split(b"/"), lambda one, other: one + b"/" + other)
            if any((parent_inode(place), place.rpartition(b"/")[2]) in gone for place in above):
                del self.kept[path]
            else:
                inode = directory_inode(path)
                self.kept[path] = {name: node for name, node in names.items() if (inode, name) not in gone}
        self.told.append((entries, attributes))
        return True

    async def settle(self) -> None:
        """Count the refreshes."""
        self.refreshes += 1
