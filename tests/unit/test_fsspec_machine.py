"""Hypothesis takes the file system of fsspec and the plain model through random steps (``machine``)."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import fsspec
from machine import Front, Machine, Shown, run
from reference import File
from trees import Tree


def shown(info: Mapping[str, Any]) -> Shown:
    """Return what the file system shows of a node."""
    of_file = tuple(info[name] for name in ("size", "mtime_ns", "mode", "uid", "gid", "nlink"))
    return Shown(info["type"] == "directory", of_file, info["ino"])


class OpenFile:
    """An open file."""

    def __init__(self, stream: Any, now: Shown) -> None:
        self._stream, self.shown = stream, now

    def read(self, offset: int, size: int, *, drops: bool) -> bytes:
        """Return some bytes."""
        stream = self._stream.raw if drops else self._stream
        stream.seek(offset)
        found: bytes = stream.read(size)
        return found

    def close(self) -> None:
        """Close it."""
        self._stream.close()


class FileSystem(Front):
    """The file system of fsspec. ``keys`` has the content of each key of a version."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.keys: dict[str, bytes] = {}
        self.fs = fsspec.filesystem("omidbfs", source=str(root), index=str(root / "index"), verify_first=True)

    def refresh(self) -> None:
        self.fs.invalidate_cache()
        self.fs.info("")  # it looks for changes at the next use

    def shown(self, path: str) -> Shown | None:
        try:
            return shown(self.fs.info(path))
        except (FileNotFoundError, NotADirectoryError):
            assert not self.fs.exists(path)
            return None

    def expected(self, file: File, links: Callable[[], int]) -> tuple[object, ...]:
        return file.size, file.mtime, 0o100000 | file.mode, file.uid, file.gid, links()

    def listed(self, path: str) -> Mapping[str, Shown]:
        return {info["name"].rpartition("/")[2]: shown(info) for info in self.fs.ls(path)}

    def open(self, path: str) -> OpenFile:
        stream = self.fs.open(path)
        key, content = self.fs.ukey(path), self.fs.cat_file(path)
        assert self.keys.setdefault(key, content) == content, "one key for two versions"
        found = shown(self.fs.info(path))
        assert found.of_file[0] == stream.size
        return OpenFile(stream, found)


def test_the_file_system_does_what_its_model_does_whatever_the_steps(tmp_path: Path) -> None:
    front = FileSystem(Tree(tmp_path / "db").root)
    run(lambda: Machine(front), 4)
    assert len(front.bytes_of) > 20
