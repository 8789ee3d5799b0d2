"""Lists, finds and removes mounts, by what the kernel says (proc(5), mountinfo).

Used by commands and by the daemon. Any thread may call it.
"""

import ctypes
import errno
import os
import re
from dataclasses import dataclass

FILE_SYSTEM = "fuse.omidbfs"
"""The type of drives in ``/proc/mounts``."""

_UMOUNT_NOFOLLOW, _MNT_DETACH = 8, 2
_libc = ctypes.CDLL(None, use_errno=True)
_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One mounted file system. ``device`` distinguishes it from earlier mounts at the same path."""

    mountpoint: str
    type: str
    source: str
    device: str
    """Major and minor number, ``0:42``."""
    owner: tuple[int, int] | None = None
    """User and group that mounted it, if it is a FUSE mount. Only root can set others than its own."""


def mounts() -> list[Mount]:
    """Return all mounts that this process sees, in the order in which they were made."""
    found = []
    # newline="\n": the kernel escapes line feeds, but not carriage returns, which would end a line, too.
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
    """Return the mount at ``path`` itself. This does not touch the mount, which may be dead.

    Symbolic links are resolved in the parent only.
    """
    parent, name = os.path.split(os.path.abspath(path))
    path = os.path.join(os.path.realpath(parent), name) if name else parent
    return next((mount for mount in reversed(mounts()) if mount.mountpoint == path), None)


def mounted_at(path: str) -> Mount | None:
    """Return the mount at ``path``, or at the target of this symbolic link. This does not touch the mount."""
    return mount_at(path) or mount_at(os.path.realpath(path))


def unmount_as_root(mountpoint: str, *, lazy: bool) -> None:
    """Remove the mount at a mount point, a path without links, from the tree (umount2(2)).

    umount(8) would follow links again. A user could make them lead to another mount in the meantime.

    Raises
    ------
    OSError
        The mount is in use, or the system refuses. ELOOP: the path leads elsewhere in the meantime.
    """
    parent, name = os.path.split(mountpoint)
    directory = os.open(parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        held = f"/proc/self/fd/{directory}"
        if os.readlink(held) != parent:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), mountpoint)
        if _libc.umount2(os.fsencode(f"{held}/{name}"), _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0)) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), mountpoint)
    finally:
        os.close(directory)


def _plain(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)
