"""Reads views, view modifiers and sides of a mammogram in any spelling (DICOM PS3.16, CID 4014 and 4015).

``terms.py`` and the facets use it. Pure functions: any thread may call them.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from omidbfs.database.records import OTHER

VIEWS: dict[str, tuple[str, tuple[str, ...]]] = {
    "ML": ("medio-lateral", ("R-10224", "399260004")),
    "MLO": ("medio-lateral-oblique", ("R-10226", "399368009")),
    "LM": ("latero-medial", ("R-10228", "399352003")),
    "LMO": ("latero-medial-oblique", ("R-10230", "399099002")),
    "CC": ("cranio-caudal", ("R-10242", "399162004")),
    "FB": ("caudo-cranial", ("R-10244", "399196006")),
    "SIO": ("superolateral-to-inferomedial-oblique", ("R-102D0", "399188001")),
    "ISO": ("inferomedial-to-superolateral-oblique", ("R-40AAA", "441555000")),
    "XCCL": ("cranio-caudal-exaggerated-laterally", ("R-1024A", "Y-X1770", "399192008")),
    "XCCM": ("cranio-caudal-exaggerated-medially", ("R-1024B", "Y-X1771", "399101009")),
    "XCC": ("cranio-caudal-exaggerated", ("R-102CF", "399265009")),
    "SPECIMEN": ("tissue-specimen", ("G-8310", "127457009")),
}
"""ACR code -> meaning and code values (SRT or SNM3, SNOMED CT), CID 4014."""

MODIFIERS: dict[str, tuple[str, ...]] = {
    "cleavage": ("R-102D2", "399161006"),
    "axillary-tail": ("R-102D1", "399011000"),
    "rolled-lateral": ("R-102D3", "399197002"),
    "rolled-medial": ("R-102D4", "399226006"),
    "rolled-inferior": ("R-102CA", "414493004"),
    "rolled-superior": ("R-102C9", "415670009"),
    "implant-displaced": ("R-102D5", "399209000"),
    "magnification": ("R-102D6", "399163009"),
    "spot-compression": ("R-102D7", "399055006"),
    "tangential": ("R-102C2", "399110001"),
    "nipple-in-profile": ("R-40AB3", "442581004"),
    "anterior-compression": ("P2-00161", "441752004"),
    "infra-mammary-fold": ("R-40ABE", "442593008"),
    "axillary-tissue": ("R-40AB2", "442580003"),
}
"""Meaning -> code values (SRT or SNM3, SNOMED CT), CID 4015."""

_BEFORE = {"M": "magnification", "S": "spot-compression"}
_AFTER = {
    "ID": "implant-displaced",
    "RL": "rolled-lateral",
    "RM": "rolled-medial",
    "RI": "rolled-inferior",
    "RS": "rolled-superior",
    "NP": "nipple-in-profile",
    "AC": "anterior-compression",
    "IMF": "infra-mammary-fold",
    "AX": "axillary-tissue",
    "AT": "axillary-tail",
    "CV": "cleavage",
    "TAN": "tangential",
}
"""ACR spelling of modifiers before and after a view; those after a view may also stand alone (CID 4015)."""

_SIDES = {"L": "L", "LEFT": "L", "R": "R", "RIGHT": "R", "B": "B", "BOTH": "B", "BILATERAL": "B"}
_NO_SIDE = frozenset({"U", "UNPAIRED"})
"""Lateralities of unpaired body parts. For a breast they count as "not stated"."""

_VIEW_OF_CODE = {code: view for view, (_, codes) in VIEWS.items() for code in codes}
_MODIFIER_OF_CODE = {code: name for name, codes in MODIFIERS.items() for code in codes}


def _any_of(names: Iterable[str]) -> str:
    return "|".join(names)


_SEPARATOR = re.compile(r"[\s_-]+")
_POSITION = re.compile(
    rf"(?P<side>LEFT|RIGHT|L|R)?(?:(?P<before>[{''.join(_BEFORE)}]*)(?P<view>{_any_of(VIEWS)}))?"
    rf"(?P<after>(?:{_any_of(_AFTER)})*)"
)


class Position(NamedTuple):
    """The content of a ViewPosition: the side (``L``, ``R``), the ACR code of the view, the modifiers."""

    side: str | None
    view: str | None
    modifiers: tuple[str, ...]


@lru_cache(1024)  # a database has few different texts, and each image needs one
def read_position(text: str) -> Position | None:
    """Return the content of a ViewPosition (0018,5101), ``None`` for a text outside the tables.

    A side may precede the view, and modifiers may precede and follow it, with blanks, hyphens and underscores
    between them: ``LMLO``, ``RIGHT CC``, ``R-MLO``, ``CCID``, ``AT``. A whole text that is a view or a modifier is
    read as such: ``LM`` is a view, and ``RM`` a modifier.
    """
    name = _SEPARATOR.sub("", text.upper().strip(" \0"))
    if name in VIEWS:
        return Position(None, name, ())
    if name in _AFTER:
        return Position(None, None, (_AFTER[name],))
    match = _POSITION.fullmatch(name)
    if match is None or not (match["view"] or match["after"]) or name == "LAT":  # LAT is lateral, not L and AT
        return None
    after = re.findall(_any_of(_AFTER), match["after"])
    modifiers = [*(_BEFORE[letter] for letter in match["before"] or ""), *(_AFTER[one] for one in after)]
    side = match["side"]
    return Position(side and side[0], match["view"], tuple(dict.fromkeys(modifiers)))


def view_of_code(code: str) -> str | None:
    """Return the ACR code of a view code value (CID 4014), or ``None``."""
    return _VIEW_OF_CODE.get(code.strip())


def modifier_of_code(code: str) -> str | None:
    """Return the meaning of a view modifier code value (CID 4015), or ``None``."""
    return _MODIFIER_OF_CODE.get(code.strip())


@lru_cache(1024)
def view(position: str | None, code: str | None) -> tuple[str | None, bool]:
    """Return the view of an image, and whether its two sources disagree.

    The code wins over the position. ``None`` means "not stated", :data:`OTHER` "outside the table".
    """
    read = read_position(position) if position is not None else None
    by_code = view_of_code(code) if code is not None else None
    by_position = read.view if read is not None else None
    is_outside = code is not None or (position is not None and read is None)
    conflict = by_position is not None and by_code is not None and by_position != by_code
    return by_code or by_position or (OTHER if is_outside else None), conflict


def is_side(text: str) -> bool:
    """Return whether a laterality is in the table: a side, both, or unpaired."""
    return text.strip().upper() in _SIDES.keys() | _NO_SIDE


@lru_cache(1024)
def side(
    image: str | None, frame: str | None, series: str | None, position: str | None
) -> tuple[str | None, bool]:
    """Return the side of an image (``L``, ``R``, ``B``), and whether its sources disagree.

    The first source that names a side wins: ImageLaterality, FrameLaterality, Laterality, the side in
    ViewPosition. Laterality belongs to the series: if it names both sides, an image with a side of its own ignores
    it. ``None`` means "not stated", :data:`OTHER` "outside the table".
    """
    stated = [text.strip().upper() for text in (image, frame, series) if text is not None]
    read = read_position(position) if position is not None else None
    own = [_SIDES[text] for text in stated if text in _SIDES]
    if read is not None and read.side is not None:
        own.append(read.side)
    if series is not None and _SIDES.get(series.strip().upper()) == "B" and set(own) != {"B"}:
        own.remove("B")
    if own:
        return own[0], len(set(own)) > 1
    return (OTHER if any(text not in _NO_SIDE for text in stated) else None), False
