"""A written client that a quirk or a variant changes: the paths of its files, and functions to edit them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
from pydicom import Dataset, dcmread

from omidbfs.database.problems import KINDS, Problem
from omidbfs.demo.imaging import Image, Study
from omidbfs.demo.tree import Written

STORY = (("normal", 36), ("cancer", 36))
"""The history of every subject: two screening studies, then assessment, biopsy and surgery."""


class Subject:
    """A client with the history :data:`STORY`. ``first`` and ``second`` are its screening studies."""

    def __init__(self, client: Written) -> None:
        self.client = client
        self.first, self.second = [study for study in client.studies if study.purpose == "screening"]

    @property
    def data(self) -> Path:
        """Return the directory of the client in data/."""
        return self.client.root / "data" / self.client.name

    @property
    def images(self) -> Path:
        """Return the directory of the client in images/."""
        return self.client.root / "images" / self.client.name

    @property
    def nbss(self) -> Path:
        """Return the NBSS file."""
        return self.data / f"nbss_{self.client.name}.json"

    @property
    def imagedb(self) -> Path:
        """Return the ImageDB file."""
        return self.data / f"imagedb_{self.client.name}.json"

    def dcm(self, study: Study, image: Image | str) -> Path:
        """Return the DICOM file of an image, or of any UID."""
        return self.images / study.uid / f"{image if isinstance(image, str) else image.uid}.dcm"

    def sidecar(self, study: Study, image: Image | str) -> Path:
        """Return the sidecar of an image, or of any UID."""
        return self.data / study.uid / f"{image if isinstance(image, str) else image.uid}.json"

    def problem(self, place: Path, kind: str, detail: str) -> Problem:
        """Return the problem of ``kind`` at ``place``."""
        assert kind in KINDS, kind
        return Problem(place.relative_to(self.client.root).as_posix(), kind, detail)


Make = Callable[[], Subject]
"""A function that writes another client and returns it."""


@contextmanager
def edited(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the JSON object in ``path``, and write it back with the changes of the block."""
    document = orjson.loads(path.read_bytes())
    yield document
    path.write_bytes(orjson.dumps(document))


@contextmanager
def dataset(path: Path) -> Iterator[Dataset]:
    """Yield the DICOM file in ``path``, and write it back with the changes of the block."""
    found = dcmread(path)
    yield found
    found.save_as(path)


def described(found: Dataset) -> dict[str, Any]:
    """Return the sidecar of a DICOM file: its header in the DICOM JSON model, with the transfer syntax."""
    syntax = {"00020010": {"vr": "UI", "Value": [found.file_meta.TransferSyntaxUID]}}
    return syntax | {tag: element for tag, element in found.to_json_dict().items() if tag != "7FE00010"}


@contextmanager
def listed(subject: Subject, study: Study) -> Iterator[dict[str, Any]]:
    """Yield the entry of ``study`` in ImageDB, and write it back with the changes of the block."""
    with edited(subject.imagedb) as imagedb:
        yield imagedb["STUDIES"][study.uid]


@contextmanager
def last_episode(subject: Subject) -> Iterator[dict[str, Any]]:
    """Yield the last episode in NBSS, that of the cancer, and write it back with the changes of the block."""
    with edited(subject.nbss) as nbss:
        yield nbss[subject.client.history.episodes[-1].id]
