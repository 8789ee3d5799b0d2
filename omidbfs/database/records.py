"""The records that an OMI-DB is read into: what the source says, and nothing inferred from it.

All are frozen; as structs of msgspec they are made 5 x as fast as dataclasses, and there are dozens for each
client. Codes are the database's own (``CI``, ``OM``, ``G2``); ``None`` means that the source does
not say, and :data:`OTHER` that it says something outside the code's table.
"""

import datetime
import os

import msgspec

OTHER = "other"
"""Stands for a coded value outside its table."""


class FileFacts(msgspec.Struct, frozen=True, gc=False):
    """What ``stat`` said of one source file: size in bytes, times in nanoseconds, permissions, owner."""

    size: int
    mtime_ns: int
    mode: int
    uid: int
    gid: int


FIRST_TIME, LAST_TIME = -(1 << 63), (1 << 63) - 1
"""The times that 64 bits of nanoseconds hold: from 1677-09-21 to 2262-04-11. A file system may know others."""


def mtime_of(found: os.stat_result) -> int:
    """Return the modification time of a file in nanoseconds; one outside of 64 bits is the nearest inside."""
    time = found.st_mtime_ns
    return time if FIRST_TIME <= time <= LAST_TIME else max(FIRST_TIME, min(time, LAST_TIME))


# NBSS ------------------------------------------------------------------------------------------------------


class Event(msgspec.Struct, frozen=True, gc=False):
    """One medical procedure of an episode (``omidb.events.BaseEvent`` and ``Screening``).

    ``name`` is one of ``codes.EVENTS`` (``screening``, ``assessment``, ...); opinions are side opinions
    (``OB OM ON OS OU``); ``dates`` are distinct, in file order. The readings are what readers said of each breast
    at screening (``OPINIONS``).
    """

    name: str
    left_opinion: str | None = None
    right_opinion: str | None = None
    dates: tuple[datetime.date, ...] = ()
    left_reading: str | None = None
    right_reading: str | None = None


class Pathology(msgspec.Struct, frozen=True, gc=False):
    """What one procedure says of one lesion (``omidb.lesion.LesionSurgery``, ``LesionBiopsyWide``, ...)."""

    date: datetime.date | None = None
    opinion: str | None = None
    malignancy_type: str | None = None
    invasive_components: tuple[str, ...] = ()
    insitu_components: tuple[str, ...] = ()
    disease_grade: str | None = None
    invasive_type: str | None = None
    dcis_grade: str | None = None
    hormone_er_status: str | None = None
    hormone_pr_status: str | None = None
    her2_receptor_status: str | None = None


class Lesion(msgspec.Struct, frozen=True, gc=False):
    """One lesion of an episode, known by (``side``, ``number``): a number alone can occur on both sides.

    ``procedures`` maps an event name (plus ``interval_cancer``) to what it says of this lesion.
    """

    side: str
    number: str
    description: str | None = None
    position: str | None = None
    cyst_aspirated: bool = False
    procedures: dict[str, Pathology] = msgspec.field(default_factory=dict)


class Episode(msgspec.Struct, frozen=True, gc=False):
    """One NBSS episode; ``id`` is unique within its client only.

    ``events`` is ``None`` where the source names no event at all, otherwise in the order of ``codes.EVENTS``,
    with one entry per screening. ``study_list`` are the UIDs that the source lists as its studies; links go by
    other rules (:mod:`omidbfs.clinical.linking`).
    """

    id: str
    events: tuple[Event, ...] | None = None
    type: str | None = None
    action: str | None = None
    is_closed: bool | None = None
    opened_date: datetime.date | None = None
    closed_date: datetime.date | None = None
    diagnosis_date: datetime.date | None = None
    actual_opened_year: int | None = None
    lesions: tuple[Lesion, ...] = ()
    study_list: tuple[str, ...] = ()


class Nbss(msgspec.Struct, frozen=True, gc=False):
    """``nbss_<client>.json``: the classification as shipped (``N B M CI``) and the episodes in file order."""

    client_id: str | None
    classification: str | None
    episodes: tuple[Episode, ...]
    ethnicity: str | None = None


# ImageDB ---------------------------------------------------------------------------------------------------


class Mark(msgspec.Struct, frozen=True, gc=False):
    """One region of interest; the box is in pixels, corners as the source gives them.

    ``features`` are the flags that are set; a flag that is not there was not stated. ``lesion_numbers`` is
    ``None`` where the mark is linked to no lesion.
    """

    id: str
    x1: int
    y1: int
    x2: int
    y2: int
    lesion_numbers: frozenset[str] | None = None
    conspicuity: str | None = None
    mass_classification: str | None = None
    benign_classification: str | None = None
    features: frozenset[str] = frozenset()


class DbImage(msgspec.Struct, frozen=True, gc=False):
    """An image as ImageDB lists it. ``unread_marks`` counts marks that could not be read."""

    marks: tuple[Mark, ...] = ()
    unread_marks: int = 0


class DbStudy(msgspec.Struct, frozen=True, gc=False):
    """A study as ImageDB lists it: ``series`` maps series UID to image UID to image, in file order."""

    id: str
    date: datetime.date | None
    episode_id: str | None
    series: dict[str, dict[str, DbImage]]


class ImageDb(msgspec.Struct, frozen=True, gc=False):
    """``imagedb_<client>.json``: studies by UID, in file order."""

    client_id: str | None
    site: str | None
    studies: dict[str, DbStudy]
