"""Conditions: which rows satisfy a term, found by comparing columns.

:class:`~omidbfs.cohorts.cohort.Cohorts` uses them, from any thread. They only read columns.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from omidbfs.index.codes import Codes, Mask, as_run, matching

_BLOCK = 1 << 16
"""Rows that are compared at a time. Masks of so many stay in the processor's cache, and allocators reuse them."""

Where = slice | NDArray[np.integer]
"""A run of rows, or some rows, ascending."""


class Condition(NamedTuple):
    """A condition; ``of`` returns for each row whether it satisfies it.

    A simple condition takes one or two comparisons, less time than to find the rows that satisfy another one.
    """

    of: Callable[[Where], Mask]
    is_simple: bool


def condition(values: Callable[[Where], NDArray[np.integer]], codes: Codes, *, negated: bool) -> Condition:
    """Return the condition that the value of a row is among some codes, or is not if ``negated``."""
    matches = matching(codes)
    if negated:
        return Condition(lambda rows: ~matches(values(rows)), as_run(codes) is not None)
    return Condition(lambda rows: matches(values(rows)), as_run(codes) is not None)


def satisfying(conditions: Sequence[Condition], first: int, end: int) -> NDArray[np.uint32]:
    """Return the rows from ``first`` to before ``end`` that satisfy all conditions.

    Simple conditions are compared for all rows of a block, and the other ones for the rows that are left.
    """
    if not conditions:
        return np.arange(first, end, dtype=np.uint32)
    ordered = sorted(conditions, key=lambda one: not one.is_simple)
    simple = max(1, sum(one.is_simple for one in ordered))
    found = [np.zeros(0, np.uint32)]
    for start in range(first, end, _BLOCK):
        block = slice(start, min(start + _BLOCK, end))
        mask = ordered[0].of(block)
        for one in ordered[1:simple]:
            mask &= one.of(block)
        found.append(left(ordered[simple:], np.flatnonzero(mask) + start))
    return np.concatenate(found)


def left(conditions: Sequence[Condition], rows: NDArray[np.integer]) -> NDArray[np.uint32]:
    """Return those of some rows that satisfy all conditions."""
    for one in conditions:
        rows = rows[one.of(rows)]
    return rows.astype(np.uint32)
