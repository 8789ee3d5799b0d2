"""``cohort.tar`` on a real drive: tar, Python's tarfile and webdataset's reader get the files of the directory."""

import hashlib
import os
import random
import subprocess
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from drives import Drives, eventually
from trees import Tree

COHORT = "by-outcome/malignant"


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def listed(directory: Path) -> dict[str, Path]:
    """Return the files of a directory by their names in the archive."""
    return {f"{path.stem}/image{path.suffix}": path for path in directory.iterdir()}


def test_tar_lists_and_extracts_what_the_directory_shows(demo_drive: Path, tmp_path: Path) -> None:
    archive, files = demo_drive / COHORT / ".omidbfs/cohort.tar", listed(demo_drive / COHORT)
    environment = {**os.environ, "TZ": "UTC"}
    lines = subprocess.run(
        ["tar", "tvf", archive, "--full-time"], check=True, capture_output=True, text=True, env=environment
    ).stdout.splitlines()
    assert {line.split()[5] for line in lines} == files.keys()
    for line in lines:
        mode, owner, size, _, _, name = line.split()
        assert (mode, owner, int(size)) == ("-r--r--r--", "0/0", files[name].stat().st_size)
    subprocess.run(["tar", "xf", archive, "-C", tmp_path], check=True)
    extracted = {str(path.relative_to(tmp_path)): path for path in tmp_path.rglob("*") if path.is_file()}
    assert extracted.keys() == files.keys()
    for name, path in files.items():
        assert extracted[name].read_bytes() == path.read_bytes()
        assert extracted[name].stat().st_mtime == int(path.stat().st_mtime)


def test_members_are_read_at_random_and_by_many_at_a_time(demo_drive: Path) -> None:
    archive, files = demo_drive / COHORT / ".omidbfs/cohort.tar", listed(demo_drive / COHORT)

    def check(seed: int) -> None:
        with tarfile.open(archive) as found:
            members = found.getmembers()
            assert {one.name for one in members} == files.keys()
            for one in random.Random(seed).sample(members, 40):
                content = found.extractfile(one)
                assert content is not None
                assert content.read() == files[one.name].read_bytes()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(check, range(8)))


def test_two_drives_and_the_command_give_the_same_archive_with_the_size_that_stat_gives(
    drive: Drives, demo_drive: Path, demo_database: Path, tmp_path: Path
) -> None:
    other = drive(demo_database, "--links", "symlink")
    for path in (COHORT, "all", "by-client/" + min(os.listdir(demo_drive / "by-client"))):
        places = [place / path / ".omidbfs/cohort.tar" for place in (demo_drive, other)]
        output = tmp_path / "cohort.tar"
        command = [sys.executable, "-m", "omidbfs", "export", str(demo_database), path, "-o", str(output)]
        subprocess.run(command, check=True, capture_output=True)
        assert len({sha256(one) for one in (*places, output)}) == 1
        assert {one.stat().st_size for one in places} == {output.stat().st_size}


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A database of three images that take more than a page each."""
    tree = Tree(tmp_path / "db")
    study = tree.client("demd1").study("1.1")
    for number in range(3):
        study.image(f"1.1.{number}", dcm=bytes([number]) * 50000, ViewPosition="CC")
    return tree


def members_of(archive: Path) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(archive) as found:
        return {one.name: one for one in found}


def test_a_member_that_was_replaced_fails_with_eio_until_a_refresh(
    drive: Drives, tree: Tree, tmp_path: Path
) -> None:
    known = members_of(tree_archive(drive, tree, tmp_path))
    place = drive(tree.root)
    archive = place / "all/.omidbfs/cohort.tar"
    before = archive.stat().st_size
    (tree.images / "demd1/1.1/1.1.1.dcm").write_bytes(b"another")
    done = subprocess.run(["tar", "xf", archive, "-C", tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "Input/output error" in done.stderr
    replaced, other = known["1.1.1/image.dcm"], known["1.1.2/image.dcm"]
    with open(archive, "rb") as file:
        with pytest.raises(OSError, match="Input/output error"):
            os.pread(file.fileno(), 100, replaced.offset_data + 8192)
        assert os.pread(file.fileno(), 100, other.offset_data + 8192) == bytes([2]) * 100
    assert archive.stat().st_size == before
    drive.run("refresh", place)
    with tarfile.open(archive) as found:
        content = found.extractfile("1.1.1/image.dcm")
        assert content is not None
        assert content.read() == b"another"


def tree_archive(drive: Drives, tree: Tree, tmp_path: Path) -> Path:
    """Return the archive of a database as the command writes it."""
    drive.run("export", tree.root, "-o", tmp_path / "before.tar")
    return tmp_path / "before.tar"


def test_a_handle_has_few_files_open_and_none_after_it_is_closed(drive: Drives, tree: Tree) -> None:
    archive = drive(tree.root) / "all/.omidbfs/cohort.tar"
    process = drive.pid(archive.parents[2])

    def of_source() -> int:
        links = Path(f"/proc/{process}/fd").iterdir()
        return sum(os.readlink(link).endswith((".dcm", ".json")) for link in links if link.is_symlink())

    with open(archive, "rb", 0) as file:
        assert of_source() == 0
        assert len(file.read()) == archive.stat().st_size
        assert of_source() == 4
    eventually(lambda: of_source() == 0, "every file of the source closed")
