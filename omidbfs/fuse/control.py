"""Starts a drive in the background, asks it for a refresh, and ends it.

Used by commands, outside the process that serves a mount, in the main thread.
"""

import fcntl
import logging
import logging.handlers
import os
import shlex
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path

from omidbfs.base.errors import UserError
from omidbfs.base.logs import LogFormatter
from omidbfs.base.places import user_directory
from omidbfs.base.process import close_inherited_files, leave, take_null_streams
from omidbfs.fuse.asking import SILENT, Answer, State, ask
from omidbfs.fuse.holders import holders, is_inside, unseen_holders
from omidbfs.fuse.inside import inside
from omidbfs.fuse.mounts import FILE_SYSTEM, Mount, mount_at, mounted_at, unmount_as_root
from omidbfs.fuse.server import send, serves

_ENDING = (signal.SIGINT, signal.SIGTERM)
_LOG_SIZE = 10_000_000
"""The largest size in bytes of a log, and of the older log beside it."""
_PASSING = 2.0
"""Seconds for which a mount may be busy although no process is seen on it, as ``df`` asks every mount."""


def in_background(run: Callable[[Callable[[], None]], int], mountpoint: Path) -> int:
    """Run ``run(ready)`` in a child process. Return 0 when it is ready, or its exit status if it ends before that.

    This function also returns in the child, with the result of ``run``. The child keeps the terminal until it is
    ready, so that it can report errors.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    receiver, sender = os.pipe()
    # Signals wait until both processes can handle them. A signal that came during the fork would be lost.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    child = os.fork()
    if child == 0:
        close_inherited_files(sender)
        os.setsid()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return run(lambda: _detach(sender))
    os.close(sender)
    signal.signal(signal.SIGTERM, leave)  # no drive appears after its starter has failed
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        with os.fdopen(receiver, "rb") as pipe:
            is_ready = pipe.read() == b"ready"
    except (KeyboardInterrupt, SystemExit):
        try:
            os.killpg(child, signal.SIGTERM)  # the child and its own children
        except ProcessLookupError:  # the child has no group of its own yet
            os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)
        raise
    if not is_ready:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) or 1
    os.statvfs(mountpoint)  # answered by the drive itself
    return 0


def _detach(sender: int) -> None:
    os.chdir("/")
    take_null_streams()
    os.write(sender, b"ready")
    os.close(sender)


def start_log(file: Path | None, *, foreground: bool, syslog: bool) -> None:
    """Start the logs that the options of a drive choose; by default a drive in the foreground has only stderr."""
    if syslog:
        log_to_syslog()
    if file is not None or not (foreground or syslog):
        log_to_file(file)


def log_to_syslog(address: str = "/dev/log") -> None:
    """Send the log of this process to the system log at ``address``.

    Raises
    ------
    UserError
        No program reads the socket.
    """
    try:  # the handler itself does not report a socket without a reader
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
            probe.connect(address)
    except OSError as error:
        raise UserError(
            f"{address}: {error.strerror}",
            "is a log of the system running? --log-file FILE needs none",
            place="--syslog",
        ) from error
    handler = logging.handlers.SysLogHandler(address, logging.handlers.SysLogHandler.LOG_DAEMON)
    handler.setFormatter(LogFormatter("omidbfs[%(process)d]: %(levelname)s: %(message)s"))
    _add(handler)


def log_to_file(path: Path | None) -> None:
    """Write the log of this process to a file that only its owner can read. The file is kept below 10 MB.

    Raises
    ------
    UserError
        ``path`` is ``None``, and the user has no home directory.
    OSError
        The file cannot be written.
    """
    if path is None:
        state = user_directory("state")
        if state is None:
            raise UserError("no place for the log: name one with --log-file, or set HOME")
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = state / "omidbfs.log"
    handler = _File(os.path.realpath(path))  # rotation must rename the file, not a link to it
    handler.setFormatter(LogFormatter("%(asctime)s omidbfs[%(process)d] %(levelname)s: %(message)s"))
    _add(handler)


def _add(handler: logging.Handler) -> None:
    root = logging.getLogger()
    root.addHandler(handler)
    if root.level > logging.INFO:
        root.setLevel(logging.INFO)
        for shown in root.handlers:
            if shown is not handler:
                shown.setLevel(logging.WARNING)


class _File(logging.handlers.WatchedFileHandler):
    """A log file of mode 0600, which is renamed when it is full. Several drives may write to it.

    The base class notices when another drive has renamed it.
    """

    def _open(self) -> TextIOWrapper:
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        facts = os.fstat(descriptor)
        if stat.S_ISREG(facts.st_mode) and facts.st_mode & 0o077:
            with suppress(OSError):  # another user may own the file
                os.fchmod(descriptor, 0o600)
        return os.fdopen(descriptor, "a", encoding="utf-8", errors="backslashreplace")

    def emit(self, record: logging.LogRecord) -> None:
        """Make room for a line, and write it."""
        try:
            if self.stream is not None:
                self._make_room(self.stream.fileno())
            super().emit(record)
        except Exception:  # a failing log must not end the drive
            self.handleError(record)

    def _make_room(self, descriptor: int) -> None:
        ours = os.fstat(descriptor)
        if ours.st_size < _LOG_SIZE or not stat.S_ISREG(ours.st_mode):
            return
        # One of the drives renames the file. The others need not wait: both files are kept. If the file cannot be
        # renamed, the log goes on in it.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(ours, os.stat(self.baseFilename)):
                os.replace(self.baseFilename, f"{self.baseFilename}.1")


def unmount(mountpoint: Path, patience: float = 10.0, *, lazy: bool = False) -> None:
    """Unmount a drive, and wait at most ``patience`` seconds until its process has ended.

    If the current directory is on the drive, it becomes ``/``, because it would keep the drive in use. With
    ``lazy`` the drive leaves the tree at once, even if programs use it, and the function does not wait.

    Raises
    ------
    UserError
        No drive is mounted there, or the drive is in use, or the system refuses.
    """
    mounted = drive_at(mountpoint, "umount")
    status = ask(mounted).status if not lazy else None
    daemon = status.pid if status is not None and serves(status.pid, mounted) else None
    shell_is_inside = is_inside(mounted.mountpoint)
    if shell_is_inside:
        os.chdir("/")
    deadline = time.monotonic() + _PASSING
    while (reason := _unmounted(mounted.mountpoint, lazy=lazy)) is not None:
        if "busy" not in reason:
            raise UserError(reason, place=mountpoint)
        names = holders(mounted.mountpoint)
        if names or time.monotonic() > deadline:
            remedy = "your shell is inside: leave the drive with cd" if shell_is_inside else "end what is on it"
            raise UserError(
                f"in use by {names or unseen_holders()}", f"{remedy}, or omidbfs umount --lazy", place=mountpoint
            )
        time.sleep(0.05)
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
    reason = _unmounted(mountpoint, lazy=True)
    if reason is not None:
        raise UserError(f"the dead mount there cannot be cleared: {reason}", place=mountpoint)


def _unmounted(mountpoint: str, *, lazy: bool) -> str | None:
    """Unmount, and return ``None``, or the reason for which that fails."""
    if os.geteuid() == 0:
        try:
            unmount_as_root(mountpoint, lazy=lazy)
        except OSError as error:
            return error.strerror
        return None
    mount = mount_at(mountpoint)
    if mount is not None and mount.owner is not None and mount.owner[0] != os.geteuid():
        return "it is another user's; that user or root can unmount it"
    command = ["fusermount3", "-u", *(["-z"] if lazy else []), "--", mountpoint]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="backslashreplace", check=False)
    except FileNotFoundError:
        raise UserError("not found", "install it (sudo apt-get install fuse3)", place=command[0]) from None
    return None if done.returncode == 0 else (done.stderr.strip().splitlines() or ["no reason given"])[-1]


def drive_at(mountpoint: Path, command: str) -> Mount:
    """Return the drive at a mount point, for a command such as ``umount``.

    Raises
    ------
    UserError
        No drive is mounted there. If the path leads into a drive, the message has the command for that drive.
    """
    mounted = mounted_at(str(mountpoint))
    if mounted is not None and mounted.type == FILE_SYSTEM:
        return mounted
    if (found := inside(str(mountpoint))) is None:
        raise UserError("no drive of omidbfs is mounted there", place=mountpoint)
    place, _ = found
    leaving = "leave the drive with cd, then " if command == "umount" and is_inside(place) else ""
    remedy = f"{leaving}omidbfs {command} {shlex.quote(place)}"
    raise UserError(f"is a path in the drive at {place}", remedy, place=mountpoint)


def status_of(mount: Mount, patience: float = 5.0) -> Answer:
    """Return the state of a drive, and its status with new counters.

    If this user may not send signals to the process of the drive, the counters are as old as ``status.json``.
    """
    answer = ask(mount)
    if answer.status is None or answer.status.counters is None:
        return answer
    asked, deadline = answer.status.counters.reports, time.monotonic() + patience
    if not send(signal.SIGUSR2, answer.status.pid, mount):
        return answer
    while time.monotonic() < deadline:
        answer = ask(mount)
        if answer.status is None or answer.status.counters is None or answer.status.counters.reports > asked:
            break
        time.sleep(0.02)
    return answer


def ask_for_refresh(mountpoint: Path) -> bool:
    """Make the drive at a mount point look for changes of its source, and wait until it has finished.

    Return whether the drive has been mounted without a configuration, and so reads none.

    Raises
    ------
    UserError
        No drive answers there, or it belongs to another user, or the refresh failed.
    """
    mounted = drive_at(mountpoint, "refresh")
    answer = ask(mounted)
    status = answer.status
    if status is None:
        raise UserError(SILENT[answer.state], place=mountpoint)
    # A refresh in progress may miss the latest changes, so it does not count.
    wanted = status.refresh.done + (2 if status.refresh.state == "refreshing" else 1)
    if mounted.owner is not None and os.geteuid() not in (0, mounted.owner[0]):
        raise UserError("the drive is another user's, who has to refresh it", place=mountpoint)
    if not send(signal.SIGHUP, status.pid, mounted):
        raise UserError("the drive's process is not on this machine", place=mountpoint)
    pause = 0.05
    while status is None or status.refresh.done < wanted:
        time.sleep(pause)
        pause = min(1.2 * pause, 1.0)  # each question starts a process, which takes time from the refresh
        answer = ask(mounted)
        status = answer.status
        if status is None and answer.state is not State.HANGS:
            raise UserError("the drive went away during the refresh", place=mountpoint)
    if status.refresh.error is not None:
        raise UserError(f"the refresh failed: {status.refresh.error}", place=mountpoint)
    return status.configuration is None


def _alive(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
