"""Any tool that can open a file can use the drive: shells, copies, archives, DICOM toolkits, omidb."""

import csv
import filecmp
import mmap
import os
import shutil
import subprocess
import sys
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pydicom
import pytest
from drives import Drives
from reference import File, Reference

INTERVAL_CANCERS = "by-outcome/interval-cancer"


def output(*command: str | Path, cwd: Path | None = None) -> str:
    """Return the output of a command, which must succeed without a warning."""
    home = os.environ["XDG_CACHE_HOME"]  # a temporary one: some shells always write there
    environment = {**os.environ, "LC_ALL": "C", "XDG_CONFIG_HOME": home, "HOME": home}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env=environment, check=False, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def same_trees(one: Path, other: Path) -> None:
    """Check that two trees hold the same files, to the byte and to the nanosecond."""
    walked = [
        {os.path.relpath(os.path.join(folder, name), top) for folder, _, files in os.walk(top) for name in files}
        for top in (one, other)
    ]
    assert walked[0] == walked[1]
    matching, differing, failing = filecmp.cmpfiles(one, other, walked[0], shallow=False)
    assert (differing, failing) == ([], [])
    for name in matching:
        assert os.stat(one / name).st_mtime_ns == os.stat(other / name).st_mtime_ns


@pytest.mark.parametrize("shell", ["bash --norc", "zsh -f", "fish --no-config", "sh"])
def test_a_shell_expands_a_pattern_in_a_path_that_is_not_listed(
    demo_drive: Path, demo_database: Path, shell: str
) -> None:
    path = "by-outcome/malignant/by-view/MLO/by-laterality/L"
    place = Reference(demo_database).node(path)
    expected = [f"{path}/{name}" for name in Reference(demo_database).children(place) if name.endswith(".dcm")]  # type: ignore[arg-type]
    assert expected
    listed = output(*shell.split(), "-c", f"ls {path}/*.dcm", cwd=demo_drive)
    assert listed.splitlines() == sorted(expected)


def test_ls_shows_every_facet(demo_drive: Path) -> None:
    listed = output("ls", "-a", demo_drive).splitlines()
    assert listed[:4] == [".", "..", ".omidbfs", "README.txt"]
    assert sorted(listed[2:]) == sorted(os.listdir(demo_drive))
    assert len(output("ls", "-lR", demo_drive / "by-view").splitlines()) > 10


def test_find_filters_by_name_and_size(demo_drive: Path) -> None:
    found = output("find", demo_drive / "all", "-name", "*.dcm", "-size", "+1k").splitlines()
    assert sorted(found) == sorted(str(path) for path in (demo_drive / "all").glob("*.dcm"))


def test_cp_copies_a_cohort_with_its_times(demo_drive: Path, tmp_path: Path) -> None:
    output("cp", "-a", demo_drive / INTERVAL_CANCERS / "by-client", tmp_path / "copy")
    same_trees(demo_drive / INTERVAL_CANCERS / "by-client", tmp_path / "copy")
    assert output("diff", "-r", demo_drive / INTERVAL_CANCERS / "by-client", tmp_path / "copy") == ""


def test_the_real_tree_of_a_client_is_that_of_the_source(
    demo_drive: Path, demo_database: Path, tmp_path: Path
) -> None:
    for tree in ("images", "data"):
        output("cp", "-a", demo_database / tree, tmp_path / "merged" if tree == "images" else tmp_path / "data")
    output("cp", "-a", f"{tmp_path}/data/.", tmp_path / "merged")
    assert output("diff", "-r", demo_drive / "by-client", tmp_path / "merged") == ""
    same_trees(demo_drive / "by-client", tmp_path / "merged")


def test_rsync_copies_and_finds_nothing_to_do_the_second_time(demo_drive: Path, tmp_path: Path) -> None:
    command = ["rsync", "-a", "--itemize-changes", f"{demo_drive}/{INTERVAL_CANCERS}/", f"{tmp_path}/copy/"]
    assert output(*command)
    same_trees(demo_drive / INTERVAL_CANCERS, tmp_path / "copy")
    assert output(*command) == ""


def test_rsync_keeps_hard_links_between_views(demo_drive: Path, tmp_path: Path) -> None:
    output("rsync", "-aH", demo_drive / "by-view", demo_drive / "by-laterality", tmp_path / "copy")
    copies = Counter(path.stat().st_ino for path in (tmp_path / "copy").rglob("*.dcm"))
    assert len(copies) == len(list((demo_drive / "all").glob("*.dcm")))
    assert set(copies.values()) == {2}


def test_tar_creates_compares_lists_and_extracts(demo_drive: Path, tmp_path: Path) -> None:
    archive = tmp_path / "cohort.tar"
    output("tar", "-cf", archive, "-C", demo_drive, "by-outcome", "by-view")
    output("tar", "-df", archive, "-C", demo_drive)
    names = [name for name in output("tar", "-tf", archive).splitlines() if not name.endswith("/")]
    files = [
        path for top in ("by-outcome", "by-view") for path in (demo_drive / top).rglob("*.*") if path.is_file()
    ]
    assert sorted(names) == sorted(str(path.relative_to(demo_drive)) for path in files)
    (tmp_path / "out").mkdir()
    output("tar", "-xf", archive, "-C", tmp_path / "out")
    same_trees(demo_drive / "by-outcome", tmp_path / "out/by-outcome")
    same_trees(demo_drive / "by-view", tmp_path / "out/by-view")
    size = sum(path.stat().st_size for path in (demo_drive / "all").iterdir())
    assert archive.stat().st_size < 2 * size, "tar sees hard links"


def test_the_paths_of_ls_can_be_given_to_other_programs(
    demo_drive: Path, demo_database: Path, tmp_path: Path
) -> None:
    below = "by-outcome/interval-cancer/by-laterality/L/by-view"  # a glob finds nothing there
    ls = f"{sys.executable} -m omidbfs ls -R {demo_database} {below}"
    command = (
        f"{ls} | rsync -a --chmod=u+w --files-from=- {demo_drive} copy && {ls} -0 | (cd {demo_drive}; xargs -0 ls)"
    )
    listed = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)
    same_trees(demo_drive / below, tmp_path / "copy" / below)
    copies = [path for path in (tmp_path / "copy").rglob("*.*") if path.is_file()]
    assert sorted(listed.stdout.split()) == sorted(str(path.relative_to(tmp_path / "copy")) for path in copies)
    assert all(path.stat().st_mode & 0o200 for path in copies)


def test_du_counts_a_file_once(demo_drive: Path) -> None:
    sizes = {
        facts.st_ino: facts.st_size
        for folder, _, files in os.walk(demo_drive)
        for name in files
        if (facts := os.stat(os.path.join(folder, name)))
    }
    assert int(output("du", "-sb", demo_drive).split()[0]) == sum(sizes.values())


def test_a_training_loop_that_follows_links_ends_and_sees_one_class_for_each_image(
    demo_drive: Path, demo_database: Path
) -> None:
    classes = sorted(entry.name for entry in os.scandir(demo_drive / "by-outcome") if entry.is_dir())
    samples = [
        (os.path.join(folder, name), classes.index(label))
        for label in classes
        for folder, _, names in sorted(os.walk(demo_drive / "by-outcome" / label, followlinks=True))
        for name in sorted(names)
        if name.endswith(".dcm")
    ]
    assert len(samples) == len(list(demo_database.glob("images/*/*/*.dcm")))
    assert len({os.path.basename(path) for path, _ in samples}) == len(samples)


# DICOM


@pytest.fixture(scope="module")
def images(demo_drive: Path) -> list[Path]:
    """Some DICOM files of the drive, of both intents."""
    found = [
        path
        for intent in ("presentation", "processing")
        for path in sorted((demo_drive / "by-intent" / intent).glob("*.dcm"))[:4]
    ]
    assert len(found) == 8
    return found


def test_dcmdump_reads_a_header(images: list[Path]) -> None:
    for path in images:
        assert path.stem in output("dcmdump", "+P", "SOPInstanceUID", path)


def test_pydicom_reads_header_and_pixels(images: list[Path]) -> None:
    for path in images:
        dataset = pydicom.dcmread(path)
        assert path.stem == dataset.SOPInstanceUID
        assert dataset.pixel_array.shape == (dataset.Rows, dataset.Columns)
        assert dataset.pixel_array.max() > 0


def test_simpleitk_reads_pixels(images: list[Path]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its bindings, when they are imported
        import SimpleITK as sitk
    for path in images:
        dataset = pydicom.dcmread(path)
        pixels = dataset.pixel_array
        if dataset.PhotometricInterpretation == "MONOCHROME1":  # SimpleITK makes MONOCHROME2 of it
            pixels = 2**dataset.BitsStored - 1 - pixels
        assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[0], pixels)


def test_files_can_be_mapped_into_memory(images: list[Path]) -> None:
    for path in images:
        content = path.read_bytes()
        mapped = np.memmap(path, mode="r")
        assert mapped.tobytes() == content
        with open(path, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as view:
            assert view[:] == content
            assert view.find(b"DICM") == 128
        with open(path, "rb") as stream:
            shared = mmap.mmap(stream.fileno(), 0, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
            assert shared[-64:] == content[-64:]
            shared.close()


def test_a_file_is_read_at_any_position(images: list[Path]) -> None:
    content = images[0].read_bytes()
    descriptor = os.open(images[0], os.O_RDONLY)
    try:
        for offset in (0, 1, 4095, 4096, len(content) - 1, len(content), len(content) + 1, 1 << 40):
            assert os.pread(descriptor, 5000, offset) == content[offset : offset + 5000]
    finally:
        os.close(descriptor)


def test_many_readers_at_once_get_each_their_own_bytes(demo_drive: Path, demo_database: Path) -> None:
    originals = {path.name: path for path in demo_database.glob("images/*/*/*.dcm")}
    for path in originals.values():  # so that some answers come from the page cache and others from the disk
        with open(path, "rb") as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def differs(name: str) -> bool:
        return (demo_drive / "all" / name).read_bytes() != originals[name].read_bytes()

    with ThreadPoolExecutor(16) as pool:
        assert not any(pool.map(differs, originals))


# omidb


def rows(path: Path) -> tuple[list[str], Counter[tuple[str, ...]]]:
    """Return the header of a CSV file, and its rows in no order."""
    with open(path, newline="") as stream:
        header, *lines = csv.reader(stream)
    return header, Counter(map(tuple, lines))


def test_omidb_reads_a_cohort_as_a_database(demo_drive: Path, demo_database: Path) -> None:
    import omidb

    place = demo_drive / INTERVAL_CANCERS / "by-client"
    found = {}
    for client in omidb.DB(data_dir=place, image_dir=place, ignore_missing_images=False):
        images = [
            image
            for episode in client.episodes
            for study in episode.studies or ()
            for series in study.series
            for image in series.images
        ]
        found[client.id] = {image.id for image in images}
        for image in images[:2]:
            assert image.dcm.SOPInstanceUID == image.id
            assert image.attributes["00080018"]["Value"] == [image.id]
    expected: dict[str, set[str]] = {}
    model = Reference(demo_database)
    for path, node in model.walk(model.node(f"{INTERVAL_CANCERS}/by-client")):  # type: ignore[arg-type]
        if isinstance(node, File) and path.endswith(".dcm"):
            expected.setdefault(path.split("/")[0], set()).add(Path(path).stem)
    assert expected
    assert found == expected


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--link-all", "--num-months-ci-prior", "36", "--num-months-cancer-prior", "36"],
    ],
)
@pytest.mark.parametrize("cohort", ["", INTERVAL_CANCERS])
def test_omidb_summarises_a_cohort_as_we_do(
    drive: Drives, demo_database: Path, demo_drive: Path, tmp_path: Path, cohort: str, options: list[str]
) -> None:
    omidb = shutil.which("omidb", path=os.path.dirname(sys.executable))
    assert omidb is not None
    place = demo_drive / cohort / "by-client"
    subprocess.run(
        [omidb, "summarise", place, tmp_path / "theirs.csv", *options],
        capture_output=True,
        check=True,
        timeout=120,
    )
    drive.run(
        *("export", demo_database, cohort or "all", "--format", "omidb-summary", "-o", tmp_path / "ours.csv"),
        *options,
    )
    header, theirs = rows(tmp_path / "theirs.csv")
    assert rows(tmp_path / "ours.csv") == (header, theirs)
    assert theirs.total() > 10
