"""Facets of the opinions on the imaged breast.

The registry of facets includes them. The workers that build an index call their functions, which are pure but for
the caches in :class:`~omidbfs.facets.model.Subject`.
"""

from collections.abc import Hashable

from omidbfs.database.codes import SIDE_OPINIONS
from omidbfs.database.records import OTHER, Episode
from omidbfs.database.terms import laterality
from omidbfs.facets.model import NONE, UNLINKED, Facet, Kind, Level, Subject, Value, one, table
from omidbfs.facets.tables import READING_OPINIONS

_WORST_FIRST = ("OM", "OS", "OU", "OB", "ON")
_DECISIVE = ("surgery", "biopsy_wide", "biopsy_fine")


def _opinions(subject: Subject, episode: Episode, side: str) -> tuple[str | None, str | None]:
    """Return the worst opinion on one breast after biopsy or surgery, and the reader opinion at screening."""
    # Cached for each client: computing it for every image takes 2 us.
    found = subject.opinions.get((episode.id, side))
    if found is None:
        is_left, decisive, first = side == "L", set(), None
        for event in episode.events or ():
            if event.name in _DECISIVE:
                decisive.add(event.left_opinion if is_left else event.right_opinion)
            reading = event.left_reading if is_left else event.right_reading
            first = reading if first is None else first
        worst = next((opinion for opinion in _WORST_FIRST if opinion in decisive), None) if decisive else None
        found = subject.opinions[episode.id, side] = worst, first
    return found


def _of_breast(subject: Subject) -> Hashable:
    """Return all that these facets depend on: the side of the image, or the opinions on that breast."""
    episode, side = subject.study.episode, laterality(subject.image.header)
    if episode is None or side not in ("L", "R"):
        return episode is None, side
    return _opinions(subject, episode, side)


def _side_opinion(subject: Subject) -> str | None:
    episode, side = subject.study.episode, laterality(subject.image.header)
    if episode is None:
        return UNLINKED
    return None if side not in ("L", "R") else _opinions(subject, episode, side)[0] or NONE


def _reading_opinion(subject: Subject) -> str | None:
    episode, side = subject.study.episode, laterality(subject.image.header)
    if episode is None:
        return UNLINKED
    reading = _opinions(subject, episode, side)[1] if side in ("L", "R") else None
    return reading if reading is None or reading in READING_OPINIONS else OTHER


BREAST_FACETS: tuple[Facet, ...] = (
    Facet(
        "side-opinion",
        "the worst opinion on the imaged breast after biopsy or surgery in the episode",
        Level.IMAGE,
        ("NBSS left_opinion, right_opinion of SURGERY, BIOPSYWIDE, BIOPSYFINE; laterality of the image",),
        Kind.TABLE,
        one(_side_opinion),
        _of_breast,
        values=table(dict(zip(_WORST_FIRST, map(SIDE_OPINIONS.__getitem__, _WORST_FIRST), strict=True))),
    ),
    Facet(
        "reading-opinion",
        "the reader opinion on the imaged breast at screening",
        Level.IMAGE,
        ("NBSS SCREENING, L and R, Opinion; laterality of the image",),
        Kind.TABLE,
        one(_reading_opinion),
        _of_breast,
        values=tuple(Value(code, label, (code, text), text) for code, (label, text) in READING_OPINIONS.items()),
    ),
)
