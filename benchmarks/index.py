"""``scripts/bench index``: measures how an index is built, opened, queried and brought up to date."""

import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import click
import synthetic
from database import clone_clients
from rich.console import Console
from rich.table import Table

_WORKERS = 2
_ROUNDS = 3
_COHORTS = (24_000, 330_000)
_Result = TypeVar("_Result")


@dataclass(slots=True)
class Report:
    """The table to print: a title, a figure, and a comparison in each line."""

    table: Table
    status: Callable[[str], None]

    def add(self, title: str, figure: str, beside: str = "") -> None:
        """Append a line."""
        self.table.add_row(title, figure, beside)


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
    files. It measures opening on a synthetic index of millions of rows. The tree takes 250 kB for each client.
    """
    console = Console(stderr=True, highlight=False)
    table = Table("", "", "", box=None, show_header=False, title_justify="left", pad_edge=False)
    table.columns[1].justify = "right"
    with (
        console.status("Writing the database ...") as status,
        tempfile.TemporaryDirectory(prefix="omidbfs-bench-", dir=directory) as work,
    ):
        report = Report(table, lambda text: status.update(f"{text} ..."))
        _build(Path(work), clients, omidb_clients, report)
        _open(Path(work), rows, report)
        report.status("Clearing away")
    table.title = f"{clients:,} clients, {os.cpu_count()} processors"
    Console(width=None if sys.stdout.isatty() else 150, highlight=False).print(table)


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
    _refresh(build, best.seconds, lambda: next(writer), report)


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


def _refresh(build: list[str], full: float, add_client: Callable[[], object], report: Report) -> None:
    report.status("Refreshing")
    unchanged = min(_omidbfs(*build).seconds for _ in range(_ROUNDS))
    report.add("refresh, nothing changed", f"{unchanged:.2f} s", f"{unchanged / full:.2f} of a build")
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
    warm = min(_omidbfs(*listing).seconds for _ in range(2 * _ROUNDS))
    bare = min(_omidbfs("--version").seconds for _ in range(2 * _ROUNDS))
    report.add("start to first listing, warm", f"{warm:.2f} s", f"{bare:.2f} s of it to start at all (--version)")
    for wanted in _COHORTS:
        report.status(f"Looking for a cohort of {wanted:,} rows")
        place = _alone(synthetic.find_cohort, source, saved, wanted * rows // 3_000_000)
        report.status(place)
        times = _alone(synthetic.measure_cohort, source, saved, place)
        report.add(place, f"{times.rows:,} rows", "a cohort by three facets")
        report.add("  first name looked up", f"{times.first_lookup * 1e3:.2f} ms", "before anything was listed")
        report.add("  first entry", f"{times.first_entry * 1e3:.1f} ms")
        report.add("  then", f"{times.entries_per_second:,.0f} entries/s")
        report.add("  values of by-model in it", f"{times.values * 1e3:.1f} ms")
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


# Processes


def _alone(work: Callable[..., _Result], *arguments: object) -> _Result:
    """Run ``work`` in its own process, and return its result."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def _omidbfs(*arguments: str) -> Run:
    return _run([sys.executable, "-m", "omidbfs", f"--config={os.devnull}", *arguments])


def _run(command: list[str]) -> Run:
    """Run a command, and measure the memory of it and its children."""
    memory: dict[int, int] = {}
    ended = threading.Event()
    processor, start = _processor_seconds(), time.perf_counter()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
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
