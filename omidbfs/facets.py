"""The facets: what images are grouped by. One registry; adding a facet is adding one entry.

A facet takes one or several *tokens* from each image: a code of its table, a number, free text, or one of the
:data:`RESERVED` words, which every facet shares.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from hashlib import blake2b

from omidbfs.clinical import CLIENT_STATUSES, OUTCOMES, STATUSES, EpisodeFacts, Outcome
from omidbfs.database.client import ClientRecord, StudyRecord
from omidbfs.database.codes import EPISODE_TYPES, EVENTS
from omidbfs.database.records import OTHER
from omidbfs.database.study import ImageRecord
from omidbfs.database.views import MODIFIERS, VIEWS, modifier_of_code, view
from omidbfs.names import slug

UNKNOWN, NONE, UNLINKED = "unknown", "none", "unlinked"
RESERVED: dict[str, str] = {
    UNKNOWN: "the source does not say",
    OTHER: "the source says something outside the table",
    NONE: "known to be empty",
    UNLINKED: "the image belongs to no episode",
}
"""Values that every facet shares, with codes 0 to 3 in this order."""

Token = str | int
UNDEFINED = "undefined"


class Kind(Enum):
    """How the tokens of a facet become values."""

    TABLE = "one of a fixed list"
    NUMBER = "whole numbers, grouped in bands; ranges are understood"
    TEXT = "free text, normalised"
    NAME = "identifiers, verbatim"
    FILE = "the type of the file; narrows the files, not the images"


@dataclass(frozen=True, slots=True)
class Value:
    """A value of a table: the code in the source, the name on the drive, further names that resolve to it."""

    code: str
    label: str
    aliases: tuple[str, ...] = ()
    meaning: str = ""


@dataclass(slots=True)
class Subject:
    """The image at hand, for the facets to look at. Reused from image to image by the index builder."""

    client: ClientRecord
    client_status: str | None
    facts: Mapping[str, EpisodeFacts]
    outcomes: Mapping[str, Outcome]
    study: StudyRecord = field(init=False)
    image: ImageRecord = field(init=False)


@dataclass(frozen=True, slots=True)
class Facet:
    """One facet; see the module's docstring.

    ``lowest``, ``highest`` and ``band`` belong to numbers; ``label`` names the value of a free text.
    """

    name: str
    description: str
    level: str
    source: str
    kind: Kind
    tokens: Callable[[Subject], Sequence[Token]] | None = None
    several: bool = False
    values: tuple[Value, ...] = ()
    lowest: int = 0
    highest: int = 0
    band: int = 1
    label: Callable[[str], str] = slug


def _one(read: Callable[[Subject], Token | None]) -> Callable[[Subject], Sequence[Token]]:
    def tokens(subject: Subject) -> Sequence[Token]:
        token = read(subject)
        return (UNKNOWN,) if token is None else (token,)

    return tokens


def _of_episode(read: Callable[[Subject, str], Token | None]) -> Callable[[Subject], Sequence[Token]]:
    def token(subject: Subject) -> Token | None:
        episode = subject.study.episode
        return UNLINKED if episode is None else read(subject, episode.id)

    return _one(token)


def _table(texts: Mapping[str, str], labels: Mapping[str, str] | None = None) -> tuple[Value, ...]:
    return tuple(
        Value(code, (labels or {}).get(code) or slug(text), (code, text), text) for code, text in texts.items()
    )


_STATUS_LABELS = {
    "CI": "interval-cancer",
    "CIP": "interval-cancer-prior",
    "M": "malignant",
    "MP": "malignant-prior",
    "B": "benign",
    "NAB": "normal-assessed-biopsied",
    "NA": "normal-assessed",
    "N": "normal",
}
_UNDEFINED_VALUE = Value(UNDEFINED, UNDEFINED, (), "its events or dates do not allow a decision")
_CLASSIFICATIONS = {code: CLIENT_STATUSES[code] for code in ("N", "B", "M", "CI")}
_YES_NO = (Value("yes", "yes", ("YES", "Y")), Value("no", "no", ("NO", "N")))
_VENDORS = (
    ("hologic", "hologic"),
    ("lorad", "lorad"),
    ("ge ", "ge"),
    ("ge-", "ge"),
    ("general electric", "ge"),
    ("siemens", "siemens"),
    ("philips", "philips"),
    ("sectra", "sectra"),
    ("fuji", "fujifilm"),
)
_AGE = re.compile(r"0*([0-9]+)\s*([YMWD]?)", re.ASCII)
_AGE_UNITS = {"": 1, "Y": 1, "M": 12, "W": 52, "D": 365}


def age_in_years(text: str) -> int | str:
    """Return whole years from a PatientAge (DICOM AS, or a bare number): ``064Y``, ``780M``, ``65``.

    ``000Y`` is unknown. As ``omidb.utilities.parse_age``.
    """
    match = _AGE.match(text.strip())
    if match is None:
        return OTHER
    number = int(match[1][:9])
    return number // _AGE_UNITS[match[2]] if number else UNKNOWN


def _outcome(subject: Subject, episode: str) -> str | None:
    code = subject.outcomes[episode].code
    return UNDEFINED if code is not None and code not in OUTCOMES else code


def _site(subject: Subject) -> str | None:
    return subject.client.imagedb.site if subject.client.imagedb is not None else None


def _classification(subject: Subject) -> str | None:
    return subject.client.nbss.classification if subject.client.nbss is not None else None


def _episode_type(subject: Subject) -> str | None:
    episode = subject.study.episode
    return UNLINKED if episode is None else episode.type


def _year(subject: Subject) -> Token | None:
    episode = subject.study.episode
    return UNLINKED if episode is None else episode.actual_opened_year


def linked_events(subject: Subject, *, link_all: bool = False) -> Sequence[Token]:
    """Return the events that the study of an image is linked to, with ``link_all`` also where not unique."""
    study = subject.study
    if study.episode is None:
        return (UNLINKED,)
    return (study.all_events if link_all else study.events) or (NONE,)


def _view(subject: Subject) -> str | None:
    position, code = subject.image.header.ViewPosition, subject.image.header.ViewCode
    return None if position is None and code is None else view(position, code)[0] or OTHER


def _view_modifiers(subject: Subject) -> Sequence[Token]:
    header = subject.image.header
    if header.ViewModifierCodes:
        return [modifier_of_code(code) or OTHER for code in header.ViewModifierCodes]
    return (UNKNOWN,) if header.ViewCode is None else (NONE,)


def _among(text: str | None, codes: Mapping[str, str]) -> str | None:
    return None if text is None else codes.get(text.strip().upper(), OTHER)


def _laterality(subject: Subject) -> str | None:
    header = subject.image.header
    return _among(header.ImageLaterality or header.Laterality, {"L": "L", "R": "R", "B": "B"})


def _intent(subject: Subject) -> str | None:
    codes = {"FOR PRESENTATION": "presentation", "FOR PROCESSING": "processing"}
    return _among(subject.image.header.PresentationIntentType, codes)


def _implant(subject: Subject) -> str | None:
    return _among(subject.image.header.BreastImplantPresent, {"YES": "yes", "NO": "no"})


def vendor(text: str) -> str:
    """Return the value of a Manufacturer: one name for the spellings of one company, else the text's slug."""
    lower = text.lower() + " "
    return next((name for start, name in _VENDORS if lower.startswith(start)), slug(text))


def _age(subject: Subject) -> Token | None:
    text = subject.image.header.PatientAge
    return None if text is None else age_in_years(text)


def _marked(subject: Subject) -> str | None:
    listed = subject.image.listed
    if listed is None or (not listed.marks and listed.unread_marks):
        return None
    return "yes" if listed.marks else "no"


def fold_of(client: str) -> int:
    """Return 0 to 9, the same for a client in every database and version: a split never leaks a woman."""
    return int.from_bytes(blake2b(client.encode(), digest_size=8).digest(), "big") % 10


FACETS: tuple[Facet, ...] = (
    Facet("client", "the woman; inside, her part of the real tree", "client", "directory name", Kind.NAME),
    Facet("study", "the examination", "study", "directory name", Kind.NAME),
    Facet(
        "outcome",
        "what became of the episode, by its own events and the episodes after it",
        "episode",
        "NBSS events and types (omidb.classificationtools.episode_outcome)",
        Kind.TABLE,
        _of_episode(_outcome),
        values=(*_table(OUTCOMES, _STATUS_LABELS), _UNDEFINED_VALUE),
    ),
    Facet(
        "episode-status",
        "what the episode's own events say",
        "episode",
        "NBSS events and type (omidb.episode.Episode.status)",
        Kind.TABLE,
        _of_episode(lambda subject, episode: subject.facts[episode].status or UNDEFINED),
        values=(*_table(STATUSES, _STATUS_LABELS), _UNDEFINED_VALUE),
    ),
    Facet(
        "client-status",
        "the most serious of the woman's episodes",
        "client",
        "NBSS (omidb.client.Client.status)",
        Kind.TABLE,
        _one(lambda subject: subject.client_status),
        values=_table(CLIENT_STATUSES, _STATUS_LABELS),
    ),
    Facet(
        "classification",
        "the classification of the woman as shipped",
        "client",
        "NBSS Classification",
        Kind.TABLE,
        _one(_classification),
        values=_table(_CLASSIFICATIONS, _STATUS_LABELS),
    ),
    Facet("site", "the screening centre", "client", "ImageDB Site", Kind.TEXT, _one(_site)),
    Facet(
        "episode-type",
        "why the episode was opened",
        "episode",
        "NBSS EpisodeType",
        Kind.TABLE,
        _one(_episode_type),
        values=_table(EPISODE_TYPES),
    ),
    Facet(
        "event",
        "the procedures that the study belongs to",
        "study",
        "NBSS events on the study's date",
        Kind.TABLE,
        linked_events,
        several=True,
        values=tuple(Value(name, name.replace("_", "-"), (name, key)) for name, key in EVENTS.items()),
    ),
    Facet(
        "view",
        "the projection",
        "image",
        "ViewPosition (0018,5101), ViewCodeSequence (0054,0220)",
        Kind.TABLE,
        _one(_view),
        values=tuple(Value(acr, acr, (*codes, meaning), meaning) for acr, (meaning, codes) in VIEWS.items()),
    ),
    Facet(
        "view-modifier",
        "how the projection was modified",
        "image",
        "ViewModifierCodeSequence (0054,0222)",
        Kind.TABLE,
        _view_modifiers,
        several=True,
        values=tuple(Value(name, name, codes) for name, codes in MODIFIERS.items()),
    ),
    Facet(
        "laterality",
        "the breast",
        "image",
        "ImageLaterality (0020,0062), else Laterality (0020,0060)",
        Kind.TABLE,
        _one(_laterality),
        values=(Value("L", "L", ("left",)), Value("R", "R", ("right",)), Value("B", "B", ("both",))),
    ),
    Facet(
        "intent",
        "for presentation to a reader, or for processing",
        "image",
        "PresentationIntentType (0008,0068)",
        Kind.TABLE,
        _one(_intent),
        values=(
            Value("presentation", "presentation", ("FOR PRESENTATION", "for-presentation")),
            Value("processing", "processing", ("FOR PROCESSING", "for-processing")),
        ),
    ),
    Facet(
        "manufacturer",
        "who made the unit",
        "image",
        "Manufacturer (0008,0070)",
        Kind.TEXT,
        _one(lambda subject: subject.image.header.Manufacturer),
        label=vendor,
    ),
    Facet(
        "model",
        "the unit's model",
        "image",
        "ManufacturerModelName (0008,1090)",
        Kind.TEXT,
        _one(lambda subject: subject.image.header.ManufacturerModelName),
    ),
    Facet(
        "age",
        "the woman's age at the examination in years, in bands of five",
        "image",
        "PatientAge (0010,1010)",
        Kind.NUMBER,
        _one(_age),
        highest=130,
        band=5,
    ),
    Facet(
        "year",
        "the true year in which the episode was opened (study dates are shifted)",
        "episode",
        "NBSS ActualEpisodeOpenedYear",
        Kind.NUMBER,
        _one(_year),
        lowest=1900,
        highest=2150,
    ),
    Facet(
        "marked",
        "whether a radiologist marked a region",
        "image",
        "ImageDB marks",
        Kind.TABLE,
        _one(_marked),
        values=_YES_NO,
    ),
    Facet(
        "implant",
        "whether the breast has an implant",
        "image",
        "BreastImplantPresent (0028,1300)",
        Kind.TABLE,
        _one(_implant),
        values=_YES_NO,
    ),
    Facet(
        "fold",
        "ten equal parts of the women, for cross-validation: by-fold/0-7 and by-fold/8-9 share nobody",
        "client",
        "hash of the client",
        Kind.NUMBER,
        _one(lambda subject: fold_of(subject.client.name)),
        highest=9,
    ),
    Facet(
        "file-type",
        "dcm or json: narrows the files of a cohort, not its images",
        "file",
        "file name",
        Kind.FILE,
        values=(Value("dcm", "dcm"), Value("json", "json")),
    ),
)

BY_NAME: Mapping[str, Facet] = {facet.name: facet for facet in FACETS}
