"""The worker processes of a drive that make renditions: starts them, asks them, and ends them.

Used by ``renditions``, in the loop of the drive. A worker (``pixels/worker.py``) is started when one is needed and
none is idle. One that dies, hangs or needs too much memory is replaced. None outlives the drive.
"""

import errno
import logging
import os
import subprocess
from collections.abc import Sequence
from contextlib import suppress

import msgspec
import trio

from omidbfs.base.process import available_cpus
from omidbfs.pixels.apart import DIED, TOO_SLOW, Process, patience
from omidbfs.pixels.errors import OUT_OF_MEMORY
from omidbfs.pixels.worker import Answer, Request

log = logging.getLogger(__name__)

DESCRIPTORS = 6
"""Descriptors of the drive for each of ``most`` workers, and for another that takes long: both have a socket, a
pipe, and the file that they write."""

_LONG = 5.0
"""Seconds after which a request no longer counts as one of those that are worked on, so that another may begin."""
_IDLE = 120.0
"""Seconds after which an idle worker is ended."""
_MOST_LEFT = 8
"""The largest number of processes that do not end, and may be left behind. After that, none is started."""
_ENDING = 5.0
"""Seconds that the drive waits for its workers when it ends."""


class _Worker(Process):
    """A process of a drive; ``since`` is when it began with a request, or ended it."""

    __slots__ = ("answered", "is_started", "since")

    def __init__(self, command: Sequence[str]) -> None:
        super().__init__(command)
        self.connection.setblocking(False)
        self.is_started = False
        self.answered = 0
        self.since = 0.0

    async def ask(self, request: Request, descriptors: list[int]) -> Answer:
        """Return the answer to a request; errors are those of :meth:`received`."""
        self.since = trio.current_time()
        self.send(request, descriptors)
        if not self.is_started:
            await trio.lowlevel.wait_readable(self.connection)
            self.received()
            self.is_started = True
        await trio.lowlevel.wait_readable(self.connection)
        answer = self.received()
        self.answered += 1
        return answer


class Workers:
    """The workers of one drive: no more than ``most`` work at the same time. Other requests wait in order.

    A few files may take a minute each, and must not hold up all others. So a request that has taken long no longer
    counts, and another begins. No more than ``largest`` processes work at the same time, with these.

    ``command`` is that of :class:`~omidbfs.pixels.apart.Process`.
    """

    def __init__(self, most: int | None = None, command: Sequence[str] = ()) -> None:
        self.most = most or available_cpus()
        self.largest = 2 * self.most
        self._command = command
        self._limiter = trio.CapacityLimiter(self.most)
        self._all: set[_Worker] = set()
        self._idle: list[_Worker] = []
        self._ending: list[subprocess.Popen[bytes]] = []
        self._is_stopped = False

    async def run(self, request: Request, source: int, target: int | None = None) -> Answer:
        """Let a worker make a rendition of the DICOM file ``source`` in the empty file ``target``.

        Without ``target``, nothing is made, and the answer has a ``header`` only if the rendition is a header and
        the file's own bytes.

        A worker may fail because of an earlier file. If one fails that has answered before, a new worker repeats
        the request, once.

        Raises
        ------
        OSError
            No worker can be started: EAGAIN, ENOMEM, EMFILE. EINTR: :meth:`stop` was called.
        """
        async with self._limiter:
            worker = self._idle.pop() if self._idle else await self._start()
            is_new = worker.answered == 0
            descriptors = [source] if target is None else [source, target]
            answer = await self._asked(worker, request, descriptors)
            if is_new or answer.problem not in (DIED, OUT_OF_MEMORY):
                return answer
            if target is not None:
                os.ftruncate(target, 0)
                os.lseek(target, 0, os.SEEK_SET)
            return await self._asked(await self._start(), request, descriptors)

    async def _asked(self, worker: _Worker, request: Request, descriptors: list[int]) -> Answer:
        answer: Answer | None = None
        try:
            with trio.move_on_after(patience(request)) as waiting:
                answer = await worker.ask(request, descriptors)
        except (OSError, msgspec.MsgspecError):
            answer = Answer(DIED)
        finally:  # also if this task is cancelled
            if answer is None or answer.problem in (DIED, OUT_OF_MEMORY):
                self._end(worker)
            else:
                worker.since = trio.current_time()
                self._idle.append(worker)
        if self._is_stopped:
            raise _stopped()
        assert answer is not None or waiting.cancelled_caught
        return answer or Answer(TOO_SLOW)

    async def _start(self) -> _Worker:
        if self._is_stopped:
            raise _stopped()
        self._reap()
        if len(self._ending) >= self.largest + _MOST_LEFT:
            raise OSError(errno.EAGAIN, "processes do not end")
        try:
            worker = await trio.to_thread.run_sync(_Worker, self._command)
        except RuntimeError as error:  # "can't start new thread"
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from error
        worker.since = trio.current_time()
        self._all.add(worker)
        return worker

    def _end(self, worker: _Worker) -> None:
        self._all.discard(worker)
        worker.end()
        self._ending.append(worker.process)

    def _reap(self) -> None:
        self._ending = [process for process in self._ending if process.poll() is None]

    def processes(self) -> list[int]:
        """Return the numbers of the worker processes."""
        return sorted(worker.process.pid for worker in self._all)

    def review(self) -> None:
        """End workers that are idle for long, and count those busy for long. To be called about once a second."""
        now = trio.current_time()
        for worker in [worker for worker in self._idle if worker.since < now - _IDLE]:
            self._idle.remove(worker)
            self._end(worker)
        long = sum(worker.since < now - _LONG for worker in self._all.difference(self._idle))
        self._limiter.total_tokens = min(self.most + long, self.largest)
        self._reap()

    def stop(self) -> None:
        """End all workers, and start none. Requests in progress end with EINTR."""
        self._is_stopped = True
        self._idle.clear()
        for worker in [*self._all]:
            with suppress(OSError):
                worker.process.kill()

    def forsake(self) -> None:
        """Close what a process inherited by fork(2) of the workers of its parent, which stay at work for that."""
        for worker in self._all:
            worker.forsake()
        self._all.clear()
        self._idle.clear()

    def close(self) -> None:
        """End all workers, and wait a moment until they have ended. No request may follow."""
        self.stop()
        for worker in [*self._all]:
            self._end(worker)
        for process in self._ending:
            with suppress(subprocess.TimeoutExpired):
                process.wait(_ENDING)
        self._reap()
        if self._ending:
            log.warning("processes that made renditions wait for a disk and are left behind")


def _stopped() -> OSError:
    return OSError(errno.EINTR, "the drive ends")
