"""Tables of values for facets: SOP classes, transfer syntaxes and reader opinions.

The modules of facets use them. They are constants, for any thread. Sources: DICOM PS3.6, annex A; NBSS.
"""

from omidbfs.database import uids
from omidbfs.facets.model import Value


def _of_uids(names: dict[str, tuple[str, str]]) -> tuple[Value, ...]:
    return tuple(Value(uid, label, (uid, meaning), meaning) for uid, (label, meaning) in names.items())


SOP_CLASSES = _of_uids(uids.SOP_CLASSES)
TRANSFER_SYNTAXES = _of_uids(uids.TRANSFER_SYNTAXES)

READING_OPINIONS: dict[str, tuple[str, str]] = {
    "R1": ("r1-normal", "Rad normal"),
    "R2": ("r2-benign", "Rad benign"),
    "R3": ("r3-uncertain", "Rad uncertain"),
    "R4": ("r4-suspicious", "Rad suspicious"),
    "R5": ("r5-malignant", "Rad malig"),
    "RN": ("normal", "R Normal"),
    "RB": ("benign", "R Benign"),
    "RU": ("uncertain", "R Uncertain"),
    "RS": ("suspicious", "R Suspicious"),
    "RM": ("malignant", "R Malignant"),
    "RO": ("unreported", "R Unreported"),
}
"""Code of a reader opinion on one breast at screening -> its name on the drive, its text in NBSS."""
