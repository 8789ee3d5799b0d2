"""Description of one client or study: the timeline of episodes, events and studies, as plain objects for JSON.

``omidbfs describe`` and ``client.json`` use it. The functions have no state. What they need of the source is
passed to them, so any thread may call them.

Coded values are objects with the ``code`` in the source and its ``name`` on the drive. Facts that only the source
has (events, opinions, lesions, the final decision) are left out if the source cannot be read. Images and studies
are those of the directory that is described, and episodes are all that the client has.
"""

from collections.abc import Sequence
from datetime import date

import numpy as np
from numpy.typing import NDArray

from omidbfs.base.names import printable
from omidbfs.clinical.explain import why
from omidbfs.clinical.outcomes import (
    UNDEFINED,
    EpisodeFacts,
    Outcome,
    Windows,
    lesion_grade,
    lesion_status,
    outcomes,
)
from omidbfs.cohorts.cohort import Cohorts
from omidbfs.database.file_kinds import FILE_KINDS
from omidbfs.database.layout import DOCUMENTS
from omidbfs.database.problems import Problem
from omidbfs.database.records import Episode, Event, Lesion, Nbss
from omidbfs.facets import BY_NAME, Kind, Level, named
from omidbfs.facets.clinical import outcome_tokens
from omidbfs.index.episodes import outcome_at

Facts = dict[str, object]


def described_client(
    cohorts: Cohorts,
    windows: Windows,
    client: int,
    rows: NDArray[np.integer],
    nbss: Nbss | None,
    *,
    study: int | None = None,
) -> Facts:
    """Return what is known about a client, with the images at some rows of the index, which are the client's.

    With ``study``, only that study and its episode are described. ``nbss`` is the content of the client's NBSS
    file, ``None`` if it cannot be read.
    """
    index = cohorts.index
    name = index.clients[client].decode()
    episodes = _episodes(cohorts, windows, client, nbss)
    numbers, first = np.unique(index.study_of[rows], return_index=True)  # ascending, as rows are
    images = np.split(rows, first)[1:]
    studies = [_study(cohorts, *pair) for pair in zip(numbers.tolist(), images, strict=True)]
    if study is not None:
        of = index.study_episode.item(study)
        episodes = {number: facts for number, facts in episodes.items() if number == of}
    linked = {number: facts["id"] for number, facts in episodes.items()}
    for facts, number in zip(studies, numbers.tolist(), strict=True):
        facts["episode"] = linked.get(index.study_episode.item(number))
    return {
        "client": name,
        "study": None if study is None else studies[0]["study"] if studies else None,
        "nbss_read": nbss is not None,
        "files": [
            {"name": index.document_name(client, slot).decode(), "size": int(index.documents.size[client, slot])}
            for slot in range(len(DOCUMENTS))
            if index.documents.access[client, slot]
        ],
        "facets": _facets(cohorts, rows),
        "problems": [_problem(one) for one in index.problems_of(name)],
        "episodes": list(episodes.values()),
        "studies": studies,
        "timeline": _timeline(list(episodes.values()), studies),
    }


def _problem(problem: Problem) -> Facts:
    return {"file": problem.file, "kind": problem.kind, "detail": problem.detail}


def _facets(cohorts: Cohorts, rows: NDArray[np.integer]) -> Facts:
    """Return the values of the facets of the client, nothing for a client without images."""
    of_client = [one for one in cohorts.facets if one.level is Level.CLIENT and one.kind is not Kind.NAME]
    return {
        one.name: [cohorts.label(one, code) for code in cohorts.codes_of(one, int(rows[0]))]
        for one in of_client
        if len(rows)
    }


# Episodes


def _coded(facet: str, code: str | None) -> Facts | None:
    return None if code is None else {"code": printable(code), "name": named(facet, code)}


def _episodes(cohorts: Cohorts, windows: Windows, client: int, nbss: Nbss | None) -> dict[int, Facts]:
    """Return ordinal -> facts of the episodes of a client, in the order of their dates, those without one last."""
    columns = cohorts.index.episodes
    first = int(np.sum(columns.per_client[:client], dtype=np.int64))
    of_client = columns.facts(first, first + int(columns.per_client[client]))
    decided = outcomes(of_client, windows)
    read = {} if nbss is None else {one.id: one for one in nbss.episodes}
    found = {}
    for number, facts in enumerate(of_client):
        code = outcome_at(columns.outcome.item(first + number))
        days = [columns.opened.item(first + number), columns.closed.item(first + number)]
        future = Outcome(code, decided[number].future_episode)
        found[first + number] = _episode(facts, of_client, future, windows, days) | _read(read.get(facts.id))
    return dict(sorted(found.items(), key=lambda pair: (pair[1]["date"] is None, str(pair[1]["date"]))))


def _episode(
    facts: EpisodeFacts, of_client: Sequence[EpisodeFacts], decided: Outcome, windows: Windows, days: Sequence[int]
) -> Facts:
    outcome, reason = outcome_tokens(decided.code)
    opened, closed = (str(date.fromordinal(day)) if day else None for day in days)
    return {
        "id": printable(facts.id),
        "date": facts.date and str(facts.date),
        "opened": opened,
        "closed": closed,
        "type": _coded("episode-type", facts.type),
        "status": _coded("episode-status", facts.status or UNDEFINED),
        "outcome": _coded("outcome", outcome),
        "undefined_outcome": _coded("undefined-outcome", reason) if outcome == UNDEFINED else None,
        "why": printable(why(facts, of_client, decided, windows)),
        "future_episode": decided.future_episode and printable(decided.future_episode),
    }


def _read(episode: Episode | None) -> Facts:
    """Return what only the source has of an episode."""
    if episode is None:
        return {"action": None, "events": None, "lesions": None}
    return {
        "action": _coded("episode-action", episode.action),
        "events": [_event(event) for event in episode.events or ()],
        "lesions": [_lesion(lesion) for lesion in episode.lesions],
    }


def _event(event: Event) -> Facts:
    return {
        "name": named("event", event.name),
        "dates": [str(day) for day in event.dates],
        "left_opinion": _coded("side-opinion", event.left_opinion),
        "right_opinion": _coded("side-opinion", event.right_opinion),
        "left_reading": _coded("reading-opinion", event.left_reading),
        "right_reading": _coded("reading-opinion", event.right_reading),
    }


def _lesion(lesion: Lesion) -> Facts:
    return {
        "side": lesion.side,
        "number": printable(lesion.number),
        "description": _coded("lesion-description", lesion.description),
        "status": _coded("lesion-status", lesion_status(lesion)),
        "grade": _coded("grade", lesion_grade(lesion)),
        "procedures": {
            name: {"date": found.date and str(found.date), "opinion": _coded("side-opinion", found.opinion)}
            for name, found in lesion.procedures.items()
        },
    }


# Studies


def _study(cohorts: Cohorts, study: int, rows: NDArray[np.integer]) -> Facts:
    """Return what is known about a study, with the images at some rows of the index, which are the study's."""
    index, of_study = cohorts.index, rows.tolist()
    day = index.study_date.item(study)
    views: dict[str, list[Facts]] = {}
    for row in of_study:
        side, view = (_value(cohorts, name, row) for name in ("laterality", "view"))
        views.setdefault(f"{side}-{view}", []).append(_image(cohorts, row))
    name = index.raw_studies.get(study)
    return {
        "study": printable(index.studies[study].decode() if name is None else name),
        "date": str(date.fromordinal(day)) if day else None,
        "episode": None,
        "events": _values(cohorts, "event", of_study[0]),
        "standard_views": _value(cohorts, "standard-views", of_study[0]),
        "views": dict(sorted(views.items())),
    }


def _image(cohorts: Cohorts, row: int) -> Facts:
    index = cohorts.index
    where = index.marks.of_rows(row, row + 1)
    return {
        "image": printable(index.on_disk(row)[1]),
        "intent": _value(cohorts, "intent", row),
        "latest_of_view": _value(cohorts, "latest-of-view", row),
        "files": [kind.name for kind in FILE_KINDS if index.has_file(row, kind)],
        "marks": where.stop - where.start,
    }


def _values(cohorts: Cohorts, facet: str, row: int) -> list[str]:
    return [cohorts.label(BY_NAME[facet], code) for code in cohorts.codes_of(BY_NAME[facet], row)]


def _value(cohorts: Cohorts, facet: str, row: int) -> str:
    return _values(cohorts, facet, row)[0]


# The timeline


def _timeline(episodes: Sequence[Facts], studies: Sequence[Facts]) -> list[Facts]:
    """Return what happened, in the order of dates; what has no date comes last."""
    found: list[Facts] = []

    def add(day: object, what: str, episode: object, **others: object) -> None:
        found.append({"date": day, "what": what, "episode": episode, **others})

    for episode in episodes:
        id_ = episode["id"]
        add(episode["opened"] or episode["date"], "episode-opened", id_)
        events = episode["events"]
        for number, event in enumerate(events if isinstance(events, list) else ()):
            for day in event["dates"] or (None,):
                add(day, "event", id_, event=number)
        if episode["closed"] is not None:
            add(episode["closed"], "episode-closed", id_)
    for number, study in enumerate(studies):
        add(study["date"], "study", study["episode"], study=number)
    order = {what: place for place, what in enumerate(("episode-opened", "event", "study", "episode-closed"))}
    return sorted(found, key=lambda one: (one["date"] is None, str(one["date"]), order[str(one["what"])]))
