"""Hypothesis takes a mounted drive and its plain model through random steps, and compares them after each.

``machine`` has the steps that all front ends share. A mount has more: handles of directories, pages that are
mapped or dropped, names that the kernel forgets. Each inode has to stay one file for ever.
``tests/mount/test_stress.py`` is about many programs at once.
"""

import mmap
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from changing import PLACES
from drives import Drives
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, consumes, multiple, rule
from machine import Front, Machine, Shown, run
from reference import File, Place, Reference
from test_refresh import refresh
from test_tree import compare, dirents
from trees import Tree

SIZES = st.sampled_from((280, 288, 400, 1000, 4096, 1 << 16))
DROP_CACHES = Path("/proc/sys/vm/drop_caches")


def shown(facts: os.stat_result) -> Shown:
    """Return what a mount shows of a node, by its ``lstat``."""
    of_file = (facts.st_size, facts.st_mtime_ns, stat.S_IMODE(facts.st_mode), facts.st_nlink)
    return Shown(stat.S_ISDIR(facts.st_mode), of_file, facts.st_ino)


class OpenFile:
    """A file that is open, and mapped if it has any bytes."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)
        self.shown = shown(os.fstat(self._descriptor))
        has_bytes = self.shown.of_file[0] != 0
        self._mapped = mmap.mmap(self._descriptor, 0, prot=mmap.PROT_READ) if has_bytes else None

    def read(self, offset: int, size: int, *, drops: bool) -> bytes:
        """Return some bytes, which are the same in memory."""
        if drops:
            os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        found = os.pread(self._descriptor, size, offset)
        assert self._mapped is None or self._mapped[offset : offset + size] == found
        now = shown(os.fstat(self._descriptor))
        assert (now.identity, now.of_file[:2]) == (self.shown.identity, self.shown.of_file[:2])
        return found

    def close(self) -> None:
        """Close it."""
        if self._mapped is not None:
            self._mapped.close()
        os.close(self._descriptor)


@dataclass(eq=False)
class OpenDirectory:
    """An open directory, and the entries that it must list in the order of its first listing."""

    path: str
    descriptor: int
    names: set[str]
    epoch: int
    listed: list[tuple[str, int, int]] = field(default_factory=list)

    @property
    def handle(self) -> "OpenDirectory":
        """What is closed."""
        return self

    def close(self) -> None:
        """Close it."""
        os.close(self.descriptor)


class Drive(Front):
    """The mounted drive."""

    def __init__(self, drives: Drives, root: Path) -> None:
        super().__init__(root)
        self.mount = drives(root)

    def refresh(self) -> None:
        refresh(self.mount)

    def compared(self, model: Reference) -> Mapping[str, Shown]:
        return {path: shown(facts) for path, facts in compare(self.mount, model).items()}

    def shown(self, path: str) -> Shown | None:
        try:
            return shown(os.lstat(self.mount / path))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def expected(self, file: File, links: Callable[[], int]) -> tuple[object, ...]:
        return file.size, file.mtime, file.mode, links()

    def listed(self, path: str) -> Mapping[str, Shown]:
        with os.scandir(self.mount / path) as entries:
            return {entry.name: shown(entry.stat(follow_symlinks=False)) for entry in entries}

    def open(self, path: str) -> OpenFile:
        return OpenFile(self.mount / path)


class MountMachine(Machine):
    """The steps of all front ends, and those of a mount."""

    front: Drive
    directories: Bundle[OpenDirectory] = Bundle("directories")

    @rule()
    def forget(self) -> None:
        """Make the kernel forget unused inodes."""
        if os.access(DROP_CACHES, os.W_OK):
            DROP_CACHES.write_text("2")

    @rule(target=directories, place=PLACES)
    def open_directory(self, place: str) -> Any:
        """Open a directory and keep it open, if it is there."""
        node = self.model.node(place)
        if not isinstance(node, Place):
            return multiple()
        descriptor = os.open(self.front.mount / place, os.O_RDONLY | os.O_DIRECTORY)
        handle = OpenDirectory(place, descriptor, {*self.model.children(node), ".", ".."}, self.epoch)
        self.opened.append(handle)
        return handle

    @rule(handle=directories, size=SIZES)
    def list_all(self, handle: OpenDirectory, size: int) -> None:
        """List a directory from its beginning in pieces of any size. Each entry comes once, in one order."""
        os.lseek(handle.descriptor, 0, os.SEEK_SET)
        listed: list[tuple[str, int, int]] = []
        while piece := dirents(handle.descriptor, size):
            listed += piece
        assert {name for name, _, _ in listed} == handle.names, handle.path
        assert len(listed) == len(handle.names), f"{handle.path} lists a name twice"
        assert [cursor for _, _, cursor in listed] == list(range(1, len(listed) + 1))
        if handle.listed:
            assert [name for name, _, _ in listed] == [name for name, _, _ in handle.listed], "in another order"
        handle.listed = listed

    @rule(handle=directories, cursor=st.integers(0, 60) | st.sampled_from((1 << 31, (1 << 63) - 1)), size=SIZES)
    def list_from(self, handle: OpenDirectory, cursor: int, size: int) -> None:
        """List a piece from any cursor, also from an unknown cursor beyond the end."""
        if not handle.listed:
            self.list_all(handle, 4096)
        os.lseek(handle.descriptor, cursor, os.SEEK_SET)
        piece = dirents(handle.descriptor, size)
        expected = handle.listed[cursor : cursor + len(piece)]
        assert [(name, at) for name, _, at in piece] == [(name, at) for name, _, at in expected], handle.path
        assert piece or cursor >= len(handle.listed)
        if handle.epoch != self.epoch:
            return  # the listed file may have changed since
        for name, inode, _ in piece:
            if name not in (".", ".."):
                inner = f"{handle.path}/{name}" if handle.path else name
                assert self.inode_at(inner) == inode, "readdir and lookup disagree"

    @rule(handle=consumes(directories))
    def close_directory(self, handle: OpenDirectory) -> None:
        """Close a directory."""
        self.end(handle)

    def inode_at(self, path: str) -> object:
        """Return the inode at a path, which has to be as in the model."""
        found = self.compare_attributes(path)
        return None if found is None else found.identity


@pytest.mark.alone
def test_a_drive_does_what_its_model_does_whatever_the_steps(drive: Drives, tmp_path: Path) -> None:
    from_empty = Tree(tmp_path / "db")
    mounted = Drive(drive, from_empty.root)
    run(lambda: MountMachine(mounted), 10)
    assert len(mounted.bytes_of) > 20
