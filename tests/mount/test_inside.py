"""Commands take a mounted drive, or a path in one, in place of a source or a cohort."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from drives import Drives
from trees import Tree


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three images of one study. One has no DICOM file."""
    tree = Tree(tmp_path / "db")
    client = tree.client().episode("1").episode("2", "N", "2012-09-01")
    study = client.study("1.1", "1").image("1", ViewPosition="CC", ImageLaterality="L")
    study.image("2", ViewPosition="MLO", ImageLaterality="L").image("3", dcm=None, ViewPosition="MLO")
    return tree.root


def count(drive: Drives, *arguments: object) -> str:
    return drive.run("count", *arguments).stdout.strip()


def test_a_drive_stands_for_its_source_and_a_path_in_it_for_a_cohort(drive: Drives, source: Path) -> None:
    mount = drive(source)
    (drive.directory / "link").symlink_to(mount)
    assert count(drive, mount) == "3"
    assert count(drive, mount, "by-view/MLO") == count(drive, mount / "by-view/MLO") == "2"
    assert count(drive, mount / "by-view", "MLO") == "2"
    assert count(drive, "link/by-view/MLO", "by-laterality/L") == "1"
    assert count(drive, source, f"{mount.name}/by-view/MLO") == "2"
    assert count(drive, source, f"{mount}/by-client/demd1/1.1/by-view/CC") == "1"
    assert count(drive, source, "link/all/") == "3"
    for path in ("by-view/CC", "/by-view/CC"):  # from the root of a drive, wherever one is
        assert count(drive, source, path) == "1"
    listed = drive.run("ls", mount / "by-view/CC").stdout.splitlines()
    assert listed == sorted(os.listdir(mount / "by-view/CC"))
    assert drive.run("check", mount, status=1).stdout == drive.run("check", source, status=1).stdout
    assert "source: " in drive.run("doctor", mount, status=None).stdout
    line = drive.run("index", mount / "all", status=1).stderr
    assert line == f"omidbfs: {mount}/all: is a path in the drive at {mount}; name the drive itself\n"
    line = drive.run("check", mount / "all", status=1).stderr
    assert line == "omidbfs: all: only --pixels takes a COHORT; problems are those of the whole source\n"
    listed = drive.run("check", mount / "by-view/MLO", "--pixels", "--json", status=1).stdout.splitlines()
    assert {json.loads(line)["kind"] for line in listed} == {"not a DICOM file"}
    assert len(listed) == 1


def test_a_cohort_of_another_drive_is_refused(drive: Drives, source: Path) -> None:
    one, other = drive(source), drive(source)
    reports = json.loads((one / ".omidbfs/status.json").read_text())["counters"]["reports"]
    line = drive.run("count", one, other / "by-view/MLO", status=1).stderr
    assert line == f"omidbfs: {other}/by-view/MLO: is in the drive at {other}, and SOURCE is that at {one}\n"
    assert count(drive, one) == "3"
    assert json.loads((one / ".omidbfs/status.json").read_text())["counters"]["reports"] == reports


def test_a_drive_as_source_has_its_own_options_unless_others_are_given(drive: Drives, source: Path) -> None:
    index = drive.directory / "its.index"
    mount = drive(source, "--num-months-normal-follow-up", "12", "--index", str(index))
    index_before = index.stat().st_mtime_ns
    undefined = "by-outcome/undefined"
    assert count(drive, mount, undefined) == str(len(os.listdir(mount / undefined / "by-file-type/json"))) == "3"
    assert count(drive, source, undefined) == "0"
    assert count(drive, mount, undefined, "--num-months-normal-follow-up", "3") == "0"
    assert index.stat().st_mtime_ns == index_before
    again = drive(mount)
    drive.umount(mount)  # the second drive shows the source, not the first drive
    drive.run("refresh", again)
    assert len(os.listdir(again / undefined)) == 5


def test_half_a_source_is_known_by_its_drive_too(drive: Drives, source: Path) -> None:
    os.rename(source / "images", source / "elsewhere")
    mount = drive(source)
    assert count(drive, mount) == "3"


def test_a_drive_that_is_dead_is_named(drive: Drives, source: Path) -> None:
    mount = drive(source)
    os.kill(drive.pid(mount), signal.SIGKILL)
    line = drive.run("count", mount / "all", status=1).stderr
    said = "the drive is dead, its process has ended; clear it with omidbfs umount"
    assert line == f"omidbfs: {mount}: {said}; or name the directory that it shows\n"
    subprocess.run(["umount", "-l", str(mount)], check=True)
    drive.forget(mount)
