"""Where a user's index, log and configuration are, as the XDG Base Directory Specification has it. Used by
commands and drives; pure functions of the environment, for any thread.
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
    """Return our directory among the user's files of one kind, ``None`` for a user without a home.

    A relative name in the environment is ignored, as the specification says: it would be another place in
    each directory, and a drive in the background leaves the one that it was started in.
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
