"""Unusual forms in real databases that are no problem: a reader must not report them.

``generate`` and the tests use the functions. Each changes a client of its own.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
from pydicom import Dataset
from pydicom.uid import BreastTomosynthesisImageStorage

from omidbfs.demo.equipment import VIEWS
from omidbfs.demo.imaging import Image, Study
from omidbfs.demo.subject import Make, Subject, dataset, described, edited, last_episode, listed

Json = dict[str, Any]

_TEXTS = {
    "F": "First Call",
    "R": "Routine Recall",
    "RR": "Routine recall for screening",
    "ST": "Surgical Treatment",
    "MA": "Mass",
    "MC": "Mass with calcification",
    "CA": "Calcification only",
    "DS": "Distortion",
    "AS": "Asymmetry",
    "R1": "Rad normal",
    "B5": "Malignant",
    "H5": "Hist malignant",
    "a": "In-situ",
    "b": "Invasive",
    "G2": "II",
    "NDH": "High",
    "IN": "Ductal/NST",
    # Side opinions are written as texts; these are their codes.
    "Normal": "ON",
    "Suspicious": "OS",
    "Malignant": "OM",
}


def _every(value: Any, change: Callable[[str], Any]) -> Any:
    """Return a JSON value with ``change`` applied to every text in it, but not to keys."""
    if isinstance(value, dict):
        return {key: _every(inner, change) for key, inner in value.items()}
    if isinstance(value, list):
        return [_every(inner, change) for inner in value]
    return change(value) if isinstance(value, str) else value


def _rewrite(path: Path, change: Callable[[str], Any]) -> None:
    path.write_bytes(orjson.dumps(_every(orjson.loads(path.read_bytes()), change)))


def _headers(c: Subject, change: Callable[[Json, Study, Image], None]) -> None:
    """Change every sidecar."""
    for study in c.client.studies:
        for image in study.images:
            with edited(c.sidecar(study, image)) as header:
                change(header, study, image)


def upper_case_documents(make: Make) -> None:
    """Name the documents NBSS_ and IMAGEDB_."""
    c = make()
    c.nbss.rename(c.nbss.with_name(f"NBSS_{c.client.name}.json"))
    c.imagedb.rename(c.imagedb.with_name(f"IMAGEDB_{c.client.name}.json"))


def sidecars_named_after_the_file(make: Make) -> None:
    """Name the sidecars of one study ``<image>.dcm.json``."""
    c = make()
    for image in c.first.images:
        sidecar = c.sidecar(c.first, image)
        sidecar.rename(sidecar.with_suffix(".dcm.json"))


def texts_and_codes(make: Make) -> None:
    """Write texts where other clients have codes, and the reverse."""
    c = make()
    _rewrite(c.nbss, lambda text: _TEXTS.get(text, text))


def compact_dates(make: Make) -> None:
    """Write dates as YYYYMMDD."""
    c = make()
    for document in (c.nbss, c.imagedb):
        _rewrite(document, lambda text: re.sub(r"^(\d{4})-(\d\d)-(\d\d)$", r"\1\2\3", text))


def ages(make: Make) -> None:
    """Write ages in every known form, and values that mean "not stated"."""
    c = make()
    elements: list[Json] = [
        {"vr": "AS", "Value": ["000Y"]},
        {"vr": "AS", "Value": ["780M"]},
        {"vr": "AS", "Value": ["65"]},
        {"vr": "AS", "Value": ["Data anonymised"]},
        {"vr": "AS", "Value": [""]},
        {"vr": "AS", "Value": [None]},
        {"vr": "AS", "Value": []},
        {"vr": "AS"},
    ]
    images = [(study, image) for study in (c.first, c.second) for image in study.images]
    for (study, image), element in zip(images, elements, strict=False):
        with edited(c.sidecar(study, image)) as header, dataset(c.dcm(study, image)) as dicom:
            header["00101010"] = element
            del dicom.PatientAge


def numbers(make: Make) -> None:
    """Write numbers instead of digits and the reverse, lists instead of commas, and flags that are not set."""
    c = make()
    boxes: tuple[Json, ...] = (
        {"MarkID": 11, "X1": 10, "Y1": 40, "X2": 16, "Y2": 46, "LinkedNBSSLesionNumber": "1", "Mass": "Mass"},
        {"MarkID": "12", "X1": "20", "Y1": "50", "X2": "26", "Y2": "56", "LinkedNBSSLesionNumber": "1,2"},
        {"MarkID": 13, "X1": "30", "Y1": "50", "X2": "36", "Y2": "56", "LinkedNBSSLesionNumber": "UNLINKED"},
        {"MarkID": 14, "X1": "10", "Y1": "50", "X2": "16", "Y2": "56", "LinkedNBSSLesionNumber": None, "Skin": 0},
        {"MarkID": 15, "X1": "10", "Y1": "60", "X2": "16", "Y2": "66", "Conspicuity": "", "Mass": ""},
        {"MarkID": 16, "X1": "20", "Y1": "60", "X2": "26", "Y2": "66", "LinkedNBSSLesionNumber": 1},
        {"MarkID": 17, "X1": "30", "Y1": "60", "X2": "36", "Y2": "66", "LinkedNBSSLesionNumber": [1, "2"]},
    )
    image = c.second.images[0]
    with listed(c, c.second) as study:
        study[image.series][image.uid] = {str(number): box for number, box in enumerate(boxes)}
    with last_episode(c) as episode:
        episode["ActualEpisodeOpenedYear"] = int(episode["ActualEpisodeOpenedYear"])
        episode["PatientAge"] = str(episode["PatientAge"])
        episode["EpisodeClosedDate"] = int(episode["EpisodeClosedDate"].replace("-", ""))
        episode["StudyList"] = episode["StudyList"].split(",")


def manufacturers(make: Make) -> None:
    """Write other names of manufacturers, and models in free text."""
    makers = ("LORAD", "Philips Medical Systems", "GE HEALTHCARE", "Hologic, Inc. ", "Data anonymised", "")

    def change(header: Json, study: Study, image: Image) -> None:
        header["00080070"]["Value"] = [makers[image.number % len(makers)]]
        header["00081090"]["Value"] = ["Mammomat 3000/Nova (ö), ver. 2"]
        with dataset(c.dcm(study, image)) as dicom:
            del dicom.Manufacturer, dicom.ManufacturerModelName

    c = make()
    _headers(c, change)


def sides_in_views(make: Make) -> None:
    """Put the side before the view (LMLO, RIGHT CC); in half of the images only there or in the series."""
    words = {"L": "LEFT", "R": "RIGHT"}

    def change(header: Json, study: Study, image: Image) -> None:
        if image.view != "SPECIMEN":
            sides = (image.side, f"{words[image.side]} ", f"{image.side}-")
            header["00185101"]["Value"] = [sides[image.number % 3] + image.view]
        header["00200062"]["Value"] = [words[image.side] if image.number % 2 else "U"]
        if image.view == "SPECIMEN" or image.number % 4 == 2:
            header["00200060"] = {"vr": "CS", "Value": [image.side]}

    _headers(make(), change)


def modifiers_in_views(make: Make) -> None:
    """State in ViewPosition only, without codes, that implants were displaced (CCID)."""

    def change(header: Json, study: Study, image: Image) -> None:
        if study is c.first:
            header["00185101"]["Value"] = [f"{image.view}ID"]
        if image.number % 2:
            del header["00540220"]

    c = make()
    _headers(c, change)


def tomosyntheses(make: Make) -> None:
    """Turn one study into tomosyntheses with side and thickness in sequences, the other into their 2D images."""
    kinds = (["ORIGINAL", "PRIMARY", "TOMO_PROJ"], ["DERIVED", "PRIMARY", "TOMOSYNTHESIS", "GENERATED_2D"])
    c = make()
    for study in (c.first, c.second):
        for image in study.images:
            with dataset(c.dcm(study, image)) as dicom:
                if study is c.second:
                    dicom.ImageType = kinds[image.number % 2]
                else:
                    _as_tomosynthesis(dicom, image)
                c.sidecar(study, image).write_bytes(orjson.dumps(described(dicom)))


def _as_tomosynthesis(dicom: Dataset, image: Image) -> None:
    dicom.SOPClassUID = dicom.file_meta.MediaStorageSOPClassUID = BreastTomosynthesisImageStorage
    dicom.NumberOfFrames = 1
    anatomy, group, acquisition = Dataset(), Dataset(), Dataset()
    anatomy.FrameLaterality, group.FrameAnatomySequence = image.side, [anatomy]
    acquisition.BodyPartThickness = dicom.BodyPartThickness
    dicom.XRay3DAcquisitionSequence = [acquisition]
    del dicom.ImageLaterality, dicom.BodyPartThickness
    if image.number % 2:
        dicom.SharedFunctionalGroupsSequence = [group]
    else:
        dicom.PerFrameFunctionalGroupsSequence = [group]


def snomed_ct(make: Make) -> None:
    """State views by codes of the current standard (PS3.16, CID 4014), or by ViewPosition alone."""
    codes = {"CC": "399162004", "MLO": "399368009", "ML": "399260004", "XCCL": "399192008"}

    def change(header: Json, study: Study, image: Image) -> None:
        if study is c.first:
            del header["00540220"]
            return
        item = header["00540220"]["Value"][0]
        assert item["00080100"]["Value"] == [VIEWS[image.view].code]
        item["00080100"]["Value"] = [codes.get(image.view, "127457009")]
        item["00080102"]["Value"] = ["SCT"]
        del item["00540222"]

    c = make()
    _headers(c, change)


def bare_records(make: Make) -> None:
    """Delete all optional values of NBSS, and write null or "" instead of events."""
    c = make()
    with edited(c.nbss) as nbss:
        del nbss["ClientID"], nbss["Classification"]
        for episode in nbss.values():
            for key in ("EpisodeAction", "EpisodeIsClosed", "EpisodeClosedDate", "PatientAge", "StudyList"):
                del episode[key]
            episode |= {"CLINICAL": None, "BIOPSYFINE": "", "ActualEpisodeOpenedYear": "", "LESION": None}
            episode["SCREENING"]["L"] = None
    with last_episode(c) as episode:
        episode["SURGERY"] |= {"L": None, "R": "", "dateperformed": None}
    with edited(c.imagedb) as imagedb:
        del imagedb["ClientID"]


def anonymised(make: Make) -> None:
    """Write "Data anonymised" instead of values; it counts as empty."""

    def change(header: Json, study: Study, image: Image) -> None:
        for tag in ("00081090", "00185101", "00281300"):
            header[tag]["Value"] = ["Data anonymised"]

    c = make()
    _headers(c, change)
    with last_episode(c) as episode:
        episode["EpisodeAction"] = episode["EpisodeClosedDate"] = "Data anonymised"


def empty_elements(make: Make) -> None:
    """Write elements without values: an empty Value, or none."""

    def change(header: Json, study: Study, image: Image) -> None:
        for tag in ("00080070", "00101010", "00185101", "00281300"):
            header[tag] = {"vr": header[tag]["vr"], "Value": []} if image.number % 2 else {"vr": header[tag]["vr"]}
        header["00540220"] = {"vr": "SQ", "Value": []}

    _headers(make(), change)


def images_without_marks(make: Make) -> None:
    """Write null, "" and {} for images without marks."""
    c = make()
    with listed(c, c.first) as study:
        values: tuple[Json | str | None, ...] = (None, "", {}, None)
        for image, value in zip(c.first.images, values, strict=False):
            study[image.series][image.uid] = value


VARIANTS = (
    upper_case_documents,
    sidecars_named_after_the_file,
    texts_and_codes,
    compact_dates,
    ages,
    numbers,
    manufacturers,
    sides_in_views,
    modifiers_in_views,
    tomosyntheses,
    snomed_ct,
    bare_records,
    anonymised,
    empty_elements,
    images_without_marks,
)
"""The variants. They return nothing, since there is nothing to report."""
