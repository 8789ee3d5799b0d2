"""A disk that fails on demand: a pass-through file system that reads the faults from its control file.

    python faulty.py BELOW MOUNTPOINT CONTROL

CONTROL is a JSON list of rules, looked at again for every request, and so to be replaced, not rewritten:

    {"on": "read", "name": "*.dcm", "errno": 5}       fails
    {"on": "open", "name": "1.1.1.dcm"}               hangs until the rule is gone
    {"on": "read", "name": "*", "seconds": 0.005}     takes its time
    {..., "direct": true}                             and is not read ahead, nor kept in memory

``on`` is ``read``, ``open``, ``getattr`` (with lookups) or ``readdir``. The kernel keeps nothing but the contents
of files that are open.
"""

import errno
import fnmatch
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileInfo, FUSEError, ReaddirToken, RequestContext


class FaultyFileSystem(pyfuse3.Operations):  # type: ignore[misc]
    """The tree ``below``, with faults."""

    enable_writeback_cache = False

    def __init__(self, below: str, control: Path) -> None:
        super().__init__()
        self._paths = {pyfuse3.ROOT_INODE: os.fsencode(below)}
        self._inodes = {os.fsencode(below): pyfuse3.ROOT_INODE}
        self._control = control
        self._rules: list[dict[str, Any]] = []
        self._seen = (0, 0)

    def _matching(self, on: str, path: bytes) -> list[dict[str, Any]]:
        found = self._control.stat()
        seen = (found.st_ino, found.st_mtime_ns)
        if seen != self._seen:
            self._seen, self._rules = seen, json.loads(self._control.read_text(encoding="utf-8"))
        name = os.fsdecode(os.path.basename(path))
        return [rule for rule in self._rules if rule["on"] == on and fnmatch.fnmatch(name, rule["name"])]

    async def _fault(self, on: str, path: bytes) -> None:
        while True:
            rules = self._matching(on, path)
            if not rules:
                return
            if "errno" in rules[0]:
                raise FUSEError(rules[0]["errno"])
            if "seconds" in rules[0]:
                await trio.sleep(rules[0]["seconds"])
                return
            await trio.sleep(0.02)  # hangs

    async def _attributes(self, path: bytes) -> EntryAttributes:
        await self._fault("getattr", path)
        try:
            found = os.lstat(path)
        except OSError as error:
            raise FUSEError(error.errno or errno.EIO) from None
        attributes = EntryAttributes()
        attributes.entry_timeout = attributes.attr_timeout = 0
        attributes.st_ino = self._inodes.setdefault(path, len(self._inodes) + 1)
        self._paths[attributes.st_ino] = path
        for field in ("st_mode", "st_nlink", "st_uid", "st_gid", "st_size", "st_blocks", "st_mtime_ns"):
            setattr(attributes, field, getattr(found, field))
        return attributes

    async def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        """Find a name."""
        return await self._attributes(self._paths[parent_inode] + b"/" + name)

    async def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        """Return attributes."""
        return await self._attributes(self._paths[inode])

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        """Forget nothing."""

    async def opendir(self, inode: int, ctx: RequestContext) -> int:
        """Open a directory."""
        return inode

    async def readdir(self, fh: int, start_id: int, token: ReaddirToken) -> None:
        """List a directory."""
        path = self._paths[fh]
        await self._fault("readdir", path)
        for number, name in enumerate(sorted(os.listdir(path))[start_id:], start_id + 1):
            attributes = await self._attributes(path + b"/" + name)
            if not pyfuse3.readdir_reply(token, name, attributes, number):
                return

    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        """Open a file."""
        await self._fault("open", self._paths[inode])
        try:
            direct = any(rule.get("direct") for rule in self._matching("read", self._paths[inode]))
            return FileInfo(fh=os.open(self._paths[inode], os.O_RDONLY), direct_io=direct)
        except OSError as error:
            raise FUSEError(error.errno or errno.EIO) from None

    async def read(self, fh: int, off: int, size: int) -> bytes:
        """Read from a file."""
        await self._fault("read", os.readlink(b"/proc/self/fd/%d" % fh))
        return os.pread(fh, size, off)

    async def release(self, fh: int) -> None:
        """Close a file."""
        os.close(fh)


async def _serve() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_end_on_signal, nursery)
        await pyfuse3.main(max_tasks=2000)
        nursery.cancel_scope.cancel()


async def _end_on_signal(nursery: trio.Nursery) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            pyfuse3.terminate()
            nursery.cancel_scope.cancel()


def main(below: str, mountpoint: str, control: str) -> None:
    """Mount, and answer until unmounted."""
    options = {"ro", "default_permissions", "fsname=faulty", "subtype=faulty"}
    pyfuse3.init(FaultyFileSystem(os.path.abspath(below), Path(control)), mountpoint, options)
    try:
        trio.run(_serve)
    finally:
        pyfuse3.close(unmount=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
