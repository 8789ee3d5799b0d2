"""In a directory of renditions, tables and COCO name the renditions, and their boxes are where the pixels are."""

import contextlib
import io
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas
import pyarrow.parquet
import pytest
import trio
from click.testing import CliRunner
from pycocotools.coco import COCO
from trees import PIXELS, Tree, build_index

from omidbfs.cli.main import main
from omidbfs.cohorts.cohort import Cohort, Cohorts
from omidbfs.database.file_kinds import DCM
from omidbfs.database.layout import find_source
from omidbfs.exports.coordinates import FOLLOWING
from omidbfs.fuse.operations import Operations
from omidbfs.http.paths import found as found_by_http
from omidbfs.index.classification import Classification
from omidbfs.index.columns import Index
from omidbfs.index.measured import Geometries, Record, keys_of, made
from omidbfs.pixels.rendition import Box, Configured, Format, Rendition
from omidbfs.serving.drive import Drive
from omidbfs.serving.rights import own_identity
from omidbfs.serving.spool import Spool
from omidbfs.view import context
from omidbfs.view.inode import ROOT_INODE
from omidbfs.view.nodes import Directory, Export
from omidbfs.view.ownership import drive_access
from omidbfs.view.view import View

MINE = Rendition("mine", Format.PNG, Box(64, 48), mirrors=True)
COHORTS = ("as-png-64/all", "by-marked/yes/as-mine", "as-npy/by-view/MLO", "as-png16-300x200/by-file-type/dcm")


def view_of(place: Path, geometries: Geometries | None = None, index: Index | None = None) -> View:
    source = find_source(place)
    index = index or build_index(source, Classification())
    configured = Configured({"mine": MINE})
    return View(index, drive_access(source), {}, configured=configured, geometries=geometries)


@pytest.fixture(scope="module")
def view(demo_database: Path) -> View:
    return view_of(demo_database)


def directory(view: View, path: str) -> Directory:
    found = view.resolve(path.encode())
    assert found is not None
    return found


def content(view: View, path: str, name: str) -> bytes:
    export = view.lookup(directory(view, f"{path}/.omidbfs"), name.encode())
    assert isinstance(export, Export)
    return b"".join(view.content(export))


def table(view: View, path: str) -> list[dict[str, Any]]:
    """Return ``index.csv``, with boxes as lists. Identifiers are texts."""
    names = ["client", "episode", "study", "image"]
    found = pandas.read_csv(io.BytesIO(content(view, path, "index.csv")), dtype=dict.fromkeys(names, str))
    rows = found.to_dict("records")
    return [{**row, "boxes": json.loads(row["boxes"]) if isinstance(row["boxes"], str) else []} for row in rows]


def back(row: dict[str, Any], width: int, box: Sequence[float]) -> list[float]:
    """Return where a box ``x1 y1 x2 y2`` of a rendition is in its image, as docs/exports.md says."""
    x1, y1, x2, y2 = box
    if row["mirrored"]:
        x1, x2 = width - x2, width - x1
    across = [(x - row["offset_column"]) / row["scale_column"] for x in (x1, x2)]
    down = [(y - row["offset_row"]) / row["scale_row"] for y in (y1, y2)]
    return [across[0], down[0], across[1], down[1]]


def corners(box: dict[str, Any]) -> list[float]:
    return [box[name] for name in ("x1", "y1", "x2", "y2")]


def names_in(view: View, path: str) -> list[str]:
    listing = view.listing(directory(view, path))
    return [entry.name.decode() for entry in listing.page(0, listing.length) if entry.directory is None]


@pytest.mark.parametrize("path", COHORTS)
def test_a_table_leads_from_renditions_to_images_and_back(view: View, path: str) -> None:
    plain = {row["image"]: row for row in table(view, "all")}
    rows = table(view, path)
    assert [row["file_name"] for row in rows] == [name for name in names_in(view, path) if "." in name]
    assert any(row["boxes"] for row in rows)
    for row in rows:
        image = plain[row["image"]]
        for box, original in zip(row["boxes"], image["boxes"], strict=True):
            assert back(row, row["columns"], corners(box)) == pytest.approx(corners(original), abs=0.01)
            assert all(isinstance(corner, float) for corner in corners(box))
            assert box | dict.fromkeys(("x1", "y1", "x2", "y2")) == original | dict.fromkeys(
                ("x1", "y1", "x2", "y2")
            )
        shown = back(row, row["columns"], [0, 0, row["columns"], row["rows"]])
        if "npy" in path:
            assert shown == [0, 0, image["columns"], image["rows"]]
            assert [row[name] for name in FOLLOWING] == [1, 1, 0, 0, False]
        for side, scale in (("row", "scale_row"), ("column", "scale_column")):
            for name in (f"{side}_spacing", f"imager_{side}_spacing"):
                assert row[name] * row[scale] == pytest.approx(image[name], nan_ok=True)
        same = {*image} - {"rows", "columns", "boxes", *(name for name in image if "spacing" in name)}
        assert pandas.Series({name: row[name] for name in same}).equals(
            pandas.Series({name: image[name] for name in same})
        )
    if "mine" in path:
        assert {row["mirrored"] for row in rows} == {True, False}


@pytest.mark.parametrize("path", COHORTS)
def test_parquet_says_what_csv_says(view: View, path: str) -> None:
    found = pyarrow.parquet.read_table(io.BytesIO(content(view, path, "index.parquet")))
    header = content(view, path, "index.csv").partition(b"\n")[0].decode().split(",")
    assert found.schema.names == header
    for row, wanted in zip(found.to_pylist(), table(view, path), strict=True):
        for name in ("image", "file_name", "rows", "columns", *FOLLOWING):
            assert row[name] == wanted[name]
        assert row["boxes"] == wanted["boxes"]


@pytest.mark.parametrize("path", COHORTS)
def test_marks_are_where_the_boxes_of_their_images_are(view: View, path: str) -> None:
    found = pyarrow.parquet.read_table(io.BytesIO(content(view, path, "marks.parquet")))
    assert content(view, path, "marks.csv").count(b"\n") == 1 + len(found)
    marks = iter(found.to_pylist())
    for row in table(view, path):
        for box in row["boxes"]:
            mark = next(marks)
            assert (mark["mark"], corners(mark), mark["features"]) == (box["id"], corners(box), box["features"])
            names = ("client", "image", "file_name", "rows", "columns", *FOLLOWING)
            assert [mark[name] for name in names] == [row[name] for name in names]
    assert [*marks] == []


@pytest.mark.parametrize("path", COHORTS)
def test_pycocotools_reads_the_boxes_of_renditions(view: View, tmp_path: Path, path: str) -> None:
    (tmp_path / "coco.json").write_bytes(content(view, path, "coco.json"))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(tmp_path / "coco.json"))
    images = coco.loadImgs(coco.getImgIds())
    for image, row in zip(images, table(view, path), strict=True):
        assert image["file_name"] == row["file_name"]
        assert (image["height"], image["width"]) == (row["rows"], row["columns"])
        assert [image[name] for name in FOLLOWING] == [row[name] for name in FOLLOWING]
        found = coco.loadAnns(coco.getAnnIds([image["id"]]))
        for one, box in zip(found, row["boxes"], strict=True):
            x, y, width, height = one["bbox"]
            assert [x, y, x + width, y + height] == pytest.approx(corners(box), abs=1e-9)
            assert one["area"] == width * height


def test_files_are_named_as_in_their_directory(view: View) -> None:
    client = view.index.clients[0].decode()
    path = f"as-mine/by-client/{client}"
    rows = table(view, path)
    assert rows
    for row in rows:
        study, name = row["file_name"].split("/")
        assert name in names_in(view, f"{path}/{study}")
    images = json.loads(content(view, path, "coco.json"))["images"]
    assert [image["file_name"] for image in images] == [row["file_name"] for row in rows]


@pytest.mark.parametrize("name", ["index.csv", "marks.parquet", "coco.json", "paths.txt"])
def test_the_command_writes_what_the_drive_has_of_a_rendition(
    view: View, demo_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    out = tmp_path / name
    arguments = ["export", str(demo_database), "by-view/CC", "--as", "png-64", "-o", str(out)]
    if name == "paths.txt":
        arguments += ["--format", "paths"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert out.read_bytes() == content(view, "by-view/CC/as-png-64", name)
    assert out.stat().st_mode & 0o777 == 0o600


# Images that are cropped

BOXES = {"1": (10, 5, 90, 45), "2": None, "3": (0, 40, 104, 80)}


def box(number: int, x1: int, y1: int, x2: int, y2: int) -> dict[str, object]:
    sides = {"X1": x1, "Y1": y1, "X2": x2, "Y2": y2}
    return {"MarkID": number, **{name: str(value) for name, value in sides.items()}}


@pytest.fixture(scope="module")
def cropped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of four images of 104 x 80 pixels; the first three have been measured (:data:`BOXES`)."""
    tree = Tree(tmp_path_factory.mktemp("cropped"))
    marks = {"a": box(1, 20, 30, 30, 50), "b": box(2, 40, 60, 60, 80), "c": box(3, 60, 10, 70, 20)}
    study = tree.client("demd1").study("1.1")
    for image, side, view in (("1", "L", "MLO"), ("2", "R", "MLO"), ("3", "R", "MLO"), ("4", "L", "CC")):
        study.image(image, ViewPosition=view, ImageLaterality=side, marks=marks, **PIXELS)
    return tree.root


def geometries(index: Index, records: dict[str, Record]) -> Geometries:
    rows = np.array([row for row in range(len(index)) if index.images[row].decode() in records])
    files = index.files[DCM]
    facts = list(zip(files.size[rows].tolist(), files.mtime[rows].tolist(), strict=True))
    found = [records[name.decode()] for name in index.images.take(rows)]
    keys = keys_of(index, rows)
    order = np.argsort(keys)
    measured = made(keys[order], [facts[at] for at in order], [found[at] for at in order], 1)
    return Geometries(index, lambda: measured)


def test_cropped_images_have_tables_where_the_whole_cohort_is_measured(cropped: Path) -> None:
    records = {name: Record(found, "left", 0.5) for name, found in BOXES.items()}
    plain = view_of(cropped)
    measured = view_of(cropped, geometries(plain.index, records), plain.index)
    failed = geometries(plain.index, {**records, "2": Record(kind="cut off")})
    files = {"coco.json", "index.csv", "index.parquet", "marks.csv", "marks.parquet", "paths.txt", "summary.json"}
    for view, path, has_tables in (
        (plain, "by-view/MLO", False),
        (measured, "by-view/MLO", True),
        (measured, "all", False),
        (measured, "by-view/CC", False),
        (measured, "by-view/SIO", True),
        (view_of(cropped, failed, plain.index), "by-view/MLO", False),
        (view_of(cropped, failed, plain.index), "by-view/MLO/by-laterality/L", True),
    ):
        names = {*names_in(view, f"{path}/as-png-52x40-crop/.omidbfs")}
        wanted = {name for name in files if name.startswith(("paths", "summary"))} if not has_tables else files
        assert {name for name in names if name in files} == wanted, path
        assert "coco.json" in names_in(view, f"{path}/as-png-52x40/.omidbfs")


@pytest.mark.parametrize("asks", ["a mount", "HTTP"])
def test_a_thread_finds_out_which_files_a_cropped_cohort_has(
    cropped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asks: str
) -> None:
    plain = view_of(cropped)
    records = {name: Record(found, "left", 0.5) for name, found in BOXES.items()}
    view = view_of(cropped, geometries(plain.index, records), plain.index)
    names = b"by-view/MLO/as-png-52x40-crop/.omidbfs/coco.json".split(b"/")
    rows, threads = Cohorts.rows, set[object]()

    def noted(self: Cohorts, cohort: Cohort) -> object:
        threads.add(threading.current_thread())
        return rows(self, cohort)

    monkeypatch.setattr(Cohorts, "rows", noted)
    monkeypatch.setattr(context, "_FEW", -1)  # a cohort of millions

    async def by_kernel(drive: Drive) -> str:
        operations, inode = Operations(drive), ROOT_INODE
        for name in names:
            inode = (await operations.lookup(inode, name, SimpleNamespace())).st_ino
        export = operations.generated.get(inode)
        assert export is not None
        return export.format

    async def by_http(drive: Drive) -> str:
        node = await found_by_http(drive, own_identity(), names)
        assert isinstance(node, Export)
        return node.format

    async def run() -> str:
        drive = Drive(view, find_source(cropped), spool=Spool((tmp_path,)))
        try:
            return await (by_http if asks == "HTTP" else by_kernel)(drive)
        finally:
            drive.close()

    assert trio.run(run) == "coco"
    assert threads
    assert threading.main_thread() not in threads


def test_boxes_follow_what_is_cropped(cropped: Path) -> None:
    plain = view_of(cropped)
    found = geometries(plain.index, {name: Record(region) for name, region in BOXES.items()})
    path = "by-view/MLO/as-png-40x40-crop"
    view = view_of(cropped, found, plain.index)
    rows = {row["image"]: row for row in table(view, path)}
    coco = json.loads(content(view, path, "coco.json"))
    shown = {
        "1": {"1": [], "2": ["cut off at the edge"]},
        "2": {"1": [], "2": [], "3": []},
        "3": {"2": [], "3": []},
    }
    for name, row in rows.items():
        for mark, original in zip(row["boxes"], table(plain, "all")[0]["boxes"], strict=True):
            assert back(row, 40, corners(mark)) == pytest.approx(corners(original), abs=0.01)
        one = next(image for image in coco["images"] if image["file_name"] == f"{name}.png")
        boxes = [mark for mark in coco["annotations"] if mark["image_id"] == one["id"]]
        for mark in boxes:
            x, y, width, height = mark["bbox"]
            assert -1e-9 <= x < x + width <= 40 + 1e-9
            assert -1e-9 <= y < y + height <= 40 + 1e-9
        cut = {mark["attributes"]["mark"]: mark["attributes"]["corrected"] for mark in boxes}
        assert cut == shown[name]
    reason = "it is outside of what the rendition shows"
    assert coco["info"]["marks_left_out"] == {reason: 2}
    # 80 x 40 pixels at the left of a square, of which each is half a pixel: the first box begins at 15, 20.
    assert corners(rows["1"]["boxes"][0]) == pytest.approx([7.5, 10, 12.5, 20])
    # 104 x 40 at the right of the square, in 40 x 15.
    assert rows["3"]["offset_column"] == pytest.approx(25 - 40 * 15 / 40)


def test_a_rendition_of_every_image_that_does_not_exist_is_named_as_it_would_be_on_the_drive(
    cropped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for arguments in (["--format", "csv"], ["-o", "x"]):
        done = CliRunner().invoke(main, ["export", str(cropped), "--as", "png-9000", *arguments])
        assert done.stderr.startswith("omidbfs: as-png-9000: there is no as-png-9000; ")


def test_the_command_says_what_is_missing_for_cropped_images(
    cropped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for arguments in (
        ["--format", "csv"],
        ["--format", "yolo", "-o", "x"],
        ["--format", "npy", "-o", "x.npy"],
    ):
        done = CliRunner().invoke(main, ["export", str(cropped), "--as", "png-52x40-crop", *arguments])
        assert done.exit_code == 1
        known = "where the breast is in 4 of the 4 images is not known; run `omidbfs geometry SOURCE`"
        assert done.stderr.startswith(f"omidbfs: as-png-52x40-crop: {known}")
