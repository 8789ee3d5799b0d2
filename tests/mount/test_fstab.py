"""A line of /etc/fstab mounts the same drive as ``omidbfs mount``, by mount(8) and mount.fuse3."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from drives import Drives, eventually
from trees import Tree

import omidbfs

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("mount.fuse3", path="/sbin:/usr/sbin") is None,
    reason="only root can mount by mount(8), which needs mount.fuse3",
)

LOOK = """
mount --bind "$BIN" /usr/local/bin || exit 77  # where mount(8) finds programs
{mount} || exit $?
cat "$DRIVE/all/1.1.1.dcm"
stat -c ' %a %u %g' "$DRIVE/all/1.1.1.dcm"
grep fuse.omidbfs /proc/self/mounts | grep -F "$DRIVE"
umount "$DRIVE"
"""


@pytest.fixture
def place(drive: Drives) -> Path:
    """A mount point, a database, and a directory with our program."""
    tree = Tree(drive.directory / "db")
    tree.client().study().image("1.1.1", dcm=b"pixels")
    (drive.directory / "bin").mkdir()
    program = drive.directory / "bin/omidbfs"
    program.write_text(
        f'#!/bin/sh\nPYTHONPATH={Path(omidbfs.__file__).parents[1]} exec {sys.executable} -m omidbfs "$@"\n'
    )
    program.chmod(0o755)
    return drive.directory_for_mount()


def mounted(drive: Drives, place: Path, mount: str) -> "subprocess.CompletedProcess[str]":
    """Mount with a shell command in a new mount namespace, run a command, and unmount."""
    environment = {**drive.environment, "BIN": str(drive.directory / "bin"), "DRIVE": str(place)}
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", LOOK.format(mount=mount)],
        env=environment,
        cwd=drive.directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode == 77:
        pytest.skip("no mount namespace can be made here")
    eventually(lambda: drive.processes() == [], "the daemon gone after umount(8)")
    return done


def test_mount_of_our_type_mounts_with_the_options_of_omidbfs_mount(drive: Drives, place: Path) -> None:
    index = drive.directory / "an.index"
    options = f"ro,noexec,index={index},link_all,uid=nobody,umask=077,allow_other,log-file={drive.log_file()}"
    done = mounted(drive, place, f"mount -t fuse.omidbfs db {place} -o {options}")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    pixels, line = done.stdout.splitlines()
    assert pixels == "pixels 400 65534 0"
    assert "allow_other" in line
    assert "ro,nosuid,nodev,noexec" in line
    assert index.exists()


def test_a_line_of_fstab_mounts(drive: Drives, place: Path) -> None:
    fstab = drive.directory / "fstab"
    options = "noauto,user,nofail,_netdev,x-systemd.automount,x-any=thing,defaults,noatime"
    source = drive.directory / "db"
    fstab.write_text(f"{source} {place} fuse.omidbfs {options},log-file={drive.log_file()} 0 0\n")
    done = mounted(drive, place, f"mount -T {fstab} {place}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("pixels 400 0 0\n")
    assert "ro,nosuid,nodev,noexec" in done.stdout


def test_a_line_of_fstab_without_our_type_mounts(drive: Drives, place: Path) -> None:
    log = drive.log_file()
    done = mounted(drive, place, f"mount -t fuse omidbfs#{drive.directory}/db {place} -o log-file={log}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("pixels 400 0 0\n")


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("colour=red", "-o colour: no option of a drive"),
        ("refresh-every", "-o refresh-every: needs a value, refresh-every=..."),
        ("remount", "-o remount: a drive cannot be changed while it is mounted"),
    ],
)
def test_an_unknown_option_fails_with_one_line(drive: Drives, place: Path, option: str, says: str) -> None:
    done = mounted(drive, place, f"mount -t fuse.omidbfs db {place} -o {option}")
    assert done.returncode != 0
    [line] = done.stderr.splitlines()
    assert line.startswith(f"omidbfs: {says}")
