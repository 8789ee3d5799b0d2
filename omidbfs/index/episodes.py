"""The episodes of an index. They hold all that outcomes depend on, so other windows do not need the source.

The index, chunks and classification use them. Columns are immutable, for any thread.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from omidbfs.clinical.outcomes import (
    OUTCOMES,
    STATUSES,
    UNDEFINED_OUTCOMES,
    EpisodeFacts,
    Outcome,
    Windows,
    outcomes,
)
from omidbfs.database.codes import EPISODE_TYPES
from omidbfs.database.records import OTHER, Episode
from omidbfs.index.names import Names
from omidbfs.index.schema import CLIENT, EPISODE, Column
from omidbfs.index.sections import ReadLater

_TYPES = (None, OTHER, *EPISODE_TYPES)
_STATUSES = (None, *STATUSES)
_TYPE_CODES = {type_: code for code, type_ in enumerate(_TYPES)}
_STATUS_CODES = {status: code for code, status in enumerate(_STATUSES)}
_FLAGS = ("malignant", "benign", "interval_cancer", "has_events", "valid_events", "surgery")
OUTCOME_CODES = (None, *OUTCOMES, *UNDEFINED_OUTCOMES)
_OUTCOME_CODES = {outcome: code for code, outcome in enumerate(OUTCOME_CODES)}


@dataclass(frozen=True, slots=True)
class EpisodeColumns(ReadLater):
    """One row per episode, in the order of clients and, within a client, of the NBSS file.

    ``per_client`` (uint32) is the number of episodes of each client. ``type``, ``status`` and ``flags`` (uint8)
    are the fields of :class:`~omidbfs.clinical.outcomes.EpisodeFacts`. ``date``, ``opened`` and ``closed`` (int32)
    are proleptic ordinals, 0 for none. ``outcome`` (uint8) is the code of the outcome (:func:`outcome_at`), and
    ``future`` (int32) the ordinal of the later episode that decided it, -1 for none.
    """

    per_client: Annotated[NDArray[np.uint32], Column(CLIENT)]
    ids: Annotated[Names, Column(EPISODE)]
    type: Annotated[NDArray[np.uint8], Column()]
    status: Annotated[NDArray[np.uint8], Column()]
    flags: Annotated[NDArray[np.uint8], Column()]
    date: Annotated[NDArray[np.int32], Column()]
    opened: Annotated[NDArray[np.int32], Column()]
    closed: Annotated[NDArray[np.int32], Column()]
    outcome: Annotated[NDArray[np.uint8], Column()]
    future: Annotated[NDArray[np.int32], Column(points_to=EPISODE)]

    def facts(self, first: int, end: int) -> list[EpisodeFacts]:
        """Return the facts of the episodes from ``first`` to before ``end``."""
        ids = self.ids.take(np.arange(first, end))
        columns = (self.type, self.status, self.flags, self.date)
        rows = zip(ids, *(column[first:end].tolist() for column in columns), strict=True)
        return [
            EpisodeFacts(
                id=id_.decode("utf-8", "surrogatepass"),
                type=_TYPES[type_],
                status=_STATUSES[status],
                date=date.fromordinal(day) if day else None,
                **{name: bool(flags >> bit & 1) for bit, name in enumerate(_FLAGS)},
            )
            for id_, type_, status, flags, day in rows
        ]

    def reclassified(self, windows: Windows) -> "EpisodeColumns":
        """Return the episodes with their outcomes under other windows."""
        outcome, future = np.zeros(len(self.outcome), np.uint8), np.zeros(len(self.outcome), np.int32)
        first = 0
        for count in self.per_client.tolist():
            facts = self.facts(first, first + count)
            decided = outcomes(facts, windows)
            outcome[first : first + count] = [outcome_code(one) for one in decided]
            future[first : first + count] = _futures(facts, decided, first)
            first += count
        return replace(self, outcome=outcome, future=future)


def outcome_code(outcome: Outcome) -> int:
    """Return the code of an outcome in the column, 0 where ``omidb`` raises."""
    return _OUTCOME_CODES[outcome.code]


def outcome_at(code: int) -> str | None:
    """Return the key of ``OUTCOMES`` or ``UNDEFINED_OUTCOMES`` that a code in the column stands for."""
    return OUTCOME_CODES[code]


def _futures(facts: Sequence[EpisodeFacts], decided: Sequence[Outcome], first: int) -> list[int]:
    """Return the column ``future`` of one client, whose first episode has the ordinal ``first``."""
    ordinals = {fact.id: ordinal for ordinal, fact in enumerate(facts, first)}
    futures = (one.future_episode for one in decided)
    return [-1 if future is None else ordinals[future] for future in futures]


def _flags(facts: EpisodeFacts) -> int:
    return sum(getattr(facts, name) << bit for bit, name in enumerate(_FLAGS))


def _day(day: date | None) -> int:
    return day.toordinal() if day is not None else 0


def add_episodes(
    found: Mapping[str, Any],
    episodes: Sequence[Episode],
    facts: Sequence[EpisodeFacts],
    decided: Sequence[Outcome],
) -> None:
    """Append the episodes of one client to the lists of ``found``, by the names of columns."""
    found["episodes.per_client"].append(len(facts))
    found["episodes.future"].extend(_futures(facts, decided, len(found["episodes.ids"])))
    for episode, fact, outcome in zip(episodes, facts, decided, strict=True):
        found["episodes.ids"].append(fact.id.encode("utf-8", "surrogatepass"))
        found["episodes.type"].append(_TYPE_CODES[fact.type])
        found["episodes.status"].append(_STATUS_CODES[fact.status])
        found["episodes.flags"].append(_flags(fact))
        found["episodes.date"].append(_day(fact.date))
        found["episodes.opened"].append(_day(episode.opened_date))
        found["episodes.closed"].append(_day(episode.closed_date))
        found["episodes.outcome"].append(outcome_code(outcome))
