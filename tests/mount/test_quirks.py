"""A database with all oddities of real ones mounts, hides nothing, and has each oddity reported."""

import json
import os
import re
from collections import Counter
from pathlib import Path

import pytest
from drives import Drives
from test_tree import sha256
from trees import Quirky

NOT_SHOWN = ("unexpected-entry", "not-a-regular-file", "symlink")


@pytest.fixture(scope="module")
def mount(session_drive: Drives, quirky_database: Quirky) -> Path:
    """The odd database, mounted."""
    return session_drive(quirky_database.path)


def test_every_file_is_shown_but_those_reported_as_not_shown(mount: Path, quirky_database: Quirky) -> None:
    root = quirky_database.path
    hidden = [root / problem.file for problem in quirky_database.problems if problem.kind in NOT_SHOWN]
    assert hidden
    expected = Counter(
        sha256(path)
        for tree in ("images", "data")
        for path in (root / tree).rglob("*")
        if path.is_file() and not any(path.is_relative_to(place) for place in hidden)
    )
    assert Counter(sha256(path) for path in (mount / "by-client").rglob("*") if path.is_file()) == expected
    documents = re.compile("(nbss|imagedb)_.*", re.IGNORECASE)
    images = Counter(
        sha256(path)
        for path in (mount / "by-client").rglob("*.*")
        if path.is_file() and not documents.fullmatch(path.name)
    )
    assert Counter(sha256(path) for path in (mount / "all").iterdir()) == images


@pytest.mark.parametrize("options", [[], ["--dicom"]])
def test_check_lists_every_planted_problem_and_no_other(
    drive: Drives, quirky_database: Quirky, options: list[str]
) -> None:
    planted = {
        (problem.file, problem.kind)
        for problem in quirky_database.problems
        if options or not problem.detail.startswith("deep: ")
    }
    done = drive.run("check", quirky_database.path, "--json", *options, status=1)
    assert done.stderr == ""
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert {(problem["file"], problem["kind"]) for problem in found} == planted
    assert all("\n" not in problem["detail"] for problem in found)


def test_the_drive_itself_lists_the_same_problems(mount: Path, drive: Drives, quirky_database: Quirky) -> None:
    done = drive.run("check", quirky_database.path, "--json", status=1)
    lines = (mount / ".omidbfs/problems.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [json.loads(line) for line in done.stdout.splitlines()]
    kinds = json.loads((mount / ".omidbfs/status.json").read_text())["problems"]
    assert kinds == dict(sorted(Counter(json.loads(line)["kind"] for line in lines).items()))


def test_a_clean_database_has_no_problems(drive: Drives, demo_database: Path, demo_drive: Path) -> None:
    done = drive.run("check", demo_database, "--json", "--dicom")
    assert (done.stdout, done.stderr) == ("", "")
    assert (demo_drive / ".omidbfs/problems.jsonl").read_bytes() == b""


def test_the_log_names_no_client(drive: Drives, quirky_database: Quirky) -> None:
    mount = drive(quirky_database.path)
    for folder, _, names in os.walk(mount / "by-client"):
        for name in names:
            with open(os.path.join(folder, name), "rb") as stream:
                stream.read(1)
    drive.umount(mount)
    [log] = drive.logs
    assert "mounted" in log.read_text()
    assert not re.search(r"[a-z]{4}\d{6}|\d\.\d+\.\d", log.read_text())
    assert log.stat().st_mode & 0o077 == 0
