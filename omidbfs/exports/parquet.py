"""Tables as Parquet, with proper types. Needs pyarrow (the extra ``parquet``).

``formats`` and the Python API use it. It is pure, for any thread.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from omidbfs.exports.fields import NO_NUMBER, Column, Table, Type, pages
from omidbfs.index.levels import Rows

if TYPE_CHECKING:
    import pyarrow

_GROUP = 65_536
"""Rows of a row group, which takes some 50 MB of memory."""

_UNIX_EPOCH = 719_163
"""1970-01-01 as a proleptic ordinal."""


class _Sink:
    """A file for pyarrow to write to. :meth:`taken` removes and returns the bytes written so far."""

    closed = False

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._position = 0

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._position += len(part)
        return len(part)

    def tell(self) -> int:
        return self._position

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass

    def writable(self) -> bool:
        return True

    def taken(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


def parquet(table: Table) -> Iterator[bytes]:
    """Yield a table as Parquet, a row group at a time."""
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    schema, groups = _groups(table)
    sink = _Sink()
    with ParquetWriter(pyarrow.PythonFile(sink, mode="w"), schema, compression="zstd") as writer:
        for group in groups:
            writer.write_table(group, row_group_size=_GROUP)
            yield sink.taken()
    yield sink.taken()


def arrow(table: Table) -> "pyarrow.Table":
    """Return a table for pyarrow, with the values that its file has."""
    import pyarrow

    schema, groups = _groups(table)
    return pyarrow.concat_tables([schema.empty_table(), *groups])


def _groups(table: Table) -> "tuple[pyarrow.Schema, Iterator[pyarrow.Table]]":
    """Return the schema of a table, and its row groups."""
    import pyarrow

    columns, rows = table.columns, table.rows
    schema = pyarrow.schema([pyarrow.field(column.name, _type(column)) for column in columns])
    parts = (rows[start : start + _GROUP] for start in range(0, len(rows), _GROUP))
    groups = ([_array(column, part) for column in columns] for part in parts)
    return schema, (pyarrow.Table.from_arrays(group, schema=schema) for group in groups)


def _type(column: Column) -> "pyarrow.DataType":
    import pyarrow

    text = pyarrow.string()
    match column.type:
        case Type.TEXT:
            return text
        case Type.NUMBER:
            return pyarrow.int32()
        case Type.REAL:
            return pyarrow.float64()
        case Type.FLAG:
            return pyarrow.bool_()
        case Type.DAY:
            return pyarrow.date32()
        case Type.CODE:
            return pyarrow.dictionary(pyarrow.int32(), text)
        case Type.CODES | Type.TEXTS:
            return pyarrow.list_(text)
        case Type.REALS:
            return pyarrow.list_(pyarrow.float64())
        case Type.MARKS:
            return pyarrow.list_(_mark_type(pyarrow.int32()))
        case Type.PLACED_MARKS:
            return pyarrow.list_(_mark_type(pyarrow.float64()))


def _mark_type(number: "pyarrow.DataType") -> "pyarrow.DataType":
    import pyarrow

    text = pyarrow.string()
    corners = [(name, number) for name in ("x1", "y1", "x2", "y2")]
    coded = [(name, text) for name in ("conspicuity", "mass_classification", "benign_classification")]
    features, lesions = ("features", pyarrow.list_(text)), ("lesions", pyarrow.list_(text))
    return pyarrow.struct([("id", text), *corners, features, *coded, lesions])


def _array(column: Column, rows: Rows) -> "pyarrow.Array | pyarrow.ChunkedArray":
    """Return the values of a column. Unknown numbers and dates and missing identifiers are null.

    Arrays are made from their buffers. ``pyarrow.array`` would import pandas where that is installed, and other
    functions ``pyarrow.compute``. Both imports hold the interpreter too long (scripts/bench making).
    """
    import pyarrow

    type_ = _type(column)
    if column.type in (Type.TEXT, Type.MARKS, Type.PLACED_MARKS, Type.TEXTS, Type.REALS):
        # Page by page: the conversion of many Python objects in one call would hold the interpreter too long.
        return pyarrow.chunked_array([_of_objects(column, type_, page) for page in pages(rows)], type_)
    values: Any = column.gather(rows)
    match column.type:
        case Type.NUMBER:
            return _numbers(type_, values.astype(np.int32), values != NO_NUMBER)
        case Type.REAL:
            return _numbers(type_, values, ~np.isnan(values))
        case Type.FLAG:
            return _made(type_, len(values), [_bits(values)])
        case Type.DAY:
            return _numbers(type_, values.astype(np.int32) - np.int32(_UNIX_EPOCH), values != 0)
        case Type.CODE:
            places = _numbers(pyarrow.int32(), values.astype(np.int32), values >= 0)
            return pyarrow.DictionaryArray.from_arrays(places, _nested(type_.value_type, column.labels))
        case Type.CODES:
            return _taken(_nested(type_, column.combinations), values)


def _of_objects(column: Column, type_: "pyarrow.DataType", rows: Rows) -> "pyarrow.Array":
    values: Any = column.gather(rows)
    if column.type is Type.TEXT:
        return _texts(type_, values, np.fromiter(map(bool, values), np.bool_, len(values)))
    return _nested(type_, values)


def _nested(type_: "pyarrow.DataType", values: Sequence[Any]) -> "pyarrow.Array":
    """Return an array of texts or numbers, ``None`` for null, or of lists or dicts of such."""
    import pyarrow

    if pyarrow.types.is_list(type_):
        items = _nested(type_.value_type, [*itertools.chain.from_iterable(values)])
        return _made(type_, len(values), [_ends(values)], [items])
    if pyarrow.types.is_struct(type_):
        fields = [_nested(field.type, [value[field.name] for value in values]) for field in type_]
        return _made(type_, len(values), [], fields)
    known = np.fromiter((value is not None for value in values), np.bool_, len(values))
    if pyarrow.types.is_string(type_):
        return _texts(type_, [b"" if value is None else value.encode() for value in values], known)
    numbers = np.array([0 if value is None else value for value in values], type_.to_pandas_dtype())
    return _numbers(type_, numbers, known)


def _taken(lists: "pyarrow.ListArray", places: NDArray[np.integer]) -> "pyarrow.ListArray":
    """Return some of an array of lists of texts, none of which is null."""
    texts = lists.values
    _, ends, heap = texts.buffers()
    items, list_ends = _slices(np.frombuffer(lists.buffers()[1], np.int32), places)
    signs, ends = _slices(np.frombuffer(ends, np.int32), items)
    taken = _made(texts.type, len(items), [ends, np.frombuffer(heap, np.uint8)[signs]])
    return _made(lists.type, len(places), [list_ends], [taken])


def _slices(ends: NDArray[np.int32], places: NDArray[np.integer]) -> tuple[NDArray[np.integer], NDArray[np.int32]]:
    """Return where the items of the values at some places are, and where each of these values ends among them."""
    starts, lengths = ends[places], np.diff(ends)[places]
    found = np.concatenate([np.zeros(1, np.int32), np.cumsum(lengths, dtype=np.int32)])
    return np.repeat(starts - found[:-1], lengths) + np.arange(found[-1]), found


def _texts(type_: "pyarrow.DataType", texts: Sequence[bytes], known: NDArray[np.bool_]) -> "pyarrow.Array":
    return _made(type_, len(texts), [_ends(texts), b"".join(texts)], known=known)


def _numbers(type_: "pyarrow.DataType", numbers: NDArray[Any], known: NDArray[np.bool_]) -> "pyarrow.Array":
    return _made(type_, len(numbers), [np.ascontiguousarray(numbers)], known=known)


def _ends(values: Sequence[Sequence[Any]]) -> NDArray[np.int32]:
    """Return the place at which each value ends among the items of all, and at first 0."""
    return np.fromiter(itertools.accumulate(map(len, values), initial=0), np.int32, len(values) + 1)


def _bits(flags: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.packbits(flags, bitorder="little")


def _made(
    type_: "pyarrow.DataType",
    length: int,
    buffers: Sequence[Any],
    children: "Sequence[pyarrow.Array]" = (),
    known: NDArray[np.bool_] | None = None,
) -> "pyarrow.Array":
    """Return an array of its buffers, without that of the values that are not null, which are ``known``."""
    import pyarrow

    valid = None if known is None or known.all() else pyarrow.py_buffer(_bits(known))
    buffers = [valid, *map(pyarrow.py_buffer, buffers)]
    return pyarrow.Array.from_buffers(type_, length, buffers, children=[*children])
