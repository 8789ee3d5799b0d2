"""Makes the table of ``omidb summarise`` for any cohort.

The exports use it. Pure functions: any thread may call them. ``csv.writer`` in its default dialect writes the rows
as ``omidb`` does. Where ``omidb`` stops with an error (no sidecar, an empty ``Value``), the cell is empty.
"""

import re
from collections.abc import Callable, Iterator, Mapping

from omidbfs.clinical.linking import StudyLink
from omidbfs.clinical.outcomes import EpisodeFacts, Outcome, Windows, episode_facts, outcomes, post_ops
from omidbfs.database.records import OTHER, DbStudy, Episode, ImageDb, Nbss

HEADER: tuple[str, ...] = (
    "ClientID",
    "Site",
    "EpisodeID",
    "EpisodeSortDate",
    "EpisodeStatus",
    "EpisodeOutcome",
    "EpisodeOutcomeFutureEpisodeID",
    "EpisodeIsPostOp",
    "EpisodeType",
    "EpisodeAction",
    "EpisodeContainsMalignantOpinions",
    "EpisodeContainsBenignOpinions",
    "EpisodeOpenedDate",
    "EpisodeClosedDate",
    "ActualEpisodeOpenedYear",
    "EpisodeHasEvents",
    "StudyInstanceUID",
    "StudyDate",
    "EventType",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "NumberOfMarks",
    "Manufacturer",
    "Model",
    "PresentationIntentType",
    "ImageLaterality",
    "ViewPosition",
    "ViewModCodeValue",
    "ViewModCodeMeaning",
    "BodyPartThicknessMM",
    "PatientAgeYears",
    "TransferSyntaxUID",
)
"""The names of the columns."""

_TAGS: tuple[tuple[str, ...], ...] = (
    ("00080070",),
    ("00081090",),
    ("00080068",),
    ("00200062",),
    ("00185101",),
    ("00540220", "00080100"),
    ("00540220", "00080104"),
    ("001811A0",),
    ("00101010",),
    ("00020010",),
)
_AGE = _TAGS.index(("00101010",))
_NO_IMAGE = (None, None, None, None, None, 0, *(None for _ in _TAGS))


def summary_rows(
    client: str,
    nbss: Nbss,
    imagedb: ImageDb,
    links: Mapping[str, StudyLink],
    windows: Windows,
    studies: Callable[[str], bool],
    images: Callable[[str, str], bool],
    sidecar: Callable[[str, str], Mapping[str, object]],
) -> Iterator[tuple[object, ...]]:
    """Yield the rows of one client, each with the columns of :data:`HEADER`.

    An image has one row for each event of its study, or one row without event. An episode without existing studies
    has one row without image. ``links`` are those of :func:`~omidbfs.clinical.linking.unique_links`.
    ``studies(study)`` tells whether a study exists (for ``omidb``: as a directory in ``data/``),
    ``images(study, image)`` whether the table includes an image. ``sidecar(study, image)`` returns its decoded
    JSON, ``{}`` if there is none. Rule: ``omidb.commands.summarise``.
    """
    by_episode: dict[str, list[DbStudy]] = {}
    for study in imagedb.studies.values():
        link = links.get(study.id)
        if link is not None and link.episode is not None and studies(study.id):
            by_episode.setdefault(link.episode, []).append(study)

    facts = [episode_facts(episode) for episode in nbss.episodes]
    for episode, fact, outcome, post_op in zip(
        nbss.episodes, facts, outcomes(facts, windows), post_ops(facts), strict=True
    ):
        start = (client, imagedb.site, *_episode_cells(episode, fact, outcome, post_op))
        if episode.id not in by_episode:
            yield (*start, *_NO_IMAGE)
        for study in by_episode.get(episode.id, ()):
            for series_uid, series in study.series.items():
                for uid, image in series.items():
                    if not images(study.id, uid):
                        continue
                    header = _header_cells(sidecar(study.id, uid))
                    for event in links[study.id].events or (None,):
                        yield (
                            *start,
                            study.id,
                            study.date,
                            event,
                            series_uid,
                            uid,
                            len(image.marks),
                            *header,
                        )


def _episode_cells(
    episode: Episode, facts: EpisodeFacts, outcome: Outcome, post_op: bool | None
) -> tuple[object, ...]:
    return (
        episode.id,
        facts.date,
        facts.status,
        outcome.code,
        outcome.future_episode,
        post_op,
        # omidb has no code for a value outside its table.
        None if episode.type == OTHER else episode.type,
        None if episode.action == OTHER else episode.action,
        facts.malignant,
        facts.benign,
        episode.opened_date,
        episode.closed_date,
        episode.actual_opened_year,
        facts.has_events,
    )


def _header_cells(sidecar: Mapping[str, object]) -> list[object]:
    cells = [_first_value(sidecar, tags) for tags in _TAGS]
    cells[_AGE] = _age(cells[_AGE])
    return cells


def _first_value(sidecar: Mapping[str, object], tags: tuple[str, ...]) -> object:
    """Return the first value of the last of ``tags``; the others are sequences that lead to it.

    Rule: ``omidb.utilities.try_image_attribute``.
    """
    value: object = sidecar
    try:
        for tag in tags:
            value = value[tag]["Value"][0]  # type: ignore[index]  # any JSON: indexing may raise
    except (KeyError, IndexError, TypeError):
        return None
    return value


def _age(value: object) -> int | None:
    """Return a DICOM age string (PS3.5, 6.2, AS) in years, rounded down (``omidb.utilities.parse_age``)."""
    if not isinstance(value, str):
        return None
    digits = re.match(r"\d+", value.lstrip("0"))
    if digits is None or len(digits.group()) > 18:
        return None
    return int(digits.group()) // {"M": 12, "W": 52, "D": 365}.get(value[-1], 1)
