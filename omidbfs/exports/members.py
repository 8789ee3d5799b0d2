"""The tables of clients, studies and episodes: a row for each that has an image in the cohort.

``tables`` lists them. They are pure, for any thread.
"""

import functools
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from omidbfs.exports.fields import NO_NUMBER, Column, Table, Type, facet_columns, mark_counts
from omidbfs.exports.selection import Selection
from omidbfs.facets import BY_NAME, Level
from omidbfs.index.columns import FIRST_CODE
from omidbfs.index.levels import Rows
from omidbfs.index.names import safe_cells

_ABOVE = {
    Level.CLIENT: (Level.CLIENT,),
    Level.EPISODE: (Level.CLIENT, Level.EPISODE),
    Level.STUDY: (Level.CLIENT, Level.EPISODE, Level.STUDY),
}
"""Level -> the levels whose facets are the same for all images of a member."""
_AGE = BY_NAME["age"]
_MOST = np.iinfo(np.int64).max


class _Members:
    """The members of a level that have an image in a cohort, and these images. Rows of tables are their places."""

    def __init__(self, chosen: Selection, level: Level) -> None:
        cohorts = chosen.cohorts
        rows = cohorts.rows(chosen.cohort)
        of = cohorts.levels[level].ordinals(rows)
        order = np.argsort(of, kind="stable")  # the studies of an episode need not be neighbours
        self.index = cohorts.index
        self.ordinals = cohorts.ordinals(chosen.cohort, level)
        self._rows, of = rows[order], of[order]
        self._bounds = np.append(np.searchsorted(of, self.ordinals), len(rows))

    def __len__(self) -> int:
        return len(self.ordinals)

    def first(self, places: Rows) -> Rows:
        """Return the first image of each member."""
        images: Rows = self._rows[self._bounds[places]]
        return images

    def reduced(
        self, operation: np.ufunc, read: Callable[[Rows], NDArray[np.int64]], places: Rows
    ) -> NDArray[np.int64]:
        """Return for each of some neighbouring members what an operation makes of a number of its images."""
        start, end = self._bounds[places[0]], self._bounds[places[-1] + 1]
        found: NDArray[np.int64] = operation.reduceat(read(self._rows[start:end]), self._bounds[places] - start)
        return found

    def images(self, places: Rows) -> NDArray[np.int64]:
        """Return the number of images of each member."""
        counts: NDArray[np.int64] = np.diff(self._bounds)[places]
        return counts

    def studies(self, rows: Rows) -> NDArray[np.int64]:
        """Return 1 for the first of some images of a study, else 0."""
        studies = self.index.study_of[rows].astype(np.int64)
        is_first: NDArray[np.bool_] = np.diff(studies, prepend=-1) != 0
        return is_first.astype(np.int64)

    def days(self, unknown: int, rows: Rows) -> NDArray[np.int64]:
        """Return the date of the study of each image as an ordinal."""
        days = self.index.study_date[self.index.study_of[rows]].astype(np.int64)
        return np.where(days == 0, unknown, days)

    def ages(self, unknown: int, rows: Rows) -> NDArray[np.int64]:
        """Return the age of the client in each image in years."""
        codes = self.index.columns[_AGE.name][rows].astype(np.int64)
        return np.where(codes < FIRST_CODE, unknown, codes - FIRST_CODE + _AGE.lowest)


def clients(chosen: Selection) -> Table:
    """Return the table of the clients of a cohort."""
    members = _Members(chosen, Level.CLIENT)
    index, ordinals = members.index, members.ordinals
    episodes = _per_client(chosen, ordinals)
    fixed = [
        Column("client", Type.TEXT, lambda places: index.clients.take(ordinals[places])),
        Column("nbss_episodes", Type.NUMBER, lambda places: _numbers(index.episodes.per_client[ordinals[places]])),
        Column("episodes", Type.NUMBER, lambda places: episodes[places]),
        *_counts(members, studies=True),
        *_dates(members),
        *_ages(members),
    ]
    return _table(chosen, Level.CLIENT, members, fixed)


def episodes(chosen: Selection) -> Table:
    """Return the table of the episodes of a cohort."""
    members = _Members(chosen, Level.EPISODE)
    index, ordinals = members.index, members.ordinals
    columns = index.episodes

    def day(values: NDArray[np.int32], places: Rows) -> NDArray[np.int32]:
        days: NDArray[np.int32] = values[ordinals[places]]
        return days

    fixed = [
        Column("client", Type.TEXT, lambda places: index.clients.take(index.client_of[members.first(places)])),
        Column("episode", Type.TEXT, lambda places: safe_cells(columns.ids, ordinals[places])),
        Column("episode_date", Type.DAY, functools.partial(day, columns.date)),
        Column("episode_opened", Type.DAY, functools.partial(day, columns.opened)),
        Column("episode_closed", Type.DAY, functools.partial(day, columns.closed)),
        Column("future_episode", Type.TEXT, lambda places: safe_cells(columns.ids, day(columns.future, places))),
        Column("lesions", Type.NUMBER, lambda places: _numbers(index.lesions.per_episode[ordinals[places]])),
        *_counts(members, studies=True),
        *_dates(members),
        *_ages(members),
    ]
    return _table(chosen, Level.EPISODE, members, fixed)


def studies(chosen: Selection) -> Table:
    """Return the table of the studies of a cohort."""
    members = _Members(chosen, Level.STUDY)
    index, ordinals, levels = members.index, members.ordinals, chosen.cohorts.levels
    fixed = [
        *(
            Column(level.value, Type.TEXT, functools.partial(_cells, levels[level].cells, members))
            for level in _ABOVE[Level.STUDY]
        ),
        Column("study_date", Type.DAY, lambda places: index.study_date[ordinals[places]]),
        *_counts(members, studies=False),
        *_ages(members),
    ]
    return _table(chosen, Level.STUDY, members, fixed)


def _table(chosen: Selection, level: Level, members: _Members, fixed: list[Column]) -> Table:
    facets = [facet for facet in members.index.registry.facets if facet.level in _ABOVE[level]]
    found = facet_columns(chosen.cohorts, facets, fixed, members.first)
    return Table([*fixed, *found], np.arange(len(members), dtype=np.uint32))


def _cells(cells: Callable[[Rows], list[bytes]], members: _Members, places: Rows) -> list[bytes]:
    return cells(members.first(places))


def _numbers(values: NDArray[np.unsignedinteger]) -> NDArray[np.int64]:
    return values.astype(np.int64)


def _per_client(chosen: Selection, clients: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return the number of episodes with an image in the cohort, of each of some clients."""
    index, of_cohort = chosen.cohorts.index, chosen.cohorts.ordinals(chosen.cohort, Level.EPISODE)
    ends = np.cumsum(index.episodes.per_client, dtype=np.int64)
    counts: NDArray[np.int64] = np.bincount(np.searchsorted(ends, of_cohort, side="right"), minlength=len(ends))
    counts = counts[clients]
    return counts


def _counts(members: _Members, *, studies: bool) -> Iterator[Column]:
    if studies:
        yield Column("studies", Type.NUMBER, functools.partial(members.reduced, np.add, members.studies))
    yield Column("images", Type.NUMBER, members.images)
    marks = functools.partial(mark_counts, members.index.marks)
    yield Column("marks", Type.NUMBER, functools.partial(members.reduced, np.add, marks))


def _dates(members: _Members) -> Iterator[Column]:
    first, last = functools.partial(members.days, _MOST), functools.partial(members.days, 0)

    def earliest(places: Rows) -> NDArray[np.int64]:
        days = members.reduced(np.minimum, first, places)
        return np.where(days == _MOST, 0, days)

    yield Column("first_study_date", Type.DAY, earliest)
    yield Column("last_study_date", Type.DAY, functools.partial(members.reduced, np.maximum, last))


def _ages(members: _Members) -> Iterator[Column]:
    low, high = functools.partial(members.ages, _MOST), functools.partial(members.ages, NO_NUMBER)

    def youngest(places: Rows) -> NDArray[np.int64]:
        ages = members.reduced(np.minimum, low, places)
        return np.where(ages == _MOST, NO_NUMBER, ages)

    yield Column("youngest_age", Type.NUMBER, youngest)
    yield Column("oldest_age", Type.NUMBER, functools.partial(members.reduced, np.maximum, high))
