"""If a refresh fails at any moment, the kernel keeps no outdated answer.

No drive is mounted: what the kernel would be told is kept.
"""

import os
import shutil
import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import trio
from pyfuse3 import FUSEError, RequestContext
from trees import Tree

from omidbfs.database.layout import find_source
from omidbfs.fuse.operations import Operations
from omidbfs.index import store
from omidbfs.serving import patience
from omidbfs.serving.changes import Changes
from omidbfs.serving.configuration import read_definitions
from omidbfs.serving.refresh import Refresher, drive_of
from omidbfs.serving.session import Session
from omidbfs.view.inode import directory_inode

FORGETS = "what has changed could not be found out; the kernel forgets everything"
FAILED = "the refresh failed and the drive goes on as it was"
REMOVED = (directory_inode(b"all"), b"1.1.1.dcm")


class Kernel:
    """Stands for a kernel that knows ``all``. It keeps the entries and touched files that it is told of."""

    def __init__(self) -> None:
        self.told: list[set[tuple[int, bytes]]] = []
        self.takes = True
        self.breaks = False

    def tell(self, found: Changes) -> bool:
        """Note what the drive tells it, or fail."""
        entries = set(found.entries)
        if {name for _, name in entries} == {b"status.json"}:
            return True
        if self.breaks:
            raise RuntimeError("a defect")
        if self.takes:
            self.told.append(entries)
        return self.takes


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """The kernel of the drive of this test."""
    kernel = Kernel()
    monkeypatch.setattr("omidbfs.fuse.forgetting.tell_kernel", kernel.tell)
    return kernel


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A database of two clients."""
    tree = Tree(tmp_path / "db")
    tree.client("demd1").study("1.1").image("1.1.1")
    tree.client("demd2").study("2.1").image("2.1.1", ViewPosition="CC")
    return tree


@pytest.fixture
def refresher(tree: Tree, tmp_path: Path) -> Refresher:
    """The refresher of the drive."""
    (tmp_path / "omidbfs.toml").write_text("")
    config = tmp_path / "omidbfs.toml"
    session = Session(
        find_source(tree.root),
        tmp_path / "index",
        lambda: nullcontext(lambda *_: None),
        config=config,
        definitions=read_definitions(config),
    )
    stored, _ = session.opened(pytest.fail)
    arguments = ["--config", config, "index", tree.root, "--index", tmp_path / "index", "--json"]
    return Refresher(drive_of(session, stored), session, stored, [str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def operations(refresher: Refresher) -> Operations:
    """The handlers over that drive, of which the kernel knows ``all``."""
    made = Operations(refresher.drive)
    place = refresher.drive.view.resolve(b"all")
    assert place is not None
    made.directories.told(place)
    return made


def refreshed(refresher: Refresher, times: int = 1) -> str | None:
    """Refresh; return what ``status.json`` says went wrong."""
    for _ in range(times):
        trio.run(refresher.refresh)
    return refresher._error


def removed(tree: Tree) -> None:
    """Remove the first client."""
    for part in (tree.images, tree.data):
        shutil.rmtree(part / "demd1")


def test_nothing_is_settled_for_a_file_by_an_earlier_version_of_it(
    operations: Operations, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omidbfs.fuse.forgetting.tell_kernel", lambda _: True)
    drive, dcm = operations.drive, tree.images / "demd1/1.1/1.1.1.dcm"
    place = drive.view.resolve(b"all")
    assert place is not None

    async def opened() -> int:
        inode = drive.view.lookup(place, b"1.1.1.dcm")
        assert isinstance(inode, int)
        await operations.open(inode, os.O_RDONLY, RequestContext())
        return inode

    first = trio.run(opened)
    assert operations.kernel.open_files() == [first]
    dcm.write_bytes(b"a second version")
    with pytest.raises(FUSEError):  # the kernel then looks the name up again
        trio.run(opened)
    assert operations.kernel.open_files() == []
    second = trio.run(opened)
    assert operations.kernel.open_files() == [second] != [first]
    assert drive.open_files() == {first, second}


def test_the_kernel_forgets_everything_if_the_changes_are_unknown(
    refresher: Refresher,
    operations: Operations,
    kernel: Kernel,
    tree: Tree,
    monkeypatch: pytest.MonkeyPatch,
    expect_warning: Callable[[str], None],
) -> None:
    expect_warning(FORGETS)
    monkeypatch.setattr("omidbfs.serving.observers.changes", lambda *_: 1 / 0)
    removed(tree)
    assert refreshed(refresher) is None
    assert (1, b"all") in kernel.told[-1]
    inode = refresher.drive.view.lookup(*_at(refresher, b"all", b"2.1.1.dcm"))
    assert isinstance(inode, int)
    assert operations.pages.are_doubtful(inode)
    assert refreshed(refresher) is None
    assert len(kernel.told) == 1, "nothing is owed"


def _at(refresher: Refresher, path: bytes, name: bytes):
    directory = refresher.drive.view.resolve(path)
    assert directory is not None
    return directory, name


@pytest.mark.parametrize("how", ["refused", "a defect"])
def test_the_kernel_is_told_at_the_next_refresh_what_it_missed(
    refresher: Refresher, kernel: Kernel, tree: Tree, how: str, expect_warning: Callable[[str], None]
) -> None:
    expect_warning(FAILED)
    kernel.takes, kernel.breaks = how != "refused", how == "a defect"
    removed(tree)
    assert (refreshed(refresher) is None) == (how == "refused")
    kernel.takes, kernel.breaks = True, False
    assert kernel.told == []
    assert refreshed(refresher) is None, "although the source has not changed since"
    assert (1, b"all") in kernel.told[0]
    assert refreshed(refresher) is None
    assert len(kernel.told) == 1


def test_an_index_of_another_version_leaves_the_drive_as_it_is(
    refresher: Refresher,
    kernel: Kernel,
    tree: Tree,
    monkeypatch: pytest.MonkeyPatch,
    expect_warning: Callable[[str], None],
) -> None:
    expect_warning(FAILED)
    removed(tree)
    known = store.definition_of
    monkeypatch.setattr(store, "definition_of", lambda one: "older" if one.name == "view" else known(one))
    before = refresher.drive.view
    assert refreshed(refresher) == "another version of omidbfs wrote the index; mount the drive again"
    assert refresher.drive.view is before
    assert kernel.told == []


def test_a_definition_is_shown_after_a_refresh_that_failed_in_between(
    refresher: Refresher, kernel: Kernel, tree: Tree, tmp_path: Path, expect_warning: Callable[[str], None]
) -> None:
    expect_warning(FAILED)
    (tmp_path / "omidbfs.toml").write_text('[cohorts.mine]\npath = "by-view/CC"\n')
    away = tree.root.rename(tmp_path / "away")
    assert "no such directory" in (refreshed(refresher) or "")
    away.rename(tree.root)
    assert refreshed(refresher) is None
    assert list(refresher.drive.view.lists.named) == ["mine"]


def test_what_the_loop_owns_is_read_by_the_loop(
    refresher: Refresher, kernel: Kernel, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    counted = refresher.drive.counted

    def counted_here() -> object:
        asked.append(threading.current_thread())
        return counted()

    monkeypatch.setattr(refresher.drive, "counted", counted_here)
    removed(tree)
    assert refreshed(refresher) is None
    assert set(asked) == {threading.main_thread()}


def test_a_status_that_cannot_be_renewed_ends_nothing(
    refresher: Refresher,
    kernel: Kernel,
    tree: Tree,
    monkeypatch: pytest.MonkeyPatch,
    expect_warning: Callable[[str], None],
) -> None:
    expect_warning("status.json could not be renewed")
    monkeypatch.setattr("omidbfs.serving.refresh.renewed_status", lambda *_: 1 / 0)
    removed(tree)
    assert refreshed(refresher) is None
    assert REMOVED in kernel.told[0]


def test_a_disk_that_does_not_answer_the_drive_itself_holds_up_no_later_refresh(
    refresher: Refresher,
    kernel: Kernel,
    tree: Tree,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    expect_warning: Callable[[str], None],
) -> None:
    expect_warning(FAILED)
    monkeypatch.setattr(patience, "_STUCK", 0.05)
    config = tmp_path / "omidbfs.toml"
    config.unlink()
    os.mkfifo(config)  # an open waits for a writer, as on a dead disk

    async def refreshes() -> None:
        for _ in range(5):
            await refresher.refresh()
            assert "a disk has not answered" in (refresher._error or "")
        assert refresher._state_now()["refresh"]["stuck"] == 3, "no more threads are left"  # type: ignore[index]
        with trio.fail_after(120):
            while refresher._state_now()["refresh"]["stuck"]:  # type: ignore[index]
                os.close(os.open(config, os.O_RDWR | os.O_NONBLOCK))  # ends the opens that wait, some begin late
                await trio.sleep(0.01)
        config.unlink()
        config.write_text("")
        monkeypatch.undo()
        monkeypatch.setattr("omidbfs.fuse.forgetting.tell_kernel", kernel.tell)
        await refresher.refresh()
        assert refresher._error is None

    trio.run(refreshes)
