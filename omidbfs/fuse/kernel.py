"""Sets and reads the kernel's properties of a FUSE mount.

Used by the daemon, in its loop: no call takes more than a moment.
"""

import logging
import os
import select
from contextlib import suppress
from pathlib import Path

from omidbfs.fuse.mounts import mount_at

log = logging.getLogger(__name__)

_BACKGROUND = 512
"""The largest number of read-ahead requests in progress.

The kernel's default is 12 for the whole mount. A few files on a disk that hangs would take them all, and then
every reader waits.
"""


def tune(mountpoint: str, readahead: int) -> None:
    """Make the kernel read ``readahead`` bytes ahead, and for more readers at the same time, if it permits.

    The first needs root; the second needs a mounted ``/sys/fs/fuse/connections``. 0 keeps the kernel's
    read-ahead of 128 kB. No option of libfuse or pyfuse3 can raise it.
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
    """Return the descriptor of libfuse's connection to the kernel. The drive must be mounted."""
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the descriptor of this listing
            if os.readlink(f"/proc/self/fd/{name}") == "/dev/fuse":
                return int(name)
    raise FileNotFoundError("/dev/fuse")


def is_closed(connection: int) -> bool:
    """Return whether the file system was unmounted."""
    poll = select.poll()
    poll.register(connection, 0)  # 0: errors only
    return bool(poll.poll(0))
