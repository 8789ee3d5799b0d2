"""The ages of the clients of a cohort, for a report. Pure functions of an index: any thread may call them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from omidbfs.cohorts.tabulated import TOTAL, Table
from omidbfs.cohorts.units import Numbers, Selected
from omidbfs.facets import UNKNOWN, Level
from omidbfs.index.columns import FIRST_CODE

_BAND = 5
_NONE = 1 << 20
"""Stands for an age that is not stated. It is more than any age."""


@dataclass(frozen=True, slots=True)
class Ages:
    """The ages of the clients of one outcome: how many state an age, and quartiles of these ages in years."""

    outcome: str
    clients: int
    stated: int
    quartiles: tuple[float, float, float] | None

    def words(self) -> str:
        """Return median and quartiles as text, for the plot and the table."""
        if self.quartiles is None:
            return "not known"
        low, middle, high = self.quartiles
        return f"{middle:.1f} [{low:.1f}, {high:.1f}]"


def ages_of(chosen: Selected) -> tuple[Table, tuple[Ages, ...]]:
    """Return each client's age at the first examination with each outcome: the lowest that these images state."""
    by_name = chosen.index.registry.by_name
    outcomes = chosen.groups(by_name["outcome"])
    labels, groups = outcomes.labels, outcomes.codes.astype(np.int64)
    client = chosen.members(Level.CLIENT).astype(np.int64)
    lowest = by_name["age"].lowest
    ages = chosen.index.columns["age"][chosen.rows].astype(np.int64) - FIRST_CODE + lowest
    ages[ages < lowest] = _NONE  # not stated, or not a number: more than any age
    pairs, inverse = np.unique((groups << 32) | client, return_inverse=True)
    first = np.full(len(pairs), _NONE, np.int64)
    np.minimum.at(first, inverse, ages)
    outcome = pairs >> 32
    stated = first < _NONE
    bands = np.unique(first[stated] // _BAND).tolist()
    everyone = np.full(int(client.max(initial=-1)) + 1, _NONE, np.int64)
    np.minimum.at(everyone, client, ages)
    clients = everyone[np.unique(client)]

    def row(inside: NDArray[np.bool_], among_all: NDArray[np.bool_]) -> tuple[int, ...]:
        found = np.bincount(outcome[inside], minlength=len(labels)).tolist() if labels else []
        return (*found, int(np.count_nonzero(among_all)))

    lowest_of = [band * _BAND for band in range(bands[0], bands[-1] + 1)] if bands else []
    rows = [
        (f"{start}-{start + _BAND - 1}", row(first // _BAND == start // _BAND, clients // _BAND == start // _BAND))
        for start in lowest_of
    ]
    ticks = [str(start) for start in lowest_of]
    if not stated.all():
        rows.append((UNKNOWN, row(~stated, clients >= _NONE)))
        ticks.append("?")
    totals = row(np.ones(len(first), np.bool_), np.ones(len(clients), np.bool_))
    note = (
        "Number (share) of clients by age in years at the first examination with each outcome (the lowest age "
        "that these images state); shares are of the clients with that outcome. A client is counted once for each "
        "outcome, and once among all clients. Unknown: no image states an age that is a number."
    )
    columns = (*labels, "all clients")
    rows.append((TOTAL, totals))
    table = Table(
        "age", "Age by outcome", note, "age", columns, tuple(rows), totals, ticks=tuple(ticks), across="outcome"
    )
    groups_of = [(label, first[outcome == place]) for place, label in enumerate(labels)] + [
        ("all clients", clients)
    ]
    return table, tuple(_quartiles(label, found) for label, found in groups_of)


def _quartiles(outcome: str, ages: Numbers) -> Ages:
    stated = ages[ages < _NONE]
    quartiles = np.percentile(stated, (25, 50, 75)).tolist() if len(stated) else None
    return Ages(outcome, len(ages), len(stated), None if quartiles is None else tuple(quartiles))
