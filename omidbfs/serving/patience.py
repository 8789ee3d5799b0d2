"""Processes and threads that may come to wait for a disk that is dead: watched, given up, and few.

Used by the refresher, in the loop of the drive. Nothing can end what waits for such a disk, so it is left behind,
and what is left is counted.
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
from omidbfs.serving.stuck import Seen, are_stuck, thread_of_ours, threads_of

log = logging.getLogger(__name__)

_Arguments = TypeVarTuple("_Arguments")
_Answer = TypeVar("_Answer")

_PATIENCE = 5.0
"""Seconds that the process that renews the index gets to end by itself."""
_STUCK = 120.0
"""Seconds after which what waits for a disk, and does nothing else, is given up: as long as the kernel's own."""
_MOST_LEFT = 3
"""Processes, and threads, that may be left waiting for a disk: then no other is started that may come to."""


class Patience:
    """What was started and may wait for a disk, and what of it was left behind."""

    def __init__(self) -> None:
        self._left: list[trio.Process] = []
        self._asking = trio.CapacityLimiter(_MOST_LEFT)
        self._is_asking = False

    def stuck(self) -> int:
        """Return how many processes and threads were left behind and have not ended since."""
        return len(self._left) + self._asking.borrowed_tokens - self._is_asking

    async def run(self, command: list[str]) -> tuple[int, bytes, bytes]:
        """Run a process; return its exit status and what it wrote to standard output and standard error.

        Unlike ``trio.run_process`` it does not wait for ever, neither for a process that waits for a disk that
        does not answer, nor when it is cancelled: what cannot even be killed is left behind.

        Raises
        ------
        UserError
            It was given up, or too many are left behind.
        """
        self._left = [process for process in self._left if await _is_there(process)]
        if len(self._left) >= _MOST_LEFT:
            raise UserError(
                f"{len(self._left)} processes of earlier refreshes still wait for a disk that does not answer; "
                "no other is started before one of them has ended"
            )
        # In a group of its own, so that it can be ended together with its workers.
        process = await trio.lowlevel.open_process(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
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
        """Return the answer of a call that may have to wait for a disk.

        Raises
        ------
        UserError
            The disk does not answer; a thread is left waiting for it.
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
                except Exception as error:  # raised below: what a nursery raises is a group of them
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
    """End a process and whatever it has started; return whether it did end."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with trio.move_on_after(_PATIENCE):
            await process.wait()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # what it has started and has not ended with it
            while await _is_there(process):
                await trio.sleep(_PATIENCE / 100)
            return True
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            await stream.aclose()
    log.warning("the process that renews the index does not end; it is left behind")
    return False


async def _is_there(process: trio.Process) -> bool:
    """Return whether anything is left of a process and of what it has started."""
    return process.returncode is None or bool(await trio.to_thread.run_sync(threads_of, process.pid))


async def _give_up_when_thread_is_stuck(thread: list[int], scope: trio.CancelScope) -> None:
    """Cancel a scope when a thread of this process, as soon as it has a number, waits for a disk and for it alone.

    One that goes on, however slowly, is left to do so.
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
