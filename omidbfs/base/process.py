"""What our processes inherit from those that start them: the path of modules, standard streams, open files. Used
by the command line, by drives and by executors; signals and streams belong to the main thread.
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
    """Have ``handle`` called when a signal comes that would end this process at once."""
    taken = [number for number in ENDING if signal.getsignal(number) is signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():  # only that one may say what signals do
        taken = []
    for number in taken:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def leave(number: int, frame: FrameType | None) -> None:
    """Handle a signal: end this process with the status that a shell gives one that the signal has ended."""
    sys.exit(128 + number)


def module_command(name: str) -> list[str]:
    """Return the command that runs a module of ours; it imports nothing from the current directory."""
    return [sys.executable, "-P", "-m", name]


def code_command(code: str) -> list[str]:
    """Return the command that runs a few lines with the standard library alone."""
    return [sys.executable, "-I", "-S", "-c", code]


@contextmanager
def safe_imports() -> Iterator[None]:
    """Have Python, however it is started meanwhile, import nothing from the current directory.

    ``multiprocessing`` starts it with ``python -c``, which does.
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

    What is said on a closed standard error is lost. What is written to a closed standard output fails (EBADF).
    """
    for number, flags in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, flags), True)  # the lowest number that is free
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
    """Let go of the standard streams, and of the terminal that they may be."""
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    if null > 2:
        os.close(null)


def output_is_lost() -> bool:
    """Return whether standard output cannot take what was written to it; it is given up then."""
    try:
        sys.stdout.flush()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)  # what is left would fail again at the end of the process
        os.dup2(null, 1)
        os.close(null)
        return True
    return False


def close_inherited_files(own: int) -> None:
    """Close all files but the standard streams and ``own``: locks and pipes of who started us."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != own:
            with suppress(OSError):  # the listing's own
                os.close(int(name))


def has_current_directory() -> bool:
    """Return whether the current directory exists still."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True
