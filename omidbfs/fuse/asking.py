"""What a mounted file system says of itself, which is not to be believed: anybody may have mounted it.

Used by commands, outside of the process that serves a mount. A process of its own asks, because a process that
asks a file system that hangs hangs too. FUSE lets in only the user who mounted, not even root, unless that user
allowed others. So where root asks, the process becomes that user.
"""

import errno
import os
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from omidbfs.base.process import code_command
from omidbfs.fuse.mounts import Mount

if TYPE_CHECKING:
    from omidbfs.fuse.status import Status

_MOST = 1 << 20
"""Bytes of ``status.json`` that are read."""


class State(Enum):
    """How a mounted file system is."""

    ANSWERS = "mounted"
    CLOSED = "closed"
    """It is another user's, and lets only that user in."""
    DEAD = "dead"
    """Its process has ended, and it never answers again."""
    HANGS = "hangs"


@dataclass(frozen=True, slots=True)
class Answer:
    """How a file system is, and the text in which it says so."""

    state: State
    said: bytes = b""

    @property
    def status(self) -> "Status | None":
        """What it says of itself; ``None`` where that is not what a drive says."""
        from omidbfs.fuse.status import understood  # here: asking for a state needs no package

        return understood(self.said)


_ASK = f"""
import os, sys
place, *owner = sys.argv[1:]
if owner:
    user, group = map(int, owner)
    os.setgroups([])
    os.setresgid(group, group, group)
    os.setresuid(user, user, user)
try:
    os.stat(place)  # statvfs says nothing of permission
    os.statvfs(place)  # the kernel never answers it from memory
    with open(place + "/.omidbfs/status.json", "rb") as text:
        said = text.read({_MOST})
except OSError as error:
    sys.exit(error.errno)
sys.stdout.buffer.write(said)
"""
_DEAD = (errno.ENOTCONN, errno.ECONNABORTED)
_CLOSED = (errno.EACCES, errno.EPERM)


def ask(mount: Mount, patience: float = 5.0) -> Answer:
    """Ask a mounted file system how it is; it ``HANGS`` if it does not answer within ``patience`` seconds."""
    command = [*code_command(_ASK), mount.mountpoint]
    if os.geteuid() == 0 and mount.owner is not None and mount.owner[0] != 0:
        command += map(str, mount.owner)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        said, _ = process.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        process.kill()
        assert process.stdout is not None
        process.stdout.close()
        with suppress(subprocess.TimeoutExpired):  # the kernel may not let go of it
            process.wait(1)
        return Answer(State.HANGS)
    if process.returncode in _DEAD:
        return Answer(State.DEAD)
    if process.returncode in _CLOSED:
        return Answer(State.CLOSED)
    return Answer(State.ANSWERS, said)
