"""Makes an index of millions of rows from clones of a small one, and measures how a process works with it.

Each function runs in its own process. It starts without caches, and all memory of the process is its own.
"""

import random
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from omidbfs.cohorts.cohort import Cohort, Cohorts, Term
from omidbfs.database.layout import Scanner, Source, find_source
from omidbfs.database.permissions import Access
from omidbfs.exports.formats import FORMATS
from omidbfs.facets import BY_NAME
from omidbfs.index.chunk import Chunk, read_chunk
from omidbfs.index.columns import Index
from omidbfs.index.merge import merge
from omidbfs.index.names import Names
from omidbfs.index.saved import source_fingerprint
from omidbfs.index.store import save
from omidbfs.serving.session import Session
from omidbfs.view.nodes import Directory
from omidbfs.view.view import View

_CLIENTS = 512
_FACETS = ("outcome", "view", "laterality", "manufacturer", "event", "marked", "age", "intent")
_INSIDE = b"by-model"
_PAGE = 1024
_LOOKUPS = 5_000
_ENTRIES, _COUNTS = 9, 3


def write(source: Path, rows: int, path: Path) -> tuple[int, int]:
    """Write an index of at least ``rows`` rows that looks like one of ``source``. Return its rows and bytes."""
    found = find_source(source)
    base = read_chunk(found, Scanner(found, []).clients()[:_CLIENTS])
    clones = -(-rows // len(base.values["images"]))
    index = merge([_clone(base, number) for number in range(clones)], [], found)
    save(path, index, source_fingerprint(found))
    return len(index), path.stat().st_size


def _clone(base: Chunk, number: int) -> Chunk:
    suffix, count = b".%d" % number, len(base.values["clients"])
    names = {
        "clients": Names.of([b"demd%08d" % (number * count + client) for client in range(count)]),
        "studies": Names.of([name + suffix for name in base.values["studies"]]),
        "images": Names.of([name + suffix for name in base.values["images"]]),
    }
    return replace(
        base,
        values=base.values | names,
        image_sums=None,
        study_sums=None,
    )


def _session(source: Source, path: Path) -> Session:
    return Session(source, path, lambda: nullcontext(lambda *_: None))


def _opened(source: Source, path: Path) -> View:
    session = _session(source, path)
    view = session.view(session.saved())
    view.prepare()
    return view


def private_bytes(source: Path, path: Path) -> tuple[int, int]:
    """Return the private bytes of a process after it opened the index, and how many of them opening took."""
    found, before = find_source(source), _private_dirty()
    view = _opened(found, path)
    view.listing(view.root).page(0, 100)
    after = _private_dirty()
    return after, after - before


def _private_dirty() -> int:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_Dirty"))


@dataclass(frozen=True, slots=True)
class ExportTimes:
    """Written rows and bytes, processor seconds, and the most private memory that writing took, in bytes."""

    rows: int
    size: int
    seconds: float
    memory: int


def measure_export(source: Path, path: Path, name: str) -> ExportTimes:
    """Make an export of all images in a format, and discard it piece by piece."""
    view = _opened(find_source(source), path)
    selection = view.selection(_directory(view, b"all"))
    before = memory = _private_dirty()
    size, start = 0, time.process_time()
    for number, chunk in enumerate(FORMATS[name].content(selection)):
        size += len(chunk)
        if number % 16 == 0:
            memory = max(memory, _private_dirty())
    seconds = time.process_time() - start
    return ExportTimes(len(view.index), size, seconds, memory - before)


def find_cohort(source: Path, path: Path, wanted: int) -> str:
    """Return the path of the cohort by three facets that comes closest to ``wanted`` rows."""
    view = _opened(find_source(source), path)
    best, chosen = float("inf"), ""
    for facets in combinations(_FACETS, 3):
        for place in _places(view, b"", facets[:2]):
            directory = _directory(view, place)
            for value, count in view.cohorts.counts(view.cohort(directory), BY_NAME[facets[2]]):
                if abs(count - wanted) < best:
                    best, chosen = abs(count - wanted), f"{place.decode()}/by-{facets[2]}/{value}"
    return chosen


def _places(view: View, place: bytes, facets: tuple[str, ...]) -> list[bytes]:
    """Return the paths below ``place`` by the three most frequent values of each facet."""
    if not facets:
        return [place]
    cohort = view.cohort(_directory(view, place)) if place else Cohort()
    counts = sorted(view.cohorts.counts(cohort, BY_NAME[facets[0]]), key=lambda pair: -pair[1])[:3]
    prefix = place + b"/" if place else b""
    return [
        found
        for value, _ in counts
        for found in _places(view, prefix + f"by-{facets[0]}/{value}".encode(), facets[1:])
    ]


def _directory(view: View, place: bytes) -> Directory:
    directory = view.resolve(place)
    assert directory is not None, place
    return directory


@dataclass(frozen=True, slots=True)
class CohortTimes:
    """Seconds, and entries per second. ``first_lookup`` is the lookup of a name before any listing.

    ``first_after_start`` is the time to the first entry in a process that has compared nothing of the index.
    ``of_process`` is the first entry of the first listing of a process. ``first_entry`` is that of a view that has
    listed nothing, ``finding`` the part of it that finds the rows, and ``bare`` the time of the same comparisons
    in numpy. ``counts`` is the time of the counts of all values of ``facets`` facets, those without identifiers.
    """

    rows: int
    first_after_start: float
    first_lookup: float
    of_process: float
    first_entry: float
    finding: float
    bare: float
    counts: float
    facets: int
    entries_per_second: float
    values: float
    lookup: float


def measure_cohort(source: Path, path: Path, place: str) -> CohortTimes:
    """Measure a cohort in a new view."""
    found = find_source(source)
    fresh = _session(found, path)
    view = fresh.view(fresh.saved(whole=False))
    start = time.perf_counter()
    view.listing(_directory(view, place.encode())).page(0, 1)
    first_after_start = time.perf_counter() - start
    view = _opened(found, path)
    name = _some_name(_opened(found, path), place)
    start = time.perf_counter()
    directory = _directory(view, place.encode())
    assert view.lookup(directory, name) is not None
    looked_up = time.perf_counter()
    listing = view.listing(directory)
    listing.page(0, 1)
    of_process = time.perf_counter() - looked_up
    first_entry, finding, bare = _first_entry(view, directory.cohort, place.encode())
    facets = [facet for facet in view.index.registry.facets if facet.name in view.index.columns]
    times = []
    for _ in range(_COUNTS):
        begun = time.perf_counter()
        for facet in facets:
            view.cohorts.counts(directory.cohort, facet)
        times.append(time.perf_counter() - begun)
    rates = []
    for _ in range(3):
        begun = time.perf_counter()
        for entry in range(0, listing.length, _PAGE):
            listing.page(entry, _PAGE)
        rates.append(listing.length / (time.perf_counter() - begun))
    begun = time.perf_counter()
    inside = view.listing(_directory(view, place.encode() + b"/" + _INSIDE))
    inside.page(0, inside.length)
    values = time.perf_counter() - begun
    chosen = random.Random(1)
    names = [listing.page(chosen.randrange(listing.length), 1)[0].name for _ in range(_LOOKUPS)]
    begun = time.perf_counter()
    for name in names:
        view.lookup(directory, name)
    lookup = (time.perf_counter() - begun) / _LOOKUPS
    rows = len(view.cohorts.rows(directory.cohort))
    return CohortTimes(
        rows,
        first_after_start,
        looked_up - start,
        of_process,
        first_entry,
        finding,
        bare,
        min(times),
        len(facets),
        float(np.max(rates)),
        values,
        lookup,
    )


def _first_entry(view: View, cohort: Cohort, place: bytes) -> tuple[float, float, float]:
    """Return the least seconds to the first entry, to the rows, and to the same rows in bare numpy, in turn."""
    index, seconds = view.index, []
    columns = [_accepted(index, term) for term in cohort.terms]
    for _ in range(_ENTRIES):
        fresh = View(index, Access(0o755, 0, 0), {})
        begun = time.perf_counter()
        fresh.listing(_directory(fresh, place)).page(0, 1)
        listed = time.perf_counter()
        rows = Cohorts(index).rows(cohort)
        found = time.perf_counter()
        masks = [_mask(column, codes) for column, codes in columns]
        same = np.flatnonzero(masks[0] & masks[1] & masks[2])
        compared = time.perf_counter()
        assert np.array_equal(rows, same)
        seconds.append((listed - begun, found - listed, compared - found))
    first_entry, finding, bare = np.min(seconds, axis=0).tolist()
    return first_entry, finding, bare


def _accepted(index: Index, term: Term) -> tuple[NDArray[np.unsignedinteger], list[int]]:
    """Return the column of a term, and which of its items satisfy the term."""
    codes, sets = set(term.codes), index.combinations.get(term.facet)
    if sets is not None:
        codes = {number for number, of in enumerate(sets) if codes & set(of)}
    return index.columns[term.facet], sorted(codes)


def _mask(column: NDArray[np.unsignedinteger], codes: list[int]) -> NDArray[np.bool_]:
    if len(codes) == 1:
        return column == codes[0]
    if codes[-1] - codes[0] < len(codes):
        return (column >= codes[0]) & (column <= codes[-1])
    table = np.zeros(np.iinfo(column.dtype).max + 1, np.bool_)
    table[codes] = True
    return table.take(column)


def _some_name(view: View, place: str) -> bytes:
    listing = view.listing(_directory(view, place.encode()))
    return listing.page(listing.length // 2, 1)[0].name
