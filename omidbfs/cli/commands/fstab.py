"""Translates the call that mount(8) makes for a line of ``/etc/fstab`` into ``omidbfs mount``. ``cli/main.py``
uses this module, in the main thread.

For the type ``fuse.omidbfs`` mount(8) calls mount.fuse3, which runs ``omidbfs SOURCE MOUNTPOINT -o OPTIONS``
through a shell (libfuse, util/mount.fuse.c). OPTIONS ends in ``dev,suid`` unless the line has ``nodev,nosuid``.
mount(8) adds ``rw`` unless the line has ``ro``, turns names after ``uid=`` and ``gid=`` into numbers, and drops
``x-*``.
"""

import os
import pwd
from collections.abc import Sequence

import click

from omidbfs.base.errors import UserError

_OF_EVERY_MOUNT = frozenset(
    (
        *("defaults", "ro", "rw", "dev", "nodev", "suid", "nosuid", "exec", "noexec", "default-permissions"),
        *("auto", "noauto", "user", "nouser", "users", "owner", "group", "nofail", "_netdev", "comment"),
        *("async", "sync", "dirsync", "iversion", "noiversion", "mand", "nomand", "silent", "loud"),
        *("atime", "noatime", "diratime", "nodiratime", "relatime", "norelatime", "strictatime"),
        *("nostrictatime", "lazytime", "nolazytime"),
    )
)
"""Options that we ignore: they concern mount(8), or a drive has them anyway (read-only, nosuid, nodev, noexec)."""


def arguments(given: Sequence[str], group: click.Group) -> list[str]:
    """Return the arguments of ``omidbfs``. Translate a call by mount.fuse3 into one of ``omidbfs mount``.

    Raises
    ------
    UserError
        An option is not one of ``mount``, lacks its value, or has a value and takes none.
    """
    if len(given) < 4 or given[0] in group.commands or len(given) % 2 or set(given[2::2]) != {"-o"}:
        return list(given)
    _use_own_home()
    common = {"config": f"--config={os.devnull}"}  # a drive mounted at boot reads no configuration by chance
    options: list[str] = []
    for option in ",".join(given[3::2]).split(","):
        name, has_value, value = option.partition("=")
        name = name if name.startswith("_") else name.replace("_", "-")
        if not option or name in _OF_EVERY_MOUNT or name[:2] in ("x-", "X-"):
            continue
        if name == "remount":
            raise UserError(
                "a drive cannot be changed while it is mounted", "unmount it, then mount it", place="-o remount"
            )
        text = _argument(group, "mount", name, value if has_value else None)
        if name in ("config", "debug"):
            common[name] = text
        else:
            options.append(text)
    return [*common.values(), "mount", *options, "--", *given[:2]]


def _argument(group: click.Group, command: str, name: str, value: str | None) -> str:
    candidates = (*group.commands[command].params, *group.params)
    known = next((known for known in candidates if f"--{name}" in known.opts), None)
    if not isinstance(known, click.Option) or name in ("help", "version"):
        raise UserError("no option of a drive", "`omidbfs mount --help` shows them", f"-o {name}")
    if known.is_flag and value is not None:
        raise UserError(f"-o {name}: takes no value")
    if not known.is_flag and not value:
        raise UserError(f"-o {name}: needs a value, {name}=...")
    return f"--{name}" if value is None else f"--{name}={value}"


def _use_own_home() -> None:
    """Set HOME to that of the current user: with ``setuid=``, mount.fuse3 changes the user but not HOME."""
    home = os.environ.get("HOME", "")
    try:
        is_ours = os.stat(home).st_uid == os.geteuid()
    except OSError:
        is_ours = False
    if not is_ours and os.geteuid() != 0:
        try:
            os.environ["HOME"] = pwd.getpwuid(os.geteuid()).pw_dir
        except KeyError:
            os.environ.pop("HOME", None)
