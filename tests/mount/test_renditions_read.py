"""Renditions on a real drive: their bytes and sizes, failures of decoders, changes meanwhile, and what is left."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy
import pydicom
import pytest
from drives import Drives, eventually
from hostile_worker import COMMAND
from test_daemon import needs_root
from test_generated import small_disk  # noqa: F401  a fixture
from test_refresh import refresh, replaced, status
from trees import PIXELS, Quirky, Tree

WORDS = ("fine", "slow", "short", "long", "abort", "spin", "allocate", "undecodable", "taller", "other")
_HOSTILE = """
import sys
from omidbfs.pixels import apart
apart.PATIENCE = 5
apart.module_command = lambda name: {command!r}
from omidbfs.__main__ import main
main()
"""


def name_of(word: str, suffix: str = "png") -> str:
    return f"1.{WORDS.index(word)}.{suffix}"


@pytest.fixture
def tree(open_path: Path) -> Tree:
    """A database whose DICOM files each say what becomes of their renditions."""
    tree = Tree(open_path / "db")
    study = tree.client("demd1").study("1.1")
    for number, word in enumerate(WORDS):
        line = {"taller": "contradicts 108 80 1"}.get(word, f"{word} first")
        study.image(f"1.{number}", dcm=f"{line}\n".encode().ljust(100), ViewPosition="CC", **PIXELS)
    return tree


@pytest.fixture
def hostile_drive(drive: Drives) -> Drives:
    """Mounts drives whose workers do what the DICOM file says."""
    drive.program = [sys.executable, "-c", _HOSTILE.format(command=COMMAND)]
    return drive


@pytest.fixture
def source_of(tree: Tree) -> Callable[[str], Path]:
    """The DICOM file that a word stands for."""
    return lambda word: tree.images / "demd1" / "1.1" / name_of(word, "dcm")


def workers_of(process: int) -> list[int]:
    """Return the child processes of a process."""
    children = [
        int(child)
        for task in Path(f"/proc/{process}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]
    return sorted(children)


def counted(mount: Path) -> dict[str, object]:
    """Return the counters of renditions, renewed."""
    before = status(mount)["counters"]["reports"]
    os.kill(status(mount)["pid"], signal.SIGUSR2)
    eventually(lambda: status(mount)["counters"]["reports"] > before, "a report")
    renditions: dict[str, object] = status(mount)["counters"]["renditions"]
    return renditions


def checked(path: Path) -> bytes:
    """Return the bytes of a file, whose number is what every stat says."""
    stated = path.stat()
    with open(path, "rb") as file:
        assert os.fstat(file.fileno()).st_size == stated.st_size
        content = file.read()
        assert len(content) == stated.st_size
        assert os.fstat(file.fileno()).st_size == stated.st_size
    return content


def test_a_decoder_that_fails_fails_its_file_only(hostile_drive: Drives, tree: Tree) -> None:
    mount = hostile_drive(tree.root)
    process = hostile_drive.pid(mount)
    hostile_drive.expect_log("a rendition could not be made: (the decoder (crashed|takes too long)|more memory)")
    failing = ("short", "long", "abort", "spin", "allocate", "undecodable")

    def read(word: str) -> bytes | str:
        try:
            return checked(mount / "as-png/all" / name_of(word))
        except OSError as error:
            return os.strerror(error.errno)

    with ThreadPoolExecutor(16) as pool:
        asked = (*failing, "fine", "slow", *failing)
        answers = dict(zip(asked, pool.map(read, asked), strict=True))
    assert {word: answers.pop(word) for word in failing} == dict.fromkeys(failing, "Input/output error")
    assert all(isinstance(answer, bytes) for answer in answers.values())
    assert (mount / "all" / name_of("abort", "dcm")).read_bytes().startswith(b"abort")
    assert hostile_drive.pid(mount) == process
    assert counted(mount) == {
        "made": 2,
        "failed": {
            "no pixel data": 1,
            "more memory is needed than allowed": 1,
            "the decoder crashed": 1,
            "the decoder takes too long": 1,
            "the size is not the stated one": 2,
        },
    }
    log = hostile_drive.logs[0].read_text()
    assert log.count("a rendition could not be made: the decoder crashed") == 1
    assert not any(name in log for name in ("demd1", "1.1", "png", str(tree.root)))


def test_neither_a_lookup_nor_a_stat_nor_a_listing_starts_a_worker(hostile_drive: Drives, tree: Tree) -> None:
    mount = hostile_drive(tree.root)
    subprocess.run(["ls", "-lR", mount / "as-png", mount / "by-view/CC/as-npy"], check=True, capture_output=True)
    assert workers_of(hostile_drive.pid(mount)) == []
    checked(mount / "as-png/all" / name_of("fine"))
    assert len(workers_of(hostile_drive.pid(mount))) == 1


def test_a_rendition_is_made_once_for_all_who_ask_and_kept_on_every_path(
    hostile_drive: Drives, tree: Tree
) -> None:
    mount = hostile_drive(tree.root)
    paths = [mount / path / name_of("slow") for path in ("as-png/all", "by-view/CC/as-png", "as-png/by-view/CC")]
    with ThreadPoolExecutor(30) as pool:
        contents = set(pool.map(checked, paths * 10))
    assert len(contents) == 1
    assert counted(mount) == {"made": 1, "failed": {}}


def test_a_file_that_contradicts_its_sidecar_has_the_right_size(hostile_drive: Drives, tree: Tree) -> None:
    mount = hostile_drive(tree.root)
    path = mount / "as-png/all" / name_of("taller")
    other = mount / "as-png/by-view/CC" / name_of("taller")
    stated = other.stat().st_size
    assert path.stat().st_size == stated
    with open(path, "rb") as file:  # the kernel looks the name up again
        assert len(file.read()) == os.fstat(file.fileno()).st_size == stated + 4 * 81
    assert len(checked(path)) == len(checked(other)) == stated + 4 * 81
    refresh(mount)
    assert len(checked(other)) == stated + 4 * 81


def test_a_source_replaced_while_its_rendition_is_open(
    hostile_drive: Drives, tree: Tree, source_of: Callable[[str], Path]
) -> None:
    mount = hostile_drive(tree.root)
    path = mount / "as-png/all" / name_of("fine")
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        replaced(source_of("fine"), b"fine second\n".ljust(200))
        assert checked(path).startswith(b"fine second")
        assert checked(mount / "by-view/CC/as-png" / name_of("fine")).startswith(b"fine second")
        content = file.read()
        assert content.startswith(b"fine first")
        assert len(content) == size == os.fstat(file.fileno()).st_size
        refresh(mount)
        assert os.pread(file.fileno(), 1 << 20, 0) == content
    assert checked(path).startswith(b"fine second")


@pytest.mark.parametrize("is_held", [True, False])
def test_a_source_written_to_in_place(
    hostile_drive: Drives, tree: Tree, source_of: Callable[[str], Path], is_held: bool
) -> None:
    """The new bytes have size and time of the old ones: only a refresh can find out."""
    mount = hostile_drive(tree.root)
    names = ("png", "png16", "png16-400x400")  # the last one is in a file of the spool
    paths = [mount / f"as-{name}/all" / name_of("fine") for name in names]
    assert checked(paths[-1])[: 1 << 18].startswith(b"fine first")
    for word in ("third", "forth"):
        with contextlib.ExitStack() as held:
            files = [held.enter_context(open(path, "rb", 0)) for path in paths if is_held]
            seen = source_of("fine").stat()
            source_of("fine").write_bytes(f"fine {word}\n".encode().ljust(seen.st_size))
            os.utime(source_of("fine"), ns=(seen.st_atime_ns, seen.st_mtime_ns))
            refresh(mount)
            for file in files:
                for _ in range(2):
                    with pytest.raises(OSError, match="Stale file handle"):
                        file.read()
            for path in paths:
                assert checked(path).startswith(f"fine {word}".encode())
        for path in paths:
            assert checked(path).startswith(f"fine {word}".encode())


def test_a_handle_goes_on_after_changes_that_do_not_concern_its_bytes(
    hostile_drive: Drives, tree: Tree, source_of: Callable[[str], Path], tmp_path: Path
) -> None:
    mount = hostile_drive(tree.root)
    paths = [mount / f"as-{name}/all" / name_of("fine") for name in ("png", "png16-400x400")]
    contents = [checked(path) for path in paths]

    def read() -> None:
        refresh(mount)
        for file, content in zip(files, contents, strict=True):
            assert os.pread(file.fileno(), 1 << 20, 0) == content

    with contextlib.ExitStack() as held:
        files = [held.enter_context(open(path, "rb", 0)) for path in paths]
        os.link(source_of("fine"), tree.root / "linked")
        read()
        replaced(source_of("other"), b"other second\n".ljust(100))
        read()
        source_of("fine").unlink()
        read()
    assert counted(mount)["made"] == 4, "once more for the file with another link"


def test_a_definition_edited_while_mounted(hostile_drive: Drives, tree: Tree, tmp_path: Path) -> None:
    configuration = tmp_path / "omidbfs.toml"
    definition = '[renditions.mine]\nformat = "png"\nsize = {size}\n'
    configuration.write_text(definition.format(size=64))
    configuration.chmod(0o600)
    hostile_drive.program += ["--config", str(configuration)]
    mount = hostile_drive(tree.root)
    path = mount / "as-mine/all" / name_of("fine")
    before = path.stat()
    with open(path, "rb") as file:
        assert len(file.read(100)) == 100
        configuration.write_text(definition.format(size=80))
        refresh(mount)
        after = path.stat()
        assert after.st_ino != before.st_ino
        assert after.st_size > before.st_size
        assert len(checked(path)) == after.st_size
        assert os.fstat(file.fileno()).st_size == before.st_size == 100 + len(file.read())


def test_who_may_not_read_a_file_may_not_read_its_rendition(
    hostile_drive: Drives, tree: Tree, source_of: Callable[[str], Path]
) -> None:
    source_of("other").chmod(0o640)
    mount = hostile_drive(tree.root)
    for rendition in ("as-png", "as-npy"):
        suffix = rendition.removeprefix("as-")
        assert (mount / rendition / "all" / name_of("other", suffix)).stat().st_mode & 0o777 == 0o440
        assert (mount / rendition / "all" / name_of("fine", suffix)).stat().st_mode & 0o777 == 0o444


@needs_root
def test_another_user_reads_the_renditions_of_the_files_that_the_user_may_read(
    hostile_drive: Drives, tree: Tree, source_of: Callable[[str], Path], open_path: Path
) -> None:
    source_of("other").chmod(0o640)
    place = open_path / "mount"
    place.mkdir()
    mount = hostile_drive(tree.root, "--allow-other", at=place)
    script = "import os, sys; os.setgid(4002); os.setuid(4001); print(len(open(sys.argv[1], 'rb').read()))"

    def read(word: str) -> "subprocess.CompletedProcess[str]":
        path = mount / "as-png/all" / name_of(word)
        command = [sys.executable, "-I", "-S", "-c", script, str(path)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert "PermissionError" in read("other").stderr
    assert counted(mount) == {"made": 0, "failed": {}}
    assert int(read("fine").stdout) == (mount / "as-png/all" / name_of("fine")).stat().st_size
    checked(mount / "as-png/all" / name_of("other"))
    assert "PermissionError" in read("other").stderr, "also after another user had it made"
    hostile_drive.umount(mount)


@pytest.fixture
def hanging(hostile_drive: Drives, tree: Tree) -> Iterator[tuple["subprocess.Popen[str]", Path, int]]:
    """A drive in the foreground, its mount, and a worker of it that hangs while a program waits for it."""
    process, mount = hostile_drive.foreground(tree.root)

    def read() -> None:
        with contextlib.suppress(OSError):
            (mount / "as-png/all" / name_of("spin")).read_bytes()

    reader = threading.Thread(target=read)
    reader.start()
    eventually(lambda: bool(workers_of(process.pid)), "a worker")
    time.sleep(0.3)
    yield process, mount, workers_of(process.pid)[0]
    reader.join(20)
    assert not reader.is_alive()
    eventually(lambda: hostile_drive.processes() == [], "every process gone")
    assert process.communicate()[1] in (
        "",
        "omidbfs: WARNING: a rendition could not be made: the decoder takes too long\n",
    )


def test_a_drive_that_ends_while_a_worker_hangs(
    hostile_drive: Drives, hanging: "tuple[subprocess.Popen[str], Path, int]"
) -> None:
    process, mount, worker = hanging
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 0
    hostile_drive.forget(mount)
    assert not Path(f"/proc/{worker}").exists()


def test_a_drive_that_is_unmounted_while_a_worker_hangs(
    hostile_drive: Drives, hanging: "tuple[subprocess.Popen[str], Path, int]"
) -> None:
    process, mount, worker = hanging
    hostile_drive.run("umount", "--lazy", mount)
    hostile_drive.forget(mount)
    eventually(lambda: not Path(f"/proc/{worker}").exists(), "the worker gone")
    assert process.wait(120) == 0


def test_a_drive_that_is_killed_while_a_worker_hangs(
    hostile_drive: Drives, hanging: "tuple[subprocess.Popen[str], Path, int]"
) -> None:
    process, mount, worker = hanging
    process.kill()
    process.wait(120)
    eventually(lambda: not Path(f"/proc/{worker}").exists(), "the worker gone")
    hostile_drive.run("umount", mount)
    hostile_drive.forget(mount)


def test_the_spool_is_where_the_user_says_and_nothing_of_it_remains(
    hostile_drive: Drives, tree: Tree, tmp_path: Path
) -> None:
    spool = tmp_path / "spool"
    mount = hostile_drive(tree.root, "--spool", str(spool), "--spool-size", "100K")
    process = hostile_drive.pid(mount)
    sizes = ("128x500", "128x600", "128x700")
    for size in sizes:
        checked(mount / f"as-png-{size}/all" / name_of("fine"))

    def kept() -> int:
        files = [os.stat(f"/proc/{process}/fd/{one}") for one in os.listdir(f"/proc/{process}/fd")]
        unnamed = {file.st_ino: file.st_size for file in files if file.st_nlink == 0}
        return sum(unnamed.values())

    eventually(lambda: 0 < kept() <= 100 << 10, "the spool within its bounds")
    assert os.listdir(spool) == []
    assert spool.stat().st_mode & 0o777 == 0o700
    hostile_drive.umount(mount)
    assert os.listdir(spool) == []


def test_a_spool_that_cannot_be_written_to_is_refused(hostile_drive: Drives, tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    place = hostile_drive.directory_for_mount()
    done = hostile_drive.run("mount", tree.root, place, "--spool", tmp_path / "file", status=None)
    assert done.returncode == 1
    assert done.stderr.endswith("file: cannot be written to (File exists); name another directory\n")


@needs_root
def test_on_a_full_disk_what_is_kept_makes_room(
    small_disk: Path,  # noqa: F811
    hostile_drive: Drives,
    tree: Tree,
) -> None:
    mount = hostile_drive(tree.root, "--spool", str(small_disk))
    free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_bsize
    side = int((free * 0.7) ** 0.5)
    for word in ("fine", "other", "fine"):
        checked(mount / f"as-png-{side}x{side}/all" / name_of(word))
    hostile_drive.expect_log("the disk of the spool is full")
    with pytest.raises(OSError, match="No space left on device"):
        checked(mount / f"as-png16-{side}x{side}/all" / name_of("fine"))
    assert len(checked(mount / f"as-png-{side}x{side}/all" / name_of("fine"))) > free * 0.7
    assert (mount / "all" / name_of("fine", "dcm")).read_bytes().startswith(b"fine")


# Real workers


@pytest.mark.unmeasured
@pytest.mark.parametrize("name", ["demo_drive", "quirky"])
def test_every_rendition_of_every_file_has_the_size_that_it_says(
    name: str, session_drive: Drives, quirky_database: Quirky, request: pytest.FixtureRequest
) -> None:
    mount = request.getfixturevalue(name) if name == "demo_drive" else session_drive(quirky_database.path)
    paths = [
        Path(file.path)
        for rendition in ("png", "png16", "tiff", "npy", "png-100", "png16-256x192")
        for file in os.scandir(mount / f"as-{rendition}/all")
    ]
    if name == "demo_drive":
        paths = paths[:: len(paths) // 200]
    failed = []

    def read(path: Path) -> None:
        try:
            checked(path)
        except OSError as error:
            failed.append((path.name, error.errno))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(read, paths))
    assert {number for _, number in failed} <= {errno.EIO}
    assert len(failed) * 50 <= (0 if name == "demo_drive" else len(paths)), failed
    assert len(paths) > 100


def test_pillow_opens_what_the_drive_shows(demo_drive: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for place, mode in (("as-png/by-view/MLO", "L"), ("as-png16-64x64/by-laterality/R", "I;16")):
        for file in [*os.scandir(demo_drive / place)][:5]:
            with image.open(file.path) as opened:
                opened.load()
                assert opened.mode == mode


def test_numpy_maps_what_the_drive_shows(demo_drive: Path, demo_database: Path) -> None:
    for file in [*os.scandir(demo_drive / "as-npy/all")][:5]:
        array = numpy.load(file.path, mmap_mode="r")
        [source] = demo_database.glob(f"images/*/*/{Path(file.name).stem}.dcm")
        assert numpy.array_equal(array, pydicom.dcmread(source).pixel_array)
