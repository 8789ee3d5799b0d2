"""Identities across indexes of which one may not descend from the other.

A refresh keeps identities, and so inodes. But the index on disk may have been lost and built anew while a drive
was mounted, or two processes may have renewed it at once: then a number may stand for another image. The kernel
has pages under the inodes that it was told, so a drive keeps to its own numbers.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from omidbfs.index.columns import Index
from omidbfs.index.identity import NOBODY


def continued(new: Index, old: Index) -> Index:
    """Return ``new`` with the identities of ``old``: the same index where it has them already.

    What both hold keeps its number; what is new gets one that ``old`` never gave.
    """
    clients, images = _old_identities(new, old)
    never_fewer = len(new.row_of) >= len(old.row_of) and len(new.client_ordinal) >= len(old.client_ordinal)
    if (
        never_fewer
        and _continues(new.client_identity, clients, len(old.client_ordinal))
        and _continues(new.identity, images, len(old.row_of))
    ):
        return new
    client_identity, client_ordinal = _numbered(clients, len(old.client_ordinal))
    identity, row_of = _numbered(images, len(old.row_of))
    return replace(
        new,
        client_identity=client_identity,
        client_ordinal=client_ordinal,
        identity=identity,
        row_of=row_of,
    )


def _old_identities(new: Index, old: Index) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the identity in ``old`` of each client and each image of ``new``, -1 for those that are not in it."""
    ordinals = {name: ordinal for ordinal, name in enumerate(old.clients)}
    before = np.array([ordinals.get(name, -1) for name in new.clients], np.int64)
    clients = np.where(before < 0, -1, old.client_identity.astype(np.int64)[before] if len(old.clients) else -1)
    images = np.full(len(new), -1, np.int64)
    # A digest is of all names of a client, so where it is the same her images are, in the same order.
    known = before >= 0
    same = known.copy()
    same[known] = new.client_digest[known] == old.client_digest[before[known]]
    ends = np.flatnonzero((np.diff(before) != 1) | ~same[1:] | ~same[:-1]) + 1
    for run in np.split(np.arange(len(before)), ends):
        if not len(run):
            continue
        first, last = int(run[0]), int(run[-1])
        rows = slice(int(new.client_rows[first]), int(new.client_rows[last + 1]))
        if same[first]:
            start = int(old.client_rows[before[first]])
            images[rows] = old.identity[start : start + rows.stop - rows.start]
        elif known[first]:
            numbers, names = _identities(old, int(before[first])), _names(old, int(before[first]))
            if (now := _names(new, first)) != names:
                known_names = dict(zip(names, numbers, strict=True))
                numbers = [known_names.get(name, -1) for name in now]
            images[rows] = numbers
    return clients, images


def _identities(index: Index, client: int) -> list[int]:
    found: list[int] = index.identity[index.client_rows[client] : index.client_rows[client + 1]].tolist()
    return found


def _names(index: Index, client: int) -> list[tuple[bytes, bytes]]:
    rows = np.arange(index.client_rows[client], index.client_rows[client + 1])
    return list(zip(index.studies.take(index.study_of[rows]), index.images.take(rows), strict=True))


def _continues(numbers: NDArray[np.uint32], before: NDArray[np.int64], given: int) -> bool:
    is_new = before < 0
    return np.array_equal(numbers[~is_new], before[~is_new]) and bool((numbers[is_new] >= given).all())


def _numbered(before: NDArray[np.int64], free: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Return the numbers, with fresh ones from ``free`` on for -1, and their inverse."""
    fresh = np.flatnonzero(before < 0)
    numbers = before.copy()
    numbers[fresh] = np.arange(free, free + len(fresh))
    inverse = np.full(free + len(fresh), NOBODY, np.uint32)
    inverse[numbers] = np.arange(len(numbers), dtype=np.uint32)
    return numbers.astype(np.uint32), inverse
