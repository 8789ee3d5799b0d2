"""The levels of an index: one object each for clients, episodes, studies and images.

Cohorts, exports, extended attributes and facets from tables use these objects. They hold columns of an index, are
immutable, and answer in any thread.

An *ordinal* identifies a client, episode, study or image. The ordinal of an image is its row. The ordinal
:data:`NO_EPISODE` stands for ``unlinked``. *Rows* are rows of images, ascending.
"""

# ruff: noqa: D102  Members documents the methods of all levels

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from omidbfs.base.names import safe_bytes
from omidbfs.facets import UNLINKED, Level
from omidbfs.index.codes import Codes, as_array, matching
from omidbfs.index.columns import Index, blocks, occupied, runs
from omidbfs.index.flat_names import rows_named
from omidbfs.index.names import Names, NameTable, first_of_each, safe_cells, spread

NO_EPISODE = -1

Rows = NDArray[np.uint32]
Ordinals = NDArray[np.integer]


class Among(Protocol):
    """A level whose members can be counted in a cohort."""

    def among(self, rows: Rows | None) -> Ordinals:
        """Return the ordinals that have an image among ``rows`` (``None``: all of the index), ascending."""


class Members(Among, Protocol):
    """A level with identifiers."""

    def total(self) -> int:
        """Return the number of members, including clients without images, and ``unlinked`` as an episode."""

    def find(self, name: bytes) -> list[int]:
        """Return the ordinals that a name on the drive stands for, ascending."""

    def named(self, name: str) -> list[int]:
        """Return the ordinals that a name in a list or table stands for: a name on the drive or on disk."""

    def names(self, ordinals: Ordinals) -> list[bytes]:
        """Return the names on the drive."""

    def cells(self, rows: Rows) -> list[bytes]:
        """Return the identifier of each row in tables, empty for none. For an episode it is the number."""

    def ordinal(self, row: int) -> int:
        """Return the ordinal that an image belongs to."""

    def ordinals(self, rows: NDArray[np.integer] | slice) -> Ordinals:
        """Return the ordinal that each image belongs to, of some rows or of a run of rows."""

    def rows(self, ordinals: Codes) -> NDArray[np.intp]:
        """Return the rows of the images that belong to ``ordinals``, ascending."""

    def listed(self, rows: Rows | None) -> Ordinals:
        """Return what the facet of identifiers lists for ``rows`` (``None``: at the root), one ordinal a name."""


class Runs:
    """Clients or studies, whose rows follow each other. ``is_unique`` says whether no two of them share a name.

    The columns of the index are taken at their first use, because a saved index reads them then.
    """

    def __init__(self, index: Index, level: Level, *, is_unique: bool = True) -> None:
        self._index, self._level, self.is_unique = index, level, is_unique

    @cached_property
    def identifiers(self) -> Names:
        """The names on the drive."""
        found: Names = getattr(self._index, self._level.plural)
        return found

    @cached_property
    def table(self) -> NameTable:
        """The ordinals by name."""
        found: NameTable = getattr(self._index, f"{self._level}_table")
        return found

    @cached_property
    def of(self) -> NDArray[np.uint32]:
        """The ordinal of each row."""
        found: NDArray[np.uint32] = getattr(self._index, f"{self._level}_of")
        return found

    @cached_property
    def bounds(self) -> NDArray[np.uint32]:
        """The first row of each ordinal, and at the end the number of all rows."""
        found: NDArray[np.uint32] = getattr(self._index, f"{self._level}_rows")
        return found

    def total(self) -> int:
        return len(self.identifiers)

    def find(self, name: bytes) -> list[int]:
        return self.table.find(name)

    def named(self, name: str) -> list[int]:
        raw = os.fsencode(name)
        return self.table.find(safe_bytes(raw)) or self.table.find(raw)

    def names(self, ordinals: Ordinals) -> list[bytes]:
        return self.identifiers.take(ordinals)

    def cells(self, rows: Rows) -> list[bytes]:
        return spread(self.identifiers, self.of[rows])

    def ordinal(self, row: int) -> int:
        return self.of.item(row)

    def ordinals(self, rows: NDArray[np.integer] | slice) -> Ordinals:
        return self.of[rows]

    def rows(self, ordinals: Codes) -> NDArray[np.intp]:
        return self.rows_of(as_array(ordinals))

    def rows_of(self, ordinals: Ordinals) -> NDArray[np.intp]:
        """Return the same for an ascending array."""
        starts = self.bounds[ordinals].astype(np.intp)
        lengths = self.bounds[ordinals + 1] - starts
        ends = np.cumsum(lengths)
        return np.repeat(starts - ends + lengths, lengths) + np.arange(int(ends[-1]) if len(ends) else 0)

    def among(self, rows: Rows | None) -> NDArray[np.uint32]:
        return occupied(self.bounds) if rows is None else runs(self.of[rows])[0]

    def listed(self, rows: Rows | None) -> Ordinals:
        ordinals = self.among(rows) if rows is not None else np.arange(len(self.identifiers), dtype=np.uint32)
        return ordinals if self.is_unique else first_of_each(self.identifiers, ordinals)


class Episodes:
    """Episodes, named ``<client>~<number>``, and ``unlinked``. Ordinals are in the order of clients."""

    def __init__(self, index: Index, studies: Runs) -> None:
        self._index, self._studies = index, studies

    @cached_property
    def _first(self) -> NDArray[np.uint32]:
        """The first episode of each client, and at the end the number of all episodes."""
        first = np.zeros(len(self._index.clients) + 1, np.uint32)
        np.cumsum(self._index.episodes.per_client, out=first[1:])
        return first

    @cached_property
    def _total(self) -> int:
        return len(self.listed(None))

    def total(self) -> int:
        return self._total

    def find(self, name: bytes) -> list[int]:
        """Return the ordinals for ``unlinked``, ``<client>~<number>``, or ``<number>`` of any client."""
        index = self._index
        if name == UNLINKED.encode():
            return [NO_EPISODE]
        client, tilde, number = name.partition(b"~")
        if not tilde:
            return index.episode_table.find(client)
        of_client = (self._first[client : client + 2].tolist() for client in index.client_table.find(client))
        ids = index.episodes.ids
        return [one for run in of_client for one in range(*run) if safe_bytes(ids[one]) == number]

    def named(self, name: str) -> list[int]:
        return self.find(os.fsencode(name))

    def names(self, ordinals: Ordinals) -> list[bytes]:
        linked = ordinals[ordinals >= 0]
        clients = self._index.clients.take(np.searchsorted(self._first, linked, side="right") - 1)
        numbers = self._index.episodes.ids.take(linked)
        names = (b"%s~%s" % (client, safe_bytes(id_)) for client, id_ in zip(clients, numbers, strict=True))
        return [next(names) if is_linked else UNLINKED.encode() for is_linked in (ordinals >= 0).tolist()]

    def cells(self, rows: Rows) -> list[bytes]:
        return safe_cells(self._index.episodes.ids, self.ordinals(rows))

    def ordinal(self, row: int) -> int:
        return self._index.study_episode.item(self._studies.ordinal(row))

    def ordinals(self, rows: NDArray[np.integer] | slice) -> Ordinals:
        return self._index.study_episode[self._studies.ordinals(rows)]

    def rows(self, ordinals: Codes) -> NDArray[np.intp]:
        return self._studies.rows_of(np.flatnonzero(matching(ordinals)(self._index.study_episode)))

    def among(self, rows: Rows | None) -> Ordinals:
        return self._among(self._studies.among(rows))

    def _among(self, studies: Ordinals) -> NDArray[np.int32]:
        has_image = np.zeros(len(self._index.episodes.type) + 1, np.bool_)  # the last is NO_EPISODE, -1
        for part in blocks(len(studies)):
            has_image[self._index.study_episode[studies[part]]] = True
        return np.flatnonzero(has_image[:-1]).astype(np.int32)

    def listed(self, rows: Rows | None) -> Ordinals:
        studies = self._studies.among(rows)
        is_unlinked = bool((self._index.study_episode[studies] < 0).any())
        return np.append(self._among(studies), np.array([NO_EPISODE] * is_unlinked, np.int32))


@dataclass(frozen=True, slots=True)
class Images:
    """Images. Their ordinals are rows. No facet lists them."""

    index: Index

    def total(self) -> int:
        return len(self.index)

    def find(self, name: bytes) -> list[int]:
        return self.index.image_table.find(name)

    def named(self, name: str) -> list[int]:
        return rows_named(self.index, name)

    def names(self, ordinals: Ordinals) -> list[bytes]:
        return self.index.images.take(ordinals)

    def cells(self, rows: Rows) -> list[bytes]:
        return self.index.images.take(rows)

    def ordinal(self, row: int) -> int:
        return row

    def ordinals(self, rows: NDArray[np.integer] | slice) -> Ordinals:
        return np.arange(*rows.indices(len(self.index))) if isinstance(rows, slice) else rows

    def rows(self, ordinals: Codes) -> NDArray[np.intp]:
        return as_array(ordinals)

    def among(self, rows: Rows | None) -> Ordinals:
        return np.arange(len(self.index), dtype=np.uint32) if rows is None else rows

    def listed(self, rows: Rows | None) -> Ordinals:
        return self.among(rows)


@dataclass(frozen=True, slots=True)
class Marks:
    """Marks, which have no identifiers of their own. Their ordinals are positions in ``index.marks``."""

    index: Index

    def among(self, rows: Rows | None) -> NDArray[np.intp]:
        of = self.index.marks.row
        if rows is None:
            return np.arange(len(of))
        chosen = np.zeros(len(self.index), np.bool_)
        chosen[rows] = True
        return np.flatnonzero(chosen[of])


def levels_of(index: Index) -> Mapping[Level, Members]:
    """Return the levels of an index that have identifiers."""
    studies = Runs(index, Level.STUDY, is_unique=index.studies_unique)
    return {
        Level.CLIENT: Runs(index, Level.CLIENT),
        Level.EPISODE: Episodes(index, studies),
        Level.STUDY: studies,
        Level.IMAGE: Images(index),
    }
