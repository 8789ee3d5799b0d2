"""The episodes of an index: all that outcomes depend on, so that other windows need no second reading."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date

import numpy as np
from numpy.typing import NDArray

from omidbfs.clinical import OUTCOMES, STATUSES, EpisodeFacts, Outcome, Windows, outcomes
from omidbfs.database.codes import EPISODE_TYPES
from omidbfs.database.records import OTHER
from omidbfs.facets import BY_NAME, UNDEFINED
from omidbfs.index.columns import FIRST_CODE, RESERVED_CODES
from omidbfs.index.names import Names, joined_names

_TYPES = (None, OTHER, *EPISODE_TYPES)
_STATUSES = (None, *STATUSES)
_TYPE_CODES = {type_: code for code, type_ in enumerate(_TYPES)}
_STATUS_CODES = {status: code for code, status in enumerate(_STATUSES)}
_FLAGS = ("malignant", "benign", "interval_cancer", "has_events", "valid_events", "surgery")
_OUTCOME_CODES = {value.code: code for code, value in enumerate(BY_NAME["outcome"].values, FIRST_CODE)}


@dataclass(frozen=True, slots=True)
class EpisodeColumns:
    """One row per episode, in the order of clients and, within a client, of her file.

    ``per_client`` (uint32) counts the episodes of each client; ``type``, ``status`` and ``flags`` (uint8) are
    the fields of :class:`~omidbfs.clinical.EpisodeFacts`, ``date`` (int32) is a proleptic ordinal, 0 for none;
    ``outcome`` (uint8) is the code in the facet ``outcome``.
    """

    per_client: NDArray[np.uint32]
    ids: Names
    type: NDArray[np.uint8]
    status: NDArray[np.uint8]
    flags: NDArray[np.uint8]
    date: NDArray[np.int32]
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
    dtypes = {"per_client": np.uint32, "date": np.int32}
    columns = {
        name: np.concatenate([getattr(part, name) for part in parts] or [np.zeros(0, dtypes.get(name, np.uint8))])
        for name in ("per_client", "type", "status", "flags", "date", "outcome")
    }
    return EpisodeColumns(ids=joined_names([part.ids for part in parts]), **columns)


def outcome_code(outcome: Outcome) -> int:
    """Return the code of an outcome in its facet: ``unknown`` where ``omidb`` raises."""
    if outcome.code is None:
        return RESERVED_CODES["unknown"]
    return _OUTCOME_CODES[outcome.code if outcome.code in OUTCOMES else UNDEFINED]


def _flags(facts: EpisodeFacts) -> int:
    return sum(getattr(facts, name) << bit for bit, name in enumerate(_FLAGS))


@dataclass(slots=True)
class EpisodeLists:
    """:class:`EpisodeColumns` in the making."""

    per_client: list[int] = field(default_factory=list)
    facts: list[EpisodeFacts] = field(default_factory=list)
    outcome: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.facts)

    def add(self, facts: Sequence[EpisodeFacts], decided: Sequence[Outcome]) -> None:
        """Append the episodes of one client."""
        self.per_client.append(len(facts))
        self.facts += facts
        self.outcome += [outcome_code(outcome) for outcome in decided]

    def columns(self) -> EpisodeColumns:
        """Return the columns."""
        facts = self.facts
        return EpisodeColumns(
            np.array(self.per_client, np.uint32),
            Names.of([fact.id.encode("utf-8", "surrogatepass") for fact in facts]),
            np.array([_TYPE_CODES[fact.type] for fact in facts], np.uint8),
            np.array([_STATUS_CODES[fact.status] for fact in facts], np.uint8),
            np.array(
                [sum(getattr(fact, flag) << bit for bit, flag in enumerate(_FLAGS)) for fact in facts], np.uint8
            ),
            np.array([fact.date.toordinal() if fact.date is not None else 0 for fact in facts], np.int32),
            np.array(self.outcome, np.uint8),
        )
