"""Executors: clients are read in this process, in local processes, or on a cluster, all through one interface.

Sessions choose an executor, and ``build.py`` gives it tasks from one thread.
"""

import gc
import os
import signal
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Executor, Future, InvalidStateError, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
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

_PATIENCE = 10.0
"""Seconds that a scheduler may take to answer."""


@dataclass(frozen=True, slots=True)
class Work:
    """How work is done: the executor (``None``: this process), its number of workers, and a report of progress."""

    executor: Executor | None = None
    workers: int = 1
    progress: Progress | None = None


def available_cpus() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))


@contextmanager
def executor_for(name: str, workers: int) -> Iterator[Executor | None]:
    """Give the executor that ``name`` stands for, or ``None`` to do the work in this process.

    Parameters
    ----------
    name
        ``local``, ``dask://HOST:PORT`` (a running scheduler; extra ``dask``) or ``mpi`` (under ``mpirun``; extra
        ``mpi``).
    workers
        Processes of ``local``; one is this process itself.

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
            # spawn: a fork would copy a process that may hold a mount, threads and locks.
            with _held_back():
                pool = _Pool(workers, mp_context=get_context("spawn"), initializer=_start_worker)
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


class _Pool(ProcessPoolExecutor):
    """Local processes that block signals to the whole group, and that can be killed at any moment."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Give a task to the pool."""
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
    executor: Executor | None, workers: int, work: Callable[[_Task], _Result], tasks: Iterable[_Task]
) -> Iterator[_Result]:
    """Yield ``work(task)`` for each task, in order, with few tasks submitted ahead.

    Raises
    ------
    UserError
        A local worker was killed.
    """
    tasks = list(tasks)
    if executor is None or len(tasks) == 1:  # one task is not worth starting workers
        yield from map(work, tasks)
        return
    waiting: deque[Future[_Result]] = deque()
    try:
        for task in tasks:
            waiting.append(executor.submit(work, task))
            if len(waiting) > _AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise UserError("a worker process was killed, maybe for lack of memory", "try fewer --workers") from None
    finally:
        if not isinstance(executor, _Pool):  # a pool ends with its processes, and fails on cancelled futures
            for future in waiting:
                future.cancel()


def _start_worker() -> None:
    """Prepare a worker: ignore Ctrl-C, end with the parent process, and collect garbage less often."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()
    # Reading makes hardly any reference cycles but very many objects. By default Python would search them for
    # cycles after every 700, which takes 5 % of the time. Cycles that pydicom leaves are still found.
    gc.freeze()
    gc.set_threshold(100_000)


def _end_with_parent() -> None:
    """End this process when its parent process has ended for any reason."""
    parent = parent_process()
    assert parent is not None, "this is a worker"
    parent.join()
    os._exit(1)
