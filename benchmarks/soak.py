"""Keeps a drive busy for minutes and checks that its process does not grow. ``scripts/soak`` runs this program."""

import argparse
import os
import random
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass, fields
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "mount")]
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))

from drives import Drives, clean_up, eventually  # noqa: E402
from figures import Figures, save, show_markdown  # noqa: E402
from test_refresh import refresh, status  # noqa: E402
from test_stress import Crew, Readers, Writer  # noqa: E402

WARM_UP = 0.125
"""The share of the time for the warm-up. The process may keep what it holds after that."""
DROP_CACHES = Path("/proc/sys/vm/drop_caches")
_IDLE = 12
"""Seconds after which idle threads have ended."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What the process of the drive holds. Memory is in MB, without the mapped index."""

    private: float
    resident: float
    descriptors: int
    threads: int
    directories: int


MEMORY = Sample(private=8, resident=16, descriptors=0, threads=0, directories=0)
"""How much memory at the end may exceed the most in the warm-up."""
COUNTS = Sample(private=0, resident=0, descriptors=0, threads=4, directories=8)
"""How much the other numbers may exceed those at the start. In both cases no program uses the drive."""


def sample(process: int, log: Path) -> Sample:
    """Return what the process of a drive holds now. The directories are those at its last refresh."""
    smaps = Path(f"/proc/{process}/smaps_rollup").read_text()
    sizes = {name: int(size) / 1024 for name, size in re.findall(r"^(\w+): +(\d+) kB", smaps, re.M)}
    known = re.findall(r"knows (\d+) director", log.read_text())
    return Sample(
        private=sizes["Private_Dirty"],
        resident=sizes["Rss"],
        descriptors=len(os.listdir(f"/proc/{process}/fd")),
        threads=len(os.listdir(f"/proc/{process}/task")),
        directories=int(known[-1]) if known else 0,
    )


class Faults:
    """Short faults of a source."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.chance = random.Random(2)

    def __call__(self) -> None:
        """Make one fault, and undo it."""
        fault: Callable[[], None] = self.chance.choice((self.file, self.file, self.file, self.tree))
        fault()

    def file(self) -> None:
        """Remove a file, or put something else in its place, for a moment."""
        files = sorted(self.writer.tree.images.glob("*/*/*.dcm"))
        if not files:
            return
        path = self.chance.choice(files)
        aside = self.writer.staging / "aside"
        path.rename(aside)
        wrong = self.chance.choice(("nothing", "directory", "fifo", "link"))
        if wrong == "directory":
            path.mkdir()
        elif wrong == "fifo":
            os.mkfifo(path)
        elif wrong == "link":
            path.symlink_to("/etc/hostname")
        time.sleep(0.05)
        if wrong == "directory":
            path.rmdir()
        aside.replace(path)

    def tree(self) -> None:
        """Take the tree away for a moment, as if its disk were unmounted."""
        away = self.writer.staging / "images"
        self.writer.tree.images.rename(away)
        time.sleep(0.2)
        away.rename(self.writer.tree.images)


def at_rest(mount: Path) -> None:
    """Make the kernel forget unused inodes. Refresh the drive, which then logs its number of directories."""
    if os.access(DROP_CACHES, os.W_OK):
        DROP_CACHES.write_text("2")
    os.utime(next((mount.parent / "db" / "data").glob("*/*.json")))  # so that the refresh finds a change
    refresh(mount)
    time.sleep(_IDLE)


def soak(directory: Path, minutes: float, keeps: bool) -> bool:
    """Run the test and print the results. Return whether all checks passed."""
    drives = Drives(directory)
    writer = Writer(directory / "db")
    mount = drives(directory / "db")
    drives.expect_log("the refresh failed and the drive goes on as it was")  # the source was away during a fault
    process, log = drives.pid(mount), drives.logs[0]
    readers, crew, faults = Readers(mount), Crew(), Faults(writer)

    def change() -> None:
        (faults if writer.chance.random() < 0.05 else writer.step)()
        crew.end.wait(0.01)

    def ask() -> None:
        before = status(mount)["refresh"]["done"]
        os.kill(process, signal.SIGHUP)
        eventually(lambda: status(mount)["refresh"]["done"] > before, "refreshed", 120)

    def forget() -> None:
        if os.access(DROP_CACHES, os.W_OK):
            DROP_CACHES.write_text("2")
        crew.end.wait(5)

    samples: list[tuple[float, Sample]] = []
    started = time.monotonic()

    def watch() -> None:
        samples.append((time.monotonic() - started, sample(process, log)))
        crew.end.wait(1)

    at_rest(mount)
    start = sample(process, log)
    for name, action in (("changes", change), ("refreshes", ask), ("forgets", forget), ("samples", watch)):
        crew.do(name, action)
    for name, action in (("walks", readers.walk), ("look-ups", readers.look_up), ("holds", readers.hold)):
        for number in range(2):
            chance = random.Random(f"{name} {number}")
            crew.do(f"{name} {number}", lambda action=action, chance=chance: action(chance))
    ticker = threading.Thread(target=progress, args=(crew, minutes * 60), daemon=True)
    ticker.start()
    crew.watch(minutes * 60)
    ticker.join()
    at_rest(mount)
    end = sample(process, log)
    warm = [found for seconds, found in samples if seconds <= minutes * 60 * WARM_UP] or [start]
    rows, failed = report(start, [found for _, found in samples], warm, end)
    error = status(mount)["refresh"]["error"]
    drives.close()  # fails if another warning was logged, or something is still mounted or running
    turns = ", ".join(f"{count} {name}" for name, count in crew.turns.items())
    title = f"{minutes:g} minutes: {turns}; {readers.reads:,} files read whole, each byte compared"
    figures = Figures(
        title, ("", "at the start", "most in the warm-up", "most of all", "at the end", "may be"), rows
    )
    show_markdown(figures)
    print(f"\n{title}")
    if keeps:
        save("soak", f"scripts/soak --minutes {minutes:g}", [figures])
    if error is not None:
        failed.append(f"the last refresh failed: {error}")
    for line in failed:
        print(f"FAILED: {line}")
    return not failed


def report(
    start: Sample, samples: list[Sample], warm: list[Sample], end: Sample
) -> tuple[list[tuple[str, ...]], list[str]]:
    """Return the rows of the table, and a line for each number that exceeds its bound."""
    rows, failed = list[tuple[str, ...]](), list[str]()
    for number, field in enumerate(fields(Sample)):
        first, last = astuple(start)[number], astuple(end)[number]
        top, most = (max(astuple(found)[number] for found in some) for some in ([start, *warm], samples))
        is_memory = isinstance(last, float)
        allowed = top + astuple(MEMORY)[number] if is_memory else first + astuple(COUNTS)[number]
        shown = [f"{value:.1f} MB" if is_memory else str(value) for value in (first, top, most, last, allowed)]
        rows.append((field.name.replace("_", " "), *shown))
        if last > allowed:
            failed.append(f"{field.name}: {last} at the end")
    return rows, failed


def progress(crew: Crew, seconds: float) -> None:
    """Print the progress on a terminal once a second."""
    started = time.monotonic()
    while not crew.end.wait(1) and sys.stderr.isatty():
        print(f"\r{time.monotonic() - started:.0f} of {seconds:.0f} s", end="", file=sys.stderr, flush=True)


def main() -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=8, help="how long (default: %(default)s)")
    parser.add_argument("--save", action="store_true", help="also keep the table in benchmarks/figures.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="omidbfs-soak-") as directory:
        os.environ["XDG_CACHE_HOME"] = f"{directory}/cache"
        try:
            return 0 if soak(Path(directory), options.minutes, options.save) else 1
        finally:  # after any error, leave nothing mounted or running
            clean_up(Path(directory), f"DRIVES_BELOW={directory}")


if __name__ == "__main__":
    sys.exit(main())
