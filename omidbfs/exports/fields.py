"""Tables as columns, a page of rows at a time; and the table of images, ``index.csv`` and ``index.parquet``.

The other modules of this folder and extended attributes use it. It is pure, for any thread.

Rows are images, in the order of the drive. All values come from the index; nothing is read from the source.
``docs/exports.md`` describes the schema for users.
"""

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omidbfs.base.names import printable
from omidbfs.cohorts.cohort import Cohorts
from omidbfs.database.file_kinds import FILE_KINDS
from omidbfs.exports.coordinates import FOLLOWING, Coordinates
from omidbfs.exports.selection import Selection
from omidbfs.facets import BY_NAME, Facet, Kind
from omidbfs.index.columns import FIRST_CODE, Index
from omidbfs.index.levels import Rows
from omidbfs.index.marks import CODES, MarkColumns
from omidbfs.index.names import safe_cells

PAGE = 1024
"""Rows of a page, which takes 1 MB and 5 to 10 ms.

Some of this time goes to single calls that hold the interpreter. A drive answers no request meanwhile, so they
must be short (scripts/bench making).
"""

_SOP_CLASSES = tuple(value.code for value in BY_NAME["sop-class"].values)
_NOT_EXPORTED = (Kind.NAME, Kind.FILE)  # identifiers and paths have columns of their own

FEATURES = tuple(value.label for value in BY_NAME["mark-feature"].values)
"""The features of marks, by bit of ``MarkColumns.features``, with their names on the drive."""

_FIELDS = ("id", "x1", "y1", "x2", "y2", "features", *CODES, "lesions")


def _labels_of(name: str) -> list[str | None]:
    labels = {value.code: value.label for value in BY_NAME[name.replace("_", "-")].values}
    return [None if code is None else labels.get(code, code) for code in CODES[name]]


_LABELS = {name: _labels_of(name) for name in CODES}


class Type(Enum):
    """The form of the values of a column, as gathered for a page."""

    TEXT = auto()
    """A list of bytes, empty for none."""
    NUMBER = auto()
    """int64, :data:`NO_NUMBER` for none."""
    DAY = auto()
    """int32, a proleptic ordinal, 0 for none."""
    REAL = auto()
    """float64, NaN for none."""
    FLAG = auto()
    """bool."""
    CODE = auto()
    """Positions in ``labels``, -1 for none."""
    CODES = auto()
    """Positions in ``combinations``."""
    MARKS = auto()
    """A list of lists of marks, each a dict. Their corners are whole numbers."""
    PLACED_MARKS = auto()
    """The same with corners that are floats."""
    TEXTS = auto()
    """A list of lists of texts."""
    REALS = auto()
    """A list of lists of floats, ``None`` for unknown."""


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


@dataclass(frozen=True, slots=True)
class Table:
    """The columns of a table, and its rows, for which the columns gather values: images, marks or positions."""

    columns: Sequence[Column]
    rows: Rows


def pages(rows: Rows) -> Iterator[Rows]:
    """Yield rows in pages of :data:`PAGE`."""
    for start in range(0, len(rows), PAGE):
        yield rows[start : start + PAGE]


def images(chosen: Selection) -> Table:
    """Return the table of the images of a cohort."""
    return Table(columns_of(chosen), chosen.cohorts.rows(chosen.cohort))


def columns_of(chosen: Selection) -> list[Column]:
    """Return the columns of the table of images, in their order. They have more in a directory of renditions."""
    cohorts, coordinates = chosen.cohorts, chosen.coordinates
    index = cohorts.index
    fixed = [
        *(Column(level.value, Type.TEXT, members.cells) for level, members in cohorts.levels.items()),
        *([] if coordinates is None else [Column("file_name", Type.TEXT, chosen.files)]),
        *(Column(kind.name, Type.TEXT, functools.partial(chosen.paths, index, kind)) for kind in FILE_KINDS),
        Column("study_date", Type.DAY, lambda rows: index.study_date[index.study_of[rows]]),
        Column("episode_opened", Type.DAY, lambda rows: _of_episode(index, index.episodes.opened, rows)),
        Column("episode_closed", Type.DAY, lambda rows: _of_episode(index, index.episodes.closed, rows)),
        Column("future_episode", Type.TEXT, lambda rows: _future_episodes(index, rows)),
        Column("series_uid", Type.TEXT, lambda rows: safe_cells(index.series_uids, index.series_of[rows])),
        Column("sop_class_uid", Type.CODE, lambda rows: _sop_classes(index, rows), _SOP_CLASSES),
        Column("rows", Type.NUMBER, functools.partial(pixels, chosen, 0)),
        Column("columns", Type.NUMBER, functools.partial(pixels, chosen, 1)),
        *([] if coordinates is None else placed_columns(coordinates, lambda rows: rows)),
        *_spacings(index, coordinates),
        Column("marks", Type.NUMBER, functools.partial(mark_counts, index.marks)),
    ]
    form = Type.MARKS if coordinates is None else Type.PLACED_MARKS
    boxes = Column("boxes", form, lambda rows: marks_of(index.marks, rows, coordinates))
    return [*fixed, *facet_columns(cohorts, index.registry.facets, (*fixed, boxes), lambda rows: rows), boxes]


def placed_columns(coordinates: Coordinates, images: Callable[[Rows], Rows]) -> Iterator[Column]:
    """Yield the columns that say where images are in a rendition. ``images`` returns the image of each row."""

    def gather(name: str, rows: Rows) -> NDArray[Any]:
        values: NDArray[Any] = getattr(coordinates.of(images(rows)), name)
        return values

    for name in FOLLOWING:
        type_ = Type.FLAG if name == "mirrored" else Type.REAL
        yield Column(name, type_, functools.partial(gather, name))


# Facets


def facet_columns(
    cohorts: Cohorts, facets: Iterable[Facet], others: Iterable[Column], images: Callable[[Rows], Rows]
) -> Iterator[Column]:
    """Yield the columns of facets. ``others`` have names already, and ``images`` returns the image of each row."""
    taken = {column.name for column in others}
    for facet in facets:
        if facet.kind not in _NOT_EXPORTED:
            column = _facet_column(cohorts, facet, taken)
            yield replace(column, gather=functools.partial(_of_images, column.gather, images))


def _of_images(gather: Callable[[Rows], Any], images: Callable[[Rows], Rows], rows: Rows) -> Any:
    return gather(images(rows))


def _facet_column(cohorts: Cohorts, facet: Facet, taken: set[str]) -> Column:
    index = cohorts.index
    column = index.columns[facet.name]
    name = column_name(facet)
    while name in taken:  # a user may call a facet "image"
        name = f"by_{name}"
    taken.add(name)
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


def values_of(cohorts: Cohorts, facet: Facet, row: int) -> tuple[str, ...]:
    """Return the names of the values that an image has, of any facet but ``file-type``."""
    if facet.kind is Kind.NAME:
        members = cohorts.levels[facet.level]
        return (members.names(np.array([members.ordinal(row)]))[0].decode(),)
    return tuple(dict.fromkeys(label(cohorts, facet, code) for code in cohorts.codes_of(facet, row)))


def label(cohorts: Cohorts, facet: Facet, code: int) -> str:
    """Return the name of a value. For a number it is the number, not its band."""
    if facet.kind is Kind.NUMBER and code >= FIRST_CODE:
        return str(code - FIRST_CODE + facet.lowest)
    return cohorts.label(facet, code)


def column_name(facet: Facet) -> str:
    """Return the name of the column of a facet."""
    return facet.name.replace("-", "_")


# Episodes and pixels


def _of_episode(index: Index, values: NDArray[np.int32], rows: Rows) -> NDArray[np.int32]:
    episodes = index.study_episode[index.study_of[rows]]
    if not len(values):
        return np.zeros(len(rows), np.int32)
    return np.where(episodes >= 0, values[episodes], np.int32(0))


def _future_episodes(index: Index, rows: Rows) -> list[bytes]:
    episodes, future = index.study_episode[index.study_of[rows]], index.episodes.future
    return safe_cells(index.episodes.ids, np.where(episodes >= 0, np.append(future, -1)[episodes], -1))


def _sop_classes(index: Index, rows: Rows) -> NDArray[np.int64]:
    codes = index.columns["sop-class"][rows].astype(np.int64) - FIRST_CODE
    return np.maximum(codes, -1)


def _spacings(index: Index, coordinates: Coordinates | None) -> Iterator[Column]:
    """Yield the columns of the size of pixels in mm, also of renditions: in the breast, and at the detector."""
    known = np.array([tuple(map(_real, one)) for one in index.geometries], np.float64)
    for start, divisors in (("", known[:, 2]), ("imager_", np.ones(len(known)))):
        for side, name in enumerate(("row_spacing", "column_spacing")):
            gather = functools.partial(_spacing, index, known[:, side] / divisors, coordinates, side)
            yield Column(start + name, Type.REAL, gather)


def _spacing(
    index: Index, known: NDArray[np.float64], coordinates: Coordinates | None, side: int, rows: Rows
) -> NDArray[np.float64]:
    spacings: NDArray[np.float64] = known[index.geometry_of[rows]]
    if coordinates is None:
        return spacings
    places = coordinates.of(rows)
    return spacings / (places.scale_column if side else places.scale_row)


def _real(number: float | None) -> float:
    return math.nan if number is None else number


def pixels(chosen: Selection, side: int, rows: Rows) -> NDArray[np.int64]:
    """Return the rows (``side`` 0) or columns (1) of images, or of their renditions."""
    if chosen.coordinates is not None:
        places = chosen.coordinates.of(rows)
        return places.columns if side else places.rows
    pixels = chosen.cohorts.index.matrix[rows, side].astype(np.int64)
    return np.where(pixels == 0, NO_NUMBER, pixels)


# Marks


def _bounds(marks: MarkColumns, rows: Rows) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    return np.searchsorted(marks.row, rows), np.searchsorted(marks.row, rows, side="right")


def mark_counts(marks: MarkColumns, rows: Rows) -> NDArray[np.int64]:
    """Return the number of marks of each image."""
    first, end = _bounds(marks, rows)
    return end - first


def marks_of(
    marks: MarkColumns, rows: Rows, coordinates: Coordinates | None = None
) -> list[list[dict[str, object]]]:
    """Return the marks of each image."""
    first, end = _bounds(marks, rows)
    counts = end - first
    ends = np.cumsum(counts)
    numbers = np.repeat(first - ends + counts, counts) + np.arange(counts.sum())
    read = described(marks, numbers, coordinates)
    found: list[list[dict[str, object]]] = [[]] * len(rows)
    for place in np.flatnonzero(counts).tolist():
        found[place] = read[ends[place] - counts[place] : ends[place]]
    return found


def described(
    marks: MarkColumns, numbers: NDArray[np.integer], coordinates: Coordinates | None = None
) -> list[dict[str, object]]:
    """Return marks as exported: corners as in the source, and values with their names on the drive.

    With ``coordinates``, corners are where they are in a rendition, as floats.
    """
    distinct, places = np.unique(marks.features[numbers], return_inverse=True)
    features = [features_of(bits) for bits in distinct.tolist()]
    columns = [
        [printable(id_.decode("utf-8", "surrogatepass")) for id_ in marks.ids.take(numbers)],
        *corners_of(marks, numbers, coordinates).tolist(),
        [features[place] for place in places.tolist()],
        *([_LABELS[name][code] for code in getattr(marks, name)[numbers].tolist()] for name in CODES),
        lesions_of(marks, numbers),
    ]
    return [dict(zip(_FIELDS, values, strict=True)) for values in zip(*columns, strict=True)]


def lesions_of(marks: MarkColumns, numbers: NDArray[np.integer]) -> list[list[str]]:
    """Return the numbers of lesions that marks give. They are texts: they may have any number of digits."""
    return [
        sorted(lesions.decode().split(","), key=int) if lesions else [] for lesions in marks.lesions.take(numbers)
    ]


def value_columns(marks: MarkColumns) -> Iterator[Column]:
    """Yield a column for each coded value of marks, whose rows are marks."""
    for name, labels in _LABELS.items():
        known = {label: place for place, label in enumerate(dict.fromkeys(filter(None, labels)))}
        places = np.array([-1 if label is None else known[label] for label in labels], np.int32)
        gather = functools.partial(_coded, getattr(marks, name), places)
        yield Column(name, Type.CODE, gather, tuple(known))


def _coded(codes: NDArray[np.uint8], places: NDArray[np.int32], numbers: NDArray[np.integer]) -> NDArray[np.int32]:
    found: NDArray[np.int32] = places[codes[numbers]]
    return found


def corners_of(marks: MarkColumns, numbers: NDArray[np.integer], coordinates: Coordinates | None) -> NDArray[Any]:
    """Return ``x1 y1 x2 y2`` of marks, in the source, or as floats in a rendition. The shape is (4, n)."""
    corners = np.stack([getattr(marks, name)[numbers] for name in ("x1", "y1", "x2", "y2")])
    return corners if coordinates is None else coordinates.of(marks.row[numbers]).boxes(corners)


def features_of(bits: int) -> list[str]:
    """Return the names of the features in the bits of a mark, in the order of their table."""
    return [name for bit, name in enumerate(FEATURES) if bits >> bit & 1]
