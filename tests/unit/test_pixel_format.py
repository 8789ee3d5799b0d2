"""The index holds the pixel format, geometry, series and UID of each image."""

import json
import warnings
from pathlib import Path
from typing import Any

import naive
import pydicom
import pytest
from test_header import WHOLE, mammogram, stored
from test_index import plain
from trees import Quirky, Tree

from omidbfs.database.file_kinds import DCM, JSON
from omidbfs.database.header import Header
from omidbfs.database.layout import find_source
from omidbfs.database.pixel_format import DECIDE_SIZE, Geometry, PixelFormat, geometry_of, orientation_of
from omidbfs.database.records import OTHER
from omidbfs.database.study import StudyReader
from omidbfs.database.uids import MULTI_FRAME, TOMOSYNTHESIS
from omidbfs.index import build
from omidbfs.index.build import refreshed
from omidbfs.index.columns import Index
from omidbfs.index.fingerprint import fingerprint
from omidbfs.index.slices import only_clients
from omidbfs.index.store import load, save

TAGS = {
    "Rows": "00280010",
    "Columns": "00280011",
    "NumberOfFrames": "00280008",
    "SamplesPerPixel": "00280002",
    "BitsAllocated": "00280100",
    "BitsStored": "00280101",
    "PixelRepresentation": "00280103",
    "PhotometricInterpretation": "00280004",
    "PresentationLUTShape": "20500020",
    "TransferSyntaxUID": "00020010",
}
FORMAT = PixelFormat(
    3328, 2560, 1, 1, 16, 12, 0, "MONOCHROME2", "INVERSE", TransferSyntaxUID="1.2.840.10008.1.2.1"
)
IN_DICOM = FORMAT._replace(Rows=10, Columns=11, SamplesPerPixel=3, BitsAllocated=8, BitsStored=7)


def files_of(root: Path, index: Index, row: int) -> tuple[Path | None, Path | None]:
    """Return the sidecar and the DICOM file of an image."""
    trees = (root / "data", root / "images")
    found = [
        tree / index.image_path(row, kind).decode("utf-8", "surrogateescape")
        if index.has_file(row, kind)
        else None
        for tree, kind in zip(trees, (JSON, DCM), strict=True)
    ]
    return found[0], found[1]


# Second opinions -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["demo", "quirky"])
def test_the_index_holds_what_a_plain_reader_finds(
    kind: str, demo_database: Path, quirky_database: Quirky
) -> None:
    root = demo_database if kind == "demo" else quirky_database.path
    index = refreshed(find_source(root))
    seen = set()
    for row in range(len(index)):
        sidecar, dcm = files_of(root, index, row)
        header = naive.header_of(sidecar, dcm)
        assert index.pixel_format(row)._asdict() == naive.pixels_of(sidecar, dcm), (sidecar, dcm)
        side = {4: "L", 5: "R"}.get(index.codes_of("laterality", row)[0])
        assert index.chest_wall_side(row) == naive.chest_wall_side(header, side)
        assert index.orientation(row)[:2] == (header.PatientOrientation or ("", ""))
        factor = header.EstimatedRadiographicMagnificationFactor
        spacing = header.ImagerPixelSpacing or (None, None)
        assert index.geometry(row) == (*spacing, factor if factor is not None and 0 < factor < 1000 else None)
        assert index.series(row) == header.SeriesInstanceUID
        assert index.sop_instance_uid(row) == header.SOPInstanceUID
        seen.add(index.chest_wall_side(row))
    assert seen >= {"left", "right"}


def test_the_index_holds_what_pydicom_reads_of_the_demo(demo_database: Path) -> None:
    index = refreshed(find_source(demo_database))
    for row in range(len(index)):
        _, dcm = files_of(demo_database, index, row)
        assert dcm is not None
        data = pydicom.dcmread(dcm, stop_before_pixels=True)
        said: dict[str, Any] = {keyword: data.get(keyword) for keyword in PixelFormat._fields}
        said["TransferSyntaxUID"] = data.file_meta.TransferSyntaxUID
        assert index.pixel_format(row)._asdict() == said
        assert (index.series(row), index.sop_instance_uid(row)) == (data.SeriesInstanceUID, data.SOPInstanceUID)
        side = {"A": "left", "P": "right"}.get(data.PatientOrientation[0] if data.PatientOrientation else "")
        assert index.chest_wall_side(row) == (side or {"L": "left", "R": "right"}[data.ImageLaterality])
        spacing, factor = data.ImagerPixelSpacing, data.EstimatedRadiographicMagnificationFactor
        assert index.geometry(row) == (*map(float, spacing), float(factor))
    assert len(index.series_uids) < len(index)
    assert len(index.other_uids) == 0


# Sizes -----------------------------------------------------------------------------------------------------


def dicom() -> bytes:
    data = mammogram()
    for keyword in DECIDE_SIZE:
        setattr(data, keyword, getattr(IN_DICOM, keyword))
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = sorted(TOMOSYNTHESIS)[0]
    data.NumberOfFrames = 5
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return stored(data)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the DICOM files whose headers are read."""
    names: list[str] = []
    read = StudyReader.dicom

    def counted(self: StudyReader, name: str, report: Any) -> Header:
        names.append(name)
        return read(self, name, report)

    monkeypatch.setattr(StudyReader, "dicom", counted)
    return names


def format_with(root: Path, document: dict[str, object], content: bytes | None) -> PixelFormat:
    tree = Tree(root)
    tree.client().study().image("1.2.3", header=document, dcm=content)
    index = refreshed(find_source(root))
    assert "bad-dicom" not in {problem.kind for problem in index.problems}  # the rest of the file is not read
    return index.pixel_format(0)


@pytest.mark.parametrize("keyword", DECIDE_SIZE)
@pytest.mark.parametrize("value", [None, 0])
def test_a_size_that_the_sidecar_lacks_is_read_from_the_dicom_header(
    tmp_path: Path, read: list[str], keyword: str, value: int | None
) -> None:
    document = WHOLE | {TAGS[keyword]: {"vr": "US", "Value": [] if value is None else [value]}}
    found = format_with(tmp_path / "both", document, dicom())
    assert read == ["1.2.3"]
    assert found == FORMAT._replace(**{keyword: getattr(IN_DICOM, keyword)})
    assert format_with(tmp_path / "alone", document, None) == FORMAT._replace(**{keyword: None})
    assert format_with(tmp_path / "no dicom", document, b"x") == FORMAT._replace(**{keyword: None})


def test_frames_that_the_sidecar_lacks_are_read_from_the_dicom_header_where_its_class_has_frames(
    tmp_path: Path, read: list[str]
) -> None:
    document = {tag: element for tag, element in WHOLE.items() if tag != TAGS["NumberOfFrames"]}
    assert format_with(tmp_path / "one", document, dicom()) == FORMAT._replace(NumberOfFrames=None)
    assert read == []
    for number, sop_class in enumerate(sorted(MULTI_FRAME)):
        document["00080016"] = {"vr": "UI", "Value": [sop_class]}
        tree = Tree(tmp_path / str(number))
        tree.client().study().image("1.2.3", header=document, dcm=dicom())
        assert refreshed(find_source(tree.root)).pixel_format(0) == FORMAT._replace(NumberOfFrames=5)


@pytest.mark.parametrize("keyword", [keyword for keyword in TAGS if keyword not in DECIDE_SIZE])
def test_whatever_else_the_sidecar_lacks_is_unknown(tmp_path: Path, read: list[str], keyword: str) -> None:
    document = {tag: element for tag, element in WHOLE.items() if tag != TAGS[keyword]}
    assert format_with(tmp_path, document, dicom()) == FORMAT._replace(**{keyword: None})
    assert read == []


def test_facets_and_tables_show_what_the_sidecar_says(tmp_path: Path) -> None:
    document = {tag: element for tag, element in WHOLE.items() if tag not in TAGS.values()}
    assert format_with(tmp_path, document, dicom()) == IN_DICOM._replace(NumberOfFrames=5)
    index = refreshed(find_source(tmp_path))
    assert index.matrix.tolist() == [[0, 0]]
    for facet in ("matrix-size", "photometric-interpretation", "transfer-syntax"):
        assert index.codes_of(facet, 0) == (0,)


# Chest wall, geometry --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "side"),
    [
        (Header(PatientOrientation=("A", "R")), "left"),
        (Header(PatientOrientation=("P", "L")), "right"),
        (Header(PatientOrientation=("p", ""), ImageLaterality="L"), "right"),
        (Header(PatientOrientation=("", "FR"), ImageLaterality="L"), "left"),
        (Header(PatientOrientation=("H", "A"), Laterality="R"), "right"),
        (Header(ViewPosition="LMLO"), "left"),
        (Header(ImageLaterality="B"), None),
        (Header(ImageLaterality=OTHER), None),
        (Header(), None),
    ],
)
def test_the_chest_wall_is_where_rows_run_from_or_where_the_breast_is(header: Header, side: str | None) -> None:
    assert orientation_of(header).chest_wall_side == side


@pytest.mark.parametrize(("factor", "known"), [(1.07, 1.07), (0.0, None), (-1.0, None), (1e9, None), (None, None)])
def test_a_magnification_that_cannot_be_is_unknown(factor: float | None, known: float | None) -> None:
    assert geometry_of(Header(EstimatedRadiographicMagnificationFactor=factor)) == Geometry(None, None, known)


def test_the_frames_of_a_tomosynthesis_say_orientation_and_spacing(tmp_path: Path) -> None:
    frame = {"00209450": {"Value": [{"00200020": {"Value": ["P", "L"]}}]}}
    detector = {"00189443": {"Value": [{"00181164": {"Value": [0.1, 0.1]}}]}}
    document = WHOLE | {"00280008": {"Value": [60]}, "52009229": {"Value": [frame | detector]}}
    for tag in ("00200020", "00181164"):
        del document[tag]
    Tree(tmp_path).client().study().image("1.2.3", header=document)
    index = refreshed(find_source(tmp_path))
    assert (index.chest_wall_side(0), index.geometry(0)) == ("right", Geometry(0.1, 0.1, 1.07))
    assert index.orientation(0)[:2] == ("P", "L")


# Series, UIDs ----------------------------------------------------------------------------------------------


def named(sop: object, series: object) -> dict[str, object]:
    return {"00080018": {"vr": "UI", "Value": [sop]}, "0020000E": {"vr": "UI", "Value": [series]}}


@pytest.fixture
def several(tmp_path: Path) -> Tree:
    """Series that go through several studies, clients with the same series, UIDs that are no names of files."""
    tree = Tree(tmp_path / "several")
    for number in range(4):
        study = tree.client(f"demd{number}").study(f"1.{number}").image("1", header=named("1", "7.1"))
        study.image("2", header=named("9.9", "7.2")).image("3", header={}).image("4", header=named("4", None))
        other = study.study(f"2.{number}").image("5", header=named("5", "7.1"))
        other.image("6", header=named("6", "7." + 63 * "1")).image("7", header=named("\ud800", "\udfff"))
        other.image("8", header=named("8" * 65, "7.1")).image("a b", header=named("a b", f"8.{number}"))
    tree.client("demd8").study("3.1").image("1", header={})
    return tree


UIDS = {
    "1": ("1", "7.1"),
    "2": ("9.9", "7.2"),
    "3": (None, None),
    "4": ("4", None),
    "5": ("5", "7.1"),
    "6": ("6", None),
    "7": ("\ud800", "\udfff"),
    "8": (None, "7.1"),
}


def check_uids(index: Index) -> None:
    for row in range(len(index)):
        client, name = index.clients[int(index.client_of[row])].decode(), index.on_disk(row)[1]
        expected = UIDS.get(name, ("a b", f"8.{client[-1]}")) if client != "demd8" else (None, None)
        assert (index.sop_instance_uid(row), index.series(row)) == expected, (client, name)


def test_series_and_uids_are_known_of_each_image(
    several: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = find_source(several.root)
    index = refreshed(source)
    check_uids(index)
    assert len(index.series_uids) == 16
    monkeypatch.setattr(build, "CLIENTS_PER_CHUNK", 1)
    assert plain(refreshed(source)) == plain(index)
    save(tmp_path / "saved.index", index, fingerprint(source))
    check_uids(load(tmp_path / "saved.index", fingerprint(source)).index)
    (several.data / "demd1" / "1.1" / "1.json").write_text(json.dumps(named("1", "7.1"), indent=1))
    after = refreshed(source, index)
    check_uids(after)
    assert plain(after)["series_uids"] == plain(index)["series_uids"]
    for clients in ({"demd1", "demd3"}, {"demd8"}, {"demd0", "demd8"}, set[str]()):
        part = only_clients(after, clients, [], source)
        check_uids(part)
        assert len(part.series_uids) == 4 * len(clients - {"demd8"})


def test_a_series_with_more_characters_than_a_uid_has_is_a_problem(several: Tree) -> None:
    problems = refreshed(find_source(several.root)).problems
    details = {problem.detail for problem in problems if problem.kind == "odd-value"}
    assert details == {"SeriesInstanceUID has 65 characters, not 64 at most"}


def test_lists_hold_what_some_image_has_and_nothing_else(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    for number, rows in enumerate((100, 200, 100)):
        document = WHOLE | {TAGS["Rows"]: {"vr": "US", "Value": [rows]}}
        tree.client(f"demd{number}").study(f"1.{number}").image("1.2.3", header=document)
    source = find_source(tmp_path)
    index = refreshed(source)
    assert [one.Rows for one in index.pixel_formats] == [None, 100, 200]
    assert (index.format_of.dtype, index.format_of.tolist()) == ("uint8", [1, 2, 1])
    (tree.data / "demd1" / "1.1" / "1.2.3.json").write_text(json.dumps(WHOLE))
    after = refreshed(source, index)
    assert [one.Rows for one in after.pixel_formats] == [None, 100, 3328]
    assert plain(after)["pixel_formats"] == plain(refreshed(source))["pixel_formats"]
