"""The options that commands share, and the session that they describe. Every command uses this module, in the main
thread.

Functions import the parts that they use: a command that needs no index does not load numpy.
"""

import grp
import os
import pwd
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from omidbfs.base.errors import UserError
from omidbfs.base.names import printable
from omidbfs.base.words import meant

if TYPE_CHECKING:
    from omidbfs.serving.session import Session
    from omidbfs.serving.spool import Spool
    from omidbfs.view.ownership import Ownership

PATH = click.Path(path_type=Path, readable=False)
"""A path that need not be readable: its owner may unmount a drive that nobody may read."""
CONFIG_IS_NAMED = "omidbfs.config-is-named"
"""Key of ``Context.meta``: whether the user named the configuration. Otherwise omidbfs found it."""
_PREFIX, _DRIVE = "omidbfs.prefix", "omidbfs.drive"
"""Keys of ``Context.meta`` for a SOURCE in a drive: the cohort that its path names, and the mount point."""

facets_option = click.option(
    "--facets",
    metavar="NAMES",
    help="The facets that the root lists, as a,b,c. The others can still be entered.  [default: all]",
)


def source_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add SOURCE and the options that say what to read, how to read it, and how to classify it."""
    months: dict[str, Any] = {"type": click.IntRange(min=0), "metavar": "MONTHS"}
    options = (
        click.option(
            "--clients-file", type=PATH, metavar="FILE", help="Use only the clients in this list or .csv file."
        ),
        click.option("--link-all", is_flag=True, help="Link studies to events even if the links are not unique."),
        click.option(
            "--num-months-ci-prior", **months, help="The longest time from a prior to its interval cancer."
        ),
        click.option(
            "--num-months-cancer-prior", **months, help="The longest time from a prior to another kind of cancer."
        ),
        click.option("--num-months-normal-follow-up", **months, help="The follow-up that a normal episode needs."),
        click.option("--num-months-benign-follow-up", **months, help="The follow-up that a benign episode needs."),
        click.option("--verify-first", is_flag=True, help="Look for changes of the source before anything else."),
    )
    for option in reversed(options):
        command = option(command)
    return index_options(command)


def index_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add SOURCE and the options that say what to read, and where its index is."""
    options = (
        click.option(
            "--workers",
            type=click.IntRange(1),
            metavar="N",
            help="The largest number of processes that read.  [default: one per CPU]",
        ),
        click.option(
            "--executor",
            default="local",
            help="Where the reading runs: local, dask://HOST:PORT or mpi.",
            show_default=True,
        ),
    )
    for option in reversed(options):
        command = option(command)
    return click.argument("source", type=PATH, callback=of_drive)(place_options(command))


def place_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say where a source and its index are."""
    options = (
        click.option(
            "--images", type=PATH, metavar="DIRECTORY", help="The images/ tree, if it is not below SOURCE."
        ),
        click.option("--data", type=PATH, metavar="DIRECTORY", help="The data/ tree, if it is not below SOURCE."),
        click.option("--follow-symlinks", is_flag=True, help="Follow symbolic links, even out of the source."),
        click.option(
            "--index", type=PATH, metavar="FILE", help="The file of the index.  [default: in the user's cache]"
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def of_drive(ctx: click.Context, _: click.Parameter, source: Path | None) -> Path | None:
    """Return SOURCE. If it is a drive or a path in one, return the source of the drive.

    The trees of the drive become defaults of options, and SOURCE becomes ``-`` if the drive shows both trees.
    click converts arguments before it looks for defaults of options, so these take effect. If the path leads to a
    cohort, :func:`cohort_on_drive` puts it before COHORT.
    """
    from omidbfs.fuse.inside import inside, shown

    found = None if source is None else inside(str(source))
    if found is None:
        return source
    mountpoint, path = found
    if path and not any(parameter.name == "cohort" for parameter in ctx.command.params):
        raise UserError(f"is a path in the drive at {mountpoint}", "name the drive itself", place=source)
    options = shown(mountpoint)
    ctx.default_map = {**(ctx.default_map or {}), **options}
    ctx.meta[_PREFIX], ctx.meta[_DRIVE] = path, mountpoint
    whole = len({"images", "data"} & options.keys()) == 2
    return Path("-") if whole else next(options[tree] for tree in ("images", "data") if tree in options).parent


def mount_point() -> str | None:
    """Return the mount point of the drive that SOURCE is, or leads into; ``None`` if it is no drive."""
    found: str | None = click.get_current_context().meta.get(_DRIVE)
    return found


def cohort_on_drive(ctx: click.Context, _: click.Parameter, cohort: str) -> str:
    """Return COHORT as a path from the root of the drive, even if the user gave a path of the file system.

    A path that begins with ``by-``, ``as-``, ``all``, ``cohorts`` or ``.omidbfs`` is a path of the drive, whatever
    the current directory holds.
    """
    from omidbfs.fuse.inside import inside

    before = ctx.meta.get(_PREFIX, "")
    first = cohort.lstrip("/").partition("/")[0]
    if first and not first.startswith(("by-", "as-")) and first not in ("all", "cohorts", ".omidbfs"):
        found = inside(cohort)
        if found is not None and found[0] != ctx.meta.get(_DRIVE, found[0]):
            raise UserError(
                f"is in the drive at {found[0]}, and SOURCE is that at {ctx.meta[_DRIVE]}", place=cohort
            )
        if found is not None:
            return found[1]
    return f"{before}/{cohort}" if before and cohort else before or cohort


def _user(text: str) -> int:
    return _number(text, "user", lambda name: pwd.getpwnam(name).pw_uid)


def _group(text: str) -> int:
    return _number(text, "group", lambda name: grp.getgrnam(name).gr_gid)


def _number(text: str, what: str, find: Callable[[str], int]) -> int:
    try:
        return int(text) if str(text).isdecimal() else find(text)
    except KeyError:
        raise click.BadParameter(f"there is no {what} {text}") from None


def _mask(text: str) -> int:
    if not re.fullmatch("[0-7]{1,4}", str(text)) or int(str(text), 8) > 0o777:
        raise click.BadParameter(f"{text} is no octal number up to 777")
    return int(str(text), 8)


_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


def size_in_bytes(text: str) -> int:
    """Return the bytes that a size such as 500M stands for. Used as the type of an option."""
    match = re.fullmatch(r"(\d{1,15})([KMGT]?)", str(text).upper())
    if match is None:
        raise click.BadParameter(f"{text} is no size such as 500M, 20G or 1T")
    return int(match[1]) << _UNITS[match[2]]


def spool_of(options: dict[str, Any]) -> "Spool":
    """Return the spool that the options of a drive describe.

    Raises
    ------
    UserError
        The directory cannot be written to.
    """
    from omidbfs.serving.spool import Spool, spool_directories

    named: Path | None = options["spool"]
    directories = spool_directories() if named is None else (named.absolute(),)
    spool = Spool(directories, options["spool_size"])
    if named is not None:
        try:
            os.close(spool.new_file())
        except OSError as error:
            raise UserError(
                f"cannot be written to ({error.strerror})", "name another directory", f"--spool {named}"
            ) from None
    return spool


def serving_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of whatever serves a drive for a long time: its log, refreshes, reading and spool."""
    options = (
        click.option(
            "--log-file",
            type=PATH,
            metavar="FILE",
            help="The log.  [default: the terminal; of a drive in the background, in the user's state directory]",
        ),
        click.option(
            "--readahead",
            type=click.IntRange(0),
            default=1 << 20,
            metavar="BYTES",
            help="How far to read ahead in a file. 0 turns this off.",
            show_default=True,
        ),
        click.option(
            "--refresh-every",
            type=click.FloatRange(1),
            metavar="SECONDS",
            help="Look for changes of the source at this interval.",
        ),
        click.option(
            "--spool",
            type=PATH,
            metavar="DIRECTORY",
            help="Where to keep generated files and renditions.  [default: in the user's cache]",
        ),
        click.option(
            "--spool-size",
            type=size_in_bytes,
            default="2G",
            metavar="SIZE",
            help="How much of them to keep: bytes, or a number with K, M, G or T.",
            show_default=True,
        ),
        click.option("--syslog", is_flag=True, help="Log to the log of the system, not to a file."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def drive_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of ``mount`` that set owner and permissions, and the cleaning up."""
    options = (
        click.option(
            "--uid", type=_user, metavar="USER", help="Show this user as the owner of everything. Only for root."
        ),
        click.option(
            "--gid",
            type=_group,
            metavar="GROUP",
            help="Show this group as the group of everything. Only for root.",
        ),
        click.option("--umask", type=_mask, metavar="MASK", help="Permission bits to take away, in octal."),
        click.option("--replace", is_flag=True, help="First clear a dead mount, whose process was killed."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _ownership_of(options: dict[str, Any]) -> "Ownership | None":
    uid, gid, mask = options.get("uid"), options.get("gid"), options.get("umask") or 0
    if (uid is not None or gid is not None) and os.geteuid() != 0:
        raise UserError("only root may say whose the files are", "leave them out", place="--uid, --gid")
    if uid is None and gid is None and not mask:
        return None
    from omidbfs.view.ownership import Ownership

    return Ownership(uid, gid, mask)


def warn(line: str) -> None:
    """Print a line to standard error, with the name of the program in front."""
    click.echo(f"omidbfs: {printable(line)}", err=True)


def configuration() -> Path | None:
    """Return the configuration that the current command reads."""
    path: Path | None = click.get_current_context().find_root().params.get("config")  # set by main()
    return path


class OptionNames(Mapping[str, set[str]]):
    """Command -> the names of its options, in the form of Python names. Only what is looked up is imported."""

    def __init__(self, commands: Mapping[str, click.Command]) -> None:
        self._commands = commands

    def __getitem__(self, name: str) -> set[str]:
        options = (each for each in self._commands[name].params if isinstance(each, click.Option))
        return {option.name or "" for option in options}

    def __iter__(self) -> Iterator[str]:
        return iter(self._commands)

    def __len__(self) -> int:
        return len(self._commands)


def said_at(context: click.Context, option: str) -> str | None:
    """Return the place of the configuration that sets an option, ``None`` if the configuration does not."""
    from omidbfs.serving.configuration import place_of

    path = configuration()
    if path is None or context.get_parameter_source(option) is not click.core.ParameterSource.DEFAULT_MAP:
        return None
    return place_of(path, context.info_name or "", option)


def session_of(source: Path, options: dict[str, Any]) -> "Session":
    """Return the session that the options of a command describe."""
    from omidbfs.database.layout import find_source

    path = None if source == Path("-") else source
    found = find_source(path, options["images"], options["data"], follow_symlinks=options["follow_symlinks"])

    from omidbfs.base.process import available_cpus
    from omidbfs.base.progress import shown_progress
    from omidbfs.clinical.outcomes import Windows
    from omidbfs.facets import BY_NAME, COHORT_FACET
    from omidbfs.index.classification import Classification
    from omidbfs.index.store import default_path
    from omidbfs.serving.configuration import read_definitions
    from omidbfs.serving.session import Session, read_clients

    windows = Windows(
        options.get("num_months_ci_prior"),
        options.get("num_months_cancer_prior"),
        options.get("num_months_normal_follow_up"),
        options.get("num_months_benign_follow_up"),
    )
    only = None
    if options.get("clients_file") is not None:
        only = read_clients(options["clients_file"], "--clients-file")
    config = configuration()
    definitions = read_definitions(config)
    listed = None
    if options.get("facets"):
        listed = frozenset(name.strip().removeprefix("by-") for name in options["facets"].split(","))
        named = {COHORT_FACET.name} if definitions.cohorts else set()
        known = BY_NAME.keys() | {one.name for one in definitions.facets} | named
        unknown = sorted(listed - known)
        if unknown:
            place = said_at(click.get_current_context(), "facets") or "--facets"
            hint = meant(unknown[0], sorted(known)) or "`omidbfs facets SOURCE` shows them"
            raise UserError(f"there is no facet {', '.join(unknown)}", hint, place)
    return Session(
        found,
        (options["index"] or default_path(found)).absolute(),  # a drive in the background leaves this directory
        shown_progress,
        Classification(windows, options.get("link_all", False)),
        only,
        options["executor"],
        options["workers"] or available_cpus(),
        options.get("links") == "symlink",
        options.get("list_nested", False),
        options.get("list_empty", False),
        None if config is None else config.absolute(),
        click.get_current_context().find_root().meta.get(CONFIG_IS_NAMED, True),
        definitions,
        listed,
        _ownership_of(options),
    )


def index_arguments(source: Path, session: "Session", options: dict[str, Any]) -> list[str]:
    """Return the arguments of the command that brings the index of a session up to date, from any directory."""
    trees = [(name, options[name]) for name in ("images", "data") if options[name] is not None]
    return [
        *("--config", os.devnull if session.config is None else str(session.config), "index"),
        str(source if source == Path("-") else source.absolute()),
        *(f"--{name}={path.absolute()}" for name, path in trees),
        *(["--follow-symlinks"] if options["follow_symlinks"] else []),
        f"--index={session.index_path}",
        f"--workers={session.workers}",
        f"--executor={session.executor}",
        "--json",
    ]
