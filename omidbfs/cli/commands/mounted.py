"""``omidbfs refresh`` and ``omidbfs umount``: what is asked of a drive that is mounted."""

from pathlib import Path

import click

from omidbfs.cli.options import PATH


@click.command()
@click.argument("mountpoint", type=PATH)
def refresh(mountpoint: Path) -> None:
    """Have the drive at MOUNTPOINT look for changes of its source now, and wait until they are shown."""
    from omidbfs.fuse.control import ask_for_refresh

    ask_for_refresh(mountpoint)


@click.command()
@click.argument("mountpoint", type=PATH)
@click.option("--lazy", is_flag=True, help="Also while it is in use: programs that are on it go on.")
def umount(mountpoint: Path, lazy: bool) -> None:
    """Unmount the drive at MOUNTPOINT and wait for its process to end."""
    from omidbfs.fuse.control import unmount

    unmount(mountpoint, lazy=lazy)
