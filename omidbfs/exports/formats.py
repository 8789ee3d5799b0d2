"""The formats in which a cohort can be written, and the names of their files on the drive.

The view, the drive and ``omidbfs export`` use this list. It is immutable, for any thread.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath

from omidbfs.cohorts.cohort import Cohort, Cohorts
from omidbfs.exports.coco import coco
from omidbfs.exports.fields import Rows
from omidbfs.exports.parquet import has_pyarrow, parquet
from omidbfs.exports.table import csv
from omidbfs.exports.texts import path_list, summary


@dataclass(frozen=True, slots=True)
class Selection:
    """What is exported: a cohort, and the names of its directory and of its images.

    ``title`` is the path of the cohort on the drive. ``names`` returns the names of images without suffixes,
    relative to that directory.
    """

    cohorts: Cohorts
    cohort: Cohort
    title: str
    names: Callable[[Rows], list[bytes]]


@dataclass(frozen=True, slots=True)
class Format:
    """A format: its name, the name of its file on the drive, and its content for a selection.

    ``is_there`` returns whether the library that the format needs is installed.
    """

    name: str
    file: str
    content: Callable[[Selection], Iterator[bytes]]
    is_there: Callable[[], bool] = lambda: True


_FORMATS = (
    Format("csv", "index.csv", lambda chosen: csv(chosen.cohorts, chosen.cohort)),
    Format("parquet", "index.parquet", lambda chosen: parquet(chosen.cohorts, chosen.cohort), has_pyarrow),
    Format("coco", "coco.json", lambda chosen: coco(chosen.cohorts, chosen.cohort, chosen.title, chosen.names)),
    Format("summary", "summary.json", lambda chosen: summary(chosen.cohorts, chosen.cohort, chosen.title)),
    Format("paths", "paths.txt", lambda chosen: path_list(chosen.cohorts, chosen.cohort)),
)

FORMATS: Mapping[str, Format] = {format_.name: format_ for format_ in _FORMATS}
"""The formats by name."""

BY_FILE: Mapping[bytes, Format] = {format_.file.encode(): format_ for format_ in _FORMATS}
"""The formats by the name of their file on the drive."""


def format_of(file: str) -> str | None:
    """Return the format that the name of a file implies, ``None`` if it implies none or several."""
    name = PurePath(file).name.lower()
    for format_ in _FORMATS:
        if name.endswith(format_.file):
            return format_.name
    return {".csv": "csv", ".parquet": "parquet", ".txt": "paths"}.get(PurePath(name).suffix)
