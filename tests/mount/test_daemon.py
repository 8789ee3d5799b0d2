"""A drive and its system: dead mounts, processes that use it, its status, systemd, owners of files."""

import json
import os
import re
import shlex
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from drives import Drives, eventually, mounted_below
from trees import Tree

import omidbfs

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
NOBODY = 65534


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A database of one image."""
    tree = Tree(tmp_path / "db")
    tree.client().study().image("1.1.1", dcm=b"pixels", ViewPosition="CC")
    return tree.root


def kill(drive: Drives, mount: Path) -> None:
    """Kill the daemon of a drive, which leaves a dead mount."""
    os.kill(drive.pid(mount), signal.SIGKILL)
    eventually(lambda: drive.processes() == [], "the daemon gone")
    drive.forget(mount)


# Dead mounts -----------------------------------------------------------------------------------------------


def test_replace_clears_a_dead_mount_even_in_use_and_mounts(drive: Drives, source: Path) -> None:
    mount = drive(source)
    held = os.open(mount, os.O_RDONLY | os.O_DIRECTORY)
    kill(drive, mount)
    try:
        drive(source, "--replace", at=mount)
    finally:
        os.close(held)
    assert (mount / "all/1.1.1.dcm").read_bytes() == b"pixels"
    assert mounted_below(drive.directory) == [str(mount)]


def test_replace_clears_a_dead_mount_that_is_named_through_a_link(drive: Drives, source: Path) -> None:
    mount = drive(source)
    kill(drive, mount)
    (drive.directory / "link").symlink_to(mount)
    drive(source, "--replace", at=drive.directory / "link")
    assert (mount / "all/1.1.1.dcm").read_bytes() == b"pixels"
    drive.mounted[:] = [mount]


def test_replace_leaves_a_drive_that_lives(drive: Drives, source: Path) -> None:
    mount = drive(source)
    with open(mount / "all/1.1.1.dcm", "rb") as stream:
        done = drive.run("mount", source, mount, "--replace", status=1)
        assert "already mounted there" in done.stderr
        assert stream.read() == b"pixels"


def test_replace_leaves_a_drive_that_hangs(drive: Drives, source: Path) -> None:
    mount = drive(source)
    process = drive.pid(mount)
    os.kill(process, signal.SIGSTOP)
    try:
        done = drive.run("mount", source, mount, "--replace", status=1)
    finally:
        os.kill(process, signal.SIGCONT)
    assert "does not answer" in done.stderr
    assert (mount / "all/1.1.1.dcm").read_bytes() == b"pixels"


@needs_root
def test_replace_leaves_other_file_systems(drive: Drives, source: Path) -> None:
    place = drive.directory_for_mount()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)
    try:
        done = drive.run("mount", source, place, "--replace", status=1)
        assert "a file system of type tmpfs is already mounted there" in done.stderr
        assert mounted_below(drive.directory) == [str(place)]
    finally:
        subprocess.run(["umount", place], check=True)


# Processes that use it -------------------------------------------------------------------------------------


def test_umount_names_the_processes_that_use_the_drive(drive: Drives, source: Path) -> None:
    mount = drive(source)
    script = (
        "import mmap, sys; f = open(sys.argv[1], 'rb'); m = mmap.mmap(f.fileno(), 0, prot=1); f.close(); input()"
    )
    commands = (
        (["sleep", "60"], mount / "all"),
        (["tail", "-f", mount / "all/1.1.1.dcm"], Path("/")),
        ([sys.executable, "-c", script, mount / "README.txt"], Path("/")),
    )
    started = [
        subprocess.Popen(command, cwd=place, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        for command, place in commands
    ]
    expected = [f"{name} ({started[at].pid})" for at, name in enumerate(("sleep", "tail"))]
    expected.append(f"({started[2].pid})")  # the name depends on the Python of these tests

    def said() -> str:
        return drive.run("umount", mount, status=1).stderr

    try:
        eventually(lambda: all(name in said() for name in expected), f"named: {expected}")
        assert said().startswith(f"omidbfs: {mount}: in use by ")
    finally:
        for process in started:
            process.kill()
            process.communicate()
    drive.umount(mount)


def test_umount_from_inside_says_so_and_does_not_name_itself(drive: Drives, source: Path) -> None:
    mount = drive(source)
    umount = shlex.join([sys.executable, "-m", "omidbfs", "umount", str(mount)])
    environment = {**drive.environment, "PYTHONPATH": str(Path(omidbfs.__file__).parents[1])}
    done = subprocess.run(
        ["sh", "-c", f"{umount}; exit 3"],  # so that the shell waits
        cwd=mount / "all",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    said = rf"omidbfs: {mount}: in use by sh \(\d+\); your shell is inside: leave the drive with cd, or .*\n"
    assert re.fullmatch(said, done.stderr), done.stderr
    drive.umount(mount)


def test_umount_itself_does_not_keep_a_drive_in_use(drive: Drives, source: Path) -> None:
    mount = drive(source)
    command = [sys.executable, "-m", "omidbfs", "umount", ".."]
    done = subprocess.run(
        command, cwd=mount / "all", capture_output=True, text=True, check=False, env=drive.environment
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not os.path.ismount(mount)
    drive.mounted.remove(mount)


def test_umount_waits_for_a_user_that_nobody_sees_and_that_is_gone_at_once(drive: Drives, source: Path) -> None:
    mount = drive(source)
    here, there = socket.socketpair()
    with here, there:
        with open(mount / "README.txt", "rb") as stream:
            socket.send_fds(here, [b"."], [stream.fileno()])  # /proc does not show a file that is under way
        said = drive.run("umount", mount, status=1).stderr
        assert re.search("in use by (programs that only root can see|what /proc does not show)", said)
        threading.Timer(0.5, lambda: socket.recv_fds(there, 1, 0)).start()  # no room for the file: it is closed
        drive.umount(mount)


def test_a_drive_in_use_leaves_the_tree_with_lazy_and_ends_with_its_last_user(drive: Drives, source: Path) -> None:
    mount = drive(source)
    with open(mount / "all/1.1.1.dcm", "rb") as stream:
        drive.run("umount", mount, "--lazy")
        drive.forget(mount)
        assert os.listdir(mount) == []
        assert stream.read() == b"pixels"
    eventually(lambda: drive.processes() == [], "the daemon gone")


def test_a_drive_that_has_left_the_tree_does_not_end_the_one_that_took_its_place(
    drive: Drives, source: Path
) -> None:
    mount = drive(source)
    old = drive.pid(mount)
    with open(mount / "all/1.1.1.dcm", "rb"):
        drive.run("umount", mount, "--lazy")
        drive.forget(mount)
        drive(source, at=mount)
        assert drive.pid(mount) != old
        os.kill(old, signal.SIGTERM)
        eventually(lambda: old not in drive.processes(), "the first drive gone")
    assert mounted_below(drive.directory) == [str(mount)]
    assert (mount / "all/1.1.1.dcm").read_bytes() == b"pixels"


# Beginning -------------------------------------------------------------------------------------------------


def test_a_starter_that_is_ended_takes_the_drive_along(drive: Drives, source: Path) -> None:
    place = drive.directory_for_mount()
    with socket.create_server(("127.0.0.1", 0)) as silent:  # a process that reads this FIFO waits
        cluster = f"dask://127.0.0.1:{silent.getsockname()[1]}"
        command = [sys.executable, "-m", "omidbfs", "mount", source, place, "--executor", cluster]
        command += ["--index", drive.directory / "an.index", "--log-file", drive.log_file()]
        starter = subprocess.Popen(command, env=drive.environment, stderr=subprocess.DEVNULL)
        eventually(lambda: len(drive.processes()) >= 3, "starter, drive and the reading of the source")
        starter.terminate()
        starter.wait(timeout=30)
        eventually(lambda: drive.processes() == [], "all of them gone")
    assert starter.returncode == 128 + signal.SIGTERM
    assert mounted_below(drive.directory) == []


# Status ------------------------------------------------------------------------------------


def test_status_shows_each_drive_with_counters(drive: Drives, source: Path) -> None:
    mount, other = drive(source), drive(source)
    before = json.loads(drive.run("status", mount, "--json").stdout)[0]["counters"]
    assert (mount / "all/1.1.1.dcm").read_bytes() == b"pixels"
    with open(mount / "all/1.1.1.json", "rb"):
        listed = os.listdir(mount / "by-view")
        [shown] = json.loads(drive.run("status", mount, "--json").stdout)
    assert shown["state"] == "mounted"
    assert shown["pid"] == drive.pid(mount)
    assert shown["source"] == [str(source / "images"), str(source / "data")]
    assert (shown["clients"], shown["images"]) == (1, 1)
    assert 0 <= shown["index_age"] < 86_400
    assert shown["refresh"]["state"] in ("idle", "refreshing")
    after = shown["counters"]
    said = json.loads((mount / ".omidbfs/status.json").read_text())
    assert said["front_ends"] == {"fuse": {"loop": "omidbfs"}}
    assert after["reports"] > before["reports"]
    assert after["requests"]["open"] >= before["requests"].get("open", 0) + 2
    assert after["bytes_read"] >= before["bytes_read"] + len(b"pixels")
    assert after["entries_listed"] >= before["entries_listed"] + len(listed)
    assert after["open_files"] >= 1
    drive.environment["TZ"] = "EST5"
    lines = drive.run("status", status=None).stdout  # other tests have drives that are dead
    assert f"{mount}: mounted\n" in lines
    assert f"{other}: mounted\n" in lines
    now = r"\d{4}-\d\d-\d\d \d\d:\d\d EST"
    assert re.search(rf"^  process   {drive.pid(other)}, since {now}$", lines, re.M)
    assert re.search(rf"^  refresh   \w+ since {now}, \d+ done$", lines, re.M)


def test_status_marks_what_is_dead(drive: Drives, source: Path) -> None:
    mount = drive(source)
    kill(drive, mount)
    done = drive.run("status", mount, status=1)
    assert done.stdout.startswith(f"{mount}: dead; ")
    [shown] = json.loads(drive.run("status", mount, "--json", status=1).stdout)
    assert shown["state"] == "dead"
    doctor = drive.run("doctor", status=1)
    assert f"fail  drive: {mount} is dead" in doctor.stdout
    drive.run("umount", mount)
    assert "no drive of omidbfs" in drive.run("status", mount, status=1).stderr


def test_the_counters_in_the_status_change_only_on_request(drive: Drives, source: Path) -> None:
    mount = drive(source, "--verify-first")
    status = mount / ".omidbfs/status.json"
    before = json.loads(status.read_text())
    (mount / "all/1.1.1.dcm").read_bytes()
    assert json.loads(status.read_text()) == before
    os.kill(before["pid"], signal.SIGUSR2)
    eventually(lambda: json.loads(status.read_text())["counters"]["reports"] == 1, "the counters of now")
    assert json.loads(status.read_text())["counters"]["bytes_read"] > before["counters"]["bytes_read"]


def test_sigusr1_writes_stacks_and_counters_to_the_log_and_names_no_client(drive: Drives, source: Path) -> None:
    drive.expect_log("SIGUSR1|^(thread|task|  /|  <)")
    mount = drive(source)
    (mount / "all/1.1.1.dcm").read_bytes()
    os.kill(drive.pid(mount), signal.SIGUSR1)
    log = drive.logs[0]
    eventually(lambda: "task omidbfs.fuse.daemon._answer" in log.read_text(), "the tasks in the log")
    text = log.read_text()
    assert re.search(r'"open": [1-9].*"bytes_read": [1-9]', text)
    assert "thread MainThread:" in text
    assert "daemon.py:" in text
    assert "demd1" not in text
    assert "1.1.1" not in text
    assert (mount / "all/1.1.1.dcm").read_bytes() == b"pixels"


def test_systemd_learns_the_state_of_a_drive(drive: Drives, source: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(str(tmp_path / "notify"))
        supervisor.settimeout(30)

        def told() -> dict[str, str]:
            return dict(line.split("=", 1) for line in supervisor.recv(4096).decode().splitlines())

        drive.environment["NOTIFY_SOCKET"] = str(tmp_path / "notify")
        process, mount = drive.foreground(source, "--verify-first")
        assert told() == {"READY": "1", "STATUS": "1 image of 1 client"}
        assert (mount / "all/1.1.1.dcm").read_bytes() == b"pixels"
        process.send_signal(signal.SIGHUP)
        reloading = told()
        assert (reloading["RELOADING"], reloading["STATUS"]) == ("1", "looking for changes")
        assert int(reloading["MONOTONIC_USEC"]) > 0
        assert told() == {"READY": "1", "STATUS": "1 image of 1 client"}
        (source / "data").rename(source / "away")
        (source / "images").rename(source / "away too")
        process.send_signal(signal.SIGHUP)
        assert told()["RELOADING"] == "1"
        assert told() == {"READY": "1", "STATUS": "1 image of 1 client; the last refresh failed"}
        process.terminate()
        assert told() == {"STOPPING": "1"}
        process.communicate(timeout=120)
    drive.forget(mount)
    assert process.returncode == 0


# Owners ---------------------------------------------------------------------------------------


def access(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid


@needs_root
def test_root_sets_owner_and_group_of_all_files(drive: Drives, open_path: Path) -> None:
    tree = Tree(open_path / "db")
    tree.client().study().image("1.1.1", dcm=b"pixels")
    image = next(tree.root.rglob("*.dcm"))
    image.chmod(0o640)
    mount = drive(tree.root, "--uid", "nobody", "--gid", "65534", "--umask", "027")
    assert access(mount / "all/1.1.1.dcm") == (0o440, NOBODY, NOBODY)
    assert access(mount / "all/1.1.1.json") == (0o440, NOBODY, NOBODY)
    assert access(mount / "all") == (0o550, NOBODY, NOBODY)
    assert access(mount / "README.txt") == (0o440, NOBODY, NOBODY)
    # The options also apply to a file that an open finds changed.
    image.write_bytes(b"other pixels")
    assert (mount / "all/1.1.1.dcm").read_bytes() == b"other pixels"
    assert access(mount / "all/1.1.1.dcm") == (0o440, NOBODY, NOBODY)


@needs_root
def test_only_the_named_owner_and_group_gain_access(drive: Drives, open_path: Path) -> None:
    tree = Tree(open_path / "db")
    tree.client().study().image("1.1.1", dcm=b"pixels")
    next(tree.root.rglob("*.dcm")).chmod(0o604)  # no bits for the group, because --gid replaces it
    (open_path / "drive").mkdir()
    mount = drive(tree.root, "--allow-other", "--uid", "1", "--gid", "2", at=open_path / "drive")

    def reads(uid: int, gid: int) -> bool:
        command = ["cat", mount / "all/1.1.1.dcm"]
        done = subprocess.run(
            command, user=uid, group=gid, extra_groups=[], cwd="/", capture_output=True, check=False
        )
        return done.returncode == 0

    assert access(mount / "all/1.1.1.dcm") == (0o400, 1, 2)
    assert reads(1, 1)
    assert not reads(2, 2)
    assert not reads(2, NOBODY)
    assert not reads(NOBODY, 0), "of the group that the source denies"
    drive.umount(mount)
