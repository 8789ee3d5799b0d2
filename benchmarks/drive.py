"""``scripts/bench drive``: compares a drive with bindfs, with a null file system, and with the disk itself."""

import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
from database import LARGE, write_database
from figures import Figures, show
from latency import measure_latency
from places import Place, forget_contents, forget_everything, forget_names, mounted, settle
from rich.console import Console

_PAGE = 4096
_BLOCK = 1 << 20
_PATIENCE = 2.0
"""A measure is not repeated at a place after this many seconds there."""
_TIME = 120.0
"""No measure is repeated after this many seconds in all."""


@dataclass(frozen=True, slots=True)
class Files:
    """Names of the files, which are the same in every place."""

    disk: Path
    """The directory in which they are read without a daemon."""
    everything: list[str]
    looked_up: list[str]
    small: list[str]
    large: list[str]
    random: list[tuple[str, int]]
    """A large file, and an offset in it."""


@dataclass(frozen=True, slots=True)
class Measure:
    """``run`` does the work at one place, and returns the amount of work in ``unit``."""

    title: str
    unit: str
    run: Callable[[Place, Files], float]
    prepare: Callable[[Place, Files], None] = lambda _place, _files: None
    cold: bool = False
    """Whether the kernel forgets all names before each run."""


@dataclass(slots=True)
class Best:
    """The best of several runs: the highest rate and the lowest processor time of the daemon, per unit."""

    rate: float = 0.0
    processor_seconds: float = math.inf
    runs: int = 0
    seconds: float = 0.0


@click.command()
@click.option("--images", default=20_000, show_default=True, help="The number of images. Each has two files.")
@click.option("--large", default=4, show_default=True, help="The number of images of 27 MB.")
@click.option("--rounds", default=10, show_default=True, help="The most runs of a measure. The best one counts.")
@click.option(
    "--directory", type=click.Path(path_type=Path), help="Where to work.  [default: the temporary directory]"
)
def drive(images: int, large: int, rounds: int, directory: Path | None) -> None:
    """Compare a drive with bindfs, with a null file system, and with the disk itself.

    The null file system uses pyfuse3 like omidbfs and does nothing: it is the floor. The command reads a database
    that it makes and that the page cache holds, so no figure depends on the disk, except where it says so.
    """
    if os.geteuid() != 0:
        raise click.ClickException("drive: needs root, to empty the kernel's caches: sudo scripts/bench drive")
    console = Console(stderr=True, highlight=False)
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="omidbfs-bench-", dir=directory)))
        status = stack.enter_context(console.status("Writing the database ..."))
        write_database(work / "source", images, large)
        status.update("Mounting ...")
        places = list(_places(work, stack))
        files = _files(places[-1].directory)
        results: dict[str, list[Best]] = {}
        deadline = time.monotonic() + _TIME
        for measure in MEASURES:
            results[measure.title] = [Best() for _ in places]
            status.update(f"{measure.title} ...")
            for _ in range(rounds):
                # In turn, so that other load on the machine affects all places.
                for place, best in zip(places, results[measure.title], strict=True):
                    if best.runs == 0 or (best.seconds < _PATIENCE and time.monotonic() < deadline):
                        _measure(measure, place, places, files, best)
        status.update("A slow disk ...")
        slow = measure_latency(work / "slow", stack, min(rounds, 3))
    title = f"{len(files.everything):,} files, {large} of them {LARGE // 10**6} MB; {os.cpu_count()} processors"
    show("drive", _table(title, places, results), slow)


def _places(work: Path, stack: ExitStack) -> Iterator[Place]:
    """Mount everything; the disk itself comes last."""
    native = work / "native"
    native.mkdir()
    for tree in ("images", "data"):
        for path in (work / "source" / tree).glob("*/*/*"):
            os.link(path, native / path.name)
    cache = f"XDG_CACHE_HOME={work / 'cache'}"
    mount = ["mount", "--foreground", str(work / "source"), str(work / "omidbfs")]
    omidbfs = ["env", cache, sys.executable, "-m", "omidbfs", *mount]
    nullfs = [sys.executable, str(Path(__file__).with_name("nullfs.py")), str(native), str(work / "nullfs")]
    yield stack.enter_context(mounted("omidbfs", omidbfs, work / "omidbfs", "all"))
    yield stack.enter_context(mounted("nullfs", nullfs, work / "nullfs"))
    if shutil.which("bindfs"):
        bindfs = ["bindfs", "-f", "-r", str(native), str(work / "bindfs")]
        yield stack.enter_context(mounted("bindfs", bindfs, work / "bindfs"))
    yield Place("native", native)


def _files(native: Path) -> Files:
    chosen = random.Random(1)
    names = sorted(os.listdir(native))
    large = [name for name in names if (native / name).stat().st_size == LARGE]
    json = [name for name in names if name.endswith(".json")]
    places = [(name, offset) for name in large for offset in range(0, LARGE - _PAGE, _PAGE)]
    return Files(
        native,
        names,
        chosen.sample(names, min(10_000, len(names))),
        chosen.sample(json, min(2_000, len(json))),
        large,
        chosen.sample(places, min(4_000, len(places))),
    )


def _measure(measure: Measure, place: Place, places: list[Place], files: Files, best: Best) -> None:
    measure.prepare(place, files)
    if measure.cold:
        forget_names()
    settle(places)
    processor, start = place.processor_seconds(), time.perf_counter()
    amount = measure.run(place, files)
    seconds = time.perf_counter() - start
    best.runs += 1
    best.seconds += seconds
    best.rate = max(best.rate, amount / seconds)
    best.processor_seconds = min(best.processor_seconds, (place.processor_seconds() - processor) / amount)


# Measures


def _command(*command: str) -> Callable[[Place, Files], float]:
    def run(place: Place, files: Files) -> float:
        arguments = [str(place.directory) if part == "DIR" else part for part in command]
        environment = {**os.environ, "LC_ALL": "C"}
        subprocess.run(arguments, stdout=subprocess.DEVNULL, env=environment, check=True)
        return len(files.everything)

    return run


def _stat_each(place: Place, files: Files) -> float:
    with _opened(place.directory) as directory:
        for name in files.looked_up:
            os.stat(name, dir_fd=directory)
    return len(files.looked_up)


def _know_names(place: Place, files: Files) -> None:
    for name in files.looked_up:
        (place.directory / name).stat()


def _read_small(place: Place, files: Files) -> float:
    with _opened(place.directory) as directory:
        for name in files.small:
            descriptor = os.open(name, os.O_RDONLY, dir_fd=directory)
            os.read(descriptor, _BLOCK)
            os.close(descriptor)
    return len(files.small)


def _forget_small(place: Place, files: Files) -> None:
    forget_contents(place, files.small, files.disk)


def _forget_everything(_place: Place, _files: Files) -> None:
    forget_everything()


def _read_large(place: Place, files: Files) -> float:
    for name in files.large:
        _read(place.directory / name)
    return len(files.large) * LARGE / 1e6


def _read_by_two(place: Place, files: Files) -> float:
    with ThreadPoolExecutor(2) as readers:
        list(readers.map(_read, [place.directory / name for name in files.large]))
    return len(files.large) * LARGE / 1e6


def _forget_large(place: Place, files: Files) -> None:
    forget_contents(place, files.large, files.disk)


def _know_large(place: Place, files: Files) -> None:
    _read_large(place, files)


def _read_pages(place: Place, files: Files) -> float:
    with ExitStack() as stack:
        descriptors = {name: stack.enter_context(_opened(place.directory / name)) for name in files.large}
        for descriptor in descriptors.values():
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        for name, offset in files.random:
            os.pread(descriptors[name], _PAGE, offset)
    return len(files.random)


def _read(path: Path) -> None:
    buffer = bytearray(_BLOCK)
    with _opened(path) as descriptor:
        while os.readv(descriptor, [buffer]):
            pass


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


_LISTING, _LOOKUP, _SMALL = "ls -U", "lookup without listing", "10 kB JSON: open, read, close"
_COLD = "10 kB JSON, every cache dropped first"
_FIRST_READ, _PAGES = "27 MB, first read", "4 kB at random, first read"
MEASURES = (
    Measure(_LISTING, "entries/s", _command("ls", "-U", "DIR"), cold=True),
    Measure("ls -l", "entries/s", _command("ls", "-l", "DIR"), cold=True),
    Measure("find -size", "entries/s", _command("find", "DIR", "-size", "+1M"), cold=True),
    Measure(_LOOKUP, "names/s", _stat_each, cold=True),
    Measure("stat, known to the kernel", "names/s", _stat_each, _know_names),
    Measure(_SMALL, "files/s", _read_small, _forget_small),
    Measure(_COLD, "files/s", _read_small, _forget_everything),
    Measure(_FIRST_READ, "MB/s", _read_large, _forget_large),
    Measure("27 MB, second read", "MB/s", _read_large, _know_large),
    Measure("27 MB, two readers, first read", "MB/s", _read_by_two, _forget_large),
    Measure(_PAGES, "reads/s", _read_pages, _forget_large),
)


# Output


def _table(title: str, places: list[Place], results: dict[str, list[Best]]) -> Figures:
    rows = []
    for measure in MEASURES:
        rates = [best.rate for best in results[measure.title]]
        ratios = [f"{rates[0] / rate:.2f}" for rate in rates[1:]]
        rows.append((measure.title, measure.unit, *(f"{rate:,.0f}" for rate in rates), *ratios))
    for name, unit, measured, amount in (
        (f"daemon, {_LISTING}", "CPU s / 100,000 entries", _LISTING, 100_000),
        (f"daemon, {_LOOKUP}", "CPU s / 100,000 names", _LOOKUP, 100_000),
        (f"daemon, {_SMALL}", "CPU s / 100,000 files", _SMALL, 100_000),
        (f"daemon, {_FIRST_READ}", "CPU s / GB", _FIRST_READ, 1000),
        (f"daemon, {_PAGES}", "CPU s / 100,000 reads", _PAGES, 100_000),
    ):
        seconds = [best.processor_seconds * amount for best in results[measured]]
        served = [used for used, place in zip(seconds, places, strict=True) if place.daemon]
        ratios = [f"{seconds[0] / used:.2f}" for used in served[1:]]
        rows.append((name, unit, *(f"{used:.2f}" for used in served), "", *ratios, ""))
    headings = [*(place.title for place in places), *(f"of {place.title}" for place in places[1:])]
    return Figures(title, ("", "", *headings), rows)
