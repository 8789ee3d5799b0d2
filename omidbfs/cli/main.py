"""The command line and the entry point of the program. Each command reads its options, calls one part of omidbfs,
and prints the result. Everything here runs in the main thread.

Each command imports the parts that it uses: a command that needs no index does not load numpy.
"""

import io
import logging
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from omidbfs import __version__
from omidbfs.base.errors import UserError
from omidbfs.base.process import has_current_directory, module_command, open_standard_streams, output_is_lost
from omidbfs.base.words import counted, meant
from omidbfs.cli.commands import fstab
from omidbfs.cli.commands.check import check
from omidbfs.cli.commands.completion import completion
from omidbfs.cli.commands.describe import describe
from omidbfs.cli.commands.doctor import doctor
from omidbfs.cli.commands.facets import facets
from omidbfs.cli.commands.ls import ls
from omidbfs.cli.commands.mounted import refresh, umount
from omidbfs.cli.commands.report import report
from omidbfs.cli.commands.status import status
from omidbfs.cli.commands.systemd import systemd_command
from omidbfs.cli.options import (
    CONFIG_IS_NAMED,
    PATH,
    drive_options,
    facets_option,
    index_arguments,
    index_options,
    said_at,
    session_of,
    source_options,
    warn,
)
from omidbfs.cli.selection import (
    cohort_argument,
    directory_at,
    json_option,
    opened_view,
    selected_by,
    view_and_age,
    warn_of_links,
)
from omidbfs.serving.configuration import config_file, read_config

if TYPE_CHECKING:
    pass

# omidbfs uses no linear algebra. The threads that numpy starts for it would cost each process 0.1 s and memory.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


class _Group(click.Group):
    """The group of all commands. It prints an error, or Ctrl-C, as one line; a traceback only with ``--debug``."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        open_standard_streams()
        return super().main(*args, **kwargs)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, _config_first(fstab.arguments(args, self)))
        except BrokenPipeError:
            raise  # as in invoke()
        except (UserError, OSError) as error:  # OSError: --help is printed here, and the output may fail
            warn(_explained(error))
            ctx.exit(1)

    def invoke(self, ctx: click.Context) -> Any:
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # Ctrl-C must let commands clean up
            signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return self._invoked(ctx)
        except KeyboardInterrupt:
            click.echo("omidbfs: interrupted", err=True)
            ctx.exit(128 + signal.SIGINT)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise  # click handles these; a pipe breaks when `head` has read enough
        except Exception as error:
            if ctx.params.get("debug"):
                logging.exception("details of the following line")
            warn(_explained(error))
            ctx.exit(1)

    def _invoked(self, ctx: click.Context) -> Any:
        """Run the command. If it refuses a value of the configuration, name the line of the configuration."""
        try:
            return super().invoke(ctx)
        except click.BadParameter as error:
            if (
                error.ctx is None
                or error.param is None
                or (place := said_at(error.ctx, error.param.name or "")) is None
            ):
                raise
            choices = error.param.type.choices if isinstance(error.param.type, click.Choice) else ()
            said = error.ctx.lookup_default(error.param.name or "", call=False)
            raise UserError(error.message.rstrip("."), meant(str(said), choices), place) from None


def _config_first(arguments: list[str]) -> list[str]:
    """Return the arguments with ``--config`` in front: users may also write it after the command."""
    config, others, left = [], [], iter(arguments)
    for argument in left:
        if argument == "--":
            others += [argument, *left]
        elif argument == "--config" and (value := next(left, None)) is not None:
            config += [argument, value]
        else:
            (config if argument.startswith("--config=") else others).append(argument)
    return config + others


def _explained(error: Exception) -> str:
    if isinstance(error, UserError):
        return str(error)
    if not isinstance(error, OSError):
        return f"{type(error).__name__}: {error}; a defect: please report it, with what --debug says"
    if error.filename is not None:
        return f"{error.filename}: {error.strerror or error}"
    if isinstance(error, FileNotFoundError) and not has_current_directory():
        return "the current directory does not exist any more; change to another one, as with cd /"
    return f"{'standard output' if output_is_lost() else 'system'}: {error.strerror or error}"


@click.group(cls=_Group, context_settings={"auto_envvar_prefix": "OMIDBFS", "help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="omidbfs")
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
    logging.basicConfig(level=level, format="omidbfs: %(levelname)s: %(message)s")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # any text of the source can be printed in any locale
    options = {
        name: {parameter.name or "" for parameter in command.params if isinstance(parameter, click.Option)}
        for name, command in main.commands.items()
    }
    ctx.meta[CONFIG_IS_NAMED] = config is not None
    config = ctx.params["config"] = config or config_file(warn)
    defaults = read_config(config, options)
    if ctx.default_map is None:  # otherwise the caller gives every option: see renew.py
        ctx.default_map = defaults


EXPORT_FORMATS = ("csv", "parquet", "coco", "summary", "paths", "omidb-summary")


@main.command()
@source_options
@click.argument("mountpoint", type=PATH)
@click.option("--foreground", is_flag=True, help="Stay in the foreground, and log to the terminal.")
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
@click.option(
    "--log-file", type=PATH, metavar="FILE", help="The log of the drive.  [default: in the user's state directory]"
)
@click.option(
    "--readahead",
    type=click.IntRange(0),
    default=1 << 20,
    metavar="BYTES",
    help="How far to read ahead in a file. 0 turns this off.",
    show_default=True,
)
@click.option(
    "--refresh-every",
    type=click.FloatRange(1),
    metavar="SECONDS",
    help="Look for changes of the source at this interval.",
)
@drive_options
@click.pass_context
def mount(
    ctx: click.Context, /, source: Path, mountpoint: Path, foreground: bool, allow_other: bool, **options: Any
) -> None:
    """Mount SOURCE as a drive at MOUNTPOINT, an empty directory. The command returns when the drive answers.

    With a saved index, the drive answers at once. Later changes of the source appear a little later. Without one,
    the command first reads the source, and saves an index.
    """
    from omidbfs.fuse.control import in_background, start_log
    from omidbfs.fuse.preflight import check_mount, load_pyfuse3

    session = session_of(source, options)
    check_mount(session.source, mountpoint, allow_other=allow_other, replace=options["replace"])
    load_pyfuse3()
    mountpoint = mountpoint.resolve()
    arguments = index_arguments(source, session, options)

    def run(ready: Callable[[], None]) -> int:
        for request in (signal.SIGUSR1, signal.SIGUSR2):  # a request that comes too early must not end us
            signal.signal(request, signal.SIG_IGN)
        stored = None if options["verify_first"] else session.saved_or_none()
        if stored is not None and not session.has_all_facets(stored):
            stored = None
        is_fresh = stored is None
        if stored is None:
            # Another process reads the source, so the process of the drive stays small.
            command = [*module_command("omidbfs.cli.renew"), *arguments]
            if subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode != 0:
                return 1  # that process has printed the reason
            stored = session.saved()
        else:
            warn_of_links(stored.index)
        from omidbfs.fuse.daemon import MountOptions, front_end, serve
        from omidbfs.serving.refresh import Refresher, Schedule, drive_of

        start_log(options["log_file"], foreground=foreground, syslog=options["syslog"])
        schedule = Schedule(not is_fresh, options["refresh_every"] or math.inf)
        readahead, name = options["readahead"], session.source.images or session.source.data or ""
        mount_options = MountOptions(mountpoint, name, schedule, allow_other, readahead, options["xattr"])
        drive = drive_of(session, stored, readahead, front_end())
        refresher = Refresher(drive, session, stored, arguments)
        del stored  # a refresh can then free it
        serve(mount_options, refresher, ready)
        return 0

    ctx.exit(run(lambda: None) if foreground else in_background(run, mountpoint))


@main.command()
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


@main.command()
@click.argument("directory", type=PATH)
@click.option("--clients", type=click.IntRange(1), default=200, show_default=True, help="The number of clients.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed gives the same bytes.")
@click.option("--full-size", is_flag=True, help="Write images of 3328 x 2560 pixels, 17 MB each.")
@click.option("--quirks", is_flag=True, help="Add clients with every oddity of real databases.")
def demo(directory: Path, clients: int, seed: int, full_size: bool, quirks: bool) -> None:
    """Write a synthetic OMI-DB into DIRECTORY, new or empty. Nothing in it is a patient."""
    from omidbfs.base.progress import shown_progress
    from omidbfs.demo import generate

    with shown_progress() as progress:
        generate(
            directory,
            clients,
            seed,
            full_size=full_size,
            quirks=quirks,
            progress=lambda done, total: progress("writing", done, total, 0),
        )
    click.echo(f"{directory}: a synthetic OMI-DB of {counted(clients, 'client')}")


@main.command()
@source_options
@cohort_argument
@json_option
def count(source: Path, cohort: str, json: bool, **options: Any) -> None:
    """Count the images of COHORT. With --json, also count its clients and studies."""
    view = opened_view(session_of(source, options), options)
    selected = selected_by(view, cohort)
    cohorts = view.cohorts
    images = len(cohorts.rows(selected))
    if json:
        from omidbfs.facets import Level

        counted_levels = (Level.CLIENT, Level.STUDY, Level.IMAGE)
        click.echo(dumps({level.plural: cohorts.count(selected, level) for level in counted_levels}))
    else:
        click.echo(str(images))


@main.command()
@source_options
@cohort_argument
@click.option(
    "--format", type=click.Choice(EXPORT_FORMATS), help="What to write.  [default: the name of FILE decides]"
)
@click.option("--output", "-o", type=PATH, metavar="FILE", help="The file to write.  [default: standard output]")
def export(source: Path, cohort: str, format: str | None, output: Path | None, **options: Any) -> None:
    """Write COHORT as a table, as bounding boxes, counts or paths.

    The formats are those of the files in .omidbfs/ on the drive, and the table of `omidb summarise`. If FILE has
    the name of a file there (index.csv, index.parquet, coco.json, summary.json or paths.txt), --format is not
    needed.
    """
    from omidbfs.cli.commands.export import checked_format, written

    chosen = checked_format(format, output)
    session = session_of(source, options)
    view, age = view_and_age(session, options)
    selected_by(view, cohort)
    said = written(session, view, directory_at(view, cohort), chosen, output)
    if output is not None and output != Path("-"):
        click.echo(f"{output}: {said}", err=True)
    if age:  # not only on a terminal: the file is kept
        warn(age)


for _command in (
    check,
    completion,
    describe,
    doctor,
    facets,
    ls,
    refresh,
    report,
    status,
    systemd_command(mount),
    umount,
):
    main.add_command(_command)


if __name__ == "__main__":
    sys.exit(main())
