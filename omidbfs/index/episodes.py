"""The episodes of an index: all that outcomes depend on, so that other windows need no second reading."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date

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
from omidbfs.facets import BY_NAME
from omidbfs.facets.clinical import outcome_tokens
from omidbfs.index.columns import FIRST_CODE, RESERVED_CODES
from omidbfs.index.names import Names, joined_names

_TYPES = (None, OTHER, *EPISODE_TYPES)
_STATUSES = (None, *STATUSES)
_TYPE_CODES = {type_: code for code, type_ in enumerate(_TYPES)}
_STATUS_CODES = {status: code for code, status in enumerate(_STATUSES)}
_DATES = ("date", "opened", "closed")
COLUMNS = ("per_client", "type", "status", "flags", *_DATES, "outcome")
"""The columns of :class:`EpisodeColumns`, without the names."""
_FLAGS = ("malignant", "benign", "interval_cancer", "has_events", "valid_events", "surgery")
_OUTCOMES = (None, *OUTCOMES, *UNDEFINED_OUTCOMES)
_OUTCOME_CODES = {outcome: code for code, outcome in enumerate(_OUTCOMES)}
_FACETS = ("outcome", "undefined-outcome")


@dataclass(frozen=True, slots=True)
class EpisodeColumns:
    """One row per episode, in the order of clients and, within a client, of her file.

    ``per_client`` (uint32) counts the episodes of each client; ``type``, ``status`` and ``flags`` (uint8) are
    the fields of :class:`~omidbfs.clinical.outcomes.EpisodeFacts`; ``date``, ``opened`` and ``closed`` (int32) are
    proleptic ordinals, 0 for none; ``outcome`` (uint8) says what became of it (:func:`outcome_at`).
    """

    per_client: NDArray[np.uint32]
    ids: Names
    type: NDArray[np.uint8]
    status: NDArray[np.uint8]
    flags: NDArray[np.uint8]
    date: NDArray[np.int32]
    opened: NDArray[np.int32]
    closed: NDArray[np.int32]
    outcome: NDArray[np.uint8]

    def facts(self, first: int, end: int) -> list[EpisodeFacts]:
        """Return the facts of some episodes, as they were read."""
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

    def reclassified(self, windows: Windows) -> NDArray[np.uint8]:
        """Return the column ``outcome`` under other windows, from what the columns hold."""
        found = np.zeros(len(self.outcome), np.uint8)
        first = 0
        for count in self.per_client.tolist():
            decided = outcomes(self.facts(first, first + count), windows)
            found[first : first + count] = [outcome_code(outcome) for outcome in decided]
            first += count
        return found


def joined_episodes(parts: Sequence[EpisodeColumns]) -> EpisodeColumns:
    """Return the episodes of all parts, one after the other."""
    dtypes = {"per_client": np.uint32, **dict.fromkeys(_DATES, np.int32)}
    columns = {
        name: np.concatenate([getattr(part, name) for part in parts] or [np.zeros(0, dtypes.get(name, np.uint8))])
        for name in COLUMNS
    }
    return EpisodeColumns(ids=joined_names([part.ids for part in parts]), **columns)


def outcome_code(outcome: Outcome) -> int:
    """Return the code of an outcome in the column, 0 where ``omidb`` raises."""
    return _OUTCOME_CODES[outcome.code]


def outcome_at(code: int) -> str | None:
    """Return the key of ``OUTCOMES`` or ``UNDEFINED_OUTCOMES`` that a code in the column stands for."""
    return _OUTCOMES[code]


def outcome_columns(decided: NDArray[np.uint8]) -> dict[str, NDArray[np.uint8]]:
    """Return the codes in each facet of the outcome that the codes of the column stand for."""
    tables = np.zeros((len(_FACETS), len(_OUTCOMES)), np.uint8)
    for code, outcome in enumerate(_OUTCOMES):
        for number, (facet, token) in enumerate(zip(_FACETS, outcome_tokens(outcome), strict=True)):
            known = {value.code: place for place, value in enumerate(BY_NAME[facet].values, FIRST_CODE)}
            tables[number, code] = {**RESERVED_CODES, **known}["unknown" if token is None else token]
    return {facet: found[decided] for facet, found in zip(_FACETS, tables, strict=True)}


def _flags(facts: EpisodeFacts) -> int:
    return sum(getattr(facts, name) << bit for bit, name in enumerate(_FLAGS))


def _day(day: date | None) -> int:
    return day.toordinal() if day is not None else 0


@dataclass(slots=True)
class EpisodeLists:
    """:class:`EpisodeColumns` in the making."""

    per_client: list[int] = field(default_factory=list)
    facts: list[EpisodeFacts] = field(default_factory=list)
    opened: list[int] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)
    outcome: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.facts)

    def add(self, episodes: Sequence[Episode], facts: Sequence[EpisodeFacts], decided: Sequence[Outcome]) -> None:
        """Append the episodes of one client."""
        self.per_client.append(len(facts))
        self.facts += facts
        self.opened += [_day(episode.opened_date) for episode in episodes]
        self.closed += [_day(episode.closed_date) for episode in episodes]
        self.outcome += [outcome_code(outcome) for outcome in decided]

    def columns(self) -> EpisodeColumns:
        """Return the columns."""
        facts = self.facts
        return EpisodeColumns(
            per_client=np.array(self.per_client, np.uint32),
            ids=Names.of([fact.id.encode("utf-8", "surrogatepass") for fact in facts]),
            type=np.array([_TYPE_CODES[fact.type] for fact in facts], np.uint8),
            status=np.array([_STATUS_CODES[fact.status] for fact in facts], np.uint8),
            flags=np.array([_flags(fact) for fact in facts], np.uint8),
            date=np.array([_day(fact.date) for fact in facts], np.int32),
            opened=np.array(self.opened, np.int32),
            closed=np.array(self.closed, np.int32),
            outcome=np.array(self.outcome, np.uint8),
        )
