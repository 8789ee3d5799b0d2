"""Facets of one image: the attributes of its header, and which of its files exist.

The registry of facets includes them. The workers that build an index call their functions once for each distinct
``depends_on``. The functions are pure.
"""

import re
from collections.abc import Container, Hashable, Sequence
from operator import attrgetter

from omidbfs.base.names import slug
from omidbfs.database import uids
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
    Level,
    Subject,
    Token,
    Value,
    one,
    tag,
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

SHARED = (
    "Manufacturer",
    "ManufacturerModelName",
    "PresentationIntentType",
    "ViewPosition",
    "Laterality",
    "ImageLaterality",
    "BreastImplantPresent",
    "SOPClassUID",
    "Modality",
    "PhotometricInterpretation",
    "PartialView",
    "TransferSyntaxUID",
    "Rows",
    "Columns",
    "FrameLaterality",
    "ViewCode",
    "ViewModifierCodes",
)
"""Header fields that facets read and whose values many images share. Other fields have keys of their own."""
OF_TYPE = ("SOPClassUID", "NumberOfFrames", "ImageType")
"""Header fields that state the type of an image."""

_shared_fields = attrgetter(*SHARED)


def of_header(subject: Subject) -> Hashable:
    """Return the values of the :data:`SHARED` fields."""
    return _shared_fields(subject.image.header)


_of_age, _of_thickness, _of_magnification = (
    attrgetter(f"image.header.{name}")
    for name in ("PatientAge", "BodyPartThickness", "EstimatedRadiographicMagnificationFactor")
)
_of_type = attrgetter(*(f"image.header.{name}" for name in OF_TYPE))


_FRAME_LATERALITY = "FrameAnatomySequence.FrameLaterality"
_MAGNIFICATION = "EstimatedRadiographicMagnificationFactor"


def _of_files(subject: Subject) -> Hashable:
    return subject.image.dcm is not None, subject.image.sidecar is not None


def _age(subject: Subject) -> Token | None:
    text = subject.image.header.PatientAge
    return None if text is None else age_in_years(text)


def _view_modifiers(subject: Subject) -> Sequence[Token]:
    header = subject.image.header
    return view_modifiers(header) or ((UNKNOWN,) if header.ViewCode is None else (NONE,))


def vendor(text: str) -> str:
    """Return the name for a Manufacturer: one name for all spellings of a company, else the slug of the text."""
    name = slug(text)
    return next((company for start, company in _VENDORS if f"{name}-".startswith(start)), name)


def code_label(text: str) -> str:
    """Return the name for a DICOM code string (MG, YBR_FULL), in capitals with underscores, or else the slug."""
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
        Level.IMAGE,
        (tag("ViewPosition", "00185101"), ", ", tag("ViewCodeSequence", "00540220")),
        Kind.TABLE,
        one(lambda subject: view_of(subject.image.header)),
        of_header,
        values=tuple(Value(acr, acr, (*codes, meaning), meaning) for acr, (meaning, codes) in VIEWS.items()),
    ),
    Facet(
        "view-modifier",
        "how the projection was modified",
        Level.IMAGE,
        (
            tag("ViewCodeSequence.ViewModifierCodeSequence", "00540220", "00540222"),
            ", ",
            tag("ViewModifierCodeSequence", "00540222"),
            ", ",
            tag("ViewPosition", "00185101"),
        ),
        Kind.TABLE,
        _view_modifiers,
        of_header,
        several=True,
        values=tuple(Value(name, name, codes) for name, codes in MODIFIERS.items()),
    ),
    Facet(
        "laterality",
        "the breast: left, right or both",
        Level.IMAGE,
        (
            tag("ImageLaterality", "00200062"),
            ", else ",
            tag(f"SharedFunctionalGroupsSequence.{_FRAME_LATERALITY}", "52009229", "00209071", "00209072"),
            ", else ",
            tag(f"PerFrameFunctionalGroupsSequence.{_FRAME_LATERALITY}", "52009230", "00209071", "00209072"),
            ", else ",
            tag("Laterality", "00200060"),
            ", else ",
            tag("ViewPosition", "00185101"),
        ),
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
        "whether the image is for presentation to a reader or for processing",
        Level.IMAGE,
        (tag("PresentationIntentType", "00080068"),),
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
        "the kind of DICOM object",
        Level.IMAGE,
        (tag("SOPClassUID", "00080016"),),
        Kind.TABLE,
        one(lambda subject: _uid(subject.image.header.SOPClassUID, uids.SOP_CLASSES)),
        of_header,
        values=SOP_CLASSES,
    ),
    Facet(
        "modality",
        "the type of the device",
        Level.IMAGE,
        (tag("Modality", "00080060"),),
        Kind.TEXT,
        one(lambda subject: subject.image.header.Modality),
        of_header,
        label=code_label,
    ),
    Facet(
        "tomosynthesis",
        "whether the image is a tomosynthesis, one of its projections, or a 2D image made from it",
        Level.IMAGE,
        (
            tag("SOPClassUID", "00080016"),
            "; ",
            tag("NumberOfFrames", "00280008"),
            " above 1; ",
            tag("ImageType", "00080008"),
        ),
        Kind.TABLE,
        one(lambda subject: yes_no(is_tomosynthesis(subject.image.header))),
        _of_type,
        values=YES_NO,
    ),
    Facet(
        "image-type",
        "how the image was made",
        Level.IMAGE,
        (tag("ImageType", "00080008"), ", all values"),
        Kind.TABLE,
        one(lambda subject: image_type(subject.image.header.ImageType)),
        _of_type,
        values=tuple(
            Value(name, name, tuple(sorted(texts)), meaning) for name, (meaning, texts) in IMAGE_TYPES.items()
        ),
    ),
    Facet(
        "manufacturer",
        "the manufacturer of the unit",
        Level.IMAGE,
        (tag("Manufacturer", "00080070"),),
        Kind.TEXT,
        one(lambda subject: subject.image.header.Manufacturer),
        of_header,
        label=vendor,
    ),
    Facet(
        "model",
        "the model of the unit",
        Level.IMAGE,
        (tag("ManufacturerModelName", "00081090"),),
        Kind.TEXT,
        one(lambda subject: subject.image.header.ManufacturerModelName),
        of_header,
    ),
    Facet(
        "age",
        "the client's age at the examination in years, in bands of five",
        Level.IMAGE,
        (tag("PatientAge", "00101010"),),
        Kind.NUMBER,
        one(_age),
        _of_age,
        highest=130,
        band=5,
    ),
    Facet(
        "thickness",
        "the compressed breast thickness in mm, in bands of ten",
        Level.IMAGE,
        (
            tag("BodyPartThickness", "001811A0"),
            ", else ",
            tag("XRay3DAcquisitionSequence.BodyPartThickness", "00189507", "001811A0"),
        ),
        Kind.NUMBER,
        one(_thickness),
        _of_thickness,
        highest=399,
        band=10,
    ),
    Facet(
        "magnification",
        "the magnification factor, to one tenth",
        Level.IMAGE,
        (
            tag(_MAGNIFICATION, "00181114"),
            ", else ",
            tag(f"XRay3DAcquisitionSequence.{_MAGNIFICATION}", "00189507", "00181114"),
        ),
        Kind.TEXT,
        one(_magnification),
        _of_magnification,
    ),
    Facet(
        "implant",
        "whether the breast has an implant",
        Level.IMAGE,
        (tag("BreastImplantPresent", "00281300"),),
        Kind.TABLE,
        one(lambda subject: among(subject.image.header.BreastImplantPresent, YES_NO_TEXTS)),
        of_header,
        values=YES_NO,
    ),
    Facet(
        "partial-view",
        "whether the image shows only a part of the breast",
        Level.IMAGE,
        (tag("PartialView", "00281350"),),
        Kind.TABLE,
        one(lambda subject: among(subject.image.header.PartialView, YES_NO_TEXTS)),
        of_header,
        values=YES_NO,
    ),
    Facet(
        "chest-wall",
        "whether the chest wall is in the pixels where the header says",
        Level.IMAGE,
        ("pixels, by `omidbfs geometry`; PatientOrientation, else the side of the breast",),
        Kind.TABLE,
        one(lambda _: "unmeasured"),
        lambda _: None,
        values=(
            Value("agrees", "agrees", (), "it is at the side that the header says"),
            Value("contradicts", "contradicts", (), "it is at the other side"),
            Value("unmeasured", "unmeasured", (), "`omidbfs geometry` has not seen the image as it is now"),
        ),
    ),
    Facet(
        "matrix-size",
        "rows x columns",
        Level.IMAGE,
        (tag("Rows", "00280010"), ", ", tag("Columns", "00280011")),
        Kind.TEXT,
        one(_matrix_size),
        of_header,
    ),
    Facet(
        "photometric-interpretation",
        "whether high values are dark or bright",
        Level.IMAGE,
        (tag("PhotometricInterpretation", "00280004"),),
        Kind.TEXT,
        one(lambda subject: subject.image.header.PhotometricInterpretation),
        of_header,
        label=code_label,
    ),
    Facet(
        "transfer-syntax",
        "how the file is encoded",
        Level.IMAGE,
        (tag("TransferSyntaxUID", "00020010"),),
        Kind.TABLE,
        one(lambda subject: _uid(subject.image.header.TransferSyntaxUID, uids.TRANSFER_SYNTAXES)),
        of_header,
        values=TRANSFER_SYNTAXES,
    ),
    Facet(
        "files",
        "which files of the image exist",
        Level.IMAGE,
        ("directory",),
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
