"""The records of an OMI-DB: the statements of the source, and nothing inferred from them.

The readers of the source make them; the clinical rules, the index and the exports use them. They are frozen, for
any thread. A client has dozens, and a Struct is made 5 times as fast as a dataclass. Codes are those of the
database (``CI``, ``OM``, ``G2``). ``None`` means "not stated", :data:`OTHER` a code outside its table.
"""

import datetime
import os

import msgspec

OTHER = "other"
"""Stands for a coded value outside its table."""


class FileFacts(msgspec.Struct, frozen=True, gc=False):
    """Facts of one source file from ``stat``: size in bytes, time in nanoseconds, permissions, owner."""

    size: int
    mtime_ns: int
    mode: int
    uid: int
    gid: int


FIRST_TIME, LAST_TIME = -(1 << 63), (1 << 63) - 1
"""The first and the last time that fit into 64 bits of nanoseconds: 1677-09-21 and 2262-04-11."""


def mtime_of(found: os.stat_result) -> int:
    """Return the modification time of a file in nanoseconds, or else the nearest time that fits into 64 bits."""
    time = found.st_mtime_ns
    return time if FIRST_TIME <= time <= LAST_TIME else max(FIRST_TIME, min(time, LAST_TIME))


# NBSS ------------------------------------------------------------------------------------------------------


class Event(msgspec.Struct, frozen=True, gc=False):
    """One medical procedure of an episode (``omidb.events.BaseEvent`` and ``Screening``).

    ``name`` is one of ``codes.EVENTS`` (``screening``, ``assessment``, ...); opinions are side opinions
    (``OB OM ON OS OU``); ``dates`` are distinct, in file order. The readings are the reader opinions on each
    breast at screening (``OPINIONS``).
    """

    name: str
    left_opinion: str | None = None
    right_opinion: str | None = None
    dates: tuple[datetime.date, ...] = ()
    left_reading: str | None = None
    right_reading: str | None = None


class Pathology(msgspec.Struct, frozen=True, gc=False):
    """Findings of one procedure on one lesion (``omidb.lesion.LesionSurgery``, ``LesionBiopsyWide``, ...).

    ``whole_size`` is that of the tumour in mm.
    """

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
    whole_size: float | None = None


class Lesion(msgspec.Struct, frozen=True, gc=False):
    """One lesion of an episode, known by (``side``, ``number``): a number alone can occur on both sides.

    ``procedures`` maps the name of an event, or ``interval_cancer``, to its findings on this lesion.
    """

    side: str
    number: str
    description: str | None = None
    position: str | None = None
    cyst_aspirated: bool = False
    procedures: dict[str, Pathology] = msgspec.field(default_factory=dict)


class Episode(msgspec.Struct, frozen=True, gc=False):
    """One NBSS episode; ``id`` is unique within its client only.

    ``events`` is ``None`` if the source names no event. Otherwise it is in the order of ``codes.EVENTS``, with one
    entry for each screening. ``study_list`` holds the UIDs in StudyList; links follow other rules
    (:mod:`omidbfs.clinical.linking`).
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
    """``nbss_<client>.json``: the classification in the source (``N B M CI``) and the episodes in file order."""

    client_id: str | None
    classification: str | None
    episodes: tuple[Episode, ...]
    ethnicity: str | None = None


# ImageDB ---------------------------------------------------------------------------------------------------


class Mark(msgspec.Struct, frozen=True, gc=False):
    """One region of interest; the bounding box is in pixels, with the corners of the source.

    ``features`` holds the flags that are set; a missing flag is not stated. ``lesion_numbers`` is ``None`` if the
    mark is linked to no lesion.
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
    """An image in ImageDB. ``unread_marks`` is the number of marks that cannot be read."""

    marks: tuple[Mark, ...] = ()
    unread_marks: int = 0


class DbStudy(msgspec.Struct, frozen=True, gc=False):
    """A study in ImageDB: ``series`` maps series UID to image UID to image, in file order."""

    id: str
    date: datetime.date | None
    episode_id: str | None
    series: dict[str, dict[str, DbImage]]


class ImageDb(msgspec.Struct, frozen=True, gc=False):
    """``imagedb_<client>.json``: studies by UID, in file order."""

    client_id: str | None
    site: str | None
    studies: dict[str, DbStudy]
