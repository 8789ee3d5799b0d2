"""``as-<rendition>`` on a real drive: found, not listed, with sizes before anything is opened."""

import os
import shutil
import stat
from pathlib import Path

from drives import Drives
from test_configuration import mounted
from test_refresh import refresh
from trees import PIXELS, Tree

SMALL = '[renditions.small]\nformat = "png"\nsize = {}\n'


def database(place: Path) -> Tree:
    """Write two images with renditions and one without."""
    tree = Tree(place / "db")
    study = tree.client("demd1").study("1.1").image("1", ViewPosition="MLO", **PIXELS)
    study.image("2", ViewPosition="CC", **PIXELS).image("3", ViewPosition="ML")
    return tree


def walked(directory: Path) -> list[str]:
    """Return the paths of all files that a walk meets."""
    found = (Path(place, name) for place, _, files in os.walk(directory) for name in files)
    return sorted(str(path.relative_to(directory)) for path in found)


def test_renditions_are_found_with_their_sizes_and_nothing_is_opened(drive: Drives, tmp_path: Path) -> None:
    tree = database(tmp_path)
    mount = drive(tree.root)
    before = walked(mount)
    of_dicom = (mount / "all/1.dcm").stat()
    shutil.rmtree(tree.images)
    for name, file, size in (
        ("png", "1.png", 8492),
        ("tiff", "1.tiff", 16904),
        ("png16-200x300", "1.png", 120273),
    ):
        shown = (mount / f"as-{name}/by-view/MLO" / file).stat()
        assert (shown.st_size, shown.st_mode) == (size, of_dicom.st_mode)
        assert (shown.st_mtime_ns, shown.st_nlink) == (of_dicom.st_mtime_ns, of_dicom.st_nlink)
        for path in (f"as-{name}/all", f"by-view/MLO/as-{name}", f"by-client/demd1/1.1/as-{name}"):
            assert (mount / path / file).stat() == shown
    assert walked(mount / "as-npy/by-view") == ["CC/2.npy", "MLO/1.npy"]
    assert walked(mount / "by-client/demd1/as-npy") == ["1.1/1.npy", "1.1/2.npy"]
    assert "as-png/by-view/MLO/1.png" not in before
    assert walked(mount) == before
    assert not [name for name in os.listdir(mount) if name.startswith("as-")]
    for path in (
        "as-png/as-npy",
        "as-jpeg",
        "as-png-9",
        "by-view/as-png",
        "as-png/all/3.png",
        "as-png/README.txt",
    ):
        assert not (mount / path).exists()


def test_a_rendition_is_a_regular_file_where_files_are_links(drive: Drives, tmp_path: Path) -> None:
    mount = drive(database(tmp_path).root, "--links", "symlink")
    assert stat.S_ISLNK(os.lstat(mount / "all/1.dcm").st_mode)
    assert stat.S_ISREG(os.lstat(mount / "as-png/all/1.png").st_mode)


def test_generated_files_are_of_the_images_that_have_the_rendition(drive: Drives, tmp_path: Path) -> None:
    mount = drive(database(tmp_path).root)
    for path, images in (("as-png", 2), ("as-png/all", 2), ("by-view/ML/as-png", 0), ("by-view/CC/as-npy", 1)):
        assert len((mount / path / ".omidbfs/index.csv").read_text().splitlines()) == 1 + images, path


def test_a_changed_definition_is_shown_after_a_refresh(drive: Drives, tmp_path: Path) -> None:
    tree, configuration = database(tmp_path), tmp_path / "omidbfs.toml"
    configuration.write_text(SMALL.format(64))
    os.utime(configuration, (0, 2**31))
    mount = mounted(drive, tree, configuration)
    before = (mount / "as-small/all/1.png").stat()
    assert (before.st_size, before.st_mtime_ns) == (64 * 50 + 68, 2**31 * 10**9)
    plain = (mount / "as-png/all/1.png").stat()
    configuration.write_text(SMALL.format("'32x32'"))
    refresh(mount)
    after = (mount / "as-small/all/1.png").stat()
    assert after.st_size == 32 * 33 + 68
    assert after.st_ino != before.st_ino
    assert after.st_mtime_ns == max(plain.st_mtime_ns, configuration.stat().st_mtime_ns)
    assert (mount / "as-png/all/1.png").stat() == plain
    configuration.write_text("")
    refresh(mount)
    assert not (mount / "as-small").exists()
    assert not (mount / "as-small/all/1.png").exists()


def test_an_edited_sidecar_changes_what_has_a_rendition(drive: Drives, tmp_path: Path) -> None:
    tree = database(tmp_path)
    mount = drive(tree.root)
    assert walked(mount / "as-png/all") == ["1.png", "2.png"]
    before = (mount / "as-png/all/1.png").stat()
    study = tree.root / "data/demd1/1.1"
    (study / "2.json").write_text((study / "3.json").read_text())
    (study / "1.json").write_text((study / "1.json").read_text().replace("104", "52"))
    refresh(mount)
    assert walked(mount / "as-png/all") == ["1.png"]
    assert not (mount / "as-png/all/2.png").exists()
    assert (mount / "as-png/all/1.png").stat().st_size == 52 * 81 + 68
    assert (mount / "as-png/all/1.png").stat().st_ino != before.st_ino
