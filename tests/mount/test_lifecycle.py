"""The life of a drive: start, refusals, end, and access for users."""

import errno
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from drives import Drives, clean_up, eventually, mounted_below
from test_refresh import refresh, replaced
from trees import Tree

import omidbfs


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A database of one image."""
    tree = Tree(tmp_path / "db")
    tree.client().study().image("1.1.1", dcm=b"pixels", ViewPosition="CC")
    return tree.root


def refused(drive: Drives, *arguments: object) -> str:
    """Check that a command refuses with one line and leaves nothing behind. Return the line."""
    before = mounted_below(drive.directory), sorted(drive.processes())
    done = drive.run(*arguments, status=None)
    assert done.returncode not in (0, 2, -signal.SIGKILL)
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("omidbfs: ")
    assert (mounted_below(drive.directory), sorted(drive.processes())) == before
    return line


# Beginning


def test_a_drive_answers_as_soon_as_the_command_returns(drive: Drives, source: Path) -> None:
    mount = drive(source)
    assert (mount / "all/1.1.1.dcm").read_bytes() == b"pixels"
    assert drive.pid(mount) in drive.processes()
    options = next(
        line.split(" ")
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
        if line.split(" ")[4] == str(mount)
    )
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(options[5].split(","))
    assert options[options.index("-") + 1] == "fuse.omidbfs"
    assert "default_permissions" in options[-1]
    assert "allow_other" not in options[-1]


def test_the_background_drive_holds_no_terminal_and_no_directory(drive: Drives, source: Path) -> None:
    process = drive.pid(drive(source))
    for stream in (0, 1, 2):
        assert os.readlink(f"/proc/{process}/fd/{stream}") == "/dev/null"
    assert os.readlink(f"/proc/{process}/cwd") == "/"
    assert os.getsid(process) == process


def test_without_a_log_file_the_log_is_in_the_user_s_state(drive: Drives, source: Path) -> None:
    place = drive.directory_for_mount()
    drive.mounted.append(place)
    drive.run("mount", source, place)
    log = drive.directory / "state/omidbfs/omidbfs.log"
    assert "mounted" in log.read_text()
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    drive.logs.append(log)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_drive_in_the_foreground(drive: Drives, source: Path, number: signal.Signals) -> None:
    process, mount = drive.foreground(source)
    assert (mount / "all/1.1.1.dcm").read_bytes() == b"pixels"
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")
    drive.forget(mount)
    assert mounted_below(drive.directory) == []
    assert list(mount.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_drive_in_the_background_even_in_use(
    drive: Drives, source: Path, number: signal.Signals
) -> None:
    mount = drive(source)
    with open(mount / "all/1.1.1.dcm", "rb"):
        os.kill(drive.pid(mount), number)
        eventually(lambda: drive.processes() == [], "the daemon gone")
        assert mounted_below(drive.directory) == []
    drive.forget(mount)
    assert number.name in drive.logs[0].read_text()


def test_unmounting_from_outside_ends_a_drive_in_the_foreground(drive: Drives, source: Path) -> None:
    process, mount = drive.foreground(source)
    drive.forget(mount)
    subprocess.run(["fusermount3", "-u", mount], check=True)
    _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")


@pytest.mark.parametrize("name", ["a blank", "com,ma", "back\\slash", "ünï", "quo'te", "100%", "fuse.omidbfs - x"])
def test_source_and_mount_point_may_have_any_name(drive: Drives, tmp_path: Path, name: str) -> None:
    Tree(tmp_path / "databases" / name).client().study().image("1.1.1", dcm=b"pixels")
    place = tmp_path / "mounts" / name
    place.mkdir(parents=True)
    mount = drive(tmp_path / "databases" / name, at=place)
    assert (mount / "all/1.1.1.dcm").read_bytes() == b"pixels"
    drive.umount(mount)


def test_source_and_mount_point_may_have_names_that_are_no_text(drive: Drives, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    Tree(tmp_path / "databases" / name).client().study().image("1.1.1", dcm=b"pixels")
    place = tmp_path / "mounts" / name
    place.mkdir(parents=True)
    mount = drive(tmp_path / "databases" / name, at=place)
    assert (mount / "all/1.1.1.dcm").read_bytes() == b"pixels"
    json.loads((mount / ".omidbfs/status.json").read_bytes())
    drive.umount(mount)


def test_a_mount_point_named_through_a_link_is_unmounted_through_it(drive: Drives, source: Path) -> None:
    real = drive.directory_for_mount()
    link = drive.directory / "link"
    link.symlink_to(real)
    drive(source, at=link)
    assert (real / "all/1.1.1.dcm").read_bytes() == b"pixels"
    drive.mounted[:] = [real]
    drive.run("umount", link)
    drive.forget(real)
    assert mounted_below(drive.directory) == []


def test_mount_point_and_source_may_be_relative(drive: Drives, source: Path) -> None:
    (drive.directory / "here").mkdir()
    drive.run("mount", "db", "here", "--log-file", drive.log_file())
    drive.mounted.append(drive.directory / "here")
    assert (drive.directory / "here/all/1.1.1.dcm").read_bytes() == b"pixels"


def test_the_two_trees_may_be_apart(drive: Drives, source: Path, tmp_path: Path) -> None:
    (source / "images").rename(tmp_path / "pixels")
    (source / "data").rename(tmp_path / "facts")
    mount = drive(Path("-"), "--images", str(tmp_path / "pixels"), "--data", str(tmp_path / "facts"))
    assert (mount / "by-view/CC/1.1.1.dcm").read_bytes() == b"pixels"


def test_one_source_may_be_mounted_twice(drive: Drives, source: Path) -> None:
    mounts = [drive(source), drive(source)]
    assert [(mount / "all/1.1.1.dcm").read_bytes() for mount in mounts] == [b"pixels"] * 2
    drive.umount(mounts[0])
    assert (mounts[1] / "all/1.1.1.dcm").read_bytes() == b"pixels"


def test_one_tree_alone_is_a_source(drive: Drives, source: Path) -> None:
    shutil.rmtree(source / "images")
    mount = drive(source)
    assert os.listdir(mount / "all") == ["1.1.1.json"]
    assert os.listdir(mount / "by-view") == ["CC"]


# Refusals


def test_mounting_over_the_source_is_refused(drive: Drives, source: Path) -> None:
    assert "is the source itself" in refused(drive, "mount", source, source)


def test_mounting_inside_the_source_is_refused(drive: Drives, source: Path) -> None:
    inside = source / "images/drive"
    inside.mkdir()
    for place in (inside, source / "images", source / "data"):
        assert "inside the source" in refused(drive, "mount", source, place)
    (drive.directory / "link").symlink_to(inside)
    assert "inside the source" in refused(drive, "mount", source, drive.directory / "link")


def test_mounting_over_what_contains_the_source_is_refused(drive: Drives, source: Path) -> None:
    assert "contains the source" in refused(drive, "mount", source, source.parent)


def test_mounting_on_a_file_is_refused(drive: Drives, source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert "is not a directory" in refused(drive, "mount", source, tmp_path / "file")


def test_mounting_on_nothing_is_refused_with_the_command_that_helps(
    drive: Drives, source: Path, tmp_path: Path
) -> None:
    line = refused(drive, "mount", source, tmp_path / "not yet")
    assert "no such directory" in line
    subprocess.run(line.partition("create it: ")[2], shell=True, check=True)
    drive(source, at=tmp_path / "not yet")


def test_mounting_on_a_directory_with_files_is_refused(drive: Drives, source: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_bytes(b"mine")
    assert "is not empty" in refused(drive, "mount", source, tmp_path / "full")
    assert (tmp_path / "full/file").read_bytes() == b"mine"


def test_mounting_on_a_drive_is_refused(drive: Drives, source: Path) -> None:
    mount = drive(source)
    assert "already mounted" in refused(drive, "mount", source, mount)
    assert (mount / "all/1.1.1.dcm").read_bytes() == b"pixels"


def test_mounting_inside_a_drive_is_refused(drive: Drives, source: Path) -> None:
    mount = drive(source)
    refused(drive, "mount", source, mount / "all")
    assert (mount / "all/1.1.1.dcm").read_bytes() == b"pixels"


def test_mounting_a_source_that_is_not_there_is_refused(drive: Drives, tmp_path: Path) -> None:
    place = drive.directory_for_mount()
    assert "no such directory" in refused(drive, "mount", tmp_path / "nothing", place)
    (tmp_path / "empty").mkdir()
    assert "holds no images/ or data/" in refused(drive, "mount", tmp_path / "empty", place)
    assert "no such directory" in refused(drive, "mount", "-", place, "--images", tmp_path / "nothing")
    assert list(place.iterdir()) == []


def test_a_log_that_cannot_be_written_is_refused(drive: Drives, source: Path, tmp_path: Path) -> None:
    place = drive.directory_for_mount()
    assert "nothing/log" in refused(drive, "mount", source, place, "--log-file", tmp_path / "nothing/log")


def test_a_drive_whose_daemon_was_killed_is_cleared_by_the_command_given(
    drive: Drives, source: Path, tmp_path: Path
) -> None:
    place = tmp_path / "a drive"
    place.mkdir()
    mount = drive(source, at=place)
    os.kill(drive.pid(mount), signal.SIGKILL)
    eventually(lambda: drive.processes() == [], "the daemon gone")
    with pytest.raises(OSError) as raised:  # noqa: PT011
        os.listdir(mount)
    assert raised.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    line = refused(drive, "mount", source, mount)
    assert "dead mount" in line
    subprocess.run(line.partition("clear it: ")[2], shell=True, check=True)
    drive.forget(mount)
    drive(source, at=mount)
    assert (mount / "all/1.1.1.dcm").read_bytes() == b"pixels"


def test_a_drive_whose_daemon_was_killed_can_be_unmounted(drive: Drives, source: Path) -> None:
    mount = drive(source)
    os.kill(drive.pid(mount), signal.SIGKILL)
    eventually(lambda: drive.processes() == [], "the daemon gone")
    drive.umount(mount)


# Ending


def test_unmounting_another_file_system_is_refused(drive: Drives, source: Path, tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nothing", Path("/"), Path("/proc")):
        assert "no drive of omidbfs" in refused(drive, "umount", place)


def test_a_path_in_a_drive_leads_to_the_command_for_that_drive(drive: Drives, source: Path) -> None:
    mount = drive(source)
    (drive.directory / "link").symlink_to(mount)
    for command in ("umount", "refresh", "status"):
        for place in (mount / "all", "link/by-view"):
            line = refused(drive, command, place)
            assert line == f"omidbfs: {place}: is a path in the drive at {mount}; omidbfs {command} {mount}"
    command = [sys.executable, "-m", "omidbfs", "umount", "."]
    done = subprocess.run(
        command, cwd=mount / "all", capture_output=True, text=True, check=False, env=drive.environment
    )
    leave = f"leave the drive with cd, then omidbfs umount {mount}"
    assert done.stderr == f"omidbfs: .: is a path in the drive at {mount}; {leave}\n"
    assert os.listdir(mount / "all")


def test_a_drive_in_use_is_not_unmounted(drive: Drives, source: Path) -> None:
    mount = drive(source)
    with open(mount / "all/1.1.1.dcm", "rb") as stream:
        assert "in use" in refused(drive, "umount", mount)
        assert stream.read() == b"pixels"
    drive.umount(mount)


# Access


def read_as(uid: int, path: Path) -> bytes | None:
    """Return what another user reads, or ``None`` without permission."""
    done = subprocess.run(
        ["cat", path], user=uid, group=uid, extra_groups=[], capture_output=True, text=False, cwd="/", check=False
    )
    if done.returncode != 0:
        assert b"Permission denied" in done.stderr, done.stderr
        return None
    return done.stdout


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
OTHER = 65534
"""nobody"""


@pytest.fixture
def guarded(open_path: Path) -> Path:
    """A database with parts that only root can read."""
    client = Tree(open_path / "db").client()
    client.study("1").image("1.0", dcm=b"open").image("1.1", dcm=b"closed").image("1.2", dcm=b"for the group")
    client.study("2").image("2.0", dcm=b"in a closed study").study("3").image(
        "3.0", dcm=b"in a study for the group"
    )
    for path, mode in (
        ("1/1.1.dcm", 0o600),
        ("1/1.2.dcm", 0o640),
        ("2", 0o700),
        ("3", 0o750),
    ):
        (client.images / path).chmod(mode)
    return open_path / "db"


@needs_root
def test_with_allow_other_a_user_reads_what_the_source_permits(
    drive: Drives, guarded: Path, open_path: Path
) -> None:
    (open_path / "drive").mkdir()
    mount = drive(guarded, "--allow-other", at=open_path / "drive")
    assert read_as(OTHER, guarded / "images/demd1/1/1.0.dcm") == b"open"
    readable = {"1.0": b"open"}
    for image, study in (("1.0", "1"), ("1.1", "1"), ("1.2", "1"), ("2.0", "2"), ("3.0", "3")):
        assert read_as(OTHER, guarded / f"images/demd1/{study}/{image}.dcm") == readable.get(image)
        for view in ("all", "by-view/unknown", f"by-client/demd1/{study}"):
            assert read_as(OTHER, mount / view / f"{image}.dcm") == readable.get(image)
            assert (mount / view / f"{image}.dcm").read_bytes()
    assert stat.S_IMODE(os.stat(mount / "all/1.2.dcm").st_mode) == 0o440
    assert stat.S_IMODE(os.stat(mount / "all/3.0.dcm").st_mode) == 0o440
    assert stat.S_IMODE(os.stat(mount / "all/2.0.dcm").st_mode) == 0o400
    drive.umount(mount)


@needs_root
def test_a_closed_root_of_the_source_closes_the_drive(drive: Drives, guarded: Path, open_path: Path) -> None:
    (open_path / "drive").mkdir()
    (guarded / "data").chmod(0o700)
    mount = drive(guarded, "--allow-other", at=open_path / "drive")
    assert read_as(OTHER, mount / "README.txt") is None
    assert read_as(OTHER, mount / ".omidbfs/problems.jsonl") is None
    assert read_as(OTHER, mount / "all/1.0.dcm") is None
    drive.umount(mount)


@needs_root
def test_without_allow_other_no_other_user_can_enter(drive: Drives, guarded: Path, open_path: Path) -> None:
    (open_path / "drive").mkdir()
    mount = drive(guarded, at=open_path / "drive")
    assert read_as(OTHER, mount / "all/1.0.dcm") is None
    drive.umount(mount)


@needs_root
def test_with_allow_other_a_user_loses_access_that_the_source_withdraws(
    drive: Drives, guarded: Path, open_path: Path
) -> None:
    (open_path / "drive").mkdir()
    mount = drive(guarded, "--allow-other", at=open_path / "drive")
    source, path = guarded / "images/demd1/1/1.0.dcm", mount / "all/1.0.dcm"
    assert read_as(OTHER, path) == b"open"  # the kernel then caches its pages
    source.chmod(0o600)
    refresh(mount)
    assert read_as(OTHER, source) is None
    assert read_as(OTHER, path) is None
    assert path.read_bytes() == b"open"
    source.chmod(0o644)
    refresh(mount)
    assert read_as(OTHER, path) == b"open"
    source.parent.chmod(0o700)
    refresh(mount)
    for name in ("1.0", "1.1", "1.2"):
        assert read_as(OTHER, mount / f"all/{name}.dcm") is None
        assert read_as(OTHER, mount / f"by-client/demd1/1/{name}.dcm") is None
    drive.umount(mount)


@needs_root
def test_with_allow_other_a_replaced_file_gains_no_access_before_a_refresh(
    drive: Drives, guarded: Path, open_path: Path
) -> None:
    (open_path / "drive").mkdir()
    mount = drive(guarded, "--allow-other", at=open_path / "drive")
    source, path = guarded / "images/demd1/1/1.1.dcm", mount / "all/1.1.dcm"
    assert read_as(OTHER, path) is None
    replaced(source, b"another one, for everybody")
    assert read_as(OTHER, source) == b"another one, for everybody"
    assert path.read_bytes() == b"another one, for everybody"  # the drive has noticed
    assert read_as(OTHER, path) is None
    theirs, shown = guarded / "images/demd1/3/3.0.dcm", mount / "all/3.0.dcm"
    replaced(theirs, b"of one who may not search the study")
    os.chown(theirs, OTHER, 0)
    assert read_as(OTHER, theirs) is None
    assert shown.read_bytes() == b"of one who may not search the study"
    assert read_as(OTHER, shown) is None
    refresh(mount)
    assert read_as(OTHER, path) == b"another one, for everybody"
    assert read_as(OTHER, shown) is None
    drive.umount(mount)


@needs_root
def test_with_allow_other_texts_that_quote_the_source_need_access_to_all_of_it(
    drive: Drives, guarded: Path, open_path: Path
) -> None:
    (open_path / "drive").mkdir()
    mount = drive(guarded, "--allow-other", at=open_path / "drive")
    quoting = [mount / name for name in (".omidbfs/problems.jsonl", ".omidbfs/facets.json")]
    table = mount / "all/.omidbfs/index.csv"
    for path in (mount / "README.txt", mount / ".omidbfs/status.json"):
        assert read_as(OTHER, path)
    assert [read_as(OTHER, path) for path in (*quoting, table)] == [None] * 3
    command = ["stat", "--format=%s", table]
    said = subprocess.run(command, user=OTHER, group=OTHER, extra_groups=[], capture_output=True, check=True)
    assert said.stdout == b"0\n", "it has not been made"
    assert table.stat().st_size == len(table.read_bytes()) > 0
    for path in guarded.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    refresh(mount)
    assert all(read_as(OTHER, path) == path.read_bytes() for path in (*quoting, table))
    drive.umount(mount)


class User:
    """A user other than root in a new mount namespace, with access to /dev/fuse.

    fusermount3 needs a user with a name: nobody.
    """

    uid = OTHER

    def __init__(self, home: Path) -> None:
        self.home = home
        self.marker = f"DRIVES_BELOW={home}"
        packages = [str(Path(omidbfs.__file__).parents[1]), *(path for path in sys.path if "-packages" in path)]
        self.environment = {
            "PATH": os.defpath,
            "HOME": str(home),
            "DRIVES_BELOW": str(home),
            "PYTHONPATH": os.pathsep.join(packages),
        }
        device = home / "device"
        os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(10, 229))
        device.chmod(0o666)
        script = 'mount --bind "$0" /dev/fuse && echo ready && exec sleep 1000'
        self.holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, str(device)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "DRIVES_BELOW": str(home)},
        )
        assert self.holder.stdout is not None
        if self.holder.stdout.readline() != "ready\n":
            pytest.skip("no mount namespace can be made here")
        if self.run("sh", "-c", ": <>/dev/fuse").returncode != 0:
            pytest.skip("another user cannot open a FUSE device here")
        names = (sys.executable, os.path.realpath(sys.executable), f"python3.{sys.version_info.minor}")
        test = "import omidbfs.fuse.daemon, omidbfs.cli.main, omidbfs.view.about, omidbfs.index.build"
        found = (name for name in names if self.run(name, "-c", test).returncode == 0)
        self.python = next(found, None)
        if self.python is None:
            pytest.skip("another user cannot run the Python of these tests, nor one of the system in its place")

    def run(self, *command: object) -> "subprocess.CompletedProcess[str]":
        """Run a command as this user."""
        return subprocess.run(
            [
                *("nsenter", f"--target={self.holder.pid}", "--mount", "--"),
                *("setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups", "--"),
                *("env", *map(str, command)),  # setpriv itself still executes with root's permissions
            ],
            capture_output=True,
            text=True,
            env=self.environment,
            cwd=self.home,
            check=False,
            timeout=60,
        )

    def omidbfs(self, *arguments: object) -> "subprocess.CompletedProcess[str]":
        """Run ``omidbfs`` as this user."""
        return self.run(self.python, "-m", "omidbfs", *arguments)


@pytest.fixture
def user(open_path: Path) -> Iterator[User]:
    """A user other than root, with a home."""
    home = open_path / "home"
    home.mkdir()
    os.chown(home, User.uid, User.uid)
    made: list[subprocess.Popen[str]] = []
    try:
        someone = User(home)
        made.append(someone.holder)
        yield someone
    finally:
        clean_up(open_path, f"DRIVES_BELOW={home}")
        for holder in made:
            holder.communicate(timeout=120)


@needs_root
def test_a_user_mounts_and_unmounts_without_being_root(user: User, guarded: Path) -> None:
    mount = user.home / "drive"
    mount.mkdir()
    os.chown(mount, user.uid, user.uid)
    done = user.omidbfs("mount", guarded, mount)
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("", "")
    assert user.run("cat", mount / "all/1.0.dcm").stdout == "open"
    assert "Permission denied" in user.run("cat", mount / "all/1.1.dcm").stderr
    listed = user.run("ls", mount / "all").stdout.splitlines()
    assert "1.1.dcm" in listed
    assert "2.0.dcm" not in listed, "that user cannot list the study"
    assert '"unreadable"' in user.run("cat", mount / ".omidbfs/problems.jsonl").stdout
    assert f"user_id={user.uid}" in user.run("grep", "fuse.omidbfs", "/proc/mounts").stdout
    log = user.home / ".local/state/omidbfs/omidbfs.log"
    assert not re.search("WARNING|ERROR|Traceback", log.read_text())
    done = user.omidbfs("umount", mount)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert str(mount) not in user.run("cat", "/proc/mounts").stdout
    assert user.run("ls", mount).stdout == ""


@needs_root
def test_root_may_ask_a_drive_that_lets_only_its_user_in(user: User, guarded: Path, open_path: Path) -> None:
    mount = user.home / "drive"
    mount.mkdir()
    os.chown(mount, user.uid, user.uid)
    assert user.omidbfs("mount", guarded, mount).returncode == 0
    entered = ["nsenter", f"--target={user.holder.pid}", "--mount", "--"]

    def ended(*command: object) -> "subprocess.CompletedProcess[str]":
        words = [*entered, *map(str, command)]
        return subprocess.run(words, cwd="/", capture_output=True, text=True, check=False, timeout=60)

    assert ended("ls", mount).returncode != 0, "the kernel lets not even root in"
    ours = (sys.executable, "-m", "omidbfs")
    before = json.loads(ended(*ours, "status", mount, "--json").stdout)[0]
    assert (before["state"], before["images"]) == ("mounted", len(list(guarded.glob("images/*/*/*.dcm"))))
    done = ended(*ours, "refresh", mount)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    after = json.loads(ended(*ours, "status", mount, "--json").stdout)[0]
    assert after["refresh"]["done"] > before["refresh"]["done"]
    assert after["counters"]["reports"] > before["counters"]["reports"]
    other = (
        "setpriv",
        f"--reuid={user.uid + 1}",
        "--clear-groups",
        "env",
        f"PYTHONPATH={user.environment['PYTHONPATH']}",
    )
    closed = f"omidbfs: {mount}: the drive is another user's, and closed to you; ask as that user, or as root"
    assert ended(*other, user.python, "-m", "omidbfs", "refresh", mount).stderr == f"{closed}\n"
    said = ended(*other, user.python, "-m", "omidbfs", "count", mount).stderr
    assert said == f"{closed}; or name the directory that it shows\n"
    done = ended(*ours, "umount", mount)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert ended("mountpoint", "-q", mount).returncode != 0
    assert not Path(f"/proc/{before['pid']}/cwd").exists(), "umount has waited for its end"


@needs_root
def test_a_user_cannot_do_what_only_root_may_do(user: User, guarded: Path, open_path: Path) -> None:
    for name, owner in (("own", user.uid), ("foreign", 0)):
        (open_path / name).mkdir()
        os.chown(open_path / name, owner, owner)
    for options, place, text in (
        (["--allow-other"], open_path / "own", "user_allow_other"),
        ([], open_path, "contains the source"),
        ([], open_path / "foreign", "not yours"),
    ):
        done = user.omidbfs("mount", guarded, place, *options)
        assert done.returncode == 1
        [line] = done.stderr.splitlines()
        assert text in line
    assert str(open_path) not in user.run("grep", "fuse.omidbfs", "/proc/mounts").stdout
