"""Reads single values of NBSS and ImageDB documents, whatever their types are.

The readers of both documents use it. Pure functions: any thread may call them. Values, dates and codes follow the
rules of ``omidb`` 0.13.1 (``utilities``). A value that cannot be understood is reported and counts as absent.
Nothing in this module raises.
"""

import math
from collections.abc import Mapping
from datetime import date, datetime

from omidbfs.database.problems import Report
from omidbfs.database.records import OTHER

ANONYMISED = "Data anonymised"
"""The text that the source has in place of a value that it withholds. It counts as empty."""

Accepted = Mapping[object, str]
"""Value in the source -> the code that it means."""

Where = str | tuple["Where | None", str] | tuple["Where | None", str, str]
"""The place of a value in a document: the enclosing place, if any, the kind of the place, and its name.

:func:`told` makes a text of it. Few values need that, so no text is made in advance.
"""

_LARGEST = 10**18
"""A number larger than any in the source. Python refuses to convert far larger ones to text."""
_LARGEST_SIZE = 10_000
"""Ten metres, in mm."""

_JSON_TYPES = {
    type(None): "null",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "an object",
}


def accepted(table: Mapping[str, str]) -> dict[object, str]:
    """Return what ``omidb.utilities.enum_lookup`` accepts for ``table``: codes and texts; the first row wins."""
    result: dict[object, str] = {}
    for code, text in table.items():
        result.setdefault(code, code)
        result.setdefault(text, code)
    return result


def absent(value: object) -> bool:
    """Return whether ``value`` is null, "" or "Data anonymised"."""
    return value is None or value in ("", ANONYMISED)


def as_text(value: object) -> str | None:
    """Return a text, or the digits of a whole number, since some sources write numbers in place of text.

    ``None`` for anything else, a boolean included.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -_LARGEST < value < _LARGEST:
        return None
    return str(int(value)) if value == int(value) else None


def shown(value: object) -> str:
    """Return any ``value`` as one short line for the detail of a problem."""
    if isinstance(value, str):
        return repr(value if len(value) <= 64 else value[:64] + "...")
    return _JSON_TYPES.get(type(value), "of an unknown type")


def told(where: Where) -> str:
    """Return a place as text: ``episode '1', SURGERY, L '2'``."""
    if isinstance(where, str):
        return where
    outer, what, *name = where
    inner = f"{what} {shown(name[0])}" if name else what
    return inner if outer is None else f"{told(outer)}, {inner}"


def read_object(data: Mapping[str, object], key: str, where: Where, report: Report) -> dict[str, object] | None:
    """Return the object at ``key``, or ``None``; any other value is reported as ``odd-value``."""
    value = data.get(key)
    if isinstance(value, dict):
        return value
    if not absent(value):
        report("odd-value", f"{told(where)}: {shown(key)} is {shown(value)}, not an object")
    return None


def read_text(data: Mapping[str, object], key: str, where: Where, report: Report) -> str | None:
    """Return the text at ``key``, or ``None``; any other value is reported as ``odd-value``."""
    value = data.get(key)
    if absent(value):
        return None
    if isinstance(value, str):
        return value
    report("odd-value", f"{told(where)}: {key} is {shown(value)}, not text")
    return None


def read_name(data: Mapping[str, object], key: str, where: Where, report: Report) -> str | None:
    """Return the text at ``key`` as :func:`read_text` does, but accept a whole number as its digits."""
    value = data.get(key)
    text = None if absent(value) else as_text(value)
    return read_text(data, key, where, report) if text is None else text


def read_date(data: Mapping[str, object], key: str, where: Where, report: Report) -> date | None:
    """Return the date at ``key``, written ``YYYY-MM-DD`` or ``YYYYMMDD`` (``omidb.utilities.date_or_none``).

    The second form may also be a number; there ``omidb`` gives up the whole client.
    """
    value = data.get(key)
    text = as_text(value)
    if text and text != ANONYMISED:
        try:
            # fromisoformat takes 0.1 us, strptime 5 us. The length keeps out week dates, which omidb refuses.
            if len(text) == 10 and text[4] == text[7] == "-":
                return date.fromisoformat(text)
        except ValueError:
            pass
        try:
            return datetime.strptime(text, "%Y-%m-%d" if "-" in text else "%Y%m%d").date()
        except ValueError:
            pass
    if not absent(value):
        report("odd-value", f"{told(where)}: {key} is {shown(value)}, not a date")
    return None


def read_size(data: Mapping[str, object], key: str, where: Where, report: Report) -> float | None:
    """Return the positive number at ``key``, which may be text; any other value is reported as ``odd-value``."""
    value = data.get(key)
    if absent(value):
        return None
    try:
        size = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        size = math.nan
    if 0 < size < _LARGEST_SIZE:
        return size
    if size:
        report("odd-value", f"{told(where)}: {key} is {shown(value)}, not a size")
    return None


def read_code(
    data: Mapping[str, object],
    key: str,
    codes: Accepted,
    where: Where,
    report: Report,
    outside: str | None = OTHER,
) -> str | None:
    """Return the code at ``key``; report a text outside the table as ``unknown-code`` and return ``outside``."""
    value = data.get(key)
    if value is None:
        return None
    try:
        code = codes.get(value)
    except TypeError:  # a list or an object: not hashable
        code = None
    if code is not None:
        return code
    if absent(value):
        return None
    if isinstance(value, str):
        report("unknown-code", f"{told(where)}: {key} is {shown(value)}")
        return outside
    report("odd-value", f"{told(where)}: {key} is {shown(value)}, not a code")
    return None


def read_codes(
    data: Mapping[str, object], key: str, codes: Accepted, where: Where, report: Report
) -> tuple[str, ...]:
    """Return the codes at ``key``, a text with blanks; each word outside the table gives :data:`OTHER`."""
    value = read_text(data, key, where, report)
    if value is None:
        return ()
    words = [word for word in value.split(" ") if word]
    unknown = [word for word in words if word not in codes]
    if unknown:
        report("unknown-code", f"{told(where)}: {key} has {shown(' '.join(unknown))}")
    return tuple(codes.get(word, OTHER) for word in words)
