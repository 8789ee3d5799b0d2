"""Errors in the headers of real databases; :mod:`~omidbfs.demo.quirks` has all others."""

import shutil
from collections.abc import Iterator

from omidbfs.database.problems import Problem
from omidbfs.demo.imaging import PRESENTATION
from omidbfs.demo.subject import Make, dataset, edited

_CONTRADICTED = "deep: the DICOM file says something else"


def odd_values(make: Make) -> Iterator[Problem]:
    """Write an invalid side, an invalid view, a thickness with a comma and a range of ages."""
    c = make()
    side, view, thickness, age = c.first.images[:4]
    for image, tag, text, kind in (
        (side, "00200062", "X", "unknown-code"),
        (view, "00185101", "FLATFIELD", "unknown-code"),
        (thickness, "001811A0", "55,5", "odd-value"),
        (age, "00101010", "050-054", "odd-value"),
    ):
        place = c.sidecar(c.first, image)
        with edited(place) as header:
            header[tag]["Value"] = [text]
            header.pop("00200060", None)
            if image is view:
                del header["00540220"]
        yield c.problem(place, kind, f"{tag} {text!r}")
    for image in (side, view):
        yield c.problem(c.dcm(c.first, image), "header-mismatch", _CONTRADICTED)


def contradictions(make: Make) -> Iterator[Problem]:
    """Name the other side in ViewPosition of one image, and say of another that the largest value is black."""
    c = make()
    image = c.first.images[0]
    place = c.sidecar(c.first, image)
    with edited(place) as header:
        header["00185101"]["Value"] = [{"L": "R", "R": "L"}[image.side] + image.view]
    yield c.problem(place, "side-conflict", "ImageLaterality and ViewPosition")
    image = next(image for image in c.first.images[1:] if image.intent == PRESENTATION)
    place = c.sidecar(c.first, image)
    with dataset(c.dcm(c.first, image)) as found:
        found.PresentationLUTShape = "INVERSE"
    with edited(place) as header:
        header["20500020"]["Value"] = ["INVERSE"]
    yield c.problem(place, "shape-conflict", "INVERSE and MONOCHROME2")


def sidecar_of_another_image(make: Make) -> Iterator[Problem]:
    """Copy the JSON of one image over that of an image of the other side."""
    c = make()
    image = c.first.images[0]
    other = next(one for one in c.first.images if one.side != image.side)
    shutil.copy(c.sidecar(c.first, other), c.sidecar(c.first, image))
    yield c.problem(c.sidecar(c.first, image), "image-mismatch", f"SOPInstanceUID {other.uid}")
    yield c.problem(c.dcm(c.first, image), "header-mismatch", _CONTRADICTED)


def header_cut_off(make: Make) -> Iterator[Problem]:
    """Cut off a DICOM file in Manufacturer, and delete its sidecar."""
    c = make()
    image = c.first.images[0]
    place = c.dcm(c.first, image)
    content = place.read_bytes()
    place.write_bytes(content[: content.index(b"\x08\0\x70\0LO") + 10])
    yield c.problem(place, "bad-dicom", "cut off")
    c.sidecar(c.first, image).unlink()
    yield c.problem(c.sidecar(c.first, image), "sidecar-missing", "")


HEADER_QUIRKS = (odd_values, contradictions, sidecar_of_another_image, header_cut_off)
