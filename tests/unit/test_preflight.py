"""Every obstacle to a mount is found before the mount, and reported in one line with a remedy."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from omidbfs.base.errors import UserError
from omidbfs.database.layout import find_source
from omidbfs.fuse.mounts import mount_at, mounts
from omidbfs.fuse.preflight import (
    check_allow_other,
    check_apart,
    check_fuse,
    check_fusermount,
    check_mount,
    check_mountpoint,
    check_not_mounted,
    load_pyfuse3,
)


def complaint(check: Callable[[], None]) -> str:
    with pytest.raises(UserError) as caught:
        check()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# The mount point -------------------------------------------------------------------------------------------


def test_an_empty_directory_is_a_mount_point(tmp_path: Path) -> None:
    check_not_mounted(tmp_path)
    check_mountpoint(tmp_path)


def test_a_mount_point_that_is_not_there_is_to_be_made(tmp_path: Path) -> None:
    place = tmp_path / "none"
    assert complaint(lambda: check_mountpoint(place)) == f"{place}: no such directory; create it: mkdir -p {place}"


def test_a_file_is_no_mount_point(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "is not a directory" in complaint(lambda: check_mountpoint(tmp_path / "file"))


def test_nothing_below_a_file_is_a_mount_point(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be used as mount point: Not a directory" in complaint(
        lambda: check_mountpoint(tmp_path / "file" / "x")
    )


def test_a_directory_that_holds_something_is_no_mount_point(tmp_path: Path) -> None:
    (tmp_path / ".hidden").write_text("")
    assert "is not empty" in complaint(lambda: check_mountpoint(tmp_path))


def test_something_mounted_is_no_mount_point() -> None:
    assert "a file system of type proc is already mounted there" in complaint(
        lambda: check_not_mounted(Path("/proc"))
    )


CHECK_AS_SOMEBODY = """
import os, sys
from pathlib import Path
from omidbfs.fuse.preflight import check_mountpoint
os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    check_mountpoint(Path(sys.argv[1]))
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become others")
def test_a_directory_of_another_user_is_no_mount_point() -> None:
    place = Path(tempfile.mkdtemp())
    try:
        place.chmod(0o755)
        done = subprocess.run(
            [sys.executable, "-c", CHECK_AS_SOMEBODY, str(place)], capture_output=True, text=True, check=True
        )
    finally:
        shutil.rmtree(place)
    assert done.stdout.startswith(f"UserError {place}: is not yours to mount on")


# Source and mount point ------------------------------------------------------------------------------------


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A database, and directories beside it."""
    for place in ("db/images/demd1", "db/data", "elsewhere", "db2", "db-mnt"):
        (tmp_path / place).mkdir(parents=True)
    (tmp_path / "link").symlink_to("db")
    return tmp_path / "db"


@pytest.mark.parametrize(
    ("mountpoint", "says"),
    [
        ("db", "is the source itself"),
        ("link", "is the source itself"),
        ("elsewhere/../db", "is the source itself"),
        ("db/images", "lies inside the source"),
        ("db/images/demd1", "lies inside the source"),
        ("link/data", "lies inside the source"),
        ("db/none", "lies inside the source"),
        (".", "contains the source"),
        ("/", "contains the source"),
    ],
)
def test_source_and_mount_point_are_apart(source: Path, mountpoint: str, says: str) -> None:
    assert says in complaint(lambda: check_apart(source, source.parent / mountpoint))


@pytest.mark.parametrize("mountpoint", ["elsewhere", "db2", "db-mnt", "none"])
def test_a_directory_beside_the_source_is_apart(source: Path, mountpoint: str) -> None:
    check_apart(source, source.parent / mountpoint)


@pytest.mark.parametrize("mountpoint", ["db", "db/data", "db/mnt", "."])
def test_a_mount_is_refused_on_any_part_of_a_source(source: Path, mountpoint: str) -> None:
    (source / "mnt").mkdir()
    message = complaint(lambda: check_mount(find_source(source), source.parent / mountpoint, allow_other=False))
    assert "source" in message


# The system ------------------------------------------------------------------------------------------------


def test_a_kernel_without_fuse_is_to_get_it(tmp_path: Path) -> None:
    assert "modprobe fuse" in complaint(lambda: check_fuse(tmp_path / "fuse"))


def test_a_device_that_does_not_open_is_a_matter_for_an_administrator(tmp_path: Path) -> None:
    assert "cannot be opened: Is a directory" in complaint(lambda: check_fuse(tmp_path))


def test_a_device_that_opens_will_do() -> None:
    check_fuse(Path(os.devnull))


def test_without_fusermount3_only_root_can_mount(tmp_path: Path) -> None:
    tool = tmp_path / "fusermount3"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    check_fusermount(str(tmp_path))
    if shutil.which("fusermount3", path="/bin:/usr/bin") is None:
        assert "apt-get install fuse3" in complaint(lambda: check_fusermount(""))
    else:
        check_fusermount("")  # also where PATH leaves out the directories of the system


@pytest.mark.parametrize("text", ["user_allow_other\n", "# comment\n user_allow_other # yes\nmount_max = 5\n"])
def test_users_may_open_a_drive_to_others_where_an_administrator_says_so(tmp_path: Path, text: str) -> None:
    (tmp_path / "fuse.conf").write_text(text)
    check_allow_other(tmp_path / "fuse.conf")


@pytest.mark.parametrize("text", [None, "", "#user_allow_other\n", "user_allow_others\n"])
def test_users_may_not_open_a_drive_to_others_otherwise(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "fuse.conf").write_text(text)
    assert f"add user_allow_other to {tmp_path / 'fuse.conf'}" in complaint(
        lambda: check_allow_other(tmp_path / "fuse.conf")
    )


def test_a_library_that_is_missing_is_named_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    load_pyfuse3()
    monkeypatch.setitem(sys.modules, "pyfuse3", None)  # as if it were not installed
    assert "pyfuse3: not installed, and mounting needs it" in complaint(load_pyfuse3)
    monkeypatch.delitem(sys.modules, "pyfuse3")
    (tmp_path / "pyfuse3.py").write_text("raise ImportError('libfuse3.so.3: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    assert "apt-get install libfuse3" in complaint(load_pyfuse3)


# Mounts ----------------------------------------------------------------------------------------------------


def test_mounts_are_those_that_the_kernel_names() -> None:
    assert "/" in {mount.mountpoint for mount in mounts()}
    proc = mount_at("/proc")
    assert proc is not None
    assert proc.type == "proc"


def test_a_directory_inside_a_mount_is_not_mounted_on(tmp_path: Path) -> None:
    assert mount_at("/proc/self") is None
    assert mount_at(str(tmp_path)) is None
    assert mount_at(str(tmp_path / "none" / "x")) is None


def test_a_mount_is_found_by_any_spelling_of_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "root").symlink_to("/")
    assert mount_at(str(tmp_path / "root" / "proc")) == mount_at("/proc") == mount_at("//proc/")
    monkeypatch.chdir("/")
    assert mount_at("proc") == mount_at("/proc")
    assert mount_at("/") is not None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can bind")
def test_a_mount_point_with_blanks_is_found(tmp_path: Path) -> None:
    place = tmp_path / "two words\\and\ttab"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "a b", place], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("mounting is not permitted here")
    try:
        found = mount_at(str(place))
        assert found is not None
        assert (found.mountpoint, found.type, found.source) == (str(place), "tmpfs", "a b")
        assert "a file system of type tmpfs is already mounted" in complaint(lambda: check_not_mounted(place))
    finally:
        subprocess.run(["umount", place], check=True)
    assert stat.S_ISDIR(place.stat().st_mode)
