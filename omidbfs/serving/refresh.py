"""Keeps a drive up to date: a subprocess renews the index, and then the drive takes over the new index.

Used by front ends that serve for a long time, in the loop of the drive. The subprocess lists and reads the
source. So a slow or vanishing source does not delay the users of the drive, and the memory of the drive does not
grow. When the subprocess has written a new index, the drive opens it, replaces the view, and tells all observers
what changed.
"""

import gc
import json
import logging
import math
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import trio

from omidbfs.base.errors import UserError
from omidbfs.base.process import module_command
from omidbfs.base.words import counted
from omidbfs.database.records import FileFacts
from omidbfs.index.sections import DamagedError, IndexFileError
from omidbfs.index.store import Stored
from omidbfs.serving import notify
from omidbfs.serving.configuration import trusted_definitions
from omidbfs.serving.continuity import continued
from omidbfs.serving.counters import Counters
from omidbfs.serving.drive import Drive
from omidbfs.serving.patience import Patience
from omidbfs.serving.reader import Reader
from omidbfs.serving.session import Session
from omidbfs.serving.spool import Spool
from omidbfs.view.about import renewed_status
from omidbfs.view.view import View

log = logging.getLogger(__name__)

_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class Schedule:
    """When to refresh, in addition to SIGHUP: ``at_once`` after mounting, and ``every`` so many seconds."""

    at_once: bool = False
    every: float = math.inf


def drive_of(
    session: Session,
    stored: Stored,
    spool: Spool | None = None,
    readahead: int = 0,
    front_ends: Mapping[str, object] | None = None,
) -> Drive:
    """Return a drive over an index. The other parameters are those of :class:`~omidbfs.serving.drive.Drive`.

    Raises
    ------
    DamagedError
        A section of the index is damaged that every drive needs.
    """
    index = stored.index  # the numbers that were given (see continuity), and those that status.json has
    index.row_of, index.client_ordinal, index.client_rows, index.study_rows  # noqa: B018
    view = session.view(stored, {**_first_status(), "front_ends": front_ends or {}})
    return Drive(view, session.source, readahead, spool=spool, front_ends=front_ends or {})


class Refresher:
    """Refreshes one drive. With ``arguments``, ``omidbfs.cli.renew`` updates its index and reports in JSON.

    ``early`` has the requests to refresh that came before the drive was open.
    """

    def __init__(
        self,
        drive: Drive,
        session: Session,
        stored: Stored,
        arguments: Sequence[str],
        early: Collection[int] = (),
    ) -> None:
        self.drive = drive
        self._session = session
        self._stored = stored
        self._arguments = arguments
        self._early = early
        self._wanted = trio.Event()
        self._state, self._since = "idle", _now()
        self._saying = trio.Lock()
        self._done = 0
        self._error: str | None = None
        self._started = _now()
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        self._patience = Patience()
        self._is_damaged = False
        self._geometry = session.geometry_stamp()

    @property
    def session(self) -> Session:
        """How the drive is made from its source, as of the last refresh."""
        return self._session

    async def run(self, schedule: Schedule, ready: trio.Event) -> None:
        """Refresh on request and by schedule, from the time that observers are ``ready`` until :meth:`end`."""
        try:
            with self._scope:
                await ready.wait()
                await self._prepare()
                if schedule.at_once or self._is_damaged or self._early:
                    self._wanted.set()
                while True:
                    with trio.move_on_after(schedule.every):
                        await self._wanted.wait()
                    self._wanted = trio.Event()
                    await self.refresh()
        finally:
            self._ended.set()

    async def _prepare(self) -> None:
        """Make the drive compare its index with the checksums, and make what no request should wait for."""
        try:
            await self.drive.prepare(self._stored.verify)
        except DamagedError as error:
            self._is_damaged = True
            log.warning("the index is %s; what needs it gets EIO until a refresh has built it anew", error)
        except Exception:  # a defect must not end the drive
            log.exception("the drive could not be prepared, and makes what it needs when it is asked for it")

    async def end(self) -> None:
        """End :meth:`run` and the subprocess.

        Requests must still be answered in the meantime, because an observer that is being told may wait for them.
        """
        self._scope.cancel()
        await self._ended.wait()

    async def on_signals(self, signals: AsyncIterator[int]) -> None:
        """Refresh on each signal."""
        async for _ in signals:
            self._wanted.set()

    async def report_on_signals(self, signals: AsyncIterator[int]) -> None:
        """Update ``status.json`` with its counters on each signal."""
        async for _ in signals:
            self.drive.counters.reports += 1
            await self._say()

    def tell_ready(self) -> None:
        """Tell systemd that the drive is ready, and how much it shows."""
        index = self.drive.view.index
        clients = len(index.client_rows) - 1  # every drive has read this, and perhaps not their names
        failed = "; the last refresh failed" if self._state == "failed" else ""
        notify.tell("READY=1", f"STATUS={counted(len(index), 'image')} of {counted(clients, 'client')}{failed}")

    async def _enter(self, state: str) -> None:
        self._state, self._since = state, _now()
        if state == "refreshing":
            notify.tell_reloading("looking for changes")
        else:
            self.tell_ready()
        await self._say()

    async def refresh(self) -> None:
        """Look for changes once, and show them. If that fails, the drive stays as it was."""
        await self._enter("refreshing")
        try:
            seen = self.drive.view.files.found_changed()
            named = self._session.is_config_named
            definitions = await self._patience.asked(
                lambda: trusted_definitions(self._session.config, is_named=named)
            )
            session = replace(self._session, definitions=definitions)
            is_redefined = definitions != self._session.definitions
            # With `seen`: a file that was found changed at an open may since have its old content, and then the
            # index is the same.
            is_new = await self._bring_up_to_date() or self._is_damaged
            is_new |= await self._patience.asked(session.geometry_stamp) != self._geometry
            if is_new or seen or is_redefined or not self.drive.observers.know_all:
                await self._take_over(session, seen)
                self._is_damaged = False
            await self.drive.observers.settle()
            self._error = None
        except (UserError, OSError) as error:
            self._error = str(error)
            log.warning("the refresh failed and the drive goes on as it was; .omidbfs/status.json says why")
        except Exception as error:  # a defect must not end the drive
            self._error = f"{type(error).__name__}, a defect: please report it"
            log.exception("the refresh failed and the drive goes on as it was")
        # An exception from a thread refers to itself and to a view. Without this, an old index would stay mapped
        # until the next full collection. Objects from before the start are frozen, so this is fast.
        gc.collect()
        self._done += 1
        await self._enter("idle" if self._error is None else "failed")

    async def _bring_up_to_date(self) -> bool:
        """Run the subprocess that updates the index; return whether the index differs from the one that is shown.

        Raises
        ------
        UserError
            The subprocess failed.
        """
        status, output, errors = await self._patience.run([*module_command("omidbfs.cli.renew"), *self._arguments])
        if status != 0:
            lines = errors.decode("utf-8", "replace").strip().splitlines()
            said = lines[-1].removeprefix("omidbfs: ") if lines else ""
            raise UserError(said or f"the process ended with status {status}")
        written: float = json.loads(output)["written"]
        return written != self._stored.written

    async def _take_over(self, session: Session, seen: Mapping[int, FileFacts]) -> None:
        """Show the saved index with the options of ``session``; ``seen`` as in ``Drive.take_over``."""
        # The state belongs to the loop, so it is read here and not in the thread.
        geometry = await self._patience.asked(session.geometry_stamp)
        stored, view, reader = await self._patience.asked(self._opened, session, self._state_now())
        self._session, self._stored, self._geometry = session, stored, geometry
        known = await self.drive.take_over(view, reader, seen)
        log.info("refreshed; the kernel knows %s", counted(known, "directory"))

    def _opened(self, session: Session, told: Mapping[str, object]) -> tuple[Stored, View, Reader]:
        try:
            stored = session.saved()
        except IndexFileError as error:
            raise UserError(str(error), place=session.index_path) from error
        if stored.index.lacking:  # this process runs older code than the one that wrote the index
            raise UserError("another version of omidbfs wrote the index", "mount the drive again")
        stored = replace(stored, index=continued(stored.index, self._stored.index))
        view = session.view(stored, told)
        view.prepare()
        return stored, view, Reader(session.source, self.drive.disks)

    async def _say(self) -> None:
        """Update ``status.json``. A failure ends neither the refresh nor the drive."""
        async with self._saying:  # an older text must not replace a newer one
            try:
                await self.drive.texts_made()
                await self.drive.replace_text(b"status.json", lambda text: renewed_status(text, self._state_now()))
            except Exception:
                log.exception("status.json could not be renewed")

    def _state_now(self) -> dict[str, object]:
        """Return the fields of ``status.json`` that change without a new view. Called in the loop."""
        refresh = _refresh_state(self._state, self._since, self._done, self._error, self._patience.stuck())
        drive = self.drive
        shown = {"refresh": refresh, "counters": drive.counted(), "started": self._started}
        return {**shown, "front_ends": drive.front_ends}


def _first_status() -> dict[str, object]:
    """Return the same fields for a new drive."""
    refresh = _refresh_state("idle", _now(), 0, None, 0)
    return {"refresh": refresh, "counters": Counters().shown(), "started": _now()}


def _refresh_state(state: str, since: str, done: int, error: str | None, stuck: int) -> dict[str, object]:
    return {"state": state, "since": since, "done": done, "error": error, "stuck": stuck}


def _now() -> str:
    return time.strftime(_TIME, time.gmtime())
