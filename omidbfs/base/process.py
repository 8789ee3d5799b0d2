"""What a process inherits and handles: the module path, standard streams, open files, signals.

The command line, drives and executors use it. Only the main thread changes signals and streams.
"""

import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

ENDING = (signal.SIGTERM, signal.SIGHUP)
"""Signals that end a process at once, unless it handles them."""


@contextmanager
def handled_ending(handle: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Call ``handle`` on each signal of :data:`ENDING` that would end this process at once."""
    taken = [number for number in ENDING if signal.getsignal(number) is signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        taken = []
    for number in taken:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def leave(number: int, frame: FrameType | None) -> None:
    """Handle a signal: end this process with status 128 + ``number``, which shells use for a death by signal."""
    sys.exit(128 + number)


def module_command(name: str) -> list[str]:
    """Return the command that runs a module of omidbfs. It imports nothing from the current directory."""
    return [sys.executable, "-P", "-m", name]


def code_command(code: str) -> list[str]:
    """Return the command that runs ``code`` with the standard library alone."""
    return [sys.executable, "-I", "-S", "-c", code]


@contextmanager
def safe_imports() -> Iterator[None]:
    """Keep every Python process started inside the block from importing from the current directory.

    ``multiprocessing`` starts Python with ``-c``, which otherwise puts that directory on the module path.
    """
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        del os.environ["PYTHONSAFEPATH"]
        if before is not None:
            os.environ["PYTHONSAFEPATH"] = before


def open_standard_streams() -> None:
    """Open the standard streams that are closed, so that no other file gets their numbers.

    Output to a closed standard error is lost. Output to a closed standard output fails with EBADF.
    """
    for number, flags in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, flags), True)  # it gets the lowest free number
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.FileIO(0, "r", closefd=False))
    if sys.stdout is None:
        sys.stdout = _writer(1)
    if sys.stderr is None:
        sys.stderr = _writer(2)


def _writer(number: int) -> io.TextIOWrapper:
    buffer = io.BufferedWriter(io.FileIO(number, "w", closefd=False))
    return io.TextIOWrapper(buffer, errors="backslashreplace", line_buffering=True)


def take_null_streams() -> None:
    """Replace the standard streams by the null device, which releases a terminal."""
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    if null > 2:
        os.close(null)


def output_is_lost() -> bool:
    """Flush standard output and return whether that fails; if so, replace it by the null device."""
    try:
        sys.stdout.flush()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)  # otherwise Python would flush again, and fail, at exit
        os.dup2(null, 1)
        os.close(null)
        return True
    return False


def close_inherited_files(own: int) -> None:
    """Close all files but the standard streams and ``own``: the locks and pipes of the parent process."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != own:
            with suppress(OSError):  # the descriptor of the listing itself is closed already
                os.close(int(name))


def has_current_directory() -> bool:
    """Return whether the current directory still exists."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True
