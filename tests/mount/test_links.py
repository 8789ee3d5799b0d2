"""Options of the same drive: files as symbolic links, and nested facets in listings."""

import os
import stat
from pathlib import Path

from drives import Drives
from reference import File, Reference
from trees import Tree

from omidbfs.facets import FACETS


def test_files_can_be_symbolic_links_to_the_source(drive: Drives, demo_database: Path) -> None:
    model, mount = Reference(demo_database), drive(demo_database, "--links", "symlink")
    inodes: dict[str, int] = {}
    for path, node in model.walk():
        place, facts = f"{mount}/{path}", os.lstat(f"{mount}/{path}")
        if not isinstance(node, File):
            assert not stat.S_ISLNK(facts.st_mode)
            continue
        assert stat.S_ISLNK(facts.st_mode), path
        assert os.readlink(place) == node.source
        assert facts.st_size == len(node.source)
        assert facts.st_nlink == model.links()[node.source]
        assert inodes.setdefault(node.source, facts.st_ino) == facts.st_ino
    assert len(set(inodes.values())) == len(inodes)


def test_a_link_is_absolute_wherever_the_source_was_named_from(drive: Drives, tmp_path: Path) -> None:
    Tree(tmp_path / "db").client().study().image()
    mount = drive(Path("db"), "--links", "symlink")
    assert os.readlink(mount / "all/1.1.1.dcm") == str(tmp_path / "db/images/demd1/1.1/1.1.1.dcm")
    assert (mount / "all/1.1.1.dcm").read_bytes() == b"demd1/1.1/1.1.1" * 6


def test_nested_facets_are_found_and_not_listed(demo_drive: Path) -> None:
    for path in ("all", "by-view/CC", "by-view/CC/by-laterality/L"):
        assert not [name for name in os.listdir(demo_drive / path) if name.startswith("by-")]
        assert (demo_drive / path / "by-outcome").is_dir()


def test_nested_facets_can_be_listed(drive: Drives, demo_database: Path, demo_drive: Path) -> None:
    mount = drive(demo_database, "--list-nested")
    for path in ("all", "by-view/CC", "by-view/CC/by-laterality/L"):
        listed = os.listdir(mount / path)
        nested = [name for name in listed if name.startswith("by-")]
        assert nested == [f"by-{facet.name}" for facet in FACETS if f"by-{facet.name}" not in path.split("/")]
        assert [name for name in listed if name not in nested] == os.listdir(demo_drive / path)
        for name in nested:
            assert sorted(os.listdir(mount / path / name)) == sorted(os.listdir(demo_drive / path / name))
