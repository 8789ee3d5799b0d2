"""The numbers of a report: tables of counts, each with its unit and its denominator.

Used by ``omidbfs report``. Pure functions of an index: any thread may call them. No image is left out: values that
the source does not state have a row or a column of their own. No table names a client, a study or an image.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from omidbfs.base.words import counted
from omidbfs.cohorts.cohort import EVERYTHING, Cohort, Cohorts
from omidbfs.database.file_kinds import DCM, FILE_KINDS, JSON
from omidbfs.database.imagedb import MARK_FEATURES
from omidbfs.database.problems import KINDS
from omidbfs.facets import OTHER, RESERVED, UNKNOWN, UNLINKED, Kind
from omidbfs.index.columns import FIRST_CODE

UNITS = ("clients", "episodes", "studies", "images")
TOTAL = "total"
_MOST_COLUMNS = 8
_BAND = 5

Codes = NDArray[np.integer]


@dataclass(frozen=True, slots=True)
class Table:
    """A table of counts. ``rows`` are (label, one count per column). The last, ``total``, counts each member once.

    ``what`` heads the labels of the rows. ``note`` says what is counted and out of what. ``of`` holds the
    denominator of each column, or 0 if there is none. ``several`` says that a member can be in more than one row.
    ``unit`` is the unit of all columns, if they share one. ``ticks`` are short labels of the rows without the
    total, for an axis.
    """

    key: str
    title: str
    note: str
    what: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[int, ...]], ...]
    of: tuple[int, ...]
    several: bool = False
    unit: str = ""
    ticks: tuple[str, ...] = ()

    def body(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Return the rows without the total."""
        return tuple(row for row in self.rows if row[0] != TOTAL)


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


@dataclass(frozen=True, slots=True)
class Figures:
    """All numbers of a report: for a cohort, and for the whole database from which it is taken."""

    cohort: dict[str, int]
    source: dict[str, int]
    tables: dict[str, Table]
    ages: tuple[Ages, ...]


class _Selected:
    """The images of a cohort, and the study, client and episode of each. Columns have one entry per image."""

    def __init__(self, cohorts: Cohorts, cohort: Cohort) -> None:
        index = self.index = cohorts.index
        self.cohorts, self.cohort = cohorts, cohort
        self.rows = cohorts.row_array(cohort)
        self.study = index.study_of[self.rows].astype(np.int64)
        self.client = index.client_of[self.rows].astype(np.int64)
        self.episode = index.study_episode[self.study].astype(np.int64)  # -1: none
        self.image = np.arange(len(self.rows))
        self.counts = {unit: len(_distinct(self.members(unit))) for unit in UNITS}

    def members(self, unit: str) -> Codes:
        return {"clients": self.client, "episodes": self.episode, "studies": self.study, "images": self.image}[
            unit
        ]

    def groups(self, name: str) -> tuple[list[str], Codes]:
        """Return the values of a single-valued facet that occur, in order, and for each image their position."""
        facet = self.index.registry.by_name[name]
        codes = self.index.columns[name][self.rows]
        present = np.flatnonzero(np.bincount(codes)).tolist()
        labels: dict[str, int] = {}
        place = np.zeros(max(present, default=0) + 1, np.int64)
        for code in sorted(present, key=lambda code: (code < FIRST_CODE, code)):
            place[code] = labels.setdefault(self.cohorts.label(facet, code), len(labels))
        return list(labels), place[codes]

    def per_group(self, groups: Codes, number: int, unit: str) -> list[int]:
        """Return for each group of images how many different clients, episodes, studies or images it has."""
        if not number:
            return []
        members = self.members(unit)
        pairs = np.where(members < 0, -1, (groups << 32) | members)
        found: list[int] = np.bincount(_distinct(pairs) >> 32, minlength=number).tolist()
        return found


def _distinct(members: Codes) -> Codes:
    """Return the distinct numbers from 0 up, ascending. A sort takes a tenth of the time of ``np.unique``."""
    ordered = np.sort(members[members >= 0])
    return ordered[np.flatnonzero(np.diff(ordered, prepend=-1))]


def figures(cohorts: Cohorts, cohort: Cohort) -> Figures:
    """Return the numbers of a report on a cohort."""
    chosen = _Selected(cohorts, cohort)
    ages, quartiles = _ages(chosen)
    tables = (
        _by_outcome(chosen),
        _crossed(chosen, "views", "Views and sides", "view", "laterality", "images"),
        _by_value(chosen, "intent", "Intent", "intent", ("clients", "studies", "images")),
        _by_value(
            chosen, "standard-views", "Complete studies", "standard-views", ("clients", "studies", "images")
        ),
        _crossed(chosen, "manufacturer", "Manufacturer by year", "year", "manufacturer", "studies"),
        ages,
        _marks(chosen),
        _files(chosen),
        _missing(chosen),
        _problems(chosen),
    )
    return Figures(
        chosen.counts, _Selected(cohorts, EVERYTHING).counts, {table.key: table for table in tables}, quartiles
    )


def _by_outcome(chosen: _Selected) -> Table:
    return _by_value(chosen, "outcome", "Clients, episodes, studies and images by outcome", "outcome", UNITS)


def _by_value(chosen: _Selected, key: str, title: str, facet: str, units: tuple[str, ...]) -> Table:
    labels, groups = chosen.groups(facet)
    columns = [chosen.per_group(groups, len(labels), unit) for unit in units]
    totals = tuple(chosen.counts[unit] for unit in units)
    note = (
        f"Number (share) of {_listed(units)} with an image of each value of by-{facet}; shares are of the "
        "column's total. A member with several values is counted in each, and once in the total."
    )
    rows = [(label, tuple(column[place] for column in columns)) for place, label in enumerate(labels)]
    return Table(key, title, note, facet, units, (*rows, (TOTAL, totals)), totals, several=True)


def _crossed(chosen: _Selected, key: str, title: str, down: str, across: str, unit: str) -> Table:
    """Return how many members of a unit have each pair of values of two facets, with totals both ways."""
    row_labels, row_groups = chosen.groups(down)
    column_labels, column_groups = _most_frequent(*chosen.groups(across))
    width = len(column_labels)
    counts = chosen.per_group(row_groups * max(width, 1) + column_groups, len(row_labels) * width, unit)
    by_row = chosen.per_group(row_groups, len(row_labels), unit)
    by_column = chosen.per_group(column_groups, width, unit)
    total = chosen.counts[unit]
    rows = [
        (label, (*counts[place * width : (place + 1) * width], by_row[place]))
        for place, label in enumerate(row_labels)
    ]
    note = f"Number of {unit} by {down} and {across}, out of {total:,}; shares are of all of them."
    if unit != "images":
        note += " A member with several values is counted in each, and once in the totals."
    totals = (TOTAL, (*by_column, total))
    of = (total,) * (width + 1)
    columns = (*column_labels, TOTAL)
    return Table(key, title, note, down, columns, (*rows, totals), of, several=unit != "images", unit=unit)


def _most_frequent(labels: list[str], groups: Codes) -> tuple[list[str], Codes]:
    """Return the values, with all but the most frequent ones joined to one."""
    if len(labels) <= _MOST_COLUMNS:
        return labels, groups
    images = np.bincount(groups, minlength=len(labels))
    named = [place for place in range(len(labels)) if labels[place] not in RESERVED]
    rest = sorted(named, key=lambda place: (-images[place], place))[_MOST_COLUMNS - 1 :]
    kept = [place for place in range(len(labels)) if place not in rest]
    place_of = np.full(len(labels), len(kept), np.int64)
    place_of[kept] = np.arange(len(kept))
    return [*(labels[place] for place in kept), f"{len(rest)} further"], place_of[groups]


def _ages(chosen: _Selected) -> tuple[Table, tuple[Ages, ...]]:
    """Return each client's age at the first examination with each outcome: the lowest that these images state."""
    labels, groups = chosen.groups("outcome")
    lowest = chosen.index.registry.by_name["age"].lowest
    ages = chosen.index.columns["age"][chosen.rows].astype(np.int64) - FIRST_CODE + lowest
    ages[ages < lowest] = 1 << 20  # not stated, or not a number: more than any age
    pairs, inverse = np.unique((groups << 32) | chosen.client, return_inverse=True)
    first = np.full(len(pairs), 1 << 20, np.int64)
    np.minimum.at(first, inverse, ages)
    outcome = pairs >> 32
    stated = first < 1 << 20
    bands = np.unique(first[stated] // _BAND).tolist()
    everyone = np.full(int(chosen.client.max(initial=-1)) + 1, 1 << 20, np.int64)
    np.minimum.at(everyone, chosen.client, ages)
    clients = everyone[_distinct(chosen.client)]

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
        rows.append((UNKNOWN, row(~stated, clients >= 1 << 20)))
        ticks.append("?")
    totals = row(np.ones(len(first), np.bool_), np.ones(len(clients), np.bool_))
    note = (
        "Number (share) of clients by age in years at the first examination with each outcome (the lowest age "
        "that these images state); shares are of the clients with that outcome. A client is counted once for each "
        "outcome, and once among all clients. Unknown: no image states an age that is a number."
    )
    columns = (*labels, "all clients")
    rows.append((TOTAL, totals))
    table = Table("age", "Age by outcome", note, "age", columns, tuple(rows), totals, ticks=tuple(ticks))
    groups_of = [(label, first[outcome == place]) for place, label in enumerate(labels)] + [
        ("all clients", clients)
    ]
    return table, tuple(_quartiles(label, found) for label, found in groups_of)


def _quartiles(outcome: str, ages: Codes) -> Ages:
    stated = ages[ages < 1 << 20]
    quartiles = np.percentile(stated, (25, 50, 75)).tolist() if len(stated) else None
    return Ages(outcome, len(ages), len(stated), None if quartiles is None else tuple(quartiles))


def _marks(chosen: _Selected) -> Table:
    marks, index = chosen.index.marks, chosen.index
    inside = np.zeros(len(index), np.bool_)
    inside[chosen.rows] = True
    mine = np.flatnonzero(inside[marks.row])
    names = {value.code: value.label for value in index.registry.by_name["conspicuity"].values}
    order = [*names.values(), OTHER, UNKNOWN]
    codes, first, groups = np.unique(marks.conspicuity[mine], return_index=True, return_inverse=True)
    said = [marks.mark(int(mine[place])).conspicuity or UNKNOWN for place in first]
    labels = [names.get(code, code) for code in said]
    columns = sorted(dict.fromkeys(labels), key=order.index)
    place = np.array([columns.index(label) for label in labels], np.int64)
    groups = place[groups] if len(codes) else np.zeros(0, np.int64)
    features = marks.features[mine]

    def row(chosen_marks: NDArray[np.bool_]) -> tuple[int, ...]:
        counts = np.bincount(groups[chosen_marks], minlength=len(columns)).tolist()
        return (*counts[: len(columns)], int(np.count_nonzero(chosen_marks)))

    labels_of = {value.code: value.label for value in index.registry.by_name["mark-feature"].values}
    rows = [
        (labels_of[name], row((features >> bit & 1).astype(np.bool_))) for bit, name in enumerate(MARK_FEATURES)
    ]
    rows = [(label, counts) for label, counts in rows if counts[-1]]
    silent = row(features == 0)
    if silent[-1]:
        rows.append((UNKNOWN, silent))
    total = row(np.ones(len(mine), np.bool_))
    images = _distinct(marks.row[mine].astype(np.int64))
    clients = len(_distinct(index.client_of[images].astype(np.int64)))
    note = (
        f"Number (share) of marks by feature and conspicuity, out of {counted(len(mine), 'mark', ',')} in "
        f"{counted(len(images), 'image', ',')} of {counted(clients, 'client', ',')}. "
        "A mark with several features is counted in each, and once in the total. "
        "A feature that is not stated may still be present."
    )
    of = (len(mine),) * (len(columns) + 1)
    return Table("marks", "Marks", note, "feature", (*columns, TOTAL), (*rows, (TOTAL, total)), of, several=True)


def _files(chosen: _Selected) -> Table:
    index, rows = chosen.index, chosen.rows
    present = [index.files[kind].access[rows] != 0 for kind in FILE_KINDS]
    counted = (
        ("DICOM file and JSON", present[DCM] & present[JSON]),
        ("DICOM file without JSON", present[DCM] & ~present[JSON]),
        ("JSON without DICOM file", ~present[DCM] & present[JSON]),
    )
    table = [
        (label, (len(_distinct(chosen.client[which])), int(np.count_nonzero(which)))) for label, which in counted
    ]
    totals = (chosen.counts["clients"], len(rows))
    note = "Number (share) of images with one or both of their files, and of the clients of these images."
    return Table(
        "files", "Files", note, "files", ("clients", "images"), (*table, (TOTAL, totals)), totals, several=True
    )


def _missing(chosen: _Selected) -> Table:
    """Return for each facet how many images have no value, a value outside the table, or no episode."""
    words = (UNKNOWN, OTHER, UNLINKED)
    rows = []
    for facet in chosen.index.registry.facets:
        if facet.kind in (Kind.NAME, Kind.FILE):
            continue
        found = dict(chosen.cohorts.counts(chosen.cohort, facet))
        rows.append((f"by-{facet.name}", tuple(found.get(word, 0) for word in words)))
    total = len(chosen.rows)
    note = (
        f"Number (share) of images, out of {total:,}, for which a facet is unknown (the source does not say), "
        "other (a value outside the table) or unlinked (the image belongs to no episode). "
        "The plot shows only facets with such images."
    )
    return Table("missing", "Missing data", note, "facet", words, tuple(rows), (total,) * len(words), several=True)


def _problems(chosen: _Selected) -> Table:
    problems: Sequence[str]
    if chosen.cohort == EVERYTHING:
        problems = [problem.kind for problem in chosen.index.each_problem()]
        scope = "in the source"
    else:
        clients = {name.decode() for name in chosen.index.clients.take(_distinct(chosen.client))}
        problems = [problem.kind for problem in chosen.index.each_problem() if problem.client in clients]
        scope = "in the directories of the clients of the cohort"
    counted = Counter(problems)
    rows = [(kind, (counted[kind],)) for kind in KINDS if counted[kind]]
    note = f"Number (share) of problems {scope} by kind; omidbfs check lists each problem."
    totals = (len(problems),)
    return Table("problems", "Damaged data", note, "kind", ("problems",), (*rows, (TOTAL, totals)), totals)


def _listed(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}"
