"""Writes the files of a client; every run writes the same bytes and modification times. ``generate`` uses it."""

import calendar
import os
from dataclasses import dataclass
from pathlib import Path
from random import Random

import orjson

from omidbfs.demo.equipment import Machine, machine_of
from omidbfs.demo.header import Layer, dicom_of, image_layer, sidecar_of, study_layer, unit_layer
from omidbfs.demo.history import History, history_of
from omidbfs.demo.imaging import Camera, Matrix, Study, imagedb_of, studies_of, uids
from omidbfs.demo.nbss import nbss_of
from omidbfs.demo.plates import Plates

SMALL, FULL = Matrix(104, 80), Matrix(3328, 2560)
"""Rows and columns by default (1/32 of a real detector each), and those of a real detector."""


@dataclass(frozen=True, slots=True)
class Written:
    """A client that was written below ``root``."""

    root: Path
    history: History
    studies: tuple[Study, ...]

    @property
    def name(self) -> str:
        """Return the name of the client and of its directories."""
        return self.history.client


class Writer:
    """Writes clients below ``root``."""

    def __init__(self, root: Path, matrix: Matrix, seed: int) -> None:
        self.root, self.matrix, self.seed = root, matrix, seed
        self._plates = Plates(matrix.rows, matrix.columns, seed)
        self._units: dict[Machine, Layer] = {}

    def write(self, number: int, name: str, story: tuple[tuple[str, int], ...]) -> Written:
        """Invent the client ``name`` after ``story``, and write it; ``number`` makes its UIDs unique."""
        random = Random(f"{self.seed}/client/{number}")
        history = history_of(name, story, random)
        machines = {
            episode.id: machine_of(history.site, episode.true_year, random) for episode in history.episodes
        }
        camera = Camera(history, self.matrix, uids(number, random), random)
        studies = studies_of(camera, machines)
        by_episode: dict[str, list[str]] = {episode.id: [] for episode in history.episodes}
        for study in studies:
            by_episode[study.episode.id].append(study.uid)
        data = self.root / "data" / name
        data.mkdir(parents=True)
        (self.root / "images" / name).mkdir(parents=True)
        nbss = nbss_of(history, machines, by_episode, random)
        (data / f"nbss_{name}.json").write_bytes(orjson.dumps(nbss))
        (data / f"imagedb_{name}.json").write_bytes(orjson.dumps(imagedb_of(history, studies)))
        for study in studies:
            self._study(history, study, random)
        client = Written(self.root, history, tuple(studies))
        settle(client)
        return client

    def _study(self, history: History, study: Study, random: Random) -> None:
        images = self.root / "images" / history.client / study.uid
        data = self.root / "data" / history.client / study.uid
        images.mkdir()
        data.mkdir()
        if study.machine not in self._units:
            self._units[study.machine] = unit_layer(study.machine, self.matrix)
        shared = self._units[study.machine] | study_layer(history, study, random)
        keys: dict[str, int] = {}
        for image in study.images:
            header = shared | image_layer(study, image, self.matrix, random)
            key = keys.setdefault(image.source, random.randrange(2**31))
            pixels = self._plates.pixels(image, history.size, history.density, key)
            (images / f"{image.uid}.dcm").write_bytes(dicom_of(image, header, pixels))
            (data / f"{image.uid}.json").write_bytes(sidecar_of(header))


def settle(client: Written) -> None:
    """Set modification times: of each study to the time of the study, of the rest to that of the last study."""
    times = {study.uid: _seconds(study) for study in client.studies}
    last = max(times.values(), default=0)
    for tree in ("images", "data"):
        for folder, directories, files in os.walk(client.root / tree / client.name, topdown=False):
            seconds = times.get(os.path.basename(folder), last)
            for name in (*files, *directories, "."):
                own = times.get(name, seconds)
                os.utime(os.path.join(folder, name), (own, own), follow_symlinks=False)


def _seconds(study: Study) -> int:
    return calendar.timegm(study.day.timetuple()) + study.minute * 60
