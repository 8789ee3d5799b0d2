"""Owner, group and mode of the nodes of a drive: those of directories, and options that replace those of files.

Used by the options of a mount, by sessions and by views. Any thread may call it; :func:`drive_access` reads the
disk.
"""

import functools
import operator
import os
from dataclasses import dataclass

from omidbfs.database.layout import Source
from omidbfs.database.permissions import Access, limited_mode, path_access


@dataclass(frozen=True, slots=True)
class Ownership:
    """The owner and group to show (``None``: those of the source), and the bits to remove from modes (``umask``).

    Only the user and the group that are named here gain rights. The owner and the group that they replace fall
    into another class. So the other classes get no bit that the replaced class lacks. No bit is ever added.
    """

    uid: int | None = None
    gid: int | None = None
    umask: int = 0

    def shown(self, mode: int, uid: int, gid: int) -> tuple[int, int, int]:
        """Return mode, owner and group as they are shown."""
        if self.uid is not None and self.uid != uid:
            mode &= ~0o77 | (mode >> 6 & 7) * 0o11
        if self.gid is not None and self.gid != gid:
            mode &= ~0o7 | mode >> 3 & 7
        return (
            mode & ~self.umask,
            uid if self.uid is None else self.uid,
            gid if self.gid is None else self.gid,
        )


def drive_access(source: Source) -> Access:
    """Return the access to directories and texts of the drive: at most that to the roots of both trees."""
    roots = [os.stat(tree) for tree in source.trees()]
    mode = functools.reduce(operator.and_, (root.st_mode for root in roots), 0o555)
    uid, gid = roots[0].st_uid, roots[0].st_gid
    above = [access for tree in source.trees() for access in path_access(tree)]
    return Access(limited_mode(mode, uid, gid, above), uid, gid)
