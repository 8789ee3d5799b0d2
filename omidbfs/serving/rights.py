"""Decides whether an identity may read a node, for front ends without a kernel that checks modes.

Used by :class:`~omidbfs.serving.drive.Drive`. Any thread may call these functions. They judge modes as the drive
shows them. These modes keep the promises of docs/semantics.md: the mode of a source file (S40), of directories and
texts about the drive (S41), of a replaced file (S71), and of everything that quotes the source (S96).
"""

import os
import stat
from dataclasses import dataclass

from omidbfs.database.permissions import Access
from omidbfs.view.nodes import Directory, Export
from omidbfs.view.view import View

READ, SEARCH = 0o4, 0o1


@dataclass(frozen=True, slots=True)
class Identity:
    """The identity of a caller: user, group, and supplementary groups (``None``: unknown).

    User 0 is root, who may read everything. A front end must not pass on the user 0 of another user namespace.
    """

    uid: int
    gid: int
    groups: frozenset[int] | None = frozenset()


def own_identity() -> Identity:
    """Return the identity of the user who runs this process."""
    return Identity(os.geteuid(), os.getegid(), frozenset(os.getgroups()))


def access_of(view: View, node: Directory | Export | int) -> Access | None:
    """Return owner and mode of a node as the drive shows them; ``None`` for a stale node."""
    if isinstance(node, int):
        # For a symbolic link the rights of its target count: every user may read the link itself.
        known = view.files.facts(node) or view.attributes(node)
        return None if known is None else Access(stat.S_IMODE(known.mode), known.uid, known.gid)
    if not view.has_made(node):
        return None
    if isinstance(node, Export):
        return view.export_access
    shown = view.directory_attributes(node)
    return Access(stat.S_IMODE(shown.mode), shown.uid, shown.gid)


def permits(access: Access, identity: Identity, wanted: int) -> bool:
    """Return whether a mode permits an identity to do what is ``wanted``, :data:`READ` or :data:`SEARCH`.

    The rule is that of path_resolution(7), without ACLs: only the first class to which the identity belongs
    counts. If the answer depends on groups that are unknown, it is no.
    """
    mode = access.mode
    if identity.uid == 0:
        return True
    if identity.uid == access.uid:
        return bool(mode >> 6 & wanted)
    as_group, as_other = bool(mode >> 3 & wanted), bool(mode & wanted)
    if as_group is as_other or identity.gid == access.gid:
        return as_group
    if identity.groups is None:
        return False
    return as_group if access.gid in identity.groups else as_other
