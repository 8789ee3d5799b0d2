"""Finds the identity of the process that caused a request of the kernel.

Used by the handlers that check rights themselves. Any thread may call it.
"""

from pathlib import Path

from pyfuse3 import RequestContext

from omidbfs.fuse.proc import field
from omidbfs.serving.rights import Identity


def identity_of(caller: RequestContext) -> Identity:
    """Return the identity of a caller, with the supplementary groups of its process.

    The groups are unknown if the process cannot be seen from here, for example in another PID namespace. The
    kernel gives user numbers of the user namespace of this process, so user 0 is not the root of another
    namespace.
    """
    groups = None if caller.uid == 0 else field(Path(f"/proc/{caller.pid}/status"), "Groups")
    return Identity(caller.uid, caller.gid, None if groups is None else frozenset(map(int, groups.split())))
