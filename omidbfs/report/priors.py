"""The time to the examination before, for a report. Pure functions of an index: any thread may call them.

The prior of an episode is the client's last study before the first study of the episode. Only studies with an
image and a date (StudyDate in ImageDB) count. They need not be in the cohort. Study dates are shifted by one span
for each client, so the time between two of them is true.
"""

import numpy as np
from numpy.typing import NDArray

from omidbfs.cohorts.tabulated import TOTAL, Table
from omidbfs.cohorts.units import Selected
from omidbfs.facets import Level
from omidbfs.index.columns import Index, occupied

_YEAR = 365.25
"""Days."""
_LONGEST = 5
"""Years from which intervals share one row."""
_NO_PRIOR = -1


def intervals(index: Index, episodes: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return the days from its prior to each of some episodes, -1 without a prior.

    The episodes have images. A study without a date is linked to no episode, so each has a study with a date.
    """
    studies = occupied(index.study_rows)
    studies = studies[index.study_date[studies] > 0]
    days = index.study_date[studies].astype(np.int64)
    clients = index.study_client[studies].astype(np.int64)
    of = index.study_episode[studies]
    first = np.full(len(index.episodes.type), np.iinfo(np.int64).max)
    np.minimum.at(first, of[of >= 0], days[of >= 0])
    client_of = np.zeros(len(first), np.int64)
    client_of[of[of >= 0]] = clients[of >= 0]
    known = np.sort(clients << 32 | days)
    starts, own = first[episodes], client_of[episodes]
    before = np.searchsorted(known, own << 32 | starts) - 1
    prior = known[before]
    has_prior = (before >= 0) & (prior >> 32 == own)
    found: NDArray[np.int64] = np.where(has_prior, starts - (prior & 0xFFFFFFFF), _NO_PRIOR)
    return found


def priors(chosen: Selected) -> Table:
    """Return how many episodes of a cohort, and clients of these, have their prior how many years before."""
    episodes = chosen.cohorts.ordinals(chosen.cohort, Level.EPISODE)
    days = intervals(chosen.index, episodes)
    first = np.concatenate([[0], np.cumsum(chosen.index.episodes.per_client, dtype=np.int64)])
    clients = np.searchsorted(first, episodes, side="right") - 1
    years = np.minimum(days // _YEAR, _LONGEST)
    labels = ["under 1 year", *(f"{year} to under {year + 1} years" for year in range(1, _LONGEST))]
    chosen_by = [(label, (days >= 0) & (years == year)) for year, label in enumerate(labels)]
    chosen_by += [
        (f"{_LONGEST} years and more", (days >= 0) & (years == _LONGEST)),
        ("no earlier study", days == _NO_PRIOR),
    ]
    rows = [(label, (int(which.sum()), len(np.unique(clients[which])))) for label, which in chosen_by]
    totals = (len(episodes), len(np.unique(clients)))
    stated = days[days >= 0] / _YEAR
    note = (
        "Number (share) of episodes, and of clients with such an episode, by the time from the client's last "
        "study before the first study of the episode. Studies outside the cohort count, too."
    )
    if len(stated):
        low, middle, high = np.percentile(stated, (25, 50, 75)).tolist()
        note += f" Median [quartiles]: {middle:.1f} [{low:.1f}, {high:.1f}] years."
    what = "time since the prior"
    return Table(
        "priors", "Prior intervals", note, what, ("episodes", "clients"), (*rows, (TOTAL, totals)), totals
    )
