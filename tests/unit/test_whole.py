"""Files appear whole or not at all, even if their writer is killed."""

import errno
import os
import resource
import signal
import stat
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from omidbfs.base.whole import locked, replacing

WRITE_AND_WAIT = """
import sys, time
from pathlib import Path
from omidbfs.base.whole import replacing
with replacing(Path(sys.argv[1])) as stream:
    stream.write(b"half of it")
    stream.flush()
    print("written", flush=True)
    time.sleep(600)
"""


WRITE_TWO = """
import sys, time
from pathlib import Path
from omidbfs.base.whole import replacing
from omidbfs.index.executors import executor_for
if __name__ == "__main__":
    with replacing(Path(sys.argv[1]) / "one"), replacing(Path(sys.argv[1]) / "two"):
        with executor_for("local", int(sys.argv[2])) as pool:
            pool and pool.submit(abs, -3).result()
            print("written", flush=True)
            time.sleep(600)
"""


def writing(path: Path) -> "subprocess.Popen[str]":
    """Start a process that is in the middle of writing a file."""
    process = subprocess.Popen([sys.executable, "-c", WRITE_AND_WAIT, path], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "written\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_that_ends_the_writer_leaves_what_was_there_and_nothing_else(
    tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "file").write_text("older")
    with writing(tmp_path / "file") as process:
        assert len(os.listdir(tmp_path)) == 2
        process.send_signal(number)
    assert process.returncode == -number
    assert os.listdir(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text() == "older"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_signal_removes_every_unfinished_file_and_ends_the_workers(
    tmp_path: Path, number: signal.Signals, workers: int
) -> None:
    command = [sys.executable, "-c", WRITE_TWO, str(tmp_path), str(workers)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        assert len(os.listdir(tmp_path)) == 2
        process.send_signal(number)
        _, said = process.communicate(timeout=60)  # the streams end with the last worker
    assert (process.returncode, said) == (-number if workers == 1 else 128 + number, "")
    assert os.listdir(tmp_path) == []


def test_the_next_writer_removes_the_rest_of_a_killed_one_and_no_other_file(tmp_path: Path) -> None:
    (tmp_path / ".omidbfs-notes").write_text("not ours")
    with writing(tmp_path / "one") as killed, writing(tmp_path / "two") as alive:
        killed.kill()
        killed.wait()
        left = {name: (tmp_path / name).stat() for name in os.listdir(tmp_path) if name != ".omidbfs-notes"}
        assert [stat.S_IMODE(facts.st_mode) for facts in left.values()] == [0o600, 0o600]
        with replacing(tmp_path / "three") as stream:
            stream.write(b"whole")
        assert len(os.listdir(tmp_path)) == 3
        alive.terminate()
    assert sorted(os.listdir(tmp_path)) == [".omidbfs-notes", "three"]
    assert (tmp_path / "three").read_bytes() == b"whole"


def test_a_file_appears_when_it_is_whole_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with replacing(tmp_path / "file") as stream:
            stream.write(b"all of it")
            assert not (tmp_path / "file").exists()
    finally:
        os.umask(before)
    assert (tmp_path / "file").read_bytes() == b"all of it"
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_link_stays_and_the_file_that_it_leads_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "large").mkdir()
    (tmp_path / "link").symlink_to("large/file")
    for content in (b"first", b"second"):
        with replacing(tmp_path / "link") as stream:
            stream.write(content)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "large" / "file").read_bytes() == content
    assert os.listdir(tmp_path / "large") == ["file"]


def test_a_full_disk_is_an_error_that_names_the_requested_file(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # as a full disk, but for this process alone
    try:
        with pytest.raises(OSError, match="too large") as caught, replacing(tmp_path / "file") as stream:
            stream.write(bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.filename == str(tmp_path / "file")
    assert os.listdir(tmp_path) == []


def test_an_error_of_reading_does_not_name_the_requested_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Stale") as caught, replacing(tmp_path / "file"):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
    assert caught.value.filename is None


def test_an_error_of_writing_names_the_requested_file(tmp_path: Path) -> None:
    path = tmp_path / "none" / "file"
    with pytest.raises(FileNotFoundError) as caught, replacing(path):
        pytest.fail("there is no such directory")
    assert caught.value.filename == str(path)


def test_one_process_after_the_other_changes_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"

    def add(letter: bytes) -> None:
        for _ in range(40):
            with locked(path):
                before = path.read_bytes()
                with replacing(path, syncs=False) as stream:
                    stream.write(before + letter)

    with ThreadPoolExecutor(4) as threads:  # each opens the file for itself, as a process would
        list(threads.map(add, (b"a", b"b", b"c", b"d")))
    assert Counter(path.read_bytes()) == dict.fromkeys(b"abcd", 40)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_cannot_be_locked_is_not_waited_for(tmp_path: Path) -> None:
    with locked(tmp_path), locked(tmp_path / "none" / "file"):
        assert list(tmp_path.iterdir()) == []
