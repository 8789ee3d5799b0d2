"""A drive serves any front end: here a short one without FUSE."""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import trio
from front_end import ROOT, FrontEnd
from trees import Tree

from omidbfs.database.layout import find_source
from omidbfs.database.permissions import Access
from omidbfs.database.records import FileFacts
from omidbfs.exports.packing import packed
from omidbfs.serving.changes import Changes
from omidbfs.serving.drive import Drive
from omidbfs.serving.reader import OpenFile, Reader
from omidbfs.serving.refresh import Refresher, drive_of
from omidbfs.serving.rights import READ, SEARCH, Identity, permits
from omidbfs.serving.session import Session
from omidbfs.view.nodes import Directory, Export

USER, GROUP, OTHER = 4001, 4002, 4003


@contextmanager
def refreshed_drive(source: Path, index: Path, **options: object) -> Iterator[Refresher]:
    """Return the refresher of a drive over a source."""
    session = replace(Session(find_source(source), index, lambda: nullcontext(lambda *_: None)), **options)  # type: ignore[arg-type]
    stored, _ = session.opened(pytest.fail)
    drive = drive_of(session, stored)
    yield Refresher(drive, session, stored, ["index", str(source), "--index", str(index), "--json"])
    drive.close()


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A database of two clients, with three images."""
    tree = Tree(tmp_path / "db")
    tree.client("demd1").study("1.1").image("1.1.1", ViewPosition="CC").image("1.1.2", ViewPosition="CC")
    tree.client("demd2").study("2.1").image("2.1.1", ViewPosition="CC")
    return tree


@pytest.fixture
def refresher(tree: Tree, tmp_path: Path) -> Iterator[Refresher]:
    """The refresher of a drive over this database."""
    with refreshed_drive(tree.root, tmp_path / "index") as made:
        yield made


def test_a_front_end_needs_nothing_of_fuse() -> None:
    script = "import sys, front_end, omidbfs.serving.refresh; print(*sys.modules)"
    place = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=place
    ).stdout.split()
    assert "omidbfs.serving.drive" in loaded
    assert [name for name in loaded if name.startswith(("pyfuse3", "omidbfs.fuse", "click"))] == []


def test_another_front_end_walks_a_whole_drive_and_reads_every_file(demo_database: Path, tmp_path: Path) -> None:
    sources = {os.fsencode(path.name): path for path in demo_database.glob("*/*/**/*.*") if path.is_file()}

    async def walk(front_end: FrontEnd) -> int:
        contents: dict[int, bytes] = {}
        count = 0
        async for path, entry in front_end.walk():
            count += 1
            if entry.inode not in contents:
                contents[entry.inode] = await front_end.read(path)
            assert entry.size == len(contents[entry.inode])
            if entry.name in sources:
                assert contents[entry.inode] == sources[entry.name].read_bytes(), path
        assert len(contents) == len(sources) + 4, "and the texts of the drive"
        return count

    with refreshed_drive(demo_database, tmp_path / "index") as refresher:
        drive = refresher.drive
        assert trio.run(walk, FrontEnd(drive)) == drive.view.lists.listed_files() + 4
        assert drive.disks.open_files == 0
        counted = drive.counted()
        assert counted["open_files"] == 0
        assert counted["bytes_read"] == sum(path.stat().st_size for path in sources.values()) + sum(
            len(text) for name in drive.view.files.texts.names if (text := content_of(drive, name))
        )


def content_of(drive: Drive, name: bytes) -> bytes:
    inode = drive.view.files.texts.inode(name)
    assert inode is not None
    return bytes(drive.view.files.texts.content(inode) or b"")


def test_another_front_end_reads_generated_files(refresher: Refresher, tree: Tree) -> None:
    front_end, view = FrontEnd(refresher.drive), refresher.drive.view

    async def read() -> None:
        for entry in await front_end.entries(b"by-view/CC/.omidbfs"):
            path = b"by-view/CC/.omidbfs/" + entry.name
            export = front_end.find(path)
            assert isinstance(export, Export)
            content = await front_end.read(path)
            if export.is_archive:
                source = find_source(tree.root)
                assert content == b"".join(packed(view.archive(export), source))
            else:
                assert content == b"".join(view.content(export))
            assert await refresher.drive.generated.size(export) == len(content) > 0

    trio.run(read)


def test_another_front_end_survives_a_refresh_and_learns_what_has_changed(
    refresher: Refresher, tree: Tree
) -> None:
    drive, front_end = refresher.drive, FrontEnd(refresher.drive)
    names = [b"by-view/CC/" + name for name in (b"1.1.1.dcm", b"1.1.2.dcm", b"2.1.1.dcm")]
    replaced, removed = tree.images / "demd1/1.1/1.1.1.dcm", tree.images / "demd2"

    async def main() -> None:
        before = [await front_end.read(name) for name in names]
        place = front_end.find(b"by-view/CC")
        assert isinstance(place, Directory)
        inode, gone = (front_end.find(name) for name in (names[0], names[2]))
        assert isinstance(inode, int)
        assert isinstance(gone, int)
        old_table = front_end.find(b"all/.omidbfs/index.csv")
        handle = await drive.open(inode)
        # another file takes the place of the first, a client goes, and an image comes
        replaced.with_suffix(".new").write_bytes(b"another file, and a longer one than that")
        replaced.with_suffix(".new").rename(replaced)
        shutil.rmtree(removed)
        shutil.rmtree(tree.data / "demd2")
        tree.client("demd3").study("3.1").image("3.1.1", ViewPosition="CC")
        await refresher.refresh()
        assert refresher._error is None
        assert front_end.refreshes == 1
        entries = {entry for entries, _ in front_end.told for entry in entries}
        assert {(place.inode, b"1.1.1.dcm"), (place.inode, b"2.1.1.dcm")} <= entries
        assert (place.inode, b"1.1.2.dcm") not in entries
        assert any(inode in attributes for _, attributes in front_end.told)
        # new content
        assert await front_end.read(names[0]) == b"another file, and a longer one than that"
        assert await front_end.read(names[1]) == before[1]
        assert await front_end.read(b"by-view/CC/3.1.1.dcm")
        with pytest.raises(FileNotFoundError):
            await front_end.read(names[2])
        # old content
        assert bytes(await drive.read(handle, 0, 1 << 20)) == before[0]
        await drive.close_file(handle)
        assert isinstance(old_table, Export)
        for stale in (old_table, inode, gone):
            with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
                await drive.open(stale)
        with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
            await drive.generated.size(old_table)
        assert b"3.1.1.dcm" in await front_end.read(b"all/.omidbfs/index.csv")

    trio.run(main)


def test_another_front_end_learns_of_a_changed_file(refresher: Refresher, tree: Tree) -> None:
    front_end = FrontEnd(refresher.drive)
    path = tree.images / "demd1/1.1/1.1.1.dcm"

    async def main() -> None:
        assert await front_end.read(b"all/1.1.1.dcm") == path.read_bytes()
        place = front_end.find(b"all")
        assert isinstance(place, Directory)
        path.write_bytes(b"changed")
        assert await front_end.read(b"all/1.1.1.dcm") == b"changed", "the second lookup finds it"
        assert [entries for entries, _ in front_end.told] == [[(place.inode, b"1.1.1.dcm")]]

    trio.run(main)


class Broken(FrontEnd):
    """A front end with a defect while ``broken`` is set."""

    is_broken = True

    async def tell(self, found: Changes) -> bool:
        """Fail at everything but the status."""
        if self.is_broken and {name for _, name in found.entries} != {b"status.json"}:
            raise ZeroDivisionError
        return await super().tell(found)


def test_a_defect_of_one_front_end_does_not_affect_another(
    refresher: Refresher, tree: Tree, expect_warning: Callable[[str], None]
) -> None:
    expect_warning("the refresh failed and the drive goes on as it was|a changed file could not be reported")
    broken, sound = Broken(refresher.drive), FrontEnd(refresher.drive)

    async def main() -> None:
        for front_end in (broken, sound):
            await front_end.read(b"all/2.1.1.dcm")
        inode = sound.find(b"all/2.1.1.dcm")
        shutil.rmtree(tree.images / "demd2")
        await refresher.refresh()
        assert "a defect" in (refresher._error or "")
        assert [front_end.kept.get(b"all") for front_end in (broken, sound)] == [{b"2.1.1.dcm": inode}, {}]
        with pytest.raises(FileNotFoundError):
            await sound.read(b"all/2.1.1.dcm")
        broken.is_broken = False
        sound.told.clear()
        await refresher.refresh()
        assert refresher._error is None
        with pytest.raises(FileNotFoundError):
            await broken.read(b"all/2.1.1.dcm")
        assert refresher.drive.observers.know_all
        assert (1, b"all") not in {entry for entries, _ in sound.told for entry in entries}
        broken.is_broken = True
        assert await sound.read(b"all/1.1.1.dcm")
        (tree.images / "demd1/1.1/1.1.1.dcm").write_bytes(b"changed")
        assert await sound.read(b"all/1.1.1.dcm") == b"changed"
        assert not refresher.drive.observers.know_all
        broken.is_broken = False
        await refresher.refresh()
        assert refresher.drive.observers.know_all

    trio.run(main)


# Rights


@pytest.mark.parametrize(
    ("mode", "identity", "reads", "searches"),
    [
        (0o000, Identity(0, 0), True, True),
        (0o400, Identity(USER, OTHER), True, False),
        (0o500, Identity(USER, OTHER), True, True),
        (0o077, Identity(USER, GROUP), False, False),
        (0o050, Identity(OTHER, GROUP), True, True),
        (0o010, Identity(OTHER, OTHER, frozenset([GROUP])), False, True),
        (0o705, Identity(OTHER, GROUP), False, False),
        (0o705, Identity(OTHER, OTHER, frozenset([GROUP])), False, False),
        (0o705, Identity(OTHER, OTHER), True, True),
        (0o005, Identity(OTHER, OTHER, None), False, False),
        (0o054, Identity(OTHER, OTHER, None), True, False),
    ],
)
def test_only_the_first_class_of_a_mode_counts(mode: int, identity: Identity, reads: bool, searches: bool) -> None:
    access = Access(mode, USER, GROUP)
    assert (permits(access, identity, READ), permits(access, identity, SEARCH)) == (reads, searches)


def test_no_caller_can_read_a_stale_file(refresher: Refresher) -> None:
    drive = refresher.drive
    front_end = FrontEnd(drive)
    place, table, file = (front_end.find(path) for path in (b"all", b"all/.omidbfs/index.csv", b"all/1.1.1.dcm"))
    assert isinstance(place, Directory)
    assert isinstance(file, int)
    assert all(drive.may_read(ROOT, node) for node in (place, table, file))
    facts = drive.view.files.facts(file)
    assert facts is not None
    drive.view.files.update(file, FileFacts(facts.size + 1, *msgspec.structs.astuple(facts)[1:]))
    assert not drive.may_read(ROOT, file)
    drive.replace_view(refresher._session.view(refresher._stored), Reader(refresher._session.source, drive.disks))
    assert not drive.may_read(ROOT, place)
    assert not drive.may_search(ROOT, place)
    assert not drive.may_read(ROOT, table)
    assert drive.may_read(ROOT, file), "the index knows the first version again"


def test_a_file_that_the_disk_fails_to_close_is_closed_once(
    refresher: Refresher, monkeypatch: pytest.MonkeyPatch
) -> None:
    drive, close = refresher.drive, os.close

    def fail(descriptor: int) -> None:
        close(descriptor)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async def scenario() -> None:
        node = FrontEnd(drive).find(b"all/1.1.1.dcm")
        assert isinstance(node, int)
        file = await drive.open(node)
        assert isinstance(file, OpenFile)
        with monkeypatch.context() as patched:
            patched.setattr(os, "close", fail)
            with pytest.raises(OSError, match=os.strerror(errno.EIO)):
                await drive.close_file(file)
        other = os.open("/dev/null", os.O_RDONLY)
        assert other == file.descriptor
        drive.close()
        os.close(other)

    trio.run(scenario)
