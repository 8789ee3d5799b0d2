"""Opens the drive of a front end that serves for long. ``mount`` and ``serve`` use it in the main thread."""

import math
import signal
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from omidbfs.base.process import exit_status_of, module_command
from omidbfs.cli.options import warn
from omidbfs.cli.selection import warn_of_links

if TYPE_CHECKING:
    from omidbfs.serving.refresh import Refresher, Schedule
    from omidbfs.serving.session import Session
    from omidbfs.serving.spool import Spool


def early_requests() -> list[int]:
    """Have this process note each SIGHUP in the list that is returned, until the drive handles the signal itself.

    A request that comes before the drive is open must not end the process. So SIGUSR1 and SIGUSR2 are ignored.
    """
    noted: list[int] = []
    signal.signal(signal.SIGHUP, lambda number, _: noted.append(number))
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    return noted


def opened_drive(
    session: "Session",
    options: Mapping[str, Any],
    arguments: Sequence[str],
    spool: "Spool",
    front_end: Callable[[], Mapping[str, object]],
    early: Collection[int],
) -> "tuple[Refresher, Schedule] | None":
    """Return the refresher of a drive over the saved index, and when to refresh it.

    If there is no usable index, or with ``--verify-first``, another process reads the source first, so the process
    of the drive stays small. Return ``None`` if that fails: that process has printed the reason. ``early`` is
    that of :func:`early_requests`.
    """
    from omidbfs.index.sections import DamagedError
    from omidbfs.serving.refresh import Refresher, Schedule, drive_of

    readahead = options["readahead"]
    stored = None if options["verify_first"] else session.saved_or_none(whole=False)
    drive = None
    if stored is not None and session.has_all_facets(stored):
        with suppress(DamagedError):  # the other process finds the same, and says so
            warn_of_links(stored.index)
            drive = drive_of(session, stored, spool, readahead, front_end())
    is_fresh = drive is None
    if stored is None or drive is None:
        command = [*module_command("omidbfs.cli.renew"), *arguments]
        if exit_status_of(command) != 0:
            return None
        stored = session.saved()
        drive = drive_of(session, stored, spool, readahead, front_end())
    for mistake in drive.view.lists.broken.values():
        warn(f"{mistake}; the drive does not have this cohort")
    schedule = Schedule(not is_fresh, options["refresh_every"] or math.inf)
    return Refresher(drive, session, stored, arguments, early), schedule
