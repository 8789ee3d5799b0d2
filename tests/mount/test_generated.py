"""Generated files on a real drive: their sizes, mapping, concurrent callers, and refreshes."""

import contextlib
import ctypes
import json
import mmap
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas
import pytest
from drives import Drives, eventually
from trees import Tree

from omidbfs.serving.spool import MEMORY

TABLES = ("index", "pairs", "clients", "studies", "episodes", "marks")
FILES = {f"{name}.{suffix}" for name in TABLES for suffix in ("csv", "parquet")}
FILES |= {"coco.json", "summary.json", "paths.txt", "manifest.json", "cohort.tar"}
COHORT = "by-outcome/malignant/.omidbfs"


def spooled(process: int) -> int:
    """Return the number of unnamed open files of a drive: the generated files that it keeps on disk."""
    links = Path(f"/proc/{process}/fd").iterdir()
    return sum(os.readlink(link).endswith(" (deleted)") for link in links if link.is_symlink())


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, demo_database: Path) -> dict[str, bytes]:
    """Every file of a cohort as the command writes it, without a mount."""
    place = tmp_path_factory.mktemp("exported")
    for name in FILES:
        command = [sys.executable, "-m", "omidbfs", "export", str(demo_database), "by-outcome/malignant", "-o"]
        subprocess.run([*command, str(place / name)], check=True, capture_output=True)
    return {name: (place / name).read_bytes() for name in FILES}


def test_a_generated_file_is_what_the_command_writes_and_has_the_size_it_says(
    demo_drive: Path, exported: dict[str, bytes]
) -> None:
    for name, content in exported.items():
        path = demo_drive / COHORT / name
        assert path.stat().st_size == len(content)
        assert path.read_bytes() == content
        assert path.stat().st_mode & 0o777 & ~0o444 == 0


def test_a_generated_file_can_be_mapped_and_read_anywhere(demo_drive: Path, exported: dict[str, bytes]) -> None:
    content = exported["index.csv"]
    with open(demo_drive / COHORT / "index.csv", "rb") as file:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            assert mapped[:] == content
        assert os.pread(file.fileno(), 100, len(content) - 50) == content[-50:]
        assert os.pread(file.fileno(), 100, len(content)) == b""


def test_pandas_opens_a_cohort_and_its_paths_lead_to_the_images(demo_drive: Path) -> None:
    table = pandas.read_csv(demo_drive / COHORT / "index.csv", dtype={"image": str})
    assert set(table["outcome"]) == {"malignant"}
    for path in [*table["dcm"][:20], *table["json"][:20]]:
        assert (demo_drive / path).is_file()
    boxes = json.loads((demo_drive / COHORT / "coco.json").read_bytes())
    place = demo_drive / "by-outcome/malignant"
    assert all((place / image["file_name"]).is_file() for image in boxes["images"])


def test_listing_makes_no_file_and_asking_for_a_size_makes_only_its_file(
    drive: Drives, demo_database: Path
) -> None:
    place = drive(demo_database)
    process = drive.pid(place)
    for path in ("all", "by-view/CC", "by-view/MLO"):
        assert set(os.listdir(place / path / ".omidbfs")) == FILES
        with os.scandir(place / path / ".omidbfs") as entries:
            assert all(entry.is_file() for entry in entries)
        assert ".omidbfs" not in os.listdir(place / path)
    for name in FILES:
        os.close(os.open(place / "all/.omidbfs" / name, os.O_PATH))  # looks the name up, and asks for nothing
    assert spooled(process) == 0
    assert (place / "all/.omidbfs/paths.txt").stat().st_size > 0
    assert spooled(process) == 1
    assert set(os.listdir(place / "all/.omidbfs")) == FILES
    assert (place / "all/.omidbfs/paths.txt").stat().st_size > 0
    assert spooled(process) == 1


# A directory is never held up


_HELD = """
import sys, time
from pathlib import Path
from omidbfs.cli.main import main
from omidbfs.view.view import View

content, go_on = View.content, Path(sys.argv.pop(1))

def held(self, export):
    while not go_on.exists():
        time.sleep(0.01)
    yield from content(self, export)

View.content = held
main()
"""
"""A drive that makes no file before ``go_on`` exists."""


def test_a_file_that_takes_long_holds_up_no_other_name_in_its_directory(
    drive: Drives, demo_database: Path, exported: dict[str, bytes]
) -> None:
    place, go_on = drive.directory_for_mount(), drive.directory / "go_on"
    command = [sys.executable, "-c", _HELD, str(go_on), "mount", str(demo_database), str(place)]
    subprocess.run([*command, "--log-file", str(drive.log_file())], env=drive.environment, check=True, timeout=120)
    drive.mounted.append(place)
    files = place / COHORT
    made = FILES - {"cohort.tar"}
    asked = [*made, *made]  # the size of each, and its content: more than are made at the same time
    with ThreadPoolExecutor(2 * len(asked) + 1) as pool:
        try:
            sizes = [pool.submit(lambda name=name: (files / name).stat().st_size) for name in asked]
            contents = [pool.submit((files / name).read_bytes) for name in asked]
            making = eventually_making(drive.pid(place))
            others = pool.submit(others_in, files)
            assert others.result(20) == FILES
            assert making
            assert not any(answer.done() for answer in (*sizes, *contents))
        finally:
            go_on.touch()
        assert [answer.result(60) for answer in sizes] == [len(exported[name]) for name in asked]
        assert [answer.result(60) for answer in contents] == [exported[name] for name in asked]


def eventually_making(process: int) -> bool:
    """Wait until a drive makes files, which takes threads; return that it does."""
    eventually(lambda: len(os.listdir(f"/proc/{process}/task")) > 2, "two files are being made")
    return True


def others_in(files: Path) -> set[str]:
    """Look up every name and others, and list the directory, without asking for anything of a file."""
    for name in ("nothing", ".hidden", "index.csv.gz", "by-view"):
        assert not os.path.lexists(files / name)
    for name in FILES:
        os.close(os.open(files / name, os.O_PATH))
    assert (files.parent / "by-view").is_dir()
    assert (files / ".." / "by-view" / "CC").is_dir()
    return set(os.listdir(files))


def fresh(place: Path, number: int, name: str) -> Path:
    """Return a path of a generated file of the cohort that the kernel has not seen: a number for each test."""
    return place / "by-outcome/malignant" / Path(*["by-outcome/malignant"] * number) / ".omidbfs" / name


def without_stat(path: Path) -> bytes:
    """Open and read without asking for the size."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return b"".join(iter(lambda: os.read(descriptor, 50_000), b""))
    finally:
        os.close(descriptor)


def to_the_end(path: Path) -> bytes:
    """Find the end first."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        end = os.lseek(descriptor, 0, os.SEEK_END)
        assert os.pread(descriptor, 10, end) == b""
        return os.pread(descriptor, end + 1, 0)
    finally:
        os.close(descriptor)


def mapped(path: Path) -> bytes:
    """Map a file into memory."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content[:]


def mapped_without_stat(path: Path, size: int) -> bytes:
    """Map as many bytes as the caller says, as a program does that knows the size from a listing."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        address = _libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
        content = ctypes.string_at(address, size)
        _libc.munmap(address, size)
        return content
    finally:
        os.close(descriptor)


_libc = ctypes.CDLL(None)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)


def sent(path: Path) -> bytes:
    """Have the kernel copy it, as a server of files does, without asking for the size."""
    descriptor, to = os.open(path, os.O_RDONLY), os.memfd_create("copy")
    try:
        while os.sendfile(to, descriptor, None, 1 << 20):
            pass
        os.lseek(to, 0, os.SEEK_SET)
        return os.read(to, 1 << 30)
    finally:
        os.close(descriptor)
        os.close(to)


def through_a_path_only(path: Path) -> bytes:
    """Look it up, and open it later, as servers do that check a path first."""
    descriptor = os.open(path, os.O_PATH)
    try:
        return without_stat(Path(f"/proc/self/fd/{descriptor}"))
    finally:
        os.close(descriptor)


def listed_first(path: Path) -> bytes:
    """Read after a listing with attributes, which gives no size."""
    with os.scandir(path.parent) as entries:
        sizes = {entry.name: entry.stat().st_size for entry in entries if entry.name == path.name}
    content = path.read_bytes()
    assert sizes == {path.name: len(content)}
    return content


def copied(path: Path, *command: str) -> bytes:
    """Have a program copy it."""
    with tempfile.TemporaryDirectory() as place:
        subprocess.run([*command, str(path), f"{place}/copy"], check=True, timeout=60)
        return Path(place, "copy").read_bytes()


def test_every_way_to_read_a_file_that_is_not_made_yet_gives_all_of_it(
    drive: Drives, demo_database: Path, exported: dict[str, bytes]
) -> None:
    place, content = drive(demo_database), exported["index.csv"]
    ways: list[Callable[[Path], bytes]] = [
        Path.read_bytes,
        without_stat,
        to_the_end,
        mapped,
        lambda path: mapped_without_stat(path, len(content)),
        sent,
        through_a_path_only,
        listed_first,
        lambda path: copied(path, "cp"),
        lambda path: copied(path, "rsync", "-t"),
        lambda path: subprocess.check_output(["cat", path]),
        lambda path: subprocess.check_output(["tail", "-c", "+1", path]),
    ]
    for number, read in enumerate(ways):
        assert read(fresh(place, number, "index.csv")) == content, number
    size = subprocess.check_output(["stat", "-c", "%s", fresh(place, len(ways), "index.csv")])
    assert int(size) == len(content)


def test_pandas_and_duckdb_read_files_that_are_not_made_yet(drive: Drives, demo_database: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    place = drive(demo_database)
    table = pandas.read_csv(fresh(place, 0, "index.csv"), dtype=str)
    assert len(pandas.read_parquet(fresh(place, 0, "index.parquet"))) == len(table) > 0
    for number, name in ((1, "index.csv"), (1, "index.parquet")):
        [(count,)] = duckdb.sql(f"SELECT count(*) FROM '{fresh(place, number, name)}'").fetchall()
        assert count == len(table)


def test_a_listing_leaves_mapped_files_as_they_are(demo_drive: Path, exported: dict[str, bytes]) -> None:
    content = exported["index.csv"]
    with (
        open(demo_drive / COHORT / "index.csv", "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
    ):
        for _ in range(3):
            assert set(os.listdir(demo_drive / COHORT)) == FILES
            assert os.fstat(file.fileno()).st_size == len(content)
            assert mapped[:] == content


def test_many_callers_at_once_get_one_file_that_is_made_once(drive: Drives, demo_database: Path) -> None:
    place = drive(demo_database)
    with ThreadPoolExecutor(16) as pool:
        contents = set(pool.map(lambda _: (place / "all/.omidbfs/index.csv").read_bytes(), range(32)))
        assert len(contents) == 1
        assert spooled(drive.pid(place)) == 1
        paths = [place / cohort / ".omidbfs" / name for cohort in ("by-view/CC", "all") for name in FILES]
        assert all(pool.map(lambda path: len(path.read_bytes()) == path.stat().st_size, paths * 3))
    kept = [path for path in paths if path.name != "cohort.tar"]
    large = [path for path in kept if path.stat().st_size > MEMORY // 256]
    eventually(lambda: spooled(drive.pid(place)) == len(large), "each is kept once, and closed")


def test_a_refresh_gives_new_content_and_leaves_open_files_alone(drive: Drives, tmp_path: Path) -> None:
    tree = Tree(tmp_path / "db")
    study = tree.client().study().image("1.1.1", ViewPosition="CC")
    place = drive(tree.root)
    path = place / "by-view/CC/.omidbfs/index.csv"
    before = path.read_bytes()
    assert before.count(b"\n") == 2
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        study.image("1.1.2", ViewPosition="CC")
        drive.run("refresh", place)
        assert path.read_bytes().count(b"\n") == 3
        assert path.stat().st_size == len(path.read_bytes())
        assert path.stat().st_ino != os.fstat(file.fileno()).st_ino
        assert os.listdir(path.parent)
        assert (file.read(), mapped[:], os.fstat(file.fileno()).st_size) == (before, before, len(before))
        study.image("1.1.3", ViewPosition="CC")
        drive.run("refresh", place)
        assert path.read_bytes().count(b"\n") == 4
        file.seek(0)
        assert file.read() == before
    eventually(lambda: spooled(drive.pid(place)) == 0, "the drive frees files that no name leads to")


def test_any_number_of_files_is_made_and_closed_where_few_can_be_open(drive: Drives, tmp_path: Path) -> None:
    tree = Tree(tmp_path / "db")
    for number in range(40):
        tree.client(f"demd{number}").study(f"1.{number}").image(f"1.{number}.1", dcm=b"pixels")
    place = drive.directory_for_mount()
    command = ["prlimit", "--nofile=140:140", sys.executable, "-m", "omidbfs", "mount", tree.root, place]
    subprocess.run([*command, "--log-file", drive.log_file()], env=drive.environment, check=True, timeout=120)
    drive.mounted.append(place)
    before = len(os.listdir(f"/proc/{drive.pid(place)}/fd"))
    for client in range(40):
        for name in FILES:
            assert (place / f"by-client/demd{client}/.omidbfs" / name).read_bytes()
    assert (place / "all/1.0.1.dcm").read_bytes() == b"pixels"
    assert (place / "all/.omidbfs/index.csv").read_bytes()
    drive.run("refresh", place)
    eventually(lambda: len(os.listdir(f"/proc/{drive.pid(place)}/fd")) <= before, "all of them closed")


@pytest.fixture
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file system of 64 kB."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    place = tmp_path_factory.mktemp("small")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", place], check=True)
    yield place
    subprocess.run(["umount", "-l", place], check=True)  # a process may be ending


def test_on_a_full_disk_asking_fails_and_the_drive_goes_on(
    small_disk: Path, drive: Drives, demo_database: Path
) -> None:
    drive.expect_log("a file of a cohort could not be made: No space left on device")
    index = drive.directory / "kept.index"
    drive.run("index", demo_database, "--index", index)
    drive.environment |= {"XDG_CACHE_HOME": str(small_disk), "TMPDIR": str(small_disk)}
    place = drive(demo_database, "--index", str(index))
    assert (place / "all/.omidbfs/summary.json").stat().st_size > 0
    with pytest.raises(OSError, match="No space left on device"):
        (place / "all/.omidbfs/index.csv").read_bytes()
    with pytest.raises(OSError, match="No space left on device"):
        (place / "all/.omidbfs/index.csv").stat()
    assert (place / "all/.omidbfs/summary.json").read_bytes()
    assert len(os.listdir(place / "all")) > 100


def test_a_drive_that_ends_while_a_file_is_open_leaves_nothing(drive: Drives, demo_database: Path) -> None:
    process, place = drive.foreground(demo_database)
    descriptor = os.open(place / "all/.omidbfs/index.csv", os.O_RDONLY)
    process.terminate()
    _, errors = process.communicate(timeout=120)
    with contextlib.suppress(OSError):  # the drive that it was on is gone
        os.close(descriptor)
    drive.forget(place)
    assert (process.returncode, errors) == (0, "")
    assert list((Path(os.environ["XDG_CACHE_HOME"]) / "omidbfs").glob("tmp*")) == []


def test_a_walk_over_outcomes_that_follows_links_sees_each_image_once(
    demo_drive: Path, demo_database: Path
) -> None:
    """As torchvision finds classes and samples: ``os.walk(followlinks=True)`` over sorted classes."""
    root = demo_drive / "by-outcome"
    classes = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    samples = [
        (os.path.join(folder, name), label)
        for label, found in enumerate(classes)
        for folder, _, names in sorted(os.walk(root / found, followlinks=True))
        for name in sorted(names)
        if name.endswith(".dcm")
    ]
    seen = Counter(os.path.basename(path) for path, _ in samples)
    assert seen == {path.name: 1 for path in (demo_database / "images").rglob("*.dcm")}


# Extended attributes


def getfattr(path: Path) -> dict[str, str]:
    done = subprocess.run(
        ["getfattr", "--absolute-names", "-d", path], capture_output=True, text=True, check=True, timeout=60
    )
    pairs = (line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    return {name: value.strip('"') for name, value in pairs}


@pytest.fixture(scope="module")
def xattr_drive(session_drive: Drives, demo_database: Path) -> Path:
    return session_drive(demo_database, "--xattr")


def test_the_facets_of_a_file_are_extended_attributes(xattr_drive: Path) -> None:
    facets = json.loads((xattr_drive / ".omidbfs/facets.json").read_bytes())
    table = pandas.read_csv(xattr_drive / "all/.omidbfs/index.csv", dtype=str, keep_default_na=False)
    for _, row in table[::97].iterrows():
        found = getfattr(xattr_drive / row["dcm"])
        assert set(found) == {f"user.omidb.{name}" for name in facets}
        assert found["user.omidb.file-type"] == "dcm"
        for name in ("outcome", "view", "manufacturer", "event", "mark-feature", "client", "study", "age"):
            assert found[f"user.omidb.{name}"] == (row[name.replace("-", "_")] or "unknown")
        assert os.getxattr(xattr_drive / row["json"], "user.omidb.file-type") == b"json"
    with pytest.raises(OSError, match="No data available"):
        os.getxattr(xattr_drive / table["dcm"][0], "user.omidb.colour")


def test_the_json_of_a_client_has_the_facets_of_the_client(xattr_drive: Path) -> None:
    client = sorted(os.listdir(xattr_drive / "by-client"))[0]
    found = getfattr(xattr_drive / "by-client" / client / f"nbss_{client}.json")
    assert found["user.omidb.client"] == client
    assert "user.omidb.site" in found
    assert "user.omidb.view" not in found


def test_a_cohort_says_its_number_and_definition(xattr_drive: Path) -> None:
    path = "by-outcome/malignant/by-view/MLO"
    count = len(list((xattr_drive / path).glob("*.dcm")))
    assert getfattr(xattr_drive / path) == {"user.omidb.count": str(count), "user.omidb.definition": path}
    assert getfattr(xattr_drive / "by-outcome") == {}
    assert getfattr(xattr_drive / "README.txt") == {}
    assert getfattr(xattr_drive / COHORT / "index.csv") == {}
