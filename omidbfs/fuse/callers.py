"""Who asks: the identity behind a request of the kernel.

Used by the handlers where they judge before the kernel does. Any thread may call it.
"""

from pathlib import Path

from pyfuse3 import RequestContext

from omidbfs.fuse.proc import field
from omidbfs.serving.rights import Identity


def identity_of(caller: RequestContext) -> Identity:
    """Return the identity of a caller, with the supplementary groups of its process.

    The groups of a process that cannot be seen from here, as in another PID namespace, are not known. The kernel
    gives users as this process sees them, so the user 0 is not the root of another user namespace.
    """
    groups = None if caller.uid == 0 else field(Path(f"/proc/{caller.pid}/status"), "Groups")
    return Identity(caller.uid, caller.gid, None if groups is None else frozenset(map(int, groups.split())))
