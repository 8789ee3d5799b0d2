"""The facet ``latest-of-view``: one image of each view among the images of a study.

The registry of facets includes it. The workers that build an index call its functions, which are pure but for the
cache in :class:`~omidbfs.facets.model.Subject`.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING

from omidbfs.database.records import OTHER
from omidbfs.database.terms import INTENTS, among
from omidbfs.database.views import side, view
from omidbfs.facets.model import YES_NO, Facet, Kind, Level, Subject, one, tag, yes_no

if TYPE_CHECKING:
    from omidbfs.database.header import Header
    from omidbfs.database.study import ImageRecord

_DATE = re.compile(r"([0-9]{4})[-.]?([0-9]{2})[-.]?([0-9]{2})")
_TIME = re.compile(r"([0-9]{2}):?([0-9]{2})?:?([0-9]{2})?(\.[0-9]{1,6})?")
_view_fields = attrgetter(
    "PresentationIntentType", "ImageLaterality", "FrameLaterality", "Laterality", "ViewPosition", "ViewCode"
)


@lru_cache(4096)  # few images say this in a way of their own; to read it for each image takes 5 us
def _view(
    intent: str | None,
    image_side: str | None,
    frame_side: str | None,
    other_side: str | None,
    position: str | None,
    code: str | None,
) -> tuple[str, str, str | None] | None:
    """Return side, view and intent of an image; ``None`` if its side or view is unknown or outside the tables."""
    breast = side(image_side, frame_side, other_side, position)[0]
    seen = view(position, code)[0]
    if breast is None or seen is None or OTHER in (breast, seen):
        return None
    return breast, seen, among(intent, INTENTS)


def _day(text: str | None) -> str:
    """Return a date (DA) or the date of a date and time (DT) as eight digits, empty if it is neither."""
    found = _DATE.match(text) if text is not None else None
    return "".join(found.groups()) if found is not None else ""


def _time(text: str | None) -> str:
    """Return a time (TM) as ``HHMMSS.FFFFFF``, empty if it is none."""
    found = _TIME.match(text) if text is not None else None
    if found is None:
        return ""
    hour, minute, second, fraction = found.groups()
    return f"{hour}{minute or '00'}{second or '00'}{(fraction or '.').ljust(7, '0')}"


def moment(header: "Header") -> tuple[str, str]:
    """Return date and time of an image, as texts that sort by time; a text is empty if it is not stated.

    Each is the first that can be read of AcquisitionDateTime, AcquisitionDate or AcquisitionTime, and ContentDate
    or ContentTime (PS3.3, C.7.6.1). An offset from UTC is ignored, since other attributes have none.
    """
    whole = header.AcquisitionDateTime
    day = _day(whole) or _day(header.AcquisitionDate) or _day(header.ContentDate)
    clock = (whole or "")[8:] or None
    return day, _time(clock) or _time(header.AcquisitionTime) or _time(header.ContentTime)


def _order(image: "ImageRecord") -> tuple[tuple[str, str], float, str]:
    number = image.header.InstanceNumber
    return moment(image.header), float("-inf") if number is None else number, image.name


def _latest_of_study(images: "tuple[ImageRecord, ...]") -> Mapping[str, bool]:
    """Return for each image with a side and a view whether it is the latest one of them and of its intent."""
    groups: dict[tuple[str, str, str | None], list[ImageRecord]] = {}
    for image in images:
        place = _view(*_view_fields(image.header))
        if place is not None:
            groups.setdefault(place, []).append(image)
    found: dict[str, bool] = {}
    for group in groups.values():
        last = group[0] if len(group) == 1 else max(group, key=_order)
        found |= {image.name: image is last for image in group}
    return found


def _is_latest(subject: Subject) -> str | None:
    study, latest = subject.latest
    if study is not subject.study:
        latest = _latest_of_study(subject.study.images)
        subject.latest = subject.study, latest
    return yes_no(latest.get(subject.image.name))


LATEST_FACETS: tuple[Facet, ...] = (
    Facet(
        "latest-of-view",
        "whether the image is the latest of its study with its side, view and intent",
        Level.IMAGE,
        (
            tag("AcquisitionDateTime", "0008002A"),
            ", else ",
            tag("AcquisitionDate", "00080022"),
            " and ",
            tag("AcquisitionTime", "00080032"),
            ", else ",
            tag("ContentDate", "00080023"),
            " and ",
            tag("ContentTime", "00080033"),
            "; then ",
            tag("InstanceNumber", "00200013"),
            "; then the name of the image",
        ),
        Kind.TABLE,
        one(_is_latest),
        _is_latest,
        values=YES_NO,
    ),
)
