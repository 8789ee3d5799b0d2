"""Programs that know nothing of DICOM read renditions as if they were ordinary files."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from drives import Drives
from numpy.typing import NDArray
from PIL import Image
from pixel_files import written
from programs import needs
from sessions import HEAVY, commands, sessions, shows
from test_tools import INTERVAL_CANCERS, output, same_trees
from trees import Tree

Arrays = dict[str, NDArray[Any]]


@pytest.fixture(scope="module")
def arrays() -> Arrays:
    """Stored values of each kind, by the name of the image."""
    random = np.random.default_rng(11)
    return {
        "1.1": random.integers(0, 1 << 16, (33, 21), np.uint16),
        "1.2": random.integers(-(1 << 15), 1 << 15, (21, 33), np.int16),
        "1.3": random.integers(0, 256, (16, 17), np.uint8),
        "1.4": random.integers(0, 256, (18, 19, 3), np.uint8),
        "1.5": random.integers(0, 1 << 12, (4, 20, 15), np.uint16),
    }


@pytest.fixture(scope="module")
def mount(arrays: Arrays, session_drive: Drives, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A drive with one image of each kind."""
    tree = Tree(tmp_path_factory.mktemp("kinds") / "db")
    study = tree.client("demd1").study("1.1")
    for uid, array in arrays.items():
        frames = 4 if uid == "1.5" else None
        study.image(uid, dcm=written(array, NumberOfFrames=frames), ViewPosition="CC")
    place = session_drive(tree.root)
    yield place
    session_drive.umount(place)


def magick(path: Path, form: str, dtype: str) -> NDArray[Any]:
    """Return the values of an image as ImageMagick reads them, in one row."""
    depth = str(8 * np.dtype(dtype).itemsize)
    command = ["convert", path, "-depth", depth, "-endian", "LSB", f"{form}:-"]
    return np.frombuffer(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout, dtype)


@pytest.mark.parametrize("session", [one for one in sessions("renditions.md") if not HEAVY.search(one)])
def test_a_session_of_the_page_prints_what_the_page_shows(session: str, demo_drive: Path, tmp_path: Path) -> None:
    (tmp_path / "mnt").symlink_to(demo_drive)
    shows(session, tmp_path)


@needs("identify", "convert")
def test_the_commands_of_the_page_print_what_the_page_shows(demo_drive: Path, tmp_path: Path) -> None:
    (tmp_path / "mnt").symlink_to(demo_drive)
    shown = [(command, text) for command, text in commands("renditions.md") if not command.startswith("omidbfs")]
    assert len(shown) == 2
    for command, text in shown:
        done = subprocess.run(
            command, shell=True, cwd=tmp_path, check=True, stdout=subprocess.PIPE, text=True, timeout=60
        )
        assert done.stdout == text
    with Image.open(tmp_path / "strip.png") as strip:
        assert strip.width == 64


def test_numpy_and_tifffile_load_and_map_the_stored_values(mount: Path, arrays: Arrays) -> None:
    assert len([*(mount / "as-npy/all").iterdir()]) == len([*(mount / "as-tiff/all").iterdir()]) == len(arrays)
    for uid, array in arrays.items():
        npy, tiff = mount / f"as-npy/all/{uid}.npy", mount / f"as-tiff/all/{uid}.tiff"
        mapped = [np.load(npy, mmap_mode="r"), tifffile.memmap(tiff, mode="r")]
        for found in (np.load(npy), *mapped, tifffile.imread(tiff)):
            assert found.dtype == array.dtype
            assert np.array_equal(found, array)
        assert [isinstance(one, np.memmap) for one in mapped] == [True, True]


def test_a_writer_is_refused(mount: Path) -> None:
    with pytest.raises(OSError, match="Read-only file system"):
        np.load(mount / "as-npy/all/1.1.npy", mmap_mode="r+")
    with Image.open(mount / "as-png/all/1.1.png") as image, pytest.raises(OSError, match="Read-only file system"):
        image.save(mount / "as-png/all/new.png")


def test_pillow_reads_the_stored_values_and_those_for_display(mount: Path, arrays: Arrays) -> None:
    """The file states no window, so the display of unsigned values of all bits is these values."""
    for rendition, uid, mode in (
        ("png16", "1.1", "I;16"),
        ("tiff", "1.1", "I;16"),
        ("png", "1.3", "L"),
        ("tiff", "1.3", "L"),
        ("png", "1.4", "RGB"),
        ("tiff", "1.4", "RGB"),
    ):
        suffix = rendition.removesuffix("16")
        with Image.open(mount / f"as-{rendition}/all/{uid}.{suffix}") as image:
            assert image.mode == mode
            assert np.array_equal(np.asarray(image), arrays[uid])


def test_pillow_sees_the_frames_of_a_volume_as_pages(mount: Path, arrays: Arrays) -> None:
    with Image.open(mount / "as-tiff/all/1.5.tiff") as image:
        assert image.n_frames == 4
        for number, frame in enumerate(arrays["1.5"]):
            image.seek(number)
            assert np.array_equal(np.asarray(image), frame)


def test_eight_bits_for_display_are_the_upper_half_of_sixteen(demo_drive: Path) -> None:
    """Both are rounded down, so that 257 values of 16 bits share one of 8."""
    for path in sorted((demo_drive / "as-png/all").iterdir())[::20]:
        with Image.open(path) as narrow, Image.open(demo_drive / "as-png16/all" / path.name) as wide:
            assert np.array_equal(np.asarray(narrow), np.asarray(wide) // 257)


@needs("identify", "convert")
def test_imagemagick_identifies_and_converts(mount: Path, arrays: Arrays) -> None:
    for path, said in (
        ("as-png/all/1.1.png", "PNG 21x33 8"),
        ("as-png/all/1.4.png", "PNG 19x18 8"),
        ("as-png16/by-view/CC/1.2.png", "PNG 33x21 16"),
        ("as-png16-100x40/all/1.1.png", "PNG 40x100 16"),
        ("as-tiff/all/1.1.tiff", "TIFF 21x33 16"),
        ("as-tiff/all/1.5.tiff", "TIFF 15x20 16\n" * 4),
    ):
        assert output("identify", "-format", "%m %wx%h %z\n", mount / path).strip() == said.strip()
    assert np.array_equal(magick(mount / "as-png16/all/1.1.png", "gray", "<u2"), arrays["1.1"].ravel())
    assert np.array_equal(magick(mount / "as-tiff/all/1.1.tiff", "gray", "<u2"), arrays["1.1"].ravel())
    assert np.array_equal(magick(mount / "as-png/all/1.3.png", "gray", "u1"), arrays["1.3"].ravel())
    assert np.array_equal(magick(mount / "as-png/all/1.4.png", "rgb", "u1"), arrays["1.4"].ravel())


@needs("rsync")
def test_rsync_copies_renditions_and_finds_nothing_to_do_the_second_time(demo_drive: Path, tmp_path: Path) -> None:
    cohort = f"as-png16-64x64/{INTERVAL_CANCERS}"
    command = ["rsync", "-a", "--itemize-changes", f"{demo_drive}/{cohort}/by-view/", f"{tmp_path}/copy/"]
    assert ".png" in output(*command)
    same_trees(demo_drive / cohort / "by-view", tmp_path / "copy")
    assert output(*command) == ""
    assert output(*command, "--checksum") == ""


def test_tar_creates_compares_lists_and_extracts_renditions(demo_drive: Path, tmp_path: Path) -> None:
    archive, top = tmp_path / "cohort.tar", demo_drive / "as-npy"
    output("tar", "-cf", archive, "-C", top, INTERVAL_CANCERS)
    output("tar", "-df", archive, "-C", top)
    names = {name for name in output("tar", "-tf", archive).splitlines() if name.endswith(".npy")}
    assert {name.rpartition("/")[2] for name in names} == {
        path.name for path in (top / INTERVAL_CANCERS).iterdir() if path.suffix == ".npy"
    }
    output("tar", "-xf", archive, "-C", tmp_path)
    same_trees(top / INTERVAL_CANCERS, tmp_path / INTERVAL_CANCERS)
