"""A file system across a network: a pass-through on which each request takes its time, however many are under way.

    python distant.py BELOW MOUNTPOINT SECONDS

The requests lookup, getattr, opendir, readdir, open, read and release all take SECONDS. As with NFS, the kernel
may keep names and attributes for a second, a request for entries brings a page of names with their attributes, and
opening a file forgets its content. SIGUSR1 prints the number of requests so far, and the largest number that were
under way at once, as JSON, and starts to count anew.
"""

import errno
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileInfo, FUSEError, ReaddirToken, RequestContext


class DistantFileSystem(pyfuse3.Operations):  # type: ignore[misc]
    """The tree ``below``, so many ``seconds`` away."""

    enable_writeback_cache = False

    def __init__(self, below: str, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self._paths = {pyfuse3.ROOT_INODE: os.fsencode(below)}
        self._inodes = {os.fsencode(below): pyfuse3.ROOT_INODE}
        self._lists: dict[int, list[tuple[bytes, EntryAttributes]]] = {}
        self._next = 0
        self.requests = self.under_way = self.most = 0

    @asynccontextmanager
    async def _request(self) -> AsyncIterator[None]:
        self.requests += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await trio.sleep(self._seconds)
            yield
        except OSError as error:
            raise FUSEError(error.errno or errno.EIO) from None
        finally:
            self.under_way -= 1

    def _attributes(self, path: bytes) -> EntryAttributes:
        found = os.lstat(path)
        attributes = EntryAttributes()
        attributes.entry_timeout = attributes.attr_timeout = 1
        attributes.st_ino = self._inodes.setdefault(path, len(self._inodes) + 1)
        self._paths[attributes.st_ino] = path
        for field in (
            "st_mode",
            "st_nlink",
            "st_uid",
            "st_gid",
            "st_size",
            "st_blocks",
            "st_mtime_ns",
            "st_ctime_ns",
        ):
            setattr(attributes, field, getattr(found, field))
        return attributes

    async def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        """Find a name."""
        async with self._request():
            return self._attributes(self._paths[parent_inode] + b"/" + name)

    async def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        """Return attributes."""
        async with self._request():
            return self._attributes(self._paths[inode])

    async def readlink(self, inode: int, ctx: RequestContext) -> bytes:
        """Return the target of a symbolic link."""
        async with self._request():
            return os.readlink(self._paths[inode])

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        """Forget nothing."""

    async def opendir(self, inode: int, ctx: RequestContext) -> int:
        """Open a directory."""
        async with self._request():
            path = self._paths[inode]
            self._next += 1
            self._lists[self._next] = [
                (name, self._attributes(path + b"/" + name)) for name in sorted(os.listdir(path))
            ]
            return self._next

    async def readdir(self, fh: int, start_id: int, token: ReaddirToken) -> None:
        """List a directory."""
        async with self._request():
            for number, (name, attributes) in enumerate(self._lists[fh][start_id:], start_id + 1):
                if not pyfuse3.readdir_reply(token, name, attributes, number):
                    return

    async def releasedir(self, fh: int) -> None:
        """Close a directory."""
        async with self._request():
            del self._lists[fh]

    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        """Open a file."""
        async with self._request():
            return FileInfo(fh=os.open(self._paths[inode], os.O_RDONLY))

    async def read(self, fh: int, off: int, size: int) -> bytes:
        """Read from a file."""
        async with self._request():
            return os.pread(fh, size, off)

    async def release(self, fh: int) -> None:
        """Close a file."""
        async with self._request():
            os.close(fh)


async def _serve(system: DistantFileSystem) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_heed_signals, system, nursery)
        await pyfuse3.main(max_tasks=2000)
        nursery.cancel_scope.cancel()


async def _heed_signals(system: DistantFileSystem, nursery: trio.Nursery) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGUSR1) as signals:
        async for number in signals:
            if number == signal.SIGUSR1:
                print(json.dumps({"requests": system.requests, "most": system.most}), flush=True)
                system.requests = system.most = 0
                continue
            pyfuse3.terminate()
            nursery.cancel_scope.cancel()


def main(below: str, mountpoint: str, seconds: str) -> None:
    """Mount, and answer until unmounted."""
    options = {"ro", "default_permissions", "fsname=distant", "subtype=distant"}
    system = DistantFileSystem(os.path.abspath(below), float(seconds))
    pyfuse3.init(system, mountpoint, options)
    try:
        trio.run(_serve, system)
    finally:
        pyfuse3.close(unmount=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
