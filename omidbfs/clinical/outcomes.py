"""Classifies episodes (status, outcome, post-op), clients (status) and lesions (status, grade).

The index, the facets and the summary use it. Pure functions: any thread may call them. They agree with ``omidb``
0.13.1 (``omidb.classificationtools``, ``omidb.episode.Episode.status``, ``omidb.client.Client.status``,
``omidb.lesion.Lesion``) in every branch. An episode is classified from its :class:`EpisodeFacts` alone, so that a
change of windows does not require the source.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from math import ceil

import msgspec

from omidbfs.database.records import OTHER, Episode, Lesion

STATUSES: dict[str, str] = {
    "CI": "interval cancer",
    "M": "malignant",
    "B": "benign",
    "NAB": "normal, with assessment and biopsy",
    "NA": "normal, with assessment",
    "N": "normal",
}
"""Statuses of an episode without regard to others (``omidb.episode.Status``)."""

CLIENT_STATUSES: dict[str, str] = {
    "CI": "an interval cancer episode",
    "M": "a malignant episode",
    "B": "a benign episode",
    "N": "neither",
}
"""Statuses of a client, highest precedence first (``omidb.client.Status``)."""

OUTCOMES: dict[str, str] = {
    "CI": "interval cancer",
    "CIP": "prior of an interval cancer",
    "M": "malignant",
    "MP": "prior of a malignant episode",
    "B": "benign",
    "NAB": "normal after assessment and biopsy, nothing found since",
    "NA": "normal after assessment, nothing found since",
    "N": "normal, nothing found since",
}
"""Outcomes of an episode among those of its client (``omidb.classificationtools.EpisodeOutcome``)."""

UNDEFINED_OUTCOMES: dict[str, str] = {
    "InvalidEvents": "an event without opinions, or no event, here or in an episode that matters",
    "InvalidFollowUp": "no episode after the follow-up period that was asked for",
    "InvalidPrior": "a cancer follows, but outside the window for its priors",
    "InvalidCI": "the opinions contradict the type, interval cancer",
    "DateError": "an episode of the client has no date to sort it by",
    "NoSubsequentEpisode": "a follow-up was asked for, and no episode follows",
}
"""Reasons for an undefined outcome (``omidb.classificationtools.UndefinedEpisodeOutcome``).

``omidb`` has ``InvalidCI`` in its table, but never returns it.
"""

LESION_STATUSES: dict[str, str] = {"invasive": "invasive carcinoma", "in-situ": "carcinoma in situ"}
"""``omidb.lesion.Status``."""

_BIOPSIES = ("biopsy_wide", "biopsy_fine")
_DECISIVE = ("surgery", *_BIOPSIES)


UNDEFINED = "undefined"
STATUS_LABELS = {
    "CI": "interval-cancer",
    "CIP": "interval-cancer-prior",
    "M": "malignant",
    "MP": "malignant-prior",
    "B": "benign",
    "NAB": "normal-assessed-biopsied",
    "NA": "normal-assessed",
    "N": "normal",
}
"""Names of statuses and outcomes on the drive."""


class EpisodeFacts(msgspec.Struct, frozen=True, gc=False):
    """The facts of one episode that decide its classification; made by :func:`episode_facts`.

    ``status`` is a key of :data:`STATUSES` or ``None``. ``malignant`` and ``benign`` tell whether there is such an
    opinion after surgery or biopsy. ``valid_events`` tells whether every event but screening has an opinion. The
    episodes of a client are sorted by ``date``.
    """

    id: str
    type: str | None
    status: str | None
    malignant: bool
    benign: bool
    interval_cancer: bool
    has_events: bool
    valid_events: bool
    surgery: bool
    date: date | None

    @property
    def cancer(self) -> bool:
        """Whether the episode counts as cancer, proven or not (``not classificationtools._is_not_cancer``)."""
        return self.type == "CI" or self.status == "M"


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows of ``omidb.classificationtools.episode_outcome``, in months of 365/12 days; ``None`` is off.

    The episodes in the ``ci_prior`` months before an interval cancer, or in the ``cancer_prior`` months before
    another cancer, are its priors (off: the last episode only). A normal or benign episode counts as such if no
    cancer follows within ``normal_follow_up`` or ``benign_follow_up`` months, and if an episode without cancer
    follows after them (off: no follow-up is required).
    """

    ci_prior: int | None = None
    cancer_prior: int | None = None
    normal_follow_up: int | None = None
    benign_follow_up: int | None = None


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """An outcome of an episode, or the reason why it is undefined.

    ``code`` is a key of :data:`OUTCOMES` or :data:`UNDEFINED_OUTCOMES`, ``None`` if ``omidb`` raises.
    ``future_episode`` is the later episode that decided the outcome, if one did.
    """

    code: str | None
    future_episode: str | None = None


def episode_facts(episode: Episode) -> EpisodeFacts:
    """Return the facts of ``episode`` (``omidb.episode.Episode``, ``classificationtools._earliest_date``)."""
    names, opinions, valid_events, first_day = set(), set(), True, None
    for event in episode.events or ():
        name, left, right = event.name, event.left_opinion, event.right_opinion
        names.add(name)
        if name in _DECISIVE:
            opinions |= {left, right}
        if name != "screening" and left is None and right is None:
            valid_events = False
        for day in event.dates:
            if first_day is None or day < first_day:
                first_day = day
    malignant, benign = "OM" in opinions, "OB" in opinions
    interval_cancer = episode.type == "CI" and (malignant or not opinions)
    status: str | None
    if episode.type == "CI":
        status = "CI" if interval_cancer else None
    elif malignant:
        status = "M"
    elif benign:
        status = "B"
    elif not names or not valid_events or "surgery" in names:
        status = None
    elif "assessment" not in names:
        status = "N"
    else:
        status = "NA" if names.isdisjoint(_BIOPSIES) else "NAB"
    return EpisodeFacts(
        id=episode.id,
        type=episode.type,
        status=status,
        malignant=malignant,
        benign=benign,
        interval_cancer=interval_cancer,
        has_events=bool(names),
        valid_events=valid_events,
        surgery="surgery" in names,
        date=first_day or (episode.diagnosis_date if episode.type == "CI" else episode.opened_date),
    )


class Timeline:
    """The episodes of one client, sorted by date; episodes of one date are in file order. Immutable.

    It finds once which episodes follow each episode, so that the classification of a client is not quadratic.
    Raises ``ValueError`` if an episode has no date, since the order is then unknown.
    """

    def __init__(self, episodes: Sequence[EpisodeFacts]) -> None:
        dated = [(episode.date, episode) for episode in episodes if episode.date is not None]
        if len(dated) < len(episodes):
            raise ValueError("an episode has no date")
        dated.sort(key=lambda pair: pair[0])
        self.episodes = [episode for _, episode in dated]
        self.position = {episode.id: index for index, episode in enumerate(self.episodes)}
        self._dates = [day for day, _ in dated]
        size = len(dated)
        # Position of an episode -> position of the first later episode with the property, or `size`.
        self._next_invalid = [size] * size
        self._next_cancer = [size] * size
        self._next_eventless = [size] * size
        self._first_treated = size
        for index in range(size - 1, -1, -1):
            later = self.episodes[index]
            if later.type == "CI" or later.surgery:
                self._first_treated = index
            if index:
                self._next_invalid[index - 1] = index if not later.valid_events else self._next_invalid[index]
                self._next_cancer[index - 1] = index if later.cancer else self._next_cancer[index]
                self._next_eventless[index - 1] = index if not later.has_events else self._next_eventless[index]

    def post_op(self, position: int) -> bool:
        """Return whether an earlier episode is an interval cancer or has surgery."""
        return self._first_treated < position

    def outcome(self, position: int, windows: Windows) -> Outcome:
        """Return the outcome of the episode at ``position``, which is not a cancer and has valid events.

        Raises ``ValueError`` or ``OverflowError`` where ``omidb`` raises.
        """
        episode = self.episodes[position]
        end = len(self.episodes)
        following = position + 1
        benign = episode.status == "B"
        if self._next_invalid[position] < end:
            return Outcome("InvalidEvents")
        if following == end:
            if benign and windows.benign_follow_up is None:
                return Outcome("B")
            if windows.normal_follow_up is None:
                return Outcome(_normal(episode))
            return Outcome("NoSubsequentEpisode")

        prior = self._prior(position, windows)
        if prior is not None:
            return prior
        months = windows.benign_follow_up if benign else windows.normal_follow_up
        if months is None:
            return Outcome("B" if benign else _normal(episode))
        if not self.episodes[following].has_events:
            return Outcome("InvalidEvents", self.episodes[following].id)
        # The first of these episodes decides: one without events, a cancer, one after the follow-up period.
        window = _window(months)
        start = self._dates[position]
        outside = bisect_right(self._dates, window, lo=following, key=lambda day: day - start)
        decisive = min(outside, self._next_cancer[position], self._next_eventless[position])
        if decisive == end:
            return Outcome("InvalidFollowUp")
        follow_up = self.episodes[decisive]
        if not follow_up.has_events:
            return Outcome("InvalidEvents", follow_up.id)
        if follow_up.cancer:
            return Outcome("InvalidPrior", follow_up.id)
        return Outcome("B" if benign else _normal(episode), follow_up.id)

    def _prior(self, position: int, windows: Windows) -> Outcome | None:
        """Return the outcome if a cancer follows within the longer of the two windows for priors."""
        start = self._dates[position]
        # A window that is off ends at the next episode.
        nearest = ceil(12 * (self._dates[position + 1] - start).days / 365.0)
        ci_prior = nearest if windows.ci_prior is None else windows.ci_prior
        cancer_prior = nearest if windows.cancer_prior is None else windows.cancer_prior
        longest = _window(max(ci_prior, cancer_prior))
        index = self._next_cancer[position]
        if index == len(self.episodes) or self._dates[index] - start > longest:
            return None
        cancer = self.episodes[index]
        months, code = (ci_prior, "CIP") if cancer.type == "CI" else (cancer_prior, "MP")
        if self._dates[index] - start > _window(months):
            return Outcome("InvalidPrior", cancer.id)
        if cancer.type == "CI" and not cancer.interval_cancer:
            return Outcome("InvalidEvents", cancer.id)
        return Outcome(code, cancer.id)


def _window(months: int) -> timedelta:
    """Return a window of months; raise ``OverflowError`` if it is too long for a ``timedelta``."""
    return timedelta(months * 365 / 12)


def _normal(episode: EpisodeFacts) -> str:
    if episode.status in ("NAB", "NA", "N"):
        return episode.status
    raise ValueError(f"status {episode.status} is no normal outcome")


def _timeline(episodes: Sequence[EpisodeFacts]) -> Timeline | None:
    try:
        return Timeline(episodes)
    except ValueError:
        return None


def _outcome(episode: EpisodeFacts, timeline: Timeline | None, windows: Windows) -> Outcome:
    if episode.interval_cancer:
        return Outcome("CI")
    if episode.type == "CI":
        return Outcome("InvalidEvents")
    if episode.malignant:
        return Outcome("M")
    if not episode.has_events or not episode.valid_events:
        return Outcome("InvalidEvents")
    if timeline is None:
        return Outcome("DateError")
    try:
        return timeline.outcome(timeline.position[episode.id], windows)
    except (ValueError, OverflowError):
        return Outcome(None)


def outcomes(episodes: Sequence[EpisodeFacts], windows: Windows) -> list[Outcome]:
    """Return the outcome of each of the episodes of one client, in their order; see :func:`outcome`."""
    return decided(episodes, windows)[0]


def decided(episodes: Sequence[EpisodeFacts], windows: Windows) -> tuple[list[Outcome], list[bool | None]]:
    """Return the outcomes of the episodes of one client, and :func:`post_op` of each, in their order."""
    timeline = _timeline(episodes)
    return [_outcome(episode, timeline, windows) for episode in episodes], _post_ops(episodes, timeline)


def outcome(episode: EpisodeFacts, episodes: Sequence[EpisodeFacts], windows: Windows) -> Outcome:
    """Return the outcome of ``episode`` among ``episodes``, all episodes of its client in file order.

    Never raises. For all episodes of a client use :func:`outcomes`.
    Rule: ``omidb.classificationtools.episode_outcome``.
    """
    return _outcome(episode, _timeline(episodes), windows)


def post_ops(episodes: Sequence[EpisodeFacts]) -> list[bool | None]:
    """Return :func:`post_op` of each of the episodes of one client, in their order."""
    return _post_ops(episodes, _timeline(episodes))


def _post_ops(episodes: Sequence[EpisodeFacts], timeline: Timeline | None) -> list[bool | None]:
    if timeline is None:
        return [None] * len(episodes)
    return [timeline.post_op(timeline.position[episode.id]) for episode in episodes]


def post_op(episode: EpisodeFacts, episodes: Sequence[EpisodeFacts]) -> bool | None:
    """Return whether surgery or an interval cancer preceded ``episode``, ``None`` if the order is unknown.

    Rule: ``omidb.classificationtools.is_post_op``.
    """
    timeline = _timeline(episodes)
    return None if timeline is None else timeline.post_op(timeline.position[episode.id])


def client_status(episodes: Iterable[EpisodeFacts]) -> str:
    """Return the status of a client, a key of :data:`CLIENT_STATUSES` (``omidb.client.Client.status``)."""
    found = {
        "CI" if episode.type == "CI" else "M" if episode.malignant else "B" if episode.benign else "N"
        for episode in episodes
    }
    return next((status for status in CLIENT_STATUSES if status in found), "N")


def lesion_status(lesion: Lesion) -> str | None:
    """Return ``invasive``, ``in-situ`` or ``None`` (``omidb.lesion.Lesion.status``)."""
    wide = lesion.procedures.get("biopsy_wide")
    examined = [procedure for procedure in (wide, lesion.procedures.get("surgery")) if procedure is not None]
    malignancy_type = wide.malignancy_type if wide is not None else None
    if malignancy_type == "b" or any(
        _known(*procedure.invasive_components, procedure.invasive_type, procedure.disease_grade)
        for procedure in examined
    ):
        return "invasive"
    if malignancy_type == "a" or any(
        _known(*procedure.insitu_components, procedure.dcis_grade) for procedure in examined
    ):
        return "in-situ"
    return None


def lesion_grade(lesion: Lesion) -> str | None:
    """Return the histological grade, else the DCIS grade, surgery before biopsy (``Lesion.grade`` of omidb)."""
    procedures = [lesion.procedures.get(name) for name in ("surgery", "biopsy_wide")]
    examined = [procedure for procedure in procedures if procedure is not None]
    grades = [procedure.disease_grade for procedure in examined]
    grades += [procedure.dcis_grade for procedure in examined]
    return next((grade for grade in grades if _known(grade)), None)


def _known(*codes: str | None) -> bool:
    """Return whether one of ``codes`` is in its table."""
    return any(code is not None and code != OTHER for code in codes)
