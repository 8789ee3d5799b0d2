"""A fault below a drive affects only the requests that meet it, and ends with its cause."""

import contextlib
import ctypes
import errno
import json
import mmap
import os
import random
import re
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import trio
from drives import Drives, eventually, mounted_below
from programs import needs
from test_refresh import FAILED, refresh, status
from test_tree import dirents
from trees import Tree

from omidbfs.database.layout import find_source
from omidbfs.serving import patience
from omidbfs.serving.refresh import Refresher, drive_of
from omidbfs.serving.session import Session

IMAGES = 40
SIZE = 300_000
NAMES = [f"all/1.1.{number}.dcm" for number in range(IMAGES)]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def content(number: int) -> bytes:
    """Return the bytes of an image. No other image has the same."""
    return random.Random(number).randbytes(SIZE)


def database(root: Path) -> Tree:
    """Write a client with one study of ``IMAGES`` images."""
    tree = Tree(root)
    study = tree.client().study()
    for number in range(IMAGES):
        study.image(f"1.1.{number}", dcm=content(number), ViewPosition="CC")
    return tree


class FaultyDisk:
    """A disk that fails on demand, with a database on it."""

    def __init__(self, place: Path) -> None:
        self.below, self.mountpoint, self.control = place / "below", place / "disk", place / "control"
        self.mountpoint.mkdir()
        self.works()
        database(self.below)
        self.process = self.mount()

    def mount(self) -> "subprocess.Popen[bytes]":
        """Mount it, and wait until it answers."""
        program = Path(__file__).with_name("faulty.py")
        process = subprocess.Popen([sys.executable, program, self.below, self.mountpoint, self.control])
        eventually((self.mountpoint / "images").exists, "the disk mounted")
        return process

    def fails(self, on: str, name: str, **how: object) -> None:
        """Make requests of kind ``on`` for files of this name fail with ``errno=``, take ``seconds=``, or hang."""
        self._rules({"on": on, "name": name, **how})

    def works(self) -> None:
        """Remove all faults."""
        self._rules()

    def _rules(self, *rules: dict[str, object]) -> None:
        new = self.control.with_name("new")
        new.write_text(json.dumps(rules), encoding="utf-8")
        new.replace(self.control)

    def goes_away(self) -> None:
        """Take the disk away like a broken one: open files give errors too."""
        self.process.kill()
        self.process.wait()
        command = ["umount", "-l"] if os.geteuid() == 0 else ["fusermount3", "-u", "-z"]
        subprocess.run([*command, self.mountpoint], check=True)


@pytest.fixture
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyDisk]:
    """A disk that fails on demand."""
    faulty = FaultyDisk(tmp_path_factory.mktemp("faulty"))
    yield faulty
    faulty.works()
    faulty.goes_away()


@pytest.fixture
def mount(disk: FaultyDisk, drive: Drives) -> Iterator[Path]:
    """The drive over it."""
    place = drive(disk.mountpoint)
    yield place
    disk.works()


@pytest.fixture
def reading() -> Iterator[Callable[[Path], "subprocess.Popen[bytes]"]]:
    """``reading(path)`` starts a process that reads a file. The process ends with the test."""
    started = []

    def start(path: Path) -> "subprocess.Popen[bytes]":
        started.append(subprocess.Popen(["cat", path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def fails(path: Path, *numbers: int) -> None:
    """Check that a file cannot be read, and why."""
    with pytest.raises(OSError) as raised:  # noqa: PT011
        path.read_bytes()
    assert raised.value.errno in numbers


def everything_else_works(mount: Path, *but: int) -> None:
    """Check names, attributes, size and contents of all but a few images."""
    assert len(os.listdir(mount / "all")) == 2 * IMAGES
    assert os.statvfs(mount).f_namemax == 255
    for number, name in enumerate(NAMES):
        assert (mount / name).stat().st_size == SIZE
        if number not in but:
            assert (mount / name).read_bytes() == content(number), name


def lines_of(drive: Drives, text: str) -> list[str]:
    """Return the lines of the log with this text. Check that none names a client or an image."""
    lines = [line for line in drive.logs[-1].read_text().splitlines() if text in line]
    assert not [line for line in lines if re.search(r"demd|1\.1\.\d", line)]
    return lines


def descriptors(process: int) -> int:
    """Return the number of open descriptors of a process."""
    return len(os.listdir(f"/proc/{process}/fd"))


# Errors


@pytest.mark.parametrize("on", ["open", "read"])
@pytest.mark.parametrize("number", [errno.EIO, errno.ENODATA, errno.EREMOTEIO])
def test_a_caller_gets_an_error_of_the_disk_until_it_is_gone(
    drive: Drives, disk: FaultyDisk, mount: Path, on: str, number: int
) -> None:
    drive.expect_log("a disk of the source failed: ")
    disk.fails(on, "1.1.3.dcm", errno=number)
    for _ in range(5):
        # The kernel reports every page that cannot be read as EIO.
        fails(mount / NAMES[3], *((number,) if on == "open" else (number, errno.EIO)))
    everything_else_works(mount, 3)
    assert len(lines_of(drive, "a disk of the source failed: ")) == 1
    disk.works()
    everything_else_works(mount)


def test_an_unreadable_file_is_refused_until_it_is_readable(drive: Drives, disk: FaultyDisk, mount: Path) -> None:
    disk.fails("open", "1.1.3.dcm", errno=errno.EACCES)
    fails(mount / NAMES[3], errno.EACCES)
    fails(mount / NAMES[3], errno.EACCES)
    everything_else_works(mount, 3)
    assert len(lines_of(drive, "may not be read by the drive")) == 1
    disk.works()
    everything_else_works(mount)


def test_missing_files_are_logged_once_and_work_when_they_are_back(drive: Drives, tmp_path: Path) -> None:
    study = database(tmp_path / "db").images / "demd1/1.1"
    mount = drive(tmp_path / "db")
    everything_else_works(mount)
    for number in range(5):
        (study / f"1.1.{number}.dcm").rename(study / f"away{number}")
        fails(mount / NAMES[number], errno.ESTALE)
    everything_else_works(mount, *range(5))
    assert len(lines_of(drive, "a file of the source is gone")) == 1
    for number in range(5):
        (study / f"away{number}").rename(study / f"1.1.{number}.dcm")
    everything_else_works(mount)


@as_root
def test_a_device_in_the_place_of_a_file_is_stale(drive: Drives, tmp_path: Path) -> None:
    path = database(tmp_path / "db").images / "demd1/1.1/1.1.3.dcm"
    mount = drive(tmp_path / "db")
    path.rename(path.with_name("away"))
    os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))  # /dev/zero, which would never end
    fails(mount / NAMES[3], errno.ESTALE)
    everything_else_works(mount, 3)
    path.with_name("away").replace(path)
    everything_else_works(mount)


def test_a_disk_that_went_away_and_came_back_is_used_again(drive: Drives, disk: FaultyDisk, mount: Path) -> None:
    drive.expect_log("a disk of the source failed: |" + FAILED)
    with open(mount / NAMES[1], "rb") as held:
        disk.goes_away()
        fails(mount / NAMES[3], errno.ESTALE, errno.ENOTCONN, errno.ECONNABORTED)
        assert len(os.listdir(mount / "all")) == 2 * IMAGES
        assert os.statvfs(mount).f_namemax == 255
        refresh(mount, "failed")
        disk.process = disk.mount()
        with pytest.raises(OSError, match=r"connect|Input/output|abort"):
            held.read()
    everything_else_works(mount)
    refresh(mount)
    everything_else_works(mount)


# A disk that hangs


def test_a_file_that_hangs_stops_no_other_read(
    drive: Drives, disk: FaultyDisk, mount: Path, reading: Callable[[Path], "subprocess.Popen[bytes]"]
) -> None:
    drive.expect_log("has not answered for 5 seconds")
    disk.fails("read", "1.1.3.dcm")
    readers = [reading(mount / NAMES[3]) for _ in range(6)]
    everything_else_works(mount, 3)
    assert [reader.poll() for reader in readers] == [None] * 6
    eventually(lambda: lines_of(drive, "has not answered") != [], "said so")
    disk.works()
    assert [reader.communicate()[0] for reader in readers] == [content(3)] * 6
    everything_else_works(mount)


def test_files_that_hang_on_open_stop_no_other_read(
    drive: Drives, disk: FaultyDisk, mount: Path, reading: Callable[[Path], "subprocess.Popen[bytes]"]
) -> None:
    drive.expect_log("has not answered for 5 seconds")
    disk.fails("open", "1.1.3?.dcm")
    hanging = [*range(30, 40)] * 6  # more than there are threads
    readers = [reading(mount / NAMES[number]) for number in hanging]
    everything_else_works(mount, *hanging)
    assert [reader.poll() for reader in readers] == [None] * len(readers)
    disk.works()
    for number, reader in zip(hanging, readers, strict=True):
        assert reader.communicate()[0] == content(number)
    everything_else_works(mount)


@pytest.mark.parametrize("on", ["open", "read"])
def test_a_signal_ends_a_drive_on_a_disk_that_hangs(
    drive: Drives,
    disk: FaultyDisk,
    mount: Path,
    reading: Callable[[Path], "subprocess.Popen[bytes]"],
    on: str,
) -> None:
    drive.expect_log("has not answered for 5 seconds")
    process = drive.pid(mount)
    disk.fails(on, "1.1.3.dcm")
    reader = reading(mount / NAMES[3])
    everything_else_works(mount, 3)
    os.kill(process, signal.SIGTERM)
    drive.forget(mount)
    eventually(lambda: mounted_below(drive.directory) == [], "unmounted")
    assert list(mount.iterdir()) == []
    assert reader.wait(60) != 0
    disk.works()  # the kernel cannot end a thread that hangs in open, nor its process
    eventually(lambda: not os.path.exists(f"/proc/{process}"), "the process gone")


def test_a_drive_on_a_disk_that_hangs_can_be_unmounted(
    drive: Drives, disk: FaultyDisk, mount: Path, reading: Callable[[Path], "subprocess.Popen[bytes]"]
) -> None:
    drive.expect_log("has not answered for 5 seconds")
    disk.fails("read", "1.1.3.dcm")
    reader = reading(mount / NAMES[3])
    everything_else_works(mount, 3)
    reader.kill()  # programs must stop using a drive before it can be unmounted
    reader.wait()
    drive.umount(mount)


def test_a_signal_ends_a_drive_that_is_refreshed_from_a_disk_that_hangs(
    drive: Drives, disk: FaultyDisk, mount: Path
) -> None:
    drive.expect_log("the process that renews the index does not end")
    process = drive.pid(mount)
    disk.fails("readdir", "1.1")
    os.kill(process, signal.SIGHUP)
    eventually(lambda: status(mount)["refresh"]["state"] == "refreshing", "refreshing")
    everything_else_works(mount)
    os.kill(process, signal.SIGTERM)
    drive.forget(mount)
    eventually(lambda: not os.path.exists(f"/proc/{process}"), "the process gone", 30)
    disk.works()


def test_processes_stuck_in_a_disk_are_few_and_stop_no_later_refresh(
    disk: FaultyDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expect_warning: Callable[[str], None]
) -> None:
    expect_warning("the process that renews the index does not end|" + FAILED)
    monkeypatch.setattr(patience, "_MOST_LEFT", 2)
    monkeypatch.setattr(patience, "_PATIENCE", 0.3)
    index = tmp_path / "index"
    session = Session(find_source(disk.mountpoint), index, lambda: contextlib.nullcontext(lambda *_: None))
    stored, _ = session.opened(pytest.fail)
    arguments = ["index", str(disk.mountpoint), "--index", str(index), "--json"]
    refresher = Refresher(drive_of(session, stored), session, stored, arguments)
    said: list[tuple[object, str]] = []

    def stuck() -> object:
        return refresher._state_now()["refresh"]["stuck"]  # type: ignore[index]

    async def refreshes() -> None:
        disk.fails("readdir", "1.1")
        monkeypatch.setattr(patience, "_STUCK", 1.0)
        for _ in range(3):
            await refresher.refresh()
            said.append((stuck(), refresher._error or ""))
        disk.works()
        monkeypatch.setattr(patience, "_STUCK", 60.0)
        with trio.fail_after(60):
            while stuck() or refresher._error:
                await refresher.refresh()

    trio.run(refreshes)
    assert [count for count, _ in said] == [1, 2, 2]
    assert all("a disk has not answered" in error for _, error in said[:2])
    assert "2 processes of earlier refreshes still wait" in said[2][1]


def test_a_request_before_a_drive_is_ready_does_not_end_it(drive: Drives, disk: FaultyDisk) -> None:
    disk.fails("readdir", "1.1")
    place = drive.directory_for_mount()
    command = [sys.executable, "-m", "omidbfs", "mount", disk.mountpoint, place, "--log-file", drive.log_file()]
    process = subprocess.Popen([*command, "--foreground"], env=drive.environment)
    drive.mounted.append(place)
    asking = (signal.SIGUSR1, signal.SIGUSR2)
    eventually(lambda: all(is_ignored(process.pid, number) for number in asking), "reading for the drive")
    for number in asking:
        process.send_signal(number)
    disk.works()
    eventually(lambda: str(place) in mounted_below(drive.directory), "mounted")
    everything_else_works(place)
    drive.umount(place)
    assert process.wait(30) == 0


def is_ignored(process: int, number: signal.Signals) -> bool:
    ignored = re.search(r"^SigIgn:\s*(\w+)", Path(f"/proc/{process}/status").read_text(), re.M)[1]  # type: ignore[index]
    return bool(int(ignored, 16) >> number - 1 & 1)


def test_a_caller_that_is_killed_while_it_reads_leaves_nothing(
    drive: Drives, disk: FaultyDisk, mount: Path, reading: Callable[[Path], "subprocess.Popen[bytes]"]
) -> None:
    drive.expect_log("has not answered for 5 seconds")
    process = drive.pid(mount)
    before = descriptors(process)
    disk.fails("read", "1.1.3.dcm")
    readers = [reading(mount / NAMES[3]) for _ in range(5)]
    eventually(lambda: descriptors(process) >= before + 5, "all have it open")
    for reader in readers:
        reader.kill()
        reader.wait()
    everything_else_works(mount, 3)
    disk.works()
    eventually(lambda: descriptors(process) == before, "everything closed")
    everything_else_works(mount)


# Files that are written to while they are open

_MAPPED = """
import mmap, sys
with open(sys.argv[1], "rb") as stream:
    pages = mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ)
    print(pages[:8].hex(), flush=True)
    sys.stdin.readline()
    print(pages[:8].hex(), pages[-8:].hex(), flush=True)
"""


@pytest.mark.parametrize("size", [0, 8, 4096, 8_000_001])
def test_a_mapped_file_that_is_cut_off_or_grows_gives_no_wrong_byte(
    drive: Drives, tmp_path: Path, size: int
) -> None:
    length = 8_000_000  # more than the kernel reads ahead
    old = random.Random(1).randbytes(length)
    tree = Tree(tmp_path / "db")
    tree.client().study().image("1.1.0", dcm=old)
    mount = drive(tmp_path / "db")
    command = [sys.executable, "-c", _MAPPED, mount / NAMES[0]]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        assert reader.stdout.readline().strip() == old[:8].hex()
        os.truncate(tree.images / "demd1/1.1/1.1.0.dcm", size)
        reader.stdin.write("\n")
        reader.stdin.flush()
        said = reader.stdout.read()
    assert reader.returncode == -signal.SIGBUS, "what is not there cannot be had"
    assert said == ""
    new = (tree.images / "demd1/1.1/1.1.0.dcm").read_bytes()
    assert (mount / NAMES[0]).read_bytes() == new


def test_a_handle_never_mixes_old_and_new_bytes_of_a_file(drive: Drives, tmp_path: Path) -> None:
    path = database(tmp_path / "db").images / "demd1/1.1/1.1.0.dcm"
    mount = drive(tmp_path / "db")
    descriptor = os.open(mount / NAMES[0], os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        assert os.pread(descriptor, 100, 0) == content(0)[:100]
        with open(path, "r+b") as stream:
            stream.write(content(1))
        assert os.pread(descriptor, 100, 0) == content(0)[:100], "what it has seen is so"
        with pytest.raises(OSError) as raised:  # noqa: PT011
            os.pread(descriptor, 100, SIZE // 2)
        assert raised.value.errno in (errno.ESTALE, errno.EIO)
        assert len(lines_of(drive, "was written to while it was open")) == 1
    finally:
        os.close(descriptor)
    assert (mount / NAMES[0]).read_bytes() == content(1)
    everything_else_works(mount, 0)


# Limits


@pytest.fixture
def small_drive(drive: Drives, tmp_path: Path) -> Path:
    """A drive whose process may open 200 descriptors."""
    database(tmp_path / "db")
    place = drive.directory_for_mount()
    command = ["prlimit", "--nofile=200:200", sys.executable, "-m", "omidbfs", "mount", tmp_path / "db", place]
    log = drive.log_file()
    subprocess.run([*command, "--log-file", log], env=drive.environment, check=True, timeout=120)
    drive.mounted.append(place)
    return place


def test_at_the_limit_of_descriptors_no_more_is_opened_and_all_else_goes_on(
    drive: Drives, small_drive: Path
) -> None:
    drive.expect_log("files are open, and no more can be")
    most = 200 - 64 - 32 - 6 * len(os.sched_getaffinity(0))  # S76
    with contextlib.ExitStack() as held:
        for _ in range(most):
            descriptor = os.open(small_drive / NAMES[0], os.O_RDONLY)
            held.callback(os.close, descriptor)
        for _ in range(5):
            fails(small_drive / NAMES[1], errno.EMFILE)
        assert len(os.listdir(small_drive / "all")) == 2 * IMAGES
        assert os.pread(descriptor, SIZE, 0) == content(0)
        refresh(small_drive)
        assert len(lines_of(drive, f"{most} files are open, and no more can be")) == 1
    eventually(lambda: os.close(os.open(small_drive / NAMES[1], os.O_RDONLY)) is None, "closed")
    everything_else_works(small_drive)


def test_a_drive_raises_its_limit_of_descriptors_itself(drive: Drives, tmp_path: Path) -> None:
    database(tmp_path / "db")
    process = drive.pid(drive(tmp_path / "db"))
    limits = Path(f"/proc/{process}/limits").read_text()
    soft, hard = re.search(r"^Max open files\s+(\d+)\s+(\d+)", limits, re.M).groups()  # type: ignore[union-attr]
    assert soft == hard == str(resource.getrlimit(resource.RLIMIT_NOFILE)[1])


def test_without_memory_for_threads_callers_get_an_error_and_the_drive_goes_on(
    drive: Drives, disk: FaultyDisk, mount: Path, reading: Callable[[Path], "subprocess.Popen[bytes]"]
) -> None:
    drive.expect_log("the system gives the drive no more memory or threads|has not answered for 5 seconds")
    process = drive.pid(mount)
    size = int(re.search(r"^VmSize:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text(), re.M)[1])  # type: ignore[index]
    before = resource.prlimit(process, resource.RLIMIT_AS)
    resource.prlimit(process, resource.RLIMIT_AS, (1024 * size + 64_000_000, before[1]))
    disk.fails("read", "*.dcm")
    readers = [reading(mount / name) for name in NAMES]
    eventually(lambda: lines_of(drive, "no more memory or threads") != [], "said so")
    assert len(os.listdir(mount / "all")) == 2 * IMAGES
    disk.works()
    for number, reader in enumerate(readers):
        read = reader.communicate()[0]
        assert read == content(number)[: len(read)]
        assert (reader.returncode == 0) == (len(read) == SIZE)
    assert len(lines_of(drive, "no more memory or threads")) == 1
    resource.prlimit(process, resource.RLIMIT_AS, before)
    everything_else_works(mount)


def test_a_thousand_programs_can_have_files_open_at_once(drive: Drives, tmp_path: Path) -> None:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 1500:
        pytest.skip("the system lets this process have too few files open")
    database(tmp_path / "db")
    mount = drive(tmp_path / "db")
    process = drive.pid(mount)
    before = descriptors(process)
    contents = [content(number) for number in range(IMAGES)]
    opened, counted = threading.Barrier(1001), threading.Barrier(1001)

    def hold(turn: int) -> None:
        number = turn % IMAGES
        with open(mount / NAMES[number], "rb") as stream:
            opened.wait(60)
            counted.wait(60)
            assert stream.read() == contents[number]

    with ThreadPoolExecutor(1000) as openers:
        done = openers.map(hold, range(1000))
        opened.wait(60)
        assert descriptors(process) == before + 1000
        counted.wait(60)
        list(done)
    eventually(lambda: descriptors(process) == before, "everything closed")


@as_root
def test_a_full_disk_under_the_index_fails_the_refresh_and_nothing_else(drive: Drives, tmp_path: Path) -> None:
    drive.expect_log(FAILED)
    tree = database(tmp_path / "db")
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], check=True)
    try:
        mount = drive(tree.root, "--index", str(place / "index"))
        with pytest.raises(OSError, match="No space"):
            (place / "other").write_bytes(bytes(2_000_000))
        study = tree.images / "demd1/1.1"
        (study / "1.1.999.dcm").write_bytes(b"new")
        refresh(mount, "failed")
        assert "the index cannot be kept there (No space left on device)" in status(mount)["refresh"]["error"]
        assert sorted(os.listdir(place)) == ["index", "other"]
        everything_else_works(mount)
        (place / "other").unlink()
        refresh(mount)
        assert (mount / "all/1.1.999.dcm").read_bytes() == b"new"
        drive.umount(mount)
    finally:
        subprocess.run(["umount", "-l", place], check=True)  # a process may be ending


# Requests for inodes that the kernel has forgotten


@pytest.mark.alone
@as_root
def test_a_storm_of_forgetting_is_survived(drive: Drives, tmp_path: Path) -> None:
    database(tmp_path / "db")
    mount = drive(tmp_path / "db")
    stop = threading.Event()

    def walk() -> None:
        while not stop.is_set():
            for view in ("by-view/CC/by-laterality/unknown", "by-client/demd1/1.1", "by-file-type/dcm/by-view/CC"):
                assert len(os.listdir(mount / view)) >= IMAGES
                assert (mount / view / "1.1.7.dcm").read_bytes() == content(7)

    with ThreadPoolExecutor(3) as walkers:
        walking = [walkers.submit(walk) for _ in range(3)]
        for _ in range(10):
            Path("/proc/sys/vm/drop_caches").write_text("2\n", encoding="ascii")
        stop.set()
        for walker in walking:
            walker.result()
    everything_else_works(mount)


def test_cursors_from_before_a_refresh_end_a_listing_and_nothing_else(drive: Drives, tmp_path: Path) -> None:
    tree = database(tmp_path / "db")
    mount = drive(tmp_path / "db")
    descriptor = os.open(mount / "all", os.O_RDONLY)
    cursors = [cursor for _, _, cursor in dirents(descriptor, 100_000)]
    os.close(descriptor)
    assert len(cursors) == 2 * IMAGES + 2
    for number in range(5, IMAGES):
        (tree.images / f"demd1/1.1/1.1.{number}.dcm").unlink()
        (tree.data / f"demd1/1.1/1.1.{number}.json").unlink()
    refresh(mount)
    descriptor = os.open(mount / "all", os.O_RDONLY)
    try:
        for cursor in (*cursors, 2**31, 2**62):
            os.lseek(descriptor, cursor, os.SEEK_SET)
            names = [name for name, _, _ in dirents(descriptor, 100_000)]
            assert len(names) == max(0, 12 - cursor)
        os.lseek(descriptor, 0, os.SEEK_SET)
        assert len(dirents(descriptor, 100_000)) == 12
    finally:
        os.close(descriptor)


class _Handle(ctypes.Structure):
    _fields_ = (("size", ctypes.c_uint), ("type", ctypes.c_int), ("bytes", ctypes.c_ubyte * 128))


_libc = ctypes.CDLL(None, use_errno=True)


def handle_of(path: Path) -> _Handle:
    """Return the handle that an NFS server would give its client for a path."""
    handle, number = _Handle(size=128), ctypes.c_int()
    if _libc.name_to_handle_at(-100, os.fsencode(path), ctypes.byref(handle), ctypes.byref(number), 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return handle


def open_by(handle: _Handle, mount: int, flags: int = os.O_RDONLY) -> int:
    """Return a descriptor of the file or directory of a handle."""
    descriptor: int = _libc.open_by_handle_at(mount, ctypes.byref(handle), flags)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return descriptor


@pytest.mark.alone
@as_root
def test_files_are_found_by_handles_that_the_kernel_has_forgotten_and_directories_are_stale(
    drive: Drives, tmp_path: Path
) -> None:
    database(tmp_path / "db")
    mount = drive(tmp_path / "db")
    file, directory = handle_of(mount / NAMES[7]), handle_of(mount / "by-view/CC")
    root = os.open(mount, os.O_RDONLY)
    try:
        for _ in range(2):
            Path("/proc/sys/vm/drop_caches").write_text("2\n", encoding="ascii")
            with open(open_by(file, root), "rb") as stream:
                assert stream.read() == content(7)
        with contextlib.suppress(OSError):  # a process may still use it
            os.close(open_by(directory, root))
        for number in range(50):  # unknown inodes
            handle = _Handle.from_buffer_copy(file)
            handle.bytes[number % 8] ^= 1 + number
            with pytest.raises(OSError, match=r"[Ss]tale"):
                open_by(handle, root)
        everything_else_works(mount)
    finally:
        os.close(root)


# Times


def test_times_from_any_age_are_shown_and_compared(drive: Drives, tmp_path: Path) -> None:
    study = database(tmp_path / "db").images / "demd1/1.1"
    times = {0: -(10**18), 1: 0, 2: 1, 3: 10**19 // 4, 4: -1}
    for number, time in times.items():
        os.utime(study / f"1.1.{number}.dcm", ns=(time, time))
    mount = drive(tmp_path / "db")
    for number in times:
        facts = (study / f"1.1.{number}.dcm").stat()
        assert (mount / NAMES[number]).stat().st_mtime_ns == facts.st_mtime_ns
    everything_else_works(mount)
    for number, time in times.items():  # a server's clock that was put back
        (study / f"1.1.{number}.dcm").write_bytes(content(number)[::-1])
        os.utime(study / f"1.1.{number}.dcm", ns=(time - 10**9, time - 10**9))
        assert (mount / NAMES[number]).read_bytes() == content(number)[::-1]
    refresh(mount)
    everything_else_works(mount, *times)
    assert mmap.PAGESIZE <= SIZE, "what was read was more than a page"


@needs("faketime")
def test_a_clock_that_jumps_changes_nothing(drive: Drives, tmp_path: Path) -> None:
    tree, jumps = database(tmp_path / "db"), tmp_path / "clock"
    jumps.write_text("+0s")
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
    as_it_is = drive.environment
    drive.environment = as_it_is | {"LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(jumps)}
    drive.environment |= {"FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1"}
    drive.environment.pop("COVERAGE_PROCESS_START", None)  # coverage would ask for the time without end
    mount = drive(tree.root)
    drive.environment = as_it_is  # for other commands: only the drive's clock jumps
    years = set()
    for number, jump in enumerate(("+20y", "-20y", "-1d"), 1):
        jumps.write_text(jump)
        tree.client(f"demd{number + 1}").study(f"2.{number}").image(f"2.{number}.1", dcm=b"new")
        everything_else_works_with(mount, number - 1)
        refresh(mount)
        assert (mount / f"all/2.{number}.1.dcm").read_bytes() == b"new"
        everything_else_works_with(mount, number)
        years.add(status(mount)["refresh"]["since"][:4])
    assert len(years) > 1, "the clock of the drive has jumped"


def everything_else_works_with(mount: Path, more: int) -> None:
    """Check all images after the arrival of some with two files each."""
    assert len(os.listdir(mount / "all")) == 2 * (IMAGES + more)
    for number, name in enumerate(NAMES):
        assert (mount / name).read_bytes() == content(number), name
