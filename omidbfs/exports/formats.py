"""The formats: what a cohort can be written as, and under which name the drive has it."""

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
    """What is exported: a cohort, and how its directory is called and names its images.

    ``title`` is the path of the cohort on the drive; ``names`` gives the names of images, less their suffixes,
    relative to that directory.
    """

    cohorts: Cohorts
    cohort: Cohort
    title: str
    names: Callable[[Rows], list[bytes]]


@dataclass(frozen=True, slots=True)
class Format:
    """A format: its name, the file that has it on the drive, and its content for a selection.

    ``is_there`` says whether it can be made: what needs a library that is not installed is not there.
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
    """Return the format that the name of a file asks for, ``None`` if it could be several or is none."""
    name = PurePath(file).name.lower()
    for format_ in _FORMATS:
        if name.endswith(format_.file):
            return format_.name
    return {".csv": "csv", ".parquet": "parquet", ".txt": "paths"}.get(PurePath(name).suffix)
