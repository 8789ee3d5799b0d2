"""Finds the processes that use a mount, as far as /proc shows them.

Used by commands. Any thread may call it. Nothing here touches the mount itself, which may hang.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from omidbfs.fuse.mounts import mounts

_MOST = 8
"""The largest number of processes and mounts that a message names."""


def holders(mountpoint: str) -> str:
    """Return the processes and mounts that keep a mount busy, for a message: ``less (1234), bash (1200)``.

    It is empty if this user can see none.
    """
    found = processes_on(mountpoint)
    names = [f"{command} ({process})" for process, command in found if process != os.getpid()]
    names += [f"what is mounted at {_shown(mount)}" for mount in _inside(mountpoint)]
    more = [f"{len(names) - _MOST} more"] if len(names) > _MOST else []
    return ", ".join(names[:_MOST] + more)


def is_inside(mountpoint: str) -> bool:
    """Return whether this process is in a directory of a mount, and so is the shell that has started it."""
    with suppress(OSError):
        return _is_below(os.readlink("/proc/self/cwd"), mountpoint)
    return False


def unseen_holders() -> str:
    """Return what keeps a mount busy if ``holders`` finds nothing, for a message."""
    if os.geteuid() == 0:
        return "what /proc does not show: a loop device, an NFS export, or a process outside this container"
    return "programs that only root can see (ask with sudo)"


def processes_on(mountpoint: str) -> Iterator[tuple[int, str]]:
    """Yield number and name of each process that has a file, a directory or a mapping below ``mountpoint``."""
    for process in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        if any(_is_below(path, mountpoint) for path in _paths(process)):
            with suppress(OSError):
                yield process, _shown(Path(f"/proc/{process}/comm").read_text(errors="replace").rstrip("\n"))


def _inside(mountpoint: str) -> Iterator[str]:
    return (mount.mountpoint for mount in mounts() if mount.mountpoint.startswith(f"{mountpoint}/"))


def _shown(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)


def _is_below(path: str, mountpoint: str) -> bool:
    return path == mountpoint or path.startswith(f"{mountpoint}/")


def _paths(process: int) -> Iterator[str]:
    """Yield the paths that a process uses; none if it has ended, or if this user may not see them."""
    links = [f"/proc/{process}/{name}" for name in ("cwd", "root", "exe")]
    with suppress(OSError):
        links += [entry.path for entry in os.scandir(f"/proc/{process}/fd")]
    for link in links:
        with suppress(OSError):
            yield os.readlink(link)
    with suppress(OSError):  # a mapping outlives its descriptor; the path is the sixth column
        for line in Path(f"/proc/{process}/maps").read_text(errors="surrogateescape").splitlines():
            yield line.split(maxsplit=5)[-1]
