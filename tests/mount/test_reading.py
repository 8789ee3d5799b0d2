"""How a drive reads files: it reads ahead, uses the page cache at once, and else reads in threads."""

import ctypes
import errno
import mmap
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from drives import Drives
from test_faults import as_root
from trees import Tree, build_index

from omidbfs.database.file_kinds import DCM
from omidbfs.database.layout import find_source
from omidbfs.database.permissions import TreeReader
from omidbfs.fuse.mounts import mount_at
from omidbfs.index.classification import Classification
from omidbfs.serving.disks import Disks, Threads
from omidbfs.serving.reader import OpenFile, Reader
from omidbfs.view.ownership import drive_access
from omidbfs.view.view import View

SIZE = 16 << 20
CONTENT = random.Random(1).randbytes(1 << 20) * 16
STEP = 128 << 10
WINDOW = 4 << 20

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A database of one image."""
    tree = Tree(tmp_path / "db")
    tree.client().study().image("1.1.1", dcm=CONTENT)
    return tree


def forgotten(path: Path) -> None:
    """Remove a file from the page cache."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
    if cached(path, 0, SIZE):
        pytest.skip("the disk of temporary files is memory")


def cached(path: Path, start: int, length: int) -> int:
    """Return the number of bytes of a part of a file in the page cache."""
    descriptor = os.open(path, os.O_RDONLY)
    address = ctypes.c_void_p(_libc.mmap(None, length, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, start))
    os.close(descriptor)
    pages = (ctypes.c_ubyte * (length // mmap.PAGESIZE))()
    assert _libc.mincore(address, length, pages) == 0
    _libc.munmap(address, length)
    return mmap.PAGESIZE * sum(page & 1 for page in pages)


class Opened:
    """A file that the drive has opened, without a mount."""

    def __init__(self, tree: Tree, readahead: int) -> None:
        source = find_source(tree.root)
        view = View(build_index(source, Classification()), drive_access(source), {})
        self.disks = Disks(readahead)
        self.reader = Reader(source, self.disks)
        self._files, self._inode = view.files, view.files.image(0, DCM)

    async def file(self) -> OpenFile:
        """Open it."""
        assert self._inode is not None
        return await self.reader.open(self._files, self._inode)

    async def read(self, file: OpenFile, offset: int, size: int) -> bytes:
        """Read from it."""
        return bytes(await self.reader.read(file, offset, size))


@pytest.mark.parametrize("readahead", [WINDOW, 0])
def test_a_file_that_is_read_in_order_is_read_ahead(tree: Tree, readahead: int) -> None:
    path = tree.images / "demd1/1.1/1.1.1.dcm"
    opened = Opened(tree, readahead)

    async def main() -> None:
        file = await opened.file()
        forgotten(path)
        os.posix_fadvise(
            file.descriptor, 0, 0, os.POSIX_FADV_RANDOM
        )  # so that the kernel does not do it by itself
        for offset in range(0, 8 * STEP, STEP):
            assert await opened.read(file, offset, STEP) == CONTENT[offset : offset + STEP]
        ahead = cached(path, 8 * STEP, WINDOW // 2 - STEP)
        assert ahead == (WINDOW // 2 - STEP if readahead else 0)
        await opened.reader.close(file)

    trio.run(main)


def test_a_file_that_is_read_at_random_is_not_read_ahead(tree: Tree) -> None:
    path = tree.images / "demd1/1.1/1.1.1.dcm"
    opened = Opened(tree, 1 << 20)

    async def main() -> None:
        file = await opened.file()
        forgotten(path)
        os.posix_fadvise(file.descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        for offset in (0, 12 << 20, 4 << 20, 8 << 20, 14 << 20, 2 << 20):
            assert await opened.read(file, offset, 4096) == CONTENT[offset : offset + 4096]
        assert cached(path, 0, SIZE) <= 6 * STEP
        await opened.reader.close(file)

    trio.run(main)


def test_every_part_of_a_file_is_right_in_any_order_and_for_any_reader(tree: Tree) -> None:
    opened = Opened(tree, WINDOW)
    chance = random.Random(2)

    async def main() -> None:
        file = await opened.file()

        async def part(offset: int, size: int) -> None:
            assert await opened.read(file, offset, size) == CONTENT[offset : offset + size]

        forgotten(tree.images / "demd1/1.1/1.1.1.dcm")
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(part, chance.randrange(SIZE + 10), chance.randrange(1 << 20))
            for offset in range(0, SIZE, STEP):
                nursery.start_soon(part, offset, STEP)
        assert await opened.read(file, SIZE, 10) == b""
        await opened.reader.close(file)
        assert opened.disks.open_files == 0

    trio.run(main)


@as_root
@pytest.mark.parametrize(("options", "expected"), [((), 1024), (("--readahead", "4096000"), 4000)])
def test_as_root_the_kernel_reads_as_far_ahead_as_it_is_told(
    drive: Drives, tree: Tree, options: tuple[str, ...], expected: int
) -> None:
    mounted = mount_at(str(drive(tree.root, *options)))
    assert mounted is not None
    assert int(Path("/sys/class/bdi", mounted.device, "read_ahead_kb").read_text()) == expected


@as_root
def test_the_kernel_s_read_ahead_can_be_left_as_it_is(drive: Drives, tree: Tree) -> None:
    mount = drive(tree.root, "--readahead", "0")
    mounted = mount_at(str(mount))
    assert mounted is not None
    assert int(Path("/sys/class/bdi", mounted.device, "read_ahead_kb").read_text()) == 128
    assert (mount / "all/1.1.1.dcm").read_bytes() == CONTENT


def test_a_small_file_that_a_thread_must_open_is_read_by_the_same_thread(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tree.images / "demd1/1.1/1.1.1.dcm"
    path.write_bytes(CONTENT[:10_000])
    opened, calls, run = Opened(tree, WINDOW), list[str](), Threads.run

    async def counted(self: Threads, file: int, call: Callable[..., Any], *arguments: Any) -> Any:
        calls.append(call.__name__)
        return await run(self, file, call, *arguments)

    monkeypatch.setattr(Threads, "run", counted)
    monkeypatch.setattr(TreeReader, "open_at_once", lambda *_: None)  # as if its name were not in the cache

    async def main() -> None:
        forgotten(path)
        file = await opened.file()
        assert opened.reader.read_at_once(file, 0, STEP) == CONTENT[:10_000]
        path.write_bytes(CONTENT[1:10_001])
        os.utime(path, (5, 5))
        with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
            opened.reader.read_at_once(file, 0, STEP)
        await opened.reader.close(file)

    trio.run(main)
    assert calls == ["_open_in"]


def test_a_large_file_is_not_read_when_it_is_opened(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    path, opened = tree.images / "demd1/1.1/1.1.1.dcm", Opened(tree, WINDOW)
    monkeypatch.setattr(TreeReader, "open_at_once", lambda *_: None)

    async def main() -> None:
        forgotten(path)
        file = await opened.file()
        assert opened.reader.read_at_once(file, 0, STEP) is None, "a thread has to read it"
        assert cached(path, 0, SIZE) <= WINDOW
        await opened.reader.close(file)

    trio.run(main)
