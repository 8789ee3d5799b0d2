"""The schema of an index: how its columns are declared, joined, sliced and stored.

``chunk``, ``merge``, ``slices`` and ``store`` use it. Its functions are pure, for any thread.

A column is a field of :class:`~omidbfs.index.columns.Index`, or of a part of it (files, episodes, lesions, marks),
whose type is annotated with a :class:`Column`. Everything else follows from that line.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from omidbfs.index.names import Names, joined_names

IMAGE, STUDY, CLIENT, EPISODE, LESION = "image", "study", "client", "episode", "lesion"
MARK, SERIES, UID = "mark", "series", "uid"
"""Axes: what a row of a column stands for. Columns are joined and sliced along their axis."""

Array = NDArray[Any]
Values = dict[str, Any]
"""The value of each column by its name: an array, or :class:`~omidbfs.index.names.Names`."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    ``least`` is set for a column that is stored in the smallest type that holds its values. It is the smallest
    type allowed. ``width`` is the number of values in a row, 0 for a scalar. ``points_to`` is the axis whose
    ordinals the values are, negative for none. ``codes_in`` is the list of the index in which the values are
    positions.

    ``name`` and ``dtype`` follow from the field. ``name`` is that of the array in the file (``study_date``,
    ``marks.x1``). ``dtype`` is ``None`` for :class:`~omidbfs.index.names.Names`.
    """

    axis: str = ""
    least: type[np.generic] | None = None
    width: int = 0
    points_to: str = ""
    codes_in: str = ""
    name: str = ""
    dtype: type[np.generic] | None = None

    def of(self, found: Sequence[Any]) -> Array | Names:
        """Return the value of the column from a list of its rows."""
        if self.dtype is None:
            return Names.of(found)
        values = np.array(found, self.dtype) if self.least is None else smallest(np.array(found, np.uint64))
        return values.reshape(-1, self.width) if self.width else values


@dataclass(frozen=True, slots=True)
class Part:
    """Columns in a class of their own. The index has one object of the class, or one for each name in ``each_of``.

    ``axis`` and ``width`` are defaults for its columns.
    """

    axis: str
    width: int = 0
    each_of: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Listed:
    """A list of tuples. The codes of some columns are positions in it. ``nothing`` is its first entry, code 0."""

    nothing: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Derived:
    """An array, or the hash table for the column of ``names``. It is stored; merging computes it again."""

    names: str = ""


@cache
def marked(declaring: type) -> Mapping[str, tuple[Any, Any]]:
    """Return the type and the annotation of each annotated field."""
    hints = get_type_hints(declaring, include_extras=True)
    return {name: get_args(hint)[:2] for name, hint in hints.items() if get_origin(hint) is Annotated}


def declared(declaring: type, kind: type) -> dict[str, Any]:
    """Return field -> annotation, for the annotations of one class."""
    return {
        name: annotation for name, (_, annotation) in marked(declaring).items() if isinstance(annotation, kind)
    }


def columns_of(declaring: type, prefix: str = "", part: Part | None = None) -> Iterator[Column]:
    """Yield the columns that a class declares."""
    inherited = part or Part("")
    for field, (type_, annotation) in marked(declaring).items():
        if isinstance(annotation, Column):
            dtype = annotation.least or (None if type_ is Names else _item_type(type_))
            axis, width = annotation.axis or inherited.axis, annotation.width or inherited.width
            yield replace(annotation, name=f"{prefix}{field}", dtype=dtype, axis=axis, width=width)
        elif isinstance(annotation, Part):
            for name in annotation.each_of or (field,):
                yield from columns_of(get_args(type_)[0] if annotation.each_of else type_, f"{name}.", annotation)


def _item_type(type_: Any) -> Any:
    """Return the type of the items of ``NDArray[...]``: its last one, as deep as numpy's version puts it."""
    arguments = get_args(type_)
    return _item_type(arguments[-1]) if arguments else type_


def values_of(thing: Any, prefix: str = "") -> Values:
    """Return the values of the columns of an index."""
    found: Values = {}
    declaring: type = type(thing)
    for field, (_, annotation) in marked(declaring).items():
        value = getattr(thing, field)
        if isinstance(annotation, Column):
            found[f"{prefix}{field}"] = value
        elif isinstance(annotation, Part):
            for name, each in zip(
                annotation.each_of or (field,), value if annotation.each_of else (value,), strict=True
            ):
                found |= values_of(each, f"{name}.")
    return found


def fields_of(declaring: type, values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the fields of an index with these columns: the inverse of :func:`values_of`."""
    found: dict[str, Any] = {}
    for field, (type_, annotation) in marked(declaring).items():
        if isinstance(annotation, Column):
            found[field] = values[f"{prefix}{field}"]
        elif isinstance(annotation, Part) and annotation.each_of:
            inner = get_args(type_)[0]
            found[field] = tuple(inner(**fields_of(inner, values, f"{name}.")) for name in annotation.each_of)
        elif isinstance(annotation, Part):
            found[field] = type_(**fields_of(type_, values, f"{field}."))
    return found


def joined(
    columns: Sequence[Column],
    declared_lists: Mapping[str, Listed],
    parts: Sequence[Values],
    lists: Sequence[Mapping[str, Sequence[Any]]],
) -> tuple[Values, dict[str, Any]]:
    """Return the concatenated columns of all parts, and the lists in which their codes are positions.

    ``lists`` are the lists of each part. After its first entry, a resulting list has the entries that rows use, in
    the order of their texts. So it does not depend on how the source was split into parts.
    """
    tables = {name: united([one[name][1:] for one in lists], 1) for name in declared_lists}
    first = {
        each.axis: np.cumsum([0, *(len(one[each.name]) for one in parts)]).tolist()
        for each in columns
        if each.dtype is None
    }
    values: Values = {}
    for each in columns:
        found = [one[each.name] for one in parts]
        if each.dtype is None:
            values[each.name] = joined_names(found)
            continue
        if each.points_to:
            found = [_moved(one, start) for one, start in zip(found, first[each.points_to], strict=False)]
        if each.codes_in:
            found = [to[one] for one, to in zip(found, tables[each.codes_in][1], strict=True)]
        values[each.name] = np.concatenate([np.zeros((0, each.width) if each.width else 0, each.dtype), *found])
    entries: dict[str, Any] = {}
    for name, (known, _) in tables.items():
        coded = [each.name for each in columns if each.codes_in == name]
        codes, used = without_unused([values[one] for one in coded], known, 1)
        values |= zip(coded, codes, strict=True)
        entries[name] = (declared_lists[name].nothing, *used)
    for each in columns:
        if each.least is not None:
            values[each.name] = smallest(values[each.name], each.least)
    return values, entries


def _moved(pointers: Array, by: int) -> Array:
    """Return pointers shifted by a number. Negative pointers, which point to nothing, stay."""
    # Unsigned pointers always point to something.
    moved = pointers + pointers.dtype.type(by) if by >= 0 else pointers - pointers.dtype.type(-by)
    return moved if pointers.dtype.kind == "u" else np.where(pointers < 0, pointers, moved)


def sliced(columns: Sequence[Column], values: Mapping[str, Any], inside: Mapping[str, slice]) -> Values:
    """Return the columns inside of a slice of each axis. Their pointers count from its start."""
    found: Values = {}
    for each in columns:
        rows, value = inside[each.axis], values[each.name]
        if each.dtype is None:
            found[each.name] = value.between(rows.start, rows.stop)
        else:
            taken = value[rows]
            found[each.name] = _moved(taken, -inside[each.points_to].start) if each.points_to else taken
    return found


def arrays_of(columns: Sequence[Column], values: Mapping[str, Any]) -> dict[str, Array]:
    """Return the arrays that hold the values of columns."""
    found: dict[str, Array] = {}
    for each in columns:
        value = values[each.name]
        if isinstance(value, Names):
            found |= {f"{each.name}.heap": value.heap, f"{each.name}.offsets": value.offsets}
        else:
            found[each.name] = value
    return found


def smallest(values: NDArray[np.unsignedinteger], least: type[np.generic] = np.uint8) -> Array:
    """Return a column in the smallest type that holds it, but no smaller than ``least``."""
    return values.astype(np.promote_types(least, np.min_scalar_type(int(values.max(initial=0)))), copy=False)


def united(parts: Sequence[Sequence[Any]], first: int) -> tuple[tuple[Any, ...], list[Array]]:
    """Return the entries of all lists in the order of their texts, and for each list the final code of each code.

    Codes of entries count from ``first``. Codes below stay the same.
    """
    entries = sorted({entry for one in parts for entry in one}, key=repr)
    code_of = {entry: code for code, entry in enumerate(entries, first)}
    below = range(first)
    return tuple(entries), [np.array([*below, *map(code_of.__getitem__, one)], np.uint32) for one in parts]


def without_unused(
    columns: Sequence[NDArray[np.unsignedinteger]], values: tuple[Any, ...], first: int
) -> tuple[list[Array], tuple[Any, ...]]:
    """Return columns and values without the values that no row uses; codes of values count from ``first``."""
    is_used = np.zeros(first + len(values), np.bool_)
    is_used[:first] = True
    for one in columns:
        is_used[one] = True
    codes = np.cumsum(is_used, dtype=np.uint32) - np.uint32(1)
    return [codes[one] for one in columns], tuple(
        value for code, value in enumerate(values, first) if is_used[code]
    )
