"""Asks a mounted file system for its state and its status. Any user may have mounted it: do not trust the answer.

Used by commands, outside the process that serves a mount. A subprocess asks, because a process that asks a file
system that hangs will hang, too. FUSE admits only the user who mounted, and not even root, unless that user
allowed others. So if root asks, the subprocess becomes that user.
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
    """The state of a mounted file system."""

    ANSWERS = "mounted"
    CLOSED = "closed"
    """Another user mounted it, and only that user may enter."""
    DEAD = "dead"
    """Its process has ended, and it never answers again."""
    HANGS = "hangs"


SILENT = {
    State.ANSWERS: "what the drive says of itself is not understood; is it of another version of omidbfs?",
    State.CLOSED: "the drive is another user's, and closed to you; ask as that user, or as root",
    State.DEAD: "the drive is dead, its process has ended; clear it with omidbfs umount",
    State.HANGS: "the drive does not answer",
}
"""Messages for drives whose status cannot be read."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The state of a file system, and its ``status.json``."""

    state: State
    said: bytes = b""

    @property
    def status(self) -> "Status | None":
        """The decoded status; ``None`` if the text is not the status of a drive."""
        from omidbfs.fuse.status import understood  # imported here, because asking for a state needs no msgspec

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
    os.stat(place)  # statvfs does not check permissions
    os.statvfs(place)  # the kernel never answers it from its cache
    with open(place + "/.omidbfs/status.json", "rb") as text:
        said = text.read({_MOST})
except OSError as error:
    sys.exit(error.errno)
sys.stdout.buffer.write(said)
"""
_DEAD = (errno.ENOTCONN, errno.ECONNABORTED)
_CLOSED = (errno.EACCES, errno.EPERM)


def ask(mount: Mount, patience: float = 5.0) -> Answer:
    """Return the state of a mounted file system: ``HANGS`` if it does not answer within ``patience`` seconds."""
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
        with suppress(subprocess.TimeoutExpired):  # it may be in a sleep that no signal ends
            process.wait(1)
        return Answer(State.HANGS)
    if process.returncode in _DEAD:
        return Answer(State.DEAD)
    if process.returncode in _CLOSED:
        return Answer(State.CLOSED)
    return Answer(State.ANSWERS, said)
