"""Mounts a drive, and serves it until a signal or an unmount ends it.

Used by ``omidbfs mount``, in the main thread of the process that serves the mount, because only that thread can
handle signals.
"""

import json
import logging
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyfuse3
import trio

from omidbfs.base.errors import UserError
from omidbfs.fuse import loop
from omidbfs.fuse.kernel import fuse_connection, is_closed, tune
from omidbfs.fuse.mounts import FILE_SYSTEM, mount_at
from omidbfs.fuse.operations import Operations
from omidbfs.fuse.stacks import stacks
from omidbfs.serving import notify
from omidbfs.serving.drive import Drive
from omidbfs.serving.refresh import Refresher, Schedule
from omidbfs.serving.tuning import tune_process

log = logging.getLogger(__name__)

MAX_REQUESTS = 10_000
"""The largest number of requests in progress. If there are more, every further request waits in the kernel.

Requests that wait for a disk that hangs, or for a file to be made, are in progress, too. Each takes a few kB.
"""
_GRACE = 1.0
"""Seconds that requests in progress get to end when the drive ends."""


@dataclass(frozen=True, slots=True)
class MountOptions:
    """How a drive is mounted: its mount point, the name of its source, its refreshes, and what users may ask.

    ``readahead`` is the number of bytes that the kernel should read ahead; 0 keeps the kernel's default.
    """

    mountpoint: Path
    source: str
    schedule: Schedule
    allow_other: bool = False
    readahead: int = 0
    has_xattrs: bool = False


def front_end() -> Mapping[str, object]:
    """Choose the loop that waits for requests, and return what ``status.json`` says of this front end."""
    return {"fuse": {"loop": "omidbfs" if loop.install() else "pyfuse3"}}


def serve(options: MountOptions, refresher: Refresher, ready: Callable[[], None]) -> None:
    """Mount a drive, and answer the kernel and refresh, until it is unmounted or SIGINT or SIGTERM arrives.

    ``ready`` is called as soon as the drive answers requests. When this function ends, the drive is unmounted.

    Raises
    ------
    UserError
        The kernel or fusermount3 refused to mount.
    """
    mountpoint, drive = str(options.mountpoint), refresher.drive
    operations = Operations(drive, has_xattrs=options.has_xattrs)
    flags = {"ro", "nosuid", "nodev", "noexec", "default_permissions", f"subtype={FILE_SYSTEM.partition('.')[2]}"}
    name = "".join(character if character.isascii() else "?" for character in options.source)
    flags.add("fsname=" + name.replace("\\", "\\\\").replace(",", "\\,"))  # pyfuse3 takes ASCII only
    if options.allow_other:
        flags.add("allow_other")
    try:
        pyfuse3.init(operations, mountpoint, flags)
    except RuntimeError as error:
        drive.close()
        raise UserError(
            f"the system refused to mount ({error})",
            "see the line above, or omidbfs --debug mount",
            place=mountpoint,
        ) from None
    ours = mount_at(mountpoint)
    log.info("mounted")
    tune_process()
    try:
        trio.run(_answer, operations, refresher, options, ready)
    except Exception:
        log.exception("the drive ends")
        raise
    finally:
        notify.tell("STOPPING=1")
        # pyfuse3 unmounts by path. After `umount --lazy` another drive may be there, which must stay.
        pyfuse3.close(unmount=mount_at(mountpoint) == ours)
        drive.close()
        log.info("unmounted")


async def _answer(
    operations: Operations, refresher: Refresher, options: MountOptions, ready: Callable[[], None]
) -> None:
    drive = refresher.drive
    async with trio.open_nursery() as nursery:
        with (
            trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as ending,
            trio.open_signal_receiver(signal.SIGHUP) as refreshing,
            trio.open_signal_receiver(signal.SIGUSR1) as asking,
            trio.open_signal_receiver(signal.SIGUSR2) as reporting,
        ):
            nursery.start_soon(_end_on_signal, ending, refresher, nursery.cancel_scope)
            nursery.start_soon(_watch, drive, nursery.cancel_scope)
            nursery.start_soon(_tune, operations.started, options)
            nursery.start_soon(_describe_on_signal, asking, drive)
            nursery.start_soon(refresher.report_on_signals, reporting)
            nursery.start_soon(_say_ready, operations.started, refresher, ready)
            nursery.start_soon(refresher.on_signals, refreshing)
            nursery.start_soon(refresher.run, options.schedule, operations.started)
            await pyfuse3.main(max_tasks=MAX_REQUESTS)
            nursery.cancel_scope.cancel()


async def _say_ready(started: trio.Event, refresher: Refresher, ready: Callable[[], None]) -> None:
    await started.wait()
    ready()
    refresher.tell_ready()


async def _describe_on_signal(signals: AsyncIterator[int], drive: Drive) -> None:
    async for _ in signals:
        counted = json.dumps(drive.counted())
        log.warning("SIGUSR1: %s", "\n".join([counted, *stacks()]))


async def _end_on_signal(signals: AsyncIterator[int], refresher: Refresher, everything: trio.CancelScope) -> None:
    async for number in signals:
        log.info("ending on %s", signal.Signals(number).name)
        refresher.drive.stop()
        await refresher.end()
        pyfuse3.terminate()
        await trio.sleep(_GRACE)
        everything.cancel()  # the remaining requests wait for a disk that hangs


async def _watch(drive: Drive, everything: trio.CancelScope) -> None:
    """Review the drive. After an unmount, end the requests that still wait for one."""
    connection = fuse_connection()
    while not is_closed(connection):
        await trio.sleep(1)
        drive.review()
    drive.stop()
    await trio.sleep(_GRACE)
    everything.cancel()


async def _tune(started: trio.Event, options: MountOptions) -> None:
    await started.wait()  # the kernel sets its own limits in the handshake
    tune(str(options.mountpoint), options.readahead)
