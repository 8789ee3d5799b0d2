"""Keeping a drive up to date: another process renews the index, and the drive takes it over when that is done.

Used by front ends that serve for a long time, in the loop of the drive. The process lists and reads the source, so
that a slow or vanishing source delays nobody who uses the drive, and the drive's memory stays what it is. When it
has written a new index, that is opened, the view over it takes the place of the old one, and all observers are
told what changed.
"""

import gc
import json
import logging
import math
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace

import trio

from omidbfs.base.errors import UserError
from omidbfs.base.process import module_command
from omidbfs.base.words import counted
from omidbfs.database.records import FileFacts
from omidbfs.index.store import IndexFileError, Stored
from omidbfs.serving import notify
from omidbfs.serving.configuration import trusted_definitions
from omidbfs.serving.continuity import continued
from omidbfs.serving.counters import Counters
from omidbfs.serving.drive import Drive
from omidbfs.serving.patience import Patience
from omidbfs.serving.reader import Reader
from omidbfs.serving.session import Session
from omidbfs.view.about import renewed_status
from omidbfs.view.view import View

log = logging.getLogger(__name__)

_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class Schedule:
    """When to refresh, besides on SIGHUP: ``at_once`` after mounting, and ``every`` so many seconds."""

    at_once: bool = False
    every: float = math.inf


def drive_of(session: Session, stored: Stored, readahead: int = 0) -> Drive:
    """Return a drive over an index; ``readahead`` as of :class:`~omidbfs.serving.disks.Disks`."""
    return Drive(session.drive_view(stored, _first_status()), session.source, readahead)


class Refresher:
    """Refreshes one drive. ``arguments`` make ``omidbfs`` bring its index up to date and say so in JSON."""

    def __init__(self, drive: Drive, session: Session, stored: Stored, arguments: Sequence[str]) -> None:
        self.drive = drive
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
        self._patience = Patience()

    async def run(self, schedule: Schedule, ready: trio.Event) -> None:
        """Refresh when asked to, as soon as observers are ``ready`` to be told, and until :meth:`end`."""
        try:
            with self._scope:
                await ready.wait()
                if schedule.at_once:
                    self._wanted.set()
                while True:
                    with trio.move_on_after(schedule.every):
                        await self._wanted.wait()
                    self._wanted = trio.Event()
                    await self.refresh()
        finally:
            self._ended.set()

    async def end(self) -> None:
        """End it, and whatever it has started.

        Requests must still be answered meanwhile: an observer may wait for that before it takes what it is told.
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
            self.drive.counters.reports += 1
            await self._say()

    def tell_ready(self) -> None:
        """Tell systemd what is shown."""
        index = self.drive.view.index
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

    async def refresh(self) -> None:
        """Look for changes once, and show them; what goes wrong leaves the drive as it was."""
        await self._enter("refreshing")
        try:
            seen = self.drive.view.files.found_changed()
            named = self._session.is_config_named
            definitions = await self._patience.asked(
                lambda: trusted_definitions(self._session.config, is_named=named)
            )
            session = replace(self._session, definitions=definitions)
            is_redefined = definitions != self._session.definitions
            # What was found changed at an open may be as it was again, while the index has not changed at all.
            if await self._bring_up_to_date() or seen or is_redefined or not self.drive.observers.know_all:
                await self._take_over(session, seen)
            await self.drive.observers.settle()
            self._error = None
        except (UserError, OSError) as error:
            self._error = str(error)
            log.warning("the refresh failed and the drive goes on as it was; .omidbfs/status.json says why")
        except Exception as error:  # a defect of ours must not end the drive
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
        status, output, errors = await self._patience.run([*module_command("omidbfs.cli.renew"), *self._arguments])
        if status != 0:
            lines = errors.decode("utf-8", "replace").strip().splitlines()
            said = lines[-1].removeprefix("omidbfs: ") if lines else ""
            raise UserError(said or f"the process ended with status {status}")
        written: float = json.loads(output)["written"]
        return written != self._stored.written

    async def _take_over(self, session: Session, seen: Mapping[int, FileFacts]) -> None:
        """Show the saved index as ``session`` says; ``seen`` had been found changed before it was up to date."""
        # What the loop owns is read here: in the thread it might change meanwhile.
        stored, view, reader = await self._patience.asked(self._opened, session, self._state_now())
        self._session, self._stored = session, stored
        await self.drive.take_over(view, reader, seen)
        log.info("refreshed; the kernel knows %s", counted(self.drive.observers.directories(), "directory"))

    def _opened(self, session: Session, told: Mapping[str, object]) -> tuple[Stored, View, Reader]:
        try:
            stored = session.saved()
        except IndexFileError as error:
            raise UserError(f"{session.index_path}: {error}") from error
        stored = replace(stored, index=continued(stored.index, self._stored.index))
        return stored, session.drive_view(stored, told), Reader(session.source, self.drive.disks)

    async def _say(self) -> None:
        """Bring ``status.json`` up to date; what goes wrong with it ends neither a refresh nor the drive."""
        async with self._saying:  # an older text must not take the place of a newer one
            try:
                await self.drive.replace_text(b"status.json", lambda text: renewed_status(text, self._state_now()))
            except Exception:
                log.exception("status.json could not be renewed")

    def _state_now(self) -> dict[str, object]:
        """Return what ``status.json`` says beside what is served; called by the loop."""
        refresh = _refresh_state(self._state, self._since, self._done, self._error, self._patience.stuck())
        return {"refresh": refresh, "counters": self.drive.counted(), "started": self._started}


def _first_status() -> dict[str, object]:
    """Return what ``status.json`` of a new drive says of refreshes and of requests."""
    refresh = _refresh_state("idle", _now(), 0, None, 0)
    return {"refresh": refresh, "counters": Counters().shown()}


def _refresh_state(state: str, since: str, done: int, error: str | None, stuck: int) -> dict[str, object]:
    return {"state": state, "since": since, "done": done, "error": error, "stuck": stuck}


def _now() -> str:
    return time.strftime(_TIME, time.gmtime())
