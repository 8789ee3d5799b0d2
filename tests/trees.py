"""Small odd databases in a line: ``Tree(path).client("demd1").study("1.2").image("1.2.1", ViewPosition="CC")``.

Every call writes what it says at once and returns the thing to go on from: ``client`` a client, ``study`` a study,
``image`` the same study again. From a study ``.study()`` and ``.client()`` go on beside it. DICOM files hold bytes
that name their place: no image that has a sidecar is ever parsed.
"""

import json
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from omidbfs.base.progress import Progress
from omidbfs.database.layout import Source
from omidbfs.database.problems import Problem
from omidbfs.index.build import refreshed
from omidbfs.index.classification import Classification, classified
from omidbfs.index.columns import Index
from omidbfs.index.executors import Work

TAGS = {
    "Manufacturer": "00080070",
    "ManufacturerModelName": "00081090",
    "PatientAge": "00101010",
    "PresentationIntentType": "00080068",
    "ViewPosition": "00185101",
    "Laterality": "00200060",
    "ImageLaterality": "00200062",
    "BreastImplantPresent": "00281300",
    "NumberOfFrames": "00280008",
    "SamplesPerPixel": "00280002",
    "PhotometricInterpretation": "00280004",
    "Rows": "00280010",
    "Columns": "00280011",
    "BitsAllocated": "00280100",
    "BitsStored": "00280101",
    "PixelRepresentation": "00280103",
}
PIXELS = {"Rows": 104, "Columns": 80, "SamplesPerPixel": 1, "BitsAllocated": 16, "BitsStored": 12}
"""The attributes of an image that has every rendition."""
MARK = {"1": {"MarkID": 1, "X1": "10", "Y1": "10", "X2": "20", "Y2": "20"}}
DAY = "2012-05-01"
Json = dict[str, object]


@dataclass(frozen=True)
class Quirky:
    """A database with every oddity, and the problems planted in it."""

    path: Path
    problems: list[Problem]


def sidecar(*, ViewCode: str | None = None, ViewModifiers: tuple[str, ...] = (), **keywords: str | int) -> Json:
    """Return a sidecar in the DICOM JSON model."""
    document: Json = {TAGS[keyword]: {"vr": "CS", "Value": [value]} for keyword, value in keywords.items()}
    if ViewCode is not None or ViewModifiers:
        modifiers = [{"00080100": {"vr": "SH", "Value": [code]}} for code in ViewModifiers]
        view: Json = {"00080100": {"vr": "SH", "Value": [ViewCode or "R-10242"]}}
        document["00540220"] = {"vr": "SQ", "Value": [view | {"00540222": {"vr": "SQ", "Value": modifiers}}]}
    return document


def episode(kind: str = "N", day: str = DAY, **fields: object) -> Json:
    """Return an NBSS episode of the outcome ``kind``: N, NA, B, M, CI or "" for one without any event."""
    screening = {"left_opinion": "ON", "right_opinion": "ON", "L": {"DateTaken": day}, "R": {"DateTaken": day}}
    document: Json = {"EpisodeType": "CI" if kind == "CI" else "R", "EpisodeOpenedDate": day}
    document["ActualEpisodeOpenedYear"] = day[:4]
    if kind:
        document["SCREENING"] = screening
    if kind in ("NA", "B", "M"):
        document["ASSESSMENT"] = {"left_opinion": f"O{kind[0]}", "right_opinion": "ON", "dateperformed": day}
    if kind in ("B", "M"):
        document["SURGERY"] = {"left_opinion": f"O{kind}", "right_opinion": "ON", "dateperformed": day}
    return document | fields


class Tree:
    """A database at ``root``, with both trees and nothing in them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.images, self.data = root / "images", root / "data"
        for tree in (self.images, self.data):
            tree.mkdir(parents=True, exist_ok=True)

    def client(self, name: str = "demd1", **options: object) -> "Client":
        """Add a client; options as of :class:`Client`."""
        return Client(self, name, **options)  # type: ignore[arg-type]


class Client:
    """A client. ``nbss`` and ``imagedb`` say whether it has these files."""

    def __init__(
        self,
        tree: Tree,
        name: str,
        *,
        site: str | None = "stge",
        classification: str | None = "N",
        nbss: bool = True,
        imagedb: bool = True,
    ) -> None:
        self.tree, self.name = tree, name
        self.images, self.data = tree.images / name, tree.data / name
        self.has = {"nbss": nbss, "imagedb": imagedb}
        self.studies: Json = {}
        self.documents: dict[str, Json] = {
            "nbss": {"ClientID": name, "Classification": classification},
            "imagedb": {"ClientID": name, "Site": site, "STUDIES": self.studies},
        }
        for place in (self.images, self.data):
            place.mkdir()
        self.write()

    def write(self) -> None:
        """Write NBSS and ImageDB."""
        for kind, document in self.documents.items():
            if self.has[kind]:
                (self.data / f"{kind}_{self.name}.json").write_text(json.dumps(document))

    def episode(self, number: str, kind: str = "N", day: str = DAY, **fields: object) -> "Client":
        """Add an episode to NBSS; see :func:`episode`."""
        self.documents["nbss"][number] = episode(kind, day, **fields)
        self.write()
        return self

    def study(self, uid: str = "1.1", episode: str | None = None, day: str | None = DAY) -> "Study":
        """Add a study, of an episode, to ImageDB; it has a directory as soon as it has a file."""
        return Study(self, uid, episode, day)

    def client(self, name: str, **options: object) -> "Client":
        """Add another client to the tree."""
        return self.tree.client(name, **options)


class Study:
    """A study of a client."""

    def __init__(self, client: Client, uid: str, episode: str | None, day: str | None) -> None:
        self.of, self.uid = client, uid
        self.images, self.data = client.images / uid, client.data / uid
        self.series: Json = {}
        client.studies[uid] = {"StudyDate": day, "EpisodeID": episode, "9.9": self.series}
        client.write()

    def image(
        self,
        uid: str = "1.1.1",
        *,
        dcm: bytes | None = b"",
        header: Json | bytes | None = None,
        has_sidecar: bool = True,
        suffix: str = ".json",
        marks: Json | None = None,
        **keywords: object,
    ) -> "Study":
        """Add an image; ``keywords`` are those of :func:`sidecar`, ``header`` a whole one.

        ``dcm`` is the content of the DICOM file, ``None`` for none; by default it names its place.
        """
        self.series[uid] = marks
        self.of.write()
        if dcm is not None:
            self.images.mkdir(exist_ok=True)
            content = dcm or os.fsencode(f"{self.of.name}/{self.uid}/{uid}") * (1 + len(uid) % 7)
            (self.images / f"{uid}.dcm").write_bytes(content)
        if has_sidecar:
            self.data.mkdir(exist_ok=True)
            document = sidecar(**keywords) if header is None else header  # type: ignore[arg-type]
            content = document if isinstance(document, bytes) else json.dumps(document).encode()
            (self.data / f"{uid}{suffix}").write_bytes(content)
        return self

    def study(self, uid: str, episode: str | None = None, day: str | None = DAY) -> "Study":
        """Add another study to the client."""
        return self.of.study(uid, episode, day)

    def client(self, name: str, **options: object) -> Client:
        """Add another client to the tree."""
        return self.of.tree.client(name, **options)


def build_index(
    source: Source,
    classification: Classification,
    only: Collection[str] | None = None,
    progress: Progress | None = None,
) -> Index:
    """Return the index of a source under a classification, read in this process."""
    return classified(refreshed(source, None, Work(progress=progress), only), classification)
