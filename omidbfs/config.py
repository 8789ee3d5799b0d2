"""``omidbfs.toml``: defaults for the options of the command line.

Keys are option names. At the top level they hold for every command that has the option, in a table named after
a command for that command: ``follow-symlinks = true``, ``[mount]`` ``allow-other = true``.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path

from omidbfs.errors import UserError


def config_file() -> Path | None:
    """Return the configuration of the current directory, else the user's, else ``None``."""
    home = Path(os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"))
    candidates = (Path("omidbfs.toml"), home / "omidbfs" / "omidbfs.toml")
    return next((path for path in candidates if path.is_file()), None)


def read_config(path: Path | None, options: Mapping[str, set[str]]) -> dict[str, dict[str, object]]:
    """Return command -> parameter -> value.

    Parameters
    ----------
    path
        The file; ``None`` looks for one, and none is fine.
    options
        Command -> the names of its options, in the form of Python names.

    Raises
    ------
    UserError
        The file cannot be read, is not TOML, or has a key that is no option.
    """
    path = path or config_file()
    if path is None:
        return {}
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid TOML: {error}") from error
    defaults: dict[str, dict[str, object]] = {command: {} for command in options}
    for key, value in document.items():
        parameter = key.replace("-", "_")
        if isinstance(value, dict):
            if key not in options:
                raise UserError(f"{path}: [{key}] is no command of omidbfs")
            for inner, setting in value.items():
                if inner.replace("-", "_") not in options[key]:
                    raise UserError(f"{path}: {inner} is no option of omidbfs {key}")
                defaults[key][inner.replace("-", "_")] = setting
            continue
        commands = [command for command, names in options.items() if parameter in names]
        if not commands:
            raise UserError(f"{path}: {key} is no option of any command")
        for command in commands:
            defaults[command].setdefault(parameter, value)
    return defaults
