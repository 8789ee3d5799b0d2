"""Who may read what a drive shows: the one judgement for front ends, which have no kernel to check modes for them.

Used by :class:`~omidbfs.serving.drive.Drive`, which knows the access to its nodes. Pure functions: any thread may
call them. What is judged here are modes as the drive shows them, and those keep the promises of docs/semantics.md:
the limited mode of a source file (S40), that of directories and of texts about the drive (S41), that of a replaced
file (S71), and that of everything that quotes the source (S96).
"""

from dataclasses import dataclass

from omidbfs.database.permissions import Access

READ, SEARCH = 0o4, 0o1


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks: a user, the group of that user, and the supplementary groups (``None``: not known).

    The user 0 is root, who may read everything. A front end must not take the 0 of another user namespace for it.
    """

    uid: int
    gid: int
    groups: frozenset[int] | None = frozenset()


def permits(access: Access, identity: Identity, wanted: int) -> bool:
    """Return whether a mode lets an identity do what is ``wanted``, :data:`READ` or :data:`SEARCH`.

    The rule is that of path_resolution(7), without ACLs: only the first class that the identity is in counts.
    Where its groups decide and are not known, the answer is no.
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
