"""What the kernel says is mounted where (proc(5), mountinfo)."""

import errno
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from enum import Enum

FILE_SYSTEM = "fuse.omidbfs"
"""The type of our mounts in ``/proc/mounts``."""

_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One mounted file system; ``device`` tells it from others that were at the same place."""

    mountpoint: str
    type: str
    source: str
    device: str
    """Major and minor number, ``0:42``."""


def mounts() -> list[Mount]:
    """Return all mounts that this process sees, in the order in which they were made."""
    found = []
    # The kernel escapes a line feed, and not a carriage return, which would end a line, too.
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape", newline="\n") as lines:
        for line in lines:
            place, _, rest = line.partition(" - ")
            type_, source, *_ = rest.split(" ")
            _, _, device, _, mountpoint, *_ = place.split(" ")
            found.append(Mount(_plain(mountpoint), type_, _plain(source), device))
    return found


def mount_at(path: str) -> Mount | None:
    """Return what is mounted at ``path`` itself; does not touch a mount, which may be dead.

    Symbolic links are resolved in the parent only.
    """
    parent, name = os.path.split(os.path.abspath(path))
    path = os.path.join(os.path.realpath(parent), name) if name else parent
    return next((mount for mount in reversed(mounts()) if mount.mountpoint == path), None)


class State(Enum):
    """How a mounted file system is."""

    ANSWERS = "mounted"
    CLOSED = "closed"
    """It is another user's, and lets only him in."""
    DEAD = "dead"
    """Its process has ended, and it never answers again."""
    HANGS = "hangs"


_ASK = """
import os, sys
try:
    os.stat(sys.argv[1])  # statvfs says nothing of permission
    os.statvfs(sys.argv[1])  # the kernel never answers it from memory
except OSError as error:
    sys.exit(error.errno)
"""
_DEAD = (errno.ENOTCONN, errno.ECONNABORTED)
_CLOSED = (errno.EACCES, errno.EPERM)


def state_of(mountpoint: str, patience: float = 5.0) -> State:
    """Return how a mounted file system is; ``HANGS`` if it does not answer within ``patience`` seconds."""
    # In a process of its own: asking a file system that hangs must not hang us.
    command = [sys.executable, "-I", "-S", "-c", _ASK, mountpoint]
    try:
        status = subprocess.run(command, capture_output=True, timeout=patience, check=False).returncode
    except subprocess.TimeoutExpired:
        return State.HANGS
    return State.DEAD if status in _DEAD else State.CLOSED if status in _CLOSED else State.ANSWERS


def mounted_at(path: str) -> Mount | None:
    """Return what is mounted at ``path``, or at what it is a symbolic link to; does not touch a mount."""
    return mount_at(path) or mount_at(os.path.realpath(path))


def _plain(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)
