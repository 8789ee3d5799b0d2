"""Files appear whole or not at all, even if their writer is killed."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from omidbfs.base.whole import replacing

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


def test_an_error_of_writing_names_the_requested_file(tmp_path: Path) -> None:
    path = tmp_path / "none" / "file"
    with pytest.raises(FileNotFoundError) as caught, replacing(path):
        pytest.fail("there is no such directory")
    assert caught.value.filename == str(path)
