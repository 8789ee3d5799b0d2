"""The process that serves a mount. A drive says its number; the kernel says whether that is true (proc(5)).

Used by commands that send signals, outside of that process.
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
    """Send a signal to a process if it serves a mount, and has a handler for it; return whether that was so.

    Anybody may mount something that looks like a drive and says the number of any process, and a drive of a
    container says one that is another process's here. So the process must belong to the user who mounted, and
    have the mount's connection to the kernel open.
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
    """Return a descriptor of a process: its number may be another's by the time that it has been looked at.

    Kernels before 5.3 have none, and some containers forbid it.
    """
    try:
        return os.pidfd_open(process)
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EPERM):
            return None
        raise


def serves(process: int, mount: Mount) -> bool:
    """Return whether a process serves a mount; ``False`` where that is not ours to know."""
    if mount.owner is None:
        return False
    users = _status(process, "Uid").split()[:3]  # real, effective, saved
    return set(users) == {str(mount.owner[0])} and any(
        connection in (mount.device.rpartition(":")[2], None) for connection in _connections(process)
    )


def _connections(process: int) -> Iterator[str | None]:
    """Yield the numbers of the FUSE connections of a process; ``None`` where the kernel, before 6.16, has none."""
    with suppress(OSError):
        for file in os.listdir(f"/proc/{process}/fd"):
            with suppress(OSError):
                if os.readlink(f"/proc/{process}/fd/{file}") == "/dev/fuse":
                    yield field(Path(f"/proc/{process}/fdinfo/{file}"), "fuse_connection") or None


def _catches(process: int, number: signal.Signals) -> bool:
    """Return whether a process has a handler for a signal, and so is not ended by it."""
    return bool(int(_status(process, "SigCgt") or "0", 16) >> number - 1 & 1)


def _status(process: int, name: str) -> str:
    return field(Path(f"/proc/{process}/status"), name) or ""
