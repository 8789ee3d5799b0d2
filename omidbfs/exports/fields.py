"""A cohort as columns: the schema that ``index.csv`` and ``index.parquet`` share, a page of rows at a time.

The other modules of this folder and extended attributes use it. It is pure, for any thread.

Rows are images, in the order of the drive. All values come from the index; nothing is read from the source.
``docs/exports.md`` describes the schema for users.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omidbfs.base.names import printable
from omidbfs.cohorts.cohort import Cohorts
from omidbfs.database.file_kinds import FILE_KINDS, FileKind
from omidbfs.facets import BY_NAME, Facet, Kind
from omidbfs.index.columns import FIRST_CODE, Index
from omidbfs.index.flat_names import flat_names
from omidbfs.index.marks import CODES, MarkColumns

PAGE = 4096
"""Rows of a page. A page takes a few MB and 20 to 40 ms."""

_NOT_EXPORTED = (Kind.NAME, Kind.FILE)  # identifiers and paths have columns of their own

FEATURES = tuple(value.label for value in BY_NAME["mark-feature"].values)
"""The features of marks, by bit of ``MarkColumns.features``, with their names on the drive."""

_FIELDS = ("id", "x1", "y1", "x2", "y2", "features", *CODES, "lesions")


def _labels_of(name: str) -> list[str | None]:
    labels = {value.code: value.label for value in BY_NAME[name.replace("_", "-")].values}
    return [None if code is None else labels.get(code, code) for code in CODES[name]]


_LABELS = {name: _labels_of(name) for name in CODES}

Rows = NDArray[np.uint32]


class Type(Enum):
    """The form of the values of a column, as gathered for a page."""

    TEXT = auto()
    """A list of bytes, empty for none."""
    NUMBER = auto()
    """int64, :data:`NO_NUMBER` for none."""
    DAY = auto()
    """int32, a proleptic ordinal, 0 for none."""
    CODE = auto()
    """Positions in ``labels``."""
    CODES = auto()
    """Positions in ``combinations``."""
    MARKS = auto()
    """A list of lists of marks, each a dict."""


NO_NUMBER = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True)
class Column:
    """One column: ``gather(rows)`` returns its values for some rows, in the form of ``type``.

    ``labels`` are distinct; ``combinations`` are the labels that a row may have together.
    """

    name: str
    type: Type
    gather: Callable[[Rows], Any]
    labels: tuple[str, ...] = ()
    combinations: tuple[tuple[str, ...], ...] = ()


def pages(rows: Rows) -> Iterator[Rows]:
    """Yield rows in pages of :data:`PAGE`."""
    for start in range(0, len(rows), PAGE):
        yield rows[start : start + PAGE]


def columns_of(cohorts: Cohorts) -> list[Column]:
    """Return the columns of the exported tables, in their order."""
    index = cohorts.index
    fixed = [
        *(Column(level.value, Type.TEXT, members.cells) for level, members in cohorts.levels.items()),
        *(Column(kind.name, Type.TEXT, functools.partial(paths, index, kind)) for kind in FILE_KINDS),
        Column("study_date", Type.DAY, lambda rows: index.study_date[index.study_of[rows]]),
        Column("episode_opened", Type.DAY, lambda rows: _of_episode(index, index.episodes.opened, rows)),
        Column("episode_closed", Type.DAY, lambda rows: _of_episode(index, index.episodes.closed, rows)),
        Column("Rows", Type.NUMBER, lambda rows: _pixels(index, rows, 0)),
        Column("Columns", Type.NUMBER, lambda rows: _pixels(index, rows, 1)),
        Column("marks", Type.NUMBER, lambda rows: _mark_counts(index.marks, rows)),
    ]
    boxes = Column("boxes", Type.MARKS, lambda rows: marks_of(index.marks, rows))
    taken = {column.name for column in (*fixed, boxes)}
    facets = [facet for facet in index.registry.facets if facet.kind not in _NOT_EXPORTED]
    return [*fixed, *(_facet_column(cohorts, facet, taken) for facet in facets), boxes]


# Facets


def _facet_column(cohorts: Cohorts, facet: Facet, taken: set[str]) -> Column:
    index = cohorts.index
    column = index.columns[facet.name]
    name = f"by-{facet.name}" if facet.name in taken else facet.name  # a user may call a facet "image"
    if facet.kind is Kind.NUMBER and not facet.several:
        offset = np.int64(facet.lowest - FIRST_CODE)

        def numbers(rows: Rows) -> NDArray[np.int64]:
            codes = column[rows].astype(np.int64)
            return np.where(codes < FIRST_CODE, NO_NUMBER, codes + offset)

        return Column(name, Type.NUMBER, numbers)
    if facet.several:
        combinations = tuple(
            tuple(dict.fromkeys(label(cohorts, facet, code) for code in codes))
            for codes in index.combinations[facet.name]
        )
        return Column(name, Type.CODES, lambda rows: column[rows], combinations=combinations)
    count = FIRST_CODE + len(index.texts[facet.name] if facet.kind is Kind.TEXT else facet.values)
    labels = [label(cohorts, facet, code) for code in range(count)]
    distinct = {label: place for place, label in enumerate(dict.fromkeys(labels))}
    # Two codes may share a name: the value "Other" of NBSS, and the code for values outside its table.
    places = np.array([distinct[label] for label in labels], np.int32)
    return Column(name, Type.CODE, lambda rows: places[column[rows]], labels=tuple(distinct))


def label(cohorts: Cohorts, facet: Facet, code: int) -> str:
    """Return the name of a value. For a number it is the number, not its band."""
    if facet.kind is Kind.NUMBER and code >= FIRST_CODE:
        return str(code - FIRST_CODE + facet.lowest)
    return cohorts.label(facet, code)


# Identifiers and paths


def paths(index: Index, kind: FileKind, rows: Rows) -> list[bytes]:
    """Return the path of one file of each image, relative to the mount, empty if there is no such file."""
    suffix, present = kind.suffix, (index.files[kind].access[rows] != 0).tolist()
    names = flat_names(index, rows)
    return [b"all/%b%b" % (name, suffix) if there else b"" for name, there in zip(names, present, strict=True)]


def _of_episode(index: Index, values: NDArray[np.int32], rows: Rows) -> NDArray[np.int32]:
    episodes = index.study_episode[index.study_of[rows]]
    if not len(values):
        return np.zeros(len(rows), np.int32)
    return np.where(episodes >= 0, values[episodes], np.int32(0))


def _pixels(index: Index, rows: Rows, side: int) -> NDArray[np.int64]:
    pixels = index.matrix[rows, side].astype(np.int64)
    return np.where(pixels == 0, NO_NUMBER, pixels)


# Marks


def _bounds(marks: MarkColumns, rows: Rows) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    return np.searchsorted(marks.row, rows), np.searchsorted(marks.row, rows, side="right")


def _mark_counts(marks: MarkColumns, rows: Rows) -> NDArray[np.int64]:
    first, end = _bounds(marks, rows)
    return end - first


def marks_of(marks: MarkColumns, rows: Rows) -> list[list[dict[str, object]]]:
    """Return the marks of each image."""
    first, end = _bounds(marks, rows)
    counts = end - first
    ends = np.cumsum(counts)
    numbers = np.repeat(first - ends + counts, counts) + np.arange(counts.sum())
    read = described(marks, numbers)
    found: list[list[dict[str, object]]] = [[]] * len(rows)
    for place in np.flatnonzero(counts).tolist():
        found[place] = read[ends[place] - counts[place] : ends[place]]
    return found


def described(marks: MarkColumns, numbers: NDArray[np.integer]) -> list[dict[str, object]]:
    """Return marks as exported: corners as in the source, and values with their names on the drive."""
    distinct, places = np.unique(marks.features[numbers], return_inverse=True)
    features = [features_of(bits) for bits in distinct.tolist()]
    columns = [
        [printable(id_.decode("utf-8", "surrogatepass")) for id_ in marks.ids.take(numbers)],
        *(getattr(marks, name)[numbers].tolist() for name in ("x1", "y1", "x2", "y2")),
        [features[place] for place in places.tolist()],
        *([_LABELS[name][code] for code in getattr(marks, name)[numbers].tolist()] for name in CODES),
        # Numbers of lesions are texts, as in NBSS: they may have any number of digits.
        [
            sorted(lesions.decode().split(","), key=int) if lesions else []
            for lesions in marks.lesions.take(numbers)
        ],
    ]
    return [dict(zip(_FIELDS, values, strict=True)) for values in zip(*columns, strict=True)]


def features_of(bits: int) -> list[str]:
    """Return the names of the features in the bits of a mark, in the order of their table."""
    return [name for bit, name in enumerate(FEATURES) if bits >> bit & 1]
