"""What no tool provokes at will: the handlers are called here as the kernel, or an NFS server, would call them."""

import errno
import os
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from pyfuse3 import FUSEError
from trees import Tree

from omidbfs.database.layout import find_source
from omidbfs.export.spool import Spool
from omidbfs.index.build import Classification, build_index
from omidbfs.mount.changes import Changes
from omidbfs.mount.operations import Operations
from omidbfs.view import ROOT_INODE, View, drive_access

CONTEXT: Any = None


@pytest.fixture
def operations(tmp_path: Path) -> Iterator[Operations]:
    """The handlers over a database of one image, which nothing is mounted of."""
    tree = Tree(tmp_path)
    tree.client().study().image("1.1.1", dcm=b"pixels", ViewPosition="CC")
    source = find_source(tree.root)
    view = View(build_index(source, Classification()), drive_access(source), {"README.txt": b"read me"})
    handlers = Operations(view, source, Spool((tmp_path,)))
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
