"""``omidbfs serve`` and ``omidbfs password``: a drive over HTTP, and who may use it. The command line uses them,
in the main thread.
"""

import sys
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from omidbfs.base.errors import UserError
from omidbfs.base.process import handled_ending, leave
from omidbfs.cli.command import command
from omidbfs.cli.options import (
    PATH,
    facets_option,
    index_arguments,
    serving_options,
    session_of,
    source_options,
    spool_of,
)

if TYPE_CHECKING:
    from omidbfs.http.access import Door
    from omidbfs.http.listeners import Address


@command(example="omidbfs serve db")
@source_options
@click.option(
    "--http",
    default="127.0.0.1:8080",
    metavar="ADDRESS",
    help="Where to listen: HOST:PORT, or unix:PATH. Port 0 takes any that is free.",
    show_default=True,
)
@click.option("--passwords", type=PATH, metavar="FILE", help="Let in the users of this file, in place of a token.")
@click.option("--certificate", type=PATH, metavar="FILE", help="Use TLS, with this certificate (PEM).")
@click.option("--key", type=PATH, metavar="FILE", help="The key of the certificate, if it is another file.")
@click.option("--name", multiple=True, metavar="NAME", help="A further name by which clients call this machine.")
@click.option("--unit", is_flag=True, help="Print a unit of systemd that serves SOURCE at boot, and end.")
@facets_option
@serving_options
@click.pass_context
def serve(ctx: click.Context, /, source: Path, **options: Any) -> None:
    """Serve SOURCE over HTTP and WebDAV, with a page for browsers. Ctrl-C ends the server.

    The command prints the address, with a token that lets its bearer in. Other machines are served only with
    --certificate and --passwords.
    """
    if find_spec("h11") is None:
        raise UserError("not installed", "pip install 'omidbfs[serve]'", place="serve")
    from omidbfs.cli.drives import early_requests, opened_drive
    from omidbfs.http.listeners import address_of, encryption, listen, take

    address = address_of(options["http"])
    _check_open(address, options)
    context = encryption(options["certificate"], options["key"]) if options["certificate"] is not None else None
    if options["unit"]:
        from omidbfs.cli.commands.systemd import service_of_server

        if options["passwords"] is None and address.path is None:
            raise UserError("a token would be in the log of the system", "use --passwords or unix:PATH", "--unit")
        at = options["http"] if address.path is None else address.url("")
        click.echo(service_of_server(ctx, source, at))
        return
    session = session_of(source, options)
    spool = spool_of(options)
    early = early_requests()
    with handled_ending(leave), closing(address):  # a Unix socket has to go, whatever ends the server
        take(address)
        door = _door(address, options, is_encrypted=context is not None)
        from omidbfs.fuse.control import start_log
        from omidbfs.http.daemon import ServeOptions, front_end
        from omidbfs.http.daemon import serve as serve_drive

        arguments = index_arguments(source, session, options)
        opened = opened_drive(session, options, arguments, spool, front_end, early)
        if opened is None:
            ctx.exit(1)
        refresher, schedule = opened
        start_log(options["log_file"], foreground=True, syslog=options["syslog"])
        del opened  # a refresh can then free the index
        listen(address)
        said = address.url("http" if context is None else "https")
        said += "" if door.token is None else f"?token={door.token}"
        click.echo(said)  # a client that comes at once waits until the drive is served
        serve_drive(ServeOptions(address, door, context, schedule), refresher)


def _check_open(address: "Address", options: dict[str, Any]) -> None:
    """Refuse an address that other machines can reach, unless it is encrypted and asks for passwords."""
    if options["key"] is not None and options["certificate"] is None:
        raise UserError("a key alone is of no use", "--certificate names its certificate", "--key")
    if address.path is not None and (options["certificate"] is not None or options["passwords"] is not None):
        raise UserError(
            "a Unix socket lets in its owner, without passwords or TLS",
            "leave them out",
            f"--http {options['http']}",
        )
    lacking = [name for name in ("certificate", "passwords") if options[name] is None]
    if not address.is_local and lacking:
        needed = " and ".join(f"--{name}" for name in lacking)
        raise UserError(
            f"other machines can reach this address, which needs {needed}",
            "or serve 127.0.0.1 and reach it through ssh -L",
            f"--http {options['http']}",
        )


def _door(address: "Address", options: dict[str, Any], *, is_encrypted: bool) -> "Door":
    from omidbfs.http.access import Door, names_of
    from omidbfs.http.passwords import Passwords

    passwords = None if options["passwords"] is None else Passwords(options["passwords"].absolute())
    names = names_of(address.host) | {*options["name"]}
    is_private = address.path is not None
    return Door(address.port, names, passwords, is_private=is_private, is_encrypted=is_encrypted)


@command(example="omidbfs password USER")
@click.argument("name")
@click.option("--user", metavar="USER", help="The user of this machine whose rights apply.  [default: NAME]")
def password(name: str, user: str | None) -> None:
    """Print a line for the file of serve --passwords. It lets NAME in with the password that you type.

    Without a terminal, the password is the first line of standard input.
    """
    from omidbfs.http.passwords import identity_of, new_line

    identity_of(user or name)
    if sys.stdin.isatty():
        text = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        text = sys.stdin.readline().rstrip("\r\n")
    click.echo(new_line(name, text, user))
