"""``scripts/bench making``: measures how long a lookup takes while the drive makes a large generated file.

Threads of the drive make such files, and hold the interpreter meanwhile.
"""

import os
import random
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, nullcontext
from pathlib import Path

import click
import numpy as np
import synthetic
from database import clone_clients
from figures import Figures, show
from places import forget_names, mounted
from rich.console import Console

from omidbfs.database.layout import find_source
from omidbfs.serving.session import Session

_STILL = Path(__file__).with_name("still.py")
_NOTHING = "nothing"
_CLIENTS = 512
_NAMES = 10_000
_PAUSE = 0.002
"""Seconds between two lookups. In between the drive is idle, so that each lookup has to interrupt the thread."""


@click.command()
@click.option("--rows", default=1_000_000, show_default=True, help="The number of rows of the synthetic index.")
@click.option(
    "--directory", type=click.Path(path_type=Path), help="Where to work.  [default: the temporary directory]"
)
def making(rows: int, directory: Path | None) -> None:
    """Measure lookups while the files of all images are made, one after the other."""
    if os.geteuid() != 0:
        raise click.ClickException("making: needs root, to empty the kernel's caches: sudo scripts/bench making")
    console = Console(stderr=True, highlight=False)
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="omidbfs-bench-", dir=directory)))
        status = stack.enter_context(console.status("Writing an index ..."))
        source, saved = work / "source", work / "synthetic.index"
        for _ in zip(range(_CLIENTS), clone_clients(source, tiny=True), strict=False):
            pass
        rows, _ = synthetic.write(source, rows, saved)
        names = _some_names(source, saved)
        status.update("Mounting ...")
        command = [sys.executable, str(_STILL), "mount", "--foreground", f"--index={saved}", str(source)]
        cache = f"XDG_CACHE_HOME={work / 'cache'}"
        mount = ["env", cache, *command, str(work / "drive")]
        everything = stack.enter_context(mounted("omidbfs", mount, work / "drive")).directory / "all"
        measured = []
        for file in (_NOTHING, *sorted(os.listdir(everything / ".omidbfs"))):
            status.update(f"{file} ...")
            forget_names()
            measured.append((file, *_measured(everything, names, file)))
    columns = ("", "seconds to make it", "lookups", "median", "99 %", "slowest")
    show("making", Figures(f"lookups while a file of {rows:,} images is made, ms", columns, measured))


def _some_names(source: Path, saved: Path) -> list[bytes]:
    session = Session(find_source(source), saved, lambda: nullcontext(lambda *_: None))
    index = session.saved().index
    chosen = np.array(random.Random(1).sample(range(len(index)), min(_NAMES, len(index))), np.intp)
    return [name + b".json" for name in index.images.take(chosen)]


def _measured(everything: Path, names: list[bytes], file: str) -> tuple[str, ...]:
    start, times = time.perf_counter(), []
    maker = None
    if file != _NOTHING:
        command = ["stat", "-c", "%s", everything / ".omidbfs" / file]
        maker = subprocess.Popen(command, stdout=subprocess.PIPE)
    directory = os.open(everything, os.O_PATH)
    try:
        for name in names:
            if maker is not None and maker.poll() is not None:
                break
            begun = time.perf_counter()
            os.stat(name, dir_fd=directory)
            times.append(time.perf_counter() - begun)
            time.sleep(_PAUSE)
        if maker is not None and int(maker.communicate()[0]) == 0:
            raise click.ClickException(f"{file}: is empty")
    finally:
        os.close(directory)
        if maker is not None:
            maker.kill()
    seconds = "" if maker is None else f"{time.perf_counter() - start:.1f}"
    shares = 1000 * np.quantile(times, [0.5, 0.99, 1])
    return (seconds, f"{len(times):,}", *(f"{share:.2f}" for share in shares))
