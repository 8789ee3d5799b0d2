"""Every change of the drive fails with the error of a read-only file system."""

import errno
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from drives import Drives
from trees import Tree

CHANGES: dict[str, Callable[[Path, str], object]] = {
    "open for writing": lambda folder, file: os.open(folder / file, os.O_WRONLY),
    "open for reading and writing": lambda folder, file: os.open(folder / file, os.O_RDWR),
    "open for appending": lambda folder, file: os.open(folder / file, os.O_WRONLY | os.O_APPEND),
    "open and truncate": lambda folder, file: os.open(folder / file, os.O_WRONLY | os.O_TRUNC),
    "read and truncate": lambda folder, file: os.open(folder / file, os.O_RDONLY | os.O_TRUNC),
    "create": lambda folder, _: os.open(folder / "new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644),
    "mkdir": lambda folder, _: (folder / "new").mkdir(),
    "mknod": lambda folder, _: os.mknod(folder / "new", stat.S_IFREG | 0o644),
    "mkfifo": lambda folder, _: os.mkfifo(folder / "new"),
    "unlink": lambda folder, file: (folder / file).unlink(),
    "rmdir": lambda folder, _: (folder / "by-view").rmdir(),
    "rename": lambda folder, file: (folder / file).rename(folder / "new"),
    "rename over another": lambda folder, file: (folder / file).rename(folder / "1.1.2.dcm"),
    "link": lambda folder, file: os.link(folder / file, folder / "new"),
    "symlink": lambda folder, file: (folder / "new").symlink_to(file),
    "chmod": lambda folder, file: (folder / file).chmod(0o644),
    "chown": lambda folder, file: os.chown(folder / file, 0, 0),
    "utime": lambda folder, file: os.utime(folder / file),
    "truncate": lambda folder, file: os.truncate(folder / file, 0),
    "grow": lambda folder, file: os.truncate(folder / file, 1 << 20),
    "setxattr": lambda folder, file: os.setxattr(folder / file, "user.x", b"x"),
    "removexattr": lambda folder, file: os.removexattr(folder / file, "user.x"),
    "chmod of a directory": lambda folder, _: folder.chmod(0o777),
    "utime of a directory": lambda folder, _: os.utime(folder),
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """One study of two images."""
    tree = Tree(tmp_path_factory.mktemp("read-only"))
    tree.client().study().image("1.1.1").image("1.1.2")
    return tree


@pytest.fixture(scope="module")
def mount(session_drive: Drives, tree: Tree) -> Path:
    """A mounted drive."""
    return session_drive(tree.root)


@pytest.fixture(scope="module")
def remounted(session_drive: Drives, tree: Tree) -> Path:
    """A drive that an administrator has remounted for reading and writing."""
    place = session_drive(tree.root)
    done = subprocess.run(["mount", "-i", "-o", "remount,rw", place], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"a drive cannot be remounted here: {done.stderr.strip()}")
    assert not os.statvfs(place).f_flag & os.ST_RDONLY
    return place


@pytest.mark.parametrize("place", ["mount", "remounted"])
@pytest.mark.parametrize("folder", ["all", "by-view/unknown", "by-client/demd1/1.1"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_refused(change: str, folder: str, place: str, request: pytest.FixtureRequest) -> None:
    where: Path = request.getfixturevalue(place)
    with pytest.raises(OSError) as raised:  # noqa: PT011 - the errno is looked at
        CHANGES[change](where / folder, "1.1.1.dcm")
    assert raised.value.errno == errno.EROFS


@pytest.mark.parametrize("place", ["mount", "remounted"])
@pytest.mark.parametrize("name", ["README.txt", ".omidbfs/status.json"])
def test_the_texts_of_the_drive_cannot_be_written(place: str, name: str, request: pytest.FixtureRequest) -> None:
    where: Path = request.getfixturevalue(place)
    with pytest.raises(OSError) as raised:  # noqa: PT011
        (where / name).write_text("mine")
    assert raised.value.errno == errno.EROFS
    with pytest.raises(OSError) as raised:  # noqa: PT011
        (where / name).unlink()
    assert raised.value.errno == errno.EROFS


def test_no_change_reached_the_source(mount: Path, remounted: Path, tree: Tree) -> None:
    for where in (mount, remounted):
        assert sorted(os.listdir(where / "all")) == [f"1.1.{n}.{kind}" for n in (1, 2) for kind in ("dcm", "json")]
    assert sorted(os.listdir(tree.images / "demd1/1.1")) == ["1.1.1.dcm", "1.1.2.dcm"]
    for path in (tree.images / "demd1/1.1").iterdir():
        assert path.read_bytes() == (mount / "all" / path.name).read_bytes()


def test_extended_attributes_are_not_supported(mount: Path) -> None:
    for _ in range(2):  # the second time the kernel answers by itself
        with pytest.raises(OSError) as raised:  # noqa: PT011
            os.getxattr(mount / "all/1.1.1.dcm", "user.x")
        assert raised.value.errno == errno.EOPNOTSUPP
    done = subprocess.run(["getfattr", "-d", mount / "all/1.1.1.dcm"], capture_output=True, text=True, check=False)
    assert done.stdout == ""


def test_access_for_writing_is_refused_and_for_reading_granted(mount: Path) -> None:
    assert os.access(mount / "all/1.1.1.dcm", os.R_OK)
    assert not os.access(mount / "all/1.1.1.dcm", os.W_OK)
    assert not os.access(mount / "all", os.W_OK)
    assert os.access(mount / "all", os.R_OK | os.X_OK)
