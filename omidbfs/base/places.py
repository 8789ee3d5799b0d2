"""The directories of a user's indexes, logs and configuration (XDG Base Directory Specification).

Commands and drives use it. Pure functions of the environment: any thread may call them.
"""

import os
import pwd
from pathlib import Path
from typing import Literal

_PLACES = {
    "cache": ("XDG_CACHE_HOME", ".cache"),
    "config": ("XDG_CONFIG_HOME", ".config"),
    "state": ("XDG_STATE_HOME", ".local/state"),
}


def user_directory(kind: Literal["cache", "config", "state"]) -> Path | None:
    """Return the directory of omidbfs for one kind of file, ``None`` for a user without a home directory.

    As the specification demands, a relative path in the environment is ignored. It would depend on the current
    directory, and a drive in the background changes that.
    """
    variable, below = _PLACES[kind]
    named = os.environ.get(variable, "")
    if os.path.isabs(named):
        return Path(named) / "omidbfs"
    home = _home()
    return home / below / "omidbfs" if home is not None else None


def _home() -> Path | None:
    home = os.environ.get("HOME", "")
    if not os.path.isabs(home):
        try:
            home = pwd.getpwuid(os.getuid()).pw_dir
        except KeyError:
            return None
    return Path(home) if os.path.isabs(home) else None
