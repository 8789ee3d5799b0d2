"""Keeping a drive up to date: another process renews the index, and the drive takes it over when that is done.

The process lists and reads the source, so that a slow or vanishing source holds up nobody who uses the drive, and
so that the drive's memory stays what it is. When it has written a new index, that is opened, the view over it
takes the place of the old one, and the kernel is told what changed.
"""

import gc
import json
import logging
import math
import os
import signal
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeVar, TypeVarTuple

import trio

from omidbfs.base.errors import UserError
from omidbfs.base.process import module_command
from omidbfs.base.words import counted
from omidbfs.database.records import FileFacts
from omidbfs.fuse.forgetting import tell_kernel
from omidbfs.fuse.operations import Operations
from omidbfs.index.store import IndexFileError, Stored
from omidbfs.serving import notify
from omidbfs.serving.changes import Changes, all_that_is_known, changes
from omidbfs.serving.configuration import trusted_definitions
from omidbfs.serving.continuity import continued
from omidbfs.serving.counters import Counters
from omidbfs.serving.reader import Reader
from omidbfs.serving.session import Session
from omidbfs.serving.stuck import Seen, are_stuck, thread_of_ours, threads_of
from omidbfs.view.about import renewed_status
from omidbfs.view.view import View

log = logging.getLogger(__name__)

_Arguments = TypeVarTuple("_Arguments")
_Answer = TypeVar("_Answer")

_TIME = "%Y-%m-%dT%H:%M:%SZ"
_PATIENCE = 5.0
"""Seconds that the process that renews the index gets to end by itself."""
_STUCK = 120.0
"""Seconds after which what waits for a disk, and does nothing else, is given up: as long as the kernel's own."""
_MOST_LEFT = 3
"""Processes, and threads, that may be left waiting for a disk: then no other is started that may come to."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """When to refresh, besides on SIGHUP: ``at_once`` after mounting, and ``every`` so many seconds."""

    at_once: bool = False
    every: float = math.inf


class Refresher:
    """Refreshes one drive. ``arguments`` make ``omidbfs`` bring its index up to date and say so in JSON."""

    def __init__(self, operations: Operations, session: Session, stored: Stored, arguments: Sequence[str]) -> None:
        self.operations = operations
        self._session = session
        self._stored = stored
        self._arguments = arguments
        self._wanted = trio.Event()
        self._state, self._since = "idle", _now()
        self._saying = trio.Lock()
        self._done = 0
        self._error: str | None = None
        self._started = _now()
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        # Of its own: threads that wait for a slow disk, to answer reads, must not keep it from telling the kernel.
        self._thread = trio.CapacityLimiter(1)
        self._asking = trio.CapacityLimiter(_MOST_LEFT)
        self._left: list[trio.Process] = []
        self._is_asking = False
        self._has_told = True

    async def run(self, schedule: Schedule) -> None:
        """Refresh when asked to, until :meth:`end`."""
        try:
            with self._scope:
                await self.operations.started.wait()
                if schedule.at_once:
                    self._wanted.set()
                while True:
                    with trio.move_on_after(schedule.every):
                        await self._wanted.wait()
                    self._wanted = trio.Event()
                    await self._refresh()
        finally:
            self._ended.set()

    async def end(self) -> None:
        """End it, and whatever it has started.

        The kernel must still be answered meanwhile: it may wait for that before it takes what it is being told.
        """
        self._scope.cancel()
        await self._ended.wait()

    async def on_signals(self, signals: AsyncIterator[int]) -> None:
        """Refresh on each signal."""
        async for _ in signals:
            self._wanted.set()

    async def report_on_signals(self, signals: AsyncIterator[int]) -> None:
        """Bring ``status.json`` up to date on each signal, counters and all."""
        async for _ in signals:
            self.operations.counters.reports += 1
            await self._say()

    def tell_ready(self) -> None:
        """Tell systemd what is shown."""
        index = self.operations.view.index
        failed = "; the last refresh failed" if self._state == "failed" else ""
        notify.tell(
            "READY=1", f"STATUS={counted(len(index), 'image')} of {counted(len(index.clients), 'client')}{failed}"
        )

    async def _enter(self, state: str) -> None:
        self._state, self._since = state, _now()
        if state == "refreshing":
            notify.tell_reloading("looking for changes")
        else:
            self.tell_ready()
        await self._say()

    async def _refresh(self) -> None:
        await self._enter("refreshing")
        try:
            seen = self.operations.view.files.found_changed()
            named = self._session.is_config_named
            definitions = await self._asked(lambda: trusted_definitions(self._session.config, is_named=named))
            session = replace(self._session, definitions=definitions)
            is_redefined = definitions != self._session.definitions
            # What was found changed at an open may be as it was again, while the index has not changed at all.
            if await self._bring_up_to_date() or seen or is_redefined or not self._has_told:
                await self._take_over(session, seen)
            await self.operations.pages.drop_open(self._current_open_files())
            self._error = None
        except (UserError, OSError) as error:
            self._error = str(error)
            log.warning("the refresh failed and the drive goes on as it was; .omidbfs/status.json says why")
        except Exception as error:  # a defect of ours must not end the mount
            self._error = f"{type(error).__name__}, a defect: please report it"
            log.exception("the refresh failed and the drive goes on as it was")
        # An exception that came out of a thread refers to itself, and to the view that was asked: without this an
        # old index would stay mapped until the collector comes round. What was there at the start is frozen.
        gc.collect()
        self._done += 1
        await self._enter("idle" if self._error is None else "failed")

    async def _bring_up_to_date(self) -> bool:
        """Have the index brought up to date; return whether it is another than the one that is shown.

        Raises
        ------
        UserError
            It cannot be done now.
        """
        self._left = [process for process in self._left if await _is_there(process)]
        if len(self._left) >= _MOST_LEFT:
            raise UserError(
                f"{len(self._left)} processes of earlier refreshes still wait for a disk that does not answer; "
                "no other is started before one of them has ended"
            )
        status, output, errors = await _run([*module_command("omidbfs.cli.renew"), *self._arguments], self._left)
        if status != 0:
            lines = errors.decode("utf-8", "replace").strip().splitlines()
            said = lines[-1].removeprefix("omidbfs: ") if lines else ""
            raise UserError(said or f"the process ended with status {status}")
        written: float = json.loads(output)["written"]
        return written != self._stored.written

    async def _take_over(self, session: Session, seen: Mapping[int, FileFacts]) -> None:
        """Show the saved index as ``session`` says; ``seen`` had been found changed before it was up to date."""
        operations, old = self.operations, self.operations.view
        # What the loop owns is read here: in the thread it might change meanwhile.
        stored, new, reader = await self._asked(self._opened, session, self._state_now())
        # From here to the first await nothing is answered: the kernel knows what it was told of the old view.
        known = operations.directories.paths()
        self._session, self._stored = session, stored
        new.files.continue_from(old.files, seen)
        operations.replace_view(new, reader)
        await self._make_forget(old, known)
        log.info("refreshed; the kernel knows %s", counted(len(operations.directories), "directory"))

    async def _make_forget(self, old: View, known: list[bytes]) -> None:
        """Have the kernel forget what is no more as in the ``old`` view, of which it knew some directories.

        Where that cannot be found out, or an earlier refresh has failed at it, it forgets all that it knows.
        """
        operations = self.operations
        new, held = operations.view, operations.open_files()
        had_told, self._has_told, found = self._has_told, False, None
        if had_told:
            try:
                found = await trio.to_thread.run_sync(changes, old, new, known, held, limiter=self._thread)
            except Exception:  # a defect of ours must not leave the kernel with what is no more
                log.exception("what has changed could not be found out; the kernel forgets everything")
        if found is None:
            known, held = operations.directories.paths(), operations.open_files()
            found = await trio.to_thread.run_sync(all_that_is_known, (old, new), known, held, limiter=self._thread)
        operations.pages.doubt(found.touched)
        self._has_told = await self._tell_kernel(found)

    def _current_open_files(self) -> list[int]:
        """Return the inodes of open files, less those of earlier versions: nothing is in doubt about these."""
        files = self.operations.view.files
        return [inode for inode in self.operations.open_files() if files.current(inode) == inode]

    def _opened(self, session: Session, told: Mapping[str, object]) -> tuple[Stored, View, Reader]:
        try:
            stored = session.saved()
        except IndexFileError as error:
            raise UserError(f"{session.index_path}: {error}") from error
        stored = replace(stored, index=continued(stored.index, self._stored.index))
        return stored, session.drive_view(stored, told), Reader(session.source, self.operations.disks)

    async def _asked(self, call: Callable[[*_Arguments], _Answer], *args: *_Arguments) -> _Answer:
        """Return the answer of what may have to wait for a disk.

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

    async def _say(self) -> None:
        """Bring ``status.json`` up to date; what goes wrong with it ends neither a refresh nor the drive."""
        async with self._saying:  # an older text must not take the place of a newer one
            try:
                await self._renew_status()
            except Exception:
                log.exception("status.json could not be renewed")

    async def _renew_status(self) -> None:
        view = self.operations.view
        inode = view.files.text(b"status.json")
        assert inode is not None, "every drive has it"
        text = view.files.content(inode)
        assert text is not None, "a name leads to the content of now"
        view.files.replace_text(b"status.json", renewed_status(text, self._state_now()))
        parent = view.resolve(b".omidbfs")
        assert parent is not None, "every drive has it"
        await self._tell_kernel(Changes(entries=[(parent.inode, b"status.json")]))

    async def _tell_kernel(self, found: Changes) -> bool:
        """Have the kernel forget; in a thread, since it may first wait for answers of this very process."""
        return await trio.to_thread.run_sync(tell_kernel, found, limiter=self._thread)

    def _state_now(self) -> dict[str, object]:
        """Return what ``status.json`` says beside what is served; called by the loop."""
        stuck = len(self._left) + self._asking.borrowed_tokens - self._is_asking
        refresh = _refresh_state(self._state, self._since, self._done, self._error, stuck)
        return {"refresh": refresh, "counters": self.operations.counted(), "started": self._started}


async def _run(command: list[str], left: list[trio.Process]) -> tuple[int, bytes, bytes]:
    """Run a process; return its exit status and what it wrote to standard output and standard error.

    Unlike ``trio.run_process`` it does not wait for ever, neither for a process that waits for a disk that does
    not answer, nor when it is cancelled: what cannot even be killed is left behind, and joins ``left``.

    Raises
    ------
    UserError
        It was given up.
    """
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
                    left.append(process)
    if not has_ended:
        raise _no_answer()
    return status, bytes(texts[0]), bytes(texts[1])


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


def first_status() -> dict[str, object]:
    """Return what ``status.json`` of a new drive says of refreshes and of requests."""
    refresh = _refresh_state("idle", _now(), 0, None, 0)
    return {"refresh": refresh, "counters": Counters().shown()}


def _refresh_state(state: str, since: str, done: int, error: str | None, stuck: int) -> dict[str, object]:
    return {"state": state, "since": since, "done": done, "error": error, "stuck": stuck}


def _now() -> str:
    return time.strftime(_TIME, time.gmtime())
