"""Links studies to episodes and their events, by the rules of ``omidb`` 0.13.1.

``client.py`` uses it. Pure functions: any thread may call them. Their time is linear in the number of studies and
dates; ``omidb`` compares every pair of studies.
"""

import re
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date

import msgspec

from omidbfs.database.problems import Reporter
from omidbfs.database.records import DbStudy, Episode
from omidbfs.database.values import shown

STUDY_DIRECTORY = re.compile(r"\d+.")
"""Name of a directory that ``omidb.parser.DB`` takes as a study."""


class StudyLink(msgspec.Struct, frozen=True, gc=False):
    """The episode of a study, or ``None``, and the names of its events (``codes.EVENTS``).

    ``events`` may name an event twice, if two screenings on one day match.
    """

    episode: str | None
    events: tuple[str, ...] = ()


NO_LINK = StudyLink(None)


class Match(msgspec.Struct, gc=False):
    """The candidate events of a study. ``dated`` tells whether the events match the date of the study."""

    study: str
    episode: str
    date: date
    events: tuple[str, ...]
    dated: bool


def match_studies(episodes: Sequence[Episode], studies: Sequence[DbStudy], report: Reporter) -> list[Match]:
    """Return the episode of each study that has one, and the events of that episode that may belong to the study.

    Reports at most one of ``study-date-missing``, ``episode-id-missing`` and ``episode-id-unknown`` for each
    study. Rules: ``studies_by_episode`` and ``match_events`` of ``omidb.client_parser.ClientParser``.
    """
    matcher = _Matcher(episodes)
    matches: list[Match] = []
    for study in studies:
        episode = study.episode_id if study.episode_id in matcher.episodes else None
        if study.date is None:
            report.of(study.id)("study-date-missing", f"study {shown(study.id)}: not linked")
            continue
        if episode is None:
            episode = matcher.episode_on(study.date)
            kind = "episode-id-unknown" if study.episode_id else "episode-id-missing"
            linked = "not linked" if episode is None else "linked by date"
            report.of(study.id)(kind, f"study {shown(study.id)}: {linked}")
            if episode is None:
                continue
        events, dated = matcher.events(episode, study.date)
        matches.append(Match(study.id, episode, study.date, events, dated))
    return matches


def all_links(studies: Sequence[DbStudy], matches: Iterable[Match]) -> dict[str, StudyLink]:
    """Return the links with every event that matches: ``distinct_event_study_links=False`` of ``omidb.DB``."""
    links = dict.fromkeys((study.id for study in studies), NO_LINK)
    for match in matches:
        links[match.study] = StudyLink(match.episode, match.events)
    return links


def unique_links(
    studies: Sequence[DbStudy], matches: Sequence[Match], in_data: Collection[str]
) -> dict[str, StudyLink]:
    """Return the links, with an event only where the study has no other event and the event no other study.

    ``in_data`` names the directories of the client in ``data/``. Only these are studies for ``omidb``, and their
    links are equal to those of ``omidb``. Other studies are linked by the same rules, among all studies, but cost
    no study its link. Rule: ``ensure_distinct_study_event_links`` of ``omidb.client_parser.ClientParser``.
    """
    single = [match if len(match.events) <= 1 else msgspec.structs.replace(match, events=()) for match in matches]
    present = {study.id for study in studies if study.id in in_data and STUDY_DIRECTORY.match(study.id)}
    ambiguous = _ambiguous(match for match in single if match.study in present)
    if len(present) < len(studies):
        ambiguous |= _ambiguous(single) - present
    links = dict.fromkeys((study.id for study in studies), NO_LINK)
    for match in single:
        links[match.study] = StudyLink(match.episode, () if match.study in ambiguous else match.events)
    return links


def study_list_conflicts(episodes: Iterable[Episode], links: Mapping[str, StudyLink], report: Reporter) -> None:
    """Report as ``study-list-conflict`` each study that ``StudyList`` puts into other episodes than its link does.

    ``omidb`` does not read ``StudyList``: its links are those of :func:`match_studies`.
    """
    listed: dict[str, list[str]] = {}
    for episode in episodes:
        for study in episode.study_list:
            listed.setdefault(study, []).append(episode.id)
    for study, link in links.items():
        named = listed.get(study, [])
        if named and link.episode not in named:
            place = " and ".join(map(shown, dict.fromkeys(named)))
            linked = "not linked" if link.episode is None else f"linked to episode {shown(link.episode)}"
            detail = f"study {shown(study)}: in StudyList of episode {place}, but {linked}"
            report.of(study)("study-list-conflict", detail)


class _Matcher:
    """Finds episodes and events by date.

    It makes its tables on first use: most clients need the table of events for few episodes, and that of episodes
    not at all.
    """

    def __init__(self, episodes: Sequence[Episode]) -> None:
        self.episodes = {episode.id: episode for episode in episodes}
        self._in_order = episodes
        self._first_by_date: dict[date, str] | None = None
        self._events_by_date: dict[str, dict[date, list[str]]] = {}

    def episode_on(self, day: date) -> str | None:
        """Return the first episode with an event on this day."""
        first = self._first_by_date
        if first is None:
            first = self._first_by_date = {}
            for episode in self._in_order:
                for event in episode.events or ():
                    for event_day in event.dates:
                        first.setdefault(event_day, episode.id)
        return first.get(day)

    def events(self, episode_id: str, day: date) -> tuple[tuple[str, ...], bool]:
        """Return the events of an episode on this day and true, or else all its events and false."""
        events = self.episodes[episode_id].events or ()
        by_date = self._events_by_date.get(episode_id)
        if by_date is None:
            by_date = self._events_by_date[episode_id] = {}
            for event in events:
                for event_day in event.dates:
                    by_date.setdefault(event_day, []).append(event.name)
        dated = by_date.get(day)
        return (tuple(dated), True) if dated else (tuple(dict.fromkeys(event.name for event in events)), False)


def _ambiguous(matches: Iterable[Match]) -> set[str]:
    """Return the studies that lose their event because another study of the episode claims it too."""
    by_episode: dict[str, list[Match]] = {}
    for match in matches:
        by_episode.setdefault(match.episode, []).append(match)
    lost: set[str] = set()
    for group in by_episode.values():
        if len(group) > 1:
            lost.update(group[index].study for index in _losers(group))
    return lost


def _losers(group: Sequence[Match]) -> set[int]:
    """Return the positions in ``group`` of the studies that ``omidb`` strips of their event.

    ``omidb`` compares the studies in pairs, in file order. Two studies of one date both lose their event. If two
    studies of different dates share an event, a study loses it unless its event was matched by date. The order
    matters: a study that has lost its event costs no other study its event.
    """
    same_date: dict[date, list[int]] = {}
    undated: dict[str, deque[int]] = {}
    holders: dict[str, deque[int]] = {}
    for index, match in enumerate(group):
        same_date.setdefault(match.date, []).append(index)
        for event in match.events:
            holders.setdefault(event, deque()).append(index)
            if not match.dated:
                undated.setdefault(event, deque()).append(index)

    lost: set[int] = set()
    for index, match in enumerate(group):
        twins = same_date.pop(match.date, [])  # this study and later ones
        twin = twins[1] if len(twins) > 1 else len(group)
        if match.events and index not in lost:
            event = match.events[0]
            # A study is compared with the others in order, and keeps its event until it meets its first twin.
            if match.dated:
                rivals = undated.get(event, deque())
                while rivals and rivals[0] < twin:
                    lost.add(rivals.popleft())
            else:
                rivals = holders[event]
                while rivals and (rivals[0] <= index or rivals[0] in lost):
                    rivals.popleft()
                if rivals and rivals[0] < twin:
                    lost.add(index)
                    if not group[rivals[0]].dated:
                        lost.add(rivals[0])
        if len(twins) > 1:
            lost.update(twins)
    return lost
