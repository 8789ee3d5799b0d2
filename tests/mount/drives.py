"""Starts drives with the real command, and checks that they leave nothing behind."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from omidbfs.fuse.control import unmount


def eventually(condition: Callable[[], bool], what: str, seconds: float = 120) -> None:
    """Wait until a condition holds; fail after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"still not: {what}"
        time.sleep(0.02)


def mounted_below(directory: Path) -> list[str]:
    """Return the mount points below a directory, the innermost first."""
    lines = Path("/proc/self/mountinfo").read_bytes().strip().split(b"\n")
    places = [
        os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda m: bytes([int(m[1], 8)]), line.split(b" ")[4]))
        for line in lines
    ]
    return [place for place in reversed(places) if place.startswith(f"{directory}/")]


def processes_with(variable: str) -> list[int]:
    """Return the processes with ``variable`` in their environment. Zombies have no environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            if variable.encode() in entry.read_bytes().split(b"\0"):
                found.append(int(entry.parent.name))
        except OSError:
            continue
    return found


class Drives:
    """Mounts drives by the real command. Call it with a source and options; it returns the mount point."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.marker = f"DRIVES_BELOW={directory}"
        self.environment = {
            **os.environ,
            "XDG_STATE_HOME": str(directory / "state"),
            "XDG_CONFIG_HOME": str(directory / "config"),
            "DRIVES_BELOW": str(directory),
        }
        self.program = [sys.executable, "-m", "omidbfs"]
        self.mounted: list[Path] = []
        self.logs: list[Path] = []
        self.expected: list[str] = []
        self._count = 0

    def run(self, *arguments: object, status: int | None = 0) -> "subprocess.CompletedProcess[str]":
        """Run ``omidbfs``. Check its exit status unless ``status`` is ``None``."""
        command = [*self.program, *map(str, arguments)]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            env=self.environment,
            cwd=self.directory,
            timeout=120,
            check=False,
        )
        assert status is None or done.returncode == status, done.stderr
        return done

    def directory_for_mount(self) -> Path:
        """Return a new empty directory."""
        self._count += 1
        place = self.directory / f"drive{self._count}"
        place.mkdir(mode=0o755)
        return place

    def log_file(self) -> Path:
        """Return the name of a new log, which ``close`` checks."""
        self.logs.append(self.directory / f"drive{len(self.logs)}.log")
        return self.logs[-1]

    def __call__(self, source: Path, *options: str, at: Path | None = None) -> Path:
        """Mount in the background. The drive answers when this returns."""
        place = at or self.directory_for_mount()
        done = self.run("mount", source, place, "--log-file", self.log_file(), *options)
        self.mounted.append(place)
        said = [line for line in done.stderr.splitlines() if "symbolic links that are not followed" not in line]
        assert (done.stdout, said) == ("", [])
        return place

    def foreground(self, source: Path, *options: str) -> "tuple[subprocess.Popen[str], Path]":
        """Mount in the foreground; return the process and the mount point once the drive answers."""
        place = self.directory_for_mount()
        command = [*self.program, "mount", str(source), str(place), "--foreground", *options]
        process = subprocess.Popen(command, env=self.environment, stderr=subprocess.PIPE, text=True)
        self.mounted.append(place)
        eventually(
            lambda: process.poll() is not None or str(place) in mounted_below(self.directory), "mounted in front"
        )
        assert (place / "README.txt").exists()
        return process, place

    def umount(self, place: Path) -> None:
        """Unmount, and check that drive and daemon are gone."""
        self.mounted.remove(place)
        unmount(place)  # what the command does, without starting a process
        assert str(place) not in mounted_below(self.directory)
        assert list(place.iterdir()) == []
        if not self.mounted:  # a process of a refresh may end a moment after the daemon
            eventually(lambda: self.processes() == [], "every process gone")

    def forget(self, place: Path) -> None:
        """Do not unmount this drive: the test has ended it."""
        self.mounted.remove(place)

    def processes(self) -> list[int]:
        """Return the running processes of these drives."""
        return processes_with(self.marker)

    def pid(self, place: Path) -> int:
        """Return the process that serves a drive."""
        return int(json.loads((place / ".omidbfs" / "status.json").read_text())["pid"])

    def expect_log(self, regex: str) -> None:
        """Allow matching lines of level WARNING or above in the logs."""
        self.expected.append(regex)

    def bad_log_lines(self) -> list[str]:
        """Return the unexpected lines of all logs."""
        text = "".join(log.read_text() for log in self.logs if log.exists())
        return [
            line
            for line in text.splitlines()
            if not re.search(r"\] INFO: |^$", line) and not any(re.search(e, line) for e in self.expected)
        ]

    def close(self) -> None:
        """Unmount what is mounted and check that nothing is left."""
        try:
            for place in reversed(self.mounted.copy()):
                self.umount(place)
            assert mounted_below(self.directory) == []
            eventually(lambda: self.processes() == [], "every process gone")
            assert self.bad_log_lines() == []
        finally:
            clean_up(self.directory, self.marker)


def clean_up(directory: Path, marker: str) -> None:
    """Unmount by force everything that a failed test left mounted, and end its processes."""
    for place in mounted_below(directory):
        subprocess.run(["umount" if os.geteuid() == 0 else "fusermount3", *_FORCE, place], check=False)
    for process in processes_with(marker):
        os.kill(process, signal.SIGKILL)


_FORCE = ["-l"] if os.geteuid() == 0 else ["-u", "-z"]
