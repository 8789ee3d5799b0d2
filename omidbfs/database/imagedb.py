"""Reads ``imagedb_<client>.json`` into :class:`~omidbfs.database.records.ImageDb`, with marks.

The reader of a client uses it. Pure functions: any thread may call them. Nothing in this module raises, whatever
the JSON holds. The same series, images and marks count as in ``omidb`` 0.13.1
(``client_parser.ClientParser.parse_series``, ``utilities.IUID_REG``).
"""

import re

from omidbfs.database.problems import Report, Reporter
from omidbfs.database.records import DbImage, DbStudy, ImageDb, Mark
from omidbfs.database.values import (
    Where,
    absent,
    accepted,
    as_text,
    read_code,
    read_date,
    read_name,
    read_object,
    read_text,
    shown,
    told,
)

MARK_FEATURES: tuple[str, ...] = (
    "Mass",
    "WithCalcification",
    "SuspiciousCalcifications",
    "ArchitecturalDistortion",
    "FocalAsymmetry",
    "Dystrophic",
    "FatNecrosis",
    "MilkOfCalcium",
    "OtherBenignCluster",
    "PlasmaCellMastitis",
    "Skin",
    "SutureCalcification",
    "Vascular",
)
"""JSON keys of the flags of a mark. A truthy value sets a flag; otherwise the flag is not stated."""

CONSPICUITIES: dict[str, str] = {
    "obvious": "Obvious",
    "subtle": "Subtle",
    "very_subtle": "Very_subtle",
    "occult": "Occult",
    "not_recalled": "not_recalled",
}
"""``omidb.mark.Conspicuity``."""

MASS_CLASSIFICATIONS: dict[str, str] = {
    "ill_defined": "ill_defined",
    "spiculated": "spiculated",
    "well_defined": "well_defined",
    "other": "other",
    "unknown": "unknown",
    "lucent_centred": "lucent-centred",
    "course": "coarse_or_popcorn-like",
    "egg_shell": "egg_shell_or_rim",
}
"""``omidb.mark.MassClassification``, its spelling included."""

BENIGN_CLASSIFICATIONS: dict[str, str] = {
    "coarse": "coarse_or_popcorn-like",
    "egg_shell": "egg_shell_or_rim",
    "lucent_centred": "lucent-centred",
    "rod": "rod-like",
    "round_puncate": "round_and_punctate",
}
"""``omidb.mark.BenignClassification``, its spelling included."""

_NO_LESION = "UNLINKED"
"""The value of ``LinkedNBSSLesionNumber`` for a mark that belongs to no lesion."""

_CONSPICUITIES = accepted(CONSPICUITIES)
_MASS_CLASSIFICATIONS = accepted(MASS_CLASSIFICATIONS)
_BENIGN_CLASSIFICATIONS = accepted(BENIGN_CLASSIFICATIONS)
_FEATURES = frozenset(MARK_FEATURES)
_UID = re.compile(r"[\d+.]+$")
_NO_MARKS = DbImage()
_NOTHING: tuple[object, ...] = ("", {})
"""Values that mean "no marks", besides null."""


def parse_imagedb(document: object, report: Reporter) -> ImageDb:
    """Return the studies, series, images and marks in the decoded ``imagedb_<client>.json``.

    A study, series or image exists if its key does, whatever the value. A key that is not a UID is left out. Never
    raises. A value of the wrong type or format is reported as ``odd-value`` and counts as absent. A code outside
    its table is reported as ``unknown-code``, and a mark that ``omidb`` cannot read as ``bad-mark``.
    """
    where = "the document"
    if not isinstance(document, dict):
        report("odd-value", f"{where} is {shown(document)}, not an object")
        return ImageDb(client_id=None, site=None, studies={})
    studies = read_object(document, "STUDIES", where, report) or {}
    return ImageDb(
        client_id=read_name(document, "ClientID", where, report),
        site=read_name(document, "Site", where, report),
        studies={uid: _study(uid, studies, report.of(uid)) for uid in studies},
    )


def _study(uid: str, studies: dict[str, object], report: Reporter) -> DbStudy:
    where = (None, "study", uid)
    data = read_object(studies, uid, "STUDIES", report) or {}
    series: dict[str, dict[str, DbImage]] = {}
    for key, value in data.items():
        if _UID.match(key):
            images = read_object(data, key, where, report)
            if images is not None:
                series[key] = _series(images, (where, "series", key), report)
        elif isinstance(value, dict):
            report("odd-value", f"{told(where)}: {shown(key)} holds images, but is not a UID")
    return DbStudy(
        id=uid,
        date=read_date(data, "StudyDate", where, report),
        # A number names no episode, even if its digits match: omidb compares it with keys, which are text.
        episode_id=read_text(data, "EpisodeID", where, report),
        series=series,
    )


def _series(data: dict[str, object], where: Where, report: Reporter) -> dict[str, DbImage]:
    images: dict[str, DbImage] = {}
    is_uid = _UID.match
    for key, value in data.items():
        if not is_uid(key):
            if key and not absent(value):
                report("odd-value", f"{told(where)}: {shown(key)} is not a UID")
        elif value is None or value in _NOTHING:
            images[key] = _NO_MARKS
        else:
            of_image = report.of(report.study, key)
            marks = read_object(data, key, where, of_image) or {}
            images[key] = _image(marks, (None, "image", key), of_image)
    return images


def _image(data: dict[str, object], where: Where, report: Report) -> DbImage:
    marks: list[Mark] = []
    for key, value in data.items():
        place = (where, "mark", key)
        mark = _mark(value, place, report) if isinstance(value, dict) else None
        if mark is None:
            report("bad-mark", told(place))
        else:
            marks.append(mark)
    return DbImage(marks=tuple(marks), unread_marks=len(data) - len(marks))


def _mark(data: dict[str, object], where: Where, report: Report) -> Mark | None:
    """Return the mark, or ``None`` where ``omidb.client_parser.ClientParser._parse_mark`` raises."""
    try:
        identifier = str(data["MarkID"])
        # As in omidb, int() accepts numbers and text; the handler below catches everything else.
        x1, y1, x2, y2 = (int(data[corner]) for corner in ("X1", "Y1", "X2", "Y2"))  # type: ignore[call-overload]
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
        return None
    return Mark(
        id=identifier,
        x1=x1,
        y1=y1,
        x2=x2,
        y2=y2,
        lesion_numbers=_lesion_numbers(data, where, report),
        conspicuity=read_code(data, "Conspicuity", _CONSPICUITIES, where, report),
        mass_classification=read_code(data, "MassClassification", _MASS_CLASSIFICATIONS, where, report),
        benign_classification=read_code(data, "BenignClassification", _BENIGN_CLASSIFICATIONS, where, report),
        features=frozenset([feature for feature in _FEATURES & data.keys() if data[feature]]),
    )


def _lesion_numbers(data: dict[str, object], where: Where, report: Report) -> frozenset[str] | None:
    """Return the lesion numbers of a mark, from a text with commas, a list or a single number.

    ``omidb`` reads them from a text only, and takes a mark with anything else as linked to no lesion.
    """
    value = data.get("LinkedNBSSLesionNumber")
    if absent(value) or value == _NO_LESION:
        return None
    texts = [as_text(number) for number in value] if isinstance(value, list) else [as_text(value)]
    try:
        numbers = [str(int(number)) for text in texts for number in (text or "none").split(",")]
    except ValueError:
        report("odd-value", f"{told(where)}: LinkedNBSSLesionNumber is {shown(value)}, not whole numbers")
        return None
    return frozenset(numbers) or None
