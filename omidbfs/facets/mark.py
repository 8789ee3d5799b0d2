"""Facets of the marks in an image, and of the lesions that they are linked to.

The registry takes them; index workers run their functions. A mark names lesions by number; together with the side
of the image that is a lesion of the study's episode. Nothing is guessed: where a number, the side or the episode
is missing, so is the lesion.
"""

import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from operator import attrgetter

from omidbfs.clinical.outcomes import LESION_STATUSES, lesion_grade, lesion_status
from omidbfs.database.codes import (
    DCIS_GRADES,
    DISEASE_GRADES,
    HER2_STATUSES,
    HORMONE_STATUSES,
    LESION_DESCRIPTIONS,
)
from omidbfs.database.imagedb import BENIGN_CLASSIFICATIONS, CONSPICUITIES, MARK_FEATURES, MASS_CLASSIFICATIONS
from omidbfs.database.records import OTHER, Lesion, Mark
from omidbfs.database.terms import laterality
from omidbfs.facets.model import (
    NONE,
    RESERVED,
    UNKNOWN,
    UNLINKED,
    YES_NO,
    Facet,
    Kind,
    Level,
    Subject,
    Token,
    Value,
    one,
    table,
    yes_no,
)

_UNKNOWN_STATUS = "RU"
_GRADE_LABELS = {
    "G1": "grade-1",
    "G2": "grade-2",
    "G3": "grade-3",
    "NA": "unassessable",
    "NDH": "dcis-high",
    "NDI": "dcis-intermediate",
    "NDL": "dcis-low",
    "NDN": "dcis-unassessable",
}
_GRADES = {code: f"{text} (invasive)" for code, text in DISEASE_GRADES.items()} | {
    code: f"{text} (DCIS)" for code, text in DCIS_GRADES.items()
}


_described = attrgetter("features", "conspicuity", "mass_classification", "benign_classification")


def _of_listing(subject: Subject) -> Hashable:
    """Return how many marks there are, and whether that is known: what the facets depend on that count them."""
    listed = subject.image.listed
    return None if listed is None else (len(listed.marks), listed.unread_marks)


def _of_marks(subject: Subject) -> Hashable:
    """Return what the facets depend on that tell of the marks themselves."""
    listed = subject.image.listed
    if listed is None or not listed.marks:
        return None if listed is None else listed.unread_marks
    return tuple([_described(mark) for mark in listed.marks])


def _of_lesions(subject: Subject) -> Hashable:
    """Return what the facets depend on that tell of the lesions of marks: lesions alike share their codes."""
    listed = subject.image.listed
    if listed is None or not listed.marks:
        return None if listed is None else listed.unread_marks
    return subject.study.episode is None, tuple(
        [
            mark.lesion_numbers is None
            or tuple([_said_of(subject, lesion) for lesion in lesions_of(subject, mark)])
            for mark in listed.marks
        ]
    )


def _said_of(subject: Subject, lesion: Lesion) -> Hashable:
    """Return what each of the facets of lesions says of one."""
    # Remembered while the client is at hand: four images and more show the same lesion, and this takes 6 us.
    known = subject.lesions.get(id(lesion))
    if known is None:
        known = subject.lesions[id(lesion)] = tuple([read(lesion) for read in _OF_LESION])
    return known


def _marked(subject: Subject) -> str | None:
    listed = subject.image.listed
    return None if listed is None or (not listed.marks and listed.unread_marks) else yes_no(bool(listed.marks))


def _mark_count(subject: Subject) -> Token | None:
    listed = subject.image.listed
    return None if listed is None else len(listed.marks) + listed.unread_marks


def _each_mark(read: Callable[[Subject, Mark], Iterable[Token]]) -> Callable[[Subject], Sequence[Token]]:
    """Return the tokens of all marks of an image, ``none`` where there are none."""

    def tokens(subject: Subject) -> Sequence[Token]:
        listed = subject.image.listed
        if listed is None:
            return (UNKNOWN,)
        if not listed.marks:
            return (UNKNOWN,) if listed.unread_marks else (NONE,)
        return tuple(dict.fromkeys(token for mark in listed.marks for token in read(subject, mark)))

    return tokens


def lesions_of(subject: Subject, mark: Mark) -> list[Lesion]:
    """Return the lesions that a mark is linked to, in the order of NBSS: by number, and the side of the image."""
    episode, side = subject.study.episode, laterality(subject.image.header)
    if episode is None or mark.lesion_numbers is None:
        return []
    return [lesion for lesion in episode.lesions if lesion.side == side and lesion.number in mark.lesion_numbers]


def _each_lesion(read: Callable[[Lesion], str | None]) -> Callable[[Subject], Sequence[Token]]:
    def of_mark(subject: Subject, mark: Mark) -> Iterable[Token]:
        if subject.study.episode is None:
            return (UNLINKED,)
        return [read(lesion) or UNKNOWN for lesion in lesions_of(subject, mark)] or (UNKNOWN,)

    return _each_mark(of_mark)


def _link(subject: Subject, mark: Mark) -> Iterable[Token]:
    if mark.lesion_numbers is None:
        return ("no-lesion",)
    return ("linked",) if lesions_of(subject, mark) else ("missing-lesion",)


def _receptor(name: str) -> Callable[[Lesion], str | None]:
    """Return a reader of a receptor's status: after surgery, else after biopsy."""

    def read(lesion: Lesion) -> str | None:
        examined = (lesion.procedures.get(event) for event in ("surgery", "biopsy_wide"))
        found = [status for one in examined if one is not None and (status := getattr(one, name)) is not None]
        known = [status for status in found if status not in (OTHER, _UNKNOWN_STATUS)]
        status = next(iter(known or found), None)
        return None if status == _UNKNOWN_STATUS else status

    return read


_oestrogen, _progesterone, _her2 = map(
    _receptor, ("hormone_er_status", "hormone_pr_status", "her2_receptor_status")
)
_OF_LESION: tuple[Callable[[Lesion], str | None], ...] = (
    attrgetter("description"),
    lesion_status,
    lesion_grade,
    _oestrogen,
    _progesterone,
    _her2,
)
"""All that facets say of a lesion."""


def _capitals(text: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", text).lower()


def _names(texts: Mapping[str, str]) -> tuple[Value, ...]:
    """Return the values of a table whose codes are words; those that every facet has are not repeated."""
    return tuple(
        Value(code, re.sub("^not-", "un", code.replace("_", "-")), (code, text), text)
        for code, text in texts.items()
        if code not in RESERVED
    )


def _receptor_facet(
    name: str, description: str, key: str, read: Callable[[Lesion], str | None], texts: Mapping[str, str]
) -> Facet:
    return Facet(
        name,
        f"the {description} receptor status of the lesions that marks are linked to",
        Level.LESION,
        (f"NBSS {key} of SURGERY, else BIOPSYWIDE",),
        Kind.TABLE,
        _each_lesion(read),
        _of_lesions,
        several=True,
        values=table({code: text for code, text in texts.items() if code != _UNKNOWN_STATUS}),
    )


MARK_FACETS: tuple[Facet, ...] = (
    Facet(
        "marked",
        "whether a radiologist marked a region",
        Level.IMAGE,
        ("ImageDB marks",),
        Kind.TABLE,
        one(_marked),
        _of_listing,
        values=YES_NO,
    ),
    Facet(
        "mark-count",
        "how many regions are marked",
        Level.IMAGE,
        ("ImageDB marks",),
        Kind.NUMBER,
        one(_mark_count),
        _of_listing,
        highest=999,
    ),
    Facet(
        "mark-feature",
        "what the marks show",
        Level.MARK,
        ("ImageDB flags of a mark: Mass, WithCalcification, ...",),
        Kind.TABLE,
        _each_mark(lambda _, mark: [name for name in MARK_FEATURES if name in mark.features] or (UNKNOWN,)),
        _of_marks,
        several=True,
        values=tuple(Value(name, _capitals(name), (name,)) for name in MARK_FEATURES),
    ),
    Facet(
        "conspicuity",
        "how easily the marks are seen",
        Level.MARK,
        ("ImageDB Conspicuity",),
        Kind.TABLE,
        _each_mark(lambda _, mark: (mark.conspicuity or UNKNOWN,)),
        _of_marks,
        several=True,
        values=_names(CONSPICUITIES),
    ),
    Facet(
        "mass-classification",
        "the margins of marked masses",
        Level.MARK,
        ("ImageDB MassClassification",),
        Kind.TABLE,
        _each_mark(lambda _, mark: (mark.mass_classification or UNKNOWN,)),
        _of_marks,
        several=True,
        values=_names(MASS_CLASSIFICATIONS),
    ),
    Facet(
        "benign-classification",
        "the kind of marked benign calcifications",
        Level.MARK,
        ("ImageDB BenignClassification",),
        Kind.TABLE,
        _each_mark(lambda _, mark: (mark.benign_classification or UNKNOWN,)),
        _of_marks,
        several=True,
        values=_names(BENIGN_CLASSIFICATIONS),
    ),
    Facet(
        "lesion-link",
        "whether the marks are linked to lesions of the episode",
        Level.MARK,
        ("ImageDB LinkedNBSSLesionNumber, laterality of the image, NBSS LESION",),
        Kind.TABLE,
        _each_mark(_link),
        _of_lesions,
        several=True,
        values=(
            Value("linked", "linked", (), "to a lesion of its number and side in the episode"),
            Value("no-lesion", "no-lesion", ("UNLINKED",), "the mark names no lesion"),
            Value("missing-lesion", "missing-lesion", (), "the episode has no lesion of that number on that side"),
        ),
    ),
    Facet(
        "lesion-status",
        "whether the lesions that marks are linked to are invasive",
        Level.LESION,
        ("NBSS pathology of BIOPSYWIDE and SURGERY (omidb.lesion.Lesion.status)",),
        Kind.TABLE,
        _each_lesion(lesion_status),
        _of_lesions,
        several=True,
        values=tuple(Value(code, code, (text,), text) for code, text in LESION_STATUSES.items()),
    ),
    Facet(
        "grade",
        "the grade of the lesions that marks are linked to",
        Level.LESION,
        ("NBSS DiseaseGrade, else DcisGrade, of SURGERY, else BIOPSYWIDE (omidb.lesion.Lesion.grade)",),
        Kind.TABLE,
        _each_lesion(lesion_grade),
        _of_lesions,
        several=True,
        values=tuple(Value(code, _GRADE_LABELS[code], (code, text), text) for code, text in _GRADES.items()),
    ),
    Facet(
        "lesion-description",
        "what the lesions that marks are linked to look like",
        Level.LESION,
        ("NBSS LESION LesionDescription",),
        Kind.TABLE,
        _each_lesion(lambda lesion: lesion.description),
        _of_lesions,
        several=True,
        values=table(LESION_DESCRIPTIONS),
    ),
    _receptor_facet("oestrogen-receptor", "oestrogen", "HormoneERStatus", _oestrogen, HORMONE_STATUSES),
    _receptor_facet("progesterone-receptor", "progesterone", "HormonePRStatus", _progesterone, HORMONE_STATUSES),
    _receptor_facet("her2", "HER2", "HER2ReceptorStatus", _her2, HER2_STATUSES),
)
