"""What a process inherits and handles: the module path, standard streams, open files, signals.

The command line, drives and executors use it. Only the main thread changes signals and streams.
"""

import fcntl
import io
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType

ENDING = (signal.SIGTERM, signal.SIGHUP)
"""Signals that end a process at once, unless it handles them."""
_PATIENCE = 5.0
"""Seconds that a process gets to end after a signal."""


@dataclass(frozen=True, slots=True)
class _Handler:
    """What is done on a signal: ``handle``, and then whatever was done on it before."""

    handle: Callable[[int, FrameType | None], None]
    before: "_Handler | signal.Handlers"

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.handle(number, frame)
        signal.signal(number, self.before)
        signal.raise_signal(number)


@contextmanager
def handled_ending(handle: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Call ``handle`` on each signal of :data:`ENDING` that would end this process at once, before it ends.

    Blocks nest: the handler of the innermost block is called first.
    """
    taken: dict[signal.Signals, _Handler | signal.Handlers] = {}
    if threading.current_thread() is threading.main_thread():  # no other may set handlers
        for number in ENDING:
            before = signal.getsignal(number)
            if before is signal.SIG_DFL or isinstance(before, _Handler):
                taken[number] = before
    for number, before in taken.items():
        signal.signal(number, _Handler(handle, before))
    try:
        yield
    finally:
        for number, before in taken.items():
            signal.signal(number, before)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ignore Ctrl-C and the signals of :data:`ENDING` in the block, which tidies up before this process ends."""
    before = {}
    if threading.current_thread() is threading.main_thread():  # no other may set handlers
        before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, *ENDING)}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # set by a program in C
                signal.signal(number, handler)


def leave(number: int, frame: FrameType | None) -> None:
    """Handle a signal: end this process with status 128 + ``number``, which shells use for a death by signal."""
    sys.exit(128 + number)


def exit_status_of(command: list[str]) -> int:
    """Run a process without output, and return its exit status. If this process is ended, so is that process.

    It ignores Ctrl-C, which is for this process. It is in the same process group, as only that may write to a
    terminal. The number of :func:`life` is appended to the command.
    """
    import subprocess  # which no question to an index needs

    with handled_ending(leave), life() as its_life:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # which a new process inherits
        try:
            process = subprocess.Popen([*command, str(its_life)], stdout=subprocess.DEVNULL, pass_fds=(its_life,))
        finally:
            signal.signal(signal.SIGINT, before)
        try:
            return process.wait()
        except BaseException:
            process.terminate()
            try:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_PATIENCE)
            finally:  # also after a second Ctrl-C
                process.kill()
            raise


def available_cpus() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))


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


@contextmanager
def life() -> Iterator[int]:
    """Give a descriptor to pass on to a process, which calls :func:`end_with_parent` with it.

    The end of the block ends that process, too.
    """
    its_life, ours = os.pipe()
    try:
        yield its_life
    finally:
        os.close(ours)
        os.close(its_life)


def end_with_parent(life: int) -> None:
    """Make the kernel kill this process when its parent has ended, however that happened.

    The parent alone holds the other end of the pipe ``life``, and never writes. A signal of the kernel needs no
    thread: native code that hangs may never let a thread run. PR_SET_PDEATHSIG would not do, because it fires when
    the thread ends that started this process.
    """
    fcntl.fcntl(life, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(life, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(life, fcntl.F_SETFL, fcntl.fcntl(life, fcntl.F_GETFL) | os.O_ASYNC)
    events = select.poll()
    events.register(life, 0)
    if events.poll(0):  # it ended before the lines above
        sys.exit(1)


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
