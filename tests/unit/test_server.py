"""A signal goes to the process that serves a drive, or to none, whatever the drive says."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from omidbfs.fuse.mounts import Mount
from omidbfs.fuse.server import send, serves
from omidbfs.fuse.status import understood

CHILD = """
import os, signal, sys, time
if "named" in sys.argv:
    open("/proc/self/comm", "w").write("x\\rUid:\\t7 7 7")
if "fuse" in sys.argv:
    os.open("/dev/fuse", os.O_RDWR)
if "catches" in sys.argv:
    signal.signal(signal.SIGHUP, lambda *_: print("caught", flush=True))
print("ready", flush=True)
time.sleep(60)
"""

pytestmark = pytest.mark.skipif(
    not os.access("/dev/fuse", os.R_OK | os.W_OK) and os.environ.get("OMIDBFS_REQUIRE_FUSE") != "1",
    reason="no FUSE here",
)

OURS = Mount("/m", "fuse.omidbfs", "", "0:99999", (os.getuid(), os.getgid()))


@pytest.fixture
def start() -> Iterator["Start"]:
    """Start processes, and end them."""
    started = Start()
    yield started
    for process in started.processes:
        process.kill()
        process.communicate()


class Start:
    """``start("fuse", "catches")`` returns a process that has a FUSE device open, and a handler of SIGHUP."""

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen[str]] = []

    def __call__(self, *how: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen([sys.executable, "-c", CHILD, *how], stdout=subprocess.PIPE, text=True)
        self.processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process


def test_the_process_that_serves_a_mount_gets_the_signal(start: Start) -> None:
    process = start("fuse", "catches")
    assert serves(process.pid, OURS)
    assert send(signal.SIGHUP, process.pid, OURS)
    assert process.stdout is not None
    assert process.stdout.readline() == "caught\n"


@pytest.mark.parametrize(
    ("how", "owner"),
    [
        (("catches",), OURS.owner),  # it serves nothing
        (("fuse",), OURS.owner),  # the signal would end it
        (("fuse", "catches"), (54321, 54321)),  # another user has mounted
        (("fuse", "catches", "named"), (7, 7)),  # its name pretends so
        (("fuse", "catches"), None),  # the kernel does not tell the user of the mount
    ],
)
def test_another_process_gets_none(start: Start, how: tuple[str, ...], owner: tuple[int, int] | None) -> None:
    process = start(*how)
    assert not send(signal.SIGHUP, process.pid, Mount("/m", "fuse.omidbfs", "", "0:99999", owner))
    assert process.poll() is None


SAID = {
    **{"pid": 7, "started": "", "version": "", "clients": 1, "studies": 1, "images": 1, "index": ""},
    **{"index_written": 1.5, "images_directory": "/a", "data_directory": None},
    "refresh": {"state": "idle", "since": "", "done": 0, "error": None},
}


def test_unknown_fields_of_the_status_are_ignored() -> None:
    status = understood(json.dumps({**SAID, "more": [1]}).encode())
    assert status is not None
    assert (status.pid, status.data_directory, status.counters) == (7, None, None)


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "null", '{"pid": 1}', json.dumps({**SAID, "refresh": None})),
        *(json.dumps({**SAID, "pid": pid}) for pid in (0, -1, 1.5, "1", True, 1 << 70)),
    ],
)
def test_a_malformed_status_is_not_understood(text: str) -> None:
    assert understood(text.encode()) is None


def test_a_process_that_is_no_more_gets_none(start: Start) -> None:
    process = start("fuse", "catches")
    process.kill()
    process.wait()
    assert not send(signal.SIGHUP, process.pid, OURS)
    assert not send(signal.SIGHUP, 1 << 22, OURS)
    assert not Path(f"/proc/{1 << 22}").exists()
