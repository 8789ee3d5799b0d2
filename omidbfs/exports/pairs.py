"""The table of pairs: each episode of a cohort with each earlier screening of its client.

``tables`` lists it. It is pure, for any thread. Studies are paired for the whole cohort at once, by a few
operations of numpy. The images of a study are found a page at a time.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from omidbfs.database.file_kinds import DCM
from omidbfs.exports.fields import Column, Table, Type, facet_columns
from omidbfs.exports.selection import Selection
from omidbfs.facets import BY_NAME, Level
from omidbfs.index.columns import FIRST_CODE, Index
from omidbfs.index.levels import Rows
from omidbfs.index.names import safe_cells, spread

_PLACES = tuple((side, view) for side in ("L", "R") for view in ("CC", "MLO"))

Studies = NDArray[np.intp]
Mask = NDArray[np.bool_]


def pairs(chosen: Selection) -> Table:
    """Return the table of pairs of a cohort: by client and episode, and the latest screening first."""
    index, rows = chosen.cohorts.index, chosen.cohorts.rows(chosen.cohort)
    current, prior, number = _paired(index, chosen.cohorts.ordinals(chosen.cohort, Level.STUDY))
    in_cohort, of_intent = np.zeros(len(index), np.bool_), np.zeros(256, np.bool_)
    in_cohort[rows] = True
    of_intent[index.columns["intent"][rows]] = True
    sides = (
        _Side("current", chosen, current, in_cohort.__getitem__),
        _Side("prior", chosen, prior, lambda images: of_intent[index.columns["intent"][images]]),
    )
    days = index.study_date.astype(np.int64)
    columns = [
        Column("client", Type.TEXT, lambda places: spread(index.clients, index.study_client[current[places]])),
        *(Column(f"{side.name}_episode", Type.TEXT, side.episodes) for side in sides),
        Column("prior_number", Type.NUMBER, lambda places: number[places]),
        *(Column(f"{side.name}_study", Type.TEXT, side.studies) for side in sides),
        *(Column(f"{side.name}_date", Type.DAY, side.dates) for side in sides),
        Column("days_between", Type.NUMBER, lambda places: days[current[places]] - days[prior[places]]),
        *(side.outcome() for side in sides),
    ]
    for place in _PLACES:
        name = "_".join(place).lower()
        codes = _code("laterality", place[0]), _code("view", place[1])
        columns += [
            Column(f"{side.name}_{name}", Type.TEXTS, functools.partial(side.images, codes)) for side in sides
        ]
    return Table(columns, np.arange(len(current), dtype=np.uint32))


def _code(facet: str, value: str) -> int:
    return FIRST_CODE + [one.code for one in BY_NAME[facet].values].index(value)


@dataclass(frozen=True, slots=True)
class _Side:
    """One of the two studies of each pair. ``shows`` returns which of some images its columns name."""

    name: str
    chosen: Selection
    of: Studies
    shows: Callable[[Rows], Mask]

    @property
    def _index(self) -> Index:
        return self.chosen.cohorts.index

    def episodes(self, places: Rows) -> list[bytes]:
        return safe_cells(self._index.episodes.ids, self._index.study_episode[self.of[places]])

    def studies(self, places: Rows) -> list[bytes]:
        return spread(self._index.studies, self.of[places])

    def dates(self, places: Rows) -> NDArray[np.int32]:
        return self._index.study_date[self.of[places]]

    def outcome(self) -> Column:
        """Return the column of the outcome of the episode."""
        first = self._index.study_rows
        (column,) = facet_columns(
            self.chosen.cohorts, [BY_NAME["outcome"]], (), lambda places: first[self.of[places]]
        )
        return Column(f"{self.name}_outcome", column.type, column.gather, column.labels)

    def images(self, codes: tuple[int, int], places: Rows) -> list[list[str]]:
        """Return the paths of the DICOM files of each study that have a side and a view, given as codes."""
        side, view = codes
        index, studies = self._index, self.of[places]
        starts = index.study_rows[studies].astype(np.intp)
        counts = index.study_rows[studies + 1] - starts
        ends = np.cumsum(counts)
        images = (np.repeat(starts - ends + counts, counts) + np.arange(int(counts.sum()))).astype(np.uint32)
        wanted = (index.columns["laterality"][images] == side) & (index.columns["view"][images] == view)
        wanted &= self.shows(images) & (index.files[DCM].access[images] != 0)
        paths = [path.decode() for path in self.chosen.paths(index, DCM, images[wanted])]
        bounds = np.concatenate([np.zeros(1, np.intp), np.cumsum(wanted)])[np.append(ends - counts, ends[-1:])]
        return [paths[start:end] for start, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)]


def _paired(index: Index, of_cohort: NDArray[np.integer]) -> tuple[Studies, Studies, NDArray[np.int64]]:
    """Return the studies of each pair, and the number of its screening: 1 for the latest before the episode.

    ``of_cohort`` are the studies of the cohort. The study of an episode is its first screening in the cohort, or
    else its first study there. Studies without a date are in no pair.
    """
    days, episode_of = index.study_date, index.study_episode
    screening = _screenings(index)
    usable = (episode_of >= 0) & (days > 0)
    studies = of_cohort[usable[of_cohort]]
    order = np.lexsort((studies, days[studies], ~screening[studies], episode_of[studies]))
    studies = studies[order]
    current = studies[np.diff(episode_of[studies], prepend=-1) != 0].astype(np.intp)
    earlier = np.flatnonzero(usable & screening)
    clients = index.study_client[earlier]  # ascending, as studies are
    first, end = (np.searchsorted(clients, index.study_client[current], side=side) for side in ("left", "right"))
    counts = end - first
    ends = np.cumsum(counts)
    which = np.repeat(np.arange(len(current)), counts)
    prior = earlier[np.repeat(first - ends + counts, counts) + np.arange(len(which))]
    is_pair = (days[prior] < days[current[which]]) & (episode_of[prior] != episode_of[current[which]])
    which, prior = which[is_pair], prior[is_pair]
    order = np.lexsort((prior, -days[prior], which))
    which, prior = which[order], prior[order]
    number = np.arange(len(which)) - np.searchsorted(which, which) + 1
    return current[which], prior, number


def _screenings(index: Index) -> Mask:
    """Return which studies belong to a screening."""
    facet = BY_NAME["event"]
    code = FIRST_CODE + [value.code for value in facet.values].index("screening")
    has_it = np.array([code in codes for codes in index.combinations[facet.name]], np.bool_)
    found: Mask = has_it[index.columns[facet.name][index.study_rows[:-1]]]
    return found
