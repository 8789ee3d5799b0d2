"""Reads values of datasets in the DICOM JSON model (PS3.18, F.2) without relying on their form.

The readers of headers use it. An :class:`Elements` belongs to one thread; the functions are pure.
"""

import math
from functools import lru_cache
from typing import Any

from omidbfs.database.problems import Report
from omidbfs.database.values import ANONYMISED, shown

VIEW_CODES, MODIFIERS, CODE_VALUE = "00540220", "00540222", "00080100"
LARGEST = {
    **dict.fromkeys(("Rows", "Columns", "NumberOfFrames"), 0xFFFF),
    "SamplesPerPixel": 4,
    "BitsAllocated": 64,
    "BitsStored": 64,
    "PixelRepresentation": 1,
}
"""Keyword of a whole number -> its largest value (PS3.3, C.7.6.3). A value outside the range counts as absent."""
_LARGEST_SPACING = 1000
"""A spacing of pixels, in mm, that is larger than that of any detector."""


def numbered(part: str) -> tuple[str, int]:
    """Return the tag and the number of the value, from 1, in a part of a path: ``00080008``, ``00080008[3]``."""
    tag, _, number = part.partition("[")
    return tag, int(number.rstrip("]") or 1)


def stated(value: str | None) -> str | None:
    """Return a text of the source without padding, ``None`` if it is empty or anonymised."""
    text = value and value.strip(" \0")
    return text if text and text != ANONYMISED else None


def one_of(values: list[Any], keyword: str, report: Report) -> None:
    """Report different values of an attribute that may have one value only (PS3.6: VM 1); the first is used."""
    if any(value != values[0] and value not in (None, "") for value in values):
        report("odd-value", f"{keyword} has {len(values)} values; the first is used")


def number(values: list[Any], keyword: str, report: Report) -> int | float | None:
    """Return the first value as a number, also from text (DS, IS); report anything else and return ``None``."""
    if len(values) > 1:
        one_of(values, keyword, report)
    value = stated(values[0]) if isinstance(values[0], str) else values[0]
    if value is None:
        return None
    try:
        found = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        found = math.nan
    largest = LARGEST.get(keyword)
    if math.isfinite(found) and (largest is None or 0 <= found <= largest):
        return found if largest is None else int(found)
    what = "a finite number" if largest is None else f"a number from 0 to {largest}"
    said = f"{found:.6g}" if math.isfinite(found) else shown(value)
    report("odd-value", f"{keyword} is {said}, not {what}")
    return None


def orientation(values: list[Any], report: Report) -> tuple[str, ...]:
    """Return the PatientOrientation of rows and of columns (PS3.3, C.7.6.1.1.1), ``()`` if none is stated."""
    if len(values) == 2 and type(values[0]) is type(values[1]) is str:  # as nearly always
        return _oriented(values[0], values[1])
    if len(values) > 2 or any(not isinstance(value, str) and value is not None for value in values):
        report("odd-value", f"PatientOrientation has {len(values)} values, not two texts")
    texts = [value if isinstance(value, str) else "" for value in (*values[:2], "", "")]
    return _oriented(texts[0], texts[1])


@lru_cache(1024)  # of the few that there are
def _oriented(rows: str, columns: str) -> tuple[str, ...]:
    texts = stated(rows) or "", stated(columns) or ""
    return texts if any(texts) else ()


def spacing(values: list[Any], report: Report) -> tuple[float, ...]:
    """Return the ImagerPixelSpacing between rows and between columns in mm, ``()`` if none is stated."""
    found = values
    if len(values) != 2 or type(values[0]) is not float or type(values[1]) is not float:
        found = [number([value], "ImagerPixelSpacing", report) for value in values[:2]]
    if None in found:
        return ()
    if len(values) == 2 and 0 < found[0] < _LARGEST_SPACING and 0 < found[1] < _LARGEST_SPACING:
        return found[0], found[1]
    report("odd-value", "ImagerPixelSpacing does not hold two lengths in mm")
    return ()


class Elements:
    """Reads datasets in the DICOM JSON model, whatever their form, and reports what violates the model."""

    def __init__(self, report: Report) -> None:
        self.report = report

    def values(self, item: object, tag: str) -> list[Any]:
        """Return the values of an attribute, nothing where it is absent or violates the model."""
        element = item.get(tag) if isinstance(item, dict) else None
        if element is None:
            return []
        values = element.get("Value") if isinstance(element, dict) else element
        if values is None or values == []:
            return []
        if isinstance(element, dict) and isinstance(values, list):
            return values
        self.report("odd-value", f"{tag} is not in the form of the DICOM JSON model")
        return []

    def items(self, item: object, tag: str) -> list[dict[str, object]]:
        """Return the items of a sequence."""
        return [one for one in self.values(item, tag) if isinstance(one, dict)]

    def text(self, item: object, tag: str, keyword: str) -> str | None:
        """Return the first value as text."""
        values = self.values(item, tag)
        if not values:
            return None
        one_of(values, keyword, self.report)
        return self._as_text(values[0], tag)

    def texts(self, item: object, tag: str) -> tuple[str, ...]:
        """Return all values that are stated as texts."""
        found = [self._as_text(value, tag) for value in self.values(item, tag)]
        return tuple(text for text in found if text is not None)

    def number(self, item: object, tag: str, keyword: str) -> int | float | None:
        """Return the first value as a number."""
        values = self.values(item, tag)
        return number(values, keyword, self.report) if values else None

    def orientation(self, item: object, tag: str) -> tuple[str, ...]:
        """Return the result of :func:`orientation` for an attribute."""
        return orientation(self.values(item, tag), self.report)

    def spacing(self, item: object, tag: str) -> tuple[float, ...]:
        """Return the result of :func:`spacing` for an attribute."""
        values = self.values(item, tag)
        return spacing(values, self.report) if values else ()

    def codes(self, item: object, tag: str) -> tuple[str, ...]:
        """Return the code values of the items of a sequence."""
        found = [self.text(one, CODE_VALUE, "CodeValue") for one in self.items(item, tag)]
        return tuple(code for code in found if code is not None)

    def view(self, item: object) -> tuple[str | None, tuple[str, ...]]:
        """Return the code of the view of a dataset, and the codes of the modifiers inside and beside its item."""
        first = next(iter(self.items(item, VIEW_CODES)), None)
        code = self.text(first, CODE_VALUE, "CodeValue")
        return code, (*self.codes(first, MODIFIERS), *self.codes(item, MODIFIERS))

    def _as_text(self, value: object, tag: str) -> str | None:
        if value is None or isinstance(value, str):
            return stated(value)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return str(value)
        self.report("odd-value", f"{tag} holds neither text nor a number")
        return None
