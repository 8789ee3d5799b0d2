"""Runs processes and threads that may wait for a dead disk. Watches them, gives them up, and limits their number.

Used by the refresher, in the loop of the drive. Nothing can end a process or thread that waits for such a disk. So
it is left behind, and counted.
"""

import logging
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar, TypeVarTuple

import trio

from omidbfs.base.errors import UserError
from omidbfs.base.process import life
from omidbfs.serving.stuck import Seen, are_stuck, thread_of_ours, threads_of

log = logging.getLogger(__name__)

_Arguments = TypeVarTuple("_Arguments")
_Answer = TypeVar("_Answer")

_PATIENCE = 5.0
"""Seconds that a process gets to end after a signal."""
_STUCK = 120.0
"""Seconds after which a process or thread that only waits for a disk is given up, as long as the kernel's own."""
_MOST_LEFT = 3
"""The largest number of processes, and of threads, that may be left behind. After that, none is started."""


class Patience:
    """Runs processes and threads, and counts those that were left behind."""

    def __init__(self) -> None:
        self._left: list[trio.Process] = []
        self._asking = trio.CapacityLimiter(_MOST_LEFT)
        self._is_asking = False

    def stuck(self) -> int:
        """Return how many processes and threads were left behind and have not ended."""
        return len(self._left) + self._asking.borrowed_tokens - self._is_asking

    async def run(self, command: list[str]) -> tuple[int, bytes, bytes]:
        """Run a process; return its exit status, its standard output and its standard error.

        Unlike ``trio.run_process`` this does not wait for ever for a process that waits for a dead disk, even if
        the task is cancelled. A process that cannot be killed is left behind. The number of
        :func:`~omidbfs.base.process.life` is appended to the command.

        Raises
        ------
        UserError
            The process was given up, or too many processes are left behind.
        """
        self._left = [process for process in self._left if await _is_there(process)]
        if len(self._left) >= _MOST_LEFT:
            raise UserError(
                f"{len(self._left)} processes of earlier refreshes still wait for a disk that does not answer; "
                "no other is started before one of them has ended"
            )
        with life() as its_life:
            # In a new process group, so that the process can be ended together with its workers.
            process = await trio.lowlevel.open_process(
                [*command, str(its_life)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                pass_fds=(its_life,),
            )
            return await self._ended(process)

    async def _ended(self, process: trio.Process) -> tuple[int, bytes, bytes]:
        texts = bytearray(), bytearray()

        async def collect(stream: trio.abc.ReceiveStream, text: bytearray) -> None:
            async for part in stream:
                text += part

        has_ended = False
        try:
            async with trio.open_nursery() as watched:
                watched.start_soon(_give_up_when_stuck, process, watched.cancel_scope)
                async with trio.open_nursery() as nursery:
                    for stream, text in zip((process.stdout, process.stderr), texts, strict=True):
                        assert stream is not None
                        nursery.start_soon(collect, stream, text)
                    status = await process.wait()
                has_ended = True
                watched.cancel_scope.cancel()
        finally:
            if not has_ended:
                with trio.CancelScope(shield=True):
                    if not await _is_ended(process):
                        self._left.append(process)
        if not has_ended:
            raise _no_answer()
        return status, bytes(texts[0]), bytes(texts[1])

    async def asked(self, call: Callable[[*_Arguments], _Answer], *args: *_Arguments) -> _Answer:
        """Return the answer of a call that may wait for a disk. The call runs in a thread.

        Raises
        ------
        UserError
            The disk does not answer. The thread is left behind.
        """
        thread: list[int] = []

        def asked() -> _Answer:
            thread.append(threading.get_native_id())
            return call(*args)

        answers: list[_Answer] = []
        problem: Exception = _no_answer()
        self._is_asking = True
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_give_up_when_thread_is_stuck, thread, nursery.cancel_scope)
                try:
                    answers.append(
                        await trio.to_thread.run_sync(asked, limiter=self._asking, abandon_on_cancel=True)
                    )
                except Exception as error:  # raised below, because a nursery would raise an exception group
                    problem = error
                nursery.cancel_scope.cancel()
        finally:
            self._is_asking = False
        if not answers:
            raise problem
        return answers[0]


async def _give_up_when_stuck(process: trio.Process, scope: trio.CancelScope) -> None:
    before = await trio.to_thread.run_sync(threads_of, process.pid)
    while True:
        await trio.sleep(_STUCK)
        now = await trio.to_thread.run_sync(threads_of, process.pid)
        if are_stuck(before, now):
            scope.cancel()
        before = now


async def _is_ended(process: trio.Process) -> bool:
    """End a process and its children; return whether they have ended."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with trio.move_on_after(_PATIENCE):
            await process.wait()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its remaining children
            while await _is_there(process):
                await trio.sleep(_PATIENCE / 100)
            return True
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            await stream.aclose()
    log.warning("the process that renews the index does not end; it is left behind")
    return False


async def _is_there(process: trio.Process) -> bool:
    """Return whether a process or any of its children exists."""
    return process.returncode is None or bool(await trio.to_thread.run_sync(threads_of, process.pid))


async def _give_up_when_thread_is_stuck(thread: list[int], scope: trio.CancelScope) -> None:
    """Cancel a scope when a thread of this process waits for a disk and does nothing else.

    ``thread`` has its number as soon as it runs. A thread that makes progress, however slow, may go on.
    """
    before: Seen = {}
    while True:
        await trio.sleep(_STUCK)
        now = thread_of_ours(thread[0]) if thread else {}
        if not thread or are_stuck(before, now):
            scope.cancel()
        before = now


def _no_answer() -> UserError:
    return UserError(f"a disk has not answered for {_STUCK:.0f} seconds; the refresh was given up")
