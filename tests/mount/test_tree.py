"""The mounted tree is what the plain model says: names, types, sizes, modes, times, inodes, links, contents."""

import ctypes
import hashlib
import json
import os
import random
import stat
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import comparing
import pytest
from click.testing import CliRunner
from drives import Drives
from reference import TEXTS, File, Place, Reference
from trees import Quirky, Tree

from omidbfs.cli.main import main
from omidbfs.facets import FACETS, Kind


@pytest.fixture(scope="module")
def model(demo_database: Path) -> Reference:
    """The plain model of the clean database."""
    return Reference(demo_database)


def walk(mount: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield every path below a mount, with its ``lstat``."""
    for folder, directories, files in os.walk(mount):
        for name in (*directories, *files):
            path = os.path.join(folder, name)
            yield os.path.relpath(path, mount), os.lstat(path)


def sha256(path: str | Path) -> str:
    """Return the digest of a file."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def compare(mount: Path, model: Reference) -> dict[str, os.stat_result]:
    """Check that a mount is as in the model. Return its entries."""
    found = dict(walk(mount))
    comparing.compare(found, model)
    return found


def test_the_mounted_tree_is_what_the_model_says(demo_drive: Path, model: Reference) -> None:
    compare(demo_drive, model)


def test_the_mounted_tree_of_an_odd_database_is_what_the_model_says(
    session_drive: Drives, quirky_database: Quirky
) -> None:
    compare(session_drive(quirky_database.path), Reference(quirky_database.path))


def test_files_and_directories_have_the_modes_that_the_source_gives_to_each_class(
    drive: Drives, open_path: Path
) -> None:
    tree = Tree(open_path / "db")
    study = tree.client().study("1")
    for number, mode in enumerate((0o644, 0o640, 0o600, 0o604, 0o664, 0o755)):
        study.image(f"1.{number}")
        (study.images / f"1.{number}.dcm").chmod(mode)
    study.study("2").image("2.1").images.chmod(0o750)
    mount = drive(tree.root)
    found = compare(mount, Reference(tree.root))
    modes = [stat.S_IMODE(found[f"all/1.{number}.dcm"].st_mode) for number in range(6)]
    assert modes == [0o444, 0o440, 0o400, 0o404, 0o444, 0o555]
    assert stat.S_IMODE(found["all/1.1.json"].st_mode) == 0o444
    assert stat.S_IMODE(found["by-client/demd1/2/2.1.dcm"].st_mode) == 0o440
    assert {stat.S_IMODE(facts.st_mode) for facts in found.values() if stat.S_ISDIR(facts.st_mode)} == {0o555}
    assert stat.S_IMODE(found["README.txt"].st_mode) == 0o444
    assert stat.S_IMODE(found[".omidbfs/problems.jsonl"].st_mode) == 0o400, "some files are for their owner alone"


def test_the_values_of_an_image_are_those_in_its_sidecar(demo_drive: Path, demo_database: Path) -> None:
    tags = {"view": "00185101", "laterality": "00200062", "intent": "00080068"}
    names = {"FOR PRESENTATION": "presentation", "FOR PROCESSING": "processing"}
    for path in (demo_database / "data").glob("*/*/*.json"):
        sidecar = json.loads(path.read_bytes())
        for facet, tag in tags.items():
            value = sidecar[tag].get("Value", [None])[0]
            if facet == "view" and value not in ("CC", "MLO", "ML", "LM"):
                continue  # where the code says more than the position
            assert (demo_drive / f"by-{facet}" / names.get(value, value) / path.name).exists(), path
    for path in (demo_database / "data").glob("*/imagedb_*.json"):
        site = json.loads(path.read_bytes())["Site"]
        for image in path.parent.glob("*/*.json"):
            assert (demo_drive / "by-site" / site / image.name).exists()


def test_every_file_is_its_source_to_the_byte(demo_drive: Path, model: Reference) -> None:
    digests: dict[str, str] = {}
    for path, node in model.walk():
        if isinstance(node, File):
            digest = digests.get(node.source) or digests.setdefault(node.source, sha256(node.source))
            if path.startswith(("all/", "by-client/", "by-outcome/")):
                assert sha256(demo_drive / path) == digest, path
    assert len(digests) == len({path for path in Path(model.source).rglob("*.*") if path.is_file()})


def test_the_status_of_a_drive_is_complete(demo_drive: Path, demo_database: Path) -> None:
    said = json.loads((demo_drive / ".omidbfs/status.json").read_text())
    for name in (
        "version",
        "pid",
        "started",
        "clients",
        "studies",
        "images",
        "dcm_files",
        "json_files",
        "options",
    ):
        assert said[name], name
    assert (said["images_directory"], said["data_directory"]) == (
        str(demo_database / "images"),
        str(demo_database / "data"),
    )
    assert (said["problems"], said["follow_symlinks"]) == ({}, False)
    assert abs(Path(said["index"]).stat().st_mtime - said["index_written"]) < 60
    assert set(said["refresh"]) == {"state", "since", "done", "error", "stuck"}


def test_find_ends_and_meets_as_many_files_as_the_drive_promises(demo_drive: Path) -> None:
    found = subprocess.run(["find", demo_drive, "-type", "f"], capture_output=True, check=True).stdout.count(b"\n")
    assert json.loads((demo_drive / ".omidbfs/status.json").read_text())["listed_files"] == found


def test_ls_recursive_says_what_find_would_meet(demo_drive: Path, demo_database: Path) -> None:
    for below in ("", "by-outcome/interval-cancer/by-client"):
        command = ["find", demo_drive / below, "-type", "f", "-printf", f"{below}{'/' if below else ''}%P\\n"]
        found = subprocess.run(command, capture_output=True, check=True).stdout.splitlines()
        listed = CliRunner().invoke(main, ["ls", "-R", str(demo_database), below]).stdout.encode().splitlines()
        assert sorted(listed) == sorted(found)
        assert len(listed) > 20


def test_the_facets_promise_the_same_number(demo_drive: Path, demo_database: Path) -> None:
    status = json.loads((demo_drive / ".omidbfs/status.json").read_text())
    counts = json.loads((demo_drive / ".omidbfs/facets.json").read_text())
    assert status["dcm_files"] == status["json_files"] == status["images"], "so each image counted is two files"
    files = 2 * status["images"]  # all/
    for facet in FACETS:
        if facet.kind is Kind.NAME:
            files += 2 * status["images"]
        elif facet.kind is Kind.FILE:
            files += sum(counts[facet.name]["values"].values())
        else:
            files += 2 * sum(counts[facet.name]["values"].values())
    documents = len(list(demo_database.glob("data/*/*.json")))
    assert status["listed_files"] == files + documents + len(TEXTS)


def test_each_facet_lists_the_counts_that_facets_json_gives(demo_drive: Path) -> None:
    counts = json.loads((demo_drive / ".omidbfs/facets.json").read_text())
    for facet in FACETS:
        place = demo_drive / f"by-{facet.name}"
        if facet.kind is Kind.NAME:
            assert len(os.listdir(place)) == counts[facet.name]["count"]
            continue
        values = counts[facet.name]["values"]
        assert os.listdir(place) == [*values]
        for value, count in values.items():
            names = os.listdir(place / value)
            assert len({name.rpartition(".")[0] for name in names}) == count
            assert len(names) == (count if facet.kind is Kind.FILE else 2 * count)


def test_a_path_that_is_not_listed_is_found_in_a_fresh_drive(drive: Drives, demo_database: Path) -> None:
    model = Reference(demo_database)
    mount = drive(demo_database)
    paths = [
        "by-outcome/CI",
        "by-outcome/malignant/by-view/MLO/by-laterality/L",
        "by-laterality/L/by-outcome/M/by-view/R-10226",
        "by-view/CC,MLO/by-age/50-69/by-intent/not-processing",
        "by-year/2012-/by-marked/yes/by-event/SCREENING",
        "by-outcome/not-normal/by-client",
        "by-fold/0-7/by-file-type/dcm",
        "by-site/not-stge/by-manufacturer/hologic,ge",
        "by-implant/yes/by-implant/no",
    ]
    for path in paths:
        place = model.node(path)
        assert isinstance(place, Place)
        children = model.children(place)
        for name, node in children.items():
            facts = os.lstat(mount / path / name)  # before any readdir
            assert stat.S_ISDIR(facts.st_mode) == isinstance(node, Place)
            if isinstance(node, File):
                assert (facts.st_size, facts.st_mtime_ns) == (node.size, node.mtime)
                assert facts.st_ino == os.stat(mount / "all" / name).st_ino
        assert sorted(os.listdir(mount / path)) == sorted(children)
    assert os.listdir(mount / "by-implant/yes/by-implant/no") == []


def test_random_nested_paths_are_what_the_model_says(demo_drive: Path, model: Reference) -> None:
    chance = random.Random(7)
    for _ in range(60):
        path, place = "", model.root
        for _ in range(chance.randint(1, 4)):
            facet = model.lookup(place, f"by-{chance.choice(FACETS).name}")
            assert isinstance(facet, Place)
            assert facet.facet is not None
            names = [*model.values(facet)] or ["unknown"]
            component = chance.choice(("", "", "not-")) + ",".join(chance.choices(names, k=chance.randint(1, 2)))
            value = model.lookup(facet, component)
            if not isinstance(value, Place):
                break
            path, place = f"{path}by-{facet.facet.name}/{component}/", value
        if path:
            assert sorted(os.listdir(demo_drive / path)) == sorted(model.children(place)), path


@pytest.mark.parametrize(
    "path",
    [
        "nothing",
        "by-nothing",
        "by-view/nothing",
        "by-view/not-nothing",
        "by-view/CC,",
        "by-view/CC/nothing.dcm",
        "all/.dcm",
        "all/by-view",
        "by-client/demd0",
        "by-age/69-50",
        "README.txt/x",
        ".omidbfs/README.txt",
        "by-view/by-view",
        "all/" + "x" * 255,
    ],
)
def test_what_is_not_there_is_not_found(demo_drive: Path, path: str) -> None:
    if path == "all/by-view":
        assert (demo_drive / path).is_dir(), "a facet can be entered in every cohort"
        return
    with pytest.raises((FileNotFoundError, NotADirectoryError)):
        os.lstat(demo_drive / path)


def test_dot_and_dot_dot_lead_where_they_do_everywhere(demo_drive: Path) -> None:
    deep = demo_drive / "by-outcome/malignant/by-view/MLO"
    assert os.stat(deep / "..").st_ino == os.stat(demo_drive / "by-outcome/malignant/by-view").st_ino
    assert os.path.samefile(f"{deep}/../../../../all/.", demo_drive / "all")


def test_a_remount_gives_the_same_inodes(drive: Drives, demo_database: Path, demo_drive: Path) -> None:
    mount = drive(demo_database)
    assert os.stat(mount).st_ino == os.stat(demo_drive).st_ino
    first, second = (
        {
            path: facts.st_ino for path, facts in walk(place) if path != ".omidbfs/status.json"
        }  # it names the process
        for place in (demo_drive, mount)
    )
    assert first == second


def test_a_directory_is_mirrored_with_the_access_of_the_root_of_the_source(
    demo_drive: Path, demo_database: Path
) -> None:
    root = os.stat(demo_database / "images")
    for path in ("", "all", "by-view/CC", "by-client"):
        facts = os.stat(demo_drive / path)
        assert (facts.st_uid, facts.st_gid) == (root.st_uid, root.st_gid)
        assert stat.S_IMODE(facts.st_mode) & ~stat.S_IMODE(root.st_mode) == 0
        assert facts.st_mode & 0o222 == 0


def test_statvfs_says_what_the_drive_holds_and_that_nothing_is_free(demo_drive: Path, demo_database: Path) -> None:
    facts = os.statvfs(demo_drive)
    shown = [path for tree in ("images", "data") for path in (demo_database / tree).rglob("*") if path.is_file()]
    taken = sum(-(-path.stat().st_size // 512) * 512 for path in shown)
    assert facts.f_blocks == -(-taken // facts.f_frsize)
    assert facts.f_bsize == facts.f_frsize
    assert facts.f_files == facts.f_ffree == facts.f_favail == 0, "no limit, so nothing can be at it"
    assert facts.f_flag & os.ST_RDONLY
    assert facts.f_flag & os.ST_NOSUID
    assert facts.f_namemax == 255
    assert facts.f_bfree == facts.f_bavail == 0


# Reading directories a piece at a time

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_GETDENTS64 = 217 if os.uname().machine == "x86_64" else 61


def dirents(descriptor: int, size: int) -> list[tuple[str, int, int]]:
    """Return (name, inode, cursor after it) of one getdents64 with a buffer of ``size`` bytes."""
    buffer = ctypes.create_string_buffer(size)
    count = _libc.syscall(_GETDENTS64, descriptor, buffer, size)
    if count < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    found, place = [], 0
    while place < count:
        inode, cursor, length, _ = struct.unpack_from("<QqHB", buffer, place)
        name = buffer.raw[place + 19 : place + length].split(b"\0")[0]
        found.append((os.fsdecode(name), inode, cursor))
        place += length
    return found


@pytest.mark.parametrize("path", ["", "all", "by-client", "by-view", ".omidbfs"])
@pytest.mark.parametrize("size", [280, 288, 512, 4096, 1 << 20])
def test_a_directory_is_whole_whatever_the_size_of_the_buffer(demo_drive: Path, path: str, size: int) -> None:
    expected = [".", "..", *os.listdir(demo_drive / path)]
    descriptor = os.open(demo_drive / path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        names = []
        while page := dirents(descriptor, size):
            names += [name for name, _, _ in page]
    finally:
        os.close(descriptor)
    assert names == expected, "always in one order"


def test_seekdir_continues_at_any_entry_and_rewinddir_at_the_first(demo_drive: Path) -> None:
    descriptor = os.open(demo_drive / "all", os.O_RDONLY | os.O_DIRECTORY)
    try:
        whole = []
        while page := dirents(descriptor, 4096):
            whole += page
        cursors = [cursor for _, _, cursor in whole]
        assert len(set(cursors)) == len(cursors), "telldir tells every place apart"
        chance = random.Random(3)
        for position in [0, 1, 2, len(whole) - 1, *chance.choices(range(len(whole)), k=20)]:
            os.lseek(descriptor, cursors[position], os.SEEK_SET)
            rest = dirents(descriptor, 512)
            assert rest == whole[position + 1 : position + 1 + len(rest)]
            assert rest or position == len(whole) - 1
        os.lseek(descriptor, 0, os.SEEK_SET)
        assert dirents(descriptor, 512) == whole[: len(dirents_of(descriptor, 512))]
    finally:
        os.close(descriptor)


def dirents_of(descriptor: int, size: int) -> list[tuple[str, int, int]]:
    """Return the first page of a directory, from its beginning."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    return dirents(descriptor, size)


def test_the_inodes_of_a_listing_are_those_of_stat(demo_drive: Path) -> None:
    for path in ("", "by-client", "by-view", "by-view/CC"):
        with os.scandir(demo_drive / path) as entries:
            for entry in entries:
                facts = os.stat(entry.path)
                assert entry.inode() == facts.st_ino
                assert entry.is_dir(follow_symlinks=False) == stat.S_ISDIR(facts.st_mode)


def test_dot_and_dot_dot_are_listed_with_their_own_inodes(demo_drive: Path) -> None:
    client = os.listdir(demo_drive / "by-client")[0]
    for path in ("by-view", "by-view/CC", f"by-client/{client}"):
        descriptor = os.open(demo_drive / path, os.O_RDONLY | os.O_DIRECTORY)
        inodes = {name: inode for name, inode, _ in dirents(descriptor, 4096)}
        os.close(descriptor)
        place = (demo_drive / path).stat()
        assert (inodes["."], inodes[".."]) == (place.st_ino, (demo_drive / path).parent.stat().st_ino)


def test_names_that_no_shell_likes_are_safe_on_the_drive(drive: Drives, tmp_path: Path) -> None:
    tree = Tree(tmp_path / "db")
    study = tree.client("demd1").study("with blank").image("-rf").image("by-view").image("a b\n*").image("\udcff")
    study.image("A" * 236).image("%41").image("é").image("~").study("not-this").image("1.1")
    mount = drive(tree.root)
    compare(mount, Reference(tree.root))
    for path, _ in walk(mount):
        assert all(32 < ord(character) < 127 and character not in "*?'\"\\$" for character in path)
    for path in (mount / "all").iterdir():
        assert path.read_bytes()
