"""What somebody meant who named a directory that is no source."""

import os
from itertools import islice
from pathlib import Path

from omidbfs.database.layout import trees_below

_UP = 4
"""Levels that a study is below its source."""
_MOST = 1000
"""Entries of a directory that are looked at."""


def sources_near(path: Path, most: int = 3) -> list[str]:
    """Return the source that a directory lies in, as a tree or client of it, else the sources that lie in it.

    They are named as ``path`` is: from the root, or from the current directory.
    """
    place = Path(os.path.realpath(path))
    for parent in place.parents[:_UP]:
        if any(place.is_relative_to(tree) for tree in trees_below(parent).values()):
            return [_named_as(path, parent)]
    try:
        with os.scandir(place) as entries:
            names = sorted(entry.name for entry in islice(entries, _MOST) if entry.is_dir())
        return [str(path / name) for name in names if trees_below(place / name)][:most]
    except OSError:
        return []


def _named_as(path: Path, source: Path) -> str:
    return str(source) if path.is_absolute() else os.path.relpath(source)
