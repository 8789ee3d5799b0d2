"""The disks below a drive: the threads that wait for them, the number of open files, and the log of problems.

Used by the drive, in its loop; calls to disks run in threads. A slow or dead disk must delay only its own readers.
So each disk has its own threads, and each file has a share of them.
"""

import errno
import logging
import math
import os
import resource
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import trio

from omidbfs.base.words import counted

if TYPE_CHECKING:
    from outcome import Outcome  # of trio

_THREADS = 32
"""Threads of one disk. 16 readers keep 32 requests in progress; further threads would wait for the interpreter."""
_SHARE = 8
"""Threads that one file may use at the same time."""
_STUCK = 5.0
"""Seconds after which a waiting thread is stuck, and does not count towards the limit of threads."""
_MOST_STUCK = 224
"""The largest number of threads of a disk that may be stuck without counting."""
_RESERVE = 64
"""Descriptors kept for the drive itself: trees, log, index, and the process that renews the index."""
_SILENCE = 60.0
"""Seconds for which the same line is not logged again."""

_Arguments = ParamSpec("_Arguments")
_Answer = TypeVar("_Answer")


class Rarely(logging.Filter):
    """Lets each line into the log at most once a minute, so that a failing disk does not fill the log."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._said: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to log a line. The next line that is logged tells how many were suppressed."""
        now, line = self._clock(), record.getMessage()
        when, kept_back = self._said.get(line, (-math.inf, 0))
        if now - when < _SILENCE:
            self._said[line] = (when, kept_back + 1)
            return False
        self._said[line] = (now, 0)
        if kept_back:
            record.msg = f"{line} ({counted(kept_back, 'more time')} since this was last said)"
            record.args = ()
        return True


complaints = logging.getLogger(f"{__name__}.complaints")
"""The logger of problems with the source or the limits of the drive. Its lines name no file."""
complaints.addFilter(Rarely())


def stale() -> OSError:
    """Return the error ESTALE: a node is gone, has another version, or is of another view. Look it up again."""
    return OSError(errno.ESTALE, os.strerror(errno.ESTALE))


class _Share:
    __slots__ = ("limiter", "users")

    def __init__(self) -> None:
        self.limiter = trio.CapacityLimiter(_SHARE)
        self.users = 0


class Threads:
    """Threads for calls that may take long: a bounded number in total, and a bounded number for each file.

    A call first waits in the queue of its file, and then in the queue of all files. So a file with a hundred slow
    reads delays others only by the few reads in progress. A call that does not return for seconds stops counting.
    So if some files of a disk hang, others can still be read.
    """

    def __init__(self) -> None:
        self._limiter = trio.CapacityLimiter(_THREADS)
        self._shares: dict[int, _Share] = {}
        self._started: dict[object, float] = {}

    async def run(
        self, file: int, call: Callable[_Arguments, _Answer], *args: _Arguments.args, **kwargs: _Arguments.kwargs
    ) -> _Answer:
        """Return the result of ``call``. A task that is cancelled does not wait for the call.

        Raises
        ------
        OSError
            EAGAIN: the system cannot start another thread. Otherwise as ``call``.
        """
        share = self._shares.get(file)
        if share is None:
            share = self._shares[file] = _Share()
        share.users += 1
        number = object()
        try:
            await _enter(share.limiter)
            try:
                await _enter(self._limiter)
                try:
                    self._started[number] = trio.current_time()
                    return await _in_thread(lambda: call(*args, **kwargs))
                finally:
                    self._limiter.release()
            finally:
                share.limiter.release()
        except RuntimeError as error:  # "can't start new thread"
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from error
        finally:
            self._started.pop(number, None)
            share.users -= 1
            if not share.users:
                del self._shares[file]

    def review(self) -> int:
        """Stop counting calls that are stuck, and return their number. To be called about once a second."""
        limit = trio.current_time() - _STUCK
        stuck = sum(started < limit for started in self._started.values())
        self._limiter.total_tokens = _THREADS + min(stuck, _MOST_STUCK)
        return stuck


async def _enter(limiter: trio.CapacityLimiter) -> None:
    """Acquire a limiter. Unlike ``acquire`` this does not give every other task a turn if there is room."""
    try:
        limiter.acquire_nowait()
    except trio.WouldBlock:
        await limiter.acquire()


async def _in_thread(call: Callable[[], _Answer]) -> _Answer:
    """Return the result of a call in one of trio's threads. A task that is cancelled does not wait for the call.

    ``trio.to_thread.run_sync`` takes twice the time: it also limits and names threads, and copies contexts.

    Raises
    ------
    RuntimeError
        The system cannot start another thread. Otherwise as ``call``.
    """
    await trio.lowlevel.checkpoint_if_cancelled()
    waiting, token = [trio.lowlevel.current_task()], trio.lowlevel.current_trio_token()

    def resume(result: "Outcome[_Answer]") -> None:
        if waiting:
            trio.lowlevel.reschedule(waiting.pop(), result)

    def deliver(result: "Outcome[_Answer]") -> None:
        with suppress(trio.RunFinishedError):  # the drive has ended
            token.run_sync_soon(resume, result)

    def abandon(_: object) -> trio.lowlevel.Abort:
        waiting.clear()
        return trio.lowlevel.Abort.SUCCEEDED

    trio.lowlevel.start_thread_soon(call, deliver)
    answer: _Answer = await trio.lowlevel.wait_task_rescheduled(abandon)
    return answer


class Disk:
    """One file system of the source. ``at_once`` says that reads can return only what the page cache holds."""

    __slots__ = ("at_once", "threads")

    def __init__(self, *, at_once: bool) -> None:
        self.at_once = at_once
        self.threads = Threads()


class Disks:
    """All disks of a drive, by device number, and the number of files open on them.

    ``readahead`` is the number of bytes to request in advance when a file is read sequentially; 0 for none.
    ``reserved`` is the number of descriptors that files cannot have: those of the spool and of workers.
    """

    def __init__(self, readahead: int = 0, reserved: int = 0) -> None:
        self.readahead = readahead
        self.open_files = 0
        self._disks: dict[int, Disk] = {}
        self._others: dict[object, Threads] = {}
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.most_open_files = max(hard - _RESERVE - reserved, 1) if hard != resource.RLIM_INFINITY else 1 << 20

    def disk(self, device: int, *, local: bool) -> Disk:
        """Return the disk of a device number."""
        disk = self._disks.get(device)
        if disk is None:
            disk = self._disks[device] = Disk(at_once=local)
        return disk

    def threads(self, purpose: object) -> Threads:
        """Return threads for a purpose, for calls whose disk is not known yet."""
        return self._others.setdefault(purpose, Threads())

    def count_open(self) -> None:
        """Count a file that is about to be opened.

        Raises
        ------
        OSError
            EMFILE: the limit of open files is reached. Further descriptors are kept for the drive itself.
        """
        if self.open_files >= self.most_open_files:
            complaints.warning(
                "%d files are open, and no more can be: raise the limit of the process (ulimit -n, LimitNOFILE=)",
                self.most_open_files,
            )
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        self.open_files += 1

    def review(self) -> None:
        """Review the threads of all disks, and log if any are stuck."""
        threads = [*(disk.threads for disk in self._disks.values()), *self._others.values()]
        if sum([each.review() for each in threads]):
            complaints.warning(
                "a disk of the source has not answered for %d seconds; the drive waits for it", _STUCK
            )
