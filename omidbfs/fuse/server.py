"""Finds the process that serves a mount, and sends signals to it.

Used by commands, outside that process. ``status.json`` names the process, and proc(5) shows whether that is true.
"""

import errno
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from omidbfs.fuse.mounts import Mount
from omidbfs.fuse.proc import field


def send(number: signal.Signals, process: int, mount: Mount) -> bool:
    """Send a signal to a process if it serves a mount and handles the signal; return whether it was sent.

    Any user may mount something that looks like a drive and names any process. A drive in a container names a
    process by its number there, which is another process here. So the process must belong to the user who mounted,
    and must have the mount's connection to the kernel open.
    """
    try:
        handle = _handle(process)
    except OSError:
        return False
    try:
        if not serves(process, mount) or not _catches(process, number):
            return False
        if handle is None:
            os.kill(process, number)
        else:
            signal.pidfd_send_signal(handle, number)
    except OSError:
        return False
    finally:
        if handle is not None:
            os.close(handle)
    return True


def _handle(process: int) -> int | None:
    """Return a descriptor of a process, because its number may be reused before the signal is sent.

    Return ``None`` if there is no such descriptor: before Linux 5.3, and in some containers.
    """
    try:
        return os.pidfd_open(process)
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EPERM):
            return None
        raise


def serves(process: int, mount: Mount) -> bool:
    """Return whether a process serves a mount; ``False`` if this user may not see that."""
    if mount.owner is None:
        return False
    users = _status(process, "Uid").split()[:3]  # real, effective, saved
    return set(users) == {str(mount.owner[0])} and any(
        connection in (mount.device.rpartition(":")[2], None) for connection in _connections(process)
    )


def _connections(process: int) -> Iterator[str | None]:
    """Yield the numbers of the FUSE connections of a process; ``None`` for each before Linux 6.16."""
    with suppress(OSError):
        for file in os.listdir(f"/proc/{process}/fd"):
            with suppress(OSError):
                if os.readlink(f"/proc/{process}/fd/{file}") == "/dev/fuse":
                    yield field(Path(f"/proc/{process}/fdinfo/{file}"), "fuse_connection") or None


def _catches(process: int, number: signal.Signals) -> bool:
    """Return whether a process has a handler for a signal, so that the signal does not end it."""
    return bool(int(_status(process, "SigCgt") or "0", 16) >> number - 1 & 1)


def _status(process: int, name: str) -> str:
    return field(Path(f"/proc/{process}/status"), name) or ""
