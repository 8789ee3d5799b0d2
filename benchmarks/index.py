"""``scripts/bench index``: measures how an index is built, opened, queried and brought up to date."""

import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import click
import synthetic
from database import clone_clients
from figures import Figures, show
from places import mounted
from rich.console import Console

from omidbfs.demo import generate

_WORKERS = 2
_ROUNDS = 3
_COHORTS = (24_000, 330_000)
_SMALL = 9_000
"""The number of images of a small database."""
_DISTANT_CLIENTS = 200
_SECONDS = 0.002
"""What each request takes across the network."""
_FEW = 10_000
"""Images of the small index."""
_FLOOR = "python -c 'import numpy'"
_Result = TypeVar("_Result")


@dataclass(slots=True)
class Report:
    """The table to print: a title, a figure, and a comparison in each line."""

    lines: list[tuple[str, str, str]]
    status: Callable[[str], None]

    def add(self, title: str, figure: str, beside: str = "") -> None:
        """Append a line."""
        self.lines.append((title, figure, beside))


@dataclass(frozen=True, slots=True)
class Run:
    """A command that has ended: seconds from start to end, processor time, and peak memory in bytes.

    ``processor_seconds`` includes its children. ``of_workers`` is the peak memory of its children.
    """

    seconds: float
    processor_seconds: float
    output: bytes
    memory: int
    of_workers: tuple[int, ...]


@click.command()
@click.option("--clients", default=20_000, show_default=True, help="The number of clients in the index.")
@click.option("--rows", default=3_000_000, show_default=True, help="The number of rows of the synthetic index.")
@click.option(
    "--omidb-clients", default=1_000, show_default=True, help="The number of clients that omidb summarises."
)
@click.option(
    "--directory", type=click.Path(path_type=Path), help="Where to work.  [default: the temporary directory]"
)
def index(clients: int, rows: int, omidb_clients: int, directory: Path | None) -> None:
    """Measure how an index is built, opened, queried and brought up to date.

    The command compares building with `omidb summarise`, and with a floor that walks, stats and decodes the same
    files. It builds the index of a small database, and one across a network on which each request takes 2 ms. It
    measures opening on a synthetic index of millions of rows. The tree takes 250 kB for each client.
    """
    console = Console(stderr=True, highlight=False)
    with (
        console.status("Writing the database ...") as status,
        tempfile.TemporaryDirectory(prefix="omidbfs-bench-", dir=directory) as work,
    ):
        report = Report([], lambda text: status.update(f"{text} ..."))
        _build(Path(work), clients, omidb_clients, report)
        _build_small(Path(work), report)
        _build_distant(Path(work), report)
        _open(Path(work), rows, report)
        report.status("Clearing away")
    show("index", Figures(f"{clients:,} clients, {os.cpu_count()} processors", ("", "", ""), [*report.lines]))


# Building


def _build(work: Path, clients: int, omidb_clients: int, report: Report) -> None:
    source, saved = work / "source", work / "saved.index"
    writer = clone_clients(source, tiny=True)
    images = sum(next(writer) for _ in range(clients))
    build = ["index", str(source), f"--index={saved}", f"--workers={_WORKERS}", "--json"]
    floor = [sys.executable, str(Path(__file__).with_name("floor.py")), str(source), str(_WORKERS)]
    os.sync()  # pending writes would slow down the first run
    builds, floors = [], []
    for number in range(_ROUNDS + 1):
        # In turn, so that other load on the machine affects both. The first run fills the page cache.
        report.status("Walking, stating and decoding")
        floors.append(_run(floor))
        if number:
            report.status("Building the index")
            builds.append(_omidbfs(*build, "--rebuild"))
    best = min(builds, key=lambda run: run.seconds)
    rate, floor_rate = images / best.seconds, images / min(run.seconds for run in floors)
    report.add(f"build, {_WORKERS} workers", f"{rate:,.0f} images/s", f"{images:,} images in {best.seconds:.1f} s")
    report.status("Decoding whole sidecars")
    whole = images / min(_run([*floor, "whole"]).seconds for _ in range(2))
    of_floor = f"the build has {rate / whole:.2f} of it"
    report.add(f"floor, {_WORKERS} processes, sidecars decoded whole", f"{whole:,.0f} images/s", of_floor)
    of_floor = f"the build has {rate / floor_rate:.2f} of it"
    report.add("the same, with the decoder of omidbfs", f"{floor_rate:,.0f} images/s", of_floor)
    used, least = (min(run.processor_seconds for run in runs) / images * 1e6 for runs in (builds, floors))
    of_floor = f"{least:.0f} us by that floor: {least / used:.2f}"
    report.add("processor time of the build", f"{used:.0f} us an image", of_floor)
    omidb_rate = _omidb(work, source, omidb_clients, report)
    report.add("omidb summarise", f"{omidb_rate:,.0f} images/s", f"the build is {rate / omidb_rate:.1f} x as fast")
    workers = " + ".join(f"{memory / 1e6:.0f}" for memory in best.of_workers)
    report.add("peak memory of the build", f"{best.memory / 1e6:.0f} MB", f"and of its workers {workers} MB")
    _refresh(build, [*floor, "walk"], best.seconds, lambda: next(writer), report)


def _omidb(work: Path, source: Path, clients: int, report: Report) -> float:
    """Return images/s of omidb, including its start but without its log."""
    report.status("omidb summarise")
    chosen = sorted(os.listdir(source / "data"))[:: max(1, len(os.listdir(source / "data")) // clients)]
    listed, output = work / "clients", work / "omidb.csv"
    # omidb takes any name from a list. Without a list it finds only demd* and optm*.
    listed.write_text("".join(f"{client}\n" for client in chosen), encoding="ascii")
    program = Path(sys.executable).with_name("omidb")
    command = [str(program), "summarise", f"--clients-file={listed}", f"--log-file={os.devnull}"]
    run = _run([*command, str(source / "data"), str(output)])
    studies = {(client, study) for client in chosen for study in os.listdir(source / "data" / client)}
    images = sum(len(os.listdir(path)) for path in (source / "data" / c / s for c, s in studies) if path.is_dir())
    return images / run.seconds


def _build_small(work: Path, report: Report) -> None:
    source, images, clients = work / "small", 0, 0
    writer = clone_clients(source, tiny=True)
    while images < _SMALL:
        images, clients = images + next(writer), clients + 1
    build = ["index", str(source), f"--index={work / 'small.index'}", f"--workers={_WORKERS}", "--rebuild"]
    os.sync()
    report.status("Building the index of a small database")
    seconds = min(_omidbfs(*build).seconds for _ in range(_ROUNDS + 1))
    rate = images / seconds
    report.add("build of a small database", f"{rate:,.0f} images/s", f"{images:,} images in {seconds:.2f} s")
    omidb_rate = _omidb(work, source, clients, report)
    report.add("omidb summarise", f"{omidb_rate:,.0f} images/s", f"the build is {rate / omidb_rate:.1f} x as fast")


def _build_distant(work: Path, report: Report) -> None:
    """Measure a build and a refresh on a file system on which each request takes its time."""
    near, far = work / "near", work / "far"
    generate(near, _DISTANT_CLIENTS, seed=1)
    build = ["index", str(far), f"--index={work / 'far.index'}", f"--workers={_WORKERS}", "--json"]
    system = [sys.executable, str(Path(__file__).with_name("distant.py")), str(near), str(far), str(_SECONDS)]
    report.status("Building an index across a network")
    try:
        with mounted("across a network", system, far):
            for title, *options in (("build", "--rebuild"), ("refresh, nothing changed",)):
                runs = []
                for _ in range(2):
                    time.sleep(1.5)  # until the kernel knows no name any more
                    runs.append(_omidbfs(*build, *options))
                best = min(runs, key=lambda run: run.seconds)
                images = json.loads(best.output)["images"]
                report.add(
                    f"{title}, {1000 * _SECONDS:.0f} ms for each request",
                    f"{best.seconds:.2f} s",
                    f"{images:,} images",
                )
    except (click.ClickException, ImportError) as error:
        report.add("across a network", "not measured", str(error))


def _refresh(
    build: list[str], walk: list[str], full: float, add_client: Callable[[], object], report: Report
) -> None:
    report.status("Refreshing")
    runs, walks = [], []
    for _ in range(_ROUNDS):
        walks.append(_run(walk))
        runs.append(_omidbfs(*build))
    unchanged, bare = (min(run.seconds for run in those) for those in (runs, walks))
    report.add("refresh, nothing changed", f"{unchanged:.2f} s", f"{unchanged / full:.2f} of a build")
    beside = f"the refresh takes {unchanged / bare:.2f} x as long"
    report.add(f"floor, {_WORKERS} processes, a bare walk", f"{bare:.2f} s", beside)
    used, least = (min(run.processor_seconds for run in those) for those in (runs, walks))
    report.add("processor time of the refresh", f"{used:.2f} s", f"{least:.2f} s by that floor")
    times = []
    for _ in range(_ROUNDS):
        add_client()
        run = _omidbfs(*build)
        assert json.loads(run.output)["changed"]
        times.append(run.seconds)
    report.add("refresh, one new client", f"{min(times):.2f} s", f"{min(times) / full:.2f} of a build")


# Opening


def _open(work: Path, rows: int, report: Report) -> None:
    source, saved = work / "source", work / "synthetic.index"
    report.status(f"Writing an index of {rows:,} rows")
    rows, size = _alone(synthetic.write, source, rows, saved)
    report.add("synthetic index", f"{rows:,} rows", f"{size / 1e6:,.0f} MB, {size / rows:.0f} bytes a row")
    report.status("Opening it")
    private, opening = _alone(synthetic.private_bytes, source, saved)
    of_row = f"{opening / 1e6:.0f} MB of it by opening: {opening / rows:.1f} bytes a row"
    report.add("private memory, opened", f"{private / 1e6:.0f} MB", of_row)
    listing = ["ls", str(source), "by-outcome", f"--index={saved}"]
    _start(work, source, listing, report)
    for wanted in _COHORTS:
        report.status(f"Looking for a cohort of {wanted:,} rows")
        place = _alone(synthetic.find_cohort, source, saved, wanted * rows // 3_000_000)
        report.status(place)
        times = _alone(synthetic.measure_cohort, source, saved, place)
        report.add(place, f"{times.rows:,} rows", "a cohort by three facets")
        beside = "checksums of the columns that it needs included"
        report.add("  first entry after the start", f"{times.first_after_start * 1e3:.1f} ms", beside)
        report.add("  first name looked up", f"{times.first_lookup * 1e3:.2f} ms", "before anything was listed")
        report.add("  first entry, first cohort of a process", f"{times.of_process * 1e3:.1f} ms")
        ratio = f"{times.bare / times.first_entry:.2f} of it by the same comparisons in bare numpy"
        report.add("  first entry", f"{times.first_entry * 1e3:.1f} ms", ratio)
        report.add("  its rows", f"{times.finding * 1e3:.1f} ms", f"{times.bare * 1e3:.1f} ms in bare numpy")
        report.add("  then", f"{times.entries_per_second:,.0f} entries/s")
        report.add("  values of by-model in it", f"{times.values * 1e3:.1f} ms")
        report.add("  counts of all values", f"{times.counts * 1e3:.1f} ms", f"of {times.facets} facets")
        report.add("  one UID looked up", f"{times.lookup * 1e6:.1f} us")
    for name in ("csv", "parquet", "coco", "summary", "paths"):
        report.status(f"Making {name} of everything")
        made = _alone(synthetic.measure_export, source, saved, name)
        extra = f"{made.size / 1e6:,.1f} MB; {made.memory / 1e6:.0f} MB of memory"
        report.add(f"export, {name}", f"{made.rows / made.seconds:,.0f} rows/s", extra)
    if os.geteuid() == 0:
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("3\n", encoding="ascii")
        cold = _omidbfs(*listing).seconds
        report.add("start to first listing, cold", f"{cold:.2f} s", "all caches dropped, Python's own files too")


def _start(work: Path, source: Path, listing: list[str], report: Report) -> None:
    """Measure commands from the start of their process, beside that of Python with numpy alone."""
    few, small = work / "few", work / "few.index"
    writer = clone_clients(few, tiny=True)
    images = 0
    while images < _FEW:
        images += next(writer)
    _omidbfs("index", str(few), f"--index={small}")
    words = ["omidbfs", "count", f"--index={small}", str(few), "by-outcome/"]
    completing = {
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
        "_OMIDBFS_COMPLETE": "bash_complete",
    }
    runs: dict[str, Callable[[], Run]] = {
        "start of process to the first listing, warm": lambda: _omidbfs(*listing),
        f"omidbfs count, index of {images:,} images": lambda: _omidbfs(*words[1:4], "by-view/CC"),
        "completion, the same index": lambda: _run([sys.executable, "-m", "omidbfs"], completing),
        "omidbfs --version": lambda: _omidbfs("--version"),
        _FLOOR: lambda: _run([sys.executable, "-c", "import numpy"]),
    }
    best: dict[str, tuple[float, float]] = {}
    for _ in range(3 * _ROUNDS):  # in turn, so that other load on the machine affects all of them
        for name, run in runs.items():
            done, known = run(), best.get(name, (math.inf, math.inf))
            best[name] = min(known[0], done.seconds), min(known[1], done.processor_seconds)
    floor = best[_FLOOR]
    for name, (seconds, processor) in best.items():
        beside = f"{processor:.2f} s of processor time"
        if name != _FLOOR:
            beside += f"; {seconds / floor[0]:.1f} x the start of Python with numpy"
        report.add(name, f"{seconds:.2f} s", beside)


# Processes


def _alone(work: Callable[..., _Result], *arguments: object) -> _Result:
    """Run ``work`` in its own process, and return its result."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def _omidbfs(*arguments: str) -> Run:
    return _run([sys.executable, "-m", "omidbfs", f"--config={os.devnull}", *arguments])


def _run(command: list[str], variables: Mapping[str, str] | None = None) -> Run:
    """Run a command, and measure the memory of it and its children."""
    # An installed package is compiled. Python must not compile omidbfs in each run.
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    memory: dict[int, int] = {}
    ended = threading.Event()
    processor, start = _processor_seconds(), time.perf_counter()
    environment = {**inherited, **(variables or {})}
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environment) as process:
        watch = threading.Thread(target=_watch, args=(process.pid, memory, ended))
        watch.start()
        try:
            output, _ = process.communicate()
        finally:
            seconds = time.perf_counter() - start
            ended.set()
            watch.join()
            process.kill()  # after an interrupt of the benchmark
    if process.returncode != 0:
        raise click.ClickException(f"{' '.join(command)}: ended with status {process.returncode}")
    own = memory.pop(process.pid, 0)
    workers = sorted(memory.values(), reverse=True)[:_WORKERS]
    return Run(seconds, _processor_seconds() - processor, output, own, tuple(workers))


def _processor_seconds() -> float:
    """Return the processor time of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _watch(process: int, memory: dict[int, int], ended: threading.Event) -> None:
    while not ended.wait(0.1):
        try:
            children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        except OSError:
            continue
        for number in (process, *map(int, children)):
            try:
                lines = Path(f"/proc/{number}/status").read_text().splitlines()
            except OSError:
                continue
            highest = next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)
            memory[number] = max(memory.get(number, 0), highest * 1024)
