"""``omidbfs systemd``: prints systemd units for a drive, a service and a mount. The command line uses it, in
the main thread.
"""

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from omidbfs.base.errors import UserError
from omidbfs.base.process import module_command
from omidbfs.cli.command import Command
from omidbfs.cli.options import PATH, configuration

_NOT_IN_UNITS = ("foreground", "replace")
"""Options of ``mount`` that the units set themselves."""


def systemd_command(mount: click.Command) -> click.Command:
    """Return the command. It has the options of ``mount``."""
    command = Command(
        "systemd",
        example="omidbfs systemd /srv/omi-db /mnt/omi-db --install /etc/systemd/system",
        callback=_print_units,
        params=[parameter for parameter in mount.params if parameter.name not in _NOT_IN_UNITS],
        help="Print systemd units that mount SOURCE at MOUNTPOINT at boot. Use one of the two, service or mount.",
    )
    command.params += [
        click.Option(["--user"], metavar="USER", help="Run the service as this user.  [default: root]"),
        click.Option(
            ["--install"], type=PATH, metavar="DIRECTORY", help="Write the units there, not to the output."
        ),
    ]
    return command


@click.pass_context
def _print_units(ctx: click.Context, /, source: Path, mountpoint: Path, **values: Any) -> None:
    user, directory = values.pop("user"), values.pop("install")
    options = list(_options(ctx))
    roots = [values[name] for name in ("images", "data") if values[name] is not None]
    place = os.path.abspath(mountpoint)
    what = "-" if source == Path("-") else os.path.abspath(source)
    needs = [what] if what != "-" else []
    needs += [os.path.abspath(root) for root in roots]
    units = {
        f"omidbfs-{escaped(place)}.service": _service(what, place, needs, options, user),
        f"{escaped(place)}.mount": _mount(what, place, needs, options),
    }
    if directory is None:
        for name, text in units.items():
            click.echo(f"# {name}\n{text}")
        return
    for name, text in units.items():
        (directory / name).write_text(text, encoding="utf-8", errors="surrogateescape")
    service, unit = units
    click.echo(
        f"systemctl daemon-reload && systemctl enable --now {service}  # or, in its place, {unit}", err=True
    )


def _options(ctx: click.Context) -> Iterator[tuple[str, str | None]]:
    """Yield the options of ``mount`` that the user set, in any way. Make file names absolute."""
    for parameter in ctx.command.params:
        name = parameter.name or ""
        if not isinstance(parameter, click.Option) or name in ("user", "install"):
            continue
        value = ctx.params[name]
        if value is None or ctx.get_parameter_source(name) in (ParameterSource.DEFAULT, None):
            continue
        long = next(option for option in parameter.opts if option.startswith("--"))[2:]
        if parameter.is_flag:
            if value:
                yield long, None
        elif isinstance(value, Path):
            yield long, os.path.abspath(value)
        elif isinstance(value, tuple):
            yield from ((long, each) for each in value)
        else:
            yield (
                long,
                f"{value:03o}" if name == "umask" else f"{value:g}" if isinstance(value, float) else str(value),
            )


def _service(
    source: str, mountpoint: str, needs: list[str], options: list[tuple[str, str | None]], user: str | None
) -> str:
    command = [*program(), *_given(_config()), "mount", "--foreground", "--replace", *_given(options)]
    command += ["--", source, mountpoint]
    return f"""\
# All users must see the mount: do not add PrivateTmp=, ProtectSystem= or the like, which hide it in a namespace.
[Unit]
Description=OMI-DB at {_plain(mountpoint)}
Documentation=man:omidbfs(1)
{_requires(needs)}
[Service]
Type=notify
{f"User={_plain(user)}" + chr(10) if user else ""}ExecStart={" ".join(_argument(word) for word in command)}
ExecReload=kill -HUP $MAINPID
Restart=on-failure
# The first start reads the whole database, which may take long.
TimeoutStartSec=infinity

[Install]
WantedBy=multi-user.target
"""


def service_of_server(ctx: click.Context, source: Path, http: str) -> str:
    """Return a unit of systemd that runs ``omidbfs serve`` with the options of a call.

    ``http`` is the address: ``HOST:PORT``, or ``unix:`` and an absolute path.
    """
    what = "-" if source == Path("-") else os.path.abspath(source)
    roots = [ctx.params[name] for name in ("images", "data") if ctx.params[name] is not None]
    needs = [*([what] if what != "-" else []), *(os.path.abspath(root) for root in roots)]
    options = [(name, value) for name, value in _options(ctx) if name not in ("unit", "http")]
    words = [*program(), *_given(_config()), "serve", *_given([("http", http), *options]), "--", what]
    command = " ".join(_argument(word) for word in words)
    files = [http.removeprefix("unix:")] if http.startswith("unix:") else []
    files += [value for name, value in options if value is not None and name in ("index", "log-file")]
    places = [os.path.dirname(file) for file in files]
    places += [value for name, value in options if value is not None and name == "spool"]
    return f"""\
# As User= name the user who may read the source, and who owns the file of passwords.
[Unit]
Description=OMI-DB over HTTP
Documentation=man:omidbfs-serve(1)
After=network-online.target
Wants=network-online.target
{_requires(needs)}
[Service]
Type=notify
User=omidb
ExecStart={command}
ExecReload=kill -HUP $MAINPID
Restart=on-failure
# The first start reads the whole database, which may take long.
TimeoutStartSec=infinity
NoNewPrivileges=yes
ProtectSystem=strict
PrivateTmp=yes
CacheDirectory=omidbfs
StateDirectory=omidbfs
{_writable(places)}Environment=XDG_CACHE_HOME=%C XDG_STATE_HOME=%S

[Install]
WantedBy=multi-user.target"""


def _config() -> list[tuple[str, str]]:
    """Return the option for the configuration that was read: it may define cohorts, facets and renditions."""
    config = configuration()
    return [] if config is None else [("config", os.path.abspath(config))]


def _given(options: Sequence[tuple[str, str | None]]) -> list[str]:
    """Return options as words of a command line."""
    return [f"--{name}" if value is None else f"--{name}={value}" for name, value in options]


def _writable(directories: list[str]) -> str:
    """Return the lines that let a service with ``ProtectSystem=strict`` write to directories.

    systemd makes those right below ``/run``, which is empty after a boot.
    """
    lines = []
    for place in dict.fromkeys(directories):
        above, _, name = place.rpartition("/")
        key, value = ("RuntimeDirectory", name) if above == "/run" else ("ReadWritePaths", f"-{place}")
        lines.append(f"{key}={_argument(value).replace('$$', '$')}\n")
    return "".join(lines)


def _mount(source: str, mountpoint: str, needs: list[str], options: list[tuple[str, str | None]]) -> str:
    texts = []
    for name, value in [*_config(), *options]:
        if value is not None and "," in value:
            raise UserError("a comma ends an option of mount(8)", "name it without one", f"--{name}: {value}")
        texts.append(name if value is None else f"{name}={value}")
    return f"""\
# Instead of the service: mount(8) then runs omidbfs, which it must find in /usr/local/bin or /usr/bin.
[Unit]
Description=OMI-DB at {_plain(mountpoint)}
Documentation=man:omidbfs(1)
{_requires(needs)}
[Mount]
What={_plain(source)}
Where={_plain(mountpoint)}
Type=fuse.omidbfs
Options={_plain(",".join([*texts, "nosuid", "nodev"]))}
TimeoutSec=infinity

[Install]
WantedBy=multi-user.target
"""


def _requires(paths: list[str]) -> str:
    return "".join(f"RequiresMountsFor={_argument(path).replace('$$', '$')}\n" for path in paths)


def program() -> list[str]:
    """Return the command that starts this program from any directory."""
    beside = Path(sys.executable).with_name("omidbfs")
    found = str(beside) if beside.exists() else shutil.which("omidbfs")
    return [found] if found else module_command("omidbfs")


def escaped(path: str) -> str:
    """Return a path as part of the name of a unit, as ``systemd-escape --path`` does (systemd.unit(5))."""
    name = "/".join(part for part in path.split("/") if part)
    if not name:
        return "-"
    return "".join(
        "-"
        if character == 0x2F
        else chr(character)
        if (chr(character).isascii() and (chr(character).isalnum() or chr(character) in ":_"))
        or (character == 0x2E and position > 0)
        else f"\\x{character:02x}"
        for position, character in enumerate(os.fsencode(name))
    )


def _plain(text: str) -> str:
    """Return text as a value of a unit. A percent sign is doubled, because it begins a specifier."""
    if any(ord(character) < 0x20 or character == "\x7f" for character in text):
        raise UserError("has characters that no unit of systemd can hold", place=repr(text))
    return text.replace("%", "%%")


def _argument(text: str) -> str:
    """Return text as a word of a command line in a unit (systemd.service(5))."""
    text = _plain(text).replace("$", "$$")
    if text and not set(text) & set(" \"'\\;"):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
