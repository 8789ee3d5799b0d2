"""What the kernel says is mounted where (proc(5), mountinfo)."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass

FILE_SYSTEM = "fuse.omidbfs"
"""The type of our mounts in ``/proc/mounts``."""

_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One mounted file system."""

    mountpoint: str
    type: str
    source: str
    device: str
    """Major and minor number, ``0:42``."""


def mounts() -> list[Mount]:
    """Return all mounts that this process sees, in the order in which they were made."""
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
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


def answers(mountpoint: str, patience: float = 5.0) -> bool:
    """Return whether a mounted file system answers within ``patience`` seconds."""
    # In a process of its own: asking a file system that hangs must not hang us.
    command = [sys.executable, "-I", "-S", "-c", "import os, sys; os.statvfs(sys.argv[1])", mountpoint]
    try:
        return subprocess.run(command, capture_output=True, timeout=patience, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _plain(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)
