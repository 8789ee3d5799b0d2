"""Fingerprints of sources: a saved index has that of its source, so that it is never used for another one.

``store`` and ``saved`` use them, from a thread that may wait for a disk.
"""

import json
import os

from omidbfs.database.layout import Source
from omidbfs.database.permissions import born

_NOT_OURS = (LookupError, TypeError, ValueError, AttributeError, RecursionError)
"""Exceptions from a text that :func:`fingerprint` did not write."""


def fingerprint(source: Source) -> str:
    """Return a text that identifies a source on every machine that mounts its disk.

    It holds the inode and the birth time of each root, because disks that were filled in the same way have the
    same inodes. :func:`is_of` compares fingerprints.

    Raises
    ------
    OSError
        A tree cannot be reached, because its disk is not mounted.
    """
    trees = (source.images, source.data)
    facts = {
        "inodes": [os.stat(tree).st_ino if tree is not None else None for tree in trees],
        "born": [born(tree) if tree is not None else None for tree in trees],
        "labels": [source.images_label, source.data_label],
        "follow_symlinks": source.follow_symlinks,
    }
    return json.dumps(facts)


def is_of(saved: str, now: str) -> bool:
    """Return whether two fingerprints belong to the same source.

    Not every file system gives the birth time of a directory, and an NFS server may know birth times that its
    clients do not. A birth time counts only if both fingerprints have it.
    """
    if saved == now:
        return True
    try:
        one, other = json.loads(saved), json.loads(now)
        pairs = list(zip(one.pop("born"), other.pop("born"), strict=True))
    except _NOT_OURS:
        return False
    return bool(one == other) and all(None in pair or pair[0] == pair[1] for pair in pairs)


def is_certain(source_fingerprint: str) -> bool:
    """Return whether a fingerprint has the birth time of a root: then no other source has the same fingerprint."""
    return any(json.loads(source_fingerprint)["born"])
