"""The command line and the entry point of the program. Each command reads its options, calls one part of omidbfs,
and prints the result. Everything here runs in the main thread.

Each command imports the parts that it uses: a command that needs no index does not load numpy.
"""

import io
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from json import dumps
from pathlib import Path
from typing import Any

import click

from omidbfs.base.logs import LogFormatter
from omidbfs.base.words import counted
from omidbfs.cli.group import Commands, Group
from omidbfs.cli.options import (
    CONFIG_IS_NAMED,
    PATH,
    OptionNames,
    drive_options,
    facets_option,
    index_arguments,
    index_options,
    serving_options,
    session_of,
    size_in_bytes,
    source_options,
    spool_of,
    warn,
)
from omidbfs.cli.selection import (
    cohort_argument,
    directory_at,
    json_option,
    selected_by,
    view_and_age,
    warn_of_emptiness,
    warn_of_links,
)
from omidbfs.exports.formats import FORMATS, OMIDB_SUMMARY
from omidbfs.serving.configuration import config_file, read_config

# omidbfs uses no linear algebra. The threads that numpy starts for it would cost each process 0.1 s and memory.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def _imported(module: str, name: str) -> click.Command:
    command: click.Command = getattr(import_module(f"omidbfs.cli.commands.{module}"), name)
    return command


def _systemd() -> click.Command:
    from omidbfs.cli.commands.systemd import systemd_command

    return systemd_command(mount)


_OTHERS: Mapping[str, Callable[[], click.Command]] = {
    **{
        name: partial(_imported, name, name)
        for name in (
            "check",
            "completion",
            "count",
            "describe",
            "doctor",
            "facets",
            "geometry",
            "ls",
            "report",
            "serve",
            "split",
            "status",
            "table",
            "verify",
        )
    },
    "password": partial(_imported, "serve", "password"),
    **{name: partial(_imported, "mounted", name) for name in ("refresh", "umount")},
    "help": partial(_imported, "help", "help_"),
    "version": partial(_imported, "help", "version"),
    "systemd": _systemd,
}
"""The commands of other modules, and the functions that import them."""


def _say_version(ctx: click.Context, _: click.Parameter, is_asked: bool) -> None:
    if is_asked and not ctx.resilient_parsing:
        from omidbfs import __version__

        click.echo(f"omidbfs, version {__version__}")
        ctx.exit()


@click.group(
    cls=Group,
    commands=Commands(_OTHERS),
    context_settings={"auto_envvar_prefix": "OMIDBFS", "help_option_names": ["-h", "--help"]},
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_say_version,
    help="Show the version and exit.",
)
@click.option("--config", type=PATH, metavar="FILE", help="Read defaults, facets and cohorts from this TOML file.")
@click.option("--debug", is_flag=True, help="Log everything, with tracebacks. The log then names clients.")
@click.pass_context
def main(ctx: click.Context, config: Path | None, debug: bool) -> None:
    """Mount an OMI-DB as a drive in which the path is the query.

    SOURCE is the directory that holds images/ and data/. If --images and --data name both, SOURCE is "-".

    COHORT is a path as on the drive, such as by-outcome/malignant/by-view/MLO. Without COHORT, a command uses
    every image.

    omidbfs.toml, in the current directory or in ~/.config/omidbfs, can set defaults of options. So can
    environment variables, such as OMIDBFS_MOUNT_READAHEAD for the option --readahead of mount.
    """
    level = logging.DEBUG if debug else logging.WARNING
    handler = logging.StreamHandler()
    handler.setFormatter(LogFormatter("omidbfs: %(levelname)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # any text of the source can be printed in any locale
    ctx.meta[CONFIG_IS_NAMED] = config is not None
    config = ctx.params["config"] = config or config_file(warn)
    defaults = read_config(config, OptionNames(main.commands))
    if ctx.default_map is None:  # otherwise the caller gives every option: see renew.py
        ctx.default_map = defaults


@main.command(example="omidbfs mount db drive")
@source_options
@click.argument("mountpoint", type=PATH)
@click.option("--foreground", "-f", is_flag=True, help="Stay in the foreground, and log to the terminal.")
@click.option("--allow-other", is_flag=True, help="Let other users in, as far as the modes of the source permit.")
@click.option(
    "--links",
    type=click.Choice(["none", "symlink"]),
    default="none",
    help="Show files as absolute symbolic links (symlink).",
    show_default=True,
)
@click.option("--list-nested", is_flag=True, help="Also list nested facets, for people who browse with a mouse.")
@click.option(
    "--list-empty", is_flag=True, help="List in each cohort all values that the root lists, as class folders."
)
@facets_option
@click.option("--xattr", is_flag=True, help="Also show facets as extended attributes. Listing takes longer.")
@serving_options
@drive_options
@click.pass_context
def mount(
    ctx: click.Context, /, source: Path, mountpoint: Path, foreground: bool, allow_other: bool, **options: Any
) -> None:
    """Mount SOURCE as a drive at MOUNTPOINT, an empty directory. The command returns when the drive answers.

    With a saved index, the drive answers at once. Later changes of the source appear a little later. Without one,
    the command first reads the source, and saves an index.
    """
    from omidbfs.cli.drives import early_requests, opened_drive
    from omidbfs.fuse.control import in_background, start_log
    from omidbfs.fuse.preflight import check_mount, load_pyfuse3

    load_pyfuse3()
    session = session_of(source, options)
    check_mount(session.source, mountpoint, allow_other=allow_other, replace=options["replace"])
    spool = spool_of(options)
    mountpoint = mountpoint.resolve()
    arguments = index_arguments(source, session, options)

    def run(ready: Callable[[], None]) -> int:
        early = early_requests()
        from omidbfs.fuse.daemon import MountOptions, front_end, serve

        opened = opened_drive(session, options, arguments, spool, front_end, early)
        if opened is None:
            return 1
        refresher, schedule = opened
        start_log(options["log_file"], foreground=foreground, syslog=options["syslog"])
        readahead, name = options["readahead"], session.source.images or session.source.data or ""
        mount_options = MountOptions(mountpoint, name, schedule, allow_other, readahead, options["xattr"])
        del opened  # a refresh can then free the index
        serve(mount_options, refresher, ready)
        return 0

    ctx.exit(run(lambda: None) if foreground else in_background(run, mountpoint))


@main.command(example="omidbfs index db")
@index_options
@click.option("--rebuild", is_flag=True, help="Read everything again, whatever the saved index says.")
@json_option
def index(source: Path, rebuild: bool, json: bool, **options: Any) -> None:
    """Build the index of SOURCE, or bring it up to date. An update reads only the clients that changed."""
    session = session_of(source, options)
    previous = None if rebuild else session.saved_or_told(warn)
    started = time.monotonic()
    stored = session.brought_up_to_date(previous)
    found = stored.index
    warn_of_links(found)
    warn_of_emptiness(found)
    facts = {
        "index": str(session.index_path),
        "written": stored.written,
        "changed": stored is not previous,
        "clients": len(found.clients),
        "studies": len(found.studies),
        "images": len(found),
        "seconds": round(time.monotonic() - started, 3),
    }
    if json:
        click.echo(dumps(facts))
        return
    what = "written" if facts["changed"] else "up to date"
    counts = f"{counted(len(found), 'image')} of {counted(len(found.clients), 'client')}"
    click.echo(f"{session.index_path}: {what}, {counts}, {facts['seconds']} s")


@main.command(example="omidbfs demo db --clients 100")
@click.argument("directory", type=PATH)
@click.option("--clients", type=click.IntRange(1), default=200, show_default=True, help="The number of clients.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed gives the same bytes.")
@click.option("--full-size", is_flag=True, help="Write images of 3328 x 2560 pixels, 17 MB each.")
@click.option("--quirks", is_flag=True, help="Add clients with every oddity of real databases.")
def demo(directory: Path, clients: int, seed: int, full_size: bool, quirks: bool) -> None:
    """Write a synthetic OMI-DB into DIRECTORY, new or empty. Nothing in it is a patient.

    If the command is interrupted, or fails, it removes what it has written.
    """
    from omidbfs.base.process import handled_ending, leave
    from omidbfs.base.progress import shown_progress
    from omidbfs.base.whole import named_when_full
    from omidbfs.demo import generate

    with handled_ending(leave), shown_progress() as progress, named_when_full(directory):
        generate(
            directory,
            clients,
            seed,
            full_size=full_size,
            quirks=quirks,
            progress=lambda done, total: progress("writing", done, total, 0),
        )
    click.echo(f"{directory}: a synthetic OMI-DB of {counted(clients, 'client')}")


@main.command(example="omidbfs export db by-outcome/malignant -o index.csv")
@source_options
@cohort_argument
@click.option(
    "--format",
    type=click.Choice([*FORMATS, OMIDB_SUMMARY, "npy", "yolo"]),
    help="What to write.  [default: the name of FILE decides]",
)
@click.option("--as", metavar="RENDITION", help="Write the images, or what --format says of them: png16-1024x768.")
@click.option(
    "--layout",
    metavar="LAYOUT",
    help="With --as: all files in one directory (flat), or below by-client or by-FACET.  [default: flat]",
)
@click.option(
    "--output", "-o", type=PATH, metavar="FILE", help="The file or directory to write.  [default: standard output]"
)
@click.option(
    "--shard-size",
    type=size_in_bytes,
    metavar="SIZE",
    help="With tar: write FILE-000000.tar and so on, each of at most SIZE: bytes, or a number with K, M, G or T.",
)
@click.option(
    "--absolute",
    type=click.Choice(["drive", "source"]),
    help="In tables and paths, name files by their absolute paths on the mounted drive or in the source.",
)
@click.pass_context
def export(
    ctx: click.Context,
    /,
    source: Path,
    cohort: str,
    format: str | None,
    layout: str | None,
    output: Path | None,
    shard_size: int | None,
    absolute: str | None,
    **options: Any,
) -> None:
    """Write COHORT as a table, bounding boxes, counts, paths or an archive, or its images in a rendition.

    The formats are those of the files in .omidbfs/ on the drive, and the table of `omidb summarise`. If FILE has
    the name of a file there (index.csv, pairs.csv, marks.parquet, coco.json, paths.txt, cohort.tar or another),
    --format is not needed.

    With --as, the files of as-RENDITION on the drive are written into a directory, which has to be new or empty.
    The same command again makes only what has changed, or what an interrupted one has not made. With --format npy
    too, the images become one array, with the table of its rows beside it. Images that cannot be rendered are
    listed, and the exit status is 1. With --format yolo, the directory is a data set for YOLO, with the marks as
    boxes. With any other format, what is written is the file in .omidbfs/ of as-RENDITION.
    """
    from omidbfs.cli.commands import export as command

    rendition: str | None = options.pop("as")  # a parameter of Python cannot have this name
    format = "tar" if format is None and shard_size is not None else format
    if rendition is not None and layout is None and command.is_table(format, output):
        cohort, rendition = command.with_rendition(cohort, rendition), None
    if rendition is not None or layout is not None or format in ("npy", "yolo"):
        command.checked_absolute(absolute, None)
        ctx.exit(command.export_renditions(source, cohort, rendition, layout, format, output, options))
    chosen = command.checked_format(format, output)
    command.checked_shards(chosen, shard_size, output)
    command.checked_absolute(absolute, chosen)
    session = session_of(source, options)
    view, age = view_and_age(session, options)
    selected_by(view, cohort)
    said = command.written(session, view, directory_at(view, cohort), chosen, output, shard_size, absolute)
    if output is not None and output != Path("-"):
        click.echo(f"{output}: {said}", err=True)
    if age:  # not only on a terminal: the file is kept
        warn(age)


if __name__ == "__main__":
    sys.exit(main())
