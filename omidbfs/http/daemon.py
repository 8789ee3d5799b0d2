"""Serves a drive over HTTP until a signal ends it.

Used by ``omidbfs serve``, in the main thread, because only that thread can handle signals.
"""

import json
import logging
import resource
import signal
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import trio

from omidbfs.http.access import Door
from omidbfs.http.application import Application
from omidbfs.http.listeners import Address, listeners
from omidbfs.http.pages import Pages
from omidbfs.http.server import Server
from omidbfs.serving import notify
from omidbfs.serving.drive import Drive
from omidbfs.serving.refresh import Refresher, Schedule
from omidbfs.serving.tuning import tune_process

log = logging.getLogger(__name__)

_MOST_CONNECTIONS = 4096
_GRACE = 1.0
"""Seconds that requests in progress get to end when the server ends."""


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """How a drive is served: where, behind which door, with which encryption, and when it is refreshed."""

    address: Address
    door: Door
    encryption: ssl.SSLContext | None
    schedule: Schedule


def front_end() -> Mapping[str, object]:
    """Return what ``status.json`` says of this front end."""
    return {"http": {"connections": most_connections()}}


def most_connections() -> int:
    """Return the most connections at the same time: a quarter of the files that this process may open, at most."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_CONNECTIONS if hard == resource.RLIM_INFINITY else min(_MOST_CONNECTIONS, max(16, hard // 4))


def serve(options: ServeOptions, refresher: Refresher) -> None:
    """Answer requests and refresh, until SIGINT or SIGTERM arrives. The address listens already."""
    drive = refresher.drive
    pages = Pages(drive, refresher.session.source, refresher.session.classification)
    application = Application(drive, options.door, pages)
    tune_process()
    try:
        trio.run(_answer, application, refresher, options)
    except Exception:
        log.exception("the server ends")
        raise
    finally:
        notify.tell("STOPPING=1")
        options.address.close()
        drive.close()
        log.info("ended")


async def _answer(application: Application, refresher: Refresher, options: ServeOptions) -> None:
    server = Server(application, application.count, most_connections())
    started = trio.Event()
    async with trio.open_nursery() as nursery:
        with (
            trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as ending,
            trio.open_signal_receiver(signal.SIGHUP) as refreshing,
            trio.open_signal_receiver(signal.SIGUSR1) as asking,
            trio.open_signal_receiver(signal.SIGUSR2) as reporting,
        ):
            places = listeners(options.address, options.encryption)
            nursery.start_soon(trio.serve_listeners, server.serve, places)
            nursery.start_soon(_review, refresher.drive)
            nursery.start_soon(_describe_on_signal, asking, refresher.drive)
            nursery.start_soon(refresher.report_on_signals, reporting)
            nursery.start_soon(refresher.on_signals, refreshing)
            nursery.start_soon(refresher.run, options.schedule, started)
            log.info("serving")
            started.set()
            refresher.tell_ready()
            await _end_on_signal(ending, refresher)
            nursery.cancel_scope.cancel()


async def _end_on_signal(signals: AsyncIterator[int], refresher: Refresher) -> None:
    async for number in signals:
        log.info("ending on %s", signal.Signals(number).name)
        refresher.drive.stop()
        with trio.move_on_after(_GRACE):
            await refresher.end()
        return


async def _describe_on_signal(signals: AsyncIterator[int], drive: Drive) -> None:
    async for _ in signals:
        log.warning("SIGUSR1: %s", json.dumps(drive.counted()))


async def _review(drive: Drive) -> None:
    while True:
        await trio.sleep(1)
        drive.review()
