"""Our processes import nothing from the current directory, and have standard streams."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from omidbfs.base.process import code_command, exit_status_of, life, module_command

PLANTED = "raise SystemExit('the current directory was imported from')"

WORK = """
import os
from omidbfs.index.executors import executor_for

if __name__ == "__main__":
    with executor_for("local", 2) as pool:
        print(pool.submit(abs, -3).result(), os.environ["PYTHONSAFEPATH"])
    print(os.environ.get("PYTHONSAFEPATH"))
"""


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with files that have the names of modules."""
    place = tmp_path / "planted"
    place.mkdir()
    for name in ("click", "csv", "json", "multiprocessing", "os", "omidbfs"):
        (place / f"{name}.py").write_text(PLANTED)
    monkeypatch.chdir(place)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    return place


@pytest.mark.parametrize(
    "command",
    [
        [*module_command("omidbfs"), "--version"],
        [*module_command("omidbfs.cli.renew"), "--version"],
        code_command("import json; print('omidbfs')"),
    ],
)
def test_what_we_start_imports_nothing_from_the_current_directory(planted: Path, command: list[str]) -> None:
    done = renewed(command) if "omidbfs.cli.renew" in command else said_by(command)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("omidbfs")


def said_by(command: list[str], **options: Any) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, **options)


def renewed(command: list[str], **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run a command as a drive runs it."""
    with life() as its_life:
        return said_by([*command, str(its_life)], pass_fds=(its_life,), **options)


def test_workers_import_nothing_from_the_current_directory(planted: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(WORK)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr) == ("3 1\nNone\n", "")


STARTING = """
from omidbfs.base.process import code_command, exit_status_of
code = "import os, sys, time; print(os.getpid(), os.getpgrp(), file=sys.stderr, flush=True); time.sleep(600)"
exit_status_of(code_command(code))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_process_that_we_wait_for_ends_with_us(number: signal.Signals) -> None:
    command = [sys.executable, "-c", STARTING]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stderr is not None
        child, group = map(int, process.stderr.readline().split())
        assert group == process.pid, "a terminal may stop another group that writes to it"
        os.kill(child, signal.SIGINT)  # Ctrl-C reaches it, and is not for it
        time.sleep(0.2)
        os.kill(child, 0)
        process.send_signal(number)
        process.communicate(timeout=60)  # its standard error ends with both
    assert process.returncode == (-number if number == signal.SIGINT else 128 + number)
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


RENEWING = """
import fcntl, os, runpy, sys, time
import omidbfs.cli.main
def reading(**_):
    fcntl.flock(1, fcntl.LOCK_EX)
    os.write(1, b"reads")
    time.sleep(20)
    os.write(1, b" on")
omidbfs.cli.main.main = reading
runpy.run_module("omidbfs.cli.renew", run_name="__main__")
"""

DRIVES = {
    "that starts": "exit_status_of(command)",
    "that refreshes": "import trio; from omidbfs.serving import patience; "
    "trio.run(patience.Patience().run, command)",
}


@pytest.mark.parametrize("how", DRIVES)
def test_a_process_that_reads_for_a_drive_ends_with_it_even_if_that_is_killed(how: str, tmp_path: Path) -> None:
    said = tmp_path / "said"
    command = ["sh", "-c", 'exec > "$0" "$@"', str(said), sys.executable, "-c", RENEWING]
    script = f"from omidbfs.base.process import exit_status_of; command = {command!r}; {DRIVES[how]}"
    with subprocess.Popen([sys.executable, "-c", script]) as process:
        while not (said.exists() and said.read_text()):
            assert process.poll() is None
            time.sleep(0.05)
        process.kill()
    with said.open() as file:
        for _ in range(600):
            with suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # which the process has until its end
                break
            time.sleep(0.1)
        else:
            pytest.fail("the process goes on")
        assert file.read() == "reads"


def test_the_status_of_a_process_is_returned() -> None:
    assert [exit_status_of(code_command(f"raise SystemExit({status})")) for status in (0, 3)] == [0, 3]


# Standard streams ------------------------------------------------------------------------------------------


def ended(closed: str, *arguments: object) -> tuple[int, str, str]:
    """Run ``omidbfs`` from a shell that closes streams. Return its status, and its output on the others."""
    command = [sys.executable, "-m", "omidbfs", *map(str, arguments)]
    shell = ["sh", "-c", f'exec "$@" {closed}', "sh", *command]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(shell, capture_output=True, text=True, env=environment, check=False, timeout=60)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_file_is_written_whole_although_streams_are_closed(
    demo_database: Path, tmp_path: Path, closed: str
) -> None:
    output = tmp_path / "paths.txt"
    status, _, said = ended(closed, "export", demo_database, "by-view/CC", "-o", output)
    assert status == 0
    assert ("image" in said) == ("2>" not in closed)
    lines = output.read_text().splitlines()
    assert lines
    assert all(line.endswith((".dcm", ".json")) for line in lines)


def test_an_answer_that_cannot_be_written_is_an_error(demo_database: Path) -> None:
    lost = "omidbfs: standard output: Bad file descriptor\n"
    assert ended(">&-", "count", demo_database, "all") == (1, "", lost)
    assert ended(">&-", "--help") == (1, "", lost)
    assert ended(">&-", "count", "--help") == (1, "", lost)
    full = "omidbfs: standard output: No space left on device\n"
    assert ended(">/dev/full", "count", demo_database, "all") == (1, "", full)


def test_an_answer_does_not_depend_on_standard_error(demo_database: Path) -> None:
    status, answer, _ = ended("2>&-", "count", demo_database, "all")
    assert (status, answer.strip().isdecimal()) == (0, True)


# The current directory -------------------------------------------------------------------------------------


def test_a_deleted_current_directory_is_reported(demo_database: Path, tmp_path: Path) -> None:
    script = 'mkdir gone && cd gone && rmdir ../gone && exec "$@"'
    (tmp_path / "db/images").mkdir(parents=True)
    # Coverage cannot start in a directory that does not exist, and would say so itself.
    unmeasured = {name: value for name, value in os.environ.items() if name != "COVERAGE_PROCESS_START"}
    for source, status in (("../db", 1), (demo_database, 0)):
        command = ["sh", "-c", script, "sh", sys.executable, "-P", "-m", "omidbfs", "count", source, "all"]
        done = subprocess.run(command, cwd=tmp_path, env=unmeasured, capture_output=True, text=True, check=False)
        assert done.returncode == status
        if status:
            assert done.stderr == (
                "omidbfs: the current directory does not exist any more; change to another one, as with cd /\n"
            )


# The process that brings the index of a drive up to date ---------------------------------------------------


def test_the_index_of_a_drive_takes_nothing_that_is_meant_for_the_command(
    demo_database: Path, tmp_path: Path
) -> None:
    configuration = tmp_path / "omidbfs.toml"
    configuration.write_text("[index]\nrebuild = true\nfollow-symlinks = true\n")
    environment = {**os.environ, "OMIDBFS_INDEX_REBUILD": "1", "OMIDBFS_INDEX_DATA": "/none"}
    arguments = [
        "--config",
        str(configuration),
        "index",
        str(demo_database),
        f"--index={tmp_path / 'i'}",
        "--json",
    ]
    for changed in ("true", "false"):
        done = renewed([*module_command("omidbfs.cli.renew"), *arguments], env=environment)
        assert (done.returncode, done.stderr) == (0, "")
        assert f'"changed": {changed}' in done.stdout
