"""The drive shows what a configuration defines, and follows its changes."""

import json
import os
from pathlib import Path

import pytest
from drives import Drives
from test_refresh import FAILED, refresh
from trees import Tree, sidecar

CONFIGURATION = """\
[facets.kvp]
tag = "KVP"
bins = [28]

[facets.density]
csv = "density.csv"

[cohorts.train]
clients = "train.txt"

[cohorts.dense-CC]
path = "by-density/c/by-view/CC"
"""


@pytest.fixture
def configured(tmp_path: Path) -> tuple[Tree, Path]:
    """A database of three clients, and its configuration."""
    tree = Tree(tmp_path / "db")
    for nth, kvp in enumerate((26, 28, 30)):
        header = {**sidecar(ViewPosition="CC"), "00180060": {"vr": "DS", "Value": [kvp]}}
        tree.client(f"demd{nth}").study(f"1.{nth}").image(f"1.{nth}.1", header=header)
    (tmp_path / "density.csv").write_text("client,density\ndemd0,B\ndemd1,C\n")
    (tmp_path / "train.txt").write_text("demd0\ndemd2\ndemd7\n")
    (tmp_path / "omidbfs.toml").write_text(CONFIGURATION)
    return tree, tmp_path / "omidbfs.toml"


def mounted(drive: Drives, tree: Tree, configuration: Path, *options: str) -> Path:
    place = drive.directory_for_mount()
    command = ("--config", configuration, "mount", tree.root, place, "--log-file", drive.log_file(), *options)
    done = drive.run(*command)
    drive.mounted.append(place)
    assert (done.stdout, done.stderr) == ("", "")
    return place


def names(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


def test_the_drive_shows_what_the_configuration_says(drive: Drives, configured: tuple[Tree, Path]) -> None:
    mount = mounted(drive, *configured)
    assert names(mount / "by-kvp") == ["below-28", "from-28"]
    assert names(mount / "by-density") == ["b", "c", "unknown"]
    assert names(mount / "cohorts") == ["dense-CC", "train"]
    assert names(mount / "cohorts/train") == ["1.0.1.dcm", "1.0.1.json", "1.2.1.dcm", "1.2.1.json"]
    assert names(mount / "cohorts/train/by-kvp/from-28/by-file-type/dcm") == ["1.2.1.dcm"]
    assert names(mount / "cohorts/dense-CC/by-client") == ["demd1"]
    assert not (mount / "cohorts/other").exists()
    file = mount / "by-kvp/from-28/1.2.1.dcm"
    assert file.stat().st_ino == (mount / "cohorts/train/1.2.1.dcm").stat().st_ino
    walked = [Path(place) / name for place, _, files in os.walk(mount) for name in files if name == "1.2.1.dcm"]
    assert file.stat().st_nlink == len(walked)
    status = json.loads((mount / ".omidbfs/status.json").read_text())
    assert status["cohorts"] == {"train": 2, "dense-CC": 1}
    assert status["problems"]["entry-missing"] == 1
    facets = json.loads((mount / ".omidbfs/facets.json").read_text())
    assert facets["kvp"]["values"] == {"below-28": 1, "from-28": 2}


def test_an_edited_configuration_changes_the_drive_at_the_next_refresh(
    drive: Drives, configured: tuple[Tree, Path]
) -> None:
    tree, configuration = configured
    mount = mounted(drive, tree, configuration)
    place = configuration.parent
    before = (mount / "all/1.0.1.dcm").stat()
    assert (mount / "by-density/b/1.0.1.dcm").stat().st_ino == before.st_ino
    assert (mount / "by-density/c/by-view/CC/1.1.1.dcm").exists()
    assert names(mount / "cohorts/train/by-client") == ["demd0", "demd2"]
    (place / "train.txt").write_text("demd1\n")
    (place / "density.csv").write_text("client,density\ndemd0,D\ndemd2,b\ndemd1,unknown\n")
    refresh(mount)
    assert not (mount / "by-density/b/1.0.1.dcm").exists()
    assert not (mount / "by-density/c/by-view/CC/1.1.1.dcm").exists()
    assert (mount / "by-density/b/1.2.1.dcm").exists()
    (place / "density.csv").write_text("client,density\ndemd0,D\n")
    refresh(mount)
    assert names(mount / "cohorts/train/by-client") == ["demd1"]
    assert not (mount / "cohorts/train/1.0.1.dcm").exists()
    assert names(mount / "by-density") == ["d", "unknown"]
    after = (mount / "all/1.0.1.dcm").stat()
    assert (after.st_ino, after.st_nlink) == (before.st_ino, before.st_nlink - 1)
    configuration.write_text('[facets.kvp]\ntag = "KVP"\n')
    refresh(mount)
    assert not (mount / "cohorts").exists()
    assert not (mount / "by-density").exists()
    assert names(mount / "by-kvp") == ["26", "28", "30"]
    drive.expect_log(FAILED)
    configuration.write_text("[facets.kvp]\n")
    refresh(mount, "failed")
    assert "needs exactly one of tag, nbss and csv" in (mount / ".omidbfs/status.json").read_text()
    assert names(mount / "by-kvp") == ["26", "28", "30"]
    configuration.write_text("")
    refresh(mount)
    assert not (mount / "by-kvp").exists()


def test_a_refresh_says_that_a_drive_does_not_read_a_configuration_from_after_the_mount(
    drive: Drives, configured: tuple[Tree, Path]
) -> None:
    tree, configuration = configured
    text = configuration.read_text()
    configuration.unlink()
    mount = drive(tree.root)
    status = mount / ".omidbfs/status.json"
    assert json.loads(status.read_text())["configuration"] is None
    assert drive.run("refresh", mount).stderr == ""
    configuration.write_text(text)  # in the current directory
    assert drive.run("refresh", mount).stderr == (
        f"omidbfs: {mount}: was mounted without a configuration; to use {configuration}, mount it again\n"
    )
    drive.umount(mount)
    mount = mounted(drive, tree, configuration)
    assert json.loads((mount / ".omidbfs/status.json").read_text())["configuration"] == str(configuration)
    assert drive.run("--config", configuration, "refresh", mount).stderr == ""


def test_another_configuration_has_its_facets_from_the_start(drive: Drives, configured: tuple[Tree, Path]) -> None:
    tree, configuration = configured
    mount = mounted(drive, tree, configuration)
    drive.umount(mount)
    configuration.write_text('[facets.meaning]\ntag = "00185101"\n')
    mount = mounted(drive, tree, configuration)
    assert names(mount / "by-meaning") == ["cc"]
    assert not (mount / "by-kvp").exists()


def test_the_root_lists_the_facets_that_were_asked_for_and_finds_all(
    drive: Drives, configured: tuple[Tree, Path]
) -> None:
    tree, configuration = configured
    mount = mounted(drive, tree, configuration, "--facets", "view,by-kvp,mark-feature")
    listed = [name for name in names(mount) if name.startswith("by-")]
    assert listed == ["by-kvp", "by-mark-feature", "by-view"]
    assert names(mount / "by-laterality") == ["unknown"]
    walked = [Path(place) / name for place, _, files in os.walk(mount) for name in files if name == "1.1.1.dcm"]
    assert (mount / "all/1.1.1.dcm").stat().st_nlink == len(walked)
    done = drive.run("mount", tree.root, drive.directory_for_mount(), "--facets", "views", status=1)
    assert done.stderr == "omidbfs: --facets: there is no facet views; did you mean view or standard-views?\n"


def test_commands_take_what_the_configuration_defines(drive: Drives, configured: tuple[Tree, Path]) -> None:
    tree, configuration = configured

    def said(*command: object) -> str:
        return drive.run("--config", configuration, *command).stdout

    assert said("count", tree.root, "cohorts/train") == "2\n"
    assert said("ls", tree.root, "cohorts/dense-CC/by-kvp") == "from-28/\n"
    counted = json.loads(said("facets", tree.root, "cohorts/train", "--json"))
    assert (counted["density"], counted["kvp"]) == ({"b": 1, "unknown": 1}, {"below-28": 1, "from-28": 1})
    drive.run("--config", configuration, "check", tree.root, status=1)


COHORTS = """\
[cohorts.base]
path = "by-view/CC"

[cohorts.train]
clients = "train.txt"

[cohorts.both]
include = ["base"]
exclude = ["train"]

[cohorts.broken]
path = "by-vew/CC"
"""


def test_the_drive_follows_cohorts_that_use_each_other(drive: Drives, configured: tuple[Tree, Path]) -> None:
    tree, configuration = configured
    configuration.write_text(COHORTS)
    mount = drive.directory_for_mount()
    done = drive.run("--config", configuration, "mount", tree.root, mount, "--log-file", drive.log_file())
    drive.mounted.append(mount)
    assert done.stderr == (
        f"omidbfs: {configuration}:12: [cohorts.broken]: path: there is no by-vew; did you mean by-view?; "
        "the drive does not have this cohort\n"
    )
    assert names(mount / "cohorts") == names(mount / "by-cohort") == ["base", "both", "train"]
    assert names(mount / "by-cohort/both/by-client") == ["demd1"]
    assert names(mount / "by-view/CC/by-cohort/not-both/by-client") == ["demd0", "demd2"]
    assert not (mount / "cohorts/broken").exists()
    assert not (mount / "by-cohort/broken").exists()
    file = mount / "by-cohort/both/1.1.1.dcm"
    walked = [Path(place) / name for place, _, files in os.walk(mount) for name in files if name == "1.1.1.dcm"]
    assert file.stat().st_nlink == len(walked)
    written = drive.run("--config", configuration, "export", tree.root, "cohorts/both", "--format", "manifest")
    assert (mount / "cohorts/both/.omidbfs/manifest.json").read_text() == written.stdout
    assert json.loads((mount / "by-client/demd1/.omidbfs/client.json").read_text())["client"] == "demd1"
    problems = (mount / ".omidbfs/problems.jsonl").read_text()
    assert "bad-cohort" in problems
    (configuration.parent / "train.txt").write_text("demd1\n")
    refresh(mount)  # only a cohort that is used by the one that is looked at is another
    assert names(mount / "by-cohort/both/by-client") == ["demd0", "demd2"]
    assert not file.exists()
    assert not (mount / "cohorts/both/1.1.1.dcm").exists()
    configuration.write_text(COHORTS.replace('exclude = ["train"]', 'exclude = ["both"]'))
    refresh(mount)
    assert names(mount / "cohorts") == ["base", "train"]
    assert not (mount / "by-cohort/both").exists()
    assert "both > both" in (mount / ".omidbfs/problems.jsonl").read_text()
