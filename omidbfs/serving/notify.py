"""Tells systemd the state of a service of ``Type=notify``, in datagrams to a socket (sd_notify(3)).

Used by the refresher and by the daemon. Any thread may call it.
"""

import os
import socket
import time
from contextlib import suppress

_PATIENCE = 1.0
"""Seconds to wait for a supervisor that does not read its socket."""


def tell(*assignments: str) -> None:
    """Send assignments such as ``READY=1``. This does nothing if no supervisor has named a socket."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # an abstract socket
        address = "\0" + address[1:]
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.settimeout(_PATIENCE)
        sender.sendto("\n".join(assignments).encode(), address)


def tell_reloading(status: str) -> None:
    """Say that a reload has begun; ``READY=1`` ends it."""
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    tell("RELOADING=1", f"MONOTONIC_USEC={now}", f"STATUS={status}")
