"""``omidbfs completion``: what makes a shell complete our commands and options, from click's own machinery.

The scripts ask the program itself at each completion: what an option or argument completes to is decided where it
is declared, by its type or its ``shell_complete``, and needs no word here.
"""

import click
from click.shell_completion import get_completion_class

from omidbfs.base.errors import UserError

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what makes SHELL complete the commands and options of omidbfs."""
    click.echo(script(shell, ctx.find_root().command))


def script(shell: str, command: click.Command) -> str:
    """Return the text that a shell reads; values of options and arguments complete by their types' own rules."""
    found = get_completion_class(shell)
    if found is None:
        raise UserError("this version of click completes nothing there", place=shell)
    completer = found(command, {}, "omidbfs", "_OMIDBFS_COMPLETE")
    # Not source(): for bash that runs the bash at hand to see whether it is new enough, which is another matter.
    return (completer.source_template % completer.source_vars()).rstrip("\n")
