"""The attributes of an image, from sidecars and DICOM headers in every state."""

import contextlib
import io
import json
import math
import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pydicom
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalMammographyXRayImageStorageForPresentation, ExplicitVRLittleEndian

from omidbfs.database import sidecar
from omidbfs.database.dicom import MAX_DICOM, dicom_texts, read_dicom
from omidbfs.database.header import (
    NUMBERS,
    TAGS,
    Header,
    JsonError,
    load_json,
)
from omidbfs.database.sidecar import decode_sidecar


def element(*values: object, vr: str = "CS") -> dict[str, object]:
    return {"vr": vr, "Value": list(values)}


WHOLE: dict[str, object] = {
    "00020010": element("1.2.840.10008.1.2.1", vr="UI"),
    "00080016": element("1.2.840.10008.5.1.4.1.1.1.2", vr="UI"),
    "00080018": element("1.2.3", vr="UI"),
    "00080060": element("MG"),
    "00181114": element(1.07, vr="DS"),
    "001811A0": element("58", vr="DS"),
    "00280004": element("MONOCHROME2"),
    "00280008": element("1", vr="IS"),
    "00280010": element(3328, vr="US"),
    "00280011": element(2560, vr="US"),
    "00281350": element("NO"),
    "00080008": element("DERIVED", "PRIMARY", "", "GENERATED_2D"),
    "0020000E": element("1.2.4", vr="UI"),
    "00200020": element("A", "FR"),
    "00181164": element(0.07, "0.08", vr="DS"),
    "00280002": element(1, vr="US"),
    "00280100": element(16, vr="US"),
    "00280101": element(12, vr="US"),
    "00280103": element(0, vr="US"),
    "20500020": element("INVERSE"),
    "00080068": element("FOR PRESENTATION"),
    "00080070": element("HOLOGIC, Inc.", vr="LO"),
    "00081090": element("Lorad Selenia", vr="LO"),
    "00101010": element("064Y", vr="AS"),
    "00185101": element("MLO"),
    "00200060": element("R"),
    "00200062": element("L"),
    "00281300": element("NO"),
    "00540220": element(
        {
            "00080100": element("R-10226", vr="SH"),
            "00080104": element("medio-lateral oblique", vr="LO"),
            "00540222": element(
                {"00080100": element("R-102D6", vr="SH")}, {"00080100": element("R-102D7", vr="SH")}, vr="SQ"
            ),
        },
        vr="SQ",
    ),
}
HEADER = Header(
    SOPInstanceUID="1.2.3",
    Manufacturer="HOLOGIC, Inc.",
    ManufacturerModelName="Lorad Selenia",
    PatientAge="064Y",
    PresentationIntentType="FOR PRESENTATION",
    ViewPosition="MLO",
    Laterality="R",
    ImageLaterality="L",
    BreastImplantPresent="NO",
    SOPClassUID="1.2.840.10008.5.1.4.1.1.1.2",
    Modality="MG",
    PhotometricInterpretation="MONOCHROME2",
    PartialView="NO",
    TransferSyntaxUID="1.2.840.10008.1.2.1",
    Rows=3328,
    Columns=2560,
    NumberOfFrames=1,
    BodyPartThickness=58.0,
    EstimatedRadiographicMagnificationFactor=1.07,
    ViewCode="R-10226",
    ViewModifierCodes=("R-102D6", "R-102D7"),
    ImageType=("DERIVED", "PRIMARY", "GENERATED_2D"),
    PresentationLUTShape="INVERSE",
    SeriesInstanceUID="1.2.4",
    SamplesPerPixel=1,
    BitsAllocated=16,
    BitsStored=12,
    PixelRepresentation=0,
    PatientOrientation=("A", "FR"),
    ImagerPixelSpacing=(0.07, 0.08),
)
Reports = list[tuple[str, str]]


def decoded(document: object) -> tuple[Header, Reports]:
    reports: Reports = []
    content = document if isinstance(document, bytes) else json.dumps(document).encode()
    return decode_sidecar(content, lambda kind, detail: reports.append((kind, detail))), reports


def position(value: object) -> tuple[str | None, Reports]:
    """Return the view position of a sidecar with ``value`` there, from both decoders."""
    typed, no_reports = decoded({"00185101": value}) if is_typed(value) else (None, [])
    header, reports = decoded({"00185101": value, "00101010": element(65)})  # a number is for the lenient one
    if typed is not None:
        assert (typed.ViewPosition, no_reports) == (header.ViewPosition, reports)
    return header.ViewPosition, reports


def is_typed(value: object) -> bool:
    values = value.get("Value") if isinstance(value, dict) else None
    typed = values is None or (isinstance(values, list) and all(v is None or isinstance(v, str) for v in values))
    return value is None or (isinstance(value, dict) and typed)


def test_every_attribute_is_read() -> None:
    assert decoded(WHOLE) == (HEADER, [])


OWN = {
    "SOPInstanceUID": ("00080018", "1.2.5"),
    "PatientAge": ("00101010", "066Y"),
    "EstimatedRadiographicMagnificationFactor": ("00181114", 1.25),
    "BodyPartThickness": ("001811A0", 33.5),
    "SeriesInstanceUID": ("0020000E", "1.2.6"),
}


@pytest.mark.parametrize("keyword", OWN)
def test_what_one_sidecar_states_alone_is_not_that_of_another(keyword: str) -> None:
    tag, value = OWN[keyword]
    header, reports = decoded({**WHOLE, tag: element(value)})
    assert (header, reports) == (msgspec.structs.replace(HEADER, **{keyword: value}), [])
    without, _ = decoded({other: found for other, found in WHOLE.items() if other != tag})
    assert without == msgspec.structs.replace(HEADER, **{keyword: None})
    assert decoded(WHOLE) == (HEADER, [])


def test_equal_attributes_of_sidecars_are_decoded_once() -> None:
    first = decoded({**WHOLE, "00080070": element("A new vendor")})[0]
    before = sidecar._shared.cache_info()
    second = decoded({**WHOLE, "00080070": element("A new vendor"), "00080018": element("1.2.7")})[0]
    after = sidecar._shared.cache_info()
    assert (after.misses, after.hits) == (before.misses, before.hits + 1)
    assert second.Manufacturer is first.Manufacturer
    assert decoded({**WHOLE, "00080070": element("Another vendor")})[0].Manufacturer == "Another vendor"


def test_long_attributes_are_not_remembered() -> None:
    long = {**WHOLE, "00080070": element("long" * 3000)}
    before = sidecar._shared.cache_info()
    assert decoded(long) == decoded(long)
    assert decoded(long)[0].Manufacturer == "long" * 3000
    assert sidecar._shared.cache_info() == before


def test_what_is_unusual_is_reported_of_each_sidecar() -> None:
    unusual = {**WHOLE, "00280010": element(-1)}
    assert decoded(unusual) == decoded(unusual)
    assert decoded(unusual)[1]


def test_a_byte_that_json_does_not_have_moves_no_attribute() -> None:
    content = json.dumps(WHOLE).encode()
    odd = content.replace(b'"00080070"', b'\0"00080070"')
    with pytest.raises(JsonError):
        decoded(odd)


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + json.dumps(WHOLE).encode(),
        json.dumps(WHOLE).encode("utf-16"),
        json.dumps({**WHOLE, "00180060": element(float("nan"), vr="DS")}).encode(),
        json.dumps({**WHOLE, "00180060": element(10**400, vr="DS")}).encode(),
        json.dumps({**WHOLE, "00104000": element("\ud800", vr="LT")}).encode(),
        json.dumps(WHOLE, indent=4).encode() + b"\r\n",
    ],
    ids=["byte order mark", "UTF-16", "NaN", "huge integer", "lone surrogate", "indented"],
)
def test_what_only_a_tolerant_parser_reads_is_read(content: bytes) -> None:
    assert decoded(content) == (HEADER, [])


def test_an_attribute_is_found_by_its_place_in_the_dataset() -> None:
    nested = {tag: element("nested") for tag in TAGS.values()}
    other_view = {"00080100": element("R-10242"), "00540222": element({"00080100": element("R-102D2")})}
    around = {"00081250": element({**nested, "00540220": element(other_view)}, vr="SQ")}
    assert decoded({**around, **WHOLE})[0] == decoded({**WHOLE, **around})[0] == HEADER
    assert decoded(around)[0] == Header()
    only_code_meaning = {"00540220": element({"00082218": element({"00080100": element("T-04000")})})}
    assert decoded(only_code_meaning)[0].ViewCode is None


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        {"vr": "CS"},
        {"Value": None},
        {"Value": []},
        {"Value": [None]},
        {"Value": [""]},
        {"Value": ["  "]},
        {"Value": ["\0"]},
        {"Value": ["Data anonymised"]},
        {"Value": [" Data anonymised "]},
    ],
    ids=json.dumps,
)
def test_an_unstated_value_is_absent_and_no_problem(value: object) -> None:
    assert position(value) == (None, [])


@pytest.mark.parametrize(
    ("value", "text"),
    [(element("CC"), "CC"), (element(" CC\0"), "CC"), (element("CC", "CC"), "CC"), (element("CC", None), "CC")],
)
def test_the_first_value_counts_without_its_padding(value: object, text: str) -> None:
    assert position(value) == (text, [])


def test_of_values_that_differ_the_first_counts_and_they_are_reported() -> None:
    assert position(element("CC", "MLO")) == (
        "CC",
        [("odd-value", "ViewPosition has 2 values; the first is used")],
    )
    header, reports = decoded({"00280010": element(80, 90, vr="US"), "00080008": element("ORIGINAL", "PRIMARY")})
    assert (header.Rows, header.ImageType) == (80, ("ORIGINAL", "PRIMARY"))
    assert reports == [("odd-value", "Rows has 2 values; the first is used")]


@pytest.mark.parametrize(
    ("tag", "value", "problem"),
    [
        ("00280010", "abc", "Rows is 'abc', not a number from 0 to 65535"),
        ("00280010", -1, "Rows is -1, not a number from 0 to 65535"),
        ("00280011", 70000, "Columns is 70000, not a number from 0 to 65535"),
        ("001811A0", "55,5", "BodyPartThickness is '55,5', not a finite number"),
        ("001811A0", "inf", "BodyPartThickness is 'inf', not a finite number"),
        ("001811A0", [], "BodyPartThickness is a list, not a finite number"),
        ("001811A0", 10**400, "BodyPartThickness is a number, not a finite number"),
        ("001811A0", "", None),
        ("001811A0", "Data anonymised", None),
        ("001811A0", None, None),
    ],
)
def test_a_number_that_is_none_is_reported_and_counts_as_absent(
    tag: str, value: object, problem: str | None
) -> None:
    header, reports = decoded({**WHOLE, tag: element(value)})
    assert getattr(header, next(keyword for keyword, one in NUMBERS.items() if one == tag)) is None
    assert reports == ([("odd-value", problem)] if problem else [])


@pytest.mark.parametrize(("value", "text"), [(65, "65"), (6.5, "6.5")])
def test_a_number_reads_as_text(value: object, text: str) -> None:
    assert position(element(value)) == (text, [])


@pytest.mark.parametrize("value", [element([]), element({"Alphabetic": "CC"}), element(True)], ids=json.dumps)
def test_a_value_that_is_no_text_is_reported(value: object) -> None:
    assert position(value) == (None, [("odd-value", "00185101 holds neither text nor a number")])


@pytest.mark.parametrize("value", ["CC", 5, ["CC"], {"Value": "CC"}, {"Value": {"0": "CC"}}], ids=json.dumps)
def test_an_attribute_in_another_form_is_reported(value: object) -> None:
    assert position(value) == (None, [("odd-value", "00185101 is not in the form of the DICOM JSON model")])


def test_one_odd_value_costs_no_other() -> None:
    header, reports = decoded({**WHOLE, "00101010": element({})})
    assert (header.PatientAge, header.ViewPosition, header.ViewCode) == (None, "MLO", "R-10226")
    assert [kind for kind, _ in reports] == ["odd-value"]


@pytest.mark.parametrize(
    "modifiers",
    [None, {}, element(), element(None), element({}), element({"00080100": element()}), element("x"), [], "x"],
    ids=json.dumps,
)
def test_view_modifiers_without_a_code_are_none(modifiers: object) -> None:
    view = {"00080100": element("R-10226"), "00540222": modifiers}
    header, _ = decoded({**WHOLE, "00540220": element(view)})
    assert (header.ViewCode, header.ViewModifierCodes) == ("R-10226", ())


def test_modifiers_beside_the_view_count_with_those_in_it() -> None:
    beside = element({"00080100": element("R-102D5", vr="SH")}, vr="SQ")
    header, _ = decoded({**WHOLE, "00540222": beside})
    assert header.ViewModifierCodes == ("R-102D6", "R-102D7", "R-102D5")
    assert decoded({"00540222": beside})[0] == Header(ViewModifierCodes=("R-102D5",))


@pytest.mark.parametrize("views", [None, {}, element(), element(None), element("x"), [], "x"], ids=json.dumps)
def test_a_view_sequence_without_a_view_costs_nothing_else(views: object) -> None:
    header, _ = decoded({**WHOLE, "00540220": views})
    assert (header.ViewCode, header.ViewPosition) == (None, "MLO")


TOMOSYNTHESIS = "1.2.840.10008.5.1.4.1.1.13.1.3"


def frames(**groups: dict[str, object]) -> dict[str, object]:
    """Return a tomosynthesis with all attributes in its acquisition and functional groups."""
    tags = {"shared": "52009229", "frames": "52009230"}
    document = {tags[name]: element(group, {"00209071": element("x")}, vr="SQ") for name, group in groups.items()}
    return {"00080016": element(TOMOSYNTHESIS, vr="UI"), **document}


@pytest.mark.parametrize("place", ["shared", "frames"])
def test_functional_groups_fill_in_missing_attributes(place: str) -> None:
    group: dict[str, object] = {
        "00209071": element({"00209072": element("R")}, vr="SQ"),
        "00189476": element({"00181114": element("1.1", vr="DS"), "001811A0": element("61", vr="DS")}, vr="SQ"),
        "00081140": element({"00081155": element("1.2.9", vr="UI")}, vr="SQ"),
        "00189999": element({"00281300": element("YES"), "00540220": WHOLE["00540220"]}, vr="SQ"),
    }
    header, reports = decoded(frames(**{place: group}))
    assert (header.FrameLaterality, header.BodyPartThickness, header.BreastImplantPresent) == ("R", 61, "YES")
    assert header.EstimatedRadiographicMagnificationFactor == 1.1
    assert (header.ViewCode, header.ViewModifierCodes) == (HEADER.ViewCode, HEADER.ViewModifierCodes)
    assert (header.ImageLaterality, reports) == (None, [])


def test_what_the_whole_says_wins_over_shared_groups_and_these_over_the_first_frame() -> None:
    shared: dict[str, object] = {"00209071": element({"00209072": element("L")}, vr="SQ")}
    frame: dict[str, object] = {
        "00209071": element({"00209072": element("R")}, vr="SQ"),
        "00189476": element({"001811A0": element("61", vr="DS")}, vr="SQ"),
    }
    document = frames(shared=shared, frames=frame) | {"001811A0": element("50", vr="DS")}
    header, _ = decoded(document)
    assert (header.FrameLaterality, header.BodyPartThickness) == ("L", 50)
    assert decoded({**document, "00101010": element(64)})[0] == msgspec.structs.replace(header, PatientAge="64")


def test_the_acquisition_of_a_tomosynthesis_says_thickness_and_magnification() -> None:
    acquisition = element({"001811A0": element("61", vr="DS"), "00181114": element("1.1", vr="DS")}, vr="SQ")
    header, _ = decoded({**frames(), "00189507": acquisition})
    assert (header.BodyPartThickness, header.EstimatedRadiographicMagnificationFactor) == (61, 1.1)
    assert decoded({"00080016": WHOLE["00080016"], "00189507": acquisition})[0].BodyPartThickness is None


def test_a_key_of_a_functional_group_that_is_no_tag_is_no_attribute() -> None:
    document = frames(shared={"1" * 5000: {"vr": "SQ", "Value": "L"}, "FrameLaterality": "L"})
    assert decoded(document) == (Header(SOPClassUID=TOMOSYNTHESIS), [])
    _, reports = decoded(frames(shared={"00209071": {"vr": "SQ", "Value": "L"}}))
    assert [kind for kind, _ in reports] == ["odd-value"]


@pytest.mark.parametrize("odd", ["\ud800", 10**400, float("nan")])
def test_functional_groups_that_only_a_tolerant_parser_reads_are_read(odd: object) -> None:
    group: dict[str, object] = {
        "00209071": element({"00209072": element("R"), "00204000": element(odd)}, vr="SQ"),
    }
    assert decoded(frames(shared=group)) == (Header(SOPClassUID=TOMOSYNTHESIS, FrameLaterality="R"), [])


def test_functional_groups_that_cannot_be_read_cost_nothing_else() -> None:
    content = json.dumps({**frames(), "00104000": element("x"), **{"00185101": element("CC")}}).encode()
    header, reports = decoded(content.replace(b'"x"', b'"\xff"'))
    assert (header.ViewPosition, reports[0][0]) == ("CC", "odd-value")


@pytest.mark.parametrize("odd", [None, "x", [], {}, element(), element("x"), element({"00209071": "x"})])
def test_functional_groups_in_any_form_cost_nothing_else(odd: object) -> None:
    document = {**WHOLE, "00080016": element(TOMOSYNTHESIS, vr="UI"), "52009229": odd, "52009230": odd}
    assert decoded(document)[0] == msgspec.structs.replace(HEADER, SOPClassUID=TOMOSYNTHESIS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty file"),
        (b" \r\n", "empty file"),
        (b"\0" * 64, "cut off or not valid JSON"),
        (b"{", "cut off or not valid JSON"),
        (b"[" * 200_000, "cut off or not valid JSON"),
        (b'{"a":' * 200_000, "cut off or not valid JSON"),
        (b"\xff\xfe\xff", "cut off or not valid JSON"),
        (b"<html>", "cut off or not valid JSON"),
        (b"[]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'"text"', "not a JSON object"),
        (b"NaN", "not a JSON object"),
    ],
    ids=lambda value: repr(value[:12]),
)
def test_what_is_no_json_object_is_refused_without_being_quoted(content: bytes, message: str) -> None:
    with pytest.raises(JsonError, match=f"^{message}$"):
        load_json(content)
    with pytest.raises(JsonError, match=f"^{message}$"):
        decoded(content)


def test_a_sidecar_cut_off_anywhere_is_refused() -> None:
    content = json.dumps(WHOLE).encode()
    for length in range(len(content)):
        with pytest.raises(JsonError):
            decoded(content[:length])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["Value", "vr", *TAGS.values()]), inner)
    ),
    max_leaves=12,
)
tags = st.sampled_from(
    [*TAGS.values(), *NUMBERS.values(), "00540220", "00540222", "00080100", "00080008", "52009229", "00189507"]
)


@given(st.dictionaries(tags, json_values | st.builds(element, json_values), max_size=6))
@example({"00540220": {"Value": [{"00540222": {"Value": [[]]}}]}})
@example({"00185101": {"Value": [float("inf")]}})
def test_any_json_object_gives_a_header_of_texts(document: dict[str, object]) -> None:
    header, reports = decoded(document)
    for keyword in TAGS:
        text = getattr(header, keyword)
        assert text is None or (isinstance(text, str) and text.strip())
    for keyword in NUMBERS:
        number = getattr(header, keyword)
        assert number is None or (isinstance(number, (int, float)) and math.isfinite(number))
    assert {kind for kind, _ in reports} <= {"odd-value"}


@given(st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_give_a_header_or_a_json_error(content: bytes) -> None:
    with contextlib.suppress(JsonError):
        assert isinstance(decoded(content)[0], Header)


@given(st.dictionaries(tags, st.builds(element, st.text(max_size=4) | st.none()), max_size=6))
def test_both_decoders_read_alike(document: dict[str, object]) -> None:
    typed, reports = decoded(orjson.dumps(document))
    lenient, same = decoded(orjson.dumps({**document, "00101010": element(1)}))
    assert sorted(reports) == sorted(same)
    for keyword in (*TAGS, *NUMBERS):
        if keyword != "PatientAge":
            assert getattr(typed, keyword) == getattr(lenient, keyword)
    for keyword in ("ViewCode", "ViewModifierCodes", "PatientOrientation", "ImagerPixelSpacing"):
        assert getattr(typed, keyword) == getattr(lenient, keyword)


ABSURD: tuple[tuple[str, tuple[object, ...], str], ...] = (
    ("00280010", (-1,), "Rows is -1, not a number from 0 to 65535"),
    ("00280011", ("wide",), "Columns is 'wide', not a number from 0 to 65535"),
    ("00280008", (1e300,), "NumberOfFrames is 1e+300, not a number from 0 to 65535"),
    ("00280002", (5,), "SamplesPerPixel is 5, not a number from 0 to 4"),
    ("00280100", (65,), "BitsAllocated is 65, not a number from 0 to 64"),
    ("00280101", ({},), "BitsStored is an object, not a number from 0 to 64"),
    ("00280103", (2,), "PixelRepresentation is 2, not a number from 0 to 1"),
    ("00181164", (0.07, -0.07), "ImagerPixelSpacing does not hold two lengths in mm"),
    ("00181164", (0.07, 1000.0), "ImagerPixelSpacing does not hold two lengths in mm"),
    ("00181164", (0.07,), "ImagerPixelSpacing does not hold two lengths in mm"),
    ("00181164", (0.07, 0.07, 0.07), "ImagerPixelSpacing does not hold two lengths in mm"),
    ("00181164", (0.07, "x"), "ImagerPixelSpacing is 'x', not a finite number"),
    ("00181164", (True, 0.07), "ImagerPixelSpacing is a boolean, not a finite number"),
    ("00200020", (1, 2), "PatientOrientation has 2 values, not two texts"),
)


@pytest.mark.parametrize(("tag", "values", "detail"), ABSURD)
def test_what_pixels_cannot_be_is_reported_and_unknown(tag: str, values: tuple[object, ...], detail: str) -> None:
    header, reports = decoded({tag: element(*values)})
    assert (header, reports) == (Header(), [("odd-value", detail)])
    lenient, reports = decoded({tag: element(*values), "00101010": element(65)})
    assert (lenient, reports) == (Header(PatientAge="65"), [("odd-value", detail)])


@pytest.mark.parametrize(
    ("values", "orientation"),
    [
        (["A", "R"], ("A", "R")),
        ([" P ", None], ("P", "")),
        (["", "FL"], ("", "FL")),
        (["A"], ("A", "")),
        ([None, ""], ()),
        (["Data anonymised", "Data anonymised"], ()),
    ],
)
def test_an_orientation_has_two_ends_or_none(values: list[str | None], orientation: tuple[str, ...]) -> None:
    assert decoded({"00200020": element(*values)}) == (Header(PatientOrientation=orientation), [])
    header, reports = decoded({"00200020": element(*values), "00101010": element(65)})
    assert (header.PatientOrientation, reports) == (orientation, [])


# DICOM -----------------------------------------------------------------------------------------------------


def mammogram() -> Dataset:
    """Return a data set with the attributes of WHOLE and a few pixels."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = DigitalMammographyXRayImageStorageForPresentation
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    for keyword in (*TAGS, *NUMBERS):
        if keyword != "TransferSyntaxUID":
            setattr(data, keyword, getattr(HEADER, keyword))
    data.ImageType = ["DERIVED", "PRIMARY", "", "GENERATED_2D"]
    data.PatientOrientation, data.ImagerPixelSpacing = ["A", "FR"], ["0.07", "0.08"]
    view = Dataset()
    view.CodeValue = HEADER.ViewCode
    view.ViewModifierCodeSequence = []
    for code in HEADER.ViewModifierCodes:
        modifier = Dataset()
        modifier.CodeValue = code
        view.ViewModifierCodeSequence.append(modifier)
    data.ViewCodeSequence = [view]
    data.PixelData = b"\0" * 32
    data["PixelData"].VR = "OW"
    return data


def stored(data: Dataset, **options: Any) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of these files are damaged on purpose
        data.save_as(stream, enforce_file_format=True, **options)
    return stream.getvalue()


@pytest.fixture(scope="module")
def scratch() -> Iterator[int]:
    with tempfile.TemporaryFile() as file:
        yield file.fileno()


def read(scratch: int, content: bytes) -> tuple[Header, Reports]:
    """Return the header in a file of this content, and the problems in it."""
    os.ftruncate(scratch, 0)
    os.pwrite(scratch, content, 0)
    reports: Reports = []
    return read_dicom(scratch, lambda kind, detail: reports.append((kind, detail))), reports


def test_a_dicom_header_says_what_its_sidecar_says(scratch: int) -> None:
    data = mammogram()
    assert read(scratch, stored(data)) == (HEADER, [])
    document = json.loads(data.to_json()) | {"00020010": WHOLE["00020010"]}  # as OMI-DB adds it
    assert decoded(document) == (HEADER, [])


def test_the_descriptor_stays_open(scratch: int) -> None:
    read(scratch, stored(mammogram()))
    assert os.fstat(scratch).st_size > 0


@pytest.mark.parametrize("syntax", ["ImplicitVRLittleEndian", "DeflatedExplicitVRLittleEndian"])
def test_other_transfer_syntaxes_are_read(scratch: int, syntax: str) -> None:
    data = mammogram()
    data.file_meta.TransferSyntaxUID = getattr(pydicom.uid, syntax)
    expected = msgspec.structs.replace(HEADER, TransferSyntaxUID=getattr(pydicom.uid, syntax))
    assert read(scratch, stored(data)) == (expected, [])


def test_nothing_stated_in_a_dicom_header_is_nothing(scratch: int) -> None:
    data = mammogram()
    data.Manufacturer = "Data anonymised"
    data.ViewPosition = ""
    data.PatientAge = None
    del data.ImageLaterality
    data.ViewCodeSequence = []
    header, _ = read(scratch, stored(data))
    assert header.Manufacturer is header.ViewPosition is header.PatientAge is header.ImageLaterality is None
    assert (header.ViewCode, header.ViewModifierCodes) == (None, ())
    assert header.Laterality == "R"


def test_values_that_dicom_does_not_allow_are_read_all_the_same(scratch: int) -> None:
    data = mammogram()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data.PatientAge = "sixty-four"
        data.ViewPosition = ["MLO", "CC"]
        data.Manufacturer = "x" * 100
    header, _ = read(scratch, stored(data))
    assert (header.PatientAge, header.ViewPosition) == ("sixty-four", "MLO")
    assert header.Manufacturer == "x" * 100


def test_a_view_without_code_or_modifiers_is_a_view_without_them(scratch: int) -> None:
    data = mammogram()
    data.ViewCodeSequence = [Dataset()]
    header, _ = read(scratch, stored(data))
    assert (header.ViewCode, header.ViewModifierCodes, header.ViewPosition) == (None, (), "MLO")


def test_nested_attributes_of_a_dicom_header_are_not_taken_for_its_own(scratch: int) -> None:
    data = mammogram()
    other = mammogram()
    other.ViewPosition, other.Laterality = "CC", "L"
    del other.PixelData
    data.RelatedSeriesSequence = data.SourceImageSequence = [other]
    assert read(scratch, stored(data)) == (HEADER, [])


@pytest.mark.parametrize("undefined_length", [False, True])
def test_a_file_cut_off_at_any_length_keeps_what_stands_before(scratch: int, undefined_length: bool) -> None:
    data = mammogram()
    data["ViewCodeSequence"].is_undefined_length = undefined_length
    data.ViewCodeSequence[0]["ViewModifierCodeSequence"].is_undefined_length = undefined_length
    content = stored(data)
    for length in range(len(content)):
        header, reports = read(scratch, content[:length])
        assert {kind for kind, _ in reports} <= {"bad-dicom"}
        assert reports or length > 128
        for keyword in (*TAGS, *NUMBERS):  # missing, but never half a value: "ML" is another view than "MLO"
            assert getattr(header, keyword) in (None, getattr(HEADER, keyword))
        assert header.ViewCode in (None, HEADER.ViewCode)
        assert set(header.ViewModifierCodes) <= set(HEADER.ViewModifierCodes)
        if length > content.index(b"\x54\0\x20\x02"):
            assert header.Rows == HEADER.Rows
            assert header.ImageLaterality == HEADER.ImageLaterality


def private(data: Dataset, group: int, size: int) -> Dataset:
    """Add a private sequence of undefined length, as of Hologic, with ``size`` bytes."""
    item = Dataset()
    item.add_new((group, 0x0010), "LO", "HOLOGIC, Inc.")
    item.add_new((group, 0x1012), "OB", b"\1" * size)
    data.add_new((group, 0x0010), "LO", "HOLOGIC, Inc.")
    data.add_new((group, 0x1010), "SQ", [item])
    data[group, 0x1010].is_undefined_length = True
    return data


@pytest.mark.parametrize("cut", [0, 1 << 10])
def test_nothing_is_read_behind_the_last_attribute_that_is_wanted(scratch: int, cut: int) -> None:
    content = stored(private(mammogram(), 0x0055, MAX_DICOM + 2))
    header = msgspec.structs.replace(HEADER, PresentationLUTShape=None)  # this attribute is behind all others
    assert read(scratch, content[: len(content) - cut]) == (header, [])


def test_an_attribute_far_behind_all_others_gives_no_problem(scratch: int) -> None:
    data = mammogram()
    data.add_new((0x0055, 0x0010), "LO", "HOLOGIC, Inc.")
    data.add_new((0x0055, 0x1010), "OB", b"\1" * (1 << 20))
    content = stored(data)
    assert read(scratch, content) == (HEADER, [])
    header = msgspec.structs.replace(HEADER, PresentationLUTShape=None)
    for end in (content.index(b"INVERSE") + 3, content.index(b"INVERSE") - 3, content.index(b"\1" * 64) + 64):
        assert read(scratch, content[:end]) == (header, [])


@pytest.mark.parametrize(
    ("size", "cut", "why"),
    [
        (MAX_DICOM + 2, 0, "an attribute reaches beyond the first 16 MB; the attributes before it are used"),
        (1 << 10, 1 << 9, "the header is cut off; the attributes before that are used"),
    ],
)
def test_what_stands_before_an_error_counts(scratch: int, size: int, cut: int, why: str) -> None:
    content = stored(private(mammogram(), 0x0019, size))
    end = content.index(b"\1" * 64) + size - cut if cut else len(content)
    header, reports = read(scratch, content[:end])
    assert (header.PatientAge, header.SOPClassUID) == (HEADER.PatientAge, HEADER.SOPClassUID)
    assert (header.ImageLaterality, header.ViewCode) == (None, None)
    assert reports == [("bad-dicom", why)]


def test_functional_groups_are_read_of_images_that_have_them(scratch: int) -> None:
    data = mammogram()
    anatomy, group = Dataset(), Dataset()
    anatomy.FrameLaterality = "R"
    group.FrameAnatomySequence = [anatomy]
    data.SharedFunctionalGroupsSequence = [group]
    del data.ImageLaterality
    assert read(scratch, stored(data))[0].FrameLaterality is None
    data.NumberOfFrames = 60
    assert read(scratch, stored(data))[0].FrameLaterality == "R"
    data.NumberOfFrames = 1
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = TOMOSYNTHESIS
    del data.SharedFunctionalGroupsSequence
    data.PerFrameFunctionalGroupsSequence = [group] * 3
    assert read(scratch, stored(data))[0].FrameLaterality == "R"
    content = stored(private(data, 0x5201, 1 << 10))
    assert read(scratch, content[:-512])[1] == []


def test_a_number_that_is_none_is_reported_of_a_dicom_header_too(scratch: int) -> None:
    content = stored(mammogram()).replace(b"58.0", b"58,0")
    header, reports = read(scratch, content)
    assert header.BodyPartThickness is None
    assert reports == [("odd-value", "BodyPartThickness is '58,0', not a finite number")]


def test_texts_are_found_by_tag_and_by_the_number_of_a_value_or_item(scratch: int) -> None:
    read(scratch, stored(mammogram()))
    paths: dict[tuple[str, ...], str | None] = {
        ("00080008",): "DERIVED",
        ("00080008[2]",): "PRIMARY",
        ("00080008[3]",): None,
        ("00080008[4]",): "GENERATED_2D",
        ("00080008[5]",): None,
        ("00540220", "00540222[2]", "00080100"): "R-102D7",
        ("00540220[2]", "00080100"): None,
        ("00020010",): "1.2.840.10008.1.2.1",
        ("00104000",): None,
    }
    assert dicom_texts(scratch, list(paths)) == paths


@given(st.data())
def test_a_damaged_file_gives_a_header(scratch: int, data: st.DataObject) -> None:
    content = bytearray(stored(mammogram()))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(128, len(content) - 33))] = data.draw(st.integers(0, 255))
    assert isinstance(read(scratch, bytes(content))[0], Header)


@pytest.mark.parametrize("content", [b"", b"x", b"\0" * 200, b"%PDF-1.4" * 50, b"\0" * 128 + b"DICm"])
def test_what_is_no_dicom_is_reported_without_being_quoted(scratch: int, content: bytes) -> None:
    assert read(scratch, content) == (Header(), [("bad-dicom", "not a DICOM file")])


def test_what_the_system_refuses_is_unreadable(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    reports: Reports = []
    assert read_dicom(descriptor, lambda kind, detail: reports.append((kind, detail))) == Header()
    os.close(descriptor)
    assert reports == [("unreadable", "Is a directory")]


def test_the_settings_of_pydicom_are_left_alone(scratch: int) -> None:
    mode = pydicom.config.settings.reading_validation_mode
    read(scratch, stored(mammogram()))
    read(scratch, b"no DICOM")
    assert pydicom.config.settings.reading_validation_mode == mode


def test_the_real_files_that_pydicom_ships_are_read_or_reported() -> None:
    root = Path(pydicom.__file__).parent / "data" / "test_files"
    files = [path for path in root.rglob("*.dcm") if path.is_file()]
    assert len(files) > 30
    readable = 0
    for path in files:
        with path.open("rb") as stream:
            reports: Reports = []
            header = read_dicom(stream.fileno(), lambda kind, detail: reports.append((kind, detail)))  # noqa: B023
            if any(kind == "bad-dicom" for kind, _ in reports):
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                made_by = str(pydicom.dcmread(path, stop_before_pixels=True).get("Manufacturer") or "").strip(
                    " \0"
                )
            assert header.Manufacturer == (made_by or None)
            readable += 1
    assert readable > 30
