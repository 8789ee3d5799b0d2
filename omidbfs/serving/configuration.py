"""Finds and reads ``omidbfs.toml``: defaults for the options of commands; facets, cohorts and renditions.

Used by commands, and by the refresher in a thread. Pure functions of files: any thread may call them. Keys are
names of options. At the top level, a key holds for every command that has the option: ``follow-symlinks =
true``. In a table named after a command, it holds for that command: ``[mount]`` ``allow-other = true``. Tables
``[facets.NAME]``, ``[cohorts.NAME]`` and ``[renditions.NAME]`` define what their names say.
"""

import grp
import os
import pwd
import stat
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from omidbfs.base.definitions import Lines
from omidbfs.base.errors import UserError
from omidbfs.base.names import printable
from omidbfs.base.places import user_directory
from omidbfs.base.words import meant
from omidbfs.pixels.rendition import Configured

if TYPE_CHECKING:
    from omidbfs.cohorts.named import NamedCohort
    from omidbfs.facets.defined import Definition


_NO_OPTIONS = ("cohorts", "renditions")
"""Tables that hold definitions only."""


def config_file(say: Callable[[str], None] = lambda line: None) -> Path | None:
    """Return the configuration in the current directory, else that in the user's directory, else ``None``.

    The user has not named this file. So a file that another user has written, or can write, is ignored. ``say``
    gets a line about it.
    """
    home = user_directory("config")
    for directory in (Path(), home):
        if directory is None or not os.path.isfile(path := directory / "omidbfs.toml"):
            continue
        reason = _distrusted(path)
        if reason is None:
            return path
        say(f"{path.absolute()}: {reason}, and is ignored; if you trust it, name it with --config")
    return None


def _distrusted(path: Path) -> str | None:
    """Return why a file is not to be trusted; ``None`` if only the caller or root can have written it."""
    link, file, directory = path.lstat(), path.stat(), path.parent.stat()
    if not {link.st_uid, file.st_uid} <= {0, os.geteuid()}:
        return "belongs to another user"
    if _others_can_write(file) or (_others_can_write(directory) and not directory.st_mode & stat.S_ISVTX):
        return "can be written by other users"
    return None


def _others_can_write(facts: os.stat_result) -> bool:
    """Return whether users other than the owner can write a file: all users, or a group with other members.

    Two groups are trusted: root, and the group that many systems make for each user, with the name of the user.
    """
    if not facts.st_mode & stat.S_IWGRP or facts.st_gid == 0:
        return bool(facts.st_mode & stat.S_IWOTH)
    try:
        user, group = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(facts.st_gid)
    except KeyError:
        return True
    return bool(facts.st_mode & stat.S_IWOTH) or group.gr_name != user or not {user}.issuperset(group.gr_mem)


@dataclass(frozen=True, slots=True)
class Definitions:
    """The facets, cohorts and renditions that a configuration defines."""

    facets: tuple["Definition", ...] = ()
    cohorts: tuple["NamedCohort", ...] = ()
    renditions: Configured = field(default_factory=Configured)


def trusted_definitions(path: Path | None, *, is_named: bool) -> Definitions:
    """Return :func:`read_definitions` of a configuration that was trusted before, if it can still be trusted.

    Raises
    ------
    UserError
        The user has not named the file, and another user has written it since, or can write it. Otherwise as
        :func:`read_definitions`.
    """
    if path is not None and not is_named and path.exists() and (reason := _distrusted(path)) is not None:
        raise UserError(reason, "if you trust it, mount again with --config", place=path)
    return read_definitions(path)


def read_definitions(path: Path | None) -> Definitions:
    """Return the facets, cohorts and renditions that a configuration defines; none for ``None``.

    Raises
    ------
    UserError
        A definition is wrong. The message has file, line and reason.
    """
    if path is None:
        return Definitions()
    text, document, mtime_ns = _read(path)
    facets, cohorts, renditions = (_definitions(document, kind) for kind in ("facets", "cohorts", "renditions"))
    if not facets and not cohorts and not renditions:
        return Definitions()
    from omidbfs.cohorts.named import named_cohorts
    from omidbfs.facets.defined import definitions  # imported here, because it loads numpy
    from omidbfs.pixels.configured import configured

    return Definitions(
        definitions(facets, path, text),
        named_cohorts(cohorts, path, text),
        configured(renditions, path, text, mtime_ns),
    )


def _definitions(document: Mapping[str, object], table: str) -> dict[str, object]:
    """Return name -> definition. The table ``[facets]`` also has the options of the command ``facets``."""
    tables = document.get(table)
    if table != "facets" and tables is not None and not isinstance(tables, dict):
        return {"": tables}
    return {
        name: inner
        for name, inner in (tables.items() if isinstance(tables, dict) else ())
        if table != "facets" or isinstance(inner, dict)
    }


def _read(path: Path) -> tuple[str, dict[str, object], int]:
    """Return the content of a configuration, as text and as a document, and its modification time in ns."""
    import tomllib

    try:
        with path.open(encoding="utf-8-sig") as file:
            text, mtime_ns = file.read(), os.fstat(file.fileno()).st_mtime_ns
        return text, tomllib.loads(text), mtime_ns
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", place=path) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"not valid TOML: {printable(str(error))}", place=path) from error


def read_config(path: Path | None, options: Mapping[str, set[str]]) -> dict[str, dict[str, object]]:
    """Return command -> parameter -> value.

    Parameters
    ----------
    path
        The file; ``None`` gives no defaults.
    options
        Command -> the names of its options, in the form of Python names.

    Raises
    ------
    UserError
        The file cannot be read, is not TOML, or has a key that is no option. The message has file, line and
        reason.
    """
    if path is None:
        return {}
    text, document, _ = _read(path)
    for kind in _NO_OPTIONS:
        document.pop(kind, None)

    def refused(reason: str, words: Iterable[str], *keys: str) -> UserError:
        hint = meant(keys[-1], (word.replace("_", "-") for word in words))
        return UserError(reason, hint, f"{path}:{Lines(text).of(*keys)}")

    defaults: dict[str, dict[str, object]] = {command: {} for command in options}
    for key, value in document.items():
        parameter = key.replace("-", "_")
        if isinstance(value, dict):
            if key not in options:
                raise refused(f"[{printable(key)}] is no command of omidbfs", (*options, *_NO_OPTIONS), key)
            for inner, setting in value.items():
                if key == "facets" and isinstance(setting, dict):
                    continue
                if inner.replace("-", "_") not in options[key]:
                    raise refused(f"{printable(inner)} is no option of omidbfs {key}", options[key], key, inner)
                defaults[key][inner.replace("-", "_")] = setting
            continue
        commands = [command for command, names in options.items() if parameter in names]
        if not commands:
            raise refused(f"{printable(key)} is no option of any command", set().union(*options.values()), key)
        for command in commands:
            defaults[command].setdefault(parameter, value)
    return defaults


def shared_defaults(path: Path | None, names: Collection[str]) -> dict[str, object]:
    """Return the options among ``names`` that the top level of a configuration sets, so for every command.

    ``names`` and the keys of the answer have the form of Python names.

    Raises
    ------
    UserError
        The file cannot be read, or is not TOML.
    """
    document = {} if path is None else _read(path)[1]
    return {key.replace("-", "_"): value for key, value in document.items() if key.replace("-", "_") in names}


def place_of(path: Path, command: str, option: str) -> str:
    """Return the file, line and key that set an option of a command, for a message."""
    lines = Lines(_read(path)[0])
    spelled = (option.replace("_", "-"), option)
    for keys in (*((command, key) for key in spelled), *((key,) for key in spelled)):
        if keys in lines:
            return f"{path}:{lines.of(*keys)}: {keys[-1]}"
    return f"{path}: {option}"
