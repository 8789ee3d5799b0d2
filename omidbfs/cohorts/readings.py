"""Readings: the codes of a facet that a component of a path means, by a name, a code of the source, or a range.

:class:`~omidbfs.cohorts.cohort.Cohorts` uses these functions, which are pure, from any thread.
"""

import re
from collections.abc import Sequence

from omidbfs.facets import Facet, Kind, Value
from omidbfs.index.codes import Codes, compact
from omidbfs.index.columns import FIRST_CODE, RESERVED_CODES, TextValue

_RANGE = re.compile(r"([0-9]{1,9})?(-)?([0-9]{1,9})?")


def readings_of(values: Sequence[Value | TextValue]) -> dict[str, int | frozenset[int]]:
    """Return text -> code, or codes, for all texts that name one of ``values``.

    A name on the drive takes precedence over codes of the source and raw texts, so that every listed name is
    found. A name may stand for two codes: NBSS has a value "Other", which is listed with values outside its table.
    """
    # Single codes are numbers, not sets, as a free text may have a value for each image.
    found: dict[str, int | frozenset[int]] = dict(RESERVED_CODES)
    for code, value in enumerate(values, FIRST_CODE):
        known = found.setdefault(value.label, code)
        if known != code:
            found[value.label] = frozenset([known, code]) if isinstance(known, int) else known | {code}
    for code, value in enumerate(values, FIRST_CODE):
        for text in value.raw if isinstance(value, TextValue) else (value.code, *value.aliases):
            found.setdefault(text, code)
    return found


def number_range(facet: Facet, text: str) -> Codes | None:
    """Return the codes of ``50-69``, ``2012-``, ``-49`` or ``57``.

    A range is cut off at the limits of the facet. Return ``None`` if the text is not a range, or nothing is left.
    """
    if facet.kind is not Kind.NUMBER:
        return None
    match = _RANGE.fullmatch(text)
    if match is None or (match[1] is None and match[3] is None):
        return None
    low = int(match[1]) if match[1] is not None else facet.lowest
    high = int(match[3]) if match[3] is not None else facet.highest if match[2] else low
    numbers = range(max(low, facet.lowest), min(high, facet.highest) + 1)
    return compact(number - facet.lowest + FIRST_CODE for number in numbers) if numbers else None
