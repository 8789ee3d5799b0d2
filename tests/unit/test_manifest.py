"""``manifest.json`` and ``omidbfs verify``: what a cohort was, and what differs now."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from trees import MARK, Tree

from omidbfs.cli.main import main

PAGE = Path(__file__).parents[2] / "docs/exports.md"
CONFIGURATION = """\
[cohorts.listed]
clients = "clients.txt"
path = "by-view/CC,MLO"

[cohorts.used]
include = ["listed", "other"]
exclude = { images = "images.csv" }

[cohorts.other]
path = "by-density/b"

[cohorts.unused]
path = "by-view/CC"

[facets.density]
csv = "density.csv"
"""
Run = Callable[..., Result]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database of three clients, and a configuration with lists, in the current directory."""
    tree = Tree(tmp_path / "db")
    for number in (1, 2, 3):
        study = tree.client(f"demd{number}").study(f"{number}.1")
        for nth, view in enumerate(("CC", "MLO", "ML")):
            marks = MARK if nth == 0 else None
            study.image(f"{number}.1.{nth}", ViewPosition=view, ImageLaterality="L", marks=marks)
    (tmp_path / "clients.txt").write_text("demd2\ndemd1\n\ndemd2\n")
    (tmp_path / "images.csv").write_text("image\n1.1.0\n")
    (tmp_path / "density.csv").write_text("client,density\ndemd3,B\ndemd2,C\n")
    (tmp_path / "omidbfs.toml").write_text(CONFIGURATION)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return tmp_path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(one) for one in arguments], prog_name="omidbfs")


def manifest(path: str, *options: str) -> Any:
    done = run("export", "db", path, "--format", "manifest", "-o", "manifest.json", "--verify-first", *options)
    assert done.exit_code == 0, done.stderr
    return json.loads(Path("manifest.json").read_text())


def verified(status: int, *options: str) -> Any:
    done = run("verify", "db", "manifest.json", "--json", *options)
    assert done.exit_code == status, (done.stdout, done.stderr)
    return json.loads(done.stdout)


def digest_on_the_page(directory: Path) -> str:
    """Return what the script on the page prints for a directory of a drive."""
    (script,) = re.findall(r"```python\n(import hashlib.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(script.splitlines()) <= 10
    return subprocess.run(
        [sys.executable, "-c", script, directory], capture_output=True, text=True, check=True
    ).stdout.strip()


def files_below(place: Path, names: set[str]) -> Path:
    """Return a directory with the files of some images below ``by-client``, as a drive shows them."""
    top = place / "shown"
    for tree in ("images", "data"):
        for path in (place / "db" / tree).glob("*/*/*"):
            if path.name.removesuffix(path.suffix) in names:
                copy = top / "by-client" / path.relative_to(place / "db" / tree)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, copy)
    return top


def test_a_manifest_has_the_definition_the_counts_and_the_digest_of_the_page(place: Path) -> None:
    found = manifest("cohorts/used/by-view/not-ML", "--num-months-ci-prior", "24", "--link-all")
    defined = found["cohort"]
    assert defined["path"] == "cohorts/used/by-view/not-ML"
    assert defined["cohorts"].keys() == {"used", "listed", "other"}
    assert defined["cohorts"]["used"]["include"] == ["listed", "other"]
    names = subprocess.run(
        "sort -u clients.txt | grep . | sha256sum", shell=True, capture_output=True, text=True, check=True
    )
    assert defined["cohorts"]["listed"] == {
        "path": "by-view/CC,MLO",
        "clients": {"names": 2, "sha256": names.stdout.split()[0]},
    }
    assert defined["cohorts"]["used"]["exclude"]["images"]["names"] == 1
    assert defined["facets"].keys() == {"view", "density"}
    assert defined["facets"]["density"]["source"] == "density.csv, density"
    assert (defined["options"]["num_months_ci_prior"], defined["options"]["link_all"]) == (24, True)
    images = {"1.1.1", "2.1.0", "2.1.1", "3.1.0", "3.1.1"}
    assert found["counts"] == {"clients": 3, "episodes": 0, "studies": 3, "images": 5, "marks": 2}
    assert (found["files"]["dcm"], found["files"]["json"], len(found["files"]["clients"])) == (5, 5, 3)
    assert found["files"]["sha256"] == digest_on_the_page(files_below(place, images))


def test_a_manifest_is_reproducible_and_names_nobody(place: Path) -> None:
    found = manifest("cohorts/used")
    content = Path("manifest.json").read_bytes()
    assert manifest("cohorts/used") == found
    assert Path("manifest.json").read_bytes() == content
    assert os.stat("manifest.json").st_mode & 0o777 == 0o600
    for name in ("demd", "1.1.", "2.1", str(place)):
        assert name not in content.decode()


def test_an_unchanged_cohort_is_the_same(place: Path) -> None:
    manifest("cohorts/used")
    assert verified(0) == {
        "same": True,
        "differences": [],
        "clients": {"added_or_changed": [], "other_times": [], "removed_or_changed": 0},
    }
    done = run("verify", "db", "manifest.json")
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, "the same")


def test_verify_finds_added_removed_and_changed_files_and_names_their_clients(place: Path) -> None:
    manifest("all")
    (place / "db/images/demd1/1.1/1.1.0.dcm").write_bytes(b"longer than before")
    shutil.rmtree(place / "db/images/demd2")
    shutil.rmtree(place / "db/data/demd2")
    Tree(place / "db").client("demd4").study("4.1").image("4.1.0")
    found = verified(1)
    places = {one["what"]: (one["then"], one["now"]) for one in found["differences"]}
    assert places["counts.images"] == (9, 7)
    assert {"files.sha256", "files.sha256_without_times", "files.bytes"} <= places.keys()
    clients = {"added_or_changed": ["demd1", "demd4"], "other_times": [], "removed_or_changed": 2}
    assert found["clients"] == clients
    said = run("verify", "db", "manifest.json").stdout
    assert "counts.images: was 9, is 7\n" in said
    assert "files: of 2 clients removed or changed\n" in said
    assert "files: added or changed: 2 clients: demd1, demd4\n" in said
    assert said.endswith("differs\n")


def test_other_times_alone_are_told_apart(place: Path) -> None:
    manifest("all")
    os.utime(place / "db/images/demd3/3.1/3.1.2.dcm", ns=(5, 5))
    found = verified(1)
    assert [one["what"] for one in found["differences"]] == ["files.sha256"]
    assert found["clients"] == {"added_or_changed": [], "other_times": ["demd3"], "removed_or_changed": 0}


def test_verify_finds_a_changed_definition(place: Path) -> None:
    manifest("cohorts/used")
    (place / "clients.txt").write_text("demd1\ndemd2\ndemd9\n")  # no image is another
    found = verified(1)
    assert {one["what"] for one in found["differences"]} == {
        "cohort.cohorts.listed.clients.names",
        "cohort.cohorts.listed.clients.sha256",
    }
    (place / "clients.txt").write_text("demd1\ndemd2\n")
    assert verified(0)["same"]
    (place / "omidbfs.toml").write_text(CONFIGURATION.replace("by-density/b", "by-density/c"))
    found = verified(1)
    assert {"what": "cohort.cohorts.other.path", "then": "by-density/b", "now": "by-density/c"} in found[
        "differences"
    ]
    (place / "omidbfs.toml").write_text("")
    done = run("verify", "db", "manifest.json")
    assert done.exit_code == 1
    assert "cohorts/used: the cohort is not there any more: " in done.stderr


def test_options_and_lists_of_clients_are_part_of_the_definition(place: Path) -> None:
    manifest("by-view/CC", "--clients-file", "clients.txt", "--num-months-normal-follow-up", "12")
    assert verified(0, "--clients-file", "clients.txt")["same"]
    places = {one["what"] for one in verified(1)["differences"]}
    assert {"cohort.options.clients_file", "counts.clients"} <= places


def test_renditions_and_other_directories_have_a_manifest(place: Path) -> None:
    plain = manifest("by-view/CC/by-file-type/dcm")
    assert plain["files"]["json"] == 0
    shown = manifest("by-client/demd1")
    assert (shown["counts"]["images"], shown["cohort"]["path"]) == (3, "by-client/demd1")
    assert verified(0)["same"]
    rendered = manifest("as-png/by-view/CC")
    assert (rendered["cohort"]["rendition"]["name"], rendered["counts"]["images"]) == ("png", 0)
    assert verified(0)["same"]
    assert manifest("by-view/XCCL")["files"]["clients"] == []
    assert verified(0)["same"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"manifest": 1}',
        b'{"manifest": 1, "made": {}, "cohort": {"path": 3, "options": {}}, "counts": {}, "files": {}}',
        b'{"manifest": 1, "made": {}, "cohort": {"path": "all", "options": {}}, "counts": {}, '
        b'"files": {"clients": [[]], "clients_without_times": []}}',
        b'{"manifest": 1, "made": {}, "cohort": {"path": "all", "options": {"num_months_ci_prior": "x"}}, '
        b'"counts": {}, "files": {"clients": [], "clients_without_times": []}}',
    ],
)
def test_what_is_no_manifest_is_refused(place: Path, content: bytes) -> None:
    Path("odd.json").write_bytes(content)
    done = run("verify", "db", "odd.json")
    assert (done.exit_code, done.stdout) == (1, "")
    assert (
        done.stderr
        == "omidbfs: odd.json: is no manifest of omidbfs; make one with omidbfs export --format manifest\n"
    )


def test_a_manifest_of_a_newer_version_is_refused(place: Path) -> None:
    found = manifest("all")
    Path("manifest.json").write_text(json.dumps(found | {"manifest": 2}))
    done = run("verify", "db", "manifest.json")
    assert "is a manifest of a newer version of omidbfs" in done.stderr
    assert "cannot be read: No such file" in run("verify", "db", "gone.json").stderr
