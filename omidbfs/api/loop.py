"""The loop of a drive in a thread of its own, for programs that have no such loop.

``opened`` starts it, if something has to be read that the loop makes. Any thread may call it.
"""

import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import ParamSpec, TypeVar

import trio

from omidbfs.serving.disks import stale
from omidbfs.serving.drive import Drive
from omidbfs.serving.opened import Opened

_Arguments = ParamSpec("_Arguments")
_Answer = TypeVar("_Answer")

_ENDING = 5.0
"""Seconds in which the loop has to end. It may wait for a disk."""


class Loop:
    """Runs the loop of a drive in a thread, which ends with the program.

    Raises
    ------
    OSError
        The loop cannot start: too many files are open.
    """

    def __init__(self, drive: Drive) -> None:
        self._drive = drive
        self._process = os.getpid()
        self._scope = trio.CancelScope()
        self._last: list[Callable[[], None]] = []
        started: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(started,), name="omidbfs", daemon=True)
        self._thread.start()
        started.result()

    def _run(self, started: Future[None]) -> None:
        try:
            trio.run(self._serve, started)
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)
        finally:
            self._finish()

    async def _serve(self, started: Future[None]) -> None:
        self._token = trio.lowlevel.current_trio_token()
        with self._scope:
            async with trio.open_nursery() as self._nursery:
                started.set_result(None)
                await self._review()

    async def _review(self) -> None:
        while True:
            await trio.sleep(1)
            self._drive.review()

    def end(self, last: Callable[[], None]) -> None:
        """End the loop, wait a moment for its thread, and have a function called then. No call may follow.

        A garbage collection may call this in the thread itself, which then calls the function at its end.
        """
        self._last.append(last)
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._scope.cancel)
        if threading.current_thread() is not self._thread:
            self._thread.join(_ENDING)
            self._finish()

    def _finish(self) -> None:
        try:
            last = self._last.pop()
        except IndexError:
            return  # the other thread calls it
        last()

    def call(
        self,
        function: Callable[_Arguments, Awaitable[_Answer]],
        *args: _Arguments.args,
        **kwargs: _Arguments.kwargs,
    ) -> _Answer:
        """Return what an asynchronous function of the drive returns. Never call this in the loop itself.

        Raises
        ------
        OSError
            ESTALE: the loop runs in the process from which this one was forked, or has ended. Otherwise as the
            function.
        """
        if self._process != os.getpid():
            raise stale()  # a file that was opened before fork(2): the thread is in the other process
        answer: Future[_Answer] = Future()

        async def run() -> None:
            try:
                answer.set_result(await function(*args, **kwargs))
            except Exception as error:
                answer.set_exception(error)
            finally:
                answer.cancel()  # if the loop ends first, so that nobody waits for ever

        def begin() -> None:
            if not self._begin(run):
                answer.cancel()

        # Not trio.from_thread, which refuses to wait in the loop of another trio.run().
        try:
            self._token.run_sync_soon(begin)
            return answer.result()
        except (trio.RunFinishedError, CancelledError):
            raise stale() from None

    def _begin(self, run: Callable[[], Awaitable[None]]) -> bool:
        """Start a task; return ``False`` if the loop is ending, as it does when the program ends."""
        if self._scope.cancel_called:
            return False
        self._nursery.start_soon(run)
        return True

    def later(self, function: Callable[[Opened], Awaitable[None]], file: Opened) -> None:
        """Have a function of the drive called with a file, and do not wait for it. Any code may call this."""

        async def run() -> None:
            with suppress(OSError):  # a disk may complain when a file is closed, and nobody waits for that
                await function(file)

        if self._process == os.getpid():
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._begin, run)
