"""``scripts/bench handlers``: measures the handlers of a drive by themselves, without a kernel.

Figures are processor time of the one thread, so other load on the machine changes them little.
"""

import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import click
import trio
from database import write_database
from figures import Figures, show
from pyfuse3 import RequestContext

from omidbfs.database.layout import find_source
from omidbfs.fuse.operations import Operations
from omidbfs.serving.drive import Drive
from omidbfs.serving.session import Session
from omidbfs.serving.spool import Spool
from omidbfs.view.inode import ROOT_INODE

_Answer = TypeVar("_Answer")
_CONTEXT = RequestContext()
_AT_ONCE = 200
"""Files that are open at the same time."""
_PAGE, _BLOCK = 4096, 128 << 10


class _WaitedError(Exception):
    """A handler had to wait, because something else on the machine has emptied the page cache."""


@click.command()
@click.option("--images", default=2_000, show_default=True, help="The number of images.")
@click.option(
    "--rounds", default=10, show_default=True, help="The number of runs. The best of each handler counts."
)
@click.option(
    "--directory", type=click.Path(path_type=Path), help="Where to work, on a local disk.  [default: temporary]"
)
def handlers(images: int, rounds: int, directory: Path | None) -> None:
    """Measure lookup, getattr, open, read and release of small files, and reads of 4 kB, in us."""
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="omidbfs-bench-", dir=directory)))
        source, saved = work / "source", work / "saved.index"
        write_database(source, images, 1)
        command = [sys.executable, "-m", "omidbfs", "index", str(source), "--index", str(saved)]
        subprocess.run(command, check=True, capture_output=True)
        best = trio.run(_measured, source, saved, rounds)
    rows = [(name, f"{1e6 * seconds:.2f}") for name, seconds in best.items()]
    show("handlers", Figures("processor time of a request, without a kernel", ("", "us"), rows))


async def _measured(source: Path, saved: Path, rounds: int) -> dict[str, float]:
    found = find_source(source)
    session = Session(found, saved, lambda: nullcontext(lambda *_: None))
    view = session.view(session.saved(), {})
    view.prepare()
    view.prepare()
    operations = Operations(Drive(view, found, spool=Spool((source,))))
    paths = {path.name: path for tree in ("images", "data") for path in (source / tree).glob("*/*/*")}
    small = [name for name in paths if name.endswith(".json")]
    random.Random(1).shuffle(small)
    large = max(paths, key=lambda name: paths[name].stat().st_size)
    best: dict[str, float] = {}
    with ExitStack() as stack:
        # An open file stays in the cache of names.
        files = [stack.enter_context(open(paths[name], "rb")) for name in (*small, large)]
        done = 0
        while done < rounds:
            for file in files:
                file.seek(0)
                file.read()
            try:
                _run(operations, [name.encode() for name in small], large.encode(), best)
                done += 1
            except _WaitedError:
                continue
    operations.drive.close()
    return best


def _run(operations: Operations, small: list[bytes], large: bytes, best: dict[str, float]) -> None:
    place = _answer(operations.lookup(ROOT_INODE, b"all", _CONTEXT)).st_ino

    @contextmanager
    def timed(name: str, count: int) -> Iterator[None]:
        start = time.thread_time()
        yield
        best[name] = min(best.get(name, 1.0), (time.thread_time() - start) / count)

    def each(name: str, handler: Callable[..., Coroutine[Any, Any, Any]], arguments: list[tuple[Any, ...]]) -> Any:
        with timed(name, len(arguments)):
            return [_answer(handler(*some)) for some in arguments]

    found = each("lookup", operations.lookup, [(place, name, _CONTEXT) for name in small])
    each("getattr", operations.getattr, [(entry.st_ino, _CONTEXT) for entry in found])
    for start in range(0, len(found), _AT_ONCE):
        some = found[start : start + _AT_ONCE]
        opened = each("open", operations.open, [(entry.st_ino, os.O_RDONLY, _CONTEXT) for entry in some])
        each("read, 10 kB", operations.read, [(handle.fh, 0, _BLOCK) for handle in opened])
        each("release", operations.release, [(handle.fh,) for handle in opened])
    with timed("a file: lookup, open, read, release", len(small)):
        for name in small:
            inode = _answer(operations.lookup(place, name, _CONTEXT)).st_ino
            handle = _answer(operations.open(inode, os.O_RDONLY, _CONTEXT)).fh
            _answer(operations.read(handle, 0, _BLOCK))
            _answer(operations.release(handle))
    inode = _answer(operations.lookup(place, large, _CONTEXT)).st_ino
    handle = _answer(operations.open(inode, os.O_RDONLY, _CONTEXT)).fh
    each("read, 4 kB of 27 MB", operations.read, [(handle, number * _PAGE, _PAGE) for number in range(2000)])
    _answer(operations.release(handle))


def _answer(handler: Coroutine[Any, Any, _Answer]) -> _Answer:
    """Return the answer of a handler that does not wait."""
    try:
        handler.send(None)
    except StopIteration as stop:
        answer: _Answer = stop.value
        return answer
    handler.close()
    raise _WaitedError
