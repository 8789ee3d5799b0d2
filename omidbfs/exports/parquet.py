"""``index.parquet``: the table of ``index.csv`` with proper types. Needs pyarrow (the extra ``parquet``).

``formats`` uses it. It is pure, for any thread.
"""

import importlib.util
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from omidbfs.cohorts.cohort import Cohort, Cohorts
from omidbfs.exports.fields import NO_NUMBER, Column, Rows, Type, columns_of

if TYPE_CHECKING:
    import pyarrow

_GROUP = 65_536
"""Rows of a row group, which takes some 50 MB of memory."""

_UNIX_EPOCH = 719_163
"""1970-01-01 as a proleptic ordinal."""


def has_pyarrow() -> bool:
    """Return whether pyarrow is installed, without importing it."""
    return importlib.util.find_spec("pyarrow") is not None


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


def parquet(cohorts: Cohorts, cohort: Cohort) -> Iterator[bytes]:
    """Yield ``index.parquet`` of a cohort, a row group at a time."""
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    columns, rows = columns_of(cohorts), cohorts.row_array(cohort)
    schema = pyarrow.schema([pyarrow.field(column.name, _type(column)) for column in columns])
    sink = _Sink()
    with ParquetWriter(pyarrow.PythonFile(sink, mode="w"), schema, compression="zstd") as writer:
        for start in range(0, len(rows), _GROUP):
            part = rows[start : start + _GROUP]
            arrays = [_array(column, part) for column in columns]
            writer.write_table(pyarrow.table(arrays, schema=schema), row_group_size=_GROUP)
            yield sink.taken()
    yield sink.taken()


def _type(column: Column) -> "pyarrow.DataType":
    import pyarrow

    text = pyarrow.string()
    match column.type:
        case Type.TEXT:
            return text
        case Type.NUMBER:
            return pyarrow.int32()
        case Type.DAY:
            return pyarrow.date32()
        case Type.CODE:
            return pyarrow.dictionary(pyarrow.int32(), text)
        case Type.CODES:
            return pyarrow.list_(text)
        case Type.MARKS:
            return pyarrow.list_(_mark_type())


def _mark_type() -> "pyarrow.DataType":
    import pyarrow

    text = pyarrow.string()
    corners = [(name, pyarrow.int32()) for name in ("x1", "y1", "x2", "y2")]
    coded = [(name, text) for name in ("conspicuity", "mass_classification", "benign_classification")]
    features, lesions = ("features", pyarrow.list_(text)), ("lesions", pyarrow.list_(text))
    return pyarrow.struct([("id", text), *corners, features, *coded, lesions])


def _array(column: Column, rows: Rows) -> "pyarrow.Array":
    """Return the values of a column. Unknown numbers and dates and missing identifiers are null."""
    import pyarrow

    values: Any = column.gather(rows)
    match column.type:
        case Type.TEXT:
            return pyarrow.array([text.decode("ascii") or None for text in values], pyarrow.string())
        case Type.NUMBER:
            unknown = values == NO_NUMBER
            return pyarrow.array(np.where(unknown, 0, values).astype(np.int32), mask=unknown)
        case Type.DAY:
            return pyarrow.array(values - np.int32(_UNIX_EPOCH), mask=values == 0).cast(pyarrow.date32())
        case Type.CODE:
            labels = pyarrow.array(column.labels, pyarrow.string())
            return pyarrow.DictionaryArray.from_arrays(pyarrow.array(values.astype(np.int32)), labels)
        case Type.CODES:
            combinations = pyarrow.array(list(map(list, column.combinations)), pyarrow.list_(pyarrow.string()))
            return combinations.take(pyarrow.array(values.astype(np.int64)))
        case Type.MARKS:
            return pyarrow.array(values, pyarrow.list_(_mark_type()))
