"""What no tool provokes at will: the handlers are called here as the kernel, or an NFS server, would call them."""

import errno
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from pyfuse3 import FUSEError
from pyroaring import BitMap64
from trees import Tree

from omidbfs.database.layout import find_source
from omidbfs.export.spool import Spool
from omidbfs.files import Files, file_key
from omidbfs.index.build import Classification, build_index
from omidbfs.mount import pages
from omidbfs.mount.changes import Changes
from omidbfs.mount.operations import Operations
from omidbfs.mount.reader import OpenFile, Reader
from omidbfs.nodes import Export
from omidbfs.view import ROOT_INODE, View, drive_access

CONTEXT: Any = None


@pytest.fixture
def operations(tmp_path: Path) -> Iterator[Operations]:
    """The handlers over a database of one image, which nothing is mounted of."""
    tree = Tree(tmp_path)
    tree.client().study().image("1.1.1", dcm=b"pixels", ViewPosition="CC")
    source = find_source(tree.root)
    view = View(build_index(source, Classification()), drive_access(source), {"README.txt": b"read me"})
    handlers = Operations(view, source, spool=Spool((tmp_path,)))
    yield handlers
    handlers.close()


def call(handler: Callable[..., Coroutine[Any, Any, Any]], *arguments: Any) -> Any:
    """Return the answer of a handler; the errno if it refuses."""

    async def answer() -> Any:
        try:
            return await handler(*arguments)
        except FUSEError as error:
            return error.errno

    return trio.run(answer)


def inode(operations: Operations, path: str) -> int:
    """Return the inode of a path, looked up name by name."""
    found = ROOT_INODE
    for name in path.split("/"):
        found = call(operations.lookup, found, name.encode(), CONTEXT).st_ino
    return found


def test_dot_and_dot_dot_are_found_as_nfs_servers_ask_for_them(operations: Operations) -> None:
    deep = inode(operations, "by-view/CC/by-laterality/unknown")
    above = inode(operations, "by-view/CC/by-laterality")
    assert call(operations.lookup, deep, b".", CONTEXT).st_ino == deep
    assert call(operations.lookup, deep, b"..", CONTEXT).st_ino == above
    assert call(operations.lookup, ROOT_INODE, b"..", CONTEXT).st_ino == ROOT_INODE
    assert call(operations.lookup, inode(operations, "all"), b"..", CONTEXT).st_ino == ROOT_INODE


def test_a_directory_is_known_until_it_is_forgotten_as_often_as_it_was_told(operations: Operations) -> None:
    place = inode(operations, "all")
    assert inode(operations, "all") == place
    trio.run(operations.forget, [(place, 1)])
    assert call(operations.getattr, place, CONTEXT).st_ino == place
    trio.run(operations.forget, [(place, 1), (ROOT_INODE, 5), (12345, 1)])
    assert len(operations.directories) == 0
    assert call(operations.getattr, place, CONTEXT) == errno.ESTALE
    assert call(operations.lookup, place, b"1.1.1.dcm", CONTEXT) == errno.ESTALE
    assert call(operations.opendir, place, CONTEXT) == errno.ESTALE
    assert inode(operations, "all") == place, "it comes back as what it was"


def test_an_old_version_is_stale_and_the_next_lookup_finds_the_file_as_it_is(
    operations: Operations, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Changes] = []
    monkeypatch.setattr("omidbfs.mount.operations.tell_kernel", told.append)
    first = inode(operations, "all/1.1.1.dcm")
    for number, content in enumerate((b"other", b"and others"), 1):
        (tmp_path / "images/demd1/1.1/1.1.1.dcm").write_bytes(content)
        assert call(operations.open, first, os.O_RDONLY, CONTEXT) == errno.ESTALE
        now = inode(operations, "all/1.1.1.dcm")
        assert call(operations.getattr, now, CONTEXT).st_size == len(content)
        assert call(operations.open, first, os.O_RDONLY, CONTEXT) == errno.ESTALE, "it is never another version"
        assert len(told) == number
        assert told[-1].entries == [(inode(operations, "all"), b"1.1.1.dcm")]


def test_a_file_needs_no_remembering(operations: Operations) -> None:
    file = inode(operations, "all/1.1.1.dcm")
    trio.run(operations.forget, [(inode(operations, "all"), 2), (file, 99)])
    assert call(operations.getattr, file, CONTEXT).st_size == 6


def test_a_directory_that_is_forgotten_more_often_than_told_is_a_defect_that_is_logged(
    operations: Operations, expect_warning: Callable[[str], None]
) -> None:
    expect_warning("^ERROR: a directory was forgotten 2 times and told 1 times; a defect$")
    place = inode(operations, "all")
    trio.run(operations.forget, [(place, 2)])
    assert operations.directories.times() == {}
    assert inode(operations, "all") == place


def test_two_directories_with_one_inode_are_not_confused(
    operations: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omidbfs.view.directory_inode", lambda path: 1 << 62)
    first = inode(operations, "all")
    assert inode(operations, "all") == first
    assert call(operations.lookup, ROOT_INODE, b"by-view", CONTEXT) == errno.EIO


def test_a_defect_is_logged_and_answered_with_eio(
    operations: Operations, monkeypatch: pytest.MonkeyPatch, expect_warning: Callable[[str], None]
) -> None:
    def defect(*_: object) -> None:
        raise ZeroDivisionError

    expect_warning("^ERROR: lookup failed; the caller got EIO$")
    monkeypatch.setattr(View, "lookup", defect)
    assert call(operations.lookup, ROOT_INODE, b"all", CONTEXT) == errno.EIO


def test_an_error_of_the_system_is_answered_as_it_is(
    operations: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EACCES, "no")

    monkeypatch.setattr(View, "lookup", refuse)
    assert call(operations.lookup, ROOT_INODE, b"all", CONTEXT) == errno.EACCES


def test_closing_the_drive_closes_what_is_open(monkeypatch: pytest.MonkeyPatch, operations: Operations) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        call(operations.open, inode(operations, "all/1.1.1.dcm"), os.O_RDONLY, CONTEXT)
    assert len(os.listdir("/proc/self/fd")) == before + 3
    operations.close()
    monkeypatch.setattr(operations, "close", lambda: None)  # once is enough
    assert len(os.listdir("/proc/self/fd")) == before - 2, "the two trees, too"


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND])
def test_opening_for_writing_is_refused(operations: Operations, flags: int) -> None:
    assert call(operations.open, inode(operations, "all/1.1.1.dcm"), flags, CONTEXT) == errno.EROFS


def test_access_for_writing_is_refused(operations: Operations) -> None:
    assert call(operations.access, ROOT_INODE, os.R_OK, CONTEXT) is True
    assert call(operations.access, ROOT_INODE, os.W_OK, CONTEXT) is False


# Generated files


EXPORTED = "by-view/CC/.omidbfs"


def make_slowly(operations: Operations, monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, list[int]]:
    """Have every file wait, when it is made, for the event returned; the list gets the inodes of what is made."""
    go_on, made = threading.Event(), []

    def content(export: Export) -> Iterator[bytes]:
        made.append(export.inode)
        assert go_on.wait(20)
        yield b"whatever"

    monkeypatch.setattr(operations.view, "content", content)
    return go_on, made


def test_while_a_file_is_made_everything_else_is_answered(
    operations: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, made = make_slowly(operations, monkeypatch)
    place, image = inode(operations, EXPORTED), inode(operations, "all/1.1.1.dcm")

    async def ask() -> None:
        sizes: list[int] = []

        async def look_up() -> None:
            found = await operations.lookup(place, b"index.csv", CONTEXT)
            sizes.append(found.st_size)

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(look_up)
            while not made:
                await trio.sleep(0.001)
            handle = (await operations.open(image, 0, CONTEXT)).fh
            assert bytes(await operations.read(handle, 0, 100)) == b"pixels"
            await operations.release(handle)
            assert (await operations.lookup(ROOT_INODE, b"all", CONTEXT)).st_size == 0
            assert sizes == []
            go_on.set()
        assert sizes == [len(b"whatever")] * 20

    trio.run(ask)
    assert len(made) == 1


def test_what_cannot_be_made_fails_for_all_who_wait(
    operations: Operations, monkeypatch: pytest.MonkeyPatch, expect_warning: Callable[[str], None]
) -> None:
    expect_warning("a file of a cohort could not be made: No space left on device")
    made = []

    def content(export: Export) -> Iterator[bytes]:
        made.append(export.inode)
        yield b"some"
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(operations.view, "content", content)
    place = inode(operations, EXPORTED)

    async def ask() -> list[int]:
        failed: list[int] = []

        async def look_up() -> None:
            try:
                await operations.lookup(place, b"index.csv", CONTEXT)
            except FUSEError as error:
                failed.append(error.errno)

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(look_up)
        return failed

    assert trio.run(ask) == [errno.ENOSPC] * 5
    assert len(operations.exports) == 0


def test_a_view_that_is_replaced_while_a_file_is_made_answers_with_its_own(
    operations: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, source = operations.view, operations._source
    go_on, made = make_slowly(operations, monkeypatch)
    new = View(old.index, drive_access(source), {})
    place = inode(operations, EXPORTED)

    async def ask() -> None:
        async def look_up() -> None:
            found = await operations.lookup(place, b"index.csv", CONTEXT)
            assert found.st_ino not in made
            assert operations.exports.find(found.st_ino) is not None
            assert found.st_size > len(b"whatever")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(look_up)
            while not made:
                await trio.sleep(0.001)
            operations.replace_view(new, Reader(source, operations.disks))
            go_on.set()

    trio.run(ask)


def test_a_generated_file_is_known_until_it_is_forgotten(operations: Operations) -> None:
    file = inode(operations, f"{EXPORTED}/index.csv")
    assert len(operations.exports) == 1
    assert call(operations.lookup, file, b".", CONTEXT).st_ino == file
    size = call(operations.getattr, file, CONTEXT).st_size
    handle = call(operations.open, file, 0, CONTEXT).fh
    call(operations.forget, [(file, 2)])
    assert len(operations.exports) == 0
    assert call(operations.getattr, file, CONTEXT).st_size == size, "it is open"
    assert len(call(operations.read, handle, 0, size + 1)) == size
    call(operations.release, handle)
    assert call(operations.getattr, file, CONTEXT) == errno.ESTALE
    assert call(operations.open, file, 0, CONTEXT) == errno.ESTALE
    assert call(operations.lookup, file, b".", CONTEXT) == errno.ESTALE


def test_what_was_let_go_of_is_made_again_for_who_opens_it(operations: Operations) -> None:
    file = inode(operations, f"{EXPORTED}/index.csv")
    size = call(operations.getattr, file, CONTEXT).st_size
    operations.exports._spool.forget_all()
    assert call(operations.getattr, file, CONTEXT).st_size == size
    handle = call(operations.open, file, 0, CONTEXT).fh
    assert len(call(operations.read, handle, 0, 1 << 20)) == size
    call(operations.release, handle)
    assert call(operations.open, file, os.O_WRONLY, CONTEXT) == errno.EROFS


def test_a_file_found_changed_while_another_view_takes_over_is_stale(
    operations: Operations, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = inode(operations, "all/1.1.1.dcm")
    (tmp_path / "images/demd1/1.1/1.1.1.dcm").write_bytes(b"others")
    empty = Tree(tmp_path / "empty")
    source = find_source(empty.root)
    view = View(build_index(source, Classification()), drive_access(source), {"README.txt": b"read me"})
    reader, opened = operations.reader, operations.reader.open

    async def opened_meanwhile(*arguments: Any) -> Any:
        operations.replace_view(view, Reader(source, operations.disks))
        return await opened(*arguments)

    monkeypatch.setattr(reader, "close_trees", lambda: None)
    monkeypatch.setattr(reader, "open", opened_meanwhile)
    monkeypatch.setattr("omidbfs.mount.operations.tell_kernel", lambda found: None)
    assert call(operations.open, place, os.O_RDONLY, CONTEXT) == errno.ESTALE


# Pages in doubt


@pytest.fixture
def dropped(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bool]]:
    """What the kernel, which is not there, is told to forget of inodes."""
    told: list[tuple[int, bool]] = []
    monkeypatch.setattr(pages.pyfuse3, "invalidate_inode", lambda *arguments: told.append(arguments))
    return told


def test_pages_in_doubt_are_dropped_once_before_an_opening_is_answered(
    operations: Operations, dropped: list[tuple[int, bool]]
) -> None:
    image, sidecar = inode(operations, "all/1.1.1.dcm"), inode(operations, "all/1.1.1.json")
    operations.pages.doubt(BitMap64([file_key(image), file_key(sidecar)]))
    for _ in range(2):
        call(operations.release, call(operations.open, image, 0, CONTEXT).fh)
    assert dropped == [(image, False)], "data and attributes"
    assert operations.pages.are_doubtful(sidecar)


def test_pages_that_come_to_be_in_doubt_while_a_file_is_opened_are_not_read(
    operations: Operations, dropped: list[tuple[int, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = inode(operations, "all/1.1.1.dcm")
    keys = BitMap64([file_key(image)])
    opened = operations.reader.open

    async def open_meanwhile(files: Files, number: int) -> OpenFile:
        found = await opened(files, number)
        operations.pages.doubt(keys)
        return found

    operations.pages.doubt(keys)
    monkeypatch.setattr(operations.reader, "open", open_meanwhile)
    assert call(operations.open, image, 0, CONTEXT) == errno.ESTALE, "upon which the kernel tries again"
    monkeypatch.undo()
    assert operations.disks.open_files == 0
    assert operations.pages.are_doubtful(image)


def test_a_file_that_cannot_be_settled_stays_in_doubt(
    operations: Operations, monkeypatch: pytest.MonkeyPatch, expect_warning: Callable[[str], None]
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    expect_warning("the kernel did not take a change")
    monkeypatch.setattr(pages.pyfuse3, "invalidate_inode", refuse)
    image = inode(operations, "all/1.1.1.dcm")
    operations.pages.doubt(BitMap64([file_key(image)]))
    assert call(operations.open, image, 0, CONTEXT) == errno.ENOMEM
    trio.run(operations.pages.drop_open, [image])
    assert operations.pages.are_doubtful(image)


def test_a_refresh_waits_no_longer_for_pages_that_are_being_read_and_leaves_one_thread(
    operations: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, told = threading.Event(), []

    def hang(number: int, _: bool) -> None:
        told.append(number)
        go_on.wait()

    monkeypatch.setattr(pages.pyfuse3, "invalidate_inode", hang)
    monkeypatch.setattr(pages, "_PATIENCE", 0.05)
    image = inode(operations, "all/1.1.1.dcm")
    operations.pages.doubt(BitMap64([file_key(image)]))

    async def refreshes() -> None:
        for _ in range(5):
            await operations.pages.drop_open([image])

    try:
        trio.run(refreshes)
        assert told == [image]
    finally:
        go_on.set()
