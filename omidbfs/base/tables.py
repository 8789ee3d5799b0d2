"""Converts tables of a configuration to Structs, whose fields are the keys that a table may have.

The readers of facet and cohort definitions use it. Pure functions: any thread may call them. The module is apart
from ``definitions``, which must load without msgspec, so that ``omidbfs doctor`` can report that it is missing.
"""

from collections.abc import Mapping
from typing import Annotated, TypeVar

import msgspec

from omidbfs.base.definitions import RefusedError
from omidbfs.base.words import meant

Text = Annotated[str | None, msgspec.Meta(description="has to be text")]
"""A value of a table; the description is the error message for any other value."""

_Table = TypeVar("_Table", bound=msgspec.Struct)


def understood(kind: type[_Table], table: Mapping[str, object], unknown: str, *inside: str) -> _Table:
    """Return a table as a Struct, whose fields are the keys that the table may have.

    Parameters
    ----------
    kind
        The class of the Struct. A field that accepts only some values is annotated with their description.
    unknown
        The error message for a key that the Struct does not have.
    inside
        The keys that lead to the table.

    Raises
    ------
    RefusedError
        A key is unknown, or its value does not fit.
    """
    fields = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
    for key, value in table.items():
        if key not in fields:
            others = [name for name in fields if name not in table]
            raise RefusedError(f"{key} {unknown}", *inside, key, remedy=meant(key, others))
        try:
            msgspec.convert(value, fields[key])
        except msgspec.ValidationError:
            raise RefusedError(f"{key} {fields[key].__metadata__[0].description}", *inside, key) from None
    return msgspec.convert(table, kind)
