"""What the kernel says is mounted where (proc(5), mountinfo)."""

import os
import re
from dataclasses import dataclass

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
    owner: tuple[int, int] | None = None
    """User and group that mounted it, where it is of FUSE. Only root can name others than its own."""


def mounts() -> list[Mount]:
    """Return all mounts that this process sees, in the order in which they were made."""
    found = []
    # The kernel escapes a line feed, and not a carriage return, which would end a line, too.
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape", newline="\n") as lines:
        for line in lines:
            place, _, rest = line.partition(" - ")
            type_, source, options = rest.rstrip("\n").split(" ", 2)
            _, _, device, _, mountpoint, *_ = place.split(" ")
            found.append(Mount(_plain(mountpoint), type_, _plain(source), device, _owner(options)))
    return found


def _owner(options: str) -> tuple[int, int] | None:
    values = dict(option.split("=", 1) for option in options.split(",") if "=" in option)
    try:
        return int(values["user_id"]), int(values["group_id"])
    except (KeyError, ValueError):
        return None


def mount_at(path: str) -> Mount | None:
    """Return what is mounted at ``path`` itself; does not touch a mount, which may be dead.

    Symbolic links are resolved in the parent only.
    """
    parent, name = os.path.split(os.path.abspath(path))
    path = os.path.join(os.path.realpath(parent), name) if name else parent
    return next((mount for mount in reversed(mounts()) if mount.mountpoint == path), None)


def mounted_at(path: str) -> Mount | None:
    """Return what is mounted at ``path``, or at what it is a symbolic link to; does not touch a mount."""
    return mount_at(path) or mount_at(os.path.realpath(path))


def _plain(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)
