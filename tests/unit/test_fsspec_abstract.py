"""The file system keeps to what fsspec asks of every file system, as far as a read-only one can.

It passes fsspec's own tests for reading. All others of these tests begin with writing.
These tests want files of certain names. A :class:`Named` file system gives these names to files and directories of
a drive. Everything else in it is that of the drive.
"""

import re
from collections.abc import Callable
from hashlib import md5
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.tests.abstract import AbstractFixtures, AbstractGetTests
from trees import Tree

from omidbfs.api.filesystem import OmidbFileSystem, Opened
from omidbfs.base.errors import UserError
from omidbfs.view.nodes import Node

_NESTED = "by-view/CC/by-laterality/L"
_BULK = {
    "source": "all",
    **{f"source/file{number}": f"all/1.{number}.dcm" for number in (1, 2)},
    "source/subdir": "by-view/CC",
    **{f"source/subdir/subfile{number}": f"by-view/CC/1.{number}.dcm" for number in (1, 2)},
    "source/subdir/nesteddir": _NESTED,
    "source/subdir/nesteddir/nestedfile": f"{_NESTED}/1.3.dcm",
}
_GLOB = {path: place for path, place in _BULK.items() if "subdir" not in path} | {
    path.replace("subdir", f"subdir{number}"): place
    for path, place in _BULK.items()
    for number in range(2)
    if "subdir" in path
}
_PREFIX = {
    "source": "all",
    "source/subdir.txt": "all/1.1.dcm",
    "source/subdir": "by-view/CC",
    "source/subdir/subfile.txt": "by-view/CC/1.2.dcm",
}
_HASHED = {"source": "all"} | {
    f"source/{md5(str(number).encode()).hexdigest()}.txt": f"all/1.{number}.dcm" for number in range(10)
}
_SMALL = {"top": "all", "top/src": "by-view/CC", "top/src/file": "by-view/CC/1.1.dcm"}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten images, whose files have one digit each."""
    tree = Tree(tmp_path_factory.mktemp("abstract") / "db")
    study = tree.client().study("1")
    for number in range(10):
        study.image(f"1.{number}", dcm=str(number).encode(), ViewPosition="CC", ImageLaterality="L")
    return tree.root


class Named(OmidbFileSystem):
    """A file system of omidbfs that has only the paths of ``names``, each leading to a path of the drive."""

    names: dict[str, str]

    def _find(self, path: str, opened: Opened) -> Node:
        path = self._strip_protocol(path)
        return super()._find(self.names.get(path, "nothing") if path else "", opened)

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        path = self._strip_protocol(path)
        if not self.isdir(path):
            return super().ls(path, detail, **kwargs)
        found = [name for name in self.names if name.rpartition("/")[0] == path]
        return [self.info(name) for name in found] if detail else found

    def mkdir(self, path: str, *args: Any, **kwargs: Any) -> None:
        assert self.isdir(path), "what a test wants is there"

    def touch(self, path: str, *args: Any, **kwargs: Any) -> None:
        assert self.isfile(path), "what a test wants is there"


class TestGet(AbstractFixtures, AbstractGetTests):
    """fsspec's tests of copying from a file system to disk."""

    @pytest.fixture
    def local_fs(self) -> LocalFileSystem:
        """Return what the fixture of fsspec does, which is a class method: pytest warns of that."""
        return LocalFileSystem(auto_mkdir=True)

    @pytest.fixture
    def fs(self, database: Path) -> Named:
        found = Named(str(database), skip_instance_cache=True)
        found.names = _SMALL
        return found

    @pytest.fixture
    def fs_path(self) -> str:
        return "top"

    @pytest.fixture
    def fs_join(self) -> Callable[..., str]:
        return lambda *parts: "/".join(parts)

    @pytest.fixture
    def fs_bulk_operations_scenario_0(self, fs: Named) -> str:
        fs.names = _BULK
        return "source"

    @pytest.fixture
    def fs_glob_edge_cases_files(self, fs: Named) -> str:
        fs.names = _GLOB
        return "source"

    @pytest.fixture
    def fs_dir_and_file_with_same_name_prefix(self, fs: Named) -> str:
        fs.names = _PREFIX
        return "source"

    @pytest.fixture
    def fs_10_files_with_hashed_names(self, fs: Named) -> str:
        fs.names = _HASHED
        return "source"


def test_parts_of_a_file_end_where_lines_end(database: Path) -> None:
    fs = fsspec.filesystem("omidbfs", source=str(database))
    path = "all/.omidbfs/index.csv"
    whole = fs.cat_file(path)
    lines = whole.splitlines(keepends=True)
    assert fs.read_block(path, 0, None) == whole
    assert fs.read_block(path, 1, len(lines[0]), b"\n") == lines[1]
    assert (fs.head(path, 9), fs.tail(path, 9)) == (whole[:9], whole[-9:])
    with fs.open(path) as file:
        assert file.size == len(whole)


def test_a_misspelt_option_is_refused(database: Path) -> None:
    for name, remedy in (("indez", "did you mean index?"), ("folow_symlinks", "did you mean follow_symlinks?")):
        with pytest.raises(UserError, match=f"{name}: is no storage option of omidbfs; {re.escape(remedy)}"):
            fsspec.filesystem("omidbfs", source=str(database), **{name: None})
    with pytest.raises(UserError, match="did you mean images"):
        fsspec.open("omidbfs://README.txt", source=str(database), image="x")
    of_others = ("use_listings_cache", "listings_expiry_time", "max_paths", "loop", "asynchronous", "batch_size")
    given = dict.fromkeys((*of_others, "block_size", "hf", "expand_info", "anon", "client_kwargs", "timeout"))
    assert fsspec.filesystem("omidbfs", source=str(database), **given).exists("all"), "programs give these to any"


def test_file_systems_that_contain_others_contain_this_one(database: Path, tmp_path: Path) -> None:
    url, options = "omidbfs://by-view/CC/1.1.dcm", {"source": str(database)}
    with fsspec.open(f"simplecache::{url}", omidbfs=options, simplecache={"cache_storage": str(tmp_path)}) as file:
        assert file.read() == b"1"
    directory = fsspec.filesystem("dir", path="by-view/CC", target_protocol="omidbfs", target_options=options)
    assert directory.cat("1.[13].dcm") == {"1.1.dcm": b"1", "1.3.dcm": b"3"}
