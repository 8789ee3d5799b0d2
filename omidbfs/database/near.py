"""Finds the two trees of a source, and suggests a source for a directory near one.

``layout.py`` uses it. The functions only read the disk: any thread may call them.
"""

import os
from itertools import islice
from pathlib import Path

ROOTS = ("", "image_db/sharing/standard", "sharing/standard", "sharing/omi-db", "FFDM")
"""Directories below SOURCE that may hold the two trees, in the order of search."""
_UP = 4
"""Number of levels between a study and its source."""
_MOST = 1000
"""Most entries of a directory that are examined."""


def trees_below(path: Path) -> dict[str, Path]:
    """Return the trees of a source by name, none for a directory that is not a source."""
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
    """Return the source around a directory (a tree or a client, say), or else the sources directly in it.

    The paths are absolute if ``path`` is, and otherwise relative to the current directory.
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
