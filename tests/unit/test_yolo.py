"""``omidbfs export --format yolo`` writes a data set, whose labels a plain parser reads as the boxes of COCO."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from PIL import Image

from omidbfs.cli.main import main
from omidbfs.exports.rendition_record import RECORD
from omidbfs.exports.yolo import _data

CONFIG = """
[renditions.mine]
format = "png"
size = "64x48"
mirror = true
[facets.part]
csv = "parts.csv"
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home of its own."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)


@pytest.fixture
def database(demo_database: Path, tmp_path: Path) -> Path:
    """Two clients of the demo with marks, to be changed."""
    marked = sorted(
        path.parent.name for path in (demo_database / "data").glob("*/imagedb_*") if b'"X1"' in path.read_bytes()
    )
    for client in marked[:2]:
        for tree in ("images", "data"):
            shutil.copytree(demo_database / tree / client, tmp_path / "db" / tree / client)
    (tmp_path / "parts.csv").write_text(f"client,part\n{marked[0]},train\n{marked[1]},val\n")
    (tmp_path / "omidbfs.toml").write_text(CONFIG)
    return tmp_path / "db"


def run(database: Path, *arguments: object) -> Result:
    options = ["--config", database.parent / "omidbfs.toml", "export", database, *arguments]
    return CliRunner().invoke(main, [str(option) for option in options], prog_name="omidbfs")


def said(done: Result) -> str:
    return "".join(line for line in done.stderr.splitlines(True) if not re.match("rendering|omidbfs: as of", line))


def boxes_in(directory: Path) -> dict[str, list[tuple[str, list[float]]]]:
    """Read a data set: image -> class and ``x y width height`` in pixels of each box."""
    data = yaml.safe_load((directory / "data.yaml").read_text())
    assert data["nc"] == len(data["names"])
    found = {}
    for image in (directory / "images").rglob("*.png"):
        label = directory / "labels" / image.relative_to(directory / "images").with_suffix(".txt")
        with Image.open(image) as pixels:
            width, height = pixels.size
        boxes = []
        for line in label.read_text().splitlines():
            number, *shares = line.split(" ")
            x, y, w, h = map(float, shares)
            assert all(0 <= share <= 1 for share in (x, y, w, h))
            box = [(x - w / 2) * width, (y - h / 2) * height, w * width, h * height]
            boxes.append((data["names"][int(number)], box))
        found[str(image.relative_to(directory / "images"))] = boxes
    labels = {str(path.relative_to(directory / "labels")) for path in (directory / "labels").rglob("*.txt")}
    assert labels == {str(Path(name).with_suffix(".txt")) for name in found}
    return found


def expected(database: Path, *arguments: object) -> dict[str, list[tuple[str, list[float]]]]:
    coco = json.loads(run(database, *arguments, "--format", "coco").stdout)
    names = {one["id"]: one["name"] for one in coco["categories"]}
    return {
        image["file_name"]: [
            (names[one["category_id"]], pytest.approx(one["bbox"], abs=1e-9))
            for one in coco["annotations"]
            if one["image_id"] == image["id"]
        ]
        for image in coco["images"]
    }


@pytest.mark.parametrize("name", ["png-64", "mine"])
def test_a_plain_parser_reads_the_boxes_of_coco(database: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    done = run(database, "--format", "yolo", "--as", name, "-o", out)
    found = boxes_in(out)
    assert (done.exit_code, said(done)) == (0, f"{out}: {len(found)} images\n")
    assert found == expected(database, "--as", name)
    assert any(found.values())
    assert not all(found.values())
    data = yaml.safe_load((out / "data.yaml").read_text())
    assert (data["train"], data["val"]) == ("images", "images")
    assert "path" not in data
    for path in out.rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600)


def test_a_data_set_follows_the_source_when_it_is_made_again(database: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = (database, "--format", "yolo", "--as", "png-32", "-o", out, "--verify-first")
    assert run(*command).exit_code == 0
    before = {path: path.stat().st_ino for path in out.rglob("*") if path.is_file() and path.name != RECORD}
    marked = min(path for path in (out / "labels").iterdir() if path.stat().st_size)
    gone = max(path for path in (out / "labels").iterdir() if not path.stat().st_size)
    content = marked.read_bytes()

    marked.write_bytes(b"damaged")
    assert said(run(*command)) == f"{out}: {len(before) // 2} images, {len(before) // 2} of them up to date\n"
    assert marked.read_bytes() == content
    after = {path: path.stat().st_ino for path in before}
    assert [path for path in before if before[path] != after[path]] == [marked]

    image = next((database / "images").rglob(f"{gone.stem}.dcm"))
    image.unlink()
    cut = next((database / "images").rglob(f"{marked.stem}.dcm"))
    os.truncate(cut, cut.stat().st_size - 1)
    done = run(*command)
    assert (done.exit_code, done.stdout) == (1, f"image,kind\n{cut.stem},the pixel data are cut off\n")
    assert "2 files removed" in said(done)
    left = {path for path in out.rglob("*") if path.is_file() and path.name != RECORD}
    assert left == {path for path in before if path.stem not in (gone.stem, marked.stem)}


def test_parts_of_a_split_are_those_of_the_data_set(database: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run(database, "--format", "yolo", "--as", "png-32", "--layout", "by-part", "-o", out)
    assert done.exit_code == 0, done.stderr
    data = yaml.safe_load((out / "data.yaml").read_text())
    assert {key: data.get(key) for key in ("train", "val", "test")} == {
        "train": "images/train",
        "val": "images/val",
        "test": None,
    }
    flat = {name.split("/")[1]: boxes for name, boxes in boxes_in(out).items()}
    assert flat == expected(database, "--as", "png-32")
    train = {Path(path).stem for path in os.listdir(out / data["train"])}
    assert train == {Path(path).stem for path in os.listdir(out / "labels" / "train")}
    first = min(os.listdir(database / "images"))
    assert train == {path.stem for path in (database / "images" / first).rglob("*.dcm")}


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"train", "test"}, {"train": "images/train", "val": "images/train", "test": "images/test"}),
        ({"train", "validation"}, {"train": "images/train", "val": "images/validation", "test": None}),
        ({"MLO", "CC"}, {"train": "images", "val": "images", "test": None}),
    ],
)
def test_a_data_set_always_has_what_it_is_validated_on(parts: set[str], expected: dict[str, str | None]) -> None:
    data = yaml.safe_load(_data(parts))
    assert {key: data.get(key) for key in expected} == expected


def test_marks_that_are_left_out_are_counted_in_one_line(database: Path, tmp_path: Path) -> None:
    place = next(path for path in (database / "data").glob("*/imagedb_*") if b'"X1"' in path.read_bytes())
    document = json.loads(place.read_text())
    images = [
        (image, marks)
        for study in document["STUDIES"].values()
        for series in study.values()
        if isinstance(series, dict)
        for image, marks in series.items()
        if marks
    ]
    image, marks = images[0]
    marks |= {
        "outside": {"MarkID": 8, "X1": "500", "X2": "600", "Y1": "500", "Y2": "600"},
        "line": {"MarkID": 9, "X1": "5", "X2": "5", "Y1": "5", "Y2": "6"},
        "corner": {"MarkID": 10, "X1": "-10", "X2": "30", "Y1": "10", "Y2": "30"},
    }
    place.write_text(json.dumps(document))
    out = tmp_path / "out"
    done = run(database, "--format", "yolo", "--as", "png-32", "-o", out)
    assert said(done).splitlines()[1:] == [
        f"{out}: 2 marks left out (it has no area: 1, it is outside of its image: 1)"
    ]
    found = boxes_in(out)
    assert found == expected(database, "--as", "png-32")
    assert any(box[0] == pytest.approx(0, abs=1e-12) for _, box in found[f"{image}.png"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "x"], "--format yolo: needs a rendition; add --as"),
        (["--as", "png"], "--as: needs a directory to write to; add -o DIRECTORY"),
        (["--as", "npy", "-o", "x"], "--as npy: YOLO reads no npy files; choose a png, as in --as png-640"),
    ],
)
def test_what_cannot_be_a_data_set_is_said(database: Path, arguments: list[str], message: str) -> None:
    done = run(database, "--format", "yolo", *arguments)
    assert done.exit_code == 1
    assert message in done.stderr


def test_images_and_a_data_set_do_not_share_a_directory(database: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(database, "by-view/CC", "--as", "png-16", "-o", out).exit_code == 0
    done = run(database, "by-view/CC", "--as", "png-16", "--format", "yolo", "-o", out)
    assert f"{out}: holds by-view/CC as png-16, layout flat; name another directory" in done.stderr
