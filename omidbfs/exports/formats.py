"""The formats in which a cohort can be written, and the names of their files on the drive.

The view, the drive and ``omidbfs export`` use this list. It is immutable, for any thread. A format is imported
when it is written, so that ``--help`` can name all formats without numpy.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omidbfs.exports.fields import Table
    from omidbfs.exports.selection import Selection
    from omidbfs.exports.tar import Archive

OMIDB_SUMMARY = "omidb-summary"
"""The format of ``omidb summarise``. It reads the source, so the drive has no file of it."""


@dataclass(frozen=True, slots=True)
class Format:
    """A format: its name, the name of its file on the drive, and its content for a selection.

    ``is_there`` returns whether the library that the format needs is installed. A format with an ``archive`` has
    no ``content``: its bytes are those of the files in the cohort, in places that the archive knows.
    ``has_coordinates`` is ``True`` for a format with boxes: in a directory of renditions it has to know where each
    image is in its rendition.
    ``has_paths`` tells whether it has paths of files. ``of_client`` is ``True`` for a format of directories that
    show the JSON files of a client. ``unit`` is what a row of it is, and ``rows`` returns how many
    it has, unless it is about images.
    """

    name: str
    file: str
    content: "Callable[[Selection], Iterator[bytes]] | None" = None
    is_there: Callable[[], bool] = lambda: True
    archive: "Callable[[Selection], Archive] | None" = None
    has_coordinates: bool = False
    has_paths: bool = False
    of_client: bool = False
    unit: str = "image"
    rows: "Callable[[Selection], int] | None" = None


def _table(name: str, chosen: "Selection") -> "Table":
    from omidbfs.exports.tables import TABLES

    return TABLES[name](chosen)


def _csv(name: str, chosen: "Selection") -> Iterator[bytes]:
    from omidbfs.exports.table import csv

    return csv(_table(name, chosen))


def _parquet(name: str, chosen: "Selection") -> Iterator[bytes]:
    from omidbfs.exports.parquet import parquet

    return parquet(_table(name, chosen))


def _rows(name: str, chosen: "Selection") -> int:
    return len(_table(name, chosen).rows)


def _in_both(unit: str, *, has_paths: bool = False, has_coordinates: bool = False) -> tuple[Format, Format]:
    """Return the formats of a table, named after its unit: CSV and Parquet."""
    name = "studies" if unit == "study" else f"{unit}s"
    facts: dict[str, Any] = {"has_paths": has_paths, "has_coordinates": has_coordinates, "unit": unit}
    facts["rows"] = partial(_rows, name)
    return (
        Format(name, f"{name}.csv", partial(_csv, name), **facts),
        Format(f"{name}-parquet", f"{name}.parquet", partial(_parquet, name), _has_pyarrow, **facts),
    )


def _coco(chosen: "Selection") -> Iterator[bytes]:
    from omidbfs.exports.coco import coco

    return coco(chosen)


def _summary(chosen: "Selection") -> Iterator[bytes]:
    from omidbfs.exports.texts import summary

    return summary(chosen.cohorts, chosen.cohort, chosen.title)


def _paths(chosen: "Selection") -> Iterator[bytes]:
    from omidbfs.exports.texts import path_list

    return path_list(chosen.cohorts, chosen.cohort, chosen.paths)


def _manifest(chosen: "Selection") -> Iterator[bytes]:
    from omidbfs.exports.manifest import manifest

    return manifest(chosen)


def _client(chosen: "Selection") -> Iterator[bytes]:
    from omidbfs.exports.client import client

    return client(chosen)


def _tar(chosen: "Selection") -> "Archive":
    from omidbfs.exports.tar import archive

    return archive(chosen)


def _has_pyarrow() -> bool:
    return find_spec("pyarrow") is not None


_FORMATS = (
    Format("csv", "index.csv", partial(_csv, "index"), has_paths=True, has_coordinates=True),
    Format(
        "parquet", "index.parquet", partial(_parquet, "index"), _has_pyarrow, has_paths=True, has_coordinates=True
    ),
    *_in_both("pair", has_paths=True),
    *_in_both("client"),
    *_in_both("study"),
    *_in_both("episode"),
    *_in_both("mark", has_paths=True, has_coordinates=True),
    Format("coco", "coco.json", _coco, has_coordinates=True),
    Format("summary", "summary.json", _summary),
    Format("paths", "paths.txt", _paths, has_paths=True),
    Format("manifest", "manifest.json", _manifest),
    Format("client", "client.json", _client, of_client=True),
    Format("tar", "cohort.tar", archive=_tar),
)

FORMATS: Mapping[str, Format] = {format_.name: format_ for format_ in _FORMATS}
"""The formats by name."""

BY_FILE: Mapping[bytes, Format] = {format_.file.encode(): format_ for format_ in _FORMATS}
"""The formats by the name of their file on the drive."""


def format_of(file: str) -> str | None:
    """Return the format that the name of a file implies, ``None`` if it implies none or several."""
    name = PurePath(file).name.lower()
    for format_ in _FORMATS:
        if re.search(rf"(^|[^a-z0-9]){re.escape(format_.file)}$", name):
            return format_.name
    return {".csv": "csv", ".parquet": "parquet", ".txt": "paths", ".tar": "tar"}.get(PurePath(name).suffix)
