"""Tables of a configuration as Structs, whose fields are the keys that a table may have. Used by the definitions
of facets and of cohorts; pure functions, for any thread.

Apart from ``definitions``, which is loaded where msgspec is not: ``omidbfs doctor`` says that it is missing.
"""

from collections.abc import Mapping
from typing import Annotated, TypeVar

import msgspec

from omidbfs.base.definitions import RefusedError
from omidbfs.base.words import meant

Text = Annotated[str | None, msgspec.Meta(description="has to be text")]
"""A value of a table; the description is what is said of any other value."""

_Table = TypeVar("_Table", bound=msgspec.Struct)


def understood(kind: type[_Table], table: Mapping[str, object], unknown: str, *inside: str) -> _Table:
    """Return a table as a Struct, whose fields are the keys that it may have.

    Parameters
    ----------
    kind
        A field that not every value fits is annotated with the description of those that do.
    unknown
        What is said of a key that the Struct does not have.
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
