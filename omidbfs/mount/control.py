"""Starting a drive in the background, and ending one; without pyfuse3, from outside of the daemon."""

import json
import logging
import logging.handlers
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omidbfs.errors import UserError
from omidbfs.mount.holders import holders
from omidbfs.mount.mounts import FILE_SYSTEM, Mount, mounted_at

_ENDING = (signal.SIGINT, signal.SIGTERM)


def in_background(run: Callable[[Callable[[], None]], int], mountpoint: Path) -> int:
    """Run ``run(ready)`` in a process of its own; return 0 when it is ready, or its exit status if it ends before.

    Returns a second time, in that process, with what ``run`` returned. The process keeps the terminal until it
    is ready, to say what goes wrong.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    receiver, sender = os.pipe()
    # Held back until each side is ready for them: one that comes while the fork is made would be lost.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    child = os.fork()
    if child == 0:
        os.close(receiver)
        os.setsid()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return run(lambda: _detach(sender))
    os.close(sender)
    signal.signal(signal.SIGTERM, _leave)  # no drive appears after its starter has failed
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        with os.fdopen(receiver, "rb") as pipe:
            is_ready = pipe.read() == b"ready"
    except (KeyboardInterrupt, SystemExit):
        try:
            os.killpg(child, signal.SIGTERM)  # with whatever it has started
        except ProcessLookupError:  # it has not come to be a group
            os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)
        raise
    if not is_ready:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) or 1
    os.statvfs(mountpoint)  # answered by the drive itself
    return 0


def _leave(number: int, frame: object) -> None:
    sys.exit(128 + number)


def _detach(sender: int) -> None:
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    os.close(null)
    os.write(sender, b"ready")
    os.close(sender)


def start_log(file: Path | None, *, foreground: bool, syslog: bool) -> None:
    """Log where the options of a drive say: in the foreground to the terminal, if they say nothing."""
    if syslog:
        log_to_syslog()
    if file is not None or not (foreground or syslog):
        log_to_file(file)


def log_to_syslog(address: str = "/dev/log") -> None:
    """Log this process to the system's log, at ``address``."""
    try:  # the handler itself is silent about a socket that nobody reads
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
            probe.connect(address)
    except OSError as error:
        raise UserError(
            f"--syslog: {address}: {error.strerror}; is a log of the system running? --log-file FILE needs none"
        ) from error
    handler = logging.handlers.SysLogHandler(address, logging.handlers.SysLogHandler.LOG_DAEMON)
    handler.setFormatter(logging.Formatter("omidbfs[%(process)d]: %(levelname)s: %(message)s"))
    _add(handler)


def log_to_file(path: Path | None) -> None:
    """Log warnings of this process to a file that only its owner can read; it is kept below 10 MB."""
    if path is None:
        home = Path(os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state"))
        if not home.is_absolute():  # a user without a home
            raise UserError("no place for the log: name one with --log-file, or set HOME")
        path = home / "omidbfs" / "omidbfs.log"
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600))
    handler = logging.handlers.RotatingFileHandler(path.absolute(), maxBytes=10_000_000, backupCount=1)
    handler.setFormatter(logging.Formatter("%(asctime)s omidbfs[%(process)d] %(levelname)s: %(message)s"))
    _add(handler)


def _add(handler: logging.Handler) -> None:
    root = logging.getLogger()
    root.addHandler(handler)
    if root.level > logging.INFO:
        root.setLevel(logging.INFO)
        for shown in root.handlers:
            if shown is not handler:
                shown.setLevel(logging.WARNING)


def unmount(mountpoint: Path, patience: float = 10.0, *, lazy: bool = False) -> None:
    """Unmount a drive of ours and wait until its daemon has ended, ``patience`` seconds at most.

    With ``lazy`` it leaves the tree at once, also while programs are on it, and nothing is waited for.

    Raises
    ------
    UserError
        Nothing of ours is mounted there, or it is in use.
    """
    mounted = _drive_at(mountpoint)
    status = _status_of(mounted.mountpoint)
    daemon = status["pid"] if status is not None and not lazy else None
    done = _unmounted(mounted.mountpoint, lazy=lazy)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["unmounting failed"])[-1]
        if "busy" in reason:
            raise UserError(
                f"{mountpoint}: in use by {holders(mounted.mountpoint)}; end what is on it, or "
                "omidbfs umount --lazy"
            )
        raise UserError(f"{mountpoint}: {reason}")
    if lazy:
        return
    deadline = time.monotonic() + patience
    while daemon is not None and _alive(daemon) and time.monotonic() < deadline:
        time.sleep(0.02)


def detach(mountpoint: str) -> None:
    """Take a dead mount out of the tree.

    Raises
    ------
    UserError
        The system refuses.
    """
    done = _unmounted(mountpoint, lazy=True)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UserError(f"{mountpoint}: the dead mount there cannot be cleared: {reason}")


def _unmounted(mountpoint: str, *, lazy: bool) -> "subprocess.CompletedProcess[str]":
    if os.geteuid() == 0:
        command = ["umount", *(["-l"] if lazy else []), mountpoint]
    else:
        command = ["fusermount3", "-u", *(["-z"] if lazy else []), "--", mountpoint]
    try:
        return subprocess.run(command, capture_output=True, text=True, errors="backslashreplace", check=False)
    except FileNotFoundError:
        raise UserError(f"{command[0]}: not found; install it (sudo apt-get install fuse3)") from None


def _drive_at(mountpoint: Path) -> Mount:
    mounted = mounted_at(str(mountpoint))
    if mounted is None or mounted.type != FILE_SYSTEM:
        raise UserError(f"{mountpoint}: no drive of omidbfs is mounted there")
    return mounted


def status_of(mountpoint: str, patience: float = 5.0) -> dict[str, Any] | None:
    """Return what a drive says of itself now; ``None`` for one that is dead, closed to us, or does not answer.

    Where the drive is another user's its counters are as old as the text that holds them.
    """
    status = _status_of(mountpoint)
    if status is None or "counters" not in status or not _catches(status["pid"], signal.SIGUSR2):
        return status
    asked, deadline = status["counters"]["reports"], time.monotonic() + patience
    try:
        os.kill(status["pid"], signal.SIGUSR2)
    except OSError:
        return status
    while status is not None and status["counters"]["reports"] <= asked and time.monotonic() < deadline:
        time.sleep(0.02)
        status = _status_of(mountpoint)
    return status


def _catches(process: int, number: signal.Signals) -> bool:
    """Return whether a process has a handler for a signal, and so is not ended by it (proc(5), SigCgt).

    The number that a drive says may be of another machine or container, and here be anybody's.
    """
    try:
        with open(f"/proc/{process}/status", encoding="utf-8", errors="replace") as lines:
            caught = next((line.split()[1] for line in lines if line.startswith("SigCgt:")), "0")
    except OSError:
        return False
    return bool(int(caught, 16) >> number - 1 & 1)


_PRINT_STATUS = "import sys; sys.stdout.write(open(sys.argv[1]).read())"


def _status_of(mountpoint: str) -> dict[str, Any] | None:
    """Return what a drive says of itself; ``None`` for one that is dead or does not answer."""
    command = [sys.executable, "-I", "-S", "-c", _PRINT_STATUS, f"{mountpoint}/.omidbfs/status.json"]
    try:  # in a process of its own: reading from a drive that hangs must not hang us
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
        status: dict[str, Any] = json.loads(done.stdout)
    except (subprocess.SubprocessError, ValueError):
        return None
    return status


def ask_for_refresh(mountpoint: Path) -> None:
    """Have the drive at a mount point look for changes of its source, and wait until it has.

    Raises
    ------
    UserError
        No drive answers there, it is another user's, or the refresh failed.
    """
    mounted = _drive_at(mountpoint)
    status = _status_of(mounted.mountpoint)
    if status is None:
        raise UserError(f"{mountpoint}: the drive does not answer")
    # One that is under way has begun before now: what changed meanwhile takes another.
    wanted = status["refresh"]["done"] + (2 if status["refresh"]["state"] == "refreshing" else 1)
    if not _catches(status["pid"], signal.SIGHUP):
        raise UserError(f"{mountpoint}: the drive's process is not on this machine")
    try:
        os.kill(status["pid"], signal.SIGHUP)
    except PermissionError:
        raise UserError(f"{mountpoint}: the drive is another user's, who has to refresh it") from None
    except ProcessLookupError:
        raise UserError(f"{mountpoint}: the drive's process is not on this machine") from None
    while status is not None and status["refresh"]["done"] < wanted:
        time.sleep(0.05)
        status = _status_of(mounted.mountpoint)
    if status is None:
        raise UserError(f"{mountpoint}: the drive went away during the refresh")
    if status["refresh"]["error"] is not None:
        raise UserError(f"{mountpoint}: the refresh failed: {status['refresh']['error']}")


def _alive(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
