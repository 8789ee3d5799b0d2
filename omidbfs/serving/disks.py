"""The disks below a drive: the threads that wait for them, how many files are open, and what is logged of them.

Used by the drive, in its loop, but for what runs in the threads. A disk that is slow or dead must delay only those
who wait for it. So each disk has its own threads, and each file its share of them.
"""

import errno
import logging
import math
import os
import resource
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import trio

from omidbfs.base.words import counted
from omidbfs.serving.spool import MOST_FILES

_THREADS = 32
"""At once for one disk: 16 readers keep 32 requests under way, and more only wait for the interpreter."""
_SHARE = 8
"""Threads at once for one file."""
_STUCK = 5.0
"""Seconds after which a thread that is still waiting does not count any more."""
_MOST_STUCK = 224
"""How many of a disk's threads may be stuck before the others have to wait for them."""
_RESERVE = 64 + MOST_FILES
"""Descriptors that are kept for the drive itself: trees, log, index, the process that renews it, and the spool."""
_SILENCE = 60.0
"""Seconds in which the same thing is not said again."""

_Arguments = ParamSpec("_Arguments")
_Answer = TypeVar("_Answer")


class Rarely(logging.Filter):
    """Lets each line into the log at most once a minute: a failing disk must not fill it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._said: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to log; a line that was kept back tells how often."""
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
"""What is wrong with the source, or with the limits of the drive, in lines that name no file."""
complaints.addFilter(Rarely())


class _Share:
    __slots__ = ("limiter", "users")

    def __init__(self) -> None:
        self.limiter = trio.CapacityLimiter(_SHARE)
        self.users = 0


class Threads:
    """Threads for calls that may take long, a bounded number, and of these a bounded number for each file.

    A file waits in its own queue until it has a share, and all files together in the order in which they come:
    one with a hundred slow reads delays another by the few that are under way. A call that does not come back for
    seconds stops counting: where some files of a disk hang, the others go on.
    """

    def __init__(self) -> None:
        self._limiter = trio.CapacityLimiter(_THREADS)
        self._unlimited = trio.CapacityLimiter(math.inf)
        self._shares: dict[int, _Share] = {}
        self._started: dict[object, float] = {}

    async def run(
        self, file: int, call: Callable[_Arguments, _Answer], *args: _Arguments.args, **kwargs: _Arguments.kwargs
    ) -> _Answer:
        """Return what ``call`` returns; a cancelled task does not wait for it.

        Raises
        ------
        OSError
            EAGAIN: the system gives no further thread. Or whatever ``call`` raises.
        """
        share = self._shares.get(file)
        if share is None:
            share = self._shares[file] = _Share()
        share.users += 1
        number = object()
        try:
            async with share.limiter, self._limiter:
                self._started[number] = trio.current_time()
                return await trio.to_thread.run_sync(
                    lambda: call(*args, **kwargs), limiter=self._unlimited, abandon_on_cancel=True
                )
        except RuntimeError as error:  # "can't start new thread"
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from error
        finally:
            self._started.pop(number, None)
            share.users -= 1
            if not share.users:
                del self._shares[file]

    def review(self) -> int:
        """Make room for those who wait behind calls that are stuck; return how many are. Call it now and then."""
        limit = trio.current_time() - _STUCK
        stuck = sum(started < limit for started in self._started.values())
        self._limiter.total_tokens = _THREADS + min(stuck, _MOST_STUCK)
        return stuck


class Disk:
    """One file system of the source; ``at_once``: what the page cache holds can be had without waiting."""

    __slots__ = ("at_once", "threads")

    def __init__(self, *, at_once: bool) -> None:
        self.at_once = at_once
        self.threads = Threads()


class Disks:
    """All disks of a drive, by device number, and the number of files open on them.

    ``readahead`` is the number of bytes to ask a disk for in advance, where somebody reads a file from one end to
    the other; 0 for none.
    """

    def __init__(self, readahead: int = 0) -> None:
        self.readahead = readahead
        self.open_files = 0
        self._disks: dict[int, Disk] = {}
        self._others: dict[object, Threads] = {}
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.most_open_files = max(hard - _RESERVE, 1) if hard != resource.RLIM_INFINITY else 1 << 20

    def disk(self, device: int, *, local: bool) -> Disk:
        """Return the disk of a device number."""
        disk = self._disks.get(device)
        if disk is None:
            disk = self._disks[device] = Disk(at_once=local)
        return disk

    def threads(self, purpose: object) -> Threads:
        """Return threads for what is done before it is known on which disk it is."""
        return self._others.setdefault(purpose, Threads())

    def count_open(self) -> None:
        """Count a file that is about to be opened.

        Raises
        ------
        OSError
            EMFILE: no further file can be open; what is left is kept for the drive itself.
        """
        if self.open_files >= self.most_open_files:
            complaints.warning(
                "%d files are open, and no more can be: raise the limit of the process (ulimit -n, LimitNOFILE=)",
                self.most_open_files,
            )
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        self.open_files += 1

    def review(self) -> None:
        """Look after threads that are stuck."""
        threads = [*(disk.threads for disk in self._disks.values()), *self._others.values()]
        if sum([each.review() for each in threads]):
            complaints.warning(
                "a disk of the source has not answered for %d seconds; the drive waits for it", _STUCK
            )
