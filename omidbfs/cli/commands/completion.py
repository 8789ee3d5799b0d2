"""``omidbfs completion``: prints the script of click with which a shell completes commands and options. The
command line uses it, in the main thread.

At each completion the script runs omidbfs. The type of an option or argument, or its ``shell_complete``, gives the
candidates.
"""

import click
from click.shell_completion import get_completion_class

from omidbfs.base.errors import UserError
from omidbfs.cli.command import command

SHELLS = ("bash", "zsh", "fish")


@command(example="omidbfs completion bash")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a script with which a shell completes omidbfs commands."""
    click.echo(script(shell, ctx.find_root().command))


def script(shell: str, command: click.Command) -> str:
    """Return the script for a shell.

    Raises
    ------
    UserError
        click does not support the shell.
    """
    found = get_completion_class(shell)
    if found is None:
        raise UserError("this version of click completes nothing there", place=shell)
    completer = found(command, {}, "omidbfs", "_OMIDBFS_COMPLETE")
    # Not source(): for bash, it runs the installed bash to check its version.
    return (completer.source_template % completer.source_vars()).rstrip("\n")
