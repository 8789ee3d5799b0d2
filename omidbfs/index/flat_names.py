"""The names of images in flat cohorts, and the images that a name in a list or table stands for.

The view, exports and ``levels.py`` use these functions, which are pure, from any thread.
"""

import os
import re

import numpy as np
from numpy.typing import NDArray

from omidbfs.base.names import LONGEST, digest, safe_bytes
from omidbfs.index.columns import Index

_SUFFIX = re.compile(r"\.(dcm|json|png|tiff|npy)$", re.I)


def flat_names(index: Index, rows: NDArray[np.integer]) -> list[bytes]:
    """Return the names of images in flat cohorts, without suffixes."""
    names = index.images.take(rows)
    if index.duplicates:
        for place in np.flatnonzero(index.duplicates.holds(rows)).tolist():
            names[place] = flat_name(index, int(rows[place]))
    return names


def flat_name(index: Index, row: int) -> bytes:
    """Return the name in flat cohorts, without suffix, of an image whose UID occurs more than once."""
    study = int(index.study_of[row])
    name = b"~".join((index.images[row], index.clients[int(index.client_of[row])]))
    study_name = index.studies[study]
    if len(name) + len(study_name) > LONGEST + 40:
        study_name = digest(study_name)[:16]
    return name + b"~" + study_name


def rows_named(index: Index, name: str) -> list[int]:
    """Return the rows that the name of an image in a list or table stands for, ascending.

    ``name`` is the name of an image on disk or on the drive, or of one of its files or renditions. It may also
    have the form ``<uid>~<client>~<study>``, which flat cohorts use if a UID occurs more than once.
    """
    raw = os.fsencode(name)
    rows = index.image_table.find(safe_bytes(raw)) or index.image_table.find(raw)
    if rows:
        return rows
    bare = _SUFFIX.sub("", name)
    if bare != name:
        return rows_named(index, bare)
    rows = index.image_table.find(raw.partition(b"~")[0]) if b"~" in raw else []
    shown = flat_names(index, np.array(rows, np.intp))
    return [row for row, flat in zip(rows, shown, strict=True) if flat == raw]
