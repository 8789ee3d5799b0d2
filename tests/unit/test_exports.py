"""The libraries for each export read it back, and it agrees with the index."""

import contextlib
import csv
import errno
import io
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click
import duckdb
import numpy as np
import pandas
import polars
import pyarrow.parquet
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from trees import Quirky, Tree, build_index

from omidbfs.base.words import counted
from omidbfs.cli.main import main
from omidbfs.database.file_kinds import DCM, JSON
from omidbfs.database.layout import find_source
from omidbfs.database.permissions import Access
from omidbfs.exports.fields import PAGE, column_name, columns_of, pages
from omidbfs.exports.formats import BY_FILE, FORMATS, OMIDB_SUMMARY, format_of
from omidbfs.exports.packing import packed
from omidbfs.exports.table import cell
from omidbfs.facets import Kind
from omidbfs.index.classification import Classification
from omidbfs.index.names import Names, spread
from omidbfs.view.nodes import Directory, Export
from omidbfs.view.ownership import Ownership, drive_access
from omidbfs.view.quoting import export_access
from omidbfs.view.view import View

COHORTS = ("all", "by-outcome/malignant", "by-view/MLO/by-laterality/L", "by-file-type/dcm", "by-view/SIO")


OF_COHORTS = {file for file, known in BY_FILE.items() if not known.of_client}
"""The files that every directory of images has."""


def view_of(place: Path) -> View:
    source = find_source(place)
    return View(build_index(source, Classification()), drive_access(source), {})


@pytest.fixture(scope="module")
def view(demo_database: Path) -> View:
    return view_of(demo_database)


def directory(view: View, path: str) -> Directory:
    found = view.resolve(path.encode())
    assert found is not None
    return found


def content(view: View, path: str, name: str) -> bytes:
    """Return a generated file of a cohort, as the drive would have it."""
    export = view.lookup(directory(view, f"{path}/.omidbfs"), name.encode())
    assert isinstance(export, Export)
    return b"".join(view.content(export))


def content_or_archive(view: View, source: Path, path: str, name: str) -> bytes:
    """Return the same, also for an archive of files of the source."""
    export = view.lookup(directory(view, f"{path}/.omidbfs"), name.encode())
    assert isinstance(export, Export)
    return b"".join(
        packed(view.archive(export), find_source(source)) if export.is_archive else view.content(export)
    )


def expected(view: View, path: str) -> list[dict[str, object]]:
    """Return the expected table of a cohort, read from the index one value at a time."""
    index, cohorts = view.index, view.cohorts
    rows = []
    for row in cohorts.rows(view.cohort(directory(view, path))).tolist():
        study = int(index.study_of[row])
        episode = int(index.study_episode[study])
        name = view.files.flat_name(row) if row in index.duplicates else index.images[row]
        first, end = np.searchsorted(index.marks.row, [row, row + 1]).tolist()
        record: dict[str, object] = {
            "client": index.clients[int(index.client_of[row])].decode(),
            "episode": index.episodes.ids[episode].decode() if episode >= 0 else None,
            "study": index.studies[study].decode(),
            "image": index.images[row].decode(),
            "dcm": f"all/{name.decode()}.dcm" if index.has_file(row, DCM) else None,
            "json": f"all/{name.decode()}.json" if index.has_file(row, JSON) else None,
            "study_date": int(index.study_date[study]) or None,
            "rows": int(index.matrix[row, 0]) or None,
            "columns": int(index.matrix[row, 1]) or None,
            "marks": end - first,
            "boxes": [index.marks.mark(number) for number in range(first, end)],
        }
        for facet in index.registry.facets:
            if facet.kind in (Kind.NAME, Kind.FILE):
                continue
            codes = index.codes_of(facet.name, row)
            if facet.kind is Kind.NUMBER:
                record[column_name(facet)] = codes[0] - 4 + facet.lowest if codes[0] >= 4 else None
            else:
                record[column_name(facet)] = "|".join(dict.fromkeys(cohorts.label(facet, code) for code in codes))
        rows.append(record)
    return rows


def plain(value: object) -> object:
    """Return a value of a library as one of Python. Missing is ``None``, dates are ordinals, lists are joined."""
    if isinstance(value, list | np.ndarray):
        return "|".join(value)
    if value is None or value is pandas.NaT or (isinstance(value, float) and math.isnan(value)) or value == "":
        return None
    if hasattr(value, "toordinal"):
        return value.toordinal()
    return int(value) if isinstance(value, float | np.integer) else value


def assert_is(records: list[dict[str, object]], wanted: list[dict[str, object]]) -> None:
    assert len(records) == len(wanted)
    for record, row in zip(records, wanted, strict=True):
        assert {name: plain(record[name]) for name in row if name != "boxes"} == {
            name: value for name, value in row.items() if name != "boxes"
        }


@pytest.mark.parametrize("path", COHORTS)
def test_pandas_reads_the_csv_of_a_cohort(view: View, path: str) -> None:
    types = {"client": str, "episode": str, "study": str, "image": str}
    table = pandas.read_csv(
        io.BytesIO(content(view, path, "index.csv")),
        dtype=types,
        parse_dates=["study_date"],
        keep_default_na=False,
        na_values=[""],
    )
    texts = {column_name(facet) for facet in view.index.registry.facets if facet.kind is not Kind.NUMBER}
    records = [
        {name: str(value) if name in texts else value for name, value in record.items()}
        for record in table.to_dict("records")
    ]
    assert_is(records, expected(view, path))
    for record, row in zip(table["boxes"], expected(view, path), strict=True):
        boxes = json.loads(record) if isinstance(record, str) else []
        marks = row["boxes"]
        assert isinstance(marks, list)
        assert [(box["id"], box["x1"], box["y1"], box["x2"], box["y2"]) for box in boxes] == [
            (mark.id, mark.x1, mark.y1, mark.x2, mark.y2) for mark in marks
        ]
        assert [len(box["features"]) for box in boxes] == [len(mark.features) for mark in marks]
        assert [set(box["lesions"]) for box in boxes] == [set(mark.lesion_numbers or ()) for mark in marks]


@pytest.mark.parametrize("path", COHORTS)
def test_pyarrow_pandas_and_polars_read_the_parquet_of_a_cohort(view: View, path: str) -> None:
    data = content(view, path, "index.parquet")
    wanted = expected(view, path)
    read = pyarrow.parquet.read_table(io.BytesIO(data))
    read.validate(full=True)
    assert_is(read.to_pylist(), wanted)
    assert_is(polars.read_parquet(io.BytesIO(data)).to_dicts(), wanted)
    assert_is(pandas.read_parquet(io.BytesIO(data)).to_dict("records"), wanted)


def test_writing_parquet_imports_no_pandas(demo_database: Path, tmp_path: Path) -> None:
    formats = [name for name in FORMATS if name.endswith("parquet")]
    script = f"""
import sys
from omidbfs.cli.main import main
for number, name in enumerate({formats}):
    words = ["export", {str(demo_database)!r}, "--index", "{tmp_path}/index", "--format", name, "-o"]
    main([*words, f"{tmp_path}/{{number}}.parquet"], standalone_mode=False)
print(sys.modules.keys() & {{"pyarrow.lib", "pyarrow.compute", "pandas"}})
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "{'pyarrow.lib'}\n"


def test_polars_and_duckdb_read_both_tables_alike(view: View, tmp_path: Path) -> None:
    for name in ("index.csv", "index.parquet"):
        (tmp_path / name).write_bytes(content(view, "all", name))
    counts = Counter(row["manufacturer"] for row in expected(view, "all"))
    framed = polars.read_csv(tmp_path / "index.csv", infer_schema_length=None, null_values=[""])
    assert dict(framed.group_by("manufacturer").len().iter_rows()) == counts
    for name in ("index.csv", "index.parquet"):
        query = f"select manufacturer, count(*) from '{tmp_path / name}' where \"rows\" > 0 group by all"
        assert dict(duckdb.sql(query).fetchall()) == counts
    query = f"select sum(len(boxes)), sum(marks) from '{tmp_path / 'index.parquet'}'"
    assert set(duckdb.sql(query).fetchall()[0]) == {len(view.index.marks)}


def test_both_tables_have_the_documented_columns_in_one_order(view: View) -> None:
    names = [column.name for column in columns_of(view.selection(view.root))]
    assert content(view, "all", "index.csv").split(b"\n")[0].decode().split(",") == names
    assert pyarrow.parquet.read_schema(io.BytesIO(content(view, "all", "index.parquet"))).names == names
    page = (Path(__file__).resolve().parents[2] / "docs" / "exports.md").read_text(encoding="utf-8")
    facets = {column_name(facet) for facet in view.index.registry.facets}
    for name in names:
        assert re.fullmatch("[a-z][a-z0-9_]*", name), name
        assert f"| `{name}` |" in page or name in facets, name


def annotations(data: bytes, tmp_path: Path) -> COCO:
    (tmp_path / "coco.json").write_bytes(data)
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(tmp_path / "coco.json"))


@pytest.mark.parametrize("path", COHORTS)
def test_pycocotools_reads_the_boxes_of_a_cohort(view: View, tmp_path: Path, path: str) -> None:
    coco = annotations(content(view, path, "coco.json"), tmp_path)
    wanted = [row for row in expected(view, path) if row["dcm"]]
    images = coco.loadImgs(coco.getImgIds())
    assert [image["file_name"] for image in images] == [str(row["dcm"]).removeprefix("all/") for row in wanted]
    assert [(image["height"], image["width"]) for image in images] == [
        (row["rows"], row["columns"]) for row in wanted
    ]
    for image, row in zip(images, wanted, strict=True):
        found = coco.loadAnns(coco.getAnnIds([image["id"]]))
        marks = row["boxes"]
        assert isinstance(marks, list)
        assert [(one["attributes"]["mark"], one["bbox"]) for one in found] == [
            (mark.id, [mark.x1, mark.y1, mark.x2 - mark.x1, mark.y2 - mark.y1]) for mark in marks
        ]
        assert all(one["area"] == one["bbox"][2] * one["bbox"][3] for one in found)
        names = [coco.cats[one["category_id"]]["name"] for one in found]
        assert names == [(one["attributes"]["features"] or ["unspecified"])[0] for one in found]


def box(x1: int, y1: int, x2: int, y2: int, **fields: object) -> dict[str, object]:
    corners = {"X1": x1, "Y1": y1, "X2": x2, "Y2": y2}
    return {"MarkID": 1, **{name: str(value) for name, value in corners.items()}, **fields}


SIZED = {
    "00280010": {"vr": "US", "Value": [100]},
    "00280011": {"vr": "US", "Value": [80]},
}


@pytest.mark.parametrize(
    ("mark", "bbox", "corrected"),
    [
        (box(10, 20, 30, 60), [10, 20, 20, 40], []),
        (box(30, 60, 10, 20), [10, 20, 20, 40], ["corners swapped"]),
        (box(30, 20, 10, 60), [10, 20, 20, 40], ["corners swapped"]),
        (box(-5, 0, 15, 10), [0, 0, 15, 10], ["cut off at the edge"]),
        (box(90, 110, 60, 80), [60, 80, 20, 20], None),
        (box(60, 70, 80, 100), [60, 70, 20, 30], []),
        (box(200, 200, 260, 260), None, "it is outside of its image"),
        (box(70, 90, 170, 190), None, "more than half of it is outside of its image"),
        (box(10, 10, 10, 40), None, "it has no area"),
        (box(-(10**30), 0, 10**30, 10**30), None, "more than half of it is outside of its image"),
    ],
)
def test_a_box_is_corrected_where_that_is_plain_and_left_out_otherwise(
    tmp_path: Path, mark: dict[str, object], bbox: list[int] | None, corrected: object
) -> None:
    Tree(tmp_path).client().study().image("1.1.1", header=SIZED, marks={"1": mark})
    found = json.loads(content(view_of(tmp_path), "all", "coco.json"))
    assert len(found["images"]) == 1
    if corrected is None:  # swapped and cut off: 400 of 900 pixels are inside
        bbox, corrected = None, "more than half of it is outside of its image"
    if bbox is None:
        assert found["annotations"] == []
        assert found["info"]["marks_left_out"] == {corrected: 1}
        assert found["info"]["left_out"] == [{"image": "1.1.1", "mark": "1", "reason": corrected}]
    else:
        assert [one["bbox"] for one in found["annotations"]] == [bbox]
        assert found["annotations"][0]["attributes"]["corrected"] == corrected
        assert found["info"]["left_out"] == []


@settings(max_examples=30)
@given(st.lists(st.tuples(*[st.integers(-60, 160)] * 4), min_size=1, max_size=40))
def test_a_box_is_left_out_exactly_if_it_is_reported(corners: list[tuple[int, int, int, int]]) -> None:
    with tempfile.TemporaryDirectory() as place:
        marks = {str(number): box(*one, MarkID=number) for number, one in enumerate(corners)}
        Tree(Path(place) / "db").client().study().image("1.1.1", header=SIZED, marks=marks)
        view = view_of(Path(place) / "db")
        info = json.loads(content(view, "all", "coco.json"))["info"]
        reported = [problem.detail for problem in view.index.problems if problem.kind == "odd-box"]
        assert sorted(reported) == sorted(f"mark '{one['mark']}': {one['reason']}" for one in info["left_out"])


def test_a_mark_has_the_first_of_its_features_as_category_and_carries_all(tmp_path: Path) -> None:
    marks = {
        "1": box(1, 1, 5, 5, Skin=1, WithCalcification="WithCalcification", Conspicuity="Very_subtle"),
        "2": box(1, 1, 5, 5, LinkedNBSSLesionNumber="10,2"),
    }
    Tree(tmp_path).client().study().image("1.1.1", header=SIZED, marks=marks)
    found = json.loads(content(view_of(tmp_path), "all", "coco.json"))
    names = {category["id"]: category["name"] for category in found["categories"]}
    assert {category["supercategory"] for category in found["categories"]} == {"finding"}
    assert [names[one["category_id"]] for one in found["annotations"]] == ["with-calcification", "unspecified"]
    assert [one["attributes"]["features"] for one in found["annotations"]] == [["with-calcification", "skin"], []]
    assert found["annotations"][0]["attributes"]["conspicuity"] == "very-subtle"
    assert found["annotations"][1]["attributes"]["lesions"] == ["2", "10"]


def test_no_number_of_a_mark_is_too_large_for_any_format(tmp_path: Path) -> None:
    huge = "9" * 40
    mark = box(0, 0, 10**30, 10, LinkedNBSSLesionNumber=huge, MarkID=str(10**25))
    Tree(tmp_path).client().study().image("1.1.1", header=SIZED, marks={"1": mark})
    view = view_of(tmp_path)
    for table in (
        pandas.read_csv(io.BytesIO(content(view, "all", "index.csv")))["boxes"].map(json.loads),
        polars.read_parquet(io.BytesIO(content(view, "all", "index.parquet")))["boxes"].to_list(),
    ):
        (found,) = table[0]
        assert (found["lesions"], found["id"], found["x2"]) == ([huge], str(10**25), 2**31 - 1)
    assert json.loads(content(view, "all", "coco.json"))["info"]["left_out"][0]["mark"] == str(10**25)


def test_an_image_of_unknown_size_is_left_out_of_the_boxes_and_reported(tmp_path: Path) -> None:
    Tree(tmp_path).client().study().image("1.1.1", marks={"1": box(1, 1, 5, 5)}).image("1.1.2", header=SIZED)
    found = json.loads(content(view_of(tmp_path), "all", "coco.json"))
    assert [image["file_name"] for image in found["images"]] == ["1.1.2.dcm"]
    assert found["info"]["images_left_out"] == {"the size is unknown": 1}
    assert found["info"]["marks_left_out"] == {"the size of its image is unknown": 1}


def test_boxes_name_images_as_their_directory_does(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.client("demd1").study("1.1").image("1.1.1", header=SIZED)
    tree.client("demd2").study("2.1").image("1.1.1", header=SIZED)
    view = view_of(tmp_path)

    def names(path: str) -> list[str]:
        return [image["file_name"] for image in json.loads(content(view, path, "coco.json"))["images"]]

    assert names("all") == ["1.1.1~demd1~1.1.dcm", "1.1.1~demd2~2.1.dcm"]
    assert names("by-client/demd2") == ["2.1/1.1.1.dcm"]
    assert names("by-client/demd2/2.1") == ["1.1.1.dcm"]


@pytest.mark.parametrize("path", COHORTS)
def test_the_summary_counts_what_the_facets_count(view: View, path: str) -> None:
    found = json.loads(content(view, path, "summary.json"))
    rows = expected(view, path)
    assert found["cohort"] == path
    assert found["images"] == len(rows)
    assert found["clients"] == len({row["client"] for row in rows})
    assert found["studies"] == len({row["study"] for row in rows})
    assert found["episodes"] == len({(row["client"], row["episode"]) for row in rows if row["episode"]})
    assert found["marks"] == sum(row["marks"] for row in rows)  # type: ignore[misc]
    cohort = view.cohort(directory(view, path))
    for facet in view.index.registry.facets:
        if facet.kind is not Kind.NAME:
            assert found["facets"][facet.name] == dict(view.cohorts.counts(cohort, facet))


@pytest.mark.parametrize("path", COHORTS)
def test_the_list_of_paths_is_what_the_directory_lists(view: View, path: str) -> None:
    listing = view.listing(directory(view, path))
    names = [entry.name for entry in listing.page(0, listing.length)]
    assert content(view, path, "paths.txt").split(b"\n") == [*(b"all/" + name for name in names), b""]


def test_every_quirk_can_be_exported(quirky_database: Quirky) -> None:
    view = view_of(quirky_database.path)
    assert len(pandas.read_csv(io.BytesIO(content(view, "all", "index.csv")), dtype=str)) == len(view.index)
    assert pyarrow.parquet.read_table(io.BytesIO(content(view, "all", "index.parquet"))).num_rows == len(
        view.index
    )
    found = json.loads(content(view, "all", "coco.json"))
    left_out = sum(found["info"]["marks_left_out"].values())
    with_dcm = (view.index.files[0].access[view.index.marks.row] != 0).sum()
    assert len(found["annotations"]) + left_out == with_dcm
    assert json.loads(content(view, "all", "summary.json"))["images"] == len(view.index)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("plain", "plain"),
        ("=1+1", "'=1+1"),
        ("+44", "'+44"),
        ("-1", "'-1"),
        ("@a", "'@a"),
        ("\tx", "'\tx"),
        ("\nx", '"\'\nx"'),
        ("\uff1d1", "'\uff1d1"),
        ('a"b', '"a""b"'),
        ("a,b", '"a,b"'),
        ("=a\nb", '"\'=a\nb"'),
    ],
)
def test_a_cell_is_quoted_where_it_must_be_and_never_calculated(text: str, written: str) -> None:
    assert cell(text.encode()).decode() == written


def test_names_that_a_spreadsheet_would_calculate_are_texts(tmp_path: Path) -> None:
    Tree(tmp_path).client().study("1.1").image("+1.1").image("=cmd|x")
    lines = content(view_of(tmp_path), "all", "index.csv").decode().splitlines()
    assert sorted(line.split(",")[3] for line in lines[1:]) == ["%3Dcmd%7Cx", "'+1.1"]


def test_a_facet_of_the_user_that_is_called_like_a_column_gets_a_name_of_its_own(
    demo_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("omidbfs.toml").write_text('[facets.marks]\ntag = "Rows"\n[facets.kvp]\ntag = "KVP"\n')
    done = CliRunner().invoke(main, ["export", str(demo_database), "--index", "i", "-o", "index.csv"])
    assert done.exit_code == 0, done.output
    table = pandas.read_csv("index.csv")
    assert set(table["by_marks"].astype(str)) == set(table["rows"].astype(str))
    assert "kvp" in table


def test_pages_are_parts_of_the_rows_and_neighbours_are_named_once() -> None:
    rows = np.arange(2 * PAGE + 3, dtype=np.uint32)
    assert [len(page) for page in pages(rows)] == [PAGE, PAGE, 3]
    names = Names.of([b"a", b"b", b"c"])
    assert spread(names, np.array([0, 0, 2, 2, 1], np.uint32)) == [b"a", b"a", b"c", b"c", b"b"]
    assert spread(names, np.zeros(0, np.uint32)) == []


def test_a_table_goes_on_over_the_end_of_a_page(view: View, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [content(view, "all", file) for file in ("index.csv", "coco.json", "paths.txt")]
    monkeypatch.setattr("omidbfs.exports.fields.PAGE", 7)
    monkeypatch.setattr("omidbfs.exports.parquet._GROUP", 100)
    assert [content(view, "all", file) for file in ("index.csv", "coco.json", "paths.txt")] == whole
    assert_is(
        polars.read_parquet(io.BytesIO(content(view, "all", "index.parquet"))).to_dicts(), expected(view, "all")
    )


def test_an_empty_database_gives_empty_files(tmp_path: Path) -> None:
    Tree(tmp_path)
    view = view_of(tmp_path)
    assert content(view, "all", "index.csv").count(b"\n") == 1
    assert pyarrow.parquet.read_table(io.BytesIO(content(view, "all", "index.parquet"))).num_rows == 0
    assert json.loads(content(view, "all", "coco.json"))["images"] == []
    assert content(view, "all", "paths.txt") == b""


# The command


def test_the_command_writes_the_bytes_of_the_drive(view: View, demo_database: Path, tmp_path: Path) -> None:
    for file in OF_COHORTS - {b"manifest.json"}:  # a manifest has the date of the index
        output = tmp_path / file.decode()
        arguments = ["export", str(demo_database), "by-outcome/malignant", "-o", str(output)]
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == 0, done.output
        expected_bytes = content_or_archive(view, demo_database, "by-outcome/malignant", file.decode())
        assert output.read_bytes() == expected_bytes
        assert output.stat().st_mode & 0o777 == 0o600
        number = len(expected(view, "by-outcome/malignant"))
        if file.endswith(b".csv"):
            number = len(list(csv.reader(expected_bytes.decode().splitlines()))) - 1
        if file.endswith(b".csv") or BY_FILE[file].unit == "image":
            assert done.stderr.startswith(f"{output}: {counted(number, BY_FILE[file].unit)}\n")


def test_a_format_can_be_written_to_standard_output(view: View, demo_database: Path) -> None:
    done = CliRunner().invoke(main, ["export", str(demo_database), "--format", "parquet"])
    assert done.stdout_bytes == content(view, "all", "index.parquet")


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("index.csv", "csv"),
        ("malignant.csv", "csv"),
        ("X.PARQUET", "parquet"),
        ("train-coco.json", "coco"),
        ("summary.json", "summary"),
        ("list.txt", "paths"),
        ("train.tar", "tar"),
        ("boxes.json", None),
        ("index", None),
        (".csv", None),
    ],
)
def test_the_name_of_a_file_says_its_format_where_it_is_plain(name: str, wanted: str | None) -> None:
    assert format_of(name) == wanted


def test_the_command_offers_every_format() -> None:
    (option,) = (one for one in main.commands["export"].params if one.name == "format")
    assert isinstance(option.type, click.Choice)
    assert list(option.type.choices) == [*FORMATS, OMIDB_SUMMARY, "npy", "yolo"]


def test_without_pyarrow_there_is_no_parquet_and_the_command_says_how_to_get_it(
    view: View, demo_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omidbfs.exports.formats.find_spec", lambda _: None)
    place = directory(view, "all/.omidbfs")
    assert view.lookup(place, b"index.parquet") is None
    listing = view.listing(place)
    names = [entry.name for entry in listing.page(0, listing.length)]
    tables = [f"{name}.csv".encode() for name in ("index", "pairs", "clients", "studies", "episodes", "marks")]
    assert names == [*tables, b"coco.json", b"summary.json", b"paths.txt", b"manifest.json", b"cohort.tar"]
    done = CliRunner().invoke(main, ["export", str(demo_database), "-o", str(tmp_path / "x.parquet")])
    assert done.exit_code == 1
    assert "pip install 'omidbfs[parquet]'" in done.stderr


# In the view


def test_generated_files_are_found_in_every_directory_of_images_and_listed_in_none(view: View) -> None:
    client = os.fsdecode(view.index.clients[0])
    study = os.fsdecode(view.index.studies[0])
    for path in ("all", "by-view/CC", f"by-client/{client}", f"by-client/{client}/{study}", f"by-study/{study}"):
        place = directory(view, path)
        listing = view.listing(place)
        assert b".omidbfs" not in [entry.name for entry in listing.page(0, listing.length)]
        inside = view.listing(directory(view, f"{path}/.omidbfs"))
        assert {entry.name for entry in inside.page(0, inside.length)} == (
            set(BY_FILE) if path.endswith(client) else OF_COHORTS
        )
    assert view.resolve(b"by-view/.omidbfs") is None
    assert view.lookup(directory(view, "all/.omidbfs"), b"status.json") is None


def test_a_generated_file_has_another_inode_in_every_view_and_at_every_path(view: View) -> None:
    other = View(view.index, Access(0o555, 0, 0), {})
    found = set()
    for one in (view, other):
        for path in ("all", "by-view/CC", "by-view/MLO"):
            for name in OF_COHORTS:
                export = one.lookup(directory(one, f"{path}/.omidbfs"), name)
                assert isinstance(export, Export)
                assert one.has_made(export)
                assert not (other if one is view else view).has_made(export)
                assert one.files.facts(export.inode) is None
                found.add(export.inode)
    assert len(found) == 2 * 3 * len(OF_COHORTS)


def test_a_view_refuses_what_another_has_made(view: View) -> None:
    other = View(view.index, Access(0o555, 0, 0), {})
    cohort, place = directory(other, "by-view/CC"), directory(other, "all/.omidbfs")
    export = other.lookup(place, b"index.csv")
    assert isinstance(export, Export)
    refused: list[Callable[[], object]] = [
        lambda: view.lookup(other.root, b"all"),
        lambda: view.lookup(place, b"index.csv"),
        lambda: view.listing(cohort),
        lambda: view.cohort(cohort),
        lambda: view.selection(cohort),
        lambda: view.content(export),
    ]
    for refuses in refused:
        with pytest.raises(OSError, match="another view") as raised:
            refuses()
        assert raised.value.errno == errno.ESTALE


@pytest.mark.parametrize(
    ("roots", "files", "ownership", "shown"),
    [
        (0o555, [0o444, 0o444], Ownership(), (0o444, os.geteuid(), 7)),
        (0o555, [0o444, 0o440], Ownership(), (0o440, os.geteuid(), 7)),
        (0o555, [0o444, 0o400], Ownership(), (0o400, os.geteuid(), 7)),
        (0o555, [0o404], Ownership(), (0o400, os.geteuid(), 7)),
        (0o550, [0o444], Ownership(), (0o440, os.geteuid(), 7)),
        (0o555, [0o444], Ownership(umask=0o027), (0o440, os.geteuid(), 7)),
        (0o555, [0o444], Ownership(uid=3), (0o444, 3, 7)),
        (0o555, [0o444, 0o044], Ownership(uid=3), (0o000, 3, 7)),
    ],
)
def test_other_users_can_read_generated_files_only_with_access_to_everything(
    view: View, roots: int, files: list[int], ownership: Ownership, shown: tuple[int, int, int]
) -> None:
    index = replace(view.index, accesses=((0, 0, 0), *((mode, 5, 7) for mode in files)))
    access = export_access(index, Access(roots, 5, 7), ownership)
    assert (access.mode, access.uid, access.gid) == shown


def test_a_group_that_is_not_that_of_every_file_gains_nothing(view: View) -> None:
    index = replace(view.index, accesses=((0, 0, 0), (0o440, 5, 7), (0o440, 5, 8)))
    assert export_access(index, Access(0o555, 5, 7), Ownership()).mode == 0o400
