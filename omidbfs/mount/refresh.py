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
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import trio

from omidbfs.about import status_text
from omidbfs.config import read_definitions
from omidbfs.database.records import FileFacts
from omidbfs.errors import UserError
from omidbfs.index.store import IndexFileError, Stored
from omidbfs.mount import notify
from omidbfs.mount.changes import Changes, changes
from omidbfs.mount.continuity import continued
from omidbfs.mount.counters import Counters
from omidbfs.mount.forgetting import tell_kernel
from omidbfs.mount.operations import Operations
from omidbfs.mount.reader import Reader
from omidbfs.session import Session
from omidbfs.view import View
from omidbfs.words import counted

log = logging.getLogger(__name__)

_TIME = "%Y-%m-%dT%H:%M:%SZ"
_PATIENCE = 5.0
"""Seconds that the process that renews the index gets to end by itself."""


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
            definitions = await trio.to_thread.run_sync(
                read_definitions, self._session.config, limiter=self._thread, abandon_on_cancel=True
            )
            is_redefined = definitions != self._session.definitions
            self._session = replace(self._session, definitions=definitions)
            # What was found changed at an open may be as it was again, while the index has not changed at all.
            if await self._bring_up_to_date() or seen or is_redefined:
                await self._take_over(seen)
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
        status, output, errors = await _run([sys.executable, "-m", "omidbfs", *self._arguments])
        if status != 0:
            lines = errors.decode("utf-8", "replace").strip().splitlines()
            said = lines[-1].removeprefix("omidbfs: ") if lines else ""
            raise UserError(said or f"the process ended with status {status}")
        written: float = json.loads(output)["written"]
        return written != self._stored.written

    async def _take_over(self, seen: Mapping[int, FileFacts]) -> None:
        """Show the saved index; ``seen`` is what had been found changed before it was brought up to date."""
        operations, old = self.operations, self.operations.view
        stored, new, reader = await trio.to_thread.run_sync(
            self._opened, limiter=self._thread, abandon_on_cancel=True
        )
        # From here to the first await nothing is answered: the kernel knows what it was told of the old view.
        known, held = operations.directories.paths(), operations.open_files()
        self._stored = stored
        new.files.continue_from(old.files, seen)
        operations.replace_view(new, reader)
        found = await trio.to_thread.run_sync(changes, old, new, known, held, limiter=self._thread)
        await self._tell_kernel(found)
        log.info("refreshed; the kernel knows %s", counted(len(operations.directories), "directory"))

    def _opened(self) -> tuple[Stored, View, Reader]:
        try:
            stored = self._session.saved()
        except IndexFileError as error:
            raise UserError(f"{self._session.index_path}: {error}") from error
        stored = replace(stored, index=continued(stored.index, self._stored.index))
        view = self._session.view(stored, self._status(stored))
        return stored, view, Reader(self._session.source, self.operations.disks)

    async def _say(self) -> None:
        """Bring ``status.json`` up to date."""
        async with self._saying:  # an older text must not take the place of a newer one
            await self._renew_status()

    async def _renew_status(self) -> None:
        view = self.operations.view
        source, classification = self._session.source, self._session.classification
        text = await trio.to_thread.run_sync(
            status_text,
            view.lists,
            (source.images, source.data),
            classification,
            self._status(self._stored),
            limiter=self._thread,
        )
        if view is not self.operations.view:
            return  # the refresh that has replaced it has more to say
        view.files.replace_text(b"status.json", text)
        parent = view.resolve(b".omidbfs")
        assert parent is not None, "every drive has it"
        await self._tell_kernel(Changes(entries=[(parent.inode, b"status.json")]))

    async def _tell_kernel(self, found: Changes) -> None:
        """Have the kernel forget; in a thread, since it may first wait for answers of this very process."""
        await trio.to_thread.run_sync(tell_kernel, found, limiter=self._thread)

    def _status(self, stored: Stored) -> dict[str, object]:
        refresh = {"state": self._state, "since": self._since, "done": self._done, "error": self._error}
        counted = self.operations.counted()
        return _status(self._session, stored, refresh, counted) | {"started": self._started}


async def _run(command: list[str]) -> tuple[int, bytes, bytes]:
    """Run a process; return its exit status and what it wrote to standard output and standard error.

    Unlike ``trio.run_process`` it does not wait for ever when it is cancelled: a process that waits for a disk
    that hangs cannot be killed.
    """
    # In a group of its own, so that it can be ended together with its workers.
    process = await trio.lowlevel.open_process(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    texts = bytearray(), bytearray()

    async def collect(stream: trio.abc.ReceiveStream, text: bytearray) -> None:
        async for part in stream:
            text += part

    try:
        async with trio.open_nursery() as nursery:
            for stream, text in zip((process.stdout, process.stderr), texts, strict=True):
                assert stream is not None
                nursery.start_soon(collect, stream, text)
            status = await process.wait()
    finally:
        if process.returncode is None:  # cancelled
            with trio.CancelScope(shield=True):
                await _end_group(process)
    return status, bytes(texts[0]), bytes(texts[1])


async def _end_group(process: trio.Process) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with trio.move_on_after(_PATIENCE):
            await process.wait()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # what it has started and has not ended with it
            return
    log.warning("the process that renews the index does not end; it is left behind")


def first_status(session: Session, stored: Stored) -> dict[str, object]:
    """Return what ``status.json`` of a new drive says of its index, of refreshes and of requests."""
    refresh = {"state": "idle", "since": _now(), "done": 0, "error": None}
    return _status(session, stored, refresh, Counters().shown())


def _status(
    session: Session, stored: Stored, refresh: Mapping[str, object], counters: Mapping[str, object]
) -> dict[str, object]:
    about = {"index": str(session.index_path), "index_written": stored.written}
    return about | {"refresh": refresh, "counters": counters}


def _now() -> str:
    return time.strftime(_TIME, time.gmtime())
