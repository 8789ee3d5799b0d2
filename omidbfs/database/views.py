"""Views and view modifiers of a mammogram (DICOM PS3.16, CID 4014 and CID 4015)."""

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

_VIEW_OF_CODE = {code: view for view, (_, codes) in VIEWS.items() for code in codes}
_MODIFIER_OF_CODE = {code: name for name, codes in MODIFIERS.items() for code in codes}


def view_of_position(position: str) -> str | None:
    """Return the ACR code that a ViewPosition names, with or without a leading side (``LMLO``), or ``None``."""
    text = position.strip().upper()
    if text in VIEWS:  # LM and LMO begin with an L of their own
        return text
    return text[1:] if text[:1] in ("L", "R") and text[1:] in VIEWS else None


def view_of_code(code: str) -> str | None:
    """Return the ACR code of a view code value (CID 4014), or ``None``."""
    return _VIEW_OF_CODE.get(code.strip())


def modifier_of_code(code: str) -> str | None:
    """Return the meaning of a view modifier code value (CID 4015), or ``None``."""
    return _MODIFIER_OF_CODE.get(code.strip())


def view(position: str | None, code: str | None) -> tuple[str | None, bool]:
    """Return the view of an image, and whether its two sources disagree.

    The position says, else the code; in a conflict the code wins. ``None`` is "not stated" when both arguments
    are ``None``, and otherwise "outside the table".
    """
    by_position = view_of_position(position) if position is not None else None
    by_code = view_of_code(code) if code is not None else None
    conflict = by_position is not None and by_code is not None and by_position != by_code
    return by_code or by_position, conflict
