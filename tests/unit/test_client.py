"""The record of a client holds everything on disk, and each oddity is one problem."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trees import MARK, Study, Tree

from omidbfs.clinical.client import ClientRecord, ImageRecord, client_record, read_client
from omidbfs.database.client import ClientReader
from omidbfs.database.header import Header
from omidbfs.database.layout import Scanner, find_source
from omidbfs.database.problems import KINDS, Problem

NAME = "demd1"


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """A client with an episode and a study of it, with one whole image."""
    return Tree(tmp_path / "db").client(NAME).episode("7").study("1.1", "7").image("1.1.1", ViewPosition="CC")


def record_of(tree: Tree) -> tuple[ClientRecord, list[Problem]]:
    problems: list[Problem] = []
    source = find_source(tree.root)
    with ClientReader(source) as reader:
        record = read_client(Scanner(source, problems), reader, NAME, problems)
    assert {problem.kind for problem in problems} <= KINDS.keys()
    return record, problems


def read(study: Study) -> tuple[ClientRecord, list[tuple[str, str]]]:
    """Return the record of the client, and file and kind of the problems."""
    record, problems = record_of(study.of.tree)
    return record, sorted((problem.file, problem.kind) for problem in problems)


def images(record: ClientRecord) -> dict[str, ImageRecord]:
    return {f"{study.name}/{image.name}": image for study in record.studies for image in study.images}


def test_a_whole_client_is_read_without_a_problem(study: Study) -> None:
    record, problems = read(study)
    assert problems == []
    (image,) = record.studies[0].images
    assert (image.name, image.header.ViewPosition, image.sidecar_suffix) == ("1.1.1", "CC", ".json")
    assert image.dcm is not None
    assert image.sidecar is not None
    assert image.listed is not None
    assert record.studies[0].episode is not None
    assert record.studies[0].episode.id == "7"
    assert record.studies[0].events == ("screening",)


# Halves ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lost", "problem"),
    [
        ("images/demd1/1.1/1.1.1.dcm", ("images/demd1/1.1/1.1.1.dcm", "dcm-missing")),
        ("data/demd1/1.1/1.1.1.json", ("data/demd1/1.1/1.1.1.json", "sidecar-missing")),
    ],
)
def test_half_an_image_is_an_image_and_the_other_half_is_reported(
    study: Study, lost: str, problem: tuple[str, str]
) -> None:
    (study.of.tree.root / lost).unlink()
    record, problems = read(study)
    assert list(images(record)) == ["1.1/1.1.1"]
    assert problem in problems


def test_a_tree_that_is_missing_is_not_reported_image_by_image(study: Study) -> None:
    shutil.rmtree(study.of.tree.images)
    assert read(study)[1] == []
    (study.of.tree.images / NAME / "1.1").mkdir(parents=True)
    (study.images / "1.1.1.dcm").write_bytes(b"no DICOM")
    shutil.rmtree(study.of.tree.data)
    record, problems = read(study)
    assert problems == [("images/demd1/1.1/1.1.1.dcm", "bad-dicom")]
    assert (record.nbss, record.imagedb) == (None, None)


def test_the_dicom_header_speaks_where_there_is_no_sidecar(demo_database: Path, tmp_path: Path) -> None:
    dcm = min((demo_database / "images").glob("*/*/*.dcm"))
    described = (demo_database / "data" / dcm.relative_to(demo_database / "images")).with_suffix(".json")
    study = Tree(tmp_path / "db").client(NAME).study("1.1")
    study.image("1.1.1", dcm=dcm.read_bytes(), header=described.read_bytes())
    study.image("1.1.2", dcm=dcm.read_bytes(), has_sidecar=False)
    study.image("1.1.3", dcm=dcm.read_bytes(), header=b"{")
    record, problems = read(study)
    header = images(record)["1.1/1.1.1"].header
    assert header != Header()
    assert images(record)["1.1/1.1.2"].header == images(record)["1.1/1.1.3"].header == header
    assert ("data/demd1/1.1/1.1.3.json", "bad-json") in problems


def said(study: Study) -> list[tuple[str, str, str]]:
    """Return name of file, kind and detail of the problems of a client."""
    return sorted((Path(p.file).name, p.kind, p.detail) for p in record_of(study.of.tree)[1])


def shape(photometric: str, shape: str) -> dict[str, object]:
    """Return a header with PhotometricInterpretation and PresentationLUTShape."""
    return {"00280004": {"vr": "CS", "Value": [photometric]}, "20500020": {"vr": "CS", "Value": [shape]}}


@pytest.mark.parametrize(
    ("keywords", "kind", "detail"),
    [
        ({"PatientAge": "F"}, "odd-value", "PatientAge is 'F', not an age"),
        ({"PatientAge": "050-054"}, "odd-value", "PatientAge is '050-054', not an age"),
        ({"PresentationIntentType": "FOR_PRESENTATION"}, "unknown-code", "PresentationIntentType is"),
        ({"ImageLaterality": "X"}, "unknown-code", "ImageLaterality is 'X'"),
        ({"Laterality": "X"}, "unknown-code", "Laterality is 'X'"),
        ({"BreastImplantPresent": "Y"}, "unknown-code", "BreastImplantPresent is 'Y'"),
        ({"ViewPosition": "FLATFIELD"}, "unknown-code", "ViewPosition is 'FLATFIELD'"),
        ({"ViewCode": "R-99999"}, "unknown-code", "ViewCode is 'R-99999'"),
        ({"ViewCode": "R-10226", "ViewModifiers": ("R-99999",)}, "unknown-code", "ViewModifierCode is 'R-99999'"),
        ({"header": {"00080016": {"Value": ["1.2.3"]}}}, "unknown-code", "SOPClassUID is '1.2.3'"),
        ({"header": {"00020010": {"Value": ["1.2.3"]}}}, "unknown-code", "TransferSyntaxUID is '1.2.3'"),
        ({"header": {"00281350": {"Value": ["MAYBE"]}}}, "unknown-code", "PartialView is 'MAYBE'"),
        ({"header": {"00080008": {"Value": ["A", "B"]}}}, "unknown-code", "ImageType is"),
        ({"header": {"001811A0": {"Value": ["55,5"]}}}, "odd-value", "BodyPartThickness is '55,5'"),
        (
            {"ViewPosition": "RMLO", "ImageLaterality": "L"},
            "side-conflict",
            "ImageLaterality 'L' and ViewPosition",
        ),
        ({"ImageLaterality": "L", "Laterality": "R"}, "side-conflict", "ImageLaterality 'L' and Laterality 'R'"),
        (
            {"ImageLaterality": "U", "Laterality": "R", "ViewPosition": "LCC"},
            "side-conflict",
            "Laterality 'R' and ViewPosition 'LCC'",
        ),
        (
            {"header": shape("MONOCHROME1", "IDENTITY")},
            "shape-conflict",
            "PresentationLUTShape 'IDENTITY' and 'MONOCHROME1'",
        ),
        (
            {"header": shape("MONOCHROME2", "inverse")},
            "shape-conflict",
            "PresentationLUTShape 'inverse' and 'MONOCHROME2'",
        ),
    ],
)
def test_what_is_odd_in_a_header_is_one_problem(
    study: Study, keywords: dict[str, Any], kind: str, detail: str
) -> None:
    ((file, found, why),) = said(study.image("1.1.2", **keywords))
    assert (file, found, why[: len(detail)]) == ("1.1.2.json", kind, detail)


@pytest.mark.parametrize(
    "keywords",
    [
        {"ViewPosition": "RIGHT CC", "ImageLaterality": "R", "PatientAge": "780m"},
        {"ViewPosition": "CCID", "ViewCode": "R-10242", "ImageLaterality": "BILATERAL"},
        {"ViewPosition": "AT", "ViewCode": "R-10226", "ImageLaterality": "U", "Laterality": "R"},
        {"ImageLaterality": "left", "Laterality": "B", "BreastImplantPresent": "no"},
        {"PatientAge": "000Y", "PresentationIntentType": "Data anonymised", "ViewPosition": ""},
        {"header": shape("MONOCHROME1", "INVERSE")},
        {"header": shape("MONOCHROME2", "IDENTITY")},
        {"header": shape("RGB", "INVERSE")},
    ],
)
def test_what_is_understood_is_no_problem(study: Study, keywords: dict[str, Any]) -> None:
    assert said(study.image("1.1.2", **keywords)) == []


def test_a_file_of_another_image_is_reported(study: Study) -> None:
    def uid(value: str) -> dict[str, object]:
        return {"00080018": {"vr": "UI", "Value": [value]}}

    study.image("1.1.2", header=uid("1.1.2"))
    study.image("1.1.3", header=uid("1.1.2"))
    assert said(study) == [("1.1.3.json", "image-mismatch", "its SOPInstanceUID is '1.1.2'")]


def test_the_second_of_two_sidecars_is_of_its_image(study: Study) -> None:
    study.image("1.1.2", header={"00080018": {"vr": "UI", "Value": ["1.1.2"]}})
    shutil.copy(study.data / "1.1.2.json", study.data / "1.1.2.dcm.json")
    assert [kind for _, kind, _ in said(study)] == ["duplicate-file"]


@pytest.mark.parametrize("content", [b"", b" ", b"{", b"[]", b"\0\0\0\0"])
def test_a_damaged_sidecar_costs_no_file(study: Study, content: bytes) -> None:
    (study.data / "1.1.1.json").write_bytes(content)
    record, problems = read(study)
    image = images(record)["1.1/1.1.1"]
    assert image.sidecar is not None
    assert image.dcm is not None
    assert image.header == Header()
    assert problems == [("data/demd1/1.1/1.1.1.json", "bad-json"), ("images/demd1/1.1/1.1.1.dcm", "bad-dicom")]


def test_an_empty_dicom_file_is_reported_even_beside_a_good_sidecar(study: Study) -> None:
    (study.images / "1.1.1.dcm").write_bytes(b"")
    record, problems = read(study)
    assert problems == [("images/demd1/1.1/1.1.1.dcm", "bad-dicom")]
    assert images(record)["1.1/1.1.1"].header.ViewPosition == "CC"


def test_a_sidecar_larger_than_any_is_not_read(study: Study) -> None:
    with (study.data / "1.1.1.json").open("r+b") as file:
        file.truncate((64 << 20) + 1)
    assert ("data/demd1/1.1/1.1.1.json", "unreadable") in read(study)[1]


def test_two_sidecars_of_an_image_are_one_problem_and_two_files(study: Study) -> None:
    shutil.copy(study.data / "1.1.1.json", study.data / "1.1.1.dcm.json")
    record, problems = read(study)
    assert problems == [("data/demd1/1.1/1.1.1.dcm.json", "duplicate-file")]
    assert sorted(images(record)) == ["1.1/1.1.1", "1.1/1.1.1.dcm"]


def test_odd_values_in_a_sidecar_are_reported_at_the_sidecar(study: Study) -> None:
    study.image("1.1.2", header={"00185101": {"Value": [{}]}}, suffix=".dcm.json")
    assert read(study)[1] == [("data/demd1/1.1/1.1.2.dcm.json", "odd-value")]


def test_position_and_code_that_disagree_are_a_conflict(study: Study) -> None:
    study.image("1.1.2", ViewPosition="MLO\n", ViewCode="R-10242")
    _, problems = record_of(study.of.tree)
    assert problems == [
        Problem("data/demd1/1.1/1.1.2.json", "view-conflict", "MLO and R-10242", "demd1", "1.1", "1.1.2")
    ]


# NBSS and ImageDB ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["nbss", "imagedb"])
def test_a_document_that_is_missing_is_reported(study: Study, kind: str) -> None:
    (study.of.data / f"{kind}_{NAME}.json").unlink()
    record, problems = read(study)
    assert problems == [("data/demd1", f"{kind}-missing")]
    assert getattr(record, kind) is None
    assert record.studies[0].episode is None


@pytest.mark.parametrize("kind", ["nbss", "imagedb"])
@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"null"])
def test_a_document_that_cannot_be_read_is_reported_and_its_file_is_shown(
    study: Study, kind: str, content: bytes
) -> None:
    (study.of.data / f"{kind}_{NAME}.json").write_bytes(content)
    record, problems = read(study)
    assert problems == [(f"data/demd1/{kind}_demd1.json", "bad-json")]
    assert f"{kind}_{NAME}.json" in record.documents
    assert list(images(record)) == ["1.1/1.1.1"]


@pytest.mark.parametrize("kind", ["nbss", "imagedb"])
def test_a_document_in_upper_case_is_read(study: Study, kind: str) -> None:
    (study.of.data / f"{kind}_{NAME}.json").rename(study.of.data / f"{kind.upper()}_{NAME}.json")
    record, problems = read(study)
    assert problems == []
    assert record.studies[0].episode is not None


@pytest.mark.parametrize("kind", ["nbss", "imagedb"])
def test_a_document_of_another_client_is_reported_and_believed(study: Study, kind: str) -> None:
    study.of.documents[kind]["ClientID"] = "demd2"
    study.of.write()
    record, problems = read(study)
    assert problems == [(f"data/demd1/{kind}_demd1.json", "client-mismatch")]
    assert record.studies[0].episode is not None


@pytest.mark.parametrize("name", [None, ""])
def test_a_document_need_not_name_its_client(study: Study, name: str | None) -> None:
    study.of.documents["nbss"]["ClientID"] = name
    study.of.write()
    assert read(study)[1] == []


def test_an_image_has_the_marks_of_imagedb(study: Study) -> None:
    study.image("1.1.2", marks=MARK).image("1.1.3", marks={"1": {}, "2": MARK["1"]})
    record, problems = read(study)
    marks = {
        name: (len(image.listed.marks), image.listed.unread_marks)
        for name, image in images(record).items()
        if image.listed is not None
    }
    assert marks == {"1.1/1.1.1": (0, 0), "1.1/1.1.2": (1, 0), "1.1/1.1.3": (1, 1)}
    assert problems == [("data/demd1/imagedb_demd1.json", "bad-mark")]


def test_an_image_in_two_series_has_the_marks_of_both(study: Study) -> None:
    study.image("1.1.2", marks=MARK)
    entry = study.of.studies["1.1"]
    assert isinstance(entry, dict)
    entry["9.8"] = {"1.1.2": {"2": {**MARK["1"], "MarkID": 2}}}
    study.of.write()
    record, problems = read(study)
    listed = images(record)["1.1/1.1.2"].listed
    assert listed is not None
    assert [mark.id for mark in listed.marks] == ["1", "2"]
    assert problems == []


def test_what_imagedb_does_not_mention_is_shown_and_reported(study: Study) -> None:
    for place in ("1.1/1.1.9", "1.9/1.9.1"):
        for tree, suffix, content in (("images", "dcm", b"x"), ("data", "json", b"{}")):
            file = study.of.tree.root / tree / NAME / f"{place}.{suffix}"
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(content)
    (study.data / "1.1.9.json").unlink()
    record, problems = read(study)
    assert list(images(record)) == ["1.1/1.1.1", "1.1/1.1.9", "1.9/1.9.1"]
    assert [image.listed is None for image in images(record).values()] == [False, True, True]
    assert ("images/demd1/1.1/1.1.9.dcm", "image-not-in-imagedb") in problems
    assert ("data/demd1/1.9", "study-not-in-imagedb") in problems
    assert not [file for file, kind in problems if kind == "image-not-in-imagedb" and "/1.9/" in file]


def test_what_only_imagedb_mentions_is_reported(study: Study) -> None:
    study.image("1.1.2", dcm=None, has_sidecar=False).study("1.2", "7", "2012-05-02")
    record, problems = read(study)
    assert list(images(record)) == ["1.1/1.1.1"]
    assert problems == [
        ("data/demd1/imagedb_demd1.json", "image-not-on-disk"),
        ("data/demd1/imagedb_demd1.json", "study-not-on-disk"),
    ]


def test_a_study_in_images_only_is_reported_there(study: Study) -> None:
    (study.of.images / "1.9").mkdir()
    assert ("images/demd1/1.9", "study-not-in-imagedb") in read(study)[1]


def test_names_that_no_text_can_hold_are_reported_all_the_same(study: Study) -> None:
    document = json.dumps({"STUDIES": {"1.1": {"9.9": {"1.1.1": None}}, "\ud800": {}}})
    (study.of.data / f"imagedb_{NAME}.json").write_text(document)
    _, problems = record_of(study.of.tree)
    assert "study \\ud800" in {problem.detail for problem in problems}


KEYS = [
    *("STUDIES", "1.1", "9.9", "1.1.1", "StudyDate", "EpisodeID", "ClientID", "Site", "7", "SCREENING", "L", "R"),
    *("LESION", "SURGERY", "dateperformed", "1", "MarkID", "X1", "00185101", "00540220", "Value"),
    *("\ud800", "", "a\nb"),
]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=20,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(json_values, json_values, json_values)
def test_with_any_json_the_image_is_shown_and_problems_are_lines(
    study: Study, nbss: object, imagedb: object, described: object
) -> None:
    for place, document in (
        (study.of.data / f"nbss_{NAME}.json", nbss),
        (study.of.data / f"imagedb_{NAME}.json", {"STUDIES": {"1.1": imagedb}}),
        (study.data / "1.1.1.json", described),
    ):
        place.write_text(json.dumps(document))
    record, problems = record_of(study.of.tree)
    assert list(images(record)) == ["1.1/1.1.1"]
    for problem in problems:
        line = f"{problem.file} {problem.detail}"
        assert re.fullmatch(r"[^\x00-\x1f]*", line), line
        assert line.encode()


@pytest.mark.parametrize(
    "place",
    [
        "data/demd1/nbss_demd1.json",
        "data/demd1/imagedb_demd1.json",
        "data/demd1/1.1/1.1.1.json",
        "images/demd1/1.1/1.1.2.dcm",
    ],
)
def test_what_vanishes_while_it_is_read_is_reported_and_the_rest_is_read(study: Study, place: str) -> None:
    study.image("1.1.2", has_sidecar=False)
    source, problems = find_source(study.of.tree.root), list[Problem]()
    files = Scanner(source, problems).client(NAME)
    (study.of.tree.root / place).unlink()
    with ClientReader(source) as reader:
        record = client_record(reader, files, problems)
    assert list(images(record)) == ["1.1/1.1.1", "1.1/1.1.2"]
    assert (place, "unreadable", "No such file or directory") in [
        (problem.file, problem.kind, problem.detail) for problem in problems
    ]


# Single files ----------------------------------------------------------------------------------------------


def test_a_whole_sidecar_is_given_and_nothing_where_it_cannot_be_read(study: Study) -> None:
    (study.data / "1.1.2.dcm.json").write_text('{"a": 1}')
    (study.data / "1.1.3.json").write_text("{")
    with ClientReader(find_source(study.of.tree.root)) as reader:
        assert reader.sidecar(NAME, "1.1", "1.1.2", ".dcm.json") == {"a": 1}
        assert reader.sidecar(NAME, "1.1", "1.1.3", ".json") == {}
        assert reader.sidecar(NAME, "1.1", "1.1.4", ".json") == {}


def test_a_reader_leaves_no_descriptor_behind(study: Study) -> None:
    study.image("1.1.2", has_sidecar=False).image("1.1.3", header=b"{")
    before = len(list(Path("/proc/self/fd").iterdir()))
    read(study)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
