"""``omidbfs status``: shows the drives of this machine and their state. The command line uses it, in the main
thread, and asks the drives in a few threads.
"""

import json as json_module
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from omidbfs.base.names import printable
from omidbfs.base.words import counted, moment
from omidbfs.cli.command import command
from omidbfs.cli.options import PATH
from omidbfs.cli.output import aligned

if TYPE_CHECKING:
    from omidbfs.fuse.mounts import Mount

_DAY, _HOUR, _MINUTE = 86_400, 3600, 60


@command(example="omidbfs status")
@click.argument("mountpoint", type=PATH, required=False)
@click.option("--json", is_flag=True, help="Print JSON.")
@click.pass_context
def status(ctx: click.Context, mountpoint: Path | None, json: bool) -> None:
    """Show all drives on this machine, or the drive at MOUNTPOINT. The exit status is 1 if one does not answer."""
    from omidbfs.fuse.control import drive_at
    from omidbfs.fuse.mounts import FILE_SYSTEM, mounts

    if mountpoint is None:
        found = [mount for mount in mounts() if mount.type == FILE_SYSTEM]
    else:
        found = [drive_at(mountpoint, "status")]
    with ThreadPoolExecutor(max_workers=8) as pool:  # it takes seconds to find that a drive hangs
        drives = list(pool.map(_described, found))
    if json:
        click.echo(json_module.dumps(drives, indent=2))
    else:
        for drive in drives:
            click.echo("\n".join(printable(line) for line in _lines(drive)))
        if not drives:
            click.echo("no drive is mounted here", err=True)
    ctx.exit(int(any(drive["state"] in ("dead", "hangs") for drive in drives)))


def _described(mount: "Mount") -> dict[str, Any]:
    import msgspec

    from omidbfs.fuse.control import status_of

    answer = status_of(mount)
    drive = {"mountpoint": mount.mountpoint, "state": answer.state.value, "source": mount.source}
    if answer.status is None:
        return drive
    known: dict[str, Any] = msgspec.to_builtins(answer.status)
    source = [known.pop("images_directory"), known.pop("data_directory")]
    age = round(time.time() - known["index_written"], 1)
    return {**drive, "source": source, **known, "index_age": age}


_MEANING = {
    "mounted": "mounted",
    "closed": "another user's, and closed to you",
    "dead": "dead; its process has ended: clear it with omidbfs umount, or mount --replace",
    "hangs": "does not answer",
}


def _lines(drive: dict[str, Any]) -> Iterator[str]:
    odd = "" if "pid" in drive or drive["state"] != "mounted" else "; what it says of itself is not understood"
    yield f"{drive['mountpoint']}: {_MEANING[drive['state']]}{odd}"
    for line in aligned(list(_facts(drive)), len("requests")):
        yield f"  {line}"


def _facts(drive: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if "pid" not in drive:
        yield "source", drive["source"]
        return
    refresh, counters = drive["refresh"], drive["counters"]
    size = f"{counted(drive['images'], 'image')} of {counted(drive['clients'], 'client')}"
    refreshed = f"{refresh['state']} since {_moment(refresh['since'])}, {refresh['done']} done"
    yield "source", ", ".join(directory for directory in drive["source"] if directory)
    yield "process", f"{drive['pid']}, since {_moment(drive['started'])}"
    yield "index", f"{size}, {_age(drive['index_age'])} old"
    yield "refresh", refreshed + (f"; {refresh['error']}" if refresh["error"] else "")
    if counters is not None:
        requests = ", ".join(f"{kind} {number}" for kind, number in counters["requests"].items())
        read, listed = counted(counters["bytes_read"], "byte"), counted(counters["entries_listed"], "entry")
        files = counted(counters["open_files"], "file")
        yield "requests", requests or "none"
        yield "read", f"{read}, {listed} listed"
        yield "open", f"{files}, {counted(counters['open_directories'], 'directory')}"


def _moment(text: str) -> str:
    """Return a time of ``status.json`` as the clock of this machine; any other text as it is."""
    try:
        return moment(datetime.fromisoformat(text).timestamp())
    except (ValueError, OverflowError):
        return text


def _age(seconds: float) -> str:
    for unit, name in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= 2 * unit:
            return f"{seconds // unit:.0f} {name}"
    return f"{max(seconds, 0):.0f} s"
