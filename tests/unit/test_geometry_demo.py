"""What is found in the images of the demo is what was drawn, in every quirk."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from breasts import overlap
from numpy.typing import NDArray
from pydicom import dcmread

from omidbfs.cohorts.cohort import Cohorts
from omidbfs.database.dicom import header_in
from omidbfs.database.file_kinds import DCM
from omidbfs.database.layout import Source, find_source
from omidbfs.database.terms import view_of
from omidbfs.demo.frames import COLUMNS, ROWS, phantom
from omidbfs.demo.imaging import PRESENTATION, Image
from omidbfs.demo.odd_headers import contradictions
from omidbfs.demo.pixel_variants import PIXEL_VARIANTS, chest_walls, odd_marks
from omidbfs.demo.plates import Plates
from omidbfs.demo.quirks import QUIRKS
from omidbfs.demo.subject import STORY, Subject
from omidbfs.demo.tree import SMALL, Writer
from omidbfs.demo.variants import VARIANTS
from omidbfs.facets import BY_NAME
from omidbfs.index.build import refreshed
from omidbfs.index.executors import Work
from omidbfs.index.fingerprint import fingerprint
from omidbfs.index.measured import Geometries, Measured
from omidbfs.index.measured_facets import with_measured
from omidbfs.pixels.compressed import is_encapsulated
from omidbfs.pixels.decode import read
from omidbfs.pixels.errors import PixelError
from omidbfs.pixels.geometry import Breast, measured
from omidbfs.pixels.survey import Survey

SEED = 7
_plates = cache(Plates)


def box_of(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def outline(subject: Subject, image: Image) -> NDArray[np.bool_]:
    return _plates(SMALL.rows, SMALL.columns, SEED).outline(image, subject.client.history.size)


def images(subject: Subject) -> Iterator[tuple[Path, Image, NDArray[np.bool_]]]:
    for study in subject.client.studies:
        for image in study.images:
            yield subject.dcm(study, image), image, outline(subject, image)


def check(place: Path, image: Image, drawn: NDArray[np.bool_], *, mirrored: bool) -> float | None:
    """Compare what is found with what was drawn. Return the overlap, ``None`` if there is nothing to compare."""
    try:
        descriptor = os.open(place, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        source = read(descriptor)
        found = measured(source)
        if (source.format.NumberOfFrames or 1) > 1 or source.format.SamplesPerPixel == 3:
            assert found == Breast()
            return None
        if view_of(header_in(source.header)) == "SPECIMEN":
            assert found == Breast()
            return None
        stored = source.stored()
    except (PixelError, OSError):
        return None
    finally:
        os.close(descriptor)
    side = "left" if image.side == "L" else "right"
    if is_encapsulated(source.format.TransferSyntaxUID or "") and stored.shape == (ROWS, COLUMNS):
        is_phantom = np.corrcoef(stored.ravel(), phantom().ravel())[0, 1] > 0.99
        drawn, side = (phantom() > 0, "left") if is_phantom else (drawn, side)
    if mirrored:
        drawn, side = drawn[:, ::-1], {"left": "right", "right": "left"}[side]
    assert found.side == side, place
    assert found.box is not None, place
    return overlap(found.box, box_of(drawn))


@dataclass(frozen=True)
class Planted:
    """The demo with one client for each quirk and variant."""

    source: Source
    subjects: list[tuple[str, Subject]]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    directory = tmp_path_factory.mktemp("demo")
    for tree in ("images", "data"):
        (directory / tree).mkdir()
    writer = Writer(directory, SMALL, SEED)
    made: list[tuple[str, Subject]] = []

    def plant(name: str) -> Subject:
        number = len(made)
        made.append((name, Subject(writer.write(10**6 + number, f"demd{9000001 + number}", STORY))))
        return made[-1][1]

    for vary in (*VARIANTS, *QUIRKS, *PIXEL_VARIANTS):
        list(vary(lambda name=vary.__name__: plant(name)) or ())
    return Planted(find_source(directory, None, None), made)


def test_the_breast_of_every_demo_image_is_found(planted: Planted) -> None:
    overlaps: dict[str, float] = {}
    for name, subject in planted.subjects:
        mirrored = {image.uid for image in subject.first.images} if name == chest_walls.__name__ else set()
        for place, image, drawn in images(subject):
            if name == contradictions.__name__ and dcmread(place).get("PresentationLUTShape") == "INVERSE":
                continue  # its header has the whole image displayed inverted
            is_mirrored = image.uid in mirrored and image.intent == PRESENTATION
            found = check(place, image, drawn, mirrored=is_mirrored)
            if found is not None:
                overlaps[f"{name} {place.name}"] = found
    assert {name: found for name, found in overlaps.items() if found < 0.98} == {}
    assert len(overlaps) > 500


def test_planted_boxes_are_found_and_nothing_else_is(planted: Planted, tmp_path: Path) -> None:
    index = refreshed(planted.source, None, Work())
    marked = np.unique(index.marks.row)
    odd = next(subject for name, subject in planted.subjects if name == odd_marks.__name__)
    client = index.client_table.find(odd.client.name.encode())[0]
    of_client = np.arange(index.client_rows[client], index.client_rows[client + 1])
    rows = np.union1d(marked, of_client)
    # The quirk with odd numbers has its boxes wherever the numbers lead.
    numbers = next(subject.client.name.encode() for name, subject in planted.subjects if name == "numbers")
    rows = rows[index.client_of[rows] != index.client_table.find(numbers)[0]]
    rows = rows[index.files[DCM].access[rows] != 0]
    survey = Survey(tmp_path / "geometry", fingerprint(planted.source), Measured())
    survey.run(planted.source, index, rows, Work())
    shown = with_measured(index, Geometries(index, lambda: survey.known))
    found: dict[str, list[str]] = {}
    for row in rows.tolist():
        for code in shown.codes_of("box", row):
            found.setdefault(Cohorts(shown).label(BY_NAME["box"], code), []).append(shown.images[row].decode())
    by_view = {(image.side, image.view): image.uid for image in odd.first.images if image.intent == PRESENTATION}
    assert found.pop("off-breast") == [by_view["L", "MLO"]]
    assert found.pop("transposed") == [by_view["L", "CC"]]
    # One image of the quirk with odd boxes has one of each kind.
    assert len(found.pop("degenerate")) == len(found.pop("outside")) == len(found.pop("partly-outside")) == 1
    assert found.keys() <= {"inside", "none", "unknown"}
    assert len(found["inside"]) > 50
    walls = {Cohorts(shown).label(BY_NAME["chest-wall"], shown.codes_of("chest-wall", row)[0]) for row in rows}
    assert "contradicts" not in walls
