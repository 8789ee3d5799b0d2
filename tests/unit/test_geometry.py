"""``omidbfs geometry``, the file that it keeps, and the renditions and facets that use it."""

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from random import Random

import msgspec
import numpy as np
import pydicom.data
import pytest
import trio
from breasts import Drawing, drawn, overlap
from click.testing import CliRunner, Result
from front_end import FrontEnd
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom import dcmread

from omidbfs.cli.main import main
from omidbfs.database.boxes import place_of_box
from omidbfs.database.layout import find_source
from omidbfs.database.pixel_format import PixelFormat
from omidbfs.database.records import Mark
from omidbfs.index.measured import KIND, Geometries, Measured, Record, joined, load, made, place_of, save
from omidbfs.index.sections import IndexFileError
from omidbfs.pixels import survey
from omidbfs.pixels.apart import Apart, Found
from omidbfs.pixels.decode import read
from omidbfs.pixels.errors import KINDS, PixelError
from omidbfs.pixels.geometry import breast_in, measured
from omidbfs.pixels.rendition import DETECTOR
from omidbfs.pixels.worker import Answer
from omidbfs.serving.drive import Drive
from omidbfs.serving.refresh import Refresher, drive_of
from omidbfs.serving.session import Session
from omidbfs.view.nodes import Directory


def drawing(random: Random, rows: int) -> Drawing:
    """Return any breast that a radiographer would accept."""
    return Drawing(
        seed=random.randrange(10**6),
        rows=rows,
        columns=round(rows * random.uniform(0.75, 0.85)),
        side=random.choice(["left", "right"]),
        extent=random.uniform(0.22, 0.55),
        above=random.uniform(0.25, 0.8),
        below=random.uniform(0.25, 0.45),
        middle=random.uniform(0.42, 0.58),
        fade=random.uniform(0.005, 0.03),
        noise=random.choice([0, 0.003, 0.01]),
        air=random.choice([0, 0.02, 0.1]),
        muscle=random.random() < 0.4,
        implant=random.random() < 0.2,
        label=random.choice(["", "corner", "near", "touching"]),
        collimator=random.choice([0, 0, 0, 0.03]),
        padding=random.choice([0, 0, 0, 0.04]),
        is_inverted=random.random() < 0.5,
        bits=random.choice([8, 12, 14, 16]),
    )


@settings(max_examples=25, derandomize=True)
@given(st.integers(0, 10**6), st.sampled_from([640, 960, 1280]))
def test_the_breast_in_a_drawing_is_found(seed: int, rows: int) -> None:
    of = drawing(Random(seed), rows)
    image = drawn(of)
    found = breast_in(image.stored, image.padding, of.is_inverted)
    assert found.box is not None
    assert found.side == image.side
    assert overlap(found.box, image.box) >= 0.98
    assert abs(found.share - image.share) < 0.05


def test_the_box_is_the_same_bright_or_dark_mirrored_and_in_more_bits() -> None:
    of = Drawing(seed=3, label="touching", muscle=True)
    one, other = drawn(of), drawn(Drawing(seed=3, label="touching", muscle=True, is_inverted=True))
    found = breast_in(one.stored)
    assert found.box is not None
    assert breast_in(other.stored, None, True) == found
    assert breast_in(one.stored * np.uint16(16)) == found
    mirrored = breast_in(one.stored[:, ::-1])
    assert mirrored.box is not None
    box, columns = found.box, one.stored.shape[1]
    assert tuple(mirrored.box) == (box.top, columns - box.right, box.bottom, columns - box.left)
    assert (found.side, mirrored.side) == ("left", "right")


@pytest.mark.parametrize("values", [np.zeros((50, 40), "u1"), np.full((900, 700), 77, "<u2")])
def test_an_image_without_contrast_has_no_breast(values: np.ndarray) -> None:
    assert breast_in(values).box is None
    assert breast_in(values, (0, 100)).box is None


def test_nothing_in_the_wheel_of_pydicom_ends_it() -> None:
    seen, kinds = 0, set[str]()
    for place in sorted(Path(pydicom.data.__file__).parent.glob("test_files/*.dcm")):
        if place.stat().st_size > 1_000_000:
            continue
        with place.open("rb") as stream:
            try:
                source = read(stream.fileno())
                found = measured(source)
            except PixelError as error:
                kinds.add(error.kind)
                continue
        rows, columns = source.format.Rows, source.format.Columns
        if found.box is not None:
            assert rows is not None
            assert columns is not None
            assert 0 <= found.box.top < found.box.bottom <= rows
            assert 0 <= found.box.left < found.box.right <= columns
        assert 0 <= found.share <= 1
        seen += 1
    assert seen > 20
    assert kinds <= KINDS


# Boxes of marks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("corners", "breast", "where"),
    [
        ((5, 5, 9, 9), None, "inside"),
        ((9, 9, 5, 5), None, "inside"),
        ((5, 5, 5, 9), None, "degenerate"),
        ((-3, 5, 9, 9), None, "partly-outside"),
        ((90, 5, 99, 9), None, "transposed"),
        ((90, 190, 99, 199), None, "outside"),
        ((50, 5, 60, 9), (0, 0, 100, 30), "transposed"),
        ((50, 40, 60, 45), (0, 0, 100, 30), "off-breast"),
        ((25, 40, 60, 45), (0, 0, 100, 30), "inside"),
        ((75, 40, 90, 45), (0, 0, 100, 30), "partly-outside"),
    ],
)
def test_a_box_lies_in_the_image_and_on_the_breast(
    corners: tuple[int, int, int, int], breast: tuple[int, int, int, int] | None, where: str
) -> None:
    x1, y1, x2, y2 = corners
    mark = Mark("1", x1, y1, x2, y2, None, None, None, None, frozenset())
    assert place_of_box(mark, 100, 80, breast) == where


# The command and its file -------------------------------------------------------------------------------------


@pytest.fixture
def database(demo_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A client of the demo, to be changed."""
    client = sorted(path.name for path in (demo_database / "data").iterdir())[0]
    for tree in ("images", "data"):
        shutil.copytree(demo_database / tree / client, tmp_path / "db" / tree / client)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return tmp_path / "db"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="omidbfs")


def measure(database: Path, *options: str) -> dict[str, object]:
    done = run("geometry", database, "--index", database.parent / "index", "--json", "--workers", "1", *options)
    found: dict[str, object] = json.loads(done.stdout)
    return found


def counts(database: Path, facet: str) -> dict[str, int]:
    done = run("facets", database, "--index", database.parent / "index", "--json")
    found: dict[str, int] = json.loads(done.stdout)[facet]
    return found


def dicom(database: Path) -> list[Path]:
    return sorted((database / "images").glob("*/*/*.dcm"))


def test_only_new_and_changed_images_are_measured(database: Path) -> None:
    files = dicom(database)
    first = measure(database)
    assert (first["images"], first["measured"], first["failed"]) == (len(files), len(files), {})
    kept = place_of(database.parent / "index")
    assert kept.stat().st_mode & 0o777 == 0o600
    assert counts(database, "chest-wall").get("unmeasured") is None
    assert measure(database)["measured"] == 0

    damaged, touched = files[0], files[1]
    damaged.write_bytes(damaged.read_bytes()[:-2000])
    os.utime(touched, ns=(1, 1))
    again = measure(database)
    assert (again["measured"], again["failed"]) == (2, {"the pixel data are cut off": 1})
    assert measure(database)["measured"] == 0  # an image that fails is not tried again
    assert run("geometry", database, "--index", database.parent / "index").exit_code == 1

    (database.parent / "index").unlink()  # an index that is built anew finds all that was measured
    assert measure(database)["measured"] == 0
    files[2].unlink()
    next(database.glob(f"data/*/*/{files[2].stem}.json")).unlink()
    assert measure(database)["images"] == len(files) - 1  # an image that is gone is forgotten
    assert len(load(kept, json.loads(_header(kept))["source"], DETECTOR)) == len(files) - 1


def _header(path: Path) -> str:
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return json.dumps(header["__metadata__"])


def test_what_was_measured_is_kept_when_it_is_interrupted(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from omidbfs.pixels import check

    monkeypatch.setattr(check, "_SMALLEST_TASK", 2)
    monkeypatch.setattr(check, "_LARGEST_TASK", 2)
    real, calls = survey.surveyed, []

    def interrupted(task: check.Task) -> object:
        calls.append(task)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(task)

    monkeypatch.setattr(survey, "surveyed", interrupted)
    assert run("geometry", database, "--index", database.parent / "index", "--workers", "1").exit_code == 130
    monkeypatch.setattr(survey, "surveyed", real)
    assert measure(database)["measured"] == len(dicom(database)) - 4


def test_each_of_two_commands_keeps_what_the_other_finds(database: Path) -> None:
    measure(database)
    kept = place_of(database.parent / "index")
    fingerprint = json.loads(_header(kept))["source"]
    kept.write_bytes(b"")
    keys = np.arange(4, dtype=np.uint64)
    records = [Record((1, 2, 30, 40), "left", 1.0), Record(kind="cut off"), Record(kind="no pixel data"), Record()]
    first, second = (survey.Survey(kept, fingerprint, Measured(detector=DETECTOR)) for _ in range(2))
    first.save(made(keys[[0, 1]], [(1, 1)] * 2, [records[0], records[1]], DETECTOR))
    second.save(made(keys[[2, 3]], [(1, 1)] * 2, [records[2], Record()], DETECTOR))
    first.save(made(keys[[3]], [(1, 2)], [records[3]], DETECTOR))
    found = load(kept, fingerprint, DETECTOR)
    assert [found.record(place) for place in range(len(found))] == records
    assert found.mtime.tolist() == [1, 1, 1, 2]
    second.save(gone=keys[[0, 3]])
    first.save(made(keys[[1]], [(1, 1)], [records[1]], DETECTOR))
    assert load(kept, fingerprint, DETECTOR).keys.tolist() == [1, 2], "the first brings back nothing that is gone"
    kept.unlink()
    first.save(made(keys[[3]], [(1, 1)], [records[3]], DETECTOR))
    assert load(kept, fingerprint, DETECTOR).keys.tolist() == [1, 2, 3], (
        "it has what it knew when the file was lost"
    )
    # Both forget these, as no image of the database has them.
    sides = ["by-laterality/L", "by-laterality/R"]
    command = [sys.executable, "-m", "omidbfs", "geometry", str(database), "--index", str(kept.with_suffix(""))]
    both = [subprocess.Popen([*command, side], stderr=subprocess.PIPE, text=True) for side in sides]
    said = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert len(load(kept, fingerprint, DETECTOR)) == len(dicom(database))


def test_a_damaged_file_is_measured_anew_and_told(database: Path) -> None:
    measure(database)
    kept = place_of(database.parent / "index")
    content = bytearray(kept.read_bytes())
    content[-9] ^= 1
    kept.write_bytes(content)
    assert counts(database, "chest-wall") == {"unmeasured": len(dicom(database))}
    done = run("geometry", database, "--index", database.parent / "index", "--workers", "1")
    assert f"omidbfs: {kept}: damaged" in done.stderr
    assert f"{len(dicom(database))} measured" in done.stderr


def test_a_file_that_omidbfs_did_not_write_stays(database: Path) -> None:
    kept = place_of(database.parent / "index")
    kept.write_text("mine")
    done = run("geometry", database, "--index", database.parent / "index", "--workers", "1")
    assert done.exit_code == 1
    assert kept.read_text() == "mine"
    assert "left alone" in done.stderr


def test_an_index_has_any_name_that_a_file_can_have(database: Path) -> None:
    index = database.parent / ("x" * 255)  # there is no place beside it for what geometry finds
    done = run("count", database, "--index", index)
    assert (done.exit_code, index.exists()) == (0, True), done.exception


def test_records_are_read_as_they_were_written(tmp_path: Path) -> None:
    records = [Record((1, 2, 30, 40), "left", 0.5), Record(), Record(kind="no pixel data")]
    keys = np.array([7, 3, 9], np.uint64)
    known = made(keys, [(1, 2), (3, 4), (5, -6)], records, DETECTOR)
    known = joined(known, made(keys[:1], [(1, 3)], [Record((1, 2, 30, 41), "right", 1.0)], DETECTOR))
    source = json.dumps({"born": [None], "inodes": [1]})
    save(tmp_path / "x", known, source)
    found = load(tmp_path / "x", source, DETECTOR)
    assert found.keys.tolist() == [3, 7, 9]
    assert [found.record(place) for place in range(3)] == [
        Record(),
        Record((1, 2, 30, 41), "right", 1.0),
        Record(kind="no pixel data"),
    ]
    assert len(load(tmp_path / "x", source, DETECTOR + 1)) == 0
    assert len(load(tmp_path / "none", source, DETECTOR)) == 0
    with pytest.raises(IndexFileError, match="of another source"):
        load(tmp_path / "x", json.dumps({"born": [None], "inodes": [2]}), DETECTOR)
    assert KIND.schema == "1"


def test_a_process_that_was_taken_over_cannot_say_what_it_likes(database: Path, tmp_path: Path) -> None:
    script = tmp_path / "evil.py"
    script.write_text(
        "import socket, sys\n"
        "said = socket.socket(fileno=int(sys.argv[2]))\n"
        f"said.send({msgspec.msgpack.encode(Answer())!r})\n"
        "while said.recv(4096): said.send(bytes.fromhex(sys.argv[1]))\n"
    )
    box = {"box": [0, 0, 10**9, 5], "side": "left", "share": 0.5}
    answers: list[tuple[object, str]] = [
        ({"breast": box}, "the decoder crashed"),
        ("found", "the decoder crashed"),
        ({"problem": "the name of a client"}, "another problem"),
        ({}, "another problem"),
    ]
    for answer, kind in answers:
        command = [sys.executable, str(script), msgspec.msgpack.encode(answer).hex()]
        with Apart(command=command) as apart, dicom(database)[0].open("rb") as stream:
            assert apart.measured(stream.fileno(), PixelFormat()) == kind
    with Apart() as apart, dicom(database)[0].open("rb") as stream:
        assert isinstance(apart.measured(stream.fileno(), PixelFormat()), Found)


# Renditions ---------------------------------------------------------------------------------------------------


def test_a_crop_follows_an_edit_that_leaves_size_and_time_of_the_file(database: Path, tmp_path: Path) -> None:
    measure(database)
    index = ("--index", database.parent / "index", "--workers", "1")
    path = next(one for one in dicom(database) if not dcmread(one).file_meta.TransferSyntaxUID.is_compressed)
    rendered = {}
    for name in ("before", "after"):
        out = tmp_path / name
        assert run("export", database, "all", "--as", "png-64x48-crop", "-o", out, *index).exit_code == 0
        with Image.open(out / f"{path.stem}.png") as image:
            rendered[name] = np.asarray(image)
        seen, header = path.stat(), dcmread(path)
        header.PixelData = header.pixel_array[:, ::-1].tobytes()  # the chest wall is now where its label is not
        header.save_as(path)
        assert path.stat().st_size == seen.st_size
        os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    # The side comes from the header, so the rendition is anchored as before: the breast only turns around.
    assert (rendered["before"] > 0).any(1).sum() == (rendered["after"] > 0).any(1).sum()
    assert abs(rendered["before"].astype(int).sum() - rendered["after"].astype(int).sum()) < 64 * 48
    assert not np.array_equal(rendered["before"], rendered["after"])


def test_a_crop_is_the_same_with_a_record_and_without(database: Path, tmp_path: Path) -> None:
    index = ("--index", database.parent / "index", "--workers", "1")
    out = [tmp_path / name for name in ("before", "after")]
    assert run("export", database, "all", "--as", "png-64x48-crop", "-o", out[0], *index).exit_code == 0
    measure(database)
    assert run("export", database, "all", "--as", "png-64x48-crop", "-o", out[1], *index).exit_code == 0
    files = sorted(out[0].glob("*.png"))
    assert len(files) == len(dicom(database))
    assert all(path.read_bytes() == (out[1] / path.name).read_bytes() for path in files)
    touching = 0
    for path in files:
        with Image.open(path) as image:
            assert image.size == (48, 64)
            shown = np.asarray(image) > 0
        header = dcmread(next(database.glob(f"images/*/*/{path.stem}.dcm")), stop_before_pixels=True)
        if header.PresentationIntentType == "FOR PRESENTATION" and header.get("ViewPosition") == "CC":
            rows, columns = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
            touching += (rows[-1] - rows[0] + 1) == 64 or (columns[-1] - columns[0] + 1) == 48
    assert touching


# Drives -------------------------------------------------------------------------------------------------------


def session_at(database: Path) -> Session:
    index = database.parent / "index"
    return Session(find_source(database), index, lambda: nullcontext(lambda *_: None))


def test_a_chest_wall_at_the_other_side_is_found_and_moves_nothing(database: Path) -> None:
    path = dicom(database)[0]
    sidecar = next(database.glob(f"data/*/*/{path.stem}.json"))
    header = json.loads(sidecar.read_bytes())
    side = header["00200020"]["Value"][0]
    header["00200020"]["Value"][0] = "P" if side == "A" else "A"
    sidecar.write_text(json.dumps(header))
    measure(database)
    found = counts(database, "chest-wall")
    assert found["contradicts"] == 1
    assert found["agrees"] > 1
    view = session_at(database).view(session_at(database).saved())
    (row,) = view.index.image_table.find(path.stem.encode())
    assert view.index.chest_wall_side(row) == {"A": "right", "P": "left"}[side]
    record = view.geometries.record(row)
    assert record is not None
    assert record.side == {"A": "left", "P": "right"}[side]


def test_an_image_is_described_with_its_breast(database: Path) -> None:
    index = database.parent / "index"

    def described(path: Path) -> tuple[dict[str, object], str]:
        shown = [
            run("describe", database, path.stem, "--index", index, *options).stdout for options in ([], ["--json"])
        ]
        return json.loads(shown[1])[0], shown[0]

    file, damaged = dicom(database)[:2]
    damaged.write_bytes(damaged.read_bytes()[:-2000])
    before, text = described(file)
    assert before["breast"] is None
    assert re.search("^breast +unmeasured: ", text, re.M)
    measure(database)
    breast = measured(read(os.open(file, os.O_RDONLY)))
    assert breast.box is not None
    found, text = described(file)
    top, left, bottom, right = breast.box
    box = {"top": top, "left": left, "bottom": bottom, "right": right}
    share = pytest.approx(breast.share, abs=1e-4)
    assert found["breast"] == {"box": box, "chest_wall_side": breast.side, "share": share, "why_not": None}
    share = f"{100 * breast.share:.1f} % of the image"
    line = f"rows {top} to {bottom}, columns {left} to {right}; {share}; chest wall at the {breast.side}"
    assert re.search(f"^breast +{line}$", text, re.M)
    header = dcmread(file)
    spacing = [mm / header.EstimatedRadiographicMagnificationFactor for mm in header.ImagerPixelSpacing]
    names = ("rows", "columns", "row_spacing", "column_spacing")
    assert found["pixels"] == dict(zip(names, (header.Rows, header.Columns, *spacing), strict=True))
    assert re.search(rf"^pixels +{header.Rows} x {header.Columns}, {spacing[0]:.4g} x ", text, re.M)
    found, text = described(damaged)
    assert found["breast"] == {
        "box": None,
        "chest_wall_side": None,
        "share": 0,
        "why_not": "the pixel data are cut off",
    }
    assert re.search("^breast +none: the pixel data are cut off$", text, re.M)


def test_a_drive_makes_the_facets_of_pixels_in_advance(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measure(database)
    session = session_at(database)
    view, other = (session.view(session.saved()) for _ in range(2))
    view.prepare()
    monkeypatch.delattr(Geometries, "boxes")
    assert len(view.index.columns["box"]) == len(view.index)
    with pytest.raises(AttributeError):
        len(other.index.columns["box"])


def test_a_drive_takes_new_records_with_its_next_refresh(database: Path) -> None:
    index = database.parent / "index"
    session = session_at(database)
    stored, _ = session.opened(pytest.fail)
    arguments = ["--config", os.devnull, "index", database, "--index", index, "--json"]
    drive = drive_of(session, stored)
    try:
        refresher = Refresher(drive, session, stored, [str(argument) for argument in arguments])
        assert _images(drive, "agrees") == 0
        before = drive.view
        trio.run(refresher.refresh)
        assert drive.view is before  # nothing has changed
        measure(database)
        trio.run(refresher.refresh)
        assert refresher._error is None
        assert _images(drive, "agrees") > 1
        assert _images(drive, "unmeasured") == 0
    finally:
        drive.close()


def _images(drive: Drive, value: str) -> int:
    place = drive.view.resolve(f"by-chest-wall/{value}".encode())
    assert isinstance(place, Directory)
    return len(drive.view.cohorts.rows(drive.view.cohort(place)))


def test_a_drive_crops_as_an_export_does(database: Path, tmp_path: Path) -> None:
    index = ("--index", database.parent / "index", "--workers", "1")
    assert run("export", database, "all", "--as", "png-64x48-crop", "-o", tmp_path / "out", *index).exit_code == 0
    session = session_at(database)
    drive = drive_of(session, session.saved())
    path = sorted((tmp_path / "out").glob("*.png"))[0]

    async def content() -> bytes:
        node = FrontEnd(drive).readable(f"as-png-64x48-crop/all/{path.name}".encode())
        assert isinstance(node, int)
        file = await drive.open(node)
        found = bytes(await drive.read(file, 0, 1 << 20))
        await drive.close_file(file)
        return found

    try:
        assert trio.run(content) == path.read_bytes()
    finally:
        drive.close()
