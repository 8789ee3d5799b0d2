"""Several cohorts side by side, with standardised differences against the first.

Used by ``omidbfs report``. Pure functions of an index: any thread may call them.

A standardised difference is that of Yang and Dalton (2012), "A unified approach to measuring the effect size
between two groups using SAS", SAS Global Forum, paper 335: the Mahalanobis distance between two multinomial
distributions, with the mean of their covariance matrices. With two categories it is the difference of the shares,
divided by ``sqrt((p (1 - p) + q (1 - q)) / 2)``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from omidbfs.cohorts.cohort import EVERYTHING, Cohort, Cohorts
from omidbfs.cohorts.tabulated import TOTAL, Table
from omidbfs.cohorts.units import UNITS, Groups, Selected
from omidbfs.facets import UNKNOWN, Facet, Level
from omidbfs.report.ages import ages_of

_FACETS = {
    "client-status": "Client status",
    "site": "Screening centre",
    "ethnicity": "Ethnic group",
    "outcome": "Outcome",
    "episode-type": "Type of episode",
    "year": "Year of the episode",
    "standard-views": "Complete studies",
    "manufacturer": "Manufacturer",
    "model": "Model of the unit",
    "view": "View",
    "laterality": "Side",
    "intent": "Intent",
    "thickness": "Compressed breast thickness in mm",
    "marked": "Marked images",
    "conspicuity": "Conspicuity of the marks",
    "lesion-status": "Status of the marked lesions",
    "grade": "Grade of the marked lesions",
}
"""The facets that are compared, with their titles."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A table with a column for each cohort, and the standardised difference of each from the first.

    ``None`` stands for a difference from or of an empty cohort. It is infinite if two cohorts have no value in
    common.
    """

    table: Table
    differences: tuple[float | None, ...]

    def texts(self) -> list[str]:
        """Return the differences as texts with two decimals."""
        return ["–" if one is None else "∞" if one == math.inf else f"{one:.2f}" for one in self.differences]


def letters(number: int) -> tuple[str, ...]:
    """Return the names of cohorts: A, B, C and so on, from the 27th on with a number."""
    return tuple(chr(65 + place % 26) + (str(place // 26 + 1) if place > 25 else "") for place in range(number))


def compared(cohorts: Cohorts, chosen: Sequence[Cohort]) -> tuple[Table, list[Comparison]]:
    """Return the numbers of each unit, and the comparisons of the facets, in the order of the page."""
    selected = [Selected(cohorts, cohort) for cohort in chosen]
    everything = Selected(cohorts, EVERYTHING)
    names = letters(len(chosen))
    units = Table(
        "units",
        "Clients, episodes, studies and images",
        "Number (share) of the clients, episodes, studies and images of the database that are in each cohort.",
        "unit",
        (*names, "database"),
        tuple((unit.plural, (*(one.totals[unit] for one in selected), everything.totals[unit])) for unit in UNITS),
        (0,) * (len(names) + 1),
        has_total=False,
    )
    by_name = cohorts.index.registry.by_name
    found = [_compared(selected, everything, by_name[name], title) for name, title in _FACETS.items()]
    place = next(number for number, one in enumerate(found) if one.table.facet == "outcome")
    found.insert(place, _ages(selected))
    return units, found


def _compared(selected: Sequence[Selected], everything: Selected, facet: Facet, title: str) -> Comparison:
    """Return the comparison of a facet, in the unit that has one value of it, or one set of values."""
    unit = facet.level if facet.level in UNITS else Level.IMAGE
    order = _exclusive(everything.groups(facet)).labels
    counts = []
    for one in selected:
        groups = _exclusive(one.groups(facet))
        counts.append(dict(zip(groups.labels, one.per_value(groups, unit), strict=True)))
    totals = [one.totals[unit] for one in selected]
    return _comparison(facet.name, title, unit, order, counts, totals)


def _ages(selected: Sequence[Selected]) -> Comparison:
    bands = [{label: counts[-1] for label, counts in ages_of(one)[0].body()} for one in selected]
    known = {label for found in bands for label in found}
    order = sorted(
        known, key=lambda label: (label == UNKNOWN, int(label.partition("-")[0]) if label != UNKNOWN else 0)
    )
    totals = [one.totals[Level.CLIENT] for one in selected]
    return _comparison("age", "Age at the first examination", Level.CLIENT, order, bands, totals)


def _comparison(
    key: str,
    title: str,
    unit: Level,
    order: Sequence[str],
    counts: Sequence[dict[str, int]],
    totals: Sequence[int],
) -> Comparison:
    occurring = [label for label in order if any(found.get(label) for found in counts)]
    rows = [(label, tuple(found.get(label, 0) for found in counts)) for label in occurring]
    columns = [[found.get(label, 0) for label in occurring] for found in counts]
    note = f"Number (share) of {unit.plural}; shares are of the column's total."
    table = Table(
        key,
        title,
        note,
        key,
        letters(len(totals)),
        (*rows, (TOTAL, tuple(totals))),
        tuple(totals),
        unit=unit.plural,
        facet=key,
    )
    differences = tuple(standardised_difference(columns[0], column) for column in columns[1:])
    return Comparison(table, differences)


def _exclusive(groups: Groups) -> Groups:
    """Return groups in which an image has one value: the set of its values, joined by `` + ``."""
    sets = groups.sets
    if sets is None:
        return groups
    order = sorted(range(len(sets)), key=lambda place: (len(sets[place]), sets[place]))
    place_of = np.argsort(np.array(order)) if order else np.zeros(1, np.int64)
    labels = tuple(" + ".join(groups.labels[one] for one in sets[place]) for place in order)
    return Groups(labels, place_of[groups.codes])


def standardised_difference(one: Sequence[int], other: Sequence[int]) -> float | None:
    """Return the standardised difference between two distributions over the same categories, from counts.

    It is never negative. It is infinite if no category has members of both, and ``None`` if one has no members.
    """
    if not sum(one) or not sum(other):
        return None
    p, q = (np.array(counts, np.float64) / sum(counts) for counts in (one, other))
    if not (p * q).any():
        return math.inf
    occurring = np.flatnonzero(p + q)[1:]  # the shares add up to 1, so one category is left out
    p, q = p[occurring], q[occurring]
    if not len(p):
        return 0.0
    covariance = (np.diag(p) - np.outer(p, p) + np.diag(q) - np.outer(q, q)) / 2
    # Two distributions with a category in common have a covariance that can be inverted.
    return math.sqrt(max(0.0, float((p - q) @ np.linalg.solve(covariance, p - q))))
