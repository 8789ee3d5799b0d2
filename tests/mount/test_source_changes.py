"""If the source changes under a drive, an open gives the current file or fails, never another file."""

import errno
import os
import random
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from drives import Drives
from trees import Tree

SIZE = 700_001
NAME = "all/1.1.1.dcm"


def content(seed: int, size: int = SIZE) -> bytes:
    """Return bytes that no other seed gives."""
    return random.Random(seed).randbytes(size)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The DICOM file of a database of one image."""
    tree = Tree(tmp_path / "db")
    tree.client().study().image("1.1.1", dcm=content(1), ViewPosition="CC")
    return tree.images / "demd1/1.1/1.1.1.dcm"


@pytest.fixture
def mount(drive: Drives, tmp_path: Path, source: Path) -> Path:
    """The drive over it."""
    return drive(tmp_path / "db")


def replace(path: Path, new: bytes) -> None:
    """Put another file in the place of one."""
    other = path.with_name("new")
    other.write_bytes(new)
    other.replace(path)


def in_place(path: Path, new: bytes) -> None:
    """Write a file anew; its inode stays."""
    with open(path, "r+b") as stream:
        stream.truncate(0)
        stream.write(new)


NEW: dict[str, bytes] = {
    "other bytes": content(2),
    "shorter": content(3, 1000),
    "longer": content(1) + content(4),
    "empty": b"",
    "much longer": content(5, 3_000_000),
}


@pytest.mark.parametrize("how", [replace, in_place])
def test_an_open_gives_the_current_file(mount: Path, source: Path, how: Callable[[Path, bytes], None]) -> None:
    assert (mount / NAME).read_bytes() == content(1)
    for new in NEW.values():
        how(source, new)
        with open(mount / NAME, "rb") as stream:
            assert os.fstat(stream.fileno()).st_size == len(new)
            assert stream.read() == new
        for path in (NAME, "by-view/CC/1.1.1.dcm", "by-client/demd1/1.1/1.1.1.dcm"):
            facts = os.stat(mount / path)
            assert (facts.st_size, facts.st_mtime_ns) == (len(new), source.stat().st_mtime_ns)
            assert (mount / path).read_bytes() == new


def test_a_file_that_changes_again_and_again_is_served_as_it_is_by_every_path(mount: Path, source: Path) -> None:
    paths = [mount / NAME, mount / "by-view/CC/1.1.1.dcm", mount / "by-client/demd1/1.1/1.1.1.dcm"]
    for path in paths:
        assert path.stat().st_size == SIZE  # the kernel knows the first version under all paths
    for turn in range(9):
        replace(source, content(turn, 1000 + turn))
        assert paths[turn % 3].read_bytes() == content(turn, 1000 + turn)


def test_open_files_of_other_programs_do_not_change_what_a_path_shows(mount: Path, source: Path) -> None:
    paths = [mount / NAME, mount / "by-view/CC/1.1.1.dcm", mount / "by-client/demd1/1.1/1.1.1.dcm"]
    with open(paths[0], "rb") as first:
        assert [path.stat().st_size for path in paths] == [SIZE] * 3
        replace(source, content(2, 1000))
        with open(paths[1], "rb") as second:
            assert [path.stat().st_size for path in paths] == [1000] * 3
            assert (os.fstat(first.fileno()).st_size, os.fstat(second.fileno()).st_size) == (SIZE, 1000)
            assert first.read() == content(1)
            assert second.read() == content(2, 1000)


def test_a_listing_that_is_under_way_tells_of_the_file_as_it_was_found_meanwhile(
    drive: Drives, tmp_path: Path
) -> None:
    study = Tree(tmp_path / "many").client().study()
    for number in range(300):
        study.image(f"1.{number:03}", dcm=b"old", has_sidecar=False)
    mount = drive(tmp_path / "many")
    with os.scandir(mount / "all") as entries:
        assert next(entries).name == "1.000.dcm"
        replace(study.images / "1.299.dcm", b"another")
        assert (mount / "by-view/unknown/1.299.dcm").read_bytes() == b"another"
        assert [entry.name for entry in entries][-1] == "1.299.dcm"
    assert (mount / "all/1.299.dcm").stat().st_size == len(b"another")


def test_a_change_that_keeps_the_size_is_seen_by_its_time(mount: Path, source: Path) -> None:
    assert (mount / NAME).read_bytes() == content(1)
    before = source.stat().st_mtime_ns
    replace(source, content(2))
    os.utime(source, ns=(before - 10**9, before - 10**9))  # an older file is another file, too
    assert (mount / NAME).read_bytes() == content(2)


def test_a_changed_sidecar_and_a_changed_nbss_are_served_as_they_are(mount: Path, tmp_path: Path) -> None:
    for path in ("by-client/demd1/nbss_demd1.json", "by-client/demd1/1.1/1.1.1.json"):
        original = tmp_path / "db/data" / path.removeprefix("by-client/")
        assert (mount / path).read_bytes() == original.read_bytes()
        replace(original, b'{"changed": true}')
        assert (mount / path).read_bytes() == b'{"changed": true}'


def test_a_handle_never_gets_the_bytes_of_another_file(mount: Path, source: Path) -> None:
    old = os.open(mount / NAME, os.O_RDONLY)
    try:
        assert os.pread(old, 100, 0) == content(1)[:100]
        replace(source, content(2))
        new = os.open(mount / NAME, os.O_RDONLY)
        try:
            assert os.fstat(old).st_ino != os.fstat(new).st_ino, "the page cache must not mix the two"
            assert os.pread(new, SIZE, 0) == content(2)
            assert os.pread(old, SIZE, 0) == content(1)
            assert os.fstat(old).st_size == len(content(1))
        finally:
            os.close(new)
    finally:
        os.close(old)


def test_a_handle_outlives_the_deletion_of_its_file(mount: Path, source: Path) -> None:
    with open(mount / NAME, "rb", buffering=0) as stream:
        assert stream.read(10) == content(1)[:10]
        source.unlink()
        assert os.pread(stream.fileno(), SIZE, 0) == content(1)


def test_a_handle_reads_on_in_the_file_that_was_replaced(mount: Path, source: Path) -> None:
    with open(mount / NAME, "rb", buffering=0) as stream:
        assert stream.read(10) == content(1)[:10]
        replace(source, content(2))
        assert os.pread(stream.fileno(), SIZE, 0) == content(1)


def deleted(path: Path) -> None:
    path.unlink()


def study_deleted(path: Path) -> None:
    shutil.rmtree(path.parent)


def study_moved(path: Path) -> None:
    path.parent.rename(path.parent.with_name("2.2"))


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def study_is_a_file(path: Path) -> None:
    shutil.rmtree(path.parent)
    path.parent.write_bytes(b"")


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def unix_socket(path: Path) -> None:
    path.unlink()
    here = os.getcwd()
    os.chdir(path.parent)  # the path may be longer than a socket's may be
    try:
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(path.name)
    finally:
        os.chdir(here)


def link_inside(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def link_outside(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def study_is_a_link_outside(path: Path) -> None:
    outside = path.parents[4] / "outside"
    path.parent.rename(outside)
    path.parent.symlink_to(outside)


@pytest.mark.parametrize(
    "change",
    [
        deleted,
        study_deleted,
        study_moved,
        study_is_a_file,
        directory,
        fifo,
        unix_socket,
        link_inside,
        link_outside,
        study_is_a_link_outside,
    ],
)
def test_what_is_gone_is_stale(mount: Path, source: Path, change: Callable[[Path], None]) -> None:
    change(source)
    for _ in range(2):
        with pytest.raises(OSError) as raised:  # noqa: PT011
            (mount / NAME).read_bytes()
        assert raised.value.errno == errno.ESTALE
    assert Path(NAME).name in os.listdir(mount / "all"), "until the next refresh"
    assert (mount / "all/1.1.1.json").read_bytes(), "the drive goes on"


def test_what_comes_back_is_served_again(mount: Path, source: Path) -> None:
    source.rename(source.with_name("away"))
    with pytest.raises(OSError, match=r"[Ss]tale"):
        (mount / NAME).read_bytes()
    source.with_name("away").rename(source)
    assert (mount / NAME).read_bytes() == content(1)


def test_a_new_file_is_not_shown_before_the_next_mount(mount: Path, source: Path) -> None:
    source.with_name("1.1.2.dcm").write_bytes(b"new")
    assert not (mount / "all/1.1.2.dcm").exists()
    assert sorted(os.listdir(mount / "all")) == ["1.1.1.dcm", "1.1.1.json"]


def test_a_changed_file_gains_no_permission(mount: Path, source: Path) -> None:
    before = os.stat(mount / NAME).st_mode
    replace(source, content(2))
    source.chmod(0o777)
    assert (mount / NAME).read_bytes() == content(2)
    assert os.stat(mount / NAME).st_mode & 0o777 & ~before == 0


# Symbolic links that are there from the beginning


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    """A database with a file, a study and a client that are links out of it, and a study that is a link inside."""
    tree = Tree(tmp_path / "db")
    study = tree.client().study().image("1.1.1", dcm=b"inside")
    outside = Tree(tmp_path / "outside").client("demd2").study("2.2").image("2.2.1", dcm=b"outside")
    (study.images / "1.1.2.dcm").symlink_to(outside.images / "2.2.1.dcm")
    (study.of.images / "2.2").symlink_to(outside.images)
    (tree.images / "demd2").symlink_to(outside.of.images)
    (study.of.images / "3.3").symlink_to("1.1")
    return tree.root


def test_a_link_that_leaves_the_source_is_not_followed(drive: Drives, linked: Path) -> None:
    mount = drive(linked)
    dcms = [path.read_bytes() for path in (mount / "by-client").rglob("*.dcm")]
    assert dcms == [b"inside", b"inside"], "a directory may be a link inside of the source"
    assert sorted(os.listdir(mount / "by-client")) == ["demd1"]
    lines = (mount / ".omidbfs/problems.jsonl").read_text().splitlines()
    places = {"images/demd1/1.1/1.1.2.dcm", "images/demd1/2.2", "images/demd2"}
    assert {place for place in places for line in lines if place in line and '"symlink"' in line} == places


def test_a_link_is_followed_where_that_is_asked_for(drive: Drives, linked: Path) -> None:
    mount = drive(linked, "--follow-symlinks")
    by_client = mount / "by-client"
    assert (by_client / "demd1/1.1/1.1.2.dcm").read_bytes() == b"outside"
    assert (by_client / "demd1/2.2/2.2.1.dcm").read_bytes() == b"outside"
    assert (by_client / "demd2/2.2/2.2.1.dcm").read_bytes() == b"outside"
    assert (by_client / "demd1/3.3/1.1.1.dcm").read_bytes() == b"inside"
    assert not (by_client / "demd1/1.1/1.1.2.dcm").is_symlink()
