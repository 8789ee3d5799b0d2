"""``omidbfs check --pixels`` decodes a cohort, and lists what an ``exclude`` takes. Decoders may die."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hostile_worker import COMMAND
from pydicom import dcmread

from omidbfs.base.errors import UserError
from omidbfs.base.process import code_command
from omidbfs.cli.main import main
from omidbfs.database.pixel_format import PixelFormat
from omidbfs.pixels import apart as module
from omidbfs.pixels.apart import DIED, TOO_SLOW, Apart
from omidbfs.pixels.errors import OUT_OF_MEMORY
from omidbfs.pixels.worker import Request


@pytest.fixture
def database(demo_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two clients of the demo, to be damaged."""
    for client in sorted(path.name for path in (demo_database / "data").iterdir())[:2]:
        for tree in ("images", "data"):
            shutil.copytree(demo_database / tree / client, tmp_path / "db" / tree / client)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return tmp_path / "db"


def summary(done: Result) -> str:
    """Return what a command says at its end, without lines of progress, which a busy machine adds."""
    return "".join(line for line in done.stderr.splitlines(True) if not line.startswith("decoding clients: "))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="omidbfs")


def images(database: Path) -> list[Path]:
    return sorted((database / "images").glob("*/*/*.dcm"))


@pytest.mark.parametrize("workers", [1, 2])
def test_all_images_that_decode_make_an_empty_table(database: Path, workers: int) -> None:
    done = run("check", database, "--pixels", "--workers", workers)
    assert (done.exit_code, done.stdout) == (0, "image,kind\n")
    assert summary(done) == f"{len(images(database))} images, none that cannot be decoded\n"


def test_the_table_is_a_list_for_exclude(database: Path, tmp_path: Path) -> None:
    cut, bad, gone = images(database)[0], images(database)[-1], images(database)[1]
    os.truncate(cut, cut.stat().st_size - 1)
    bad.write_bytes(b"no DICOM")
    gone.unlink()
    done = run("check", database, "--pixels")
    assert done.exit_code == 1
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert rows == [
        {"image": cut.stem, "kind": "the pixel data are cut off"},
        {"image": bad.stem, "kind": "not a DICOM file"},
    ]
    assert summary(done).startswith(f"{len(images(database))} images, 2 that cannot")
    assert "2 that cannot be decoded\n       1  the pixel data are cut off\n" in summary(done)

    (tmp_path / "bad.csv").write_text(done.stdout)
    config = tmp_path / "omidbfs.toml"
    config.write_text('[cohorts.good]\nexclude = { images = "bad.csv" }\n')
    good = run("--config", config, "check", database, "cohorts/good", "--pixels")
    assert (good.exit_code, good.stdout) == (0, "image,kind\n")
    counted = run("--config", config, "count", database, "cohorts/good")
    assert counted.stdout.split() == [str(len(images(database)) + 1 - 2)], "with that of which only JSON is left"


def test_a_cohort_bounds_what_is_decoded(database: Path) -> None:
    for place in images(database):
        place.write_bytes(place.read_bytes()[:-1])
    sidecars = (json.loads(place.read_bytes()) for place in (database / "data").glob("*/*/*.json"))
    views = [sidecar["00185101"].get("Value") for sidecar in sidecars]
    done = run("check", database, "by-view/CC", "--pixels", "--json")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.exit_code, summary(done)) == (1, "")
    assert len(found) == views.count(["CC"]) > 0
    for one in found:
        assert (database / "images" / one["client"] / one["study"] / f"{one['image']}.dcm") in images(database)
        assert one["kind"] == "the pixel data are cut off"


def test_what_cannot_be_combined_is_refused(database: Path) -> None:
    done = run("check", database, "by-view/CC")
    assert done.exit_code == 1
    assert (
        done.stderr
        == "omidbfs: by-view/CC: only --pixels takes a COHORT; problems are those of the whole source\n"
    )
    done = run("check", database, "--pixels", "--dicom")
    assert done.stderr == "omidbfs: --dicom and --pixels list different things; run both, one after the other\n"


_CHECK = """
import sys
sys.path.insert(0, sys.argv[1])
from hostile_worker import COMMAND
from omidbfs.database.pixel_format import PixelFormat
from omidbfs.pixels.apart import Apart
from omidbfs.pixels.worker import Request
apart = Apart(COMMAND)
print(apart._start().process.pid, flush=True)
apart.asked(Request(None, PixelFormat()), [0])
"""


def _kind(apart: Apart, place: Path, content: bytes) -> str | None:
    place.write_bytes(content)
    return _kind_of(apart, place)


def _kind_of(apart: Apart, place: Path) -> str | None:
    descriptor = os.open(place, os.O_RDONLY)
    try:
        return apart.asked(Request(None, PixelFormat()), [descriptor])
    finally:
        os.close(descriptor)


def test_a_decoder_that_dies_or_hangs_costs_one_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "image"
    monkeypatch.setattr(module, "PATIENCE", 3.0)
    with Apart(COMMAND) as apart:
        for word, kind in ((b"abort", DIED), (b"hang", TOO_SLOW), (b"spin", TOO_SLOW)):
            assert _kind(apart, place, b"good") is None
            assert _kind(apart, place, word) == kind
        assert _kind(apart, place, b"good") is None


def test_an_interrupted_request_leaves_no_answer_for_the_next(tmp_path: Path) -> None:
    with Apart(COMMAND) as apart:
        assert _kind(apart, tmp_path / "image", b"good") is None
        previous = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(KeyboardInterrupt):
                _kind(apart, tmp_path / "slow", b"slow")
        finally:
            signal.signal(signal.SIGALRM, previous)
        assert _kind(apart, tmp_path / "other", b"undecodable") == "no pixel data"


def test_a_decoder_says_nothing_that_a_file_chose(tmp_path: Path) -> None:
    with Apart(COMMAND) as apart:
        assert _kind(apart, tmp_path / "image", b"lies") == "another problem"
        assert _kind(apart, tmp_path / "image", b"good") is None


def test_a_decoder_at_work_does_not_outlive_a_check_that_is_killed(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"spin")
    with (
        image.open() as standard_input,
        subprocess.Popen(
            [sys.executable, "-c", _CHECK, str(Path(__file__).parents[1])],
            stdin=standard_input,
            stdout=subprocess.PIPE,
            text=True,
        ) as check,
    ):
        assert check.stdout is not None
        decoder = Path("/proc", check.stdout.readline().strip())
        eventually(lambda: (decoder / "comm").read_text() == "busy\n")
        check.kill()
    eventually(lambda: not is_there(decoder))


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_there(process: Path) -> bool:
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_no_image_is_blamed_if_no_decoder_starts(tmp_path: Path) -> None:
    with Apart(command=code_command("raise SystemExit(3)")) as apart:
        for _ in range(2):
            with pytest.raises(UserError, match=r"does not start \(status 3\); try fewer --workers"):
                _kind(apart, tmp_path / "image", b"good")


def test_a_decoder_has_little_memory(database: Path) -> None:
    place = images(database)[0]
    large = dcmread(place)
    large.Rows = large.Columns = 5000
    large.PixelData = bytes(2 * 5000 * 5000)
    large.save_as(place)
    little = [sys.executable, "-c", "from omidbfs.pixels.worker import *; serve(real_calls(), 10 << 20)"]
    with Apart() as enough, Apart(little) as short:
        assert _kind_of(enough, place) is None
        assert _kind_of(short, place) in (OUT_OF_MEMORY, DIED)
        assert _kind_of(enough, place) is None
