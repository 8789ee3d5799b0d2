"""States in a sentence which rule of ``outcomes.py`` decided the outcome of an episode.

``omidbfs describe`` uses it. Pure functions: any thread may call them.
"""

from collections.abc import Sequence

from omidbfs.base.names import table_label
from omidbfs.base.words import counted
from omidbfs.clinical.outcomes import (
    OUTCOMES,
    STATUS_LABELS,
    UNDEFINED,
    UNDEFINED_OUTCOMES,
    EpisodeFacts,
    Outcome,
    Windows,
)
from omidbfs.database.codes import EPISODE_TYPES

_INTERVAL_CASE = table_label(EPISODE_TYPES["CI"])
_STATUS_REASONS = {
    "B": "a benign opinion after surgery or biopsy, and no malignant one",
    "NAB": "assessment and biopsy, without a benign or malignant opinion",
    "NA": "assessment, and no biopsy or surgery",
    "N": "no assessment, biopsy or surgery",
}


def why(episode: EpisodeFacts, episodes: Sequence[EpisodeFacts], outcome: Outcome, windows: Windows) -> str:
    """Return the reason for the outcome of ``episode`` among ``episodes``, all episodes of its client."""
    later = next((other for other in episodes if other.id == outcome.future_episode), None)
    match outcome.code:
        case "CI":
            how = "a malignant opinion after surgery or biopsy" if episode.malignant else "no biopsy or surgery"
            return f"by itself: its type is {_INTERVAL_CASE}, with {how}"
        case "M":
            return "by itself: a malignant opinion after surgery or biopsy"
        case "CIP" | "MP" if later is not None:
            months = windows.ci_prior if outcome.code == "CIP" else windows.cancer_prior
            limit = (
                "no window: the next episode counts"
                if months is None
                else f"the window is {counted(months, 'month')}"
            )
            return f"{_named(later)} follows{_after(episode, later)}; {limit}"
        case "B" | "NAB" | "NA" | "N":
            own = f"by itself: {_STATUS_REASONS[outcome.code]}"
            months = windows.benign_follow_up if episode.status == "B" else windows.normal_follow_up
            if later is not None:
                asked = "" if months is None else f", after {counted(months, 'month')}"
                return f"{own}; {_named(later)} without cancer follows{_after(episode, later)}{asked}"
            return f"{own}; no cancer follows in the window for priors, and no follow-up is required"
        case "InvalidEvents" if later is not None:
            return f"{_named(later)}{_after(episode, later)} decides, but its events are invalid"
        case "InvalidEvents":
            return _invalid(episode)
        case "InvalidPrior" if later is not None:
            return f"{_named(later)}, a cancer, follows{_after(episode, later)}: outside the window for its priors"
        case None:
            return f"its status ({_status(episode)}) is not an outcome, and omidb gives none"
    return OUTCOMES.get(outcome.code) or UNDEFINED_OUTCOMES[outcome.code]


def _invalid(episode: EpisodeFacts) -> str:
    if episode.type == "CI":
        return f"its type is {_INTERVAL_CASE}, and after surgery or biopsy no opinion is malignant"
    if not episode.has_events:
        return "it has no events"
    if not episode.valid_events:
        return "an event other than screening has no opinion"
    return "a later episode has an event without opinions"


def _named(episode: EpisodeFacts) -> str:
    kind = "an interval cancer" if episode.type == "CI" else f"status {_status(episode)}"
    return f"episode {episode.id} ({kind})"


def _status(episode: EpisodeFacts) -> str:
    return STATUS_LABELS[episode.status] if episode.status else UNDEFINED


def _after(episode: EpisodeFacts, later: EpisodeFacts) -> str:
    if episode.date is None or later.date is None:
        return ""
    return f" {counted((later.date - episode.date).days, 'day')} later"
