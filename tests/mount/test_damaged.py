"""A drive whose saved index is damaged: it is there at once, makes a new index, and then shows everything."""

import json
from pathlib import Path

import pytest
from drives import Drives, eventually
from reference import Reference
from test_refresh import check, status
from trees import Tree


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A database of two clients."""
    tree = Tree(tmp_path / "db")
    tree.client("demd1").study("1.1").image("1.1.1", ViewPosition="CC").image("1.1.2")
    tree.client("demd2").study("2.1").image("2.1.1", ViewPosition="MLO")
    return tree


def flipped(index: Path, section: str) -> None:
    """Change a bit in the middle of a section of an index."""
    content = bytearray(index.read_bytes())
    data = 8 + int.from_bytes(content[:8], "little")
    first, end = json.loads(content[8:data])[section]["data_offsets"]
    content[data + (first + end) // 2] ^= 0x10
    index.write_bytes(content)


@pytest.mark.parametrize("section", ["columns.view", "images.heap", "dcm.mtime"])
def test_a_drive_with_a_damaged_index_is_there_and_makes_a_new_one(
    drive: Drives, tree: Tree, section: str
) -> None:
    index = drive.directory / "index"
    drive.run("index", tree.root, "--index", index)
    flipped(index, section)
    drive.expect_log(rf"WARNING.*the index is damaged: {section}; what needs it gets EIO")
    mount = drive(tree.root, "--index", str(index))
    assert (mount / "README.txt").exists()
    eventually(lambda: status(mount)["refresh"]["done"] == 1, "a refresh")
    assert status(mount)["refresh"]["error"] is None
    check(mount, Reference(tree.root), set())
    assert drive.run("count", tree.root, "--index", index).stderr == ""


def test_mount_builds_an_index_anew_that_lacks_what_every_drive_needs(drive: Drives, tree: Tree) -> None:
    index, place = drive.directory / "index", drive.directory_for_mount()
    drive.run("index", tree.root, "--index", index)
    flipped(index, "study_rows")
    done = drive.run("mount", tree.root, place, "--index", index, "--log-file", drive.log_file())
    drive.mounted.append(place)
    said = f"omidbfs: {index}: damaged: study_rows; building it anew"
    assert (done.stdout, done.stderr.splitlines()[:1]) == ("", [said])
    check(place, Reference(tree.root), set())
