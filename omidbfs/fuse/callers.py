"""Who asks: what may be done for a caller before the kernel has judged whether it may read."""

from pathlib import Path

from pyfuse3 import RequestContext

from omidbfs.database.permissions import Access
from omidbfs.fuse.proc import field


def may_read(access: Access, caller: RequestContext) -> bool:
    """Return whether a caller may read what has an access, as the kernel will judge by its mode.

    In doubt it may not: the groups of a process that cannot be seen from here, as in another PID namespace, are
    not known.
    """
    mode = access.mode
    if caller.uid == 0:
        return True
    if caller.uid == access.uid:
        return bool(mode & 0o400)
    if mode & 0o044 in (0, 0o044):
        return bool(mode & 0o044)
    groups = {caller.gid} if caller.gid == access.gid else _groups(caller.pid)
    if groups is None:
        return False
    return bool(mode & (0o040 if access.gid in groups else 0o004))


def _groups(process: int) -> set[int] | None:
    """Return the supplementary groups of a process, ``None`` if they cannot be known: proc_pid_status(5)."""
    groups = field(Path(f"/proc/{process}/status"), "Groups")
    return None if groups is None else set(map(int, groups.split()))
