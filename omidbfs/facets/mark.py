"""Facets of the marks in an image, and of the lesions that the marks are linked to.

The registry of facets includes them. The workers that build an index call their functions, which are pure but for
the caches in :class:`~omidbfs.facets.model.Subject`.

A mark gives the numbers of its lesions. A number and the side of the image identify a lesion of the study's
episode. Without a number, a side or an episode there is no link.
"""

import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from operator import attrgetter

from omidbfs.clinical.outcomes import LESION_STATUSES, lesion_grade, lesion_status
from omidbfs.database.boxes import place_of_box
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


_corners = attrgetter("x1", "y1", "x2", "y2")
_described = attrgetter("features", "conspicuity", "mass_classification", "benign_classification")


def _of_listing(subject: Subject) -> Hashable:
    """Return what the facets that count marks depend on: how many there are, or ``None`` if that is unknown."""
    listed = subject.image.listed
    return None if listed is None else (len(listed.marks), listed.unread_marks)


def _of_marks(subject: Subject) -> Hashable:
    """Return what the facets that describe marks depend on."""
    listed = subject.image.listed
    if listed is None or not listed.marks:
        return None if listed is None else listed.unread_marks
    return tuple([_described(mark) for mark in listed.marks])


def _of_lesions(subject: Subject) -> Hashable:
    """Return what the facets that describe lesions of marks depend on: equal lesions share their codes."""
    listed = subject.image.listed
    if listed is None or not listed.marks:
        return None if listed is None else listed.unread_marks
    return subject.study.episode is None, tuple(
        [
            mark.lesion_numbers is None
            or tuple([_facts_of(subject, lesion) for lesion in lesions_of(subject, mark)])
            for mark in listed.marks
        ]
    )


def _facts_of(subject: Subject, lesion: Lesion) -> Hashable:
    """Return what each facet of lesions says about one lesion."""
    # Cached for each client: this takes 6 us, and four or more images show the same lesion.
    known = subject.lesions.get(id(lesion))
    if known is None:
        known = subject.lesions[id(lesion)] = tuple([read(lesion) for read in LESION_FACTS.values()])
    return known


def _marked(subject: Subject) -> str | None:
    listed = subject.image.listed
    return None if listed is None or (not listed.marks and listed.unread_marks) else yes_no(bool(listed.marks))


def _of_boxes(subject: Subject) -> Hashable:
    """Return what the facet of boxes depends on: their corners, and the size of the image."""
    listed = subject.image.listed
    if listed is None or not listed.marks:
        return None if listed is None else listed.unread_marks
    return _size_of(subject), tuple([_corners(mark) for mark in listed.marks])


def _size_of(subject: Subject) -> tuple[int | None, int | None]:
    header = subject.image.pixels or subject.image.header
    return header.Rows, header.Columns


def _place(subject: Subject, mark: Mark) -> Iterable[Token]:
    rows, columns = _size_of(subject)
    return (place_of_box(mark, rows, columns) if rows and columns else UNKNOWN,)


def _mark_count(subject: Subject) -> Token | None:
    listed = subject.image.listed
    return None if listed is None else len(listed.marks) + listed.unread_marks


def _each_mark(read: Callable[[Subject, Mark], Iterable[Token]]) -> Callable[[Subject], Sequence[Token]]:
    """Return the tokens of all marks of an image, or ``none`` if it has no marks."""

    def tokens(subject: Subject) -> Sequence[Token]:
        listed = subject.image.listed
        if listed is None:
            return (UNKNOWN,)
        if not listed.marks:
            return (UNKNOWN,) if listed.unread_marks else (NONE,)
        return tuple(dict.fromkeys(token for mark in listed.marks for token in read(subject, mark)))

    return tokens


def lesions_of(subject: Subject, mark: Mark) -> list[Lesion]:
    """Return the lesions with the mark's numbers and the side of its image, in the order of NBSS."""
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
    """Return a function that reads the status of a receptor: after surgery, else after biopsy."""

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
LESION_FACTS: Mapping[str, Callable[[Lesion], str | None]] = {
    "lesion-description": attrgetter("description"),
    "lesion-status": lesion_status,
    "grade": lesion_grade,
    "oestrogen-receptor": _oestrogen,
    "progesterone-receptor": _progesterone,
    "her2": _her2,
}
"""Facet -> what it reads from a lesion."""


def _capitals(text: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", text).lower()


def _names(texts: Mapping[str, str]) -> tuple[Value, ...]:
    """Return the values of a table whose codes are words, without the words that every facet has."""
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
        "the number of marked regions",
        Level.IMAGE,
        ("ImageDB marks",),
        Kind.NUMBER,
        one(_mark_count),
        _of_listing,
        highest=999,
    ),
    Facet(
        "box",
        "where the boxes of marks lie",
        Level.MARK,
        ("ImageDB X1, Y1, X2, Y2; Rows, Columns; the breast that `omidbfs geometry` finds",),
        Kind.TABLE,
        _each_mark(_place),
        _of_boxes,
        several=True,
        values=(
            Value("inside", "inside", (), "in the image, and not known to be off the breast"),
            Value("partly-outside", "partly-outside", (), "partly outside of the image"),
            Value("outside", "outside", (), "outside of the image"),
            Value("off-breast", "off-breast", (), "in the image, with nothing in common with the breast"),
            Value("transposed", "transposed", (), "outside or off the breast, and inside with X and Y exchanged"),
            Value("degenerate", "degenerate", (), "without an area"),
        ),
    ),
    Facet(
        "mark-feature",
        "the features of the marks",
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
        "the margins of the marked masses",
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
        "the kind of the marked benign calcifications",
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
