"""The drive counts directories exactly as the kernel does, for any requests in any order."""

import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from pyfuse3 import FUSEError, RequestContext
from trees import Tree, build_index

from omidbfs.database.layout import find_source
from omidbfs.fuse.operations import Operations
from omidbfs.index.classification import Classification
from omidbfs.serving.drive import Drive
from omidbfs.serving.reader import Reader
from omidbfs.view.inode import ROOT_INODE, is_directory
from omidbfs.view.ownership import drive_access
from omidbfs.view.view import View

CONTEXT = RequestContext()  # of root
NAMES = st.sampled_from(
    (
        *(".", "..", "all", "by-view", "by-client", "by-model", ".omidbfs", "README.txt", "status.json"),
        *("CC", "MLO", "not-CC", "demd1", "demd2", "1.1", "1.1.1.dcm", "1.1.2.json", "nothing", "by-nothing"),
    )
)


class Databases:
    """Handlers without a mount, and two databases between which they can change."""

    def __init__(self, root: Path) -> None:
        one, other = Tree(root / "one"), Tree(root / "other")
        study = one.client("demd1").study()
        for number in range(40):
            study.image(f"1.1.{number}", dcm=b"", ViewPosition="CC" if number % 2 else "MLO")
        one.client("demd3").study("3").image("3.1")
        other.client("demd2").study("2").image("1.1.1", ViewPosition="CC")
        self.sources = [find_source(tree.root) for tree in (one, other)]
        self.views = [
            View(
                build_index(source, Classification()),
                drive_access(source),
                {"README.txt": b"", "status.json": b""},
            )
            for source in self.sources
        ]

    def operations(self) -> Operations:
        """Return handlers that know nothing yet."""
        return Operations(Drive(self.views[0], self.sources[0]))


class Kernel(RuleBasedStateMachine):
    """Sends random requests of a kernel, and counts the inodes in the answers."""

    def __init__(self, databases: Databases) -> None:
        super().__init__()
        self.databases = databases
        self.operations = databases.operations()
        self.told: Counter[int] = Counter()
        self.met = [ROOT_INODE]
        self.handles: list[int] = []
        self.room = 0

    def ask(self, handler: str, *arguments: Any) -> Any:
        """Return the answer of a handler, ``None`` if it refuses."""

        async def answer() -> Any:
            try:
                return await getattr(self.operations, handler)(*arguments)
            except FUSEError:
                return None

        return trio.run(answer)

    def count(self, inode: int) -> None:
        """Note that the kernel has been told of an inode once more."""
        if inode != ROOT_INODE:
            self.told[inode] += 1
            self.met.append(inode)

    def reply(self, token: object, name: bytes, attributes: Any, cursor: int) -> bool:
        """Take an entry, as ``pyfuse3.readdir_reply`` does, if there is room."""
        if self.room == 0:
            return False
        self.room -= 1
        if name not in (b".", b".."):
            self.count(attributes.st_ino)
        return True

    @rule(pick=st.integers(0, 999), name=NAMES)
    def look_up(self, pick: int, name: str) -> None:
        """Look up a name in any inode that the kernel has ever known, including files and forgotten inodes."""
        found = self.ask("lookup", self.met[-1 - pick % len(self.met)], name.encode(), CONTEXT)
        if found is not None:
            self.count(found.st_ino)

    @rule(pick=st.integers(0, 999))
    def open_directory(self, pick: int) -> None:
        """Open a directory."""
        handle = self.ask("opendir", self.met[-1 - pick % len(self.met)], CONTEXT)
        if handle is not None:
            self.handles.append(handle)

    @rule(pick=st.integers(0, 999), cursor=st.integers(0, 90), room=st.integers(0, 30))
    def read_directory(self, pick: int, cursor: int, room: int) -> None:
        """Read at any position, with room for a few entries."""
        if self.handles:
            self.room = room
            self.ask("readdir", self.handles[pick % len(self.handles)], cursor, self)

    @rule(pick=st.integers(0, 999))
    def close_directory(self, pick: int) -> None:
        """Close a directory."""
        if self.handles:
            self.ask("releasedir", self.handles.pop(pick % len(self.handles)))

    @rule(picks=st.lists(st.integers(0, 999), min_size=1, max_size=4), part=st.floats(0, 1))
    def forget(self, picks: list[int], part: float) -> None:
        """Forget several inodes at once, each at most as often as the kernel has counted it."""
        known = sorted(self.told)
        chosen = {known[pick % len(known)] for pick in picks if known}
        forgotten = [(inode, max(1, round(self.told[inode] * part))) for inode in sorted(chosen)]
        trio.run(self.operations.forget, forgotten)
        self.told -= Counter(dict(forgotten))

    @rule(number=st.integers(0, 1))
    def change(self, number: int) -> None:
        """Replace the view."""
        drive = self.operations.drive
        drive.replace_view(self.databases.views[number], Reader(self.databases.sources[number], drive.disks))

    @invariant()
    def counts_are_those_of_the_kernel(self) -> None:
        """Check that the counts are those of the kernel, and all at least one."""
        directories = {inode: times for inode, times in self.told.items() if is_directory(inode)}
        known = self.operations.directories._known
        assert {inode: times for inode, (_, times) in known.items()} == directories

    def teardown(self) -> None:
        """Forget everything, as the kernel does when a drive is unmounted."""
        trio.run(self.operations.forget, list(self.told.items()))
        assert self.operations.directories.paths() == []
        self.operations.drive.close()


@pytest.fixture(scope="module")
def pair() -> Iterator[Databases]:
    """Two databases."""
    with tempfile.TemporaryDirectory(prefix="omidbfs-") as directory:
        yield Databases(Path(directory))


def test_directories_are_counted_as_the_kernel_counts_them(
    pair: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reply(kernel: Kernel, name: bytes, attributes: Any, cursor: int) -> bool:
        return kernel.reply(kernel, name, attributes, cursor)

    monkeypatch.setattr("pyfuse3.readdir_reply", reply)
    run_state_machine_as_test(
        lambda: Kernel(pair), settings=settings(settings.default, stateful_step_count=60, max_examples=150)
    )
