"""``omidbfs export --as`` writes a cohort as files, or as one array, of a rendition. Decoders may die."""

import contextlib
import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from pydicom import dcmread

from omidbfs import exports
from omidbfs.cli.main import main
from omidbfs.exports import rendered
from omidbfs.exports.rendition_record import RECORD
from omidbfs.index import executors
from omidbfs.pixels import apart
from omidbfs.pixels.worker import Request


@pytest.fixture
def database(demo_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two clients of the demo, to be changed."""
    for client in sorted(path.name for path in (demo_database / "data").iterdir())[:2]:
        for tree in ("images", "data"):
            shutil.copytree(demo_database / tree / client, tmp_path / "db" / tree / client)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return tmp_path / "db"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="omidbfs")


def said(done: Result) -> str:
    """Return what a command says at its end, without lines of progress, and without the age of the index."""
    lines = done.stderr.splitlines(True)
    return "".join(line for line in lines if not line.startswith(("rendering clients: ", "omidbfs: as of ")))


def dicom(database: Path) -> list[Path]:
    return sorted((database / "images").glob("*/*/*.dcm"))


def files(directory: Path) -> dict[str, bytes]:
    """Return the files of an export, without the record."""
    found = (path for path in directory.rglob("*") if path.is_file() and path.name != RECORD)
    return {str(path.relative_to(directory)): path.read_bytes() for path in found}


def inodes(directory: Path) -> dict[str, int]:
    return {name: (directory / name).stat().st_ino for name in files(directory)}


@pytest.mark.parametrize("workers", [1, 2])
def test_files_are_whole_private_and_made_once(
    database: Path, tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executors, "WORTH_STARTING", 0)
    out = tmp_path / "out"
    command = ("export", database, "all", "--as", "png16-64x48", "-o", out, "--workers", workers)
    done = run(*command)
    count = len(dicom(database))
    assert (done.exit_code, done.stdout, said(done)) == (0, "", f"{out}: {count} images\n")
    assert {*files(out)} == {f"{path.stem}.png" for path in dicom(database)}
    for path in out.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert (image.size, image.mode) == ((48, 64), "I;16")
    assert out.stat().st_mode & 0o777 == 0o700

    before, content = inodes(out), files(out)
    assert said(run(*command)) == f"{out}: {count} images, {count} of them up to date\n"
    assert inodes(out) == before

    os.truncate(out / f"{dicom(database)[0].stem}.png", 5)
    (out / f"{dicom(database)[1].stem}.png").unlink()
    assert said(run(*command)) == f"{out}: {count} images, {count - 2} of them up to date\n"
    assert files(out) == content


def test_a_changed_source_is_made_anew_and_what_is_gone_is_removed(database: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ("export", database, "--as", "npy", "-o", out, "--layout", "by-client")
    assert run(*command).exit_code == 0
    changed, gone = dicom(database)[0], dicom(database)[-1]
    name = str(changed.relative_to(database / "images").with_suffix(".npy"))
    before, old = inodes(out), np.load(out / name)
    data = dcmread(changed)
    data.PixelData = bytes(len(data.PixelData))
    data.save_as(changed)
    for tree in ("images", "data"):
        shutil.rmtree(database / tree / gone.parts[-3])
    done = run(*command, "--verify-first")
    new = np.load(out / name)
    assert (new.shape, new.any(), old.any()) == (old.shape, False, True)
    assert {*files(out)} == {str(path.relative_to(database / "images"))[:-4] + ".npy" for path in dicom(database)}
    assert not (out / gone.parts[-3]).exists()
    left = len(dicom(database))
    removed = len(before) - left
    assert said(done) == f"{out}: {left} images, {left - 1} of them up to date, {removed} files removed\n"
    assert [path for path, inode in inodes(out).items() if before[path] != inode] == [name]


def test_a_changed_definition_makes_all_files_anew(database: Path, tmp_path: Path) -> None:
    out, config = tmp_path / "out", tmp_path / "omidbfs.toml"
    command = ("--config", config, "export", database, "by-view/CC", "--as", "as-mine", "-o", out)
    config.write_text('[renditions.mine]\nformat = "png"\nsize = 64\n')
    assert run(*command).exit_code == 0
    before = files(out)
    config.write_text('[renditions.mine]\nformat = "png"\nsize = 32\n')
    done = run(*command)
    assert said(done) == f"{out}: {len(before)} images\n"
    assert {*files(out)} == {*before}
    assert all(len(content) < len(before[name]) for name, content in files(out).items())
    # An old file is not left beside new ones if it cannot be made anew.
    config.write_text('[renditions.mine]\nformat = "png"\nsize = 48\n')
    bad = next(path for path in dicom(database) if f"{path.stem}.png" in before)
    bad.write_bytes(b"no DICOM")
    done = run(*command)
    assert (done.exit_code, done.stdout) == (1, f"image,kind\n{bad.stem},not a DICOM file\n")
    assert {*files(out)} == {*before} - {f"{bad.stem}.png"}


PLACE = "by-mark-feature/not-none/as-png-32/by-mark-feature/"
SEVERAL = ("by-mark-feature/not-none", "--as", "png-32", "--layout", "by-mark-feature", "-o")
"""Arguments to export images with marks, of which some have several features."""


def test_an_image_with_several_values_is_one_file(demo_database: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ("export", demo_database, *SEVERAL, out)
    assert run(*command).exit_code == 0
    listed = run("ls", "-R", demo_database, PLACE).stdout.split()
    assert {*files(out)} == {name.removeprefix(PLACE) for name in listed}
    of_image: dict[str, set[int]] = {}
    for path, inode in inodes(out).items():
        of_image.setdefault(Path(path).name, set()).add(inode)
    several = [name for name in of_image if len([*out.rglob(name)]) > 1]
    assert several
    assert all(len(found) == 1 for found in of_image.values())

    second = [*out.rglob(several[0])][1]
    second.unlink()
    shutil.copy(next(out.rglob(several[0])), second)
    assert run(*command).exit_code == 0
    assert len({path.stat().st_ino for path in out.rglob(several[0])}) == 1


def test_named_cohorts_are_a_layout(demo_database: Path, tmp_path: Path) -> None:
    out, config = tmp_path / "out", tmp_path / "omidbfs.toml"
    config.write_text('[cohorts.left]\npath = "by-laterality/L"\n')
    options = ("--as", "png-16", "--layout", "by-cohort", "-o", out)
    assert run("--config", config, "export", demo_database, "by-mark-feature/mass", *options).exit_code == 0
    assert {path.name for path in out.iterdir() if path.is_dir()} == {"left", "none"}


def test_without_hard_links_there_are_copies(
    demo_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError

    out, other = tmp_path / "out", tmp_path / "other"
    command = ("export", demo_database, "--workers", "1", *SEVERAL)
    assert run(*command, out).exit_code == 0
    monkeypatch.setattr(os, "link", refused)
    assert run(*command, other).exit_code == 0
    assert files(out) == files(other)
    assert all((other / name).stat().st_nlink == 1 for name in files(other))


_DECODER = """
import os, sys
from omidbfs.pixels import render, worker
real = render.render
def hostile(source, *rest):
    if os.pread(source, 5, 0) == b"abort":
        os.abort()
    real(source, *rest)
render.render = hostile
worker.serve(worker.real_calls())
"""


def test_a_hostile_file_costs_one_image(database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "module_command", lambda _: [sys.executable, "-c", _DECODER])
    hostile, cut, gone = dicom(database)[1], dicom(database)[4], dicom(database)[6]
    hostile.write_bytes(b"abort" + hostile.read_bytes()[5:])
    os.truncate(cut, cut.stat().st_size - 1)
    assert run("index", database).exit_code == 0
    gone.unlink()
    out = tmp_path / "out"
    done = run("export", database, "--as", "png", "-o", out, "--workers", "1")
    assert done.exit_code == 1
    assert [*csv.DictReader(io.StringIO(done.stdout))] == [
        {"image": hostile.stem, "kind": "the decoder crashed"},
        {"image": cut.stem, "kind": "the pixel data are cut off"},
        {"image": gone.stem, "kind": "cannot be read: No such file or directory"},
    ]
    count = len(dicom(database)) - 2
    assert said(done).startswith(f"{out}: {count} images, 3 that cannot be rendered\n       1  ")
    assert {*files(out)} == {f"{path.stem}.png" for path in dicom(database)} - {
        f"{hostile.stem}.png",
        f"{cut.stem}.png",
    }

    (tmp_path / "bad.csv").write_text(done.stdout)
    config = tmp_path / "omidbfs.toml"
    config.write_text('[cohorts.good]\nexclude = { images = "bad.csv" }\n')
    good = ("--config", config, "export", database, "cohorts/good", "--as", "png", "-o", tmp_path / "good")
    assert (run(*good).exit_code, files(tmp_path / "good")) == (0, files(out))


def test_a_file_that_is_written_to_meanwhile_is_not_kept(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Touching(rendered.Apart):
        def asked(self, request: Request, descriptors: Sequence[int]) -> str | None:
            if request.side == "left":
                os.utime(descriptors[0], ns=(0, os.fstat(descriptors[0]).st_mtime_ns + 1))
            return super().asked(request, descriptors)

    monkeypatch.setattr(rendered, "Apart", Touching)
    done = run("export", database, "--as", "png", "-o", tmp_path / "out", "--workers", "1")
    failed = [*csv.DictReader(io.StringIO(done.stdout))]
    assert {row["kind"] for row in failed} == {rendered.WRITTEN_TO}
    assert len(failed) + len(files(tmp_path / "out")) == len(dicom(database))


def test_a_file_counts_where_it_contradicts_the_index(database: Path, tmp_path: Path) -> None:
    path = dicom(database)[0]
    data = dcmread(path)
    assert run("index", database).exit_code == 0
    data.Rows //= 2
    data.PixelData = data.PixelData[: len(data.PixelData) // 2]
    data.save_as(path)
    assert run("export", database, "--as", "png", "-o", tmp_path / "out").exit_code == 0
    with Image.open(tmp_path / "out" / f"{path.stem}.png") as image:
        assert image.size == (data.Columns, data.Rows)


@pytest.fixture(scope="module")
def whole(demo_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export that was not interrupted."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assert run("export", demo_database, *MANY, out).exit_code == 0
    return out


MANY = ("by-view/MLO", "--as", "png16-256x192", "-o")
"""Arguments to export more images than tasks have at once."""


@pytest.mark.parametrize(
    ("how", "workers"), [(signal.SIGINT, 1), (signal.SIGINT, 2), (signal.SIGTERM, 2), (signal.SIGKILL, 2)]
)
def test_what_is_done_is_kept_when_an_export_is_ended(
    demo_database: Path, tmp_path: Path, whole: Path, how: signal.Signals, workers: int
) -> None:
    out = tmp_path / "out"
    command = ("export", demo_database, "--workers", workers, *MANY)
    program = [sys.executable, "-m", "omidbfs", *map(str, command), str(out)]
    with subprocess.Popen(program, stderr=subprocess.PIPE, start_new_session=True) as process:
        while process.poll() is None and not (out.exists() and b"files" in record_of(out)):
            time.sleep(0.01)
        os.killpg(process.pid, how)
        process.wait()
        with contextlib.suppress(ProcessLookupError):
            while True:  # its workers end a moment later, and hold the directory
                os.killpg(process.pid, 0)
                time.sleep(0.01)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGKILL: -9}.get(how, process.returncode) != 0
    left = [path for path in out.iterdir() if path.suffix != ".png" and path.name != RECORD]
    assert left == [] or how is signal.SIGKILL
    made = {name: content for name, content in files(out).items() if name.endswith(".png")}
    assert made
    assert made.items() < files(whole).items()

    done = run(*command, out)
    assert done.exit_code == 0
    assert "up to date" in said(done)
    assert files(out) == files(whole)


def record_of(directory: Path) -> bytes:
    return (directory / RECORD).read_bytes() if (directory / RECORD).exists() else b""


def test_a_line_of_the_record_that_is_cut_off_is_made_again(database: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ("export", database, "--as", "png-32", "-o", out)
    run(*command)
    record = out / RECORD
    lines = record.read_bytes().splitlines()
    outside = json.dumps({**json.loads(lines[1]), "files": ["../precious"]}).encode()
    (tmp_path / "precious").touch()
    record.write_bytes(b"\n".join([*lines[:2], outside, *lines[2:-1], lines[-1][:20]]))
    count = len(dicom(database))
    assert said(run(*command)) == f"{out}: {count} images, {count - 1} of them up to date\n"
    assert (tmp_path / "precious").exists()
    assert len(record.read_bytes().splitlines()) == 1 + count


def test_files_of_a_user_are_left_alone(database: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    command = ("export", database, "by-view/CC", "--as", "png-32", "-o", out)
    done = run(*command)
    assert done.exit_code == 1
    assert done.stderr == (
        f"omidbfs: {out}: holds files, and none is the record of an export; name a new or empty directory\n"
    )
    assert [path.name for path in out.iterdir()] == ["notes.txt"]
    (out / "notes.txt").rename(tmp_path / "notes.txt")
    assert run(*command).exit_code == 0
    (tmp_path / "notes.txt").rename(out / "notes.txt")
    assert run(*command).exit_code == 0
    assert (out / "notes.txt").read_text() == "mine"
    for others in (
        ("by-view/MLO", "--as", "png-32"),
        ("by-view/CC", "--as", "png-64"),
        ("by-view/CC", "--as", "png-32", "--layout", "by-client"),
    ):
        done = run("export", database, *others, "-o", out)
        assert done.exit_code == 1
        assert f"{out}: holds by-view/CC as png-32, layout flat; name another directory" in done.stderr
    (out / RECORD).write_text("something\n")
    assert f"{out / RECORD}: is no record of an export; name another directory" in run(*command).stderr


def test_two_exports_do_not_write_into_one_directory(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second: list[Result] = []

    def other(*_: object, **__: object) -> object:
        monkeypatch.undo()
        second.append(run("export", database, "--as", "png-32", "-o", tmp_path / "out"))
        raise KeyboardInterrupt

    monkeypatch.setattr(exports.rendered, "write_files", other)
    assert run("export", database, "--as", "png-32", "-o", tmp_path / "out").exit_code == 130
    assert "out: another export writes into it; wait until it ends\n" in second[0].stderr


# One array


@pytest.mark.parametrize(("name", "dtype"), [("png16-64x48", "<u2"), ("png-64x48", "u1"), ("raw", "<u2")])
def test_an_array_has_the_images_of_its_table(database: Path, tmp_path: Path, name: str, dtype: str) -> None:
    (tmp_path / "omidbfs.toml").write_text('[renditions.raw]\nformat = "npy"\nsize = "64x48"\nwindow = "minmax"\n')
    bad = dicom(database)[3]
    os.truncate(bad, bad.stat().st_size - 1)
    files_of = ("--config", tmp_path / "omidbfs.toml", "export", database, "--as", name, "-o", tmp_path / "out")
    assert run(*files_of).exit_code == 1
    done = run(*files_of[:-1], tmp_path / "images.npy")
    count = len(dicom(database)) - 1
    assert (done.exit_code, done.stdout) == (1, f"image,kind\n{bad.stem},the pixel data are cut off\n")
    assert said(done).startswith(f"{tmp_path / 'images.npy'}: {count} images, 1 that cannot be rendered\n")
    array = np.load(tmp_path / "images.npy", mmap_mode="r")
    assert (array.dtype, array.shape) == (np.dtype(dtype), (count, 64, 48))
    assert (tmp_path / "images.npy").stat().st_size == 128 + array.nbytes
    rows = [*csv.DictReader((tmp_path / "images.csv").read_text().splitlines())]
    assert len(rows) == count
    config = ("--config", tmp_path / "omidbfs.toml")
    table = run(*config, "export", database, "--as", name, "--format", "csv").stdout
    assert rows == [row for row in csv.DictReader(table.splitlines()) if row["image"] != bad.stem]
    assert {(row["rows"], row["columns"]) for row in rows} == {("64", "48")}
    for row, values in zip(rows, array, strict=True):
        place = next((tmp_path / "out").glob(f"{row['image']}.*"))
        if place.suffix == ".npy":
            expected = np.load(place)
        else:
            with Image.open(place) as image:
                expected = np.asarray(image)
        assert (values == expected).all()
    for path in (tmp_path / "images.npy", tmp_path / "images.csv"):
        assert path.stat().st_mode & 0o777 == 0o600


def test_an_array_of_nothing_is_an_array(database: Path, tmp_path: Path) -> None:
    arguments = ("by-view/MLO/by-view/CC", "--as", "png-16x16", "--format", "npy", "-o", tmp_path / "none.npy")
    assert run("export", database, *arguments).exit_code == 0
    assert np.load(tmp_path / "none.npy").shape == (0, 16, 16)


def test_an_array_that_fails_leaves_what_was_there(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, table = tmp_path / "images.npy", tmp_path / "images.csv"
    table.write_text("mine")
    command = ("export", database, "--as", "png-16x16", "-o", place)
    assert f"{table}: is there, and would be replaced; remove it, or choose another name" in run(*command).stderr
    place.write_text("old")

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(exports.stacked, "in_order", interrupted)
    assert run(*command).exit_code == 130
    assert (place.read_text(), table.read_text()) == ("old", "mine")
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {"images.npy", "images.csv"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layout", "by-client", "-o", "x"], "--layout: needs a rendition; add --as, as in --as png16-1024x768"),
        (["--format", "npy", "-o", "x.npy"], "--format npy: needs a rendition; add --as"),
        (
            ["--as", "png", "--format", "csv", "--layout", "flat", "-o", "x"],
            "--format csv: is one file, without directories; leave out --layout",
        ),
        (["--as", "png"], "--as: needs a directory to write to; add -o DIRECTORY"),
        (["--as", "png", "-o", "-"], "--as: needs a directory to write to; add -o DIRECTORY"),
        (["--as", "pgn", "-o", "x"], "there is no as-pgn; did you mean as-png?"),
        (
            ["--as", "png", "--layout", "by-veiw", "-o", "x"],
            "--layout: there is no by-veiw; did you mean by-view?",
        ),
        (
            ["--as", "png-16x16", "--layout", "flat", "-o", "x.npy"],
            "--layout: an array has no directories; leave out --layout",
        ),
        (
            ["--as", "png-16", "-o", "x.npy"],
            "--as png-16: its images have different sizes, and an array has one; name a size of rows and columns",
        ),
        (
            ["--as", "png-16x16", "--format", "npy", "-o", "x"],
            "x: an array needs a name that ends in .npy; as in -o images.npy",
        ),
        (["--as", "png", "-o", "x/y"], "x/y: No such file or directory"),
    ],
)
def test_what_makes_no_sense_is_refused(
    database: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("export", database, *arguments)
    assert done.exit_code == 1
    assert message in done.stderr
    assert {path.name for path in tmp_path.iterdir()} <= {"db", "x"}


def test_a_path_has_one_rendition(database: Path, tmp_path: Path) -> None:
    done = run("export", database, "as-png/all", "--as", "png", "-o", tmp_path / "out")
    assert "a path has one rendition" in done.stderr
    assert not (tmp_path / "out").exists()
