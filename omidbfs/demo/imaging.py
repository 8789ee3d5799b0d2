"""Makes the studies, images and marks of episodes, and ``imagedb_<client>.json``. ``tree`` uses it."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from random import Random
from typing import Any

from omidbfs.demo.anatomy import Box, box_of, shape_of
from omidbfs.demo.equipment import Machine
from omidbfs.demo.history import Episode, History, Lesion

Json = dict[str, Any]

PRESENTATION, PROCESSING = "FOR PRESENTATION", "FOR PROCESSING"
ROOT = "1.2.826.0.1.3680043.9.3218.1.1"


@dataclass(frozen=True, slots=True)
class Mark:
    """The bounding box of a lesion, in pixels from the top left, and the judgement of a reader."""

    id: int
    box: Box
    json: Json


@dataclass(frozen=True, slots=True)
class Image:
    """One image; ``source`` is the UID of the image FOR PROCESSING behind it, which need not exist."""

    uid: str
    series: str
    side: str
    view: str
    modifiers: tuple[str, ...]
    intent: str
    number: int
    source: str
    lesions: tuple[Lesion, ...]
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class Study:
    """One study of an episode; ``purpose`` is screening, assessment, symptomatic or biopsy."""

    uid: str
    day: date
    minute: int
    episode: Episode
    purpose: str
    machine: Machine
    images: tuple[Image, ...]


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows and columns of every image."""

    rows: int
    columns: int


def uids(client: int, random: Random) -> Iterator[str]:
    """Yield UIDs in the style of OMI-DB, with at most 64 characters; each client number has UIDs of its own."""
    stem = f"{random.randint(10**7, 10**8 - 1)}.{random.randint(1000, 9999)}.{1480000000000 + client * 7919}"
    for number in range(random.randint(1, 300), 10**6):
        yield f"{ROOT}.{stem}.{number}.0"


def _mark(lesion: Lesion, linked: str | None, box: Box, faint: bool, random: Random) -> Mark:
    number = random.randint(1, 10**6)
    record: Json = {
        "MarkID": number,
        "X1": str(box.x1),
        "Y1": str(box.y1),
        "X2": str(box.x2),
        "Y2": str(box.y2),
        "Width": str(box.x2 - box.x1),
        "Height": str(box.y2 - box.y1),
        "LinkedNBSSLesionNumber": linked,
        "Conspicuity": random.choice(("Subtle", "Very_subtle") if faint else ("Obvious", "Obvious", "Subtle")),
    }
    if lesion.appearance == "mass":
        record |= {"Mass": 1, "MassClassification": random.choice(("spiculated", "ill_defined"))}
        if random.random() < 0.2:
            record["WithCalcification"] = "WithCalcification"
    elif lesion.appearance == "calcification":
        record["SuspiciousCalcifications"] = "SuspiciousCalcifications"
    else:
        record["ArchitecturalDistortion"] = 1
    return Mark(number, box, record)


def _benign(mark: Mark, random: Random) -> Mark:
    record = {key: value for key, value in mark.json.items() if key != "SuspiciousCalcifications"}
    if "Mass" in record:
        record["MassClassification"] = "well_defined"
    else:
        record |= {"OtherBenignCluster": 1, "BenignClassification": "round_and_punctate"}
    record["Conspicuity"] = random.choice(("Obvious", "Subtle", "not_recalled"))
    return Mark(mark.id, mark.box, record)


@dataclass(slots=True)
class Camera:
    """Makes the studies of one client."""

    history: History
    matrix: Matrix
    uid: Iterator[str]
    random: Random

    def study(self, episode: Episode, day: date, purpose: str, machine: Machine, later: Episode | None) -> Study:
        """Return the study of ``episode`` on ``day``; ``later`` is the next episode, whose cancer it may show."""
        uid = next(self.uid)
        affected = sorted({lesion.side for lesion in episode.lesions})
        exposures = list(_protocol(purpose, affected, episode, self.history.implant, self.random))
        twins = purpose in ("screening", "symptomatic") and self.random.random() < 0.18
        series: dict[tuple[str, str], str] = {}
        images: list[Image] = []
        for side, view, modifiers in exposures:
            source = next(self.uid)
            lesions, marks = self._findings(episode, later, side, view, modifiers)
            for intent in (PROCESSING, PRESENTATION) if twins else (PRESENTATION,):
                key = (intent, side if machine.series_per_side else "")
                if key not in series:
                    series[key] = next(self.uid)
                images.append(
                    Image(
                        uid=source if intent == PROCESSING else next(self.uid),
                        series=series[key],
                        side=side,
                        view=view,
                        modifiers=modifiers,
                        intent=intent,
                        number=len(images) + 1,
                        source=source,
                        lesions=lesions,
                        marks=marks if intent == PRESENTATION else (),
                    )
                )
        return Study(uid, day, self.random.randint(8 * 60, 17 * 60), episode, purpose, machine, tuple(images))

    def _findings(
        self, episode: Episode, later: Episode | None, side: str, view: str, modifiers: tuple[str, ...]
    ) -> tuple[tuple[Lesion, ...], tuple[Mark, ...]]:
        """Return the lesions that an image shows, and the marks on it."""
        own = tuple(lesion for lesion in episode.lesions if lesion.side == side)
        coming = later.lesions if later is not None and later.is_cancer and not own else ()
        priors = tuple(lesion for lesion in coming if lesion.side == side)
        if view == "SPECIMEN" or not own + priors:
            return own[:1], ()
        shape = shape_of(view, modifiers, self.history.size)
        chance = 0.92 if episode.is_cancer else 0.45 if own else 0.3
        marks: list[Mark] = []
        for lesion in own + priors:
            if self.random.random() < chance:
                linked = lesion.number if own else "UNLINKED"
                box = box_of(shape, lesion, self.matrix.rows, self.matrix.columns)
                mark = _mark(lesion, linked, box, not own, self.random)
                marks.append(mark if episode.is_cancer or priors else _benign(mark, self.random))
        unique = {mark.id: mark for mark in marks}
        return own + priors, tuple(unique.values())


def _protocol(
    purpose: str, affected: list[str], episode: Episode, implant: bool, random: Random
) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield side, view and modifiers of each exposure."""
    if purpose in ("screening", "symptomatic"):
        for displaced in ((), ("implant-displaced",)) if implant else ((),):
            for view in ("CC", "MLO"):
                yield from ((side, view, displaced) for side in "RL")
    if purpose == "symptomatic":
        yield from ((side, "ML", ()) for side in affected)
    elif purpose == "assessment":
        for side in affected:
            yield side, "ML", ()
            fine = any(x.appearance == "calcification" for x in episode.lesions if x.side == side)
            modifier = ("magnification",) if fine else ("spot-compression",)
            yield side, "CC", modifier
            if random.random() < 0.6:
                yield side, "MLO", (*modifier, "spot-compression") if fine else modifier
            if random.random() < 0.25:
                yield side, "XCCL", ()
    elif purpose == "biopsy":
        yield from ((side, "SPECIMEN", ("magnification",)) for side in affected)


_PURPOSES = {
    "SCREENING": ("screening", 1.0),
    "OTHERSCREENING": ("screening", 1.0),
    "ASSESSMENT": ("assessment", 0.95),
    "CLINICAL": ("symptomatic", 0.9),
    "BIOPSYWIDE": ("biopsy", 0.3),
    "SURGERY": ("biopsy", 0.15),
}


def studies_of(camera: Camera, machines: dict[str, Machine]) -> list[Study]:
    """Return the studies of a client in order of time; ``machines`` are given by episode."""
    studies: list[Study] = []
    episodes = camera.history.episodes
    for episode, later in zip(episodes, (*episodes[1:], None), strict=True):
        machine = machines[episode.id]
        for event, day in (episode.dates or {"SCREENING": episode.start}).items():
            purpose, chance = _PURPOSES.get(event, ("", 0.0))
            if camera.random.random() < chance and (purpose != "biopsy" or episode.lesions):
                studies.append(camera.study(episode, day, purpose, machine, later))
    return studies


def imagedb_of(history: History, studies: list[Study]) -> Json:
    """Return ``imagedb_<client>.json``."""
    records: Json = {}
    for study in studies:
        record: Json = {"StudyDate": study.day.isoformat(), "EpisodeID": study.episode.id}
        for image in study.images:
            marks = {str(mark.id): mark.json for mark in image.marks}
            record.setdefault(image.series, {})[image.uid] = marks or None
        records[study.uid] = record
    return {"ClientID": history.client, "Site": history.site, "STUDIES": records}
