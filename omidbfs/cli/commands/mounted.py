"""``omidbfs refresh`` and ``omidbfs umount``: commands for a mounted drive. The command line uses them, in the
main thread.
"""

from pathlib import Path

import click

from omidbfs.cli.command import command
from omidbfs.cli.options import PATH, configuration, warn


@command(example="omidbfs refresh drive")
@click.argument("mountpoint", type=PATH)
def refresh(mountpoint: Path) -> None:
    """Make the drive at MOUNTPOINT show the changes of its source. Wait until it shows them."""
    from omidbfs.fuse.control import ask_for_refresh

    reads_none = ask_for_refresh(mountpoint)
    config = configuration()
    if reads_none and config is not None:
        warn(f"{mountpoint}: was mounted without a configuration; to use {config.absolute()}, mount it again")


@command(example="omidbfs umount drive")
@click.argument("mountpoint", type=PATH)
@click.option("--lazy", is_flag=True, help="Unmount a drive that programs use. They keep their access.")
def umount(mountpoint: Path, lazy: bool) -> None:
    """Unmount the drive at MOUNTPOINT. Wait until its process has ended."""
    from omidbfs.fuse.control import unmount

    unmount(mountpoint, lazy=lazy)
