"""Facets of one image: what its header says, which of its files there are, what was found in its breast."""

import re
from collections.abc import Hashable, Sequence
from functools import lru_cache
from operator import attrgetter

from omidbfs.database.codes import SIDE_OPINIONS
from omidbfs.database.header import Header
from omidbfs.database.records import OTHER, Episode
from omidbfs.database.views import MODIFIERS, VIEWS, modifier_of_code, view
from omidbfs.facets.model import (
    NONE,
    UNKNOWN,
    UNLINKED,
    YES_NO,
    Facet,
    Kind,
    Subject,
    Token,
    Value,
    among,
    one,
    table,
)
from omidbfs.names import LONGEST, slug

_VENDORS = (
    ("hologic", "hologic"),
    ("lorad", "lorad"),
    ("ge ", "ge"),
    ("ge-", "ge"),
    ("general electric", "ge"),
    ("siemens", "siemens"),
    ("philips", "philips"),
    ("sectra", "sectra"),
    ("fuji", "fujifilm"),
)
_AGE = re.compile(r"0*([0-9]+)\s*([YMWD]?)", re.ASCII)
_AGE_UNITS = {"": 1, "Y": 1, "M": 12, "W": 52, "D": 365}
_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]*", re.ASCII)

_STORAGE = "1.2.840.10008.5.1.4.1.1."
_SOP_CLASSES = tuple(
    Value(_STORAGE + uid, label, (_STORAGE + uid, meaning), meaning)
    for uid, label, meaning in (
        ("1.2", "mammography-presentation", "Digital Mammography X-Ray Image Storage - For Presentation"),
        ("1.2.1", "mammography-processing", "Digital Mammography X-Ray Image Storage - For Processing"),
        ("13.1.3", "tomosynthesis", "Breast Tomosynthesis Image Storage"),
        ("13.1.4", "projection-presentation", "Breast Projection X-Ray Image Storage - For Presentation"),
        ("13.1.5", "projection-processing", "Breast Projection X-Ray Image Storage - For Processing"),
        ("1", "computed-radiography", "Computed Radiography Image Storage"),
        ("1.1", "digital-x-ray-presentation", "Digital X-Ray Image Storage - For Presentation"),
        ("1.1.1", "digital-x-ray-processing", "Digital X-Ray Image Storage - For Processing"),
        ("7", "secondary-capture", "Secondary Capture Image Storage"),
        ("4", "magnetic-resonance", "MR Image Storage"),
        ("2", "computed-tomography", "CT Image Storage"),
        ("6.1", "ultrasound", "Ultrasound Image Storage"),
        ("11.1", "presentation-state", "Grayscale Softcopy Presentation State Storage"),
        ("88.50", "mammography-cad", "Mammography CAD SR Storage"),
    )
)
_SOP_CLASS_CODES = frozenset(value.code for value in _SOP_CLASSES)
_TOMOSYNTHESIS = frozenset(_STORAGE + uid for uid in ("13.1.3", "13.1.4", "13.1.5"))

_SYNTAX = "1.2.840.10008.1.2"
_TRANSFER_SYNTAXES = tuple(
    Value(_SYNTAX + uid, label, (_SYNTAX + uid, meaning), meaning)
    for uid, label, meaning in (
        ("", "implicit-vr-little-endian", "Implicit VR Little Endian"),
        (".1", "explicit-vr-little-endian", "Explicit VR Little Endian"),
        (".1.99", "deflated", "Deflated Explicit VR Little Endian"),
        (".2", "explicit-vr-big-endian", "Explicit VR Big Endian (retired)"),
        (".4.50", "jpeg-baseline", "JPEG Baseline (Process 1)"),
        (".4.51", "jpeg-extended", "JPEG Extended (Process 2 & 4)"),
        (".4.57", "jpeg-lossless", "JPEG Lossless, Non-Hierarchical (Process 14)"),
        (".4.70", "jpeg-lossless-sv1", "JPEG Lossless, Non-Hierarchical, First-Order Prediction"),
        (".4.80", "jpeg-ls-lossless", "JPEG-LS Lossless Image Compression"),
        (".4.81", "jpeg-ls-near-lossless", "JPEG-LS Lossy (Near-Lossless) Image Compression"),
        (".4.90", "jpeg-2000-lossless", "JPEG 2000 Image Compression (Lossless Only)"),
        (".4.91", "jpeg-2000", "JPEG 2000 Image Compression"),
        (".4.201", "htj2k-lossless", "High-Throughput JPEG 2000 Image Compression (Lossless Only)"),
        (".4.202", "htj2k-lossless-rpcl", "High-Throughput JPEG 2000 with RPCL Options (Lossless Only)"),
        (".4.203", "htj2k", "High-Throughput JPEG 2000 Image Compression"),
        (".5", "rle-lossless", "RLE Lossless"),
    )
)
_TRANSFER_SYNTAX_CODES = frozenset(value.code for value in _TRANSFER_SYNTAXES)

_WORST_FIRST = ("OM", "OS", "OU", "OB", "ON")
_DECISIVE = ("surgery", "biopsy_wide", "biopsy_fine")
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
"""Code of a reader's opinion of one breast at screening -> its name on the drive, its text in NBSS."""


# What depends on what. Fields that few images share are left out of the header and stand alone.
_ALONE = (
    "PatientAge",
    "BodyPartThickness",
    "EstimatedRadiographicMagnificationFactor",
)
_shared_fields = attrgetter(*(name for name in Header.__struct_fields__ if name not in _ALONE))


def of_header(subject: Subject) -> Hashable:
    """Return all fields of the header that many images share."""
    return _shared_fields(subject.image.header)


_of_age, _of_thickness, _of_magnification = (attrgetter(f"image.header.{name}") for name in _ALONE)


def _of_files(subject: Subject) -> Hashable:
    return subject.image.dcm is not None, subject.image.sidecar is not None


def age_in_years(text: str) -> int | str:
    """Return whole years from a PatientAge (DICOM AS, or a bare number): ``064Y``, ``780M``, ``65``.

    ``000Y`` is unknown. As ``omidb.utilities.parse_age``.
    """
    match = _AGE.match(text.strip())
    if match is None:
        return OTHER
    number = int(match[1][:9])
    return number // _AGE_UNITS[match[2]] if number else UNKNOWN


def _age(subject: Subject) -> Token | None:
    text = subject.image.header.PatientAge
    return None if text is None else age_in_years(text)


def view_of(header: Header) -> str | None:
    """Return the ACR code of the view, ``other`` outside the table, ``None`` where nothing is stated."""
    position, code = header.ViewPosition, header.ViewCode
    return None if position is None and code is None else view(position, code)[0] or OTHER


def laterality(header: Header) -> str | None:
    """Return ``L``, ``R`` or ``B``, ``other``, ``None`` where nothing is stated."""
    return _side(header.ImageLaterality or header.Laterality)


@lru_cache(1024)  # of the few texts that there are, asked for each image
def _side(text: str | None) -> str | None:
    return among(text, {"L": "L", "R": "R", "B": "B"})


def intent(header: Header) -> str | None:
    """Return ``presentation``, ``processing``, ``other``, ``None`` where nothing is stated."""
    codes = {"FOR PRESENTATION": "presentation", "FOR PROCESSING": "processing"}
    return among(header.PresentationIntentType, codes)


def _view_modifiers(subject: Subject) -> Sequence[Token]:
    header = subject.image.header
    if header.ViewModifierCodes:
        return [modifier_of_code(code) or OTHER for code in header.ViewModifierCodes]
    return (UNKNOWN,) if header.ViewCode is None else (NONE,)


def _yes_no(text: str | None) -> str | None:
    return among(text, {"YES": "yes", "NO": "no"})


def vendor(text: str) -> str:
    """Return the value of a Manufacturer: one name for the spellings of one company, else the text's slug."""
    lower = text.lower() + " "
    return next((name for start, name in _VENDORS if lower.startswith(start)), slug(text))


def code_label(text: str) -> str:
    """Return the name of a DICOM code string (MG, MONOCHROME2): as it is, in capitals; otherwise a slug."""
    return text.upper() if _CODE.fullmatch(text) and len(text) <= LONGEST else slug(text)


def _uid(text: str | None, known: frozenset[str]) -> str | None:
    return text if text is None or text in known else OTHER


def _matrix_size(subject: Subject) -> str | None:
    header = subject.image.header
    if header.Rows is None or header.Columns is None:
        return None
    return f"{header.Rows}x{header.Columns}"


def _thickness(subject: Subject) -> Token | None:
    thickness = subject.image.header.BodyPartThickness
    return None if not thickness else int(thickness) if 0 < thickness < 1e9 else OTHER


def _magnification(subject: Subject) -> str | None:
    factor = subject.image.header.EstimatedRadiographicMagnificationFactor
    if not factor:
        return None
    return f"{factor:.1f}" if 0 < factor < 1000 else "out-of-range"


def _tomosynthesis(subject: Subject) -> str | None:
    header = subject.image.header
    if header.SOPClassUID in _TOMOSYNTHESIS or (header.NumberOfFrames or 1) > 1:
        return "yes"
    return None if header.SOPClassUID is None else "no"


def _files(subject: Subject) -> str:
    image = subject.image
    return "dcm-only" if image.sidecar is None else "json-only" if image.dcm is None else "pair"


# Opinions of the image's own breast ---------------------------------------------------------------------------


def _opinions(subject: Subject, episode: Episode, side: str) -> tuple[str | None, str | None]:
    """Return the worst opinion after biopsy or surgery of one breast, and the readers' at screening."""
    # Remembered while the woman is at hand: otherwise found anew for each image, 2 us.
    found = subject.opinions.get((episode.id, side))
    if found is None:
        is_left, decisive, first = side == "L", set(), None
        for event in episode.events or ():
            if event.name in _DECISIVE:
                decisive.add(event.left_opinion if is_left else event.right_opinion)
            reading = event.left_reading if is_left else event.right_reading
            first = reading if first is None else first
        worst = next((opinion for opinion in _WORST_FIRST if opinion in decisive), None) if decisive else None
        found = subject.opinions[episode.id, side] = worst, first
    return found


def _of_breast(subject: Subject) -> Hashable:
    """Return the side of the image and the opinions of that breast: all that their facets depend on."""
    episode, side = subject.study.episode, laterality(subject.image.header)
    if episode is None or side not in ("L", "R"):
        return episode is None, side
    return _opinions(subject, episode, side)


def _side_opinion(subject: Subject) -> str | None:
    episode, side = subject.study.episode, laterality(subject.image.header)
    if episode is None:
        return UNLINKED
    return None if side not in ("L", "R") else _opinions(subject, episode, side)[0] or NONE


def _reading_opinion(subject: Subject) -> str | None:
    episode, side = subject.study.episode, laterality(subject.image.header)
    if episode is None:
        return UNLINKED
    reading = _opinions(subject, episode, side)[1] if side in ("L", "R") else None
    return reading if reading is None or reading in READING_OPINIONS else OTHER


IMAGE_FACETS: tuple[Facet, ...] = (
    Facet(
        "view",
        "the projection",
        "image",
        "ViewPosition (0018,5101), ViewCodeSequence (0054,0220)",
        Kind.TABLE,
        one(lambda subject: view_of(subject.image.header)),
        of_header,
        values=tuple(Value(acr, acr, (*codes, meaning), meaning) for acr, (meaning, codes) in VIEWS.items()),
    ),
    Facet(
        "view-modifier",
        "how the projection was modified",
        "image",
        "ViewModifierCodeSequence (0054,0222)",
        Kind.TABLE,
        _view_modifiers,
        of_header,
        several=True,
        values=tuple(Value(name, name, codes) for name, codes in MODIFIERS.items()),
    ),
    Facet(
        "laterality",
        "the breast",
        "image",
        "ImageLaterality (0020,0062), else Laterality (0020,0060)",
        Kind.TABLE,
        one(lambda subject: laterality(subject.image.header)),
        of_header,
        values=(Value("L", "L", ("left",)), Value("R", "R", ("right",)), Value("B", "B", ("both",))),
    ),
    Facet(
        "intent",
        "for presentation to a reader, or for processing",
        "image",
        "PresentationIntentType (0008,0068)",
        Kind.TABLE,
        one(lambda subject: intent(subject.image.header)),
        of_header,
        values=(
            Value("presentation", "presentation", ("FOR PRESENTATION", "for-presentation")),
            Value("processing", "processing", ("FOR PROCESSING", "for-processing")),
        ),
    ),
    Facet(
        "sop-class",
        "what kind of object the file holds",
        "image",
        "SOPClassUID (0008,0016)",
        Kind.TABLE,
        one(lambda subject: _uid(subject.image.header.SOPClassUID, _SOP_CLASS_CODES)),
        of_header,
        values=_SOP_CLASSES,
    ),
    Facet(
        "modality",
        "the type of the device",
        "image",
        "Modality (0008,0060)",
        Kind.TEXT,
        one(lambda subject: subject.image.header.Modality),
        of_header,
        label=code_label,
    ),
    Facet(
        "tomosynthesis",
        "whether it is a tomosynthesis or one of its projections",
        "image",
        "SOPClassUID (0008,0016); NumberOfFrames (0028,0008) above 1",
        Kind.TABLE,
        one(_tomosynthesis),
        of_header,
        values=YES_NO,
    ),
    Facet(
        "manufacturer",
        "who made the unit",
        "image",
        "Manufacturer (0008,0070)",
        Kind.TEXT,
        one(lambda subject: subject.image.header.Manufacturer),
        of_header,
        label=vendor,
    ),
    Facet(
        "model",
        "the unit's model",
        "image",
        "ManufacturerModelName (0008,1090)",
        Kind.TEXT,
        one(lambda subject: subject.image.header.ManufacturerModelName),
        of_header,
    ),
    Facet(
        "age",
        "the woman's age at the examination in years, in bands of five",
        "image",
        "PatientAge (0010,1010)",
        Kind.NUMBER,
        one(_age),
        _of_age,
        highest=130,
        band=5,
    ),
    Facet(
        "thickness",
        "the thickness of the compressed breast in mm, in bands of ten",
        "image",
        "BodyPartThickness (0018,11A0)",
        Kind.NUMBER,
        one(_thickness),
        _of_thickness,
        highest=399,
        band=10,
    ),
    Facet(
        "magnification",
        "the factor of magnification, to one tenth",
        "image",
        "EstimatedRadiographicMagnificationFactor (0018,1114)",
        Kind.TEXT,
        one(_magnification),
        _of_magnification,
    ),
    Facet(
        "implant",
        "whether the breast has an implant",
        "image",
        "BreastImplantPresent (0028,1300)",
        Kind.TABLE,
        one(lambda subject: _yes_no(subject.image.header.BreastImplantPresent)),
        of_header,
        values=YES_NO,
    ),
    Facet(
        "partial-view",
        "whether the image shows a part of the breast only",
        "image",
        "PartialView (0028,1350)",
        Kind.TABLE,
        one(lambda subject: _yes_no(subject.image.header.PartialView)),
        of_header,
        values=YES_NO,
    ),
    Facet(
        "matrix-size",
        "rows x columns",
        "image",
        "Rows (0028,0010), Columns (0028,0011)",
        Kind.TEXT,
        one(_matrix_size),
        of_header,
    ),
    Facet(
        "photometric-interpretation",
        "whether high values are dark or bright",
        "image",
        "PhotometricInterpretation (0028,0004)",
        Kind.TEXT,
        one(lambda subject: subject.image.header.PhotometricInterpretation),
        of_header,
        label=code_label,
    ),
    Facet(
        "transfer-syntax",
        "how the file is encoded",
        "image",
        "TransferSyntaxUID (0002,0010)",
        Kind.TABLE,
        one(lambda subject: _uid(subject.image.header.TransferSyntaxUID, _TRANSFER_SYNTAX_CODES)),
        of_header,
        values=_TRANSFER_SYNTAXES,
    ),
    Facet(
        "side-opinion",
        "the worst opinion of the image's own breast after biopsy or surgery in the episode",
        "image",
        "NBSS left_opinion, right_opinion of SURGERY, BIOPSYWIDE, BIOPSYFINE; laterality of the image",
        Kind.TABLE,
        one(_side_opinion),
        _of_breast,
        values=table(dict(zip(_WORST_FIRST, map(SIDE_OPINIONS.__getitem__, _WORST_FIRST), strict=True))),
    ),
    Facet(
        "reading-opinion",
        "the readers' opinion of the image's own breast at screening",
        "image",
        "NBSS SCREENING, L and R, Opinion; laterality of the image",
        Kind.TABLE,
        one(_reading_opinion),
        _of_breast,
        values=tuple(Value(code, label, (code, text), text) for code, (label, text) in READING_OPINIONS.items()),
    ),
    Facet(
        "files",
        "which files of the image exist",
        "image",
        "directory",
        Kind.TABLE,
        one(_files),
        _of_files,
        values=(
            Value("pair", "pair", (), "the DICOM file and its JSON"),
            Value("dcm-only", "dcm-only", (), "the DICOM file alone"),
            Value("json-only", "json-only", (), "the JSON alone"),
        ),
    ),
)
