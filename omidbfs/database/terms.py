"""Interprets the values of a header, and finds the problems among them.

The facets, the index and the reader of a study use it, so that facets and problems agree. Pure functions: any
thread may call them. As in NBSS and ImageDB (``values.py``), a coded value outside its table counts as
:data:`OTHER` and is an ``unknown-code``; a value of unknown format counts as absent and is an ``odd-value``.
"""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from omidbfs.database.records import OTHER
from omidbfs.database.uids import LONGEST_UID, SOP_CLASSES, TOMOSYNTHESIS, TRANSFER_SYNTAXES
from omidbfs.database.values import shown
from omidbfs.database.views import is_side, modifier_of_code, read_position, side, view, view_of_code

if TYPE_CHECKING:
    from omidbfs.database.header import Header

INTENTS = {"FOR PRESENTATION": "presentation", "FOR PROCESSING": "processing"}
YES_NO = {"YES": "yes", "NO": "no"}

IMAGE_TYPES: dict[str, tuple[str, frozenset[str]]] = {
    "synthetic-2d": ("a 2D image made of a tomosynthesis", frozenset({"GENERATED_2D", "TOMO_2D"})),
    "tomosynthesis-projection": ("one of the exposures of a tomosynthesis", frozenset({"TOMO_PROJ"})),
    "biopsy": (
        "taken to guide a biopsy",
        frozenset({"STEREO_SCOUT", "STEREO_MINUS", "STEREO_PLUS", "TOMO_SCOUT", "BIOPSY"})
        | {
            f"{when}{which}"
            for when in ("PREFIRE", "POSTFIRE", "POSTBIOPSY", "POSTMARKER")
            for which in ("", "_MINUS", "_PLUS")
        },
    ),
    "low-energy": ("with contrast medium, at low energy", frozenset({"LOW_ENERGY"})),
    "high-energy": ("with contrast medium, at high energy", frozenset({"HIGH_ENERGY"})),
    "subtraction": ("with contrast medium, exposures put together", frozenset({"SUBTRACTION", "ADDITION"})),
    "tomosynthesis": ("reconstructed from projections", frozenset({"TOMOSYNTHESIS", "TOMO"})),
    "original": ("of none of these kinds, as it was taken", frozenset({"ORIGINAL"})),
    "derived": ("of none of these kinds, made of another image", frozenset({"DERIVED"})),
}
"""Kind -> meaning, and the values of ImageType that indicate it (PS3.3, C.8.11.7.1.4, C.8.21.6.1.1). The first
kind that fits wins."""

_OF_TOMOSYNTHESIS = frozenset({"TOMO_SCOUT"}).union(
    *(IMAGE_TYPES[name][1] for name in ("synthetic-2d", "tomosynthesis-projection", "tomosynthesis"))
)
"""Values of ImageType that only tomosyntheses, their projections and images derived from them have."""
_AGE = re.compile(r"0*([0-9]+)\s*([YMWD]?)", re.ASCII | re.IGNORECASE)
_AGE_UNITS = {"": 1, "Y": 1, "M": 12, "W": 52, "D": 365}


def among(text: str | None, codes: dict[str, str]) -> str | None:
    """Return the entry of ``codes`` for a text in any case, else :data:`OTHER`; ``None`` for ``None``."""
    return None if text is None else codes.get(text.strip().upper(), OTHER)


def intent(header: "Header") -> str | None:
    """Return ``presentation``, ``processing`` or ``other``; ``None`` where nothing is stated."""
    return among(header.PresentationIntentType, INTENTS)


def laterality(header: "Header") -> str | None:
    """Return ``L``, ``R``, ``B`` or ``other``; ``None`` where nothing is stated."""
    return side(header.ImageLaterality, header.FrameLaterality, header.Laterality, header.ViewPosition)[0]


def view_of(header: "Header") -> str | None:
    """Return the ACR code of the view, ``other`` outside the tables, ``None`` where nothing is stated."""
    return view(header.ViewPosition, header.ViewCode)[0]


def view_modifiers(header: "Header") -> tuple[str, ...]:
    """Return the modifiers of the view, from codes and ViewPosition; ``other`` for a code outside the table."""
    read = read_position(header.ViewPosition) if header.ViewPosition is not None else None
    coded = [modifier_of_code(code) or OTHER for code in header.ViewModifierCodes]
    return tuple(dict.fromkeys((*coded, *(read.modifiers if read is not None else ()))))


@lru_cache(1024)
def age_in_years(text: str) -> int | None:
    """Return whole years of a PatientAge (DICOM AS, or a bare number): ``064Y``, ``780M``, ``65``.

    ``None`` means that the text is not an age, or that it is ``000Y``. Units are as in
    ``omidb.utilities.parse_age``.
    """
    match = _AGE.fullmatch(text.strip())
    number = int(match[1][:9]) if match is not None else 0
    return number // _AGE_UNITS[match[2].upper()] if match is not None and number else None


@lru_cache(1024)
def image_type(values: tuple[str, ...]) -> str | None:
    """Return the kind of an image from its ImageType, ``other`` if no kind fits, ``None`` without values."""
    said = {value.upper() for value in values}
    return next((name for name, (_, names) in IMAGE_TYPES.items() if said & names), OTHER if values else None)


@lru_cache(1024)
def _is_of_tomosynthesis(values: tuple[str, ...]) -> bool:
    return not _OF_TOMOSYNTHESIS.isdisjoint(value.upper() for value in values)


def is_tomosynthesis(header: "Header") -> bool | None:
    """Return whether an image is a tomosynthesis, a projection or derived from one; ``None`` is unknown."""
    if header.SOPClassUID in TOMOSYNTHESIS or (header.NumberOfFrames or 1) > 1:
        return True
    if _is_of_tomosynthesis(header.ImageType):
        return True
    return None if header.SOPClassUID is None else False


# Problems ------------------------------------------------------------------------------------------------------

_TABLES: dict[str, Callable[[str], bool]] = {
    "SOPClassUID": SOP_CLASSES.__contains__,
    "TransferSyntaxUID": TRANSFER_SYNTAXES.__contains__,
    "PresentationIntentType": lambda text: among(text, INTENTS) != OTHER,
    "BreastImplantPresent": lambda text: among(text, YES_NO) != OTHER,
    "PartialView": lambda text: among(text, YES_NO) != OTHER,
    "ImageLaterality": is_side,
    "FrameLaterality": is_side,
    "Laterality": is_side,
    "ViewPosition": lambda text: read_position(text) is not None,
    "ViewCode": lambda text: view_of_code(text) is not None,
}
"""Keyword -> whether a text is in its table."""

_SHAPES = {"MONOCHROME1": "IDENTITY", "MONOCHROME2": "INVERSE"}
"""PhotometricInterpretation -> the PresentationLUTShape that contradicts it (PS3.3, C.8.11.3.1.2)."""

_said_by = attrgetter(
    *_TABLES, "ViewModifierCodes", "ImageType", "PhotometricInterpretation", "PresentationLUTShape"
)


def oddities(header: "Header") -> tuple[tuple[str, str], ...]:
    """Return kind and detail of the problems of a header: values outside their tables, and contradictions."""
    found, age, series = _odd_codes(*_said_by(header)), header.PatientAge, header.SeriesInstanceUID
    if series is not None and len(series) > LONGEST_UID:
        found = (
            *found,
            ("odd-value", f"SeriesInstanceUID has {len(series)} characters, not {LONGEST_UID} at most"),
        )
    if age is None or age_in_years(age) is not None or _AGE.fullmatch(age.strip()):
        return found
    return (*found, ("odd-value", f"PatientAge is {shown(age)}, not an age"))


@lru_cache(4096)  # nearly all images repeat the values of another: 1 us instead of 9
def _odd_codes(*said: Any) -> tuple[tuple[str, str], ...]:
    *texts, modifiers, types, photometric, shape = said
    of = dict(zip(_TABLES, texts, strict=True))
    found = [
        ("unknown-code", f"{keyword} is {shown(text)}")
        for keyword, text in of.items()
        if text is not None and not _TABLES[keyword](text)
    ]
    unknown = dict.fromkeys(code for code in modifiers if modifier_of_code(code) is None)
    found += [("unknown-code", f"ViewModifierCode is {shown(code)}") for code in unknown]
    if image_type(types) == OTHER:
        found.append(("unknown-code", f"ImageType is {shown(chr(92).join(types))}"))
    if view(of["ViewPosition"], of["ViewCode"])[1]:
        found.append(("view-conflict", " ".join(f"{of['ViewPosition']} and {of['ViewCode']}".split())))
    sides = {
        keyword: of[keyword] for keyword in ("ImageLaterality", "FrameLaterality", "Laterality", "ViewPosition")
    }
    if side(*sides.values())[1]:
        found.append(("side-conflict", " and ".join(_named(sides))))
    if shape is not None and _SHAPES.get((photometric or "").strip()) == shape.strip().upper():
        found.append(("shape-conflict", f"PresentationLUTShape {shown(shape)} and {shown(photometric)}"))
    return tuple(found)


def _named(sides: dict[str, str | None]) -> Iterator[str]:
    """Yield the attributes of a header that name a side, with their values, in the order of precedence."""
    for place, (keyword, text) in enumerate(sides.items()):
        alone = [text if number == place else None for number in range(len(sides))]
        if side(*alone)[0] not in (None, OTHER):
            yield f"{keyword} {shown(text)}"
