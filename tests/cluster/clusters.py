"""Starts a Dask scheduler with workers on loopback, and skips tests whose programs are missing."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

Process = subprocess.Popen[bytes]


def require(what: str, is_there: bool) -> None:
    """Skip a test if something is missing. With OMIDBFS_REQUIRE_FUSE=1 fail it."""
    if is_there:
        return
    if os.environ.get("OMIDBFS_REQUIRE_FUSE") == "1":
        pytest.fail(f"{what} is missing")
    pytest.skip(f"{what} is missing")


class Cluster:
    """A Dask scheduler on loopback and its workers, in their own processes. Their logs are in ``place``."""

    def __init__(self, place: Path) -> None:
        self.place = place / "dask"
        self.place.mkdir()
        self.processes: list[Process] = []
        self.address = ""

    @property
    def scheduler(self) -> Process:
        return self.processes[0]

    @property
    def workers(self) -> list[Process]:
        return self.processes[1:]

    def start(self, workers: int) -> None:
        """Start all processes. Return when the scheduler knows its workers."""
        file = self.place / "scheduler.json"
        self._start("scheduler", "--port=0", f"--scheduler-file={file}")
        self._until(lambda: file.is_file() and file.read_text().endswith("}"))
        self.address = json.loads(file.read_text())["address"].removeprefix("tcp://")
        for _ in range(workers):
            self._start("worker", f"tcp://{self.address}", "--no-nanny", "--nthreads=1")
        self._until(lambda: self.log().count("Registered to:") == workers)

    def stop(self) -> None:
        """End every process, at once."""
        for process in self.processes:
            process.kill()
            process.wait()

    def log(self) -> str:
        """Return the logs of all processes."""
        return "\n".join(path.read_text() for path in sorted(self.place.glob("*.log")))

    def _start(self, *command: str) -> None:
        options = ("--host=127.0.0.1", "--no-dashboard")
        with (self.place / f"{len(self.processes)}.log").open("wb") as log:
            self.processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "dask", *command, *options],
                    cwd=self.place,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            )

    def _until(self, what: Callable[[], bool]) -> None:
        end = time.monotonic() + 120
        while not what():
            assert time.monotonic() < end, self.log()
            time.sleep(0.05)
