"""Foreign file systems that pretend to be drives do no harm. Commands at most print what they say."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from drives import Drives, eventually, mounted_below
from trees import Tree

from omidbfs.base.names import printable

FAKE = """
import errno, os, stat, sys, pyfuse3, trio

place, text, hangs = sys.argv[1], sys.argv[2].encode(), len(sys.argv) > 3

class Fake(pyfuse3.Operations):
    def facts(self, inode):
        entry = pyfuse3.EntryAttributes()
        entry.st_ino, entry.st_size, entry.st_nlink = inode, len(text), 1
        entry.st_mode = stat.S_IFDIR | 0o555 if inode < 3 else stat.S_IFREG | 0o444
        return entry
    async def getattr(self, inode, ctx=None):
        return self.facts(inode)
    async def lookup(self, parent, name, ctx=None):
        if name not in (b".omidbfs", b"status.json"):
            raise pyfuse3.FUSEError(errno.ENOENT)
        return self.facts(2 if name == b".omidbfs" else 3)
    async def open(self, inode, flags, ctx):
        return pyfuse3.FileInfo(fh=inode)
    async def read(self, handle, offset, size):
        if hangs:
            await trio.sleep_forever()
        return text[offset:offset + size]
    async def statfs(self, ctx):
        return pyfuse3.StatvfsData()

pyfuse3.init(Fake(), place, {"subtype=omidbfs", "fsname=x"})
trio.run(pyfuse3.main)
"""

VICTIM = """
import signal, time
for number in (signal.SIGHUP, signal.SIGUSR2):
    signal.signal(number, lambda number, frame: print("got", number, flush=True))
print("ready", flush=True)
time.sleep(60)
"""

Fake = Callable[..., Path]


@pytest.fixture
def fake(drive: Drives) -> Iterator[Fake]:
    """``fake(text)`` mounts a false drive with ``text`` as ``status.json``."""
    started: list[subprocess.Popen[bytes]] = []

    def mount(text: str, *how: str) -> Path:
        place = drive.directory_for_mount().rename(drive.directory / f"fake{len(started)}\r\x1b[31m")
        started.append(subprocess.Popen([sys.executable, "-c", FAKE, place, text, *how]))
        eventually(lambda: str(place) in mounted_below(drive.directory), "the fake mounted")
        return place

    yield mount
    for process in started:
        process.kill()
        process.wait()
    for place in mounted_below(drive.directory):
        subprocess.run(["umount", "-l", place] if os.geteuid() == 0 else ["fusermount3", "-uz", place], check=True)


def claims(process: int) -> str:
    """The status of a drive with the process ``process``, and with control characters in it."""
    refresh = {"state": "idle", "since": "x", "done": 0, "error": "\x1b]0;owned\x07"}
    numbers = dict.fromkeys(("clients", "studies", "images", "index_written"), 1)
    counted = ("reports", "bytes_read", "entries_listed", "open_files", "open_directories")
    texts = dict.fromkeys(("started", "version", "index", "images_directory", "data_directory"), "\x1b[31m")
    counters = {"requests": {"\x9b": 1}, **dict.fromkeys(counted, 1)}
    return json.dumps({"pid": process, "refresh": refresh, "counters": counters, **numbers, **texts})


def test_no_process_gets_a_signal_because_a_foreign_file_system_names_it(drive: Drives, fake: Fake) -> None:
    with subprocess.Popen([sys.executable, "-c", VICTIM], stdout=subprocess.PIPE, text=True) as victim:
        assert victim.stdout is not None
        assert victim.stdout.readline() == "ready\n"
        place = fake(claims(victim.pid))
        shown = drive.run("status", place).stdout
        assert shown.startswith(f"{printable(str(place))}: mounted\n")
        assert f"process   {victim.pid}" in shown
        assert all(character.isprintable() for line in shown.splitlines() for character in line)
        assert r"\x1b]0;owned\x07" in shown
        said = drive.run("refresh", place, status=1).stderr
        assert said == f"omidbfs: {printable(str(place))}: the drive's process is not on this machine\n"
        victim.send_signal(signal.SIGTERM)
        assert victim.stdout.read() == ""


def test_a_status_that_is_not_understood_hides_no_other_drive(drive: Drives, fake: Fake, demo_drive: Path) -> None:
    place = fake('{"pid": 1}')
    lines = drive.run("status", status=None).stdout.splitlines()
    assert f"{printable(str(place))}: mounted; what it says of itself is not understood" in lines
    assert f"{demo_drive}: mounted" in lines
    said = drive.run("refresh", place, status=1).stderr
    assert said.startswith(f"omidbfs: {printable(str(place))}: what the drive says of itself is not understood")


def test_a_foreign_file_system_that_hangs_hides_no_other_drive(
    drive: Drives, fake: Fake, demo_drive: Path
) -> None:
    place = fake(claims(1), "hangs")
    lines = drive.run("status", status=1).stdout.splitlines()
    assert f"{printable(str(place))}: does not answer" in lines
    assert f"{demo_drive}: mounted" in lines


def test_a_drive_takes_nothing_from_where_it_is_started(drive: Drives, tmp_path: Path) -> None:
    tree = Tree(tmp_path / "db")
    tree.client().study().image("1.1")
    start, place = tmp_path / "start", drive.directory_for_mount()
    start.mkdir()
    for name in ("click", "csv", "multiprocessing", "omidbfs"):
        (start / f"{name}.py").write_text("raise SystemExit('imported from the current directory')")
    (start / "omidbfs.toml").write_text('[index]\ndata = "/none"\nrebuild = true\n')
    options = ["--log-file", drive.log_file(), "--workers", "2"]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "omidbfs", "mount", *options, tree.root, place],
        cwd=start,
        env={**drive.environment, "OMIDBFS_INDEX_FOLLOW_SYMLINKS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    drive.mounted.append(place)
    index = Path(json.loads((place / ".omidbfs/status.json").read_text())["index"])
    before = index.stat()
    drive.run("refresh", place)
    assert index.stat() == before, "an index that is up to date is not built anew"
    drive.umount(place)
