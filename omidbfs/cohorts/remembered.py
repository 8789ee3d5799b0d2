"""The rows of the cohorts that were asked for last, in a limited number of bytes.

:class:`~omidbfs.cohorts.cohort.Cohorts` has one. Any thread may use it.
"""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from omidbfs.index.codes import Bits

MOST_BYTES = 32 << 20
_OF_ENTRY = 1024
"""Bytes of an entry, without its rows and the codes of its terms."""

Rows = NDArray[np.uint32]
_NONE = np.zeros(0, np.uint32)


class _Entry(NamedTuple):
    rows: Rows | Bits
    size: int


class Remembered:
    """Rows by cohort: an array, or one bit for each row of the index, whichever is smaller.

    ``size`` is the number of bytes of all, at most ``most``: what was asked for least recently is forgotten.
    """

    def __init__(self, most: int = MOST_BYTES) -> None:
        self.size = 0
        self._most = most
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        # Questions about one cohort follow each other, such as the counts of all facets. So of one cohort the bits
        # and the array are kept.
        self._latest: tuple[Hashable, Rows] = (None, _NONE)
        self._lock = threading.Lock()

    def get(self, cohort: Hashable) -> Rows | None:
        """Return the rows of a cohort, ``None`` if they are not remembered."""
        with self._lock:
            entry, (latest, rows) = self._entries.get(cohort), self._latest
            if entry is None:
                return None
            self._entries.move_to_end(cohort)
        if not isinstance(entry.rows, Bits):
            return entry.rows
        if latest != cohort or len(rows) != len(entry.rows):
            rows = _fixed(entry.rows.array().astype(np.uint32))
            with self._lock:
                self._keep_latest(cohort, rows)
        return rows

    def bits(self, cohort: Hashable) -> Bits | None:
        """Return the rows of a cohort as a set, ``None`` if they are not remembered."""
        with self._lock:
            entry = self._entries.get(cohort)
            if entry is None:
                return None
            self._entries.move_to_end(cohort)
        return entry.rows if isinstance(entry.rows, Bits) else Bits.of(entry.rows)

    def put(self, cohort: Hashable, rows: Rows, size_of_key: int) -> Rows:
        """Remember the rows of a cohort, and return them as an array that cannot be changed."""
        _fixed(rows)
        is_array = rows.nbytes <= int(rows.max(initial=0)) >> 3
        kept = rows if is_array else Bits.of(rows)
        size = _OF_ENTRY + size_of_key + (kept.nbytes if not isinstance(kept, Bits) else len(kept.packed))
        with self._lock:
            self._forget(cohort)
            self._entries[cohort] = _Entry(kept, size)
            self.size += size
            self._keep_latest(cohort, _NONE if is_array else rows)
        return rows

    def length(self, cohort: Hashable) -> int | None:
        """Return the number of rows of a cohort, ``None`` if they are not remembered."""
        entry = self._entries.get(cohort)
        return None if entry is None else len(entry.rows)

    def _keep_latest(self, cohort: Hashable, rows: Rows) -> None:
        self.size -= self._latest[1].nbytes
        self._latest = (cohort, rows if rows.nbytes <= self._most // 2 else _NONE)
        self.size += self._latest[1].nbytes
        while self.size > self._most and self._entries:
            self._forget(next(iter(self._entries)))

    def _forget(self, cohort: Hashable) -> None:
        entry = self._entries.pop(cohort, None)
        if entry is not None:
            self.size -= entry.size
        if self._latest[0] == cohort:
            self.size -= self._latest[1].nbytes
            self._latest = (None, _NONE)


def _fixed(rows: Rows) -> Rows:
    rows.setflags(write=False)
    return rows
