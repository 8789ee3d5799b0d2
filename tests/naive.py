"""An independent reader of an OMI-DB, made of ``json.loads``, ``pydicom.dcmread``, loops and dictionaries.

The reference model reads with it, so that an error of the package's readers is no error of the model. It fills
the records of the package, which are plain data, and shares its tables of codes, which are facts. It reports no
problems and knows no limits: the databases of tests are small. Rules: ``omidb`` 0.13.1 and the tables of OMI-DB.
"""

import datetime
import json
import warnings
from collections.abc import Iterator
from fractions import Fraction
from math import ceil, floor
from pathlib import Path
from typing import Any

import pydicom

from omidbfs.clinical.linking import StudyLink
from omidbfs.database import codes
from omidbfs.database.header import Header
from omidbfs.database.imagedb import BENIGN_CLASSIFICATIONS, CONSPICUITIES, MARK_FEATURES, MASS_CLASSIFICATIONS
from omidbfs.database.records import (
    OTHER,
    DbImage,
    DbStudy,
    Episode,
    Event,
    ImageDb,
    Lesion,
    Mark,
    Nbss,
    Pathology,
)

Json = dict[str, Any]
NOTHING = (None, "", "Data anonymised")


def document(path: Path) -> Json | None:
    """Return the object in a JSON file, ``None`` for anything else."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def documents(data: Path, client: str) -> tuple[Nbss | None, ImageDb | None]:
    """Return NBSS and ImageDB of a client. The lower-case name wins."""
    found: list[Json | None] = []
    for kind in ("nbss", "imagedb"):
        places = [data / client / f"{prefix}_{client}.json" for prefix in (kind, kind.upper())]
        found.append(next((document(place) for place in places if place.is_file()), None))
    nbss, imagedb = found
    return None if nbss is None else nbss_of(nbss), None if imagedb is None else imagedb_of(imagedb)


# Single values ---------------------------------------------------------------------------------------------


def text(data: Json, key: str) -> str | None:
    value = data.get(key)
    return value if isinstance(value, str) and value not in NOTHING else None


def inner(data: Json, key: str) -> Json:
    value = data.get(key)
    return value if isinstance(value, dict) else {}


def date(data: Json, key: str) -> datetime.date | None:
    value = text(data, key)
    if value is None:
        return None
    try:
        return datetime.datetime.strptime(value, "%Y-%m-%d" if "-" in value else "%Y%m%d").date()
    except ValueError:
        return None


def code(data: Json, key: str, table: dict[str, str], outside: str | None = OTHER) -> str | None:
    """Return the code of a value that is a code or its text."""
    value = data.get(key)
    for name, meaning in table.items():
        if isinstance(value, str) and value == name:
            return name
        if isinstance(value, str) and value == meaning and value not in table:
            return name
    return outside if text(data, key) is not None else None


def several(data: Json, key: str, table: dict[str, str]) -> tuple[str, ...]:
    words = [word for word in (text(data, key) or "").split(" ") if word]
    return tuple(code({"": word}, "", table) or OTHER for word in words)


def size(value: object) -> float | None:
    try:
        found = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else 0.0
    except (ValueError, OverflowError):
        return None
    return found if 0 < found < 10_000 else None


def whole(value: object) -> int | None:
    try:
        return int(value)  # type: ignore[call-overload, no-any-return]
    except (TypeError, ValueError, OverflowError):
        return None


# NBSS ------------------------------------------------------------------------------------------------------


def nbss_of(data: Json) -> Nbss:
    """Return the content of ``nbss_<client>.json``."""
    return Nbss(
        text(data, "ClientID"),
        code(data, "Classification", codes.CLASSIFICATIONS),
        tuple(episode_of(number, one) for number, one in data.items() if isinstance(one, dict)),
        text(data, "Ethnicity") or text(data, "EthnicGroup"),
    )


def episode_of(number: str, data: Json) -> Episode:
    """Return one episode. Its lesions have the findings of each procedure."""
    events: list[Event] = []
    for name, key in codes.EVENTS.items():
        if not isinstance(data.get(key), dict):
            continue
        found = [data[key]]
        if name == "screening":
            found += [one for one in inner(data, "OTHERSCREENING").values() if isinstance(one, dict)]
        events += [event_of(name, one) for one in found]
    lesions = []
    for side in "LR":
        for lesion, said in inner(inner(data, "LESION"), side).items():
            if isinstance(said, dict):
                lesions.append(lesion_of(side, lesion, said, data))
    year = whole(data.get("ActualEpisodeOpenedYear"))
    return Episode(
        number,
        tuple(events) or None,
        code(data, "EpisodeType", codes.EPISODE_TYPES),
        code(data, "EpisodeAction", codes.EPISODE_ACTIONS),
        {"Y": True, "N": False}.get(str(data.get("EpisodeIsClosed"))),
        date(data, "EpisodeOpenedDate"),
        date(data, "EpisodeClosedDate"),
        date(data, "IntervalCancerDateOfDiagnosis"),
        year if year is not None and 1 <= year <= 9999 else None,
        tuple(lesions),
    )


def event_of(name: str, data: Json) -> Event:
    """Return one event, with its distinct dates in the order of the file."""
    dates, readings = [], []
    for side in "LR":
        if name == "screening":
            dates.append(date(inner(data, side), "DateTaken"))
            readings.append(code(inner(data, side), "Opinion", codes.OPINIONS))
        else:
            dates += [date(one, "DatePerformed") for one in inner(data, side).values() if isinstance(one, dict)]
            readings.append(None)
    if name != "screening":
        dates.append(date(data, "dateperformed"))
    opinions = [code(data, f"{side}_opinion", codes.SIDE_OPINIONS, None) for side in ("left", "right")]
    return Event(name, *opinions, tuple(dict.fromkeys(day for day in dates if day is not None)), *readings)


def lesion_of(side: str, number: str, data: Json, episode: Json) -> Lesion:
    """Return one lesion, with the findings of each procedure of its episode."""
    position = data.get("LesionPosition")
    if isinstance(position, int) and not isinstance(position, bool):
        named = dict(enumerate(codes.LESION_POSITIONS, start=1)).get(position)
    else:
        named = code(data, "LesionPosition", codes.LESION_POSITIONS)
    procedures = {}
    for name, key in {**codes.EVENTS, "interval_cancer": "INTERVALCANCER"}.items():
        said = inner(inner(episode, key), side).get(number)
        if name != "screening" and isinstance(said, dict):
            procedures[name] = Pathology(
                date(said, "DatePerformed"),
                code(said, "Opinion", codes.OPINIONS, None),
                code(said, "MalignancyType", codes.MALIGNANCY_TYPES),
                several(said, "InvasiveComponents", codes.INVASIVE_COMPONENTS),
                several(said, "InSituComponents", codes.INSITU_COMPONENTS),
                code(said, "DiseaseGrade", codes.DISEASE_GRADES),
                code(said, "InvasiveType", codes.INVASIVE_TYPES),
                code(said, "DcisGrade", codes.DCIS_GRADES),
                code(said, "HormoneERStatus", codes.HORMONE_STATUSES),
                code(said, "HormonePRStatus", codes.HORMONE_STATUSES),
                code(said, "HER2ReceptorStatus", codes.HER2_STATUSES),
                size(said.get("WholeSizeOfTumour")),
            )
    description = code(data, "LesionDescription", codes.LESION_DESCRIPTIONS)
    return Lesion(side, number, description, named, data.get("CystAspirated") == "Y", procedures)


# ImageDB ---------------------------------------------------------------------------------------------------


def is_uid(name: str) -> bool:
    return bool(name) and all(letter.isdecimal() or letter in "+." for letter in name)


def imagedb_of(data: Json) -> ImageDb:
    """Return the content of ``imagedb_<client>.json``."""
    studies = {}
    for uid, said in inner(data, "STUDIES").items():
        said = said if isinstance(said, dict) else {}  # noqa: PLW2901
        series = {
            name: {
                image: image_of(marks if isinstance(marks, dict) else {})
                for image, marks in images.items()
                if is_uid(image)
            }
            for name, images in said.items()
            if is_uid(name) and isinstance(images, dict)
        }
        studies[uid] = DbStudy(uid, date(said, "StudyDate"), text(said, "EpisodeID"), series)
    return ImageDb(text(data, "ClientID"), text(data, "Site"), studies)


def image_of(marks: Json) -> DbImage:
    """Return the marks of an image that can be read, and how many cannot."""
    found = [mark_of(one) for one in marks.values() if isinstance(one, dict)]
    readable = [mark for mark in found if mark is not None]
    return DbImage(tuple(readable), len(marks) - len(readable))


def mark_of(data: Json) -> Mark | None:
    """Return a mark, or ``None`` if its number or a corner cannot be read."""
    x1, y1, x2, y2 = (whole(data.get(corner)) for corner in ("X1", "Y1", "X2", "Y2"))
    if x1 is None or y1 is None or x2 is None or y2 is None or "MarkID" not in data:
        return None
    return Mark(
        str(data["MarkID"]),
        x1,
        y1,
        x2,
        y2,
        lesion_numbers(data.get("LinkedNBSSLesionNumber")),
        code(data, "Conspicuity", CONSPICUITIES),
        code(data, "MassClassification", MASS_CLASSIFICATIONS),
        code(data, "BenignClassification", BENIGN_CLASSIFICATIONS),
        frozenset(flag for flag in MARK_FEATURES if data.get(flag)),
    )


def lesion_numbers(value: object) -> frozenset[str] | None:
    """Return the numbers of the lesions that a mark names, as text or as a number."""
    if value in (*NOTHING, "UNLINKED"):
        return None
    numbers = [whole(number) for number in str(value).split(",")]
    return None if None in numbers else frozenset(map(str, numbers))


# Links -----------------------------------------------------------------------------------------------------


def links_of(
    nbss: Nbss | None, imagedb: ImageDb | None, in_data: set[str]
) -> tuple[dict[str, StudyLink], dict[str, StudyLink]]:
    """Return the links of each study, to unique events and to all (``omidb.client_parser.ClientParser``).

    ``in_data`` names the directories in ``data/``: only those are studies for ``omidb``, so no other study takes
    a link away from one of them.
    """
    every: dict[str, StudyLink] = {}
    episodes = {} if nbss is None else {episode.id: episode for episode in nbss.episodes}
    studies = {} if imagedb is None else imagedb.studies
    for uid, study in studies.items():
        every[uid] = StudyLink(None)
        if study.date is None:
            continue
        linked = study.episode_id if study.episode_id in episodes else None
        if linked is None:
            linked = next((one.id for one in episodes.values() if study.date in days_of(one)), None)
        if linked is not None:
            events = episodes[linked].events or ()
            on_day = [event.name for event in events if study.date in event.dates]
            every[uid] = StudyLink(linked, tuple(on_day or dict.fromkeys(event.name for event in events)))

    first = [uid for uid in studies if uid in in_data and uid[:1].isdecimal() and len(uid) > 1]
    unique = {uid: link if len(link.events) < 2 else StudyLink(link.episode) for uid, link in every.items()}
    kept = without_rivals(first, unique, studies, episodes)
    kept |= {
        uid: link
        for uid, link in without_rivals(list(studies), unique, studies, episodes).items()
        if uid not in first
    }
    return {uid: kept[uid] for uid in studies}, every


def days_of(episode: Episode) -> Iterator[datetime.date]:
    return (day for event in episode.events or () for day in event.dates)


def without_rivals(
    uids: list[str], links: dict[str, StudyLink], studies: dict[str, DbStudy], episodes: dict[str, Episode]
) -> dict[str, StudyLink]:
    """Return the links less the events that two studies claim (``ensure_distinct_study_event_links``)."""
    links = dict(links)

    def drop(uid: str) -> None:
        links[uid] = StudyLink(links[uid].episode)

    def is_dated(uid: str) -> bool:
        events = episodes[str(links[uid].episode)].events or ()
        return any(studies[uid].date in event.dates for event in events if event.name == links[uid].events[0])

    for position, one in enumerate(uids):
        for other in uids[position + 1 :]:
            if links[one].episode is None or links[one].episode != links[other].episode:
                continue
            if studies[one].date == studies[other].date:
                drop(one)
                drop(other)
            elif links[one].events and links[one].events == links[other].events:
                undated = [uid for uid in (one, other) if not is_dated(uid)]
                for uid in undated:
                    drop(uid)
    return links


# Headers ---------------------------------------------------------------------------------------------------

TEXTS = {
    "SOPInstanceUID": "00080018",
    "Manufacturer": "00080070",
    "ManufacturerModelName": "00081090",
    "PatientAge": "00101010",
    "PresentationIntentType": "00080068",
    "ViewPosition": "00185101",
    "Laterality": "00200060",
    "ImageLaterality": "00200062",
    "BreastImplantPresent": "00281300",
    "SOPClassUID": "00080016",
    "Modality": "00080060",
    "PhotometricInterpretation": "00280004",
    "PartialView": "00281350",
    "TransferSyntaxUID": "00020010",
    "PresentationLUTShape": "20500020",
    "SeriesInstanceUID": "0020000E",
    "AcquisitionDateTime": "0008002A",
    "AcquisitionDate": "00080022",
    "AcquisitionTime": "00080032",
    "ContentDate": "00080023",
    "ContentTime": "00080033",
}
WHOLE = {
    "Rows": ("00280010", 65535),
    "Columns": ("00280011", 65535),
    "NumberOfFrames": ("00280008", 65535),
    "SamplesPerPixel": ("00280002", 4),
    "BitsAllocated": ("00280100", 64),
    "BitsStored": ("00280101", 64),
    "PixelRepresentation": ("00280103", 1),
}
REAL = {"BodyPartThickness": "001811A0", "EstimatedRadiographicMagnificationFactor": "00181114"}
OF_FRAMES = ("BreastImplantPresent", "PartialView", *REAL)
REAL["InstanceNumber"] = "00200013"
SIZES = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored")
FORMAT = (
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated", "BitsStored"),
    *("PixelRepresentation", "PhotometricInterpretation", "PresentationLUTShape", "TransferSyntaxUID"),
)
STORAGE_OF_TOMOSYNTHESES = "1.2.840.10008.5.1.4.1.1.13.1.3"


def header_of(sidecar: Path | None, dcm: Path | None) -> Header:
    """Return the header of an image, from its sidecar, else from its DICOM file, else an empty one."""
    data = document(sidecar) if sidecar is not None else None
    if data is None and dcm is not None:
        data = of_dicom(dcm)
    return Header() if data is None else said_of(data)


def of_dicom(path: Path) -> Json | None:
    """Return the header of a DICOM file in the DICOM JSON model, or ``None`` without one."""
    try:
        with warnings.catch_warnings(action="ignore"):
            dataset = pydicom.dcmread(path, stop_before_pixels=True)
            for tag in list(dataset.keys()):
                raw = dataset.get_item(tag)
                if len(raw.value or b"") < getattr(raw, "length", 0) < 0xFFFFFFFF:
                    del dataset[tag]  # the file ends in it
            found: Json = dataset.to_json_dict()
            found["00020010"] = {"Value": [str(dataset.file_meta.TransferSyntaxUID)]}
    except Exception:  # no DICOM: pydicom raises different errors
        return None
    return found


def values(data: Json, tag: str) -> list[Any]:
    element = data.get(tag)
    found = element.get("Value") if isinstance(element, dict) else None
    return found if isinstance(found, list) else []


def stated(value: object) -> str | None:
    """Return a value as text, ``None`` if it is not stated."""
    found = str(value).strip(" \0") if isinstance(value, (str, int, float)) else ""
    return None if found in NOTHING else found


def number(value: object) -> float | None:
    try:
        return float(str(value))
    except ValueError:
        return None


def said_of(data: Json) -> Header:
    """Return the attributes of a dataset. Attributes of frames fill in for missing ones of the whole."""
    places = [data]
    frames = whole(stated(next(iter(values(data, "00280008")), None))) or 1
    sop_class = stated(next(iter(values(data, "00080016")), None))
    if frames > 1 or sop_class == STORAGE_OF_TOMOSYNTHESES:
        places += values(data, "00189507")[:1]
        for groups in ("52009229", "52009230"):
            for item in values(data, groups)[:1]:
                places += [one for macro in item for one in values(item, macro)[:1] if isinstance(one, dict)]

    def first(tag: str, within: list[Json]) -> object:
        return next((values(place, tag)[0] for place in within if values(place, tag)), None)

    def within(keyword: str) -> list[Json]:
        return places if keyword in OF_FRAMES else places[:1]

    found: Json = {keyword: stated(first(tag, within(keyword))) for keyword, tag in TEXTS.items()}
    for keyword, (tag, most) in WHOLE.items():
        numeral = number(first(tag, places[:1]))
        found[keyword] = int(numeral) if numeral is not None and 0 <= numeral <= most else None
    found |= {keyword: number(first(tag, within(keyword))) for keyword, tag in REAL.items()}
    oriented = next((each for place in places if (each := values(place, "00200020"))), [])[:2]
    ends = [stated(end) or "" for end in (*oriented, "", "")][:2]
    found["PatientOrientation"] = tuple(ends) if any(ends) else ()
    spaced = next((each for place in places if (each := values(place, "00181164"))), [])
    lengths = [length for one in spaced if (length := number(one)) is not None and 0 < length < 1000]
    found["ImagerPixelSpacing"] = tuple(lengths) if len(lengths) == len(spaced) == 2 else ()
    found["FrameLaterality"] = stated(first("00209072", places[1:]))
    found["ImageType"] = tuple(text for one in values(data, "00080008") if (text := stated(one)) is not None)
    viewed = next((place for place in places if values(place, "00540220")), data)
    view = next(iter(values(viewed, "00540220")), {})
    modifiers = [*values(view, "00540222"), *values(viewed, "00540222")]
    named = [stated(next(iter(values(one, "00080100")), None)) for one in modifiers]
    found["ViewCode"] = stated(next(iter(values(view, "00080100")), None))
    found["ViewModifierCodes"] = tuple(one for one in named if one is not None)
    return Header(**found)


# Pixels ----------------------------------------------------------------------------------------------------


def pixels_of(sidecar: Path | None, dcm: Path | None) -> Json:
    """Return the pixel format of an image. Its DICOM file gives the size if its sidecar does not."""
    said = header_of(sidecar, dcm)
    found = {keyword: getattr(said, keyword) for keyword in FORMAT}
    is_short = any(not found[keyword] for keyword in SIZES)
    is_short |= said.SOPClassUID == STORAGE_OF_TOMOSYNTHESES and not found["NumberOfFrames"]
    if is_short and dcm is not None and sidecar is not None:
        header = header_of(None, dcm)
        for keyword in FORMAT:
            if not found[keyword] and (keyword != "PixelRepresentation" or found[keyword] is None):
                found[keyword] = getattr(header, keyword)
    for keyword in (*SIZES, "NumberOfFrames"):
        found[keyword] = found[keyword] or None
    return found


def chest_wall_side(header: Header, laterality: str | None) -> str | None:
    """Return the side of the image at which the chest wall is."""
    rows = header.PatientOrientation[0].upper() if header.PatientOrientation else ""
    if rows in ("A", "P"):
        return "left" if rows == "A" else "right"
    return "left" if laterality == "L" else "right" if laterality == "R" else None


def rendered_size(name: str, pixels: Json) -> int | None:
    """Return the bytes of the rendition ``as-<name>`` of an image, ``None`` if it has none."""
    rows, columns, samples, allocated, stored = (pixels[keyword] for keyword in SIZES)
    frames = pixels["NumberOfFrames"] or 1
    if None in (rows, columns, samples, allocated, stored) or allocated not in (8, 16):
        return None
    if not 8 <= stored <= allocated or samples not in (1, 3):
        return None
    count = frames * rows * columns * samples
    format, _, size = name.partition("-")
    if format == "npy":
        return 128 + count * allocated // 8
    if format == "tiff":
        return 8 + 256 * frames + count * allocated // 8
    grey = pixels["PhotometricInterpretation"] in (None, "MONOCHROME1", "MONOCHROME2")
    colour = pixels["PhotometricInterpretation"] in (None, "RGB", "YBR_FULL", "YBR_FULL_422")
    if frames > 1 or not (
        grey
        if samples == 1
        else colour and (format, allocated) == ("png", 8) and not pixels["PixelRepresentation"]
    ):
        return None
    if "x" in size:
        rows, columns = map(int, size.split("x"))
    elif size and int(size) < max(rows, columns):
        scale = Fraction(int(size), max(rows, columns))
        rows, columns = (max(1, floor(one * scale + Fraction(1, 2))) for one in (rows, columns))
    line = 1 + columns * samples * (2 if format == "png16" else 1)
    return 63 + 5 * ceil(rows * line / 65535) + rows * line
