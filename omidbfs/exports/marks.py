"""The table of marks: a row for each mark of a cohort, with the lesions that it is linked to.

``tables`` lists it. One thread uses a table, because it remembers what it found for a page.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omidbfs.base.names import printable, table_label
from omidbfs.database.codes import OPINIONS, SIDES
from omidbfs.database.file_kinds import FILE_KINDS
from omidbfs.exports.fields import (
    Column,
    Table,
    Type,
    corners_of,
    facet_columns,
    features_of,
    lesions_of,
    pixels,
    placed_columns,
    value_columns,
)
from omidbfs.exports.selection import Selection
from omidbfs.facets import BY_NAME, UNKNOWN, named
from omidbfs.facets.tables import READING_OPINIONS
from omidbfs.index.columns import FIRST_CODE, Index
from omidbfs.index.lesions import CODES
from omidbfs.index.levels import Marks, Rows

Numbers = NDArray[np.integer]
"""Positions in ``index.marks``: the rows of the table."""


class _Kept:
    """A function of a page that keeps its last answer: each column of a table asks for the same page."""

    def __init__(self, find: Callable[[Numbers], Any]) -> None:
        self._find = find
        self._last: tuple[Numbers, Any] | None = None

    def __call__(self, numbers: Numbers) -> Any:
        if self._last is None or self._last[0] is not numbers:
            self._last = numbers, self._find(numbers)
        return self._last[1]


def marks(chosen: Selection) -> Table:
    """Return the table of the marks of a cohort, in the order of its images."""
    cohorts, coordinates = chosen.cohorts, chosen.coordinates
    index = cohorts.index
    images = _Kept(lambda numbers: index.marks.row[numbers])
    corners = _Kept(lambda numbers: corners_of(index.marks, numbers, coordinates))

    def corner(number: int, numbers: Numbers) -> NDArray[Any]:
        found: NDArray[Any] = corners(numbers)[number]
        return found if coordinates is not None else found.astype(np.int64)

    number_type = Type.NUMBER if coordinates is None else Type.REAL
    columns = [
        *(
            Column(level.value, Type.TEXT, _of_images(members.cells, images))
            for level, members in cohorts.levels.items()
        ),
        *([] if coordinates is None else [Column("file_name", Type.TEXT, _of_images(chosen.files, images))]),
        *(
            Column(kind.name, Type.TEXT, _of_images(functools.partial(chosen.paths, index, kind), images))
            for kind in FILE_KINDS
        ),
        *facet_columns(cohorts, [BY_NAME["laterality"], BY_NAME["view"]], (), images),
        *(
            Column(name, Type.NUMBER, _of_images(functools.partial(pixels, chosen, side), images))
            for side, name in enumerate(("rows", "columns"))
        ),
        *([] if coordinates is None else placed_columns(coordinates, images)),
        Column("mark", Type.TEXT, functools.partial(_identifiers, index)),
        *(
            Column(name, number_type, functools.partial(corner, number))
            for number, name in enumerate(("x1", "y1", "x2", "y2"))
        ),
        Column("features", Type.TEXTS, functools.partial(_features, index)),
        *value_columns(index.marks),
        Column("lesions", Type.TEXTS, lambda numbers: lesions_of(index.marks, numbers)),
        *_lesion_columns(index),
    ]
    return Table(columns, Marks(index).among(cohorts.rows(chosen.cohort)).astype(np.uint32))


def _of_images(read: Callable[[Rows], Any], images: Callable[[Numbers], Rows]) -> Callable[[Numbers], Any]:
    return lambda numbers: read(images(numbers))


def _identifiers(index: Index, numbers: Numbers) -> list[bytes]:
    names = index.marks.ids.take(numbers)
    return [printable(name.decode("utf-8", "surrogatepass")).encode() for name in names]


def _features(index: Index, numbers: Numbers) -> list[list[str]]:
    return [features_of(bits) for bits in index.marks.features[numbers].tolist()]


# Lesions


def _lesion_columns(index: Index) -> Iterator[Column]:
    """Yield the columns of the lesions that marks are linked to, in the order of NBSS."""
    linked = _Kept(functools.partial(_linked, index, _first_lesions(index)))
    lesions = index.lesions

    def spread_over(read: Callable[[NDArray[np.intp]], list[Any]]) -> Callable[[Numbers], list[list[Any]]]:
        def gather(numbers: Numbers) -> list[list[Any]]:
            found: list[list[int]] = linked(numbers)
            values = iter(read(np.array([lesion for each in found for lesion in each], np.intp)))
            return [[next(values) for _ in each] for each in found]

        return gather

    def numbers_of(ordinals: NDArray[np.intp]) -> list[str]:
        return [printable(name.decode("utf-8", "surrogatepass")) for name in lesions.numbers.take(ordinals)]

    def sizes_of(ordinals: NDArray[np.intp]) -> list[float | None]:
        return [size or None for size in lesions.size[ordinals].tolist()]

    def labels_of(position: int, labels: list[str], ordinals: NDArray[np.intp]) -> list[str]:
        return [labels[code] for code in lesions.codes[ordinals, position].tolist()]

    yield Column("linked_lesions", Type.TEXTS, spread_over(numbers_of))
    for position, (name, codes) in enumerate(CODES.items()):
        labels = [_label(name, code) for code in codes]
        read = functools.partial(labels_of, position, labels)
        yield Column(name.replace("-", "_"), Type.TEXTS, spread_over(read))
    yield Column("lesion_size", Type.REALS, spread_over(sizes_of))


def _label(name: str, code: str | None) -> str:
    """Return the name of a value of a lesion: that on the drive, or the code and text of NBSS."""
    if code is None:
        return UNKNOWN
    if name in BY_NAME:
        return named(name, code) or UNKNOWN
    if code in OPINIONS and name.endswith("-opinion"):
        known = READING_OPINIONS.get(code)
        return table_label(f"{code} {OPINIONS[code]}") if known is None else known[0]
    return code


def _first_lesions(index: Index) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(index.lesions.per_episode, dtype=np.int64)])


def _linked(index: Index, first: NDArray[np.int64], numbers: Numbers) -> list[list[int]]:
    """Return the ordinals of the lesions of each mark: of its numbers and side, in the episode of its study.

    Rule: :func:`omidbfs.facets.mark.lesions_of`.
    """
    images = index.marks.row[numbers]
    episodes = index.study_episode[index.study_of[images]]
    sides = index.columns["laterality"][images].astype(np.int64) - FIRST_CODE
    stated = index.marks.lesions.take(numbers)
    found: list[list[int]] = []
    for episode, side, text in zip(episodes.tolist(), sides.tolist(), stated, strict=True):
        lesions: list[int] = []
        if text and episode >= 0 and 0 <= side < len(SIDES):
            wanted = text.split(b",")
            lesions = [
                lesion
                for lesion in range(first.item(episode), first.item(episode + 1))
                if index.lesions.side.item(lesion) == side and index.lesions.numbers[lesion] in wanted
            ]
        found.append(lesions)
    return found
