"""A null file system: the floor for any daemon on pyfuse3, and so for omidbfs.

    python nullfs.py LIKE MOUNTPOINT [stock]

It has one flat directory with the names of the directory LIKE. All files have the same bytes and attributes,
except for the inode and one of two sizes. Every handler does the least that the kernel accepts. It waits for
requests with the loop of omidbfs; with ``stock``, with that of pyfuse3.
"""

import errno
import gc
import os
import signal
import sys

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileInfo, FUSEError, ReaddirToken, RequestContext

from omidbfs.fuse import loop

SMALL, LARGE = 10_000, 27_000_000
_FIRST_INODE = 2


class NullFileSystem(pyfuse3.Operations):  # type: ignore[misc]
    """``names`` are the names of the files. The first ``large`` files have ``LARGE`` bytes."""

    enable_writeback_cache = False

    def __init__(self, names: list[bytes], large: int) -> None:
        super().__init__()
        self._names = names
        self._large = large
        self._numbers = {name: number for number, name in enumerate(names)}
        self._small_file, self._large_file = _attributes(0o100444, SMALL), _attributes(0o100444, LARGE)
        self._content = memoryview(bytes(LARGE))

    async def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        """Find a name."""
        number = self._numbers.get(name)
        if number is None:
            raise FUSEError(errno.ENOENT)
        return self._known(number)

    async def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        """Return attributes."""
        if inode != pyfuse3.ROOT_INODE:
            return self._known(inode - _FIRST_INODE)
        attributes = _attributes(0o040555, 0)
        attributes.st_ino = inode
        return attributes

    def _known(self, number: int) -> EntryAttributes:
        # The kernel gets a copy of each answer before the next request, so one object is enough.
        attributes = self._large_file if number < self._large else self._small_file
        attributes.st_ino = number + _FIRST_INODE
        return attributes

    async def forget(self, inode_list: object) -> None:
        """Keep no count."""

    async def opendir(self, inode: int, ctx: RequestContext) -> int:
        """Open the only directory."""
        return 0

    async def readdir(self, fh: int, start_id: int, token: ReaddirToken) -> None:
        """Answer as many entries as fit."""
        for number in range(start_id, len(self._names)):
            if not pyfuse3.readdir_reply(token, self._names[number], self._known(number), number + 1):
                return

    async def releasedir(self, fh: int) -> None:
        """Close it."""

    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        """Open a file: its handle is its inode."""
        return FileInfo(fh=inode, keep_cache=True)

    async def read(self, fh: int, off: int, size: int) -> bytes:
        """Answer zeros, without a copy."""
        end = LARGE if fh - _FIRST_INODE < self._large else SMALL
        return self._content[off : min(off + size, end)]  # type: ignore[return-value]

    async def release(self, fh: int) -> None:
        """Close a file."""


def _attributes(mode: int, size: int) -> EntryAttributes:
    attributes = EntryAttributes()
    attributes.entry_timeout = attributes.attr_timeout = 86_400
    attributes.st_mode, attributes.st_size, attributes.st_blocks = mode, size, (size + 511) >> 9
    attributes.st_mtime_ns = attributes.st_ctime_ns = attributes.st_atime_ns = 1_600_000_000_123_456_789
    return attributes


async def _serve() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_end_on_signal)
        await pyfuse3.main(max_tasks=64)
        nursery.cancel_scope.cancel()


async def _end_on_signal() -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            pyfuse3.terminate()


def main(like: str, mountpoint: str, *options: str) -> None:
    """Mount, and answer until unmounted."""
    with os.scandir(os.fsencode(like)) as entries:
        sizes = sorted(((entry.stat().st_size, entry.name) for entry in entries), reverse=True)
    names = [name for _, name in sizes]
    operations = NullFileSystem(names, sum(size >= LARGE for size, _ in sizes))
    pyfuse3.init(operations, mountpoint, {"ro", "default_permissions", "fsname=nullfs", "subtype=nullfs"})
    if "stock" not in options:
        loop.install()
    gc.collect()
    gc.freeze()
    try:
        trio.run(_serve)
    finally:
        pyfuse3.close(unmount=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
