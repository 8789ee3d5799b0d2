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
from omidbfs.cohorts.tabulated import TOTAL, Table, by_value, crossed
from omidbfs.cohorts.units import UNITS, Numbers, Selected
from omidbfs.database.file_kinds import DCM, FILE_KINDS, JSON
from omidbfs.database.imagedb import MARK_FEATURES
from omidbfs.database.problems import KINDS
from omidbfs.facets import OTHER, UNKNOWN, UNLINKED, Kind, Level
from omidbfs.report.ages import Ages, ages_of
from omidbfs.report.priors import priors

_MOST_COLUMNS = 8
_MOST_ROWS = 20
_WITHOUT_EPISODES = (Level.CLIENT, Level.STUDY, Level.IMAGE)


@dataclass(frozen=True, slots=True)
class Figures:
    """All numbers of a report on one cohort, and the numbers of clients, episodes, studies and images in all.

    ``cohort`` and ``source`` map the plural of a unit to a number. ``tables`` are in the order of the page.
    """

    cohort: dict[str, int]
    source: dict[str, int]
    tables: dict[str, Table]
    ages: tuple[Ages, ...]


def figures(cohorts: Cohorts, cohort: Cohort) -> Figures:
    """Return the numbers of a report on a cohort."""
    chosen = Selected(cohorts, cohort)
    facet = cohorts.index.registry.by_name
    ages, quartiles = ages_of(chosen)

    def values(key: str, title: str, units: Sequence[Level] = UNITS) -> Table:
        return by_value(chosen, facet[key], key, title, units, _MOST_ROWS)

    def pairs(key: str, title: str, down: str, across: str, unit: Level) -> Table:
        return crossed(chosen, facet[down], facet[across], unit, key=key, title=title, most=_MOST_COLUMNS)

    tables = (
        values("outcome", "Outcome"),
        pairs("outcome-manufacturer", "Outcome by manufacturer", "outcome", "manufacturer", Level.CLIENT),
        values("lesion-status", "Status of the marked lesions"),
        values("grade", "Grade of the marked lesions"),
        pairs("views", "Views and sides", "view", "laterality", Level.IMAGE),
        values("intent", "Intent", _WITHOUT_EPISODES),
        values("standard-views", "Complete studies", _WITHOUT_EPISODES),
        pairs("manufacturer", "Manufacturer by year", "year", "manufacturer", Level.STUDY),
        values("model", "Model of the unit", _WITHOUT_EPISODES),
        values("site", "Screening centre"),
        values("thickness", "Compressed breast thickness in mm", _WITHOUT_EPISODES),
        priors(chosen),
        ages,
        _marks(chosen),
        _files(chosen),
        _missing(chosen),
        _problems(chosen),
    )
    return Figures(
        {level.plural: number for level, number in chosen.totals.items()},
        {level.plural: cohorts.count(EVERYTHING, level) for level in UNITS},
        {table.key: table for table in tables},
        quartiles,
    )


def distinct(members: Numbers) -> NDArray[np.int64]:
    """Return the distinct numbers from 0 up, ascending."""
    return np.unique(members[members >= 0]).astype(np.int64)


def _marks(chosen: Selected) -> Table:
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
    images = distinct(marks.row[mine])
    clients = len(distinct(index.client_of[images]))
    note = (
        f"Number (share) of marks by feature and conspicuity, out of {counted(len(mine), 'mark', ',')} in "
        f"{counted(len(images), 'image', ',')} of {counted(clients, 'client', ',')}. "
        "A mark with several features is counted in each, and once in the total. "
        "A feature that is not stated may still be present."
    )
    of = (len(mine),) * (len(columns) + 1)
    return Table("marks", "Marks", note, "feature", (*columns, TOTAL), (*rows, (TOTAL, total)), of)


def _files(chosen: Selected) -> Table:
    index, rows = chosen.index, chosen.rows
    present = [index.files[kind].access[rows] != 0 for kind in FILE_KINDS]
    counted = (
        ("DICOM file and JSON", present[DCM] & present[JSON]),
        ("DICOM file without JSON", present[DCM] & ~present[JSON]),
        ("JSON without DICOM file", ~present[DCM] & present[JSON]),
    )
    table = [
        (label, (len(distinct(chosen.members(Level.CLIENT)[which])), int(np.count_nonzero(which))))
        for label, which in counted
    ]
    totals = (chosen.totals[Level.CLIENT], len(rows))
    note = "Number (share) of images with one or both of their files, and of the clients of these images."
    return Table("files", "Files", note, "files", ("clients", "images"), (*table, (TOTAL, totals)), totals)


def _missing(chosen: Selected) -> Table:
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
    of = (total,) * len(words)
    return Table("missing", "Missing data", note, "facet", words, tuple(rows), of, has_total=False)


def _problems(chosen: Selected) -> Table:
    problems: Sequence[str]
    if chosen.cohort == EVERYTHING:
        problems = [problem.kind for problem in chosen.index.each_problem()]
        scope = "in the source"
    else:
        clients = {name.decode() for name in chosen.index.clients.take(distinct(chosen.members(Level.CLIENT)))}
        problems = [problem.kind for problem in chosen.index.each_problem() if problem.client in clients]
        scope = "in the directories of the clients of the cohort"
    counted = Counter(problems)
    rows = [(kind, (counted[kind],)) for kind in KINDS if counted[kind]]
    note = f"Number (share) of problems {scope} by kind; omidbfs check lists each problem."
    totals = (len(problems),)
    return Table("problems", "Damaged data", note, "kind", ("problems",), (*rows, (TOTAL, totals)), totals)
