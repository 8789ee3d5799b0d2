"""Measures reads from a disk on which every read takes 5 ms. Threads and reading ahead are for such disks."""

import json
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from database import write_database
from figures import Figures
from places import Place, mounted

SECONDS = 0.005
_READERS = 16
_PART = 6 << 20
_BLOCK = 1 << 20
_FAULTY = Path(__file__).resolve().parents[1] / "tests" / "mount" / "faulty.py"
"""The pass-through file system that delays reads. The tests also use it, to make reads fail."""


def measure_latency(work: Path, stack: ExitStack, rounds: int) -> Figures:
    """Return MB/s of one and of ``_READERS`` readers. Each reads the first ``_PART`` bytes of its own file."""
    work.mkdir()
    write_database(work / "below", _READERS, _READERS)
    control = work / "control"
    control.write_text("[]", encoding="utf-8")
    disk = [sys.executable, str(_FAULTY), str(work / "below"), str(work / "disk"), str(control)]
    stack.enter_context(mounted("slow disk", disk, work / "disk"))
    places = list(_places(work, stack))
    names = sorted(os.listdir(places[0].directory), key=lambda name: -(places[0].directory / name).stat().st_size)
    headings = ("", "", *(place.title for place in places), *(f"of {place.title}" for place in places[1:]))
    rows = []
    for readers, direct in ((_READERS, True), (_READERS, False), (1, True), (1, False)):
        rule = {"on": "read", "name": "*", "seconds": SECONDS, "direct": direct}
        new = work / "new"
        new.write_text(json.dumps([rule]), encoding="utf-8")
        new.replace(control)
        rates = [0.0] * len(places)
        for _ in range(rounds):
            for number, place in enumerate(places):
                rates[number] = max(rates[number], _rate(place, names[:readers]))
        ratios = [f"{rates[0] / rate:.1f}" for rate in rates[1:]]
        who = f"{readers} readers" if readers > 1 else "1 reader"
        how = "nothing is read ahead below" if direct else "128 kB are read ahead below"
        rows.append((f"{who}, {how}", "MB/s", *(f"{rate:,.0f}" for rate in rates), *ratios))
    return Figures(f"a disk with {1000 * SECONDS:.0f} ms for each read", headings, rows)


def _places(work: Path, stack: ExitStack) -> Iterator[Place]:
    cache = f"XDG_CACHE_HOME={work / 'cache'}"
    for title, program, options in (
        ("omidbfs", ["-m", "omidbfs"], []),
        ("--readahead 0", ["-m", "omidbfs"], ["--readahead=0"]),
        ("inline", [str(Path(__file__).with_name("inline.py"))], ["--readahead=0"]),
    ):
        place = work / title.strip("-").replace(" ", "")
        command = ["mount", "--foreground", *options, str(work / "disk"), str(place)]
        yield stack.enter_context(mounted(title, ["env", cache, sys.executable, *program, *command], place, "all"))


def _rate(place: Place, names: list[str]) -> float:
    for name in names:
        descriptor = os.open(place.directory / name, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
    start = time.perf_counter()
    with ThreadPoolExecutor(len(names)) as readers:
        list(readers.map(_read, [place.directory / name for name in names]))
    return len(names) * _PART / 1e6 / (time.perf_counter() - start)


def _read(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        for _ in range(_PART // _BLOCK):
            os.read(descriptor, _BLOCK)
    finally:
        os.close(descriptor)
