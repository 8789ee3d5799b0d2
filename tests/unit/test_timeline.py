"""``omidbfs describe`` gives the timeline of a client or a study, and ``client.json`` has it on the drive."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from trees import MARK, Quirky, Tree, episode

from omidbfs.cli.commands.timeline import _lines
from omidbfs.cli.main import main
from omidbfs.database.layout import find_source
from omidbfs.exports.formats import FORMATS
from omidbfs.exports.selection import Origin
from omidbfs.index.build import refreshed
from omidbfs.view.nodes import Directory, Export
from omidbfs.view.ownership import drive_access
from omidbfs.view.view import View

Run = Callable[..., Result]
LESIONS = {"LESION": {"L": {"1": {"LesionDescription": "MA"}}}}
SURGERY = {
    "left_opinion": "OM",
    "right_opinion": "ON",
    "dateperformed": "2012-06-01",
    "L": {"1": {"DatePerformed": "2012-06-01", "Opinion": "OM", "MalignancyType": "b", "DiseaseGrade": "G2"}},
}


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A client with a cancer, an episode before it, a study without an episode, and a client without NBSS."""
    tree = Tree(tmp_path / "db")
    client = tree.client("demd1")
    client.episode("8", **episode("N", "2009-05-01"))
    client.episode(
        "9", **episode("M", SURGERY=SURGERY, EpisodeClosedDate="2012-07-01", EpisodeAction="ST"), **LESIONS
    )
    study = client.study("1.1", "9")
    study.image("1.1.1", ViewPosition="MLO", ImageLaterality="L", marks=MARK)
    study.image("1.1.2", ViewPosition="MLO", ImageLaterality="L")
    study.image("1.1.3", ViewPosition="CC", ImageLaterality="R")
    client.study("1.2", "8", "2009-05-01").image("1.2.1", ViewPosition="CC", ImageLaterality="R")
    client.study("1.3", None, None).image("1.3.1")
    tree.client("demd2", nbss=False).study("2.1").image("2.1.1", ViewPosition="CC")
    return tree


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return lambda *arguments: CliRunner().invoke(main, [str(one) for one in arguments], prog_name="omidbfs")


def described(run: Run, tree: Tree, name: str) -> Any:
    done = run("describe", tree.root, name, "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    (found,) = json.loads(done.stdout)
    return found


def view_of(root: Path) -> View:
    source = find_source(root)
    return View(refreshed(source), drive_access(source), {}, origin=Origin(source))


def content(view: View, path: str) -> Any:
    """Return ``client.json`` in a directory, ``None`` if there is none."""
    directory = view.resolve(os.fsencode(f"{path}/.omidbfs"))
    assert isinstance(directory, Directory)
    node = view.lookup(directory, b"client.json")
    listing = view.listing(directory)
    assert (node is not None) == (b"client.json" in [entry.name for entry in listing.page(0, listing.length)])
    if node is None:
        return None
    assert isinstance(node, Export)
    return json.loads(b"".join(view.content(node)))


def test_a_client_has_a_timeline_in_words_and_codes(run: Run, tree: Tree) -> None:
    found = described(run, tree, "demd1")
    assert [(one["date"], one["what"], one["episode"]) for one in found["timeline"]] == [
        ("2009-05-01", "episode-opened", "8"),
        ("2009-05-01", "event", "8"),
        ("2009-05-01", "study", "8"),
        ("2012-05-01", "episode-opened", "9"),
        ("2012-05-01", "event", "9"),
        ("2012-05-01", "event", "9"),
        ("2012-05-01", "study", "9"),
        ("2012-06-01", "event", "9"),
        ("2012-07-01", "episode-closed", "9"),
        (None, "study", None),
    ]
    prior, cancer = found["episodes"]
    assert (prior["outcome"]["code"], prior["future_episode"]) == ("MP", "9")
    assert cancer["outcome"] == {"code": "M", "name": "malignant"}
    assert cancer["action"]["code"] == "ST"
    surgery = cancer["events"][-1]
    assert (surgery["name"], surgery["left_opinion"]) == ("surgery", {"code": "OM", "name": "malignant"})
    (lesion,) = cancer["lesions"]
    assert (lesion["grade"]["name"], lesion["status"]["name"]) == ("grade-2", "invasive")
    assert lesion["procedures"]["surgery"]["date"] == "2012-06-01"
    views = {study["study"]: study["views"] for study in found["studies"]}
    latest = [(one["image"], one["latest_of_view"], one["marks"]) for one in views["1.1"]["L-MLO"]]
    assert latest == [("1.1.1", "no", 1), ("1.1.2", "yes", 0)]
    assert (views["1.1"].keys(), views["1.3"].keys()) == ({"L-MLO", "R-CC"}, {"unknown-unknown"})


def test_a_study_has_the_timeline_of_its_episode(run: Run, tree: Tree) -> None:
    found = described(run, tree, "1.1")
    assert (found["client"], found["study"]) == ("demd1", "1.1")
    assert [one["id"] for one in found["episodes"]] == ["9"]
    assert [one["study"] for one in found["studies"]] == ["1.1"]
    text = run("describe", tree.root, "by-client/demd1/1.1/").stdout
    assert "surgery, left malignant (OM), right normal (ON), episode 9\n" in text
    assert "outcome malignant (M): by itself: a malignant opinion after surgery or biopsy" in text
    assert "L-MLO  1.1.2" in text


def test_what_cannot_be_read_is_left_out(run: Run, tree: Tree) -> None:
    found = described(run, tree, "demd2")
    assert (found["nbss_read"], found["episodes"]) == (False, [])
    assert [one["study"] for one in found["timeline"]] == [0]
    (tree.data / "demd1/nbss_demd1.json").write_text("{")
    found = described(run, tree, "demd1")
    assert not found["nbss_read"]
    assert [(one["id"], one["events"]) for one in found["episodes"]] == [("8", None), ("9", None)]
    assert "nbss" in run("describe", tree.root, "demd1").stdout
    done = run("describe", tree.root, "demd7")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "no image, study or client has this name" in done.stderr


def test_every_odd_client_is_described(quirky_database: Quirky) -> None:
    view = view_of(quirky_database.path)
    for name in view.index.clients:
        found = content(view, f"by-client/{name.decode()}")
        assert found["client"] == name.decode()
        assert len(list(_lines([found]))) > len(found["timeline"])


def test_the_directory_of_a_client_has_the_timeline_of_its_images(run: Run, tree: Tree) -> None:
    view = view_of(tree.root)
    whole = content(view, "by-client/demd1")
    assert whole == described(run, tree, "demd1")
    some = content(view, "by-view/MLO/by-client/demd1")
    assert some["episodes"] == whole["episodes"]
    assert [study["views"].keys() for study in some["studies"]] == [{"L-MLO"}]
    for path in ("all", "by-client/demd1/1.1", "by-view/XCCL/by-client/demd1", "as-png/by-client/demd1"):
        assert content(view, path) is None, path
    written = run("export", tree.root, "by-client/demd1", "--format", "client").stdout
    assert json.loads(written) == whole
    done = run("export", tree.root, "all", "--format", "client")
    assert done.exit_code == 1
    assert "client.json is of the directory of one client; name one, as in by-client/demd1" in done.stderr


def test_a_client_that_changed_since_the_index_is_an_error(tree: Tree) -> None:
    view = view_of(tree.root)
    (tree.data / "demd1/nbss_demd1.json").write_text("{}")
    with pytest.raises(OSError, match="Input/output error"):
        content(view, "by-client/demd1")
    assert content(view, "by-client/demd2")["client"] == "demd2"
    assert FORMATS["client"].of_client
