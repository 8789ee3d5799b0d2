"""Identities: the numbers from which inodes are made.

``merge`` assigns them, in the thread that makes an index. An image keeps its number as long as its client, study
and name stay the same. A number is never reused for another image. The same holds for clients.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from omidbfs.index.columns import Index

if TYPE_CHECKING:
    from omidbfs.index.chunk import Chunk

NOBODY = 0xFFFFFFFF
"""Entry of an inverse for a number without an image or client in the index."""

Identities = tuple[NDArray[np.uint32], NDArray[np.uint32]]
"""The numbers in the order of rows, and their inverse."""


def image_identities(chunks: "Sequence[Chunk]", previous: Index | None) -> Identities:
    """Return the identity of each image of all chunks, and the row of each identity."""
    free = len(previous.row_of) if previous is not None else 0
    parts = []
    for chunk in chunks:
        numbers = chunk.identity
        if numbers is None:
            known = _known_images(chunk, previous)
            numbers, free = _numbered(known, free)
        parts.append(numbers)
    return _with_inverse(parts, free)


def client_identities(chunks: "Sequence[Chunk]", previous: Index | None) -> Identities:
    """Return the identity of each client of all chunks, and the ordinal of each identity."""
    free = len(previous.client_ordinal) if previous is not None else 0
    parts = []
    for chunk in chunks:
        numbers = chunk.client_identity
        if numbers is None:
            known = [-1] * len(chunk.values["clients"])
            if previous is not None:
                found = [previous.client_table.find(name) for name in chunk.values["clients"]]
                known = [int(previous.client_identity[old[0]]) if old else -1 for old in found]
            numbers, free = _numbered(known, free)
        parts.append(numbers)
    return _with_inverse(parts, free)


def _known_images(chunk: "Chunk", previous: Index | None) -> list[int]:
    if previous is None:
        return [-1] * len(chunk.values["images"])
    known: list[int] = []
    images, studies, study, row = list(chunk.values["images"]), chunk.values["studies"], 0, 0
    for client, count_of_studies in zip(chunk.values["clients"], chunk.client_studies.tolist(), strict=True):
        numbers = _identities_of(client, previous)
        for _ in range(count_of_studies):
            name, count = studies[study], int(chunk.study_images[study])
            known += [numbers.get((name, image), -1) for image in images[row : row + count]]
            study, row = study + 1, row + count
    return known


def _identities_of(client: bytes, index: Index) -> dict[tuple[bytes, bytes], int]:
    """Return (study, image) -> identity of the images of one client."""
    found = index.client_table.find(client)
    if not found:
        return {}
    rows = np.arange(index.client_rows[found[0]], index.client_rows[found[0] + 1])
    names = zip(index.studies.take(index.study_of[rows]), index.images.take(rows), strict=True)
    return dict(zip(names, index.identity[rows].tolist(), strict=True))


def _numbered(known: list[int], free: int) -> tuple[NDArray[np.uint32], int]:
    """Return the numbers, with new ones from ``free`` on in place of -1, and the next free number."""
    numbers = np.array(known, np.int64)
    fresh = np.flatnonzero(numbers < 0)
    numbers[fresh] = np.arange(free, free + len(fresh))
    return numbers.astype(np.uint32), free + len(fresh)


def _with_inverse(parts: list[NDArray[np.uint32]], free: int) -> Identities:
    numbers = np.concatenate(parts or [np.zeros(0, np.uint32)])
    inverse = np.full(free, NOBODY, np.uint32)
    inverse[numbers] = np.arange(len(numbers), dtype=np.uint32)
    return numbers, inverse
