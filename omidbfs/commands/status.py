"""``omidbfs status``: the drives of this machine, and how they are."""

import json as json_module
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click

from omidbfs.errors import UserError
from omidbfs.options import PATH
from omidbfs.words import counted

_DAY, _HOUR, _MINUTE = 86_400, 3600, 60


@click.command()
@click.argument("mountpoint", type=PATH, required=False)
@click.option("--json", is_flag=True, help="Print JSON.")
@click.pass_context
def status(ctx: click.Context, mountpoint: Path | None, json: bool) -> None:
    """Show the drives on this machine, or the one at MOUNTPOINT; exit status 1 if one does not answer."""
    from omidbfs.mount.mounts import FILE_SYSTEM, mounted_at, mounts

    found = [mount for mount in mounts() if mount.type == FILE_SYSTEM]
    if mountpoint is not None:
        there = mounted_at(str(mountpoint))
        if there is None or there.type != FILE_SYSTEM:
            raise UserError(f"{mountpoint}: no drive of omidbfs is mounted there")
        found = [there]
    with ThreadPoolExecutor(max_workers=8) as pool:  # each that hangs takes seconds to be known
        drives = list(
            pool.map(_described, [mount.mountpoint for mount in found], [mount.source for mount in found])
        )
    if json:
        click.echo(json_module.dumps(drives, indent=2))
    else:
        for drive in drives:
            click.echo("\n".join(_lines(drive)))
        if not drives:
            click.echo("no drive is mounted here", err=True)
    ctx.exit(int(any(drive["state"] in ("dead", "hangs") for drive in drives)))


def _described(mountpoint: str, source: str) -> dict[str, Any]:
    from omidbfs.mount.control import status_of
    from omidbfs.mount.mounts import State, state_of

    state = state_of(mountpoint)
    known = status_of(mountpoint) if state is State.ANSWERS else None
    if state is State.ANSWERS and known is None:
        state = State.CLOSED
    drive: dict[str, Any] = {"mountpoint": mountpoint, "state": state.value, "source": source}
    if known is None:
        return drive
    drive["source"] = [known["images_directory"], known["data_directory"]]
    names = ("pid", "started", "version", "clients", "studies", "images", "index", "index_written")
    drive |= {name: known[name] for name in names}
    drive["index_age"] = round(time.time() - known["index_written"], 1)
    return drive | {"refresh": known["refresh"], "counters": known.get("counters")}


_MEANING = {
    "mounted": "mounted",
    "closed": "another user's, and closed to you",
    "dead": "dead; its process has ended: clear it with omidbfs umount, or mount --replace",
    "hangs": "does not answer",
}


def _lines(drive: dict[str, Any]) -> list[str]:
    lines = [f"{drive['mountpoint']}: {_MEANING[drive['state']]}"]
    if "pid" not in drive:
        return [*lines, f"  source    {drive['source']}"]
    refresh, counters = drive["refresh"], drive["counters"]
    size = f"{counted(drive['images'], 'image')} of {counted(drive['clients'], 'client')}"
    refreshed = f"{refresh['state']} since {refresh['since']}, {refresh['done']} done"
    lines += [
        f"  source    {', '.join(directory for directory in drive['source'] if directory)}",
        f"  process   {drive['pid']}, since {drive['started']}",
        f"  index     {size}, {_age(drive['index_age'])} old",
        f"  refresh   {refreshed}" + (f"; {refresh['error']}" if refresh["error"] else ""),
    ]
    if counters is not None:
        requests = ", ".join(f"{kind} {number}" for kind, number in counters["requests"].items())
        read, listed = counted(counters["bytes_read"], "byte"), counted(counters["entries_listed"], "entry")
        files = counted(counters["open_files"], "file")
        lines += [
            f"  requests  {requests or 'none'}",
            f"  read      {read}, {listed} listed",
            f"  open      {files}, {counted(counters['open_directories'], 'directory')}",
        ]
    return lines


def _age(seconds: float) -> str:
    for unit, name in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= 2 * unit:
            return f"{seconds // unit:.0f} {name}"
    return f"{max(seconds, 0):.0f} s"
