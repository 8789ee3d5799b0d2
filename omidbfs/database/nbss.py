"""Reads ``nbss_<client>.json`` into :class:`~omidbfs.database.records.Nbss`.

The reader of a client uses it. Pure functions: any thread may call them. Nothing in this module raises, whatever
the JSON holds. The rules are those of ``omidb.client_parser.ClientParser``, except for a value that cannot be
understood: ``omidb`` skips the whole client, this module reports the value and takes it as absent.
"""

from datetime import date

from omidbfs.database.codes import (
    CLASSIFICATIONS,
    DCIS_GRADES,
    DISEASE_GRADES,
    EPISODE_ACTIONS,
    EPISODE_TYPES,
    EVENTS,
    HER2_STATUSES,
    HORMONE_STATUSES,
    INSITU_COMPONENTS,
    INVASIVE_COMPONENTS,
    INVASIVE_TYPES,
    LESION_DESCRIPTIONS,
    LESION_POSITIONS,
    MALIGNANCY_TYPES,
    OPINIONS,
    SIDE_OPINIONS,
    SIDES,
)
from omidbfs.database.problems import Report
from omidbfs.database.records import Episode, Event, Lesion, Nbss, Pathology
from omidbfs.database.values import (
    Accepted,
    Where,
    absent,
    accepted,
    read_code,
    read_codes,
    read_date,
    read_name,
    read_object,
    read_size,
    shown,
    told,
)

_CLASSIFICATIONS = accepted(CLASSIFICATIONS)
_EPISODE_TYPES = accepted(EPISODE_TYPES)
_EPISODE_ACTIONS = accepted(EPISODE_ACTIONS)
_SIDE_OPINIONS = accepted(SIDE_OPINIONS)
_OPINIONS = accepted(OPINIONS)
_CLOSED = {"Y": True, "N": False}
_ETHNICITY = ("Ethnicity", "EthnicGroup")
_LESION_DESCRIPTIONS = accepted(LESION_DESCRIPTIONS)
# The enumeration of omidb has the numbers 1, 2, ... in place of texts, and accepts them.
_LESION_POSITIONS: Accepted = {
    **accepted(LESION_POSITIONS),
    **dict(enumerate(LESION_POSITIONS, start=1)),
}
_PATHOLOGY: dict[str, tuple[str, Accepted]] = {
    "malignancy_type": ("MalignancyType", accepted(MALIGNANCY_TYPES)),
    "disease_grade": ("DiseaseGrade", accepted(DISEASE_GRADES)),
    "invasive_type": ("InvasiveType", accepted(INVASIVE_TYPES)),
    "dcis_grade": ("DcisGrade", accepted(DCIS_GRADES)),
    "hormone_er_status": ("HormoneERStatus", accepted(HORMONE_STATUSES)),
    "hormone_pr_status": ("HormonePRStatus", accepted(HORMONE_STATUSES)),
    "her2_receptor_status": ("HER2ReceptorStatus", accepted(HER2_STATUSES)),
}
_INVASIVE_COMPONENTS = accepted(INVASIVE_COMPONENTS)
_INSITU_COMPONENTS = accepted(INSITU_COMPONENTS)

_Lesions = dict[tuple[str, str], Lesion]


def parse_nbss(document: object, report: Report) -> Nbss:
    """Return the content of the decoded ``nbss_<client>.json``.

    Every object at the top level is an episode. Never raises. A value of the wrong type or format is reported as
    ``odd-value`` and counts as absent. A code outside its table is reported as ``unknown-code``; it becomes
    ``None`` as the opinion on a side or a lesion, else :data:`~omidbfs.database.records.OTHER`.
    Rule: ``omidb.client_parser.ClientParser.parse_episodes``.
    """
    if not isinstance(document, dict):
        report("odd-value", f"the document is {shown(document)}, not an object")
        return Nbss(client_id=None, classification=None, episodes=())
    for key, value in document.items():
        if isinstance(value, list):
            report("odd-value", f"the document: {shown(key)} is a list, not an episode")
    return Nbss(
        client_id=read_name(document, "ClientID", "the document", report),
        classification=read_code(document, "Classification", _CLASSIFICATIONS, "the document", report),
        episodes=tuple(_episode(key, value, report) for key, value in document.items() if isinstance(value, dict)),
        ethnicity=next(
            (text for key in _ETHNICITY if (text := read_name(document, key, "the document", report))), None
        ),
    )


def _episode(episode_id: str, data: dict[str, object], report: Report) -> Episode:
    where = (None, "episode", episode_id)
    # The lesions come first: each event adds its findings to them while it collects its dates.
    lesions = _lesions(data, where, report)
    return Episode(
        id=episode_id,
        events=_events(data, lesions, where, report),
        type=read_code(data, "EpisodeType", _EPISODE_TYPES, where, report),
        action=read_code(data, "EpisodeAction", _EPISODE_ACTIONS, where, report),
        is_closed=_CLOSED.get(str(data.get("EpisodeIsClosed"))),
        opened_date=read_date(data, "EpisodeOpenedDate", where, report),
        closed_date=read_date(data, "EpisodeClosedDate", where, report),
        diagnosis_date=read_date(data, "IntervalCancerDateOfDiagnosis", where, report),
        actual_opened_year=_year(data, "ActualEpisodeOpenedYear", where, report),
        lesions=tuple(lesions.values()),
        study_list=_study_list(data, where, report),
    )


def _study_list(data: dict[str, object], where: Where, report: Report) -> tuple[str, ...]:
    """Return the UIDs in ``StudyList``: a text with commas, or a list."""
    value = data.get("StudyList")
    if absent(value):
        return ()
    texts = value if isinstance(value, list) else [value]
    uids = [uid.strip() for text in texts if isinstance(text, str) for uid in text.split(",")]
    if not all(isinstance(text, str) for text in texts):
        report("odd-value", f"{told(where)}: StudyList is {shown(value)}, not UIDs")
    return tuple(uid for uid in uids if uid)


def _year(data: dict[str, object], key: str, where: Where, report: Report) -> int | None:
    value = data.get(key)
    if absent(value):
        return None
    try:
        year = int(value)  # type: ignore[call-overload]  # numbers and text, as in omidb
    except (TypeError, ValueError, OverflowError):
        year = 0
    if 1 <= year <= 9999:
        return int(year)
    report("odd-value", f"{told(where)}: {key} is {shown(value)}, not a year")
    return None


def _events(data: dict[str, object], lesions: _Lesions, where: Where, report: Report) -> tuple[Event, ...] | None:
    """Return the events of an episode (``omidb.client_parser.ClientParser.parse_events``)."""
    events: list[Event] = []
    for name, key in EVENTS.items():
        event = read_object(data, key, where, report)
        if event is None:
            continue
        place = (where, key)
        if name != "screening":
            events.append(_procedure(name, event, lesions, place, report))
            continue
        events.append(_screening(event, place, report))
        others = read_object(data, "OTHERSCREENING", where, report) or {}
        place = (where, "OTHERSCREENING")
        for number in others:
            other = read_object(others, number, place, report)
            if other is not None:
                events.append(_screening(other, (where, "OTHERSCREENING", number), report))
    interval_cancer = read_object(data, "INTERVALCANCER", where, report)
    if interval_cancer:
        _procedure("interval_cancer", interval_cancer, lesions, (where, "INTERVALCANCER"), report)
    return tuple(events) or None


def _screening(data: dict[str, object], where: Where, report: Report) -> Event:
    dates: dict[date, None] = {}
    readings: list[str | None] = []
    for side in SIDES:
        taken = read_object(data, side, where, report)
        reading = None
        if taken:
            day = read_date(taken, "DateTaken", where, report)
            if day is not None:
                dates[day] = None
            reading = read_code(taken, "Opinion", _OPINIONS, (where, side), report)
        readings.append(reading)
    return _event("screening", data, dates, where, report, *readings)


def _procedure(name: str, data: dict[str, object], lesions: _Lesions, where: Where, report: Report) -> Event:
    """Return the event, and add its findings on each of ``lesions`` to the ``procedures`` of that lesion."""
    dates: dict[date, None] = {}
    for side in SIDES:
        numbers = read_object(data, side, where, report) or {}
        for number in numbers:
            details = read_object(numbers, number, (where, side), report)
            if details is None:
                continue
            place = (where, side, number)
            day = read_date(details, "DatePerformed", place, report)
            if day is not None:
                dates[day] = None
            lesion = lesions.get((side, number))
            if lesion is not None:
                lesion.procedures[name] = _pathology(details, day, place, report)
    # The source does not list lesions without a number: the date of the whole event stands for theirs.
    day = read_date(data, "dateperformed", where, report)
    if day is not None:
        dates[day] = None
    return _event(name, data, dates, where, report)


def _event(
    name: str,
    data: dict[str, object],
    dates: dict[date, None],
    where: Where,
    report: Report,
    left_reading: str | None = None,
    right_reading: str | None = None,
) -> Event:
    return Event(
        name=name,
        left_opinion=read_code(data, "left_opinion", _SIDE_OPINIONS, where, report, None),
        right_opinion=read_code(data, "right_opinion", _SIDE_OPINIONS, where, report, None),
        dates=tuple(dates),
        left_reading=left_reading,
        right_reading=right_reading,
    )


def _pathology(data: dict[str, object], day: date | None, where: Where, report: Report) -> Pathology:
    return Pathology(
        date=day,
        opinion=read_code(data, "Opinion", _OPINIONS, where, report, None),
        invasive_components=read_codes(data, "InvasiveComponents", _INVASIVE_COMPONENTS, where, report),
        insitu_components=read_codes(data, "InSituComponents", _INSITU_COMPONENTS, where, report),
        whole_size=read_size(data, "WholeSizeOfTumour", where, report),
        **{
            field: read_code(data, key, codes, where, report)
            for field, (key, codes) in _PATHOLOGY.items()
            if key in data
        },
    )


def _lesions(data: dict[str, object], where: Where, report: Report) -> _Lesions:
    """Return the lesions of an episode by side and number, which may occur on both sides.

    Otherwise as in ``omidb.client_parser.ClientParser._parse_lesions``.
    """
    lesions: _Lesions = {}
    sides = read_object(data, "LESION", where, report)
    if not sides:
        return lesions
    for side in SIDES:
        numbers = read_object(sides, side, (where, "LESION"), report) or {}
        for number in numbers:
            lesion = read_object(numbers, number, ((where, "LESION"), side), report)
            if lesion is not None:
                place = ((where, "LESION"), side, number)
                lesions[side, number] = Lesion(
                    side=side,
                    number=number,
                    description=read_code(lesion, "LesionDescription", _LESION_DESCRIPTIONS, place, report),
                    position=read_code(lesion, "LesionPosition", _LESION_POSITIONS, place, report),
                    cyst_aspirated=lesion.get("CystAspirated") == "Y",
                )
    return lesions
