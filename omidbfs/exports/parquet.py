"""Tables as Parquet, with proper types. Needs pyarrow (the extra ``parquet``).

``formats`` and the Python API use it. It is pure, for any thread.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

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
    return schema, (pyarrow.table([_array(column, part) for column in columns], schema=schema) for part in parts)


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
    """Return the values of a column. Unknown numbers and dates and missing identifiers are null."""
    import pyarrow

    if column.type in (Type.TEXT, Type.MARKS, Type.PLACED_MARKS, Type.TEXTS, Type.REALS):
        # Page by page: the conversion of many Python objects in one call would hold the interpreter too long.
        parts = [_of_objects(column, page) for page in pages(rows)]
        return pyarrow.chunked_array(parts, _type(column))
    values: Any = column.gather(rows)
    match column.type:
        case Type.NUMBER:
            unknown = values == NO_NUMBER
            return pyarrow.array(np.where(unknown, 0, values).astype(np.int32), mask=unknown)
        case Type.REAL:
            return pyarrow.array(values, mask=np.isnan(values))
        case Type.FLAG:
            return pyarrow.array(values)
        case Type.DAY:
            days = values.astype(np.int32) - np.int32(_UNIX_EPOCH)
            return pyarrow.array(days, mask=values == 0).cast(pyarrow.date32())
        case Type.CODE:
            labels = pyarrow.array(column.labels, pyarrow.string())
            return pyarrow.DictionaryArray.from_arrays(
                pyarrow.array(values.astype(np.int32), mask=values < 0), labels
            )
        case Type.CODES:
            combinations = pyarrow.array(list(map(list, column.combinations)), pyarrow.list_(pyarrow.string()))
            return combinations.take(pyarrow.array(values.astype(np.int64)))


def _of_objects(column: Column, rows: Rows) -> "pyarrow.Array":
    import pyarrow

    values: Any = column.gather(rows)
    if column.type is Type.TEXT:
        values = [text.decode() or None for text in values]
    return pyarrow.array(values, _type(column))
