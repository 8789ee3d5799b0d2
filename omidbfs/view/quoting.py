"""Decides who may read generated files and other texts that quote the source.

Used by a view when it is made. Pure functions: any thread may call them.
"""

import functools
import operator
import os

from omidbfs.database.permissions import Access
from omidbfs.index.columns import Index
from omidbfs.view.ownership import Ownership


def export_access(index: Index, access: Access, ownership: Ownership) -> Access:
    """Return the access to generated files, which quote many files of the source.

    Their owner is the user who mounted, unless ``ownership`` names another user. A class of users may read them if
    it may enter the roots (``access``) and read every file of the source as the drive shows it. The user who
    mounted may always read them.
    """
    files = [ownership.shown(*known) for known in index.accesses[1:]]  # the first stands for no file
    common = functools.reduce(operator.and_, (mode for mode, _, _ in files), 0o444)
    mode = access.mode & common & 0o400 if ownership.uid is not None else 0o400
    if common == 0o444:
        mode |= access.mode & 0o044
    elif common & 0o440 == 0o440 and all(gid == access.gid for _, _, gid in files):
        mode |= access.mode & 0o040
    uid = os.geteuid() if ownership.uid is None else ownership.uid
    return Access(mode & ~ownership.umask, uid, access.gid)
