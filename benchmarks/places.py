"""The directories that the benchmarks compare, some of them served by a daemon, and the caches of the kernel."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

_SCHEDULER = 2
"""CPUCLOCK_SCHED of Linux: the processor time of a process (clock_getcpuclockid(3))."""


@dataclass(frozen=True, slots=True)
class Place:
    """A flat directory of files. ``daemon`` is the process that serves it, ``None`` for the disk itself."""

    title: str
    directory: Path
    daemon: int | None = None

    def processor_seconds(self) -> float:
        """Return the processor time that the daemon has used, also in threads that have ended."""
        return time.clock_gettime(~self.daemon << 3 | _SCHEDULER) if self.daemon else 0.0


@contextmanager
def mounted(title: str, command: list[str], mountpoint: Path, below: str = "") -> Iterator[Place]:
    """Run ``command``, which mounts at ``mountpoint`` and stays in the foreground, and end it afterwards."""
    mountpoint.mkdir()
    # In its own session: Ctrl-C must end only the benchmark, which then unmounts.
    daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        while not os.path.ismount(mountpoint):
            if daemon.poll() is not None:
                raise click.ClickException(f"{title}: ended with status {daemon.returncode} before it was mounted")
            time.sleep(0.02)
        place = Place(title, mountpoint / below, daemon.pid)
        os.listdir(place.directory)  # the daemon has answered
        yield place
    finally:
        if subprocess.run(["umount", mountpoint], capture_output=True, check=False).returncode != 0:
            subprocess.run(["umount", "-l", mountpoint], capture_output=True, check=False)
        try:
            daemon.wait(10)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()


def settle(places: list[Place]) -> None:
    """Wait until all daemons are idle. They may still handle requests to forget inodes."""
    while True:
        before = sum(place.processor_seconds() for place in places)
        time.sleep(0.03)
        if sum(place.processor_seconds() for place in places) - before < 0.001:
            return


def forget_names() -> None:
    """Make the kernel forget all names and attributes that are not in use."""
    Path("/proc/sys/vm/drop_caches").write_text("2\n", encoding="ascii")


def forget_everything() -> None:
    """Make the kernel forget all names, attributes and contents that are not in use, also those of the disk."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3\n", encoding="ascii")


def forget_contents(place: Place, names: list[str], disk: Path) -> None:
    """Make the kernel drop the pages of these files under this place, and cache those of the disk."""
    for name in names:
        (disk / name).read_bytes()
        if place.daemon is None:
            continue
        descriptor = os.open(place.directory / name, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
