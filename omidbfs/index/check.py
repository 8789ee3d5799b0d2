"""The deep check: what only shows when every DICOM header is read."""

import math
from collections.abc import Callable, Collection, Iterator
from operator import attrgetter

from omidbfs.base.names import printable
from omidbfs.database.client import ClientReader
from omidbfs.database.file_kinds import DCM, JSON
from omidbfs.database.header import NUMBERS, TAGS, Header, JsonError, decode_sidecar
from omidbfs.database.layout import Source
from omidbfs.database.problems import Problem, Reporter
from omidbfs.database.study import other_image
from omidbfs.database.terms import age_in_years, image_type, intent, laterality, view_modifiers, view_of
from omidbfs.database.values import shown
from omidbfs.index.columns import Index

_MOST = 4
"""Facts that are named in one line."""

_READ_BY_MEANING = frozenset(
    (
        "SOPInstanceUID",
        "SeriesInstanceUID",
        "PatientAge",
        "PresentationIntentType",
        "ViewPosition",
        "Laterality",
        "ImageLaterality",
    )
)
_FACTS: dict[str, Callable[[Header], object]] = {
    "view": view_of,
    "view-modifier": view_modifiers,
    "laterality": laterality,
    "intent": intent,
    "image-type": lambda header: image_type(header.ImageType),
    "age": lambda header: age_in_years(header.PatientAge) if header.PatientAge is not None else None,
    **{keyword: attrgetter(keyword) for keyword in (*TAGS, *NUMBERS) if keyword not in _READ_BY_MEANING},
}
"""What is compared: what a header means, however it is written, and its other attributes as they are."""


def header_problems(source: Source, index: Index, known: Collection[Problem]) -> Iterator[Problem]:
    """Yield the problems of DICOM headers that are not among the ``known``.

    A header that cannot be read, that is of another image, or that contradicts the JSON of its image.
    """
    reported = {problem.file for problem in known if problem.kind in ("bad-dicom", "unreadable")}
    with ClientReader(source) as reader:
        for row in range(len(index)):
            if not index.has_file(row, DCM):
                continue
            client = index.clients[int(index.client_of[row])].decode()
            study, image = index.on_disk(row)
            place = printable(f"{source.images_label}/{client}/{study}/{image}.dcm")
            if place in reported:
                continue
            found: list[Problem] = []
            header = reader.dicom(client, study, image, Reporter(place, found, client, study, image))
            found = [problem for problem in found if problem.kind in ("bad-dicom", "unreadable")]
            if index.has_file(row, JSON):
                report = Reporter(place, found, client, study, image)
                if (detail := other_image(image, header)) is not None:
                    report("image-mismatch", detail)
                content = reader.content(client, study, f"{image}{index.sidecar_suffix(row)}")
                if (detail := _contradiction(content, header)) is not None:
                    report("header-mismatch", detail)
            yield from found


def _contradiction(sidecar: bytes, dicom: Header) -> str | None:
    """Return in what the JSON of an image and its DICOM header differ, where both state something."""
    try:
        json = decode_sidecar(sidecar, lambda kind, detail: None)
    except JsonError:
        return None
    differing = [
        f"{name} is {_said(one)} in the JSON and {_said(other)} in the DICOM file"
        for name, read in _FACTS.items()
        if (one := read(json)) and (other := read(dicom)) and not _is_same(one, other)
    ]
    more = len(differing) - _MOST
    return "; ".join(differing[:_MOST]) + (f"; and {more} more" if more > 0 else "") if differing else None


def _is_same(one: object, other: object) -> bool:
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        return math.isclose(one, other, rel_tol=1e-3)  # JSON may round what is a decimal string in DICOM
    return _said(one).casefold() == _said(other).casefold()


def _said(value: object) -> str:
    if isinstance(value, tuple):
        return shown(", ".join(sorted(value)))
    return shown(value) if isinstance(value, str) else f"{value:g}"
