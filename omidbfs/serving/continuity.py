"""Keeps the identities of a drive when it loads an index that may not descend from its own.

Used by the refresher, in a thread. Pure functions: any thread may call them. A refresh keeps identities, and so
inodes. But while a drive is mounted, the index on disk may be lost and built anew, or two processes may renew it
at the same time. Then a number may stand for another image. The kernel keeps pages by inode, so a drive keeps
its own numbers.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import starmap

import numpy as np
from numpy.typing import NDArray

from omidbfs.index.columns import Index
from omidbfs.index.identity import NOBODY
from omidbfs.index.sections import DamagedError

_AT_ONCE = 4096
"""Clients whose names are compared at once, in arrays whose memory the allocator returns to the system."""


def continued(new: Index, old: Index) -> Index:
    """Return ``new`` with the identities of ``old``, or ``new`` itself if it already has them.

    Clients and images in both indexes keep their numbers. New ones get numbers that ``old`` never gave. If the
    names or numbers in ``old`` are damaged, all are new.
    """
    try:
        clients, images = _old_identities(new, old)
    except DamagedError:
        clients, images = np.full(len(new.clients), -1, np.int64), np.full(len(new), -1, np.int64)
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
    """Return the identity in ``old`` of each client and each image of ``new``; -1 for those not in ``old``."""
    ordinals = {name: ordinal for ordinal, name in enumerate(old.clients)}
    before = np.array([ordinals.get(name, -1) for name in new.clients], np.int64)
    clients = np.where(before < 0, -1, old.client_identity.astype(np.int64)[before] if len(old.clients) else -1)
    images = np.full(len(new), -1, np.int64)
    known = np.flatnonzero(before >= 0)
    for run in np.split(known, np.flatnonzero((np.diff(known) != 1) | (np.diff(before[known]) != 1)) + 1):
        for start in range(0, len(run), _AT_ONCE):
            part = run[start : start + _AT_ONCE]
            first, end = int(part[0]), int(part[-1]) + 1
            rows = slice(int(new.client_rows[first]), int(new.client_rows[end]))
            images[rows] = _of_run(new, old, first, end, int(before[first]))
    return clients, images


def _of_run(new: Index, old: Index, first: int, end: int, before: int) -> NDArray[np.integer] | list[int]:
    """Return the identities in ``old`` of the images of a run of clients, which starts there at ``before``."""
    count = end - first
    # Most images are in the same place. So arrays are compared, and a run with any difference is halved.
    if _named_alike(new, old, first, end, before):
        return old.identity[old.client_rows[before] : old.client_rows[before + count]]
    if count == 1:
        numbers = dict(zip(_names(old, before), _identities(old, before), strict=True))
        return [numbers.get(name, -1) for name in _names(new, first)]
    half = count // 2
    parts = (_of_run(new, old, first, first + half, before), _of_run(new, old, first + half, end, before + half))
    return np.concatenate([np.asarray(part, np.int64) for part in parts])


def _named_alike(new: Index, old: Index, first: int, end: int, before: int) -> bool:
    """Return whether the studies and images of a run of clients have the same names in the same order."""
    one, other = _run(new, first, end), _run(old, before, before + end - first)
    return all(starmap(np.array_equal, zip(one, other, strict=False)))  # the first fixes their number


def _run(index: Index, first: int, end: int) -> Iterator[NDArray[np.generic]]:
    """Yield arrays that are equal if and only if two runs of clients have images with the same names."""
    rows = slice(int(index.client_rows[first]), int(index.client_rows[end]))
    yield index.client_rows[first : end + 1] - index.client_rows[first]
    studies = index.study_of[rows]
    if len(studies):
        yield studies - studies[0]
        for names in (
            index.images.between(rows.start, rows.stop),
            index.studies.between(int(studies[0]), int(studies[-1]) + 1),
        ):
            yield names.offsets
            yield names.heap


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
    """Return the numbers, with new ones from ``free`` on in place of -1, and their inverse."""
    fresh = np.flatnonzero(before < 0)
    numbers = before.copy()
    numbers[fresh] = np.arange(free, free + len(fresh))
    inverse = np.full(free + len(fresh), NOBODY, np.uint32)
    inverse[numbers] = np.arange(len(numbers), dtype=np.uint32)
    return numbers.astype(np.uint32), inverse
