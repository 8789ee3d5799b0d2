"""The group of all commands: it finds a command, and prints an error as one line. ``cli/main.py`` fills it.
Everything here runs in the main thread.
"""

import logging
import signal
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

import click

from omidbfs.base.errors import UserError
from omidbfs.base.process import has_current_directory, open_standard_streams, output_is_lost
from omidbfs.base.words import meant
from omidbfs.cli.command import Command
from omidbfs.cli.commands import fstab
from omidbfs.cli.options import said_at, warn


class Commands(MutableMapping[str, click.Command]):
    """The commands by name. Each is imported when it is asked for, because to import all takes 10 ms."""

    def __init__(self, others: Mapping[str, Callable[[], click.Command]]) -> None:
        self._others, self._known = others, dict[str, click.Command]()

    def __getitem__(self, name: str) -> click.Command:
        if name not in self._known and name in self._others:
            self._known[name] = self._others[name]()
        return self._known[name]

    def __contains__(self, name: object) -> bool:
        return name in self._known or name in self._others

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._known[name] = command

    def __delitem__(self, name: str) -> None:
        del self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**self._others, **self._known})

    def __len__(self) -> int:
        return len({**self._others, **self._known})


_ALIASES = {"unmount": "umount"}
"""What people also type for a command."""
_PURPOSES = {
    "Drives": ("demo", "mount", "umount", "refresh", "status", "systemd", "serve", "password"),
    "Cohorts": ("count", "facets", "table", "ls", "describe", "report", "export", "verify", "split", "geometry"),
    "The source and this system": ("index", "check", "doctor", "completion", "help"),
}
"""Title -> the commands for that purpose. ``--help`` lists them in this order."""


_TOPICS = (
    ("help path", "How a path selects images. It is also the README.txt of every drive."),
    ("help configuration", "What omidbfs.toml can say, with an example."),
)
_WHOLE_SENTENCE = 1000
"""More characters than the first sentence of a help has."""


class Group(click.Group):
    """The group of all commands. It prints an error, or Ctrl-C, as one line; a traceback only with ``--debug``."""

    command_class = Command

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command, with standard streams that are open."""
        open_standard_streams()
        return super().main(*args, **kwargs)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of this name, or the one that people mean by it."""
        return super().get_command(ctx, _ALIASES.get(cmd_name, cmd_name))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands by purpose, each with the whole first sentence of its help, and then the topics."""
        for title, names in _PURPOSES.items():
            rows = [(name, self.commands[name].get_short_help_str(_WHOLE_SENTENCE)) for name in names]
            with formatter.section(title):
                formatter.write_dl(rows)
        with formatter.section("Topics"):
            formatter.write_dl(_TOPICS)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments, also those of mount(8)."""
        try:
            return super().parse_args(ctx, _config_first(fstab.arguments(args, self)))
        except BrokenPipeError:
            raise  # as in invoke()
        except (UserError, OSError) as error:  # OSError: --help is printed here, and the output may fail
            warn(_explained(error))
            ctx.exit(1)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command. An error ends the program with status 1, Ctrl-C with 130."""
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
