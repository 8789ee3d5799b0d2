"""Named cohorts as parts of each other, and which rows they have.

:class:`~omidbfs.cohorts.cohort.Cohorts` uses it, from any thread. A part refers to other parts by terms of the
facet ``cohort``. Whether a part has a row follows from its terms. Sets of rows are found at their first use, and
remembered.
"""

import functools
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omidbfs.cohorts.conditions import Condition, Where
from omidbfs.facets import COHORT_FACET, NONE
from omidbfs.index.codes import Bits, Codes, Mask
from omidbfs.index.columns import FIRST_CODE, RESERVED_CODES, counted

Cohort = Any
"""A :class:`~omidbfs.cohorts.cohort.Cohort`. That module imports this one, so its types cannot be named here."""
Cohorts = Any
_FEW_ROWS = 32
"""Most rows that are asked for one by one, because a call of numpy for each part takes longer."""
_NONE = RESERVED_CODES[NONE]
_Known = dict[int, bool]
"""Code of a part -> whether it has the row in question."""


@dataclass(frozen=True, slots=True)
class Named:
    """The cohorts to which terms of the facet ``cohort`` refer.

    The code of ``parts[i]`` is ``FIRST_CODE + i``. ``codes`` has the codes of the cohorts that a configuration
    names, in its order. Only definitions of other parts refer to the rest. Parts refer only to earlier parts.
    """

    parts: tuple[Cohort, ...] = ()
    codes: Mapping[str, int] = field(default_factory=dict)

    def __getitem__(self, code: int) -> Cohort:
        return self.parts[code - FIRST_CODE]

    def readings(self) -> dict[str, int]:
        """Return name -> code of everything that a path can name below ``by-cohort``."""
        return {NONE: _NONE, **self.codes}

    def name(self, code: int) -> str | None:
        """Return the name of the cohort with a code, ``None`` for a part that has no name."""
        return next((name for name, of in self.codes.items() if of == code), None)


@dataclass(frozen=True, slots=True)
class Broken:
    """The mistake in the definition of a cohort, as in :class:`~omidbfs.base.errors.UserError`."""

    what: str
    remedy: str
    place: str

    def __str__(self) -> str:
        return f"{self.place}: {self.what}{f'; {self.remedy}' if self.remedy else ''}"


class NamedMembers:
    """Which rows of an index the parts of ``named`` have."""

    def __init__(self, cohorts: Cohorts, named: Named) -> None:
        # A drive frees an old index as soon as nobody refers to it, so the two must not refer to each other.
        self._cohorts, self._named = weakref.proxy(cohorts), named

    def has_row(self, codes: Iterable[int], row: int) -> bool:
        """Return whether one of some parts has a row, without finding other rows. Each part is asked once."""
        return self._has(codes, row, {})

    def _has(self, codes: Iterable[int], row: int, known: _Known) -> bool:
        return any(self._is_in(code, row, known) for code in codes)

    def _is_in(self, code: int, row: int, known: _Known) -> bool:
        if code == _NONE:
            return not self._has(self._named.codes.values(), row, known)
        found = known.get(code)
        if found is None:
            found = known[code] = all(
                (
                    self._has(term.codes, row, known)
                    if term.facet == COHORT_FACET.name
                    else self._cohorts.is_inside(term, row)
                )
                != term.negated
                for term in self._named[code].terms
            )
        return found

    def of_row(self, row: int) -> tuple[int, ...]:
        """Return the codes of the named cohorts that have a row, or that of ``none``."""
        known: _Known = {}
        return tuple(code for code in self._named.codes.values() if self._is_in(code, row, known)) or (_NONE,)

    def condition(self, codes: Codes, *, negated: bool) -> Condition:
        """Return the condition that one of some parts has a row. Asked of few rows, it finds no others."""
        rows_of, number = functools.cache(lambda: self.rows_of(codes)), len(self._cohorts.index)

        def of(where: Where) -> Mask:
            rows: NDArray[np.integer] = np.arange(*where.indices(number)) if isinstance(where, slice) else where
            if len(rows) > _FEW_ROWS:
                mask = rows_of().holds(rows)
            else:
                mask = np.array([self.has_row(codes, row) for row in rows.tolist()], np.bool_)
            return ~mask if negated else mask

        return Condition(of, is_simple=False)

    def rows_of(self, codes: Iterable[int]) -> Bits:
        """Return the rows that some parts have. ``none`` has those that no named cohort has."""
        chosen = set(codes)
        if len(chosen) == 1 and _NONE not in chosen:
            bits: Bits = self._cohorts.bits(self._named[next(iter(chosen))])
            return bits
        mask = np.zeros(len(self._cohorts.index), np.bool_)
        if _NONE in chosen:
            for code in self._named.codes.values():
                mask[self._cohorts.rows(self._named[code])] = True
            mask = ~mask
        for code in chosen - {_NONE}:
            mask[self._cohorts.rows(self._named[code])] = True
        return Bits.of(np.flatnonzero(mask))

    def together(self, rows: NDArray[np.integer]) -> tuple[list[tuple[int, ...]], NDArray[np.uint32]]:
        """Return sets of codes that some rows have (:meth:`of_row`), and for each row the place of its set."""
        found: list[tuple[int, ...]] = [()]
        places = np.zeros(len(rows), np.uint32)
        for code in self._named.codes.values():
            both = places * np.uint32(2) + self._cohorts.bits(self._named[code]).holds(rows)
            occurring = np.flatnonzero(counted(both))
            place_of = np.zeros(2 * len(found), np.uint32)
            place_of[occurring] = np.arange(len(occurring))
            places = place_of[both]
            found = [found[one >> 1] + (code,) * (one & 1) for one in occurring.tolist()]
        return [codes or (_NONE,) for codes in found], places

    def counts(self, cohort: Cohort) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the codes of the named cohorts that have images of a cohort, and their numbers, ``none`` last."""
        rows = self._cohorts.rows(cohort)
        left, found = np.ones(len(rows), np.bool_), dict[int, int]()
        for code in self._named.codes.values():
            mask = self._cohorts.bits(self._named[code]).holds(rows)
            found[code] = int(np.count_nonzero(mask))
            left &= ~mask
        found[_NONE] = int(np.count_nonzero(left))
        occurring = {code: count for code, count in found.items() if count}
        return np.array(list(occurring), np.int64), np.array(list(occurring.values()), np.int64)
