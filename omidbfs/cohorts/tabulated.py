"""Tables of counts: how many clients, episodes, studies or images have each value of a facet, or pair of values.

``omidbfs table`` and reports use it. Pure functions of an index: any thread may call them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from omidbfs.base.errors import UserError
from omidbfs.cohorts.units import UNITS, Groups, Selected
from omidbfs.facets import RESERVED, Facet, Kind, Level

TOTAL = "total"
_MOST_CELLS = 1 << 22
"""The most cells of a table of two facets."""
_WORDS = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class Table:
    """A table of counts. ``rows`` are (label, one count per column). The last, ``total``, counts each member once.

    ``what`` heads the labels of the rows, and ``facet`` is the facet of these labels, or empty. ``note`` says what
    is counted and out of what. ``of`` holds the denominator of each column, or 0 if there is none. ``unit`` is the
    unit of all columns, if they share one. ``across`` is the facet of the columns, or empty. ``ticks`` are short
    labels of the rows without the total, for an axis. A table without a total has ``has_total`` false.
    """

    key: str
    title: str
    note: str
    what: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[int, ...]], ...]
    of: tuple[int, ...]
    unit: str = ""
    ticks: tuple[str, ...] = ()
    facet: str = ""
    across: str = ""
    has_total: bool = True

    def body(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Return the rows without the total."""
        return self.rows[:-1] if self.has_total else self.rows


def share(count: int, of: int) -> str:
    """Return a share in per cent with one decimal, as ``12.5 %``. A half is rounded up.

    Shares are rounded one by one, so they need not add up to 100. ``of`` 0 has no share: the text is empty.
    """
    tenths = (2000 * count + of) // (2 * of) if of else 0
    return f"{tenths // 10}.{tenths % 10}\N{NO-BREAK SPACE}%" if of else ""


def words(label: str) -> str:
    """Return the name of a value in words: blanks in place of hyphens, but not in numbers."""
    return label.replace("-", " ") if _WORDS.fullmatch(label) else label


def by_value(
    chosen: Selected, facet: Facet, key: str, title: str, units: Sequence[Level] = UNITS, most: int = 0
) -> Table:
    """Return the table of the values of a facet, with a column for each unit.

    ``most`` is the largest number of values. With more, the rarest share one row.
    """
    groups = chosen.groups(facet)
    if most:
        groups = most_frequent(groups, most)
    columns = [chosen.per_value(groups, unit) for unit in units]
    totals = tuple(chosen.totals[unit] for unit in units)
    names = tuple(unit.plural for unit in units)
    note = (
        f"Number (share) of {listed(names)} with an image of each value of by-{facet.name}; shares are of the "
        "column's total. A member with several values is counted in each, and once in the total."
    )
    rows = [(label, tuple(column[place] for column in columns)) for place, label in enumerate(groups.labels)]
    return Table(key, title, note, facet.name, names, (*rows, (TOTAL, totals)), totals, facet=facet.name)


def crossed(
    chosen: Selected, down: Facet, across: Facet, unit: Level, *, key: str = "", title: str = "", most: int = 0
) -> Table:
    """Return how many members of a unit have each pair of values of two facets, with totals both ways.

    Shares are of the total of each column. ``most`` is the largest number of columns. With more, the rarest values
    share one column.

    Raises
    ------
    UserError
        The table would not fit into memory.
    """
    rows, columns = chosen.groups(down), chosen.groups(across)
    if most:
        columns = most_frequent(columns, most)
    width = len(columns)
    if len(rows) * width > _MOST_CELLS:
        raise UserError(
            f"{len(rows):,} x {width:,} values are too many for a table",
            "choose facets with fewer values, or a smaller cohort",
            f"by-{down.name} and by-{across.name}",
        )
    counts = chosen.per_value(rows.crossed(columns), unit)
    by_row, by_column = chosen.per_value(rows, unit), chosen.per_value(columns, unit)
    total = chosen.totals[unit]
    body = [
        (label, (*counts[place * width : (place + 1) * width], by_row[place]))
        for place, label in enumerate(rows.labels)
    ]
    note = (
        f"Number (share) of {unit.plural} by {down.name} and {across.name}, out of {total:,}; shares are of the "
        "column's total."
    )
    is_sum = unit is Level.IMAGE and not (down.several or across.several or Kind.FILE in (down.kind, across.kind))
    if not is_sum:
        note += (
            f" {unit.plural.capitalize()} with several values are counted in each, and once in the totals. So the "
            "totals need not be the sums."
        )
    if unit is Level.EPISODE and chosen.members(unit).min(initial=0) < 0:
        note += " Images without an episode are not counted."
    return Table(
        key or "table",
        title or f"{unit.plural.capitalize()} by {down.name} and {across.name}",
        note,
        down.name,
        (*columns.labels, TOTAL),
        (*body, (TOTAL, (*by_column, total))),
        (*by_column, total),
        unit=unit.plural,
        facet=down.name,
        across=across.name,
    )


def most_frequent(groups: Groups, most: int) -> Groups:
    """Return the values, with all but the most frequent ones (by images) joined to one. It is the last."""
    if len(groups) <= most:
        return groups
    images = np.bincount(groups.codes, minlength=1)
    if groups.sets is not None:
        found = np.zeros(len(groups), np.int64)
        for count, places in zip(images.tolist(), groups.sets, strict=False):
            found[list(places)] += count
        images = found
    named = [place for place in range(len(groups)) if groups.labels[place] not in RESERVED]
    rest = set(sorted(named, key=lambda place: (-images[place], place))[most - 1 :])
    kept = [place for place in range(len(groups)) if place not in rest]
    place_of = np.full(len(groups), len(kept), np.int64)
    place_of[kept] = np.arange(len(kept))
    labels = (*(groups.labels[place] for place in kept), f"{len(rest)} further")
    if groups.sets is None:
        return Groups(labels, place_of[groups.codes])
    sets = tuple(tuple(dict.fromkeys(int(place_of[place]) for place in places)) for places in groups.sets)
    return Groups(labels, groups.codes, sets)


def listed(names: Sequence[str]) -> str:
    """Return ``a, b and c``."""
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)
