"""Calls handlers directly, as the kernel or an NFS server would, for cases that no tool can provoke."""

import errno
import os
import shutil
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio
from pyfuse3 import EntryAttributes, FileInfo, FUSEError, RequestContext
from trees import PIXELS, Tree, build_index

from omidbfs.database.layout import find_source
from omidbfs.database.permissions import Access
from omidbfs.fuse import pages
from omidbfs.fuse.attributes import memory
from omidbfs.fuse.callers import identity_of
from omidbfs.fuse.directories import EntryPages, OpenDirectory
from omidbfs.fuse.operations import Operations
from omidbfs.index.classification import Classification
from omidbfs.pixels.rendition import BUILT_IN
from omidbfs.serving.changes import Changes
from omidbfs.serving.drive import Drive
from omidbfs.serving.reader import OpenFile, Reader
from omidbfs.serving.rights import READ, permits
from omidbfs.serving.spool import Spool
from omidbfs.view.file_keys import FileKeys
from omidbfs.view.files import Files
from omidbfs.view.inode import ROOT_INODE, RenditionFields, file_key, rendition_inode, source_key
from omidbfs.view.nodes import Directory, Export, Listing
from omidbfs.view.ownership import drive_access
from omidbfs.view.view import View

CONTEXT = RequestContext()  # of root


@dataclass(frozen=True)
class Caller:
    """A caller other than root."""

    uid: int = 4242
    gid: int = 4242
    pid: int = 0


@pytest.fixture
def operations(tmp_path: Path) -> Iterator[Operations]:
    """The handlers over a database of one image, without a mount."""
    with handlers_over(tmp_path) as handlers:
        yield handlers


@contextmanager
def handlers_over(root: Path, time: int = 1_000_000_000) -> Iterator[Operations]:
    """Make a database of one image with a DICOM file from ``time``. Return its handlers."""
    tree = Tree(root)
    tree.client().study().image("1.1.1", dcm=b"pixels", ViewPosition="CC")
    os.utime(tree.images / "demd1/1.1/1.1.1.dcm", (time, time))
    source = find_source(tree.root)
    view = View(build_index(source, Classification()), drive_access(source), {"README.txt": b"read me"})
    handlers = Operations(Drive(view, source, spool=Spool((root,))))
    yield handlers
    handlers.drive.close()


def call(handler: Callable[..., Coroutine[Any, Any, Any]], *arguments: Any) -> Any:
    """Return the answer of a handler, or the errno if it refuses."""

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


def test_a_directory_is_known_until_all_its_lookups_are_forgotten(operations: Operations) -> None:
    place = inode(operations, "all")
    assert inode(operations, "all") == place
    trio.run(operations.forget, [(place, 1)])
    assert call(operations.getattr, place, CONTEXT).st_ino == place
    trio.run(operations.forget, [(place, 1), (ROOT_INODE, 5), (12345, 1)])
    assert operations.directories.paths() == []
    assert call(operations.getattr, place, CONTEXT) == errno.ESTALE
    assert call(operations.lookup, place, b"1.1.1.dcm", CONTEXT) == errno.ESTALE
    assert call(operations.opendir, place, CONTEXT) == errno.ESTALE
    assert inode(operations, "all") == place, "it comes back as what it was"


def test_an_old_version_is_stale_and_the_next_lookup_finds_the_file_as_it_is(
    operations: Operations, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Changes] = []
    monkeypatch.setattr("omidbfs.fuse.forgetting.tell_kernel", told.append)
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


def test_forgetting_a_directory_too_often_is_logged_as_a_defect(
    operations: Operations, expect_warning: Callable[[str], None]
) -> None:
    expect_warning("^ERROR: a directory was forgotten 2 times and told 1 times; a defect$")
    place = inode(operations, "all")
    trio.run(operations.forget, [(place, 2)])
    assert operations.directories.paths() == []
    assert inode(operations, "all") == place


def test_two_directories_with_one_inode_are_not_confused(
    operations: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omidbfs.view.nodes.directory_inode", lambda path: 1 << 62)
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
    operations.drive.close()
    monkeypatch.setattr(operations.drive, "close", lambda: None)  # once is enough
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
    """Make each generated file wait for the returned event. The list gets the inodes of the files."""
    go_on, made = threading.Event(), []

    def content(export: Export) -> Iterator[bytes]:
        made.append(export.inode)
        assert go_on.wait(120)
        yield b"whatever"

    monkeypatch.setattr(operations.drive.view, "content", content)
    return go_on, made


def test_other_requests_are_answered_while_a_file_is_made(
    operations: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, made = make_slowly(operations, monkeypatch)
    place, image = inode(operations, EXPORTED), inode(operations, "all/1.1.1.dcm")
    file = inode(operations, f"{EXPORTED}/index.csv")
    assert not made, "a lookup makes nothing"

    async def ask() -> None:
        sizes: list[int] = []

        async def stat() -> None:
            found = await operations.getattr(file, CONTEXT)
            sizes.append(found.st_size)
            assert found.attr_timeout > 0

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(stat)
            while not made:
                await trio.sleep(0.001)
            for name in (b"index.csv", b"coco.json"):
                found = await operations.lookup(place, name, CONTEXT)
                assert (found.st_size, found.attr_timeout) == (0, 0), "not known, and to be asked again"
                assert found.entry_timeout > 0
            handle = (await operations.open(image, 0, CONTEXT)).fh
            assert bytes(await operations.read(handle, 0, 100)) == b"pixels"
            await operations.release(handle)
            assert (await operations.lookup(ROOT_INODE, b"all", CONTEXT)).st_size == 0
            assert sizes == []
            go_on.set()
        assert sizes == [len(b"whatever")] * 20
        assert (await operations.lookup(place, b"index.csv", CONTEXT)).st_size == len(b"whatever")

    trio.run(ask)
    assert len(made) == 1


@pytest.mark.parametrize(
    ("error", "number"), [(OSError(errno.ENOSPC, "full"), errno.ENOSPC), (MemoryError(), errno.ENOMEM)]
)
@pytest.mark.parametrize("handler", ["getattr", "open"])
def test_a_file_that_cannot_be_made_fails_for_all_waiting_callers(
    operations: Operations,
    monkeypatch: pytest.MonkeyPatch,
    expect_warning: Callable[[str], None],
    handler: str,
    error: Exception,
    number: int,
) -> None:
    expect_warning(f"a file of a cohort could not be made: {os.strerror(number)}")
    made = []

    def content(export: Export) -> Iterator[bytes]:
        made.append(export.inode)
        yield b"some"
        raise error

    monkeypatch.setattr(operations.drive.view, "content", content)
    file = inode(operations, f"{EXPORTED}/index.csv")
    arguments = (file, CONTEXT) if handler == "getattr" else (file, os.O_RDONLY, CONTEXT)

    async def ask() -> list[int]:
        failed: list[int] = []

        async def ask_once() -> None:
            try:
                await getattr(operations, handler)(*arguments)
            except FUSEError as error:
                failed.append(error.errno)

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(ask_once)
        return failed

    assert trio.run(ask) == [number] * 5
    assert made == [file]
    assert operations.drive.disks.open_files == 0


def test_a_view_that_is_replaced_while_a_file_is_made_answers_with_its_own(
    operations: Operations, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, source = operations.drive.view, find_source(tmp_path)
    go_on, made = make_slowly(operations, monkeypatch)
    new = View(old.index, drive_access(source), {})
    file = inode(operations, f"{EXPORTED}/index.csv")

    async def ask() -> None:
        async def stat() -> None:
            found = await operations.getattr(file, CONTEXT)
            # As it was before, but not to be kept: the name leads to another file now.
            assert (found.st_ino, found.st_size, found.attr_timeout) == (file, len(b"whatever"), 0)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(stat)
            while not made:
                await trio.sleep(0.001)
            operations.drive.replace_view(new, Reader(source, operations.drive.disks))
            go_on.set()

    trio.run(ask)
    assert call(operations.getattr, file, CONTEXT) == errno.ESTALE, "so the kernel looks up the name again"
    again = inode(operations, f"{EXPORTED}/index.csv")
    assert again != file
    assert call(operations.getattr, again, CONTEXT).st_size > len(b"whatever")


def test_a_caller_never_gets_the_table_of_another_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = Tree(tmp_path)
    for number in (1, 2, 3):
        tree.client(f"demd{number}").study(f"{number}").image(f"{number}.1")
    source = find_source(tree.root)
    old = View(build_index(source, Classification()), drive_access(source), {})
    shutil.rmtree(tree.data / "demd1")  # all ordinals move by one
    shutil.rmtree(tree.images / "demd1")
    new = View(build_index(source, Classification()), drive_access(source), {})
    operations = Operations(Drive(old, source, spool=Spool((tmp_path,))))
    go_on, making, content = threading.Event(), threading.Event(), old.content

    def slow(export: Export) -> Iterator[bytes]:
        making.set()
        assert go_on.wait(120)
        yield from content(export)

    file = inode(operations, "by-client/demd2/.omidbfs/index.csv")
    operations.drive.generated._spool.forget_all()
    monkeypatch.setattr(old, "content", slow)
    found: list[bytes | int | None] = []

    async def read() -> None:
        try:
            handle = (await operations.open(file, os.O_RDONLY, CONTEXT)).fh
        except FUSEError as error:
            found.append(error.errno)
        else:
            found.append(bytes(await operations.read(handle, 0, 1 << 20)))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(read)
            await trio.to_thread.run_sync(making.wait, 20)
            operations.drive.replace_view(new, Reader(source, operations.drive.disks))
            go_on.set()

    trio.run(main)
    tables = [answer for answer in found if isinstance(answer, bytes)]
    assert len(tables) == 1, "that of who had it made"
    assert all(row.startswith(b"demd2,") for row in tables[0].splitlines()[1:])
    assert [answer for answer in found if not isinstance(answer, bytes)] == [errno.ESTALE] * 2
    assert operations.drive.generated._spool.open(file) is None, "no caller can ask for it again"
    again = inode(operations, "by-client/demd2/.omidbfs/index.csv")
    handle = call(operations.open, again, os.O_RDONLY, CONTEXT).fh
    assert call(operations.read, handle, 0, 1 << 20) == tables[0]
    operations.drive.close()


def test_a_caller_without_read_access_cannot_make_a_file(
    operations: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    content = operations.drive.view.content

    def counted(export: Export) -> Iterator[bytes]:
        made.append(export.inode)
        yield from content(export)

    monkeypatch.setattr(operations.drive.view, "content", counted)
    operations.drive.view.export_access = Access(0o400, os.geteuid(), os.getegid())
    place = inode(operations, EXPORTED)
    entry = call(operations.lookup, place, b"index.csv", Caller())
    entry = call(operations.getattr, entry.st_ino, Caller())
    assert (entry.st_size, entry.attr_timeout) == (0, 0), "not known, and to be asked again"
    assert made == []
    known = call(operations.getattr, entry.st_ino, CONTEXT)
    assert made == [entry.st_ino]
    assert known.st_size > 0
    assert call(operations.getattr, entry.st_ino, Caller()).st_size == known.st_size
    assert call(operations.lookup, place, b"index.csv", Caller()).attr_timeout > 0


def test_a_caller_that_the_kernel_lets_open_a_file_gets_its_size(operations: Operations) -> None:
    operations.drive.view.export_access = Access(0o400, os.geteuid(), os.getegid())
    caller = Caller()  # for example with CAP_DAC_READ_SEARCH
    file = call(operations.lookup, inode(operations, EXPORTED), b"index.csv", caller).st_ino
    handle = call(operations.open, file, os.O_RDONLY, caller).fh
    size = call(operations.getattr, file, caller).st_size
    assert len(call(operations.read, handle, 0, 1 << 20)) == size > 0


OURS = os.getgroups()[0] if os.getgroups() else os.getegid()


@pytest.mark.parametrize(
    ("mode", "caller", "may"),
    [
        (0o000, Caller(0, 0), True),
        (0o400, Caller(5), True),
        (0o044, Caller(5), False),
        (0o400, Caller(), False),
        (0o444, Caller(), True),
        (0o440, Caller(gid=OURS), True),
        (0o404, Caller(gid=OURS), False),
        (0o440, Caller(pid=os.getpid()), bool(os.getgroups())),
        (0o404, Caller(pid=os.getpid()), not os.getgroups()),
        (0o440, Caller(pid=0), False),  # of another PID namespace: its groups are unknown
        (0o404, Caller(pid=0), False),
    ],
)
def test_a_caller_can_make_only_files_that_it_can_read(mode: int, caller: Any, may: bool) -> None:
    assert permits(Access(mode, 5, OURS), identity_of(caller), READ) is may


def test_a_generated_file_is_known_until_it_is_forgotten(operations: Operations) -> None:
    file = inode(operations, f"{EXPORTED}/index.csv")
    assert call(operations.lookup, file, b".", CONTEXT).st_ino == file
    size = call(operations.getattr, file, CONTEXT).st_size
    handle = call(operations.open, file, 0, CONTEXT).fh
    call(operations.forget, [(file, 1)])
    assert operations.generated.get(file) is not None
    call(operations.forget, [(file, 1)])
    assert operations.generated.get(file) is None
    assert call(operations.getattr, file, CONTEXT).st_size == size, "it is open"
    assert len(call(operations.read, handle, 0, size + 1)) == size
    call(operations.release, handle)
    assert call(operations.getattr, file, CONTEXT) == errno.ESTALE
    assert call(operations.open, file, 0, CONTEXT) == errno.ESTALE
    assert call(operations.lookup, file, b".", CONTEXT) == errno.ESTALE


def test_a_dropped_file_is_made_again_when_it_is_opened(operations: Operations) -> None:
    file = inode(operations, f"{EXPORTED}/index.csv")
    size = call(operations.getattr, file, CONTEXT).st_size
    operations.drive.generated._spool.forget_all()
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
    reader, opened = operations.drive.reader, operations.drive.reader.open

    async def opened_meanwhile(*arguments: Any) -> Any:
        operations.drive.replace_view(view, Reader(source, operations.drive.disks))
        return await opened(*arguments)

    monkeypatch.setattr(reader, "close_trees", lambda: None)
    monkeypatch.setattr(reader, "open", opened_meanwhile)
    monkeypatch.setattr("omidbfs.fuse.forgetting.tell_kernel", lambda found: None)
    assert call(operations.open, place, os.O_RDONLY, CONTEXT) == errno.ESTALE


def test_a_file_from_after_2262_can_be_opened_again_and_again(tmp_path: Path) -> None:
    with handlers_over(tmp_path, time=10_000_000_000) as operations:
        file = inode(operations, "all/1.1.1.dcm")
        for _ in range(2):
            handle = call(operations.open, file, os.O_RDONLY, CONTEXT).fh
            assert bytes(call(operations.read, handle, 0, 100)) == b"pixels"
        assert inode(operations, "all/1.1.1.dcm") == file
        assert call(operations.getattr, file, CONTEXT).st_mtime_ns == (1 << 63) - 1


def test_a_long_listing_delays_no_other_request(operations: Operations, monkeypatch: pytest.MonkeyPatch) -> None:
    place, go_on, threads = inode(operations, "all"), threading.Event(), []
    listing = View.listing

    def slowly(view: View, directory: Directory) -> Listing:
        threads.append(threading.current_thread())
        assert go_on.wait(120)
        return listing(view, directory)

    monkeypatch.setattr("omidbfs.view.context._FEW", 0)  # one image is many now
    monkeypatch.setattr(View, "listing", slowly)

    async def ask() -> None:
        handles = []
        async with trio.open_nursery() as nursery:

            async def open_it() -> None:
                handles.append(await operations.opendir(place, CONTEXT))

            nursery.start_soon(open_it)
            while not threads:
                await trio.sleep(0.001)
            assert (await operations.getattr(place, CONTEXT)).st_ino == place
            assert not handles
            go_on.set()
        assert handles
        assert await operations.opendir(place, CONTEXT), "somebody has it open: that takes no time"

    trio.run(ask)
    assert [thread is threading.main_thread() for thread in threads] == [False, True]


@pytest.mark.parametrize("path", ["all", "by-view", "by-view/CC", EXPORTED])
def test_a_listing_says_the_same_without_the_memory_of_attributes(
    operations: Operations, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    said: list[tuple[bytes, dict[str, int], int]] = []

    def reply(token: object, name: bytes, attributes: EntryAttributes, cursor: int) -> bool:
        said.append((name, attributes.__getstate__(), cursor))
        return True

    monkeypatch.setattr("pyfuse3.readdir_reply", reply)
    place, listings = inode(operations, path), []
    for start in (0, 3, 4):
        for known in (memory(), None):
            monkeypatch.setattr("omidbfs.fuse.operations.memory", lambda known=known: known)
            handle = call(operations.opendir, place, CONTEXT)
            call(operations.readdir, handle, start, None)
            call(operations.releasedir, handle)
            listings.append([*said])
            said.clear()
        assert listings[-1] == listings[-2]
    assert len(listings[0]) > 2


def test_few_open_directories_have_a_page_at_hand(operations: Operations, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("omidbfs.fuse.directories._MOST_PAGES", 2)
    view, pages = operations.drive.view, EntryPages()
    place = view.resolve(b"")
    assert place is not None
    handles = [OpenDirectory(place, view, view.listing(place), pages) for _ in range(4)]
    for position in range(5):
        expected = [entry.name for entry in handles[0].listing.page(position, 1024)]
        for handle in handles:
            assert [entry.name for entry in handle.page(position)[1]] == expected
            assert sum(bool(handle.entries) for handle in handles) <= 2
    pages.close(handles[3])
    assert handles[0].page(1000) == ([], [])
    assert sum(bool(handle.entries) for handle in handles[:3]) == 1


def test_an_open_directory_has_the_entry_of_a_rendition_that_a_file_decides(tmp_path: Path) -> None:
    Tree(tmp_path / "db").client("demd1").study("1.1").image("1.2", ViewPosition="CC", **PIXELS)
    source = find_source(tmp_path / "db")
    view = View(build_index(source, Classification()), drive_access(source), {})
    place = view.resolve(b"as-png/all")
    assert place is not None
    handle = OpenDirectory(place, view, view.listing(place), EntryPages())
    [before] = handle.page(0)[1]
    assert view.renditions.learn(0, BUILT_IN["png"], view.index.pixel_format(0)._replace(Rows=108))
    [entry] = handle.page(0)[1]
    assert entry.inode == view.lookup(place, entry.name) != before.inode
    assert entry.attributes == view.attributes(entry.inode)


def test_a_changed_file_invalidates_names_from_before_a_refresh(
    operations: Operations, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Changes] = []
    monkeypatch.setattr("omidbfs.fuse.forgetting.tell_kernel", told.append)
    places = {inode(operations, path) for path in ("all", "by-view/CC", "by-client/demd1/1.1")}
    inode(operations, "by-view/not-CC")
    source, old = find_source(tmp_path), operations.drive.view
    operations.drive.replace_view(
        View(old.index, drive_access(source), {}), Reader(source, operations.drive.disks)
    )
    (tmp_path / "images/demd1/1.1/1.1.1.dcm").write_bytes(b"other pixels")
    assert call(operations.open, inode(operations, "all/1.1.1.dcm"), os.O_RDONLY, CONTEXT) == errno.ESTALE
    assert {(place, b"1.1.1.dcm") for place in places} == set(told[0].entries)


# Pages in doubt


@pytest.fixture
def dropped(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bool]]:
    """The inodes that the drive tells the absent kernel to forget."""
    told: list[tuple[int, bool]] = []
    monkeypatch.setattr(pages.pyfuse3, "invalidate_inode", lambda *arguments: told.append(arguments))
    return told


def test_pages_in_doubt_are_dropped_once_before_an_opening_is_answered(
    operations: Operations, dropped: list[tuple[int, bool]]
) -> None:
    image, sidecar = inode(operations, "all/1.1.1.dcm"), inode(operations, "all/1.1.1.json")
    operations.pages.doubt(FileKeys([file_key(image), file_key(sidecar)]))
    for _ in range(2):
        call(operations.release, call(operations.open, image, 0, CONTEXT).fh)
    assert dropped == [(image, False)], "data and attributes"
    assert operations.pages.are_doubtful(sidecar)


def test_pages_that_come_to_be_in_doubt_while_a_file_is_opened_are_not_read(
    operations: Operations, dropped: list[tuple[int, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = inode(operations, "all/1.1.1.dcm")
    keys = FileKeys([file_key(image)])
    opened = operations.drive.reader.open

    async def open_meanwhile(files: Files, number: int) -> OpenFile:
        found = await opened(files, number)
        operations.pages.doubt(keys)
        return found

    operations.pages.doubt(keys)
    monkeypatch.setattr(operations.drive.reader, "open", open_meanwhile)
    assert call(operations.open, image, 0, CONTEXT) == errno.ESTALE, "upon which the kernel tries again"
    monkeypatch.undo()
    assert operations.drive.disks.open_files == 0
    assert operations.pages.are_doubtful(image)


def test_a_rendition_from_before_a_refresh_is_not_read_even_if_its_pages_were_dropped_since(
    operations: Operations, dropped: list[tuple[int, bool]]
) -> None:
    image, rendition = inode(operations, "all/1.1.1.dcm"), rendition_inode(RenditionFields(0, 1, 2))
    assert source_key(rendition) == file_key(image)
    times = operations.pages.times
    operations.pages.doubt(FileKeys([file_key(image)]))
    for file in (image, rendition):
        trio.run(operations.pages.drop, file)
        assert not operations.pages.are_doubtful(file)
        assert operations.pages.were_doubted(file, times) == (file == rendition), "a source has the new bytes"
        assert not operations.pages.were_doubted(file, operations.pages.times)
    assert dropped == [(image, False), (rendition, False)]


def test_news_of_another_file_undo_no_drop_in_progress(
    operations: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = inode(operations, "all/1.1.1.dcm")
    [kernel] = operations.drive.observers._all

    async def main() -> FileInfo:
        operations.pages.doubt(FileKeys([file_key(image)]))
        drop = operations.pages.drop

        async def drop_and_hear(number: int) -> None:
            async def hear(*_: object) -> None:
                await kernel.tell(Changes())

            monkeypatch.setattr(operations.pages._threads, "run", hear)
            await drop(number)
            monkeypatch.undo()

        monkeypatch.setattr(operations.pages, "drop", drop_and_hear)
        return await operations.open(image, 0, CONTEXT)

    info = trio.run(main)
    assert not operations.pages.are_doubtful(image)
    call(operations.release, info.fh)


def test_a_file_that_cannot_be_settled_stays_in_doubt(
    operations: Operations, monkeypatch: pytest.MonkeyPatch, expect_warning: Callable[[str], None]
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    expect_warning("the kernel did not take a change")
    monkeypatch.setattr(pages.pyfuse3, "invalidate_inode", refuse)
    image = inode(operations, "all/1.1.1.dcm")
    operations.pages.doubt(FileKeys([file_key(image)]))
    assert call(operations.open, image, 0, CONTEXT) == errno.ENOMEM
    trio.run(operations.pages.drop_open, [image])
    assert operations.pages.are_doubtful(image)


def test_a_refresh_waits_no_longer_for_pages_that_are_being_read_and_leaves_one_thread(
    operations: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, told = threading.Event(), []

    def hang(number: int, _: bool) -> None:
        told.append(number)
        go_on.wait(120)

    monkeypatch.setattr(pages.pyfuse3, "invalidate_inode", hang)
    monkeypatch.setattr(pages, "_PATIENCE", 0.05)
    image = inode(operations, "all/1.1.1.dcm")
    operations.pages.doubt(FileKeys([file_key(image)]))

    async def refreshes() -> None:
        for _ in range(5):
            await operations.pages.drop_open([image])

    try:
        trio.run(refreshes)
        assert told == [image]
    finally:
        go_on.set()
