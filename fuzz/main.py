"""Feeds every decoder mutated inputs. A decoder may raise only the errors that it documents, in bounded time and
memory.

Prints a table. The exit status is 1 if an input failed. The program keeps each failed input in a file, and
``scripts/fuzz --target NAME --input FILE`` runs it again.
"""

import argparse
import faulthandler
import multiprocessing
import os
import resource
import sys
import tempfile
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "fuzz"), str(ROOT / "benchmarks")]

from mutate import mutated  # noqa: E402
from targets import NAMES, Target, target  # noqa: E402

SLOWEST = 2.0
"""The most processor time of one input, in seconds. On a busy machine some inputs take 0.5 s."""
MEMORY = 2 << 30
"""The address space of a worker, in bytes."""
BATCH = 2000


@dataclass(slots=True)
class Found:
    """The results of a batch of inputs of one decoder."""

    inputs: int = 0
    size: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    memory: int = 0
    failures: list[tuple[bytes, str]] = field(default_factory=list)

    def add(self, other: "Found") -> None:
        """Add another batch."""
        self.inputs += other.inputs
        self.size += other.size
        self.seconds += other.seconds
        self.slowest = max(self.slowest, other.slowest)
        self.memory = max(self.memory, other.memory)
        self.failures += other.failures


def attempt(decoder: Target, content: bytes, found: Found) -> None:
    """Try one input."""
    started = time.process_time()
    try:
        decoder.decode(content)
    except Exception:
        found.failures.append((content, traceback.format_exc()))
    seconds = time.process_time() - started
    if seconds > SLOWEST:
        found.failures.append((content, f"{seconds:.1f} s"))
    found.inputs += 1
    found.size += len(content)
    found.seconds += seconds
    found.slowest = max(found.slowest, seconds)


class Worker:
    """One process. It keeps decoders ready, and writes each input to a file first, in case the process dies."""

    def __init__(self, directory: str) -> None:
        self.scratch = Path(tempfile.mkdtemp(dir=directory))
        self.decoders: dict[str, Target] = {}
        self.at_hand = os.open(self.scratch / "input", os.O_RDWR | os.O_CREAT)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

    def batch(self, name: str, numbers: range) -> Found:
        """Try a run of inputs."""
        if name not in self.decoders:
            (self.scratch / name).mkdir()
            self.decoders[name] = target(name, self.scratch / name)
        decoder, found = self.decoders[name], Found()
        (self.scratch / "name").write_text(name)
        faulthandler.dump_traceback_later(600, exit=True)
        for number in numbers:
            content = mutated(number, decoder.seeds, decoder.form)
            os.ftruncate(self.at_hand, 0)
            os.pwrite(self.at_hand, content, 0)
            attempt(decoder, content, found)
        faulthandler.cancel_dump_traceback_later()
        found.memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return found


_worker: list[Worker] = []
"""The worker of this process. The list is empty in the main process."""


def start(directory: str) -> None:
    """Make this process a worker."""
    _worker.append(Worker(directory))


def batch(task: tuple[str, range]) -> Found:
    """Try a run of inputs in a worker."""
    return _worker[0].batch(*task)


def keep(directory: Path, name: str, content: bytes) -> Path:
    """Write a failed input to its own file."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}-{blake2b(content, digest_size=6).hexdigest()}"
    path.write_bytes(content)
    return path


def fuzz(names: list[str], inputs: int, seed: int, jobs: int, kept: Path, command: str | None = None) -> bool:
    """Try ``inputs`` inputs, divided between the decoders. Return whether none failed."""
    each = -(-inputs // len(names))
    first = seed * 1_000_000_000
    tasks = [
        (name, range(start, min(start + BATCH, first + each)))
        for start in range(first, first + each, BATCH)
        for name in names
    ]
    totals = {name: Found() for name in names}
    started, died = time.monotonic(), False
    with tempfile.TemporaryDirectory(prefix="omidbfs-fuzz-", dir=_memory_disk()) as directory:
        try:
            with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), start, (directory,)) as executor:
                for (name, _), found in zip(tasks, executor.map(batch, tasks), strict=True):
                    totals[name].add(found)
                    done = sum(total.inputs for total in totals.values())
                    if sys.stderr.isatty():
                        print(f"\r{done} of {each * len(names)}", end="", file=sys.stderr, flush=True)
        except BrokenProcessPool:
            died = True
            for place in Path(directory).glob("*/name"):
                path = keep(kept, place.read_text(), place.with_name("input").read_bytes())
                print(f"a worker died or hung; one of the inputs at hand then: {path}")
    show(totals, time.monotonic() - started, jobs, command)
    for name, total in totals.items():
        for content, error in total.failures[:5]:
            print(f"\n{name}: {keep(kept, name, content)}\n{error}")
    return not died and not any(total.failures for total in totals.values())


def show(totals: dict[str, Found], seconds: float, jobs: int, command: str | None = None) -> None:
    """Print the table. If a command is given, keep the table as that of this command."""
    from figures import Figures, save, show_markdown  # workers do not need these

    rows = []
    for name, total in totals.items():
        if total.inputs:
            rate = f"{total.inputs / max(total.seconds, 1e-9):,.0f}"
            size, slowest, memory = total.size // total.inputs, total.slowest * 1000, total.memory // 1024
            counts = f"{total.inputs:,}", f"{len(total.failures)}", f"{size:,} bytes"
            rows.append((name, *counts, rate, f"{slowest:.0f} ms", f"{memory} MB"))
    done = sum(total.inputs for total in totals.values())
    failures = sum(len(total.failures) for total in totals.values())
    title = f"{done:,} inputs, {failures} failures; {seconds:.0f} s with {jobs} processes, the mutations included"
    columns = ("decoder", "inputs", "failures", "mean size", "inputs/s of one process", "slowest", "memory")
    figures = Figures(title, columns, rows)
    show_markdown(figures)
    print(f"\n{title}")
    if command is not None:
        save("fuzz", command, [figures])


def _memory_disk() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def main() -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="number of inputs (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other inputs (default: %(default)s)")
    parser.add_argument("--target", choices=NAMES, action="append", help="only this decoder; may be repeated")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (default: %(default)s)")
    parser.add_argument(
        "--failures",
        type=Path,
        default=Path("fuzz-failures"),
        help="directory for failed inputs (default: %(default)s)",
    )
    parser.add_argument("--save", action="store_true", help="also keep the table in benchmarks/figures.json")
    parser.add_argument("--input", type=Path, help="only this file, in this process; needs --target")
    options = parser.parse_args()
    if options.input is None:
        names = options.target or list(NAMES)
        command = f"scripts/fuzz --inputs {options.inputs} --jobs {options.jobs}" if options.save else None
        return 0 if fuzz(names, options.inputs, options.seed, options.jobs, options.failures, command) else 1
    if not options.target:
        parser.error("--input needs --target")
    with tempfile.TemporaryDirectory() as scratch:
        target(options.target[0], Path(scratch)).decode(options.input.read_bytes())
    return 0


if __name__ == "__main__":
    sys.exit(main())
