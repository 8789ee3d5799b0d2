"""Decides whether an identity may read a node, for front ends without a kernel that checks modes.

Used by :class:`~omidbfs.serving.drive.Drive`, which knows owner and mode of its nodes. Pure functions: any
thread may call them. They judge modes as the drive shows them. These modes keep the promises of
docs/semantics.md: the mode of a source file (S40), of directories and texts about the drive (S41), of a replaced
file (S71), and of everything that quotes the source (S96).
"""

from dataclasses import dataclass

from omidbfs.database.permissions import Access

READ, SEARCH = 0o4, 0o1


@dataclass(frozen=True, slots=True)
class Identity:
    """The identity of a caller: user, group, and supplementary groups (``None``: unknown).

    User 0 is root, who may read everything. A front end must not pass on the user 0 of another user namespace.
    """

    uid: int
    gid: int
    groups: frozenset[int] | None = frozenset()


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
