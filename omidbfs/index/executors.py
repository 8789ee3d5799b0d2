"""Executors: clients are read in this process, in local processes, or on a cluster, all through one interface.

Sessions choose an executor, and ``build.py`` gives it tasks from one thread.
"""

import gc
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from concurrent.futures import CancelledError, Executor, Future, InvalidStateError, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.context import SpawnContext, SpawnProcess
from threading import Event, Lock, Thread
from typing import Any, TypeVar
from weakref import WeakSet

from omidbfs.base.errors import UserError
from omidbfs.base.process import ENDING, handled_ending, leave, safe_imports
from omidbfs.base.progress import Progress

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")

_AHEAD = 3
"""How many tasks wait for each worker: enough to keep it busy, few enough to bound the memory."""

WORTH_STARTING = 0.5
"""Seconds of work for this process alone, from which on it starts others. Each takes 0.25 s to start."""

_OBJECTS = 100_000
"""New objects after which Python searches for cycles."""

_PATIENCE = 10.0
"""Seconds that a scheduler may take to answer."""


@dataclass(frozen=True, slots=True)
class Work:
    """How work is done: the executor (``None``: this process), its number of workers, and a report of progress."""

    executor: Executor | None = None
    workers: int = 1
    progress: Progress | None = None


@contextmanager
def executor_for(name: str, workers: int) -> Iterator[Executor | None]:
    """Give the executor that ``name`` stands for, or ``None`` to do the work in this process.

    Parameters
    ----------
    name
        ``local``, ``dask://HOST:PORT`` (a running scheduler; extra ``dask``) or ``mpi`` (under ``mpirun``; extra
        ``mpi``).
    workers
        Processes of ``local``, one of which is this process itself. The others start with the first task.

    Raises
    ------
    UserError
        There is no such executor, its library is not installed, or its scheduler does not answer.
    """
    if name == "local":
        if workers == 1:
            yield None
            return
        with safe_imports(), handled_ending(leave):  # the pool has to be shut down at the end
            with _held_back():
                pool = _Pool(workers - 1, mp_context=_Spawn(), initializer=_start_worker)
            try:
                yield pool
            except BaseException:
                pool.give_up()
                raise
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
    elif name.startswith("dask://"):
        with _dask(name.removeprefix("dask://")) as executor:
            yield executor
    elif name == "mpi":
        with _mpi() as executor:
            yield executor
    else:
        raise UserError("not known", "use local, dask://HOST:PORT or mpi", f"--executor {name}")


@contextmanager
def _held_back() -> Iterator[None]:
    """Block signals in the processes and threads that are started in the block.

    A terminal sends SIGINT and SIGHUP to a whole group of processes, and systemd SIGTERM. This thread gets them at
    the end of the block, when the pool knows all that it has started.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, *ENDING})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Worker(SpawnProcess):
    """A process that a broken pool can end. It blocks SIGTERM, and the pool waits for its end with a lock."""

    def terminate(self) -> None:
        """Kill the process."""
        self.kill()


class _Spawn(SpawnContext):
    """How workers are started. A fork would copy a process that may hold a mount, threads and locks."""

    Process = _Worker


class _Pool(ProcessPoolExecutor):
    """Local processes that block signals to the whole group, and that can be killed at any moment."""

    is_started = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Give a task to the pool."""
        self.is_started = True
        with _held_back():
            return super().submit(fn, *args, **kwargs)

    def give_up(self) -> None:
        """Kill every process at once, even those that are still starting. The pool can be shut down afterwards."""
        # A process may be in the middle of writing a result or reading a task. The threads of the pool would wait
        # for the rest for ever if this process kept its unused ends of these pipes open. If the pool is broken,
        # because a process was killed, its own thread closes them.
        if not self._broken:
            self._result_queue._writer.close()  # type: ignore[attr-defined]
            self._call_queue._reader.close()  # type: ignore[attr-defined]
        for process in [*self._processes.values()]:  # they block SIGTERM, which that thread sends
            process.kill()


@contextmanager
def _dask(address: str) -> Iterator[Executor]:
    try:
        from distributed import Client, KilledWorker
        from distributed.client import ClosedClientError
    except ImportError:
        raise UserError(
            "not installed", "pip install 'omidbfs[dask]', on the workers too", place="--executor dask"
        ) from None
    try:
        # Client would retry for a long time and not say why.
        socket.create_connection(_host_and_port(address), _PATIENCE).close()
        client = Client(f"tcp://{address}", timeout=_PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UserError(f"--executor dask://{address}: no scheduler answers there ({error})") from error
    try:
        with watched(client.get_executor(pure=False), lambda: client.status == "closed") as executor:
            yield executor
    except KilledWorker:
        raise UserError("a worker process was killed, maybe for lack of memory", "try fewer --workers") from None
    except (CancelledError, ClosedClientError):
        raise UserError(f"--executor dask://{address}: no scheduler answers there (it went away)") from None
    finally:
        client.close()


class _Watched(Executor):
    """An executor whose tasks all end, even if their workers vanish without a message."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._submitted: WeakSet[Future[Any]] = WeakSet()
        self._lock = Lock()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Give a task to the executor."""
        future: Future[Any] = self._executor.submit(fn, *args, **kwargs)
        with self._lock:
            self._submitted.add(future)
        return future

    def give_up(self) -> None:
        """End every unfinished task as cancelled."""
        with self._lock:
            waiting = [future for future in self._submitted if not future.done()]
        for future in waiting:
            with suppress(InvalidStateError):  # it has just ended
                future.set_exception(CancelledError())


@contextmanager
def watched(executor: Executor, is_lost: Callable[[], bool]) -> Iterator[Executor]:
    """Give an executor whose tasks end with ``CancelledError`` once ``is_lost`` returns true."""
    # When a Dask scheduler goes away, futures whose results were in transfer never end.
    outer, ended = _Watched(executor), Event()

    def watch() -> None:
        while not ended.wait(0.5):
            if is_lost():
                outer.give_up()

    thread = Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield outer
    finally:
        ended.set()
        thread.join()


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 0xFFFF:
        raise ValueError("write dask://HOST:PORT")
    return host.removeprefix("[").removesuffix("]"), int(port)


@contextmanager
def _mpi() -> Iterator[Executor]:
    try:
        from mpi4py.futures import MPIPoolExecutor
    except (ImportError, RuntimeError):  # the latter if there is no MPI library
        raise UserError(
            "not installed", "pip install 'omidbfs[mpi]' (needs an MPI library)", place="--executor mpi"
        ) from None
    with MPIPoolExecutor() as executor:
        yield executor


def in_order(
    executor: Executor | None,
    workers: int,
    work: Callable[[_Task], _Result],
    tasks: Iterable[_Task],
    *,
    takes_long: bool = False,
) -> Iterator[_Result]:
    """Yield ``work(task)`` for each task, in order, with few tasks submitted ahead.

    With local processes this process works too. It begins alone, and starts the others when the rest is worth it,
    or at once if each task ``takes_long``.

    Raises
    ------
    UserError
        A local worker was killed.
    """
    tasks = list(tasks)
    if executor is None or len(tasks) == 1:  # one task is not worth starting workers
        with _few_collections():
            yield from map(work, tasks)
        return
    try:
        if isinstance(executor, _Pool):  # a pool ends with its processes, and fails on cancelled futures
            with _few_collections():
                yield from _together(executor, workers, work, tasks, takes_long=takes_long)
        else:
            yield from _handed_out(executor, workers, work, tasks)
    except BrokenProcessPool:
        raise UserError("a worker process was killed, maybe for lack of memory", "try fewer --workers") from None


def _handed_out(
    executor: Executor, workers: int, work: Callable[[_Task], _Result], tasks: Sequence[_Task]
) -> Iterator[_Result]:
    waiting: deque[Future[_Result]] = deque()
    try:
        for task in tasks:
            waiting.append(executor.submit(work, task))
            if len(waiting) > _AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _together(
    pool: "_Pool",
    workers: int,
    work: Callable[[_Task], _Result],
    tasks: Sequence[_Task],
    *,
    takes_long: bool,
) -> Iterator[_Result]:
    """Do tasks in this process and in those of a pool, each the next that nobody has.

    Towards the end the pool gets no more than its share, so that all end at about the same time.
    """
    left, waiting = deque(tasks), deque[Future[_Result]]()
    weight, done, start = sum(map(_weight, tasks)), 0, time.monotonic()
    while left or waiting:
        seconds = (time.monotonic() - start) / done * (weight - done) if done else 0.0
        if pool.is_started or takes_long or seconds > WORTH_STARTING:
            handed_out = sum(not future.done() for future in waiting)
            share = (len(left) + handed_out) * (workers - 1) // workers
            while left and handed_out < min(_AHEAD * (workers - 1), share):
                waiting.append(pool.submit(work, left.popleft()))
                handed_out += 1
        while waiting and waiting[0].done():
            yield waiting.popleft().result()
        if left and len(waiting) < 2 * _AHEAD * workers:
            task = left.popleft()
            here: Future[_Result] = Future()
            here.set_result(work(task))
            waiting.append(here)
            done += _weight(task)
        elif waiting:
            yield waiting.popleft().result()


def _weight(task: object) -> int:
    return len(task) if isinstance(task, Sized) else 1


@contextmanager
def _few_collections() -> Iterator[None]:
    """Collect garbage less often: see :func:`_start_worker`."""
    before = gc.get_threshold()
    gc.set_threshold(_OBJECTS)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _start_worker() -> None:
    """Prepare a worker: ignore Ctrl-C, end with the parent process, and collect garbage less often."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()
    # Reading makes hardly any reference cycles but very many objects. By default Python would search them for
    # cycles after every 700, which takes 5 % of the time. Cycles that pydicom leaves are still found.
    gc.freeze()
    gc.set_threshold(_OBJECTS)


def _end_with_parent() -> None:
    """End this process when its parent process has ended for any reason."""
    parent = parent_process()
    assert parent is not None, "this is a worker"
    parent.join()
    os._exit(1)
