"""The life of a mount: served until a signal or an unmount ends it."""

import gc
import logging
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyfuse3
import trio

from omidbfs.database.layout import Source
from omidbfs.errors import UserError
from omidbfs.export.spool import Spool, spool_directories
from omidbfs.index.store import Stored
from omidbfs.mount.mounts import FILE_SYSTEM
from omidbfs.mount.operations import Operations
from omidbfs.mount.refresh import Refresher, Schedule, state_of
from omidbfs.session import Session

log = logging.getLogger(__name__)

MAX_REQUESTS = 256
"""How many requests are in progress at once, also those that wait for a file; more wait in the kernel."""

_SWITCH_INTERVAL = 0.0005
"""Seconds after which a thread that makes a file lets the loop answer; all would feel Python's own 0.005."""


@dataclass(frozen=True, slots=True)
class Mount:
    """What is mounted where, and what else is to happen."""

    source: Source
    mountpoint: Path
    schedule: Schedule
    allow_other: bool = False


def drive(session: Session, stored: Stored, arguments: Sequence[str], *, has_xattrs: bool = False) -> Refresher:
    """Return a drive over an index that keeps itself up to date; ``arguments`` as of :class:`Refresher`."""
    view, spool = session.view(stored, state_of(session, stored)), Spool(spool_directories())
    operations = Operations(view, session.source, spool, has_xattrs=has_xattrs)
    return Refresher(operations, session, stored, arguments)


def serve(mount: Mount, refresher: Refresher, ready: Callable[[], None]) -> None:
    """Mount, answer the kernel and refresh, until the drive is unmounted or SIGINT or SIGTERM comes.

    ``ready`` is called when requests are answered. The mount is gone when this returns or raises.

    Raises
    ------
    UserError
        The kernel or fusermount3 refused.
    """
    source, mountpoint, operations = mount.source, mount.mountpoint, refresher.operations
    flags = {"ro", "nosuid", "nodev", "noexec", "default_permissions", f"subtype={FILE_SYSTEM.partition('.')[2]}"}
    name = "".join(character if character.isascii() else "?" for character in source.images or source.data or "")
    flags.add("fsname=" + name.replace("\\", "\\\\").replace(",", "\\,"))  # pyfuse3 takes ASCII only
    if mount.allow_other:
        flags.add("allow_other")
    try:
        pyfuse3.init(operations, str(mountpoint), flags)
    except RuntimeError as error:
        operations.close()
        raise UserError(
            f"{mountpoint}: the system refused to mount ({error}); see the line above, or omidbfs --debug mount"
        ) from None
    log.info("mounted")
    # The index is millions of objects that live as long as the mount: the garbage collector need not look at them.
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(_SWITCH_INTERVAL)
    try:
        trio.run(_answer, refresher, mount.schedule, ready)
    except Exception:
        log.exception("the drive ends")
        raise
    finally:
        pyfuse3.close(unmount=True)
        operations.close()
        log.info("unmounted")


async def _answer(refresher: Refresher, schedule: Schedule, ready: Callable[[], None]) -> None:
    async with trio.open_nursery() as nursery:
        with (
            trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as ending,
            trio.open_signal_receiver(signal.SIGHUP) as refreshing,
        ):
            nursery.start_soon(_end_on_signal, ending, refresher)
            nursery.start_soon(refresher.on_signals, refreshing)
            nursery.start_soon(refresher.run, schedule)
            ready()
            await pyfuse3.main(max_tasks=MAX_REQUESTS)
            nursery.cancel_scope.cancel()


async def _end_on_signal(signals: AsyncIterator[int], refresher: Refresher) -> None:
    async for number in signals:
        log.info("ending on %s", signal.Signals(number).name)
        refresher.operations.exports.stop()
        await refresher.end()
        pyfuse3.terminate()
