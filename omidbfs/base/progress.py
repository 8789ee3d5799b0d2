"""Shows the progress of long work: a bar on a terminal, a line from time to time elsewhere.

Commands that build an index use it. One thread reports the progress of one piece of work.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from omidbfs.base.words import counted

Progress = Callable[[str, int, int, int], None]
"""``progress(phase, clients done, number of clients, images so far)``."""

_QUIET = 10.0
"""Seconds between two lines where there is no terminal."""


@contextmanager
def shown_progress() -> Iterator[Progress]:
    """Yield the function that shows progress on standard error. A bar disappears at the end of the block."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description} clients"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[images]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None, images="")
        started = time.monotonic()

        def show(phase: str, done: int, total: int, images: int) -> None:
            rate = images / max(time.monotonic() - started, 0.001)
            made = f"{counted(images, 'image')}, {rate:.0f}/s" if images else ""
            bar.update(task, description=phase, completed=done, total=total, images=made)

        yield show


def _lines() -> Progress:
    started = said = time.monotonic()

    def say(phase: str, done: int, total: int, images: int) -> None:
        nonlocal said
        now = time.monotonic()
        if now - said < _QUIET:
            return
        said = now
        left = (now - started) * (total - done) / max(done, 1)
        made = f"{counted(images, 'image')}, {images / (now - started):.0f}/s, " if images else ""
        print(f"{phase} clients: {done} of {total}, {made}{left:.0f} s left", file=sys.stderr)

    return say
