"""The deep check: it reads every DICOM header and finds the problems that only this shows.

``omidbfs check`` uses it. The function is a plain generator, for a thread that may wait for a disk.
"""

import math
from collections.abc import Callable, Collection, Iterator
from operator import attrgetter

from omidbfs.base.names import printable
from omidbfs.database.client import ClientReader
from omidbfs.database.file_kinds import DCM, JSON
from omidbfs.database.header import NUMBERS, TAGS, Header, JsonError
from omidbfs.database.layout import Source
from omidbfs.database.problems import Problem, Reporter
from omidbfs.database.sidecar import decode_sidecar
from omidbfs.database.study import other_image
from omidbfs.database.terms import age_in_years, image_type, intent, laterality, view_modifiers, view_of
from omidbfs.database.values import shown
from omidbfs.index.columns import Index

_MOST = 4
"""Most differences that one problem names."""

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
"""What is compared: the meaning of some attributes, and all other attributes as they are."""


def header_problems(source: Source, index: Index, known: Collection[Problem]) -> Iterator[Problem]:
    """Yield the problems of DICOM headers that are not among the ``known``.

    A problem is a header that cannot be read, that belongs to another image, or that contradicts the JSON.
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
    """Return a text with the differences between the JSON and the DICOM header, ``None`` if there is none.

    Only attributes that both have are compared.
    """
    try:
        json = decode_sidecar(sidecar, lambda kind, detail: None)
    except JsonError:
        return None
    differing = [
        f"{name} is {_text(one)} in the JSON and {_text(other)} in the DICOM file"
        for name, read in _FACTS.items()
        if (one := read(json)) and (other := read(dicom)) and not _is_same(one, other)
    ]
    more = len(differing) - _MOST
    return "; ".join(differing[:_MOST]) + (f"; and {more} more" if more > 0 else "") if differing else None


def _is_same(one: object, other: object) -> bool:
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        return math.isclose(one, other, rel_tol=1e-3)  # JSON may round a decimal string of DICOM
    return _text(one).casefold() == _text(other).casefold()


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return shown(", ".join(sorted(value)))
    return shown(value) if isinstance(value, str) else f"{value:g}"
