"""Facets of one image: what its header says, which of its files there are, what was found in its breast."""

import re
from collections.abc import Container, Hashable, Sequence
from operator import attrgetter

from omidbfs.base.names import slug
from omidbfs.database import uids
from omidbfs.database.header import Header
from omidbfs.database.records import OTHER
from omidbfs.database.terms import (
    IMAGE_TYPES,
    age_in_years,
    among,
    image_type,
    intent,
    is_tomosynthesis,
    laterality,
    view_modifiers,
    view_of,
)
from omidbfs.database.terms import YES_NO as YES_NO_TEXTS
from omidbfs.database.views import MODIFIERS, VIEWS
from omidbfs.facets.model import (
    NONE,
    UNKNOWN,
    YES_NO,
    Facet,
    Kind,
    Subject,
    Token,
    Value,
    one,
    yes_no,
)
from omidbfs.facets.tables import SOP_CLASSES, TRANSFER_SYNTAXES

_VENDORS = (
    ("hologic", "hologic"),
    ("lorad", "lorad"),
    ("ge-", "ge"),
    ("ge_", "ge"),
    ("general-electric", "ge"),
    ("siemens", "siemens"),
    ("philips", "philips"),
    ("sectra", "sectra"),
    ("fuji", "fujifilm"),
)
_CODE = re.compile(r"[a-z0-9-]+")


# What depends on what. Fields that few images share are left out of the header and stand alone.
_ALONE = (
    "PatientAge",
    "BodyPartThickness",
    "EstimatedRadiographicMagnificationFactor",
)
_OF_TYPE = ("ImageType", "SOPClassUID", "NumberOfFrames")
_NO_FACETS = (
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "PatientOrientation",
    "ImagerPixelSpacing",
    "SamplesPerPixel",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
    "PresentationLUTShape",
)
_LEFT_OUT = (*_ALONE, "ImageType", *_NO_FACETS)
_shared_fields = attrgetter(*(name for name in Header.__struct_fields__ if name not in _LEFT_OUT))


def of_header(subject: Subject) -> Hashable:
    """Return all fields of the header that many images share."""
    return _shared_fields(subject.image.header)


_of_age, _of_thickness, _of_magnification = (attrgetter(f"image.header.{name}") for name in _ALONE)
_of_type = attrgetter(*(f"image.header.{name}" for name in _OF_TYPE))


_FRAMES = (
    ("SharedFunctionalGroupsSequence", "(5200,9229).(0020,9071).(0020,9072)"),
    ("PerFrameFunctionalGroupsSequence", "(5200,9230).(0020,9071).(0020,9072)"),
)


def _of_files(subject: Subject) -> Hashable:
    return subject.image.dcm is not None, subject.image.sidecar is not None


def _age(subject: Subject) -> Token | None:
    text = subject.image.header.PatientAge
    return None if text is None else age_in_years(text)


def _view_modifiers(subject: Subject) -> Sequence[Token]:
    header = subject.image.header
    return view_modifiers(header) or ((UNKNOWN,) if header.ViewCode is None else (NONE,))


def vendor(text: str) -> str:
    """Return the value of a Manufacturer: one name for the spellings of one company, else the text's slug."""
    name = slug(text)
    return next((company for start, company in _VENDORS if f"{name}-".startswith(start)), name)


def code_label(text: str) -> str:
    """Return the name of a DICOM code string (MG, YBR_FULL): in capitals, with underscores; otherwise a slug."""
    name = slug(text)
    return name.upper().replace("-", "_") if _CODE.fullmatch(name) else name


def _uid(text: str | None, known: Container[str]) -> str | None:
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


def _files(subject: Subject) -> str:
    image = subject.image
    return "dcm-only" if image.sidecar is None else "json-only" if image.dcm is None else "pair"


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
        "ViewCodeSequence.ViewModifierCodeSequence (0054,0220).(0054,0222), ViewModifierCodeSequence (0054,0222), "
        "ViewPosition (0018,5101)",
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
        "ImageLaterality (0020,0062), else "
        + "".join(f"{sequence}.FrameAnatomySequence.FrameLaterality {tags}, else " for sequence, tags in _FRAMES)
        + "Laterality (0020,0060), else ViewPosition (0018,5101)",
        Kind.TABLE,
        one(lambda subject: laterality(subject.image.header)),
        of_header,
        values=(
            Value("L", "L", ("left", "LEFT")),
            Value("R", "R", ("right", "RIGHT")),
            Value("B", "B", ("both", "BOTH", "BILATERAL")),
        ),
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
        one(lambda subject: _uid(subject.image.header.SOPClassUID, uids.SOP_CLASSES)),
        of_header,
        values=SOP_CLASSES,
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
        "whether it is a tomosynthesis, one of its projections, or a 2D image made of it",
        "image",
        "SOPClassUID (0008,0016); NumberOfFrames (0028,0008) above 1; ImageType (0008,0008)",
        Kind.TABLE,
        one(lambda subject: yes_no(is_tomosynthesis(subject.image.header))),
        _of_type,
        values=YES_NO,
    ),
    Facet(
        "image-type",
        "how the image came about",
        "image",
        "ImageType (0008,0008), all values",
        Kind.TABLE,
        one(lambda subject: image_type(subject.image.header.ImageType)),
        _of_type,
        values=tuple(
            Value(name, name, tuple(sorted(texts)), meaning) for name, (meaning, texts) in IMAGE_TYPES.items()
        ),
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
        "BodyPartThickness (0018,11A0), else XRay3DAcquisitionSequence.BodyPartThickness (0018,9507).(0018,11A0)",
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
        "EstimatedRadiographicMagnificationFactor (0018,1114), else "
        "XRay3DAcquisitionSequence.EstimatedRadiographicMagnificationFactor (0018,9507).(0018,1114)",
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
        one(lambda subject: among(subject.image.header.BreastImplantPresent, YES_NO_TEXTS)),
        of_header,
        values=YES_NO,
    ),
    Facet(
        "partial-view",
        "whether the image shows a part of the breast only",
        "image",
        "PartialView (0028,1350)",
        Kind.TABLE,
        one(lambda subject: among(subject.image.header.PartialView, YES_NO_TEXTS)),
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
        one(lambda subject: _uid(subject.image.header.TransferSyntaxUID, uids.TRANSFER_SYNTAXES)),
        of_header,
        values=TRANSFER_SYNTAXES,
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
