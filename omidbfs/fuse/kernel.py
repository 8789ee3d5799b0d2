"""What the kernel lets be set and asked about a FUSE mount, beside the mount itself.

Used by the daemon, in its loop: none of it takes more than a moment.
"""

import logging
import os
import select
from contextlib import suppress
from pathlib import Path

from omidbfs.fuse.mounts import mount_at

log = logging.getLogger(__name__)

_BACKGROUND = 512
"""Reads ahead of the reader that may be under way at once.

The kernel's default is 12 for the whole mount: a few files on a disk that hangs would take them all, and then
everybody waits.
"""


def tune(mountpoint: str, readahead: int) -> None:
    """Have the kernel read ``readahead`` bytes ahead, and more for several readers at once, where it lets us.

    The first needs root; the second a mounted ``/sys/fs/fuse/connections``. 0 leaves the kernel's read-ahead as it
    is, which is 128 kB: neither libfuse's nor pyfuse3's options can raise it.
    """
    mounted = mount_at(mountpoint)
    if mounted is None:  # gone already
        return
    connection = Path("/sys/fs/fuse/connections", mounted.device.partition(":")[2])
    _write(connection / "max_background", _BACKGROUND)
    _write(connection / "congestion_threshold", _BACKGROUND * 3 // 4)
    if readahead:
        _write(Path("/sys/class/bdi", mounted.device, "read_ahead_kb"), -(-readahead // 1024))


def _write(path: Path, value: int) -> None:
    try:
        path.write_text(f"{value}\n", encoding="ascii")
    except OSError as error:
        log.debug("%s is left as it is: %s", path.name, error.strerror)


def fuse_connection() -> int:
    """Return the descriptor on which libfuse talks to the kernel, once something is mounted."""
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the one that lists them
            if os.readlink(f"/proc/self/fd/{name}") == "/dev/fuse":
                return int(name)
    raise FileNotFoundError("/dev/fuse")


def is_closed(connection: int) -> bool:
    """Return whether the file system was unmounted."""
    poll = select.poll()
    poll.register(connection, 0)  # 0: nothing but errors
    return bool(poll.poll(0))
