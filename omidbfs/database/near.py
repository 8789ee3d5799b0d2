"""Where the two trees of a source are, and which source was meant by a directory near one."""

import os
from itertools import islice
from pathlib import Path

ROOTS = ("", "image_db/sharing/standard", "sharing/standard", "sharing/omi-db", "FFDM")
"""Where below SOURCE the two trees are looked for, in this order."""
_UP = 4
"""Levels that a study is below its source."""
_MOST = 1000
"""Entries of a directory that are looked at."""


def trees_below(path: Path) -> dict[str, Path]:
    """Return the trees that a source has, by name; none for what is no source."""
    for root in ROOTS:
        base = Path(os.path.realpath(path / root))
        trees = {
            tree: base / name
            for tree in ("images", "data")
            for name in (tree.upper(), tree)
            if (base / name).is_dir()
        }
        if trees:
            return trees
    return {}


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
