"""The part of pyfuse3's loop that waits for requests, made to look first whether one is already there.

Used by ``daemon`` and by the null file system of the benchmarks. Everything here runs in the thread of trio.

For each request, pyfuse3 takes a lock, has trio ask epoll, and parks its task. A program that opens one file after
the other sends its next request within microseconds of an answer. Most of its time then goes into putting the task
to sleep and waking it up. :func:`install` puts :class:`Waiting` in the place of pyfuse3's global ``trio``, as
``pyfuse3.asyncio`` does. It polls the descriptor for a moment before it parks, and does not hand the lock on for
each request. ``scripts/bench drive`` measures what that gives.
"""

import mmap
import os
import select
from contextvars import ContextVar
from functools import partial
from importlib.util import find_spec
from time import perf_counter_ns

import pyfuse3
import trio

PATIENCE = 20_000
"""Nanoseconds for which the next request is polled for after an answer."""
IN_A_ROW = 64
"""Requests that are answered before every other task gets a turn."""
BUFFER = (1 << 20) + (1 << 16)
"""Bytes that libfuse allocates for the requests of each task, or a little more."""
PAUSE = 0.05
"""Seconds after which a task without a buffer looks again for memory."""


class Reserve:
    """Memory for the buffer that a new task of pyfuse3 allocates with its first request.

    pyfuse3 ends the mount if that fails. So a new task waits until there is a reserve. Tasks that have a
    buffer go on. The reserve is released just before the task allocates.
    """

    def __init__(self) -> None:
        self._memory: mmap.mmap | None = None
        self._task: ContextVar[object] = ContextVar("task")  # a new task has the context of another one

    def is_there(self) -> bool:
        """Return whether the current task has a buffer, or there is memory for one."""
        if self._task.get(None) is trio.lowlevel.current_task() or self._memory is not None:
            return True
        try:
            # Pages that nobody touches: libfuse gets this room, and would keep pages that were written to.
            self._memory = mmap.mmap(-1, BUFFER)
        except (OSError, MemoryError):
            return False
        return True

    def release(self) -> None:
        """Make room for the buffer of the current task, unless it has one."""
        task = trio.lowlevel.current_task()
        if self._task.get(None) is not task:
            self._task.set(task)
            if self._memory is not None:
                self._memory.close()
            self._memory = None


class Lock:
    """A lock that a task may take again before the tasks that wait for it: what pyfuse3 uses of ``trio.Lock``.

    ``trio.Lock`` belongs to the next waiter as soon as it is released: that costs two changes of task for each
    request. Here a waiter is woken, and waits again if the lock is taken by then. Fairness: :data:`IN_A_ROW`.
    A task that has neither a buffer nor memory for one does not get the lock.
    """

    def __init__(self, reserve: Reserve) -> None:
        self._is_held = False
        self._reserve = reserve
        self._waiting = trio.lowlevel.ParkingLot()

    async def __aenter__(self) -> None:
        while True:
            if self._is_held:
                await self._waiting.park()
            elif self._reserve.is_there():
                break
            else:
                self._waiting.unpark()  # the lock is free: another waiter may have a buffer
                await trio.sleep(PAUSE)
        self._is_held = True

    async def __aexit__(self, *exception: object) -> None:
        self._is_held = False
        self._waiting.unpark()


class LowLevel:
    """``trio.lowlevel`` with another :meth:`wait_readable`.

    ``patience`` is as :data:`PATIENCE`. The default is 0 where the process has one processor: the program that
    asks needs it.
    """

    def __init__(self, reserve: Reserve, patience: int | None = None) -> None:
        self._reserve = reserve
        alone = len(os.sched_getaffinity(0)) == 1
        self._patience = patience if patience is not None else 0 if alone else PATIENCE
        self._polls: dict[int, select.poll] = {}
        self._in_a_row = IN_A_ROW

    def __getattr__(self, name: str) -> object:
        return getattr(trio.lowlevel, name)

    async def wait_readable(self, descriptor: int) -> None:
        """Return when a request is there; every other task gets a turn after :data:`IN_A_ROW` of them.

        Raises
        ------
        trio.ClosedResourceError
            Somebody closes the descriptor.
        """
        if self._in_a_row < IN_A_ROW and self._is_readable(descriptor):
            self._in_a_row += 1
        else:
            self._in_a_row = 0
            await trio.lowlevel.wait_readable(descriptor)
        self._reserve.release()

    def _is_readable(self, descriptor: int) -> bool:
        try:
            poll = self._polls.get(descriptor)
            if poll is None:
                poll = self._polls[descriptor] = select.poll()
                poll.register(descriptor, select.POLLIN)
            if poll.poll(0):
                return True
            end = perf_counter_ns() + self._patience
            while perf_counter_ns() < end:
                if poll.poll(0):
                    return True
        except (OSError, MemoryError):
            pass  # an exception would end the mount; trio waits as well
        return False


class Waiting:
    """``trio`` as pyfuse3 is to see it."""

    def __init__(self) -> None:
        reserve = Reserve()
        self.Lock = partial(Lock, reserve)
        self.lowlevel = LowLevel(reserve)

    def __getattr__(self, name: str) -> object:
        return getattr(trio, name)


def install() -> bool:
    """Have pyfuse3 wait in this way; return whether its version allows that.

    A version does while it takes ``trio`` from a global of its module, as its own ``pyfuse3.asyncio`` needs it to.
    """
    if not is_installed() and getattr(pyfuse3, "trio", None) is trio and find_spec("pyfuse3.asyncio") is not None:
        pyfuse3.trio = Waiting()  # type: ignore[attr-defined]
    return is_installed()


def is_installed() -> bool:
    """Return whether pyfuse3 waits in this way."""
    return isinstance(getattr(pyfuse3, "trio", None), Waiting)
