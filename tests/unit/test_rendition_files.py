"""Renditions on a drive are made when they are opened, once for all who ask, and kept in the spool."""

import errno
import gc
import os
import resource
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path

import numpy as np
import pytest
import trio
from front_end import FrontEnd
from hostile_worker import COMMAND, HEADER, START
from trees import PIXELS, Tree, build_index

from omidbfs.database.layout import find_source
from omidbfs.index.classification import Classification
from omidbfs.pixels import apart
from omidbfs.serving import renditions as renditions_module
from omidbfs.serving.drive import Drive
from omidbfs.serving.reader import Reader
from omidbfs.serving.renditions import OpenRendition
from omidbfs.serving.spool import Content, Spool
from omidbfs.serving.workers import Workers
from omidbfs.view.file_keys import FileKeys
from omidbfs.view.inode import source_key
from omidbfs.view.nodes import Directory
from omidbfs.view.ownership import drive_access
from omidbfs.view.view import View

WORDS = (
    *("fine", "slow", "once", "direct", "short", "long", "outside"),
    *("abort", "spin", "allocate", "undecodable", "lies", "defect", "taller", "deeper"),
)


def path_of(word: str, rendition: str = "png") -> bytes:
    suffix = {"png16": "png"}.get(rendition, rendition)
    return f"as-{rendition}/all/1.{WORDS.index(word)}.{suffix}".encode()


def content_of(word: str) -> bytes:
    line = {"taller": "contradicts 108 80 1", "deeper": "contradicts 104 80 7"}.get(word, f"{word} first")
    return f"{line}\n".encode().ljust(START) + os.urandom(40_000)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A database whose DICOM files each say what becomes of their renditions."""
    tree = Tree(tmp_path / "db")
    study = tree.client("demd1").study("1.1")
    for number, word in enumerate(WORDS):
        study.image(f"1.{number}", dcm=content_of(word), ViewPosition="CC", **PIXELS)
    return tree


@pytest.fixture
def source_of(tree: Tree) -> Callable[[str], Path]:
    """The DICOM file that a word stands for."""
    return lambda word: tree.images / "demd1" / "1.1" / f"1.{WORDS.index(word)}.dcm"


def view_of(tree: Tree) -> View:
    source = find_source(tree.root)
    return View(build_index(source, Classification()), drive_access(source), {"README.txt": b""})


@pytest.fixture
def made_drive(tree: Tree, tmp_path: Path) -> Iterator[Callable[..., Drive]]:
    """A function that makes a drive with a spool and workers of its own."""
    drives = []

    def make(**options: int) -> Drive:
        spool = Spool((tmp_path / "spool",), **{"memory": 0, **options})  # type: ignore[arg-type]
        drive = Drive(view_of(tree), find_source(tree.root), spool=spool, workers=Workers(2, COMMAND))
        drives.append(drive)
        return drive

    gc.collect()  # what other tests left behind may have descriptors
    before = len(os.listdir("/proc/self/fd"))
    yield make
    for drive in drives:
        drive.close()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def drive(made_drive: Callable[..., Drive]) -> Drive:
    """A drive over the database."""
    return made_drive()


async def size_and_content(drive: Drive, path: bytes) -> tuple[int, bytes]:
    """Return what attributes say of the size, and the content in pieces of all lengths."""
    front_end = FrontEnd(drive)
    node = front_end.readable(path)
    assert isinstance(node, int)
    attributes = drive.view.attributes(node)
    assert attributes is not None
    file = await drive.open(node)
    assert isinstance(file, OpenRendition)
    assert file.facts.size == attributes.size
    content = b""
    while part := bytes(await drive.read(file, len(content), 1 + len(content) * 3)):
        content += part
    assert bytes(await drive.read(file, 0, 1 << 20)) == content
    assert bytes(await drive.read(file, len(content), 10)) == b""
    await drive.close_file(file)
    return attributes.size, content


def test_a_rendition_has_the_size_that_was_stated(drive: Drive) -> None:
    async def scenario() -> None:
        for rendition in ("png", "png16", "npy", "tiff"):
            size, content = await size_and_content(drive, path_of("fine", rendition))
            assert len(content) == size
            assert content.rstrip(b".") == f"fine first {rendition} 104 None".encode()
        assert drive.counters.shown()["renditions"] == {"made": 4, "failed": {}}

    trio.run(scenario)


def test_a_rendition_is_made_once_and_kept(drive: Drive) -> None:
    contents = []

    async def one() -> None:
        contents.append((await size_and_content(drive, path_of("slow")))[1])

    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(one)
        await one()

    trio.run(scenario)
    assert len(contents) == 21
    assert len(set(contents)) == 1
    assert drive.counters.renditions == 1


def test_looking_up_and_listing_makes_nothing(drive: Drive) -> None:
    async def scenario() -> None:
        front_end = FrontEnd(drive)
        entries = await front_end.entries(b"as-png/all")
        assert len(entries) == len(WORDS)
        for entry in entries:
            assert front_end.find(b"as-png/all/" + entry.name) == entry.inode
        assert drive.counters.renditions == 0

    trio.run(scenario)


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("short", "the size is not the stated one"),
        ("long", "the size is not the stated one"),
        ("outside", "the size is not the stated one"),
        ("abort", "the decoder crashed"),
        ("spin", "the decoder takes too long"),
        ("allocate", "more memory is needed than allowed"),
        ("undecodable", "no pixel data"),
        ("lies", "another problem"),
        ("defect", "a defect, KeyError"),
        ("deeper", "the file contradicts the index"),
    ],
)
def test_what_cannot_be_made_is_eio_and_counted(
    drive: Drive,
    word: str,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
    expect_warning: Callable[[str], None],
    source_of: Callable[[str], Path],
) -> None:
    monkeypatch.setattr(apart, "PATIENCE", 1 if word == "spin" else 60)
    expect_warning("a rendition could not be made")
    path = path_of(word, "npy" if word == "outside" else "png")  # only bytes of the file can be outside of it

    async def scenario() -> None:
        for _ in range(3):  # the second and third are answered without another attempt
            with pytest.raises(OSError, match=os.strerror(errno.EIO)):
                await size_and_content(drive, path)
        assert drive.counters.shown()["renditions"] == {"made": 0, "failed": {kind: 1}}
        monkeypatch.setattr(apart, "PATIENCE", 60)
        await size_and_content(drive, path_of("fine"))
        # Another state of the file is judged anew.
        seen = source_of(word).stat()
        source_of(word).write_bytes(b"fine\n".ljust(seen.st_size))
        os.utime(source_of(word), ns=(seen.st_mtime_ns, seen.st_mtime_ns))
        await size_and_content(drive, path)

    trio.run(scenario)
    assert drive.disks.open_files == 0


def test_a_rendition_that_is_the_files_own_bytes_is_not_kept(
    drive: Drive, source_of: Callable[[str], Path], tmp_path: Path
) -> None:
    async def scenario() -> None:
        for _ in range(2):
            size, content = await size_and_content(drive, path_of("direct", "npy"))
            own = source_of("direct").read_bytes()[START:]
            assert content == (HEADER + own)[:size]
        assert drive.counters.renditions == 1

    trio.run(scenario)


def test_of_headers_few_bytes_are_remembered(drive: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renditions_module, "_MOST_DIRECT", 1024 + len(HEADER))
    paths = [path_of("direct", rendition) for rendition in ("npy", "tiff")]

    async def scenario() -> None:
        for path, made in ((paths[0], 1), (paths[0], 1), (paths[1], 2), (paths[1], 2), (paths[0], 3)):
            await size_and_content(drive, path)
            assert drive.counters.renditions == made

    trio.run(scenario)


def test_the_file_changed_since_it_was_indexed(drive: Drive, source_of: Callable[[str], Path]) -> None:
    async def scenario() -> None:
        front_end = FrontEnd(drive)
        path = path_of("fine")
        before = await front_end.read(path)
        node = front_end.find(path)
        assert isinstance(node, int)
        held = await drive.open(node)
        new = source_of("fine").with_name("new")
        new.write_bytes(b"fine second\n".ljust(50_000))
        new.rename(source_of("fine"))
        assert bytes(await drive.read(held, 0, 1 << 20)) == before, "an open handle goes on with its bytes"
        with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
            await drive.open(node)
        again = drive.view.lookup(front_end.find(b"as-png/all"), path.rpartition(b"/")[2])  # type: ignore[arg-type]
        assert again not in (None, node)
        assert (await size_and_content(drive, path))[1].startswith(b"fine second")
        await drive.close_file(held)

    trio.run(scenario)


@pytest.mark.parametrize("memory", [0, 1 << 30])
@pytest.mark.parametrize("word", ["fine", "direct"])
@pytest.mark.parametrize("change", ["none", "rights", "pixels", "replaced", "header", "other size", "gone"])
def test_an_open_rendition_in_doubt_is_compared_with_its_file(
    made_drive: Callable[..., Drive], source_of: Callable[[str], Path], word: str, change: str, memory: int
) -> None:
    drive, source = made_drive(memory=memory), source_of(word)

    async def read(file: OpenRendition) -> bytes:
        assert drive.read_at_once(file, 0, 1 << 20) is None, "comparing may wait"
        return bytes(await drive.read(file, 0, 1 << 20))

    async def scenario() -> None:
        node = FrontEnd(drive).find(path_of(word, "npy"))
        assert isinstance(node, int)
        file = await drive.open(node)
        assert isinstance(file, OpenRendition)
        before = bytes(await drive.read(file, 0, 1 << 20))
        seen, content = source.stat(), source.read_bytes()
        if change == "rights":
            source.chmod(0o600)
        elif change == "pixels":
            source.write_bytes(content[:START].replace(b"first", b"third") + os.urandom(len(content) - START))
        elif change == "replaced":
            source.with_name("new").write_bytes(content.replace(b"first", b"third"))
            source.with_name("new").rename(source)
        elif change == "header":
            source.write_bytes(b"fine third".ljust(START) + content[START:])
        elif change == "other size":
            source.write_bytes(content + b"more")
        elif change == "gone":
            source.unlink()
        if change != "gone":
            os.utime(source, ns=(seen.st_atime_ns, seen.st_mtime_ns))
        keys = FileKeys()
        keys.add(np.array([source_key(node)], np.uint64))
        drive.doubt(keys)
        is_direct = word == "direct"
        if change in ("none", "rights") or (change == "other size" and not is_direct):
            assert await read(file) == before
        elif change == "pixels" and is_direct:
            assert await read(file) == (HEADER + source.read_bytes()[START:])[: len(before)]
        else:
            for _ in range(2):
                with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
                    await read(file)
        await drive.close_file(file)

    trio.run(scenario)
    assert drive.disks.open_files == 0


def test_a_file_that_contradicts_the_index(made_drive: Callable[..., Drive], tree: Tree) -> None:
    drive = made_drive()

    async def scenario() -> None:
        front_end = FrontEnd(drive)
        directory = front_end.find(b"as-png/all")
        assert isinstance(directory, Directory)
        name = path_of("taller").rpartition(b"/")[2]
        node, other = front_end.find(path_of("taller")), front_end.find(path_of("taller", "npy"))
        assert isinstance(node, int)
        assert isinstance(other, int)
        stated = drive.view.attributes(node)
        assert stated is not None
        with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
            await drive.open(node)
        assert (directory.inode, name) in front_end.told[-1][0]
        for _ in range(2):
            size, content = await size_and_content(drive, path_of("taller"))
            assert size == len(content) == stated.size + 4 * 81
            assert b" png 108 " in content
            # Every other rendition of the image has the right size, too.
            with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
                await drive.open(other)
            await size_and_content(drive, path_of("taller", "npy"))
            entries = {entry.name: entry for entry in await front_end.entries(b"as-png/all")}
            assert entries[name].attributes == drive.view.attributes(front_end.find(path_of("taller")))  # type: ignore[arg-type]
            # A refresh keeps what was learned.
            view = view_of(tree)
            await drive.take_over(view, Reader(find_source(tree.root), drive.disks), {})
        assert drive.counters.renditions == 2

    trio.run(scenario)


def test_a_file_by_which_its_image_would_lose_a_rendition_is_eio(drive: Drive) -> None:
    """It has several frames: a ``tiff`` of another size, and no ``png``, which directories list nevertheless."""

    async def scenario() -> None:
        front_end = FrontEnd(drive)
        shown = {rendition: front_end.find(path_of("deeper", rendition)) for rendition in ("png", "tiff")}
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            await size_and_content(drive, path_of("deeper", "tiff"))
        assert shown == {rendition: front_end.find(path_of("deeper", rendition)) for rendition in shown}
        assert drive.view.attributes(shown["png"]) is not None  # type: ignore[arg-type]

    trio.run(scenario)


def test_a_file_that_is_written_to_while_its_rendition_is_made(
    drive: Drive, source_of: Callable[[str], Path]
) -> None:
    async def scenario() -> None:
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
                    await size_and_content(drive, path_of("slow"))

            nursery.start_soon(ask)
            await trio.sleep(0.3)
            with open(source_of("slow"), "ab") as file:
                file.write(b"more")
        assert drive.counters.renditions == 0

    trio.run(scenario)


@pytest.mark.parametrize("memory", [0, 8 << 20])
def test_the_spool_is_bounded(made_drive: Callable[..., Drive], memory: int) -> None:
    drive = made_drive(limit=20_000, memory=memory)

    async def scenario() -> None:
        for _ in range(2):
            for rendition in ("png", "png16"):
                await size_and_content(drive, path_of("fine", rendition))

    trio.run(scenario)
    assert drive.counters.renditions == (4 if memory == 0 else 2)


def test_without_room_opening_fails_and_all_else_goes_on(
    made_drive: Callable[..., Drive], monkeypatch: pytest.MonkeyPatch, expect_warning: Callable[[str], None]
) -> None:
    drive = made_drive()
    real = Spool.new_file

    def full(spool: Spool) -> int:
        os.close(real(spool))
        return os.open("/dev/full", os.O_RDWR)

    async def scenario() -> None:
        await size_and_content(drive, path_of("once"))
        with monkeypatch.context() as patched:
            patched.setattr(Spool, "new_file", full)
            with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
                await size_and_content(drive, path_of("fine"))
        await size_and_content(drive, path_of("fine"))
        await size_and_content(drive, path_of("once"))  # what was kept was dropped, and is made again
        assert drive.counters.renditions == 3

    expect_warning("the disk of the spool is full")
    trio.run(scenario)


def test_when_the_drive_ends_a_request_in_progress_ends(drive: Drive) -> None:
    async def scenario() -> None:
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                with pytest.raises(InterruptedError):
                    await size_and_content(drive, path_of("spin"))

            nursery.start_soon(ask)
            await trio.sleep(0.3)
            drive.stop()

    trio.run(scenario)


def test_who_gives_up_does_not_take_the_rendition_from_others(drive: Drive) -> None:
    contents = []

    async def one() -> None:
        contents.append((await size_and_content(drive, path_of("slow")))[1])

    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            with trio.move_on_after(0.3):
                async with trio.open_nursery() as first:
                    first.start_soon(one)
                    await trio.sleep(0.1)
                    nursery.start_soon(one)
                    await trio.sleep_forever()

    trio.run(scenario)
    assert len(contents) == 1


def test_at_the_limit_of_open_files_no_more_is_opened(drive: Drive, expect_warning: Callable[[str], None]) -> None:
    expect_warning("files are open, and no more can be")

    async def scenario() -> None:
        drive.disks.most_open_files = 1
        front_end = FrontEnd(drive)
        node = front_end.find(path_of("fine"))
        assert isinstance(node, int)
        file = await drive.open(node)
        with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
            await drive.open(node)
        await drive.close_file(file)
        await drive.close_file(await drive.open(node))
        assert drive.disks.open_files == 0

    trio.run(scenario)


def test_a_drive_leaves_descriptors_for_its_spool_and_workers(made_drive: Callable[..., Drive]) -> None:
    drive = made_drive(most_files=100)
    assert drive.disks.most_open_files == resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 64 - 100 - 4 * 3


def test_no_more_renditions_have_a_descriptor_than_workers_make(
    drive: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_file, keep = Spool.new_file, Spool.keep
    open_now, seen = [], []

    def made(spool: Spool) -> int:
        open_now.append(new_file(spool))
        seen.append(len(open_now))
        return open_now[-1]

    def kept(spool: Spool, key: Hashable, descriptor: int, size: int) -> Content | bytes:
        content = keep(spool, key, descriptor, size)
        open_now.remove(descriptor)
        return content

    async def one(rendition: str) -> None:
        await size_and_content(drive, path_of("slow", rendition))

    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            for rendition in ("png", "png16", "npy", "tiff"):
                nursery.start_soon(one, rendition)

    monkeypatch.setattr(Spool, "new_file", made)
    monkeypatch.setattr(Spool, "keep", kept)
    trio.run(scenario)
    assert len(seen) == 4
    assert max(seen) <= 4


def test_of_a_huge_file_only_the_begin_is_read_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sparse file of a terabyte would keep a thread for minutes, and no signal ends that."""
    with (tmp_path / "sparse").open("w+b") as file:
        file.truncate(1 << 40)
        read, preadv = list[int](), os.preadv
        monkeypatch.setattr(os, "preadv", lambda *given: (read.append(given[2]), preadv(*given))[1])
        monkeypatch.setattr(renditions_module, "_MOST_AHEAD", 8 << 20)
        renditions_module._read_whole(file.fileno())
    assert read == [number << 20 for number in range(8)]
