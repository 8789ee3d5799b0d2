"""Owner, group and mode of what a drive shows: of its own directories, and in place of the source's.

Used by the options of a mount, by sessions and by views, from any thread; :func:`drive_access` asks the disk.
"""

import functools
import operator
import os
from dataclasses import dataclass

from omidbfs.database.layout import Source, tree_access
from omidbfs.database.permissions import Access, limited_mode


@dataclass(frozen=True, slots=True)
class Ownership:
    """Who is shown as owner and group (``None``: as in the source), and bits that nobody has (``umask``).

    Only who is named gains: whoever leaves the class of the owner or of the group, because another takes that
    place, must not gain by falling into a class with more bits. No bit is ever added.
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
    """Return the access to what the drive adds: no more than to the roots of both trees."""
    roots = [os.stat(tree) for tree in source.trees()]
    mode = functools.reduce(operator.and_, (root.st_mode for root in roots), 0o555)
    uid, gid = roots[0].st_uid, roots[0].st_gid
    return Access(limited_mode(mode, uid, gid, tree_access(source)), uid, gid)
