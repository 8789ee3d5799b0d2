"""Starting a drive in the background: the command waits for it, and prints its errors."""

import logging
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from omidbfs.base.errors import UserError
from omidbfs.fuse import control
from omidbfs.fuse.control import log_to_file, log_to_syslog, start_log, unmount
from omidbfs.fuse.inside import shown
from omidbfs.fuse.mounts import unmount_as_root

START = """
import os, signal, sys, time
from pathlib import Path
from omidbfs.fuse.control import in_background

place = Path(sys.argv[1])

def run(ready):
    (place / "pid").write_text(str(os.getpid()))
{body}

status = in_background(run, place)
if os.getpid() == int((place / "pid").read_text()):
    (place / "ended").write_text(str(status))
else:
    print("started", status, flush=True)
sys.exit(status)
"""


def script(body: str) -> list[str]:
    return [sys.executable, "-c", START.format(body="\n".join("    " + line for line in body.splitlines()))]


def appears(file: Path) -> str:
    """Wait for a file, and return its content."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if file.exists() and file.read_text():
            return file.read_text()
        time.sleep(0.01)
    raise AssertionError(f"{file.name} does not appear")


def test_it_returns_when_the_drive_is_ready_and_the_drive_goes_on(tmp_path: Path) -> None:
    body = """
print("on the terminal until ready", flush=True)
ready()
print("never seen", flush=True)
(place / "at").write_text(os.getcwd() + " " + os.readlink("/proc/self/fd/1"))
(place / "session").write_text(str(os.getsid(0) == os.getpid()))
while not (place / "stop").exists():
    time.sleep(0.01)
return 0
"""
    done = subprocess.run([*script(body), str(tmp_path)], capture_output=True, text=True, check=False, timeout=20)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "on the terminal until ready\nstarted 0\n"
    assert appears(tmp_path / "at") == "/ /dev/null"
    assert appears(tmp_path / "session") == "True"
    assert not (tmp_path / "ended").exists()
    (tmp_path / "stop").write_text("")
    assert appears(tmp_path / "ended") == "0"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("return 3", 3),
        ("return 0", 1),  # it ended, and was never ready
        ("sys.exit(4)", 4),
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("raise RuntimeError('the reason')", 1),
    ],
)
def test_a_drive_that_ends_before_it_is_ready_gives_its_status(tmp_path: Path, body: str, status: int) -> None:
    done = subprocess.run([*script(body), str(tmp_path)], capture_output=True, text=True, check=False, timeout=20)
    assert done.stdout == f"started {status}\n"
    assert done.returncode == status % 256
    if "RuntimeError" in body:
        assert "the reason" in done.stderr


def test_a_drive_keeps_no_file_of_its_starter_open(tmp_path: Path) -> None:
    body = """
(place / "open").write_text(" ".join(os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")
                                     if os.path.exists(f"/proc/self/fd/{name}")))
ready()
while not (place / "stop").exists():
    time.sleep(0.01)
return 0
"""
    receiver, sender = os.pipe()
    with (tmp_path / "lock").open("w") as lock:
        files = (sender, lock.fileno())
        done = subprocess.run([*script(body), str(tmp_path)], pass_fds=files, check=False, timeout=20)
    os.close(sender)
    assert done.returncode == 0
    assert str(tmp_path / "lock") not in appears(tmp_path / "open")
    with os.fdopen(receiver, "rb") as pipe:
        assert pipe.read() == b"", "no process has its other end open"
    assert not (tmp_path / "ended").exists()
    (tmp_path / "stop").write_text("")
    assert appears(tmp_path / "ended") == "0"


def test_ctrl_c_ends_the_drive_too(tmp_path: Path) -> None:
    body = """
signal.signal(signal.SIGTERM, lambda *_: ((place / "asked").write_text("to end"), sys.exit(0)))
(place / "reading").write_text("the source")
time.sleep(30)
"""
    with subprocess.Popen([*script(body), str(tmp_path)], stderr=subprocess.PIPE, text=True) as starter:
        appears(tmp_path / "reading")
        starter.send_signal(signal.SIGINT)
        _, said = starter.communicate(timeout=120)
    assert starter.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in said
    assert appears(tmp_path / "asked") == "to end"
    assert not Path("/proc", appears(tmp_path / "pid")).exists()


def test_a_drive_whose_starter_was_killed_is_never_ready(tmp_path: Path) -> None:
    body = """
parent = os.getppid()
os.kill(parent, signal.SIGKILL)
while os.getppid() == parent:
    time.sleep(0.01)
try:
    ready()
except BrokenPipeError:
    (place / "refused").write_text("nobody waits")
return 1
"""
    with subprocess.Popen([*script(body), str(tmp_path)]) as starter:
        pass
    assert starter.returncode == -signal.SIGKILL
    assert appears(tmp_path / "refused") == "nobody waits"
    assert appears(tmp_path / "ended") == "1"


# The log ---------------------------------------------------------------------------------------------------


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    """The root logger, put back as it was."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    levels = [handler.level for handler in handlers]
    yield root
    for handler in set(root.handlers) - set(handlers):
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)
    for handler, its_level in zip(handlers, levels, strict=True):
        handler.setLevel(its_level)


def test_only_the_owner_reads_the_log(tmp_path: Path, root_logger: logging.Logger) -> None:
    log = tmp_path / "log"
    log_to_file(log)
    logging.getLogger("test_control").info("words")
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert re.fullmatch(rf"[-0-9:, ]+ omidbfs\[{os.getpid()}\] INFO: words\n", log.read_text())


@pytest.mark.parametrize("level", [logging.INFO, logging.DEBUG])
def test_a_traceback_in_a_log_quotes_the_source_only_with_debug(
    tmp_path: Path, root_logger: logging.Logger, level: int
) -> None:
    log = tmp_path / "log"
    log_to_file(log)
    root_logger.setLevel(level)

    names = [f"demd{number}" for number in range(4)]  # a traceback quotes the lines of the program

    def fail() -> None:
        try:
            raise KeyError(names[0])
        except KeyError as error:
            raise ValueError(names[1]) from error

    try:
        try:
            fail()
        except ValueError as error:
            raise ExceptionGroup(names[2], [error, OSError(2, "gone", names[3])]) from None
    except ExceptionGroup:
        logging.getLogger("test_control").exception("what failed")
    text = log.read_text()
    assert [name for name in names if name in text] == (names if level == logging.DEBUG else [])
    kinds = ["KeyError", "ValueError", "FileNotFoundError", "ExceptionGroup"]
    assert all(kind in text for kind in kinds)
    assert "Traceback (most recent call last):" in text
    assert text.count("in fail") == 2


def test_a_log_goes_on_where_it_ended(tmp_path: Path, root_logger: logging.Logger) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    log_to_file(log)
    logging.getLogger("test_control").warning("after")
    assert log.read_text().startswith("before\n")
    assert log.read_text().endswith("after\n")


def test_the_log_is_among_the_state_of_the_user(
    tmp_path: Path, root_logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    log_to_file(None)
    log = tmp_path / "state" / "omidbfs" / "omidbfs.log"
    assert stat.S_IMODE(log.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    log_to_file(None)
    assert (tmp_path / ".local/state/omidbfs/omidbfs.log").exists()


def test_a_log_stays_private_and_bounded(
    tmp_path: Path, root_logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "_LOG_SIZE", 200)
    log = tmp_path / "log"
    log.write_text("of an older version, and readable by everybody\n")
    log.chmod(0o644)
    log_to_file(log)
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    for number in range(20):
        logging.getLogger("test_control").info("line %d of the drive", number)
    aside = tmp_path / "log.1"
    assert {stat.S_IMODE(file.stat().st_mode) for file in (log, aside)} == {0o600}
    assert sorted(os.listdir(tmp_path)) == ["log", "log.1"]
    assert 200 <= aside.stat().st_size < 300
    assert log.read_text().endswith("line 19 of the drive\n")


def test_drives_that_share_a_log_lose_no_line(
    tmp_path: Path, root_logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "_LOG_SIZE", 1000)
    log = tmp_path / "log"
    for _ in range(2):  # as two processes would: each with a handler, and a file that it has open
        log_to_file(log)
    for number in range(12):  # each handler writes each line, of 60 bytes
        logging.getLogger("test_control").info("line %03d", number)
    lines = ((tmp_path / "log.1").read_text() + log.read_text()).splitlines()
    assert [int(line[-3:]) for line in lines] == [number for number in range(12) for _ in range(2)]


def test_a_log_that_is_a_link_is_put_aside_where_it_leads(
    tmp_path: Path, root_logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "_LOG_SIZE", 10)
    (tmp_path / "link").symlink_to(tmp_path / "log")
    log_to_file(tmp_path / "link")
    for _ in range(2):
        logging.getLogger("test_control").info("words")
    assert (tmp_path / "link").is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["link", "log", "log.1"]


def test_a_log_that_cannot_be_put_aside_or_written_goes_on_as_soon_as_it_can(
    tmp_path: Path, root_logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "_LOG_SIZE", 10)
    monkeypatch.setattr(logging, "raiseExceptions", False)
    logger, place = logging.getLogger("test_control"), tmp_path / "logs"
    (place / "log.1").mkdir(parents=True)
    log_to_file(place / "log")
    for _ in range(3):
        logger.info("words")
    assert len((place / "log").read_text().splitlines()) == 3
    place.rename(tmp_path / "gone")
    logger.info("nowhere")
    place.mkdir()
    logger.info("here")
    assert (place / "log").read_text().endswith("here\n")


def test_a_log_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        log_to_file(tmp_path / "none" / "log")


def test_the_terminal_shows_no_more_because_there_is_a_log(tmp_path: Path) -> None:
    code = """
import logging, sys
from pathlib import Path
from omidbfs.fuse.control import log_to_file
logging.basicConfig(level=logging.WARNING)
log_to_file(Path(sys.argv[1]))
logging.info("quiet"); logging.warning("loud")
"""
    command = [sys.executable, "-c", code, str(tmp_path / "log")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "quiet" not in done.stderr
    assert "loud" in done.stderr
    assert "quiet" in (tmp_path / "log").read_text()


# Unmounting ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["/proc", "/proc/self", "/none"])
def test_another_file_system_is_not_unmounted(place: str) -> None:
    with pytest.raises(UserError, match=f"^{place}: no drive of omidbfs is mounted there$"):
        unmount(Path(place))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_root_unmounts_nothing_that_a_link_put_in_the_way_leads_to(tmp_path: Path) -> None:
    drive, another = tmp_path / "user/here/drive", tmp_path / "system/drive"
    for place in (drive, another):
        place.mkdir(parents=True)
        if subprocess.run(["mount", "-t", "tmpfs", "none", place], capture_output=True, check=False).returncode:
            pytest.skip("mounting is not permitted here")
    moved = drive.parent.rename(tmp_path / "user/there") / "drive"
    drive.parent.symlink_to(another.parent)
    try:
        with pytest.raises(OSError, match="symbolic links"):
            unmount_as_root(str(drive), lazy=False)
        assert (moved.is_mount(), another.is_mount()) == (True, True)
        unmount_as_root(str(moved), lazy=False)
        assert (moved.is_mount(), another.is_mount()) == (False, True)
    finally:
        for place in filter(Path.is_mount, (moved, another)):
            subprocess.run(["umount", "-l", place], check=True)  # a process may be ending


# The system's log ------------------------------------------------------------------------------------------


def test_a_drive_logs_to_the_system_where_it_is_asked_to(tmp_path: Path, root_logger: logging.Logger) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(str(tmp_path / "log"))
        log.settimeout(10)
        log_to_syslog(str(tmp_path / "log"))
        logging.getLogger("test_control").info("words")
        received = log.recv(1000).rstrip(b"\0").decode()
    assert received == f"<30>omidbfs[{os.getpid()}]: INFO: words"  # 3 * 8 + 6: daemon, info


def test_a_system_without_a_log_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="log: No such file or directory; is a log of the system running"):
        log_to_syslog(str(tmp_path / "log"))


@pytest.mark.parametrize(("foreground", "named"), [(True, False), (True, True), (False, False), (False, True)])
def test_where_a_drive_logs(
    tmp_path: Path, root_logger: logging.Logger, monkeypatch: pytest.MonkeyPatch, foreground: bool, named: bool
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    start_log(tmp_path / "named" if named else None, foreground=foreground, syslog=False)
    assert (tmp_path / "named").exists() == named
    assert (tmp_path / "state/omidbfs/omidbfs.log").exists() == (not named and not foreground)


def test_a_drive_with_an_unreadable_index_stands_for_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The name is too long, which has the same effect as a closed directory. No directory is closed to root.
    said = SimpleNamespace(
        options={}, follow_symlinks=False, images_directory="/a", data_directory=None, index=f"/{'x' * 300}"
    )
    monkeypatch.setattr("omidbfs.fuse.asking.ask", lambda mount: SimpleNamespace(status=said))
    monkeypatch.setattr("omidbfs.fuse.inside.mount_at", lambda place: place)
    assert shown(str(tmp_path)) == {"follow_symlinks": False, "images": Path("/a")}
