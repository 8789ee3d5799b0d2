"""Random clients as the JSON of an OMI-DB ``data`` tree. ``omidb`` can read most of them.

Client ``index`` of ``seed`` is always the same, so that a difference is reproduced from the two numbers.
"""

import copy
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from omidbfs.clinical.outcomes import Windows
from omidbfs.database import codes, imagedb
from omidbfs.database.values import ANONYMISED

# Days that lie on, just before and just after whole months of 365/12 days, the unit of the windows.
DAYS = (0, 0, 1, 30, 31, 364, 365, 366, 730, 731, 1095, 1096, 1186, 1187, 1460, 1825, 2190)
MONTHS = (None, None, -12, -1, 0, 1, 12, 13, 24, 36, 36, 39, 48, 60, 120, 10**12)
# The last one is a date. As a year omidb takes it, or -1, literally, and we do not.
ODD = (None, "", 0, 5, True, 1.5, [], [1], {}, {"a": []}, "x", ANONYMISED, "2012-13-45", 9999, "20120101")
NOTHING = (None, "", ...)


@dataclass(frozen=True)
class RandomClient:
    """A client as it goes to disk; ``directories`` are its studies in ``data/``."""

    name: str
    nbss: dict[str, object]
    imagedb: dict[str, object]
    directories: tuple[str, ...]
    sidecars: dict[tuple[str, str], object]

    def write(self, data: Path) -> None:
        """Write the client below ``data``."""
        root = data / self.name
        for directory in ("", *self.directories):
            (root / directory).mkdir(parents=True)
        (root / f"nbss_{self.name}.json").write_text(json.dumps(self.nbss))
        (root / f"imagedb_{self.name}.json").write_text(json.dumps(self.imagedb))
        for number, ((study, image), sidecar) in enumerate(self.sidecars.items()):
            suffix = ".dcm.json" if number % 3 == 2 else ".json"
            (root / study / f"{image}{suffix}").write_text(json.dumps(sidecar))


def random_windows(rng: random.Random) -> Windows:
    """Return windows that are off, negative, zero, whole years, odd, or beyond every calendar."""
    return Windows(*(rng.choice(MONTHS) for _ in range(4)))


def random_client(seed: int, index: int) -> RandomClient:
    """Return client number ``index`` of ``seed``."""
    return _Maker(random.Random(f"{seed}:{index}"), f"{'demd' if index % 2 else 'optm'}{index}").client()


class _Maker:
    def __init__(self, rng: random.Random, name: str) -> None:
        self.rng = rng
        self.name = name
        # The share of missing or odd values: clean clients give outcomes, messy ones undefined outcomes.
        self.mess = rng.choice((0.0, 0.02, 0.02, 0.1, 0.3))
        start = date(2010, 1, 1) + timedelta(rng.randrange(1000))
        self.days = [start + timedelta(rng.choice(DAYS)) for _ in range(rng.randint(1, 6))]
        self.uids = 0

    # values

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def messy(self) -> bool:
        return self.chance(self.mess)

    def put(self, data: dict[str, object], key: str, value: object) -> None:
        """Set the key. In a messy client, sometimes omit it or leave it empty."""
        if self.messy():
            value = self.rng.choice(NOTHING)
        if value is not ...:
            data[key] = value

    def day(self) -> str:
        day = self.rng.choice(self.days)
        if self.chance(0.02):
            return f"{day.year}-{day.month}-{day.day}"
        return day.isoformat() if self.chance(0.7) else day.strftime("%Y%m%d")

    def code(self, table: dict[str, str], *preferred: str) -> str:
        if self.messy():
            return self.rng.choice(("ZZ9", "other", "0", ANONYMISED))
        code = self.rng.choice(preferred) if preferred and self.chance(0.8) else self.rng.choice([*table])
        return code if self.chance(0.7) else table[code]

    def uid(self) -> str:
        self.uids += 1
        return f"1.2.840.{self.rng.randrange(10**6)}.{self.uids}"

    # NBSS

    def lesion_details(self) -> dict[str, object]:
        data: dict[str, object] = {}
        values: dict[str, Callable[[], object]] = {
            "DatePerformed": self.day,
            "Opinion": lambda: self.code(codes.OPINIONS),
            "MalignancyType": lambda: self.code(codes.MALIGNANCY_TYPES),
            "InvasiveComponents": lambda: " ".join(self.rng.choices([*codes.INVASIVE_COMPONENTS, "Q", ""], k=2)),
            "InSituComponents": lambda: self.code(codes.INSITU_COMPONENTS),
            "DiseaseGrade": lambda: self.code(codes.DISEASE_GRADES),
            "InvasiveType": lambda: self.code(codes.INVASIVE_TYPES),
            "DcisGrade": lambda: self.code(codes.DCIS_GRADES),
            "HER2ReceptorStatus": lambda: self.code(codes.HER2_STATUSES),
        }
        for key, value in values.items():
            if self.chance(0.25):
                self.put(data, key, value())
        return data

    def opinions(self, data: dict[str, object], *preferred: str) -> None:
        for side in ("left_opinion", "right_opinion"):
            if self.chance(0.85):
                self.put(data, side, self.code(codes.SIDE_OPINIONS, *preferred))

    def procedure(self, numbers: dict[str, list[str]], *preferred: str) -> dict[str, object]:
        data: dict[str, object] = {}
        if self.chance(0.02):
            return data
        self.opinions(data, *preferred)
        if self.chance(0.5):
            self.put(data, "dateperformed", self.day())
        for side in codes.SIDES:
            listed = [number for number in numbers[side] if self.chance(0.7)]
            if listed or self.chance(0.1):
                data[side] = {number: self.lesion_details() for number in listed}
        return data

    def screening(self) -> dict[str, object]:
        data: dict[str, object] = {}
        self.opinions(data, "ON")
        for side in codes.SIDES:
            taken: dict[str, object] = {"Opinion": "RN", "EquipmentMakeModel": "HOLOGIC"}
            self.put(taken, "DateTaken", self.day())
            self.put(data, side, taken)
        return data

    def lesion(self) -> dict[str, object]:
        data: dict[str, object] = {"CystAspirated": self.rng.choice(("Y", "N", None))}
        self.put(data, "LesionDescription", self.code(codes.LESION_DESCRIPTIONS))
        position: object = self.code(codes.LESION_POSITIONS)
        self.put(data, "LesionPosition", self.rng.choice((1, 42, 43, True)) if self.chance(0.05) else position)
        return data

    def episode(self) -> dict[str, object]:
        data: dict[str, object] = {}
        self.put(data, "EpisodeType", self.code(codes.EPISODE_TYPES, "CI", "R", "R", "F"))
        self.put(data, "EpisodeAction", self.code(codes.EPISODE_ACTIONS))
        self.put(data, "EpisodeIsClosed", self.rng.choice("YN"))
        self.put(data, "EpisodeOpenedDate", self.day())
        self.put(data, "EpisodeClosedDate", self.day())
        if self.chance(0.5):
            self.put(data, "IntervalCancerDateOfDiagnosis", self.day())
        self.put(data, "ActualEpisodeOpenedYear", self.rng.choice(("2012", 2012, "", 0, " 2013 ", 2014.0)))
        numbers = {side: [*"123"[: self.rng.choice((0, 0, 1, 2))]] for side in codes.SIDES}
        if self.chance(0.7):
            self.put(data, "SCREENING", self.screening())
        if self.chance(0.1):
            data["OTHERSCREENING"] = {str(key): self.screening() for key in range(self.rng.randint(0, 2))}
        kind = self.rng.choice(("normal", "normal", "assessed", "biopsied", "malignant", "any"))
        finding = {"normal": ("ON",), "assessed": ("ON",), "malignant": ("OM", "ON")}.get(kind, ("OB", "ON"))
        shares = {"normal": 0.03, "assessed": 0.1, "any": 0.4}
        for event, key in codes.EVENTS.items():
            share = shares.get(kind, 0.5)
            if kind != "normal" and event == "assessment":
                share = 0.9
            if event != "screening" and self.chance(share):
                self.put(data, key, self.procedure(numbers, *finding))
            elif event != "screening" and self.messy():
                data[key] = None
        if self.chance(0.1):
            data["INTERVALCANCER"] = self.procedure(numbers)
        if self.chance(0.6):
            data["LESION"] = {side: {number: self.lesion() for number in numbers[side]} for side in codes.SIDES}
        if self.chance(0.02):
            data = {key: value for key, value in data.items() if key.startswith("Episode")}
        return data

    # ImageDB

    def mark(self) -> object:
        data: dict[str, object] = {"MarkID": self.rng.choice((1, 2, "7"))}
        for key in ("X1", "Y1", "X2", "Y2"):
            data[key] = self.rng.choice((str(self.rng.randrange(4000)), self.rng.randrange(4000)))
        data["LinkedNBSSLesionNumber"] = self.rng.choice(
            ("1", "1,2", " 2, 03", "UNLINKED", None, 2, "", "1,", [1], 1.5)
        )
        for feature in imagedb.MARK_FEATURES:
            if self.chance(0.2):
                data[feature] = self.rng.choice((1, "1", feature, 0, "", None, "0"))
        self.put(data, "Conspicuity", self.code(imagedb.CONSPICUITIES))
        self.put(data, "MassClassification", self.code(imagedb.MASS_CLASSIFICATIONS))
        self.put(data, "BenignClassification", self.code(imagedb.BENIGN_CLASSIFICATIONS))
        if self.chance(0.1):
            data[self.rng.choice(("MarkID", "X1", "Y2"))] = self.rng.choice((None, "", "x", "1.5", 2.5, [], True))
        if self.chance(0.05):
            del data[self.rng.choice(("MarkID", "X1", "Y2"))]
        return self.rng.choice((None, 5, "x", {})) if self.chance(0.05) else data

    def image(self) -> object:
        if self.chance(0.6):
            return self.rng.choice((None, "", {}))
        if self.messy():
            return self.rng.choice((0, 5, [], [1], "x"))
        return {str(key): self.mark() for key in range(self.rng.randint(0, 3))}

    def study(self, episodes: list[str]) -> dict[str, object]:
        data: dict[str, object] = {}
        self.put(data, "StudyDate", self.day())
        episode: object = self.rng.choice(episodes) if episodes else "1"
        if self.chance(0.25):
            episode = self.rng.choice((..., None, "", "0", "wrong", 9994, int(str(episode)), 0, True))
        if episode is not ...:
            data["EpisodeID"] = episode
        uids = [self.uid() for _ in range(self.rng.randint(0, 3))]
        for _ in range(self.rng.randint(0, 2)):
            # One image may be listed in two series.
            data[self.uid()] = {uid: self.image() for uid in uids if self.chance(0.8)}
        if self.messy():
            data["not-a-uid"] = {self.uid(): None}
            data[self.uid()] = self.rng.choice((None, "", 5, {"": "", "notes": "x", "x.1": {}}))
        return data

    def sidecar(self) -> object:
        data: dict[str, object] = {}
        values: dict[str, tuple[object, ...]] = {
            "00080070": ("HOLOGIC, Inc.", "SIEMENS", "", ANONYMISED, 'a "quoted", text', None),
            "00081090": ("Lorad Selenia",),
            "00080068": ("FOR PRESENTATION", "FOR PROCESSING"),
            "00200062": ("L", "R"),
            "00185101": ("CC", "MLO"),
            "001811A0": (52, 52.5, "52", 1e-7),
            "00101010": ("064Y", "780M", "65", "000Y", "3200W", "22000D", "", "Y", 64, None, "x64Y"),
            "00020010": ("1.2.840.10008.1.2.1",),
        }
        for tag, choices in values.items():
            if self.chance(0.85):
                data[tag] = {"vr": "CS", "Value": [self.rng.choice(choices), "second"]}
            elif self.chance(0.5):
                data[tag] = {"vr": "CS"}
        if self.chance(0.3):
            data["00540220"] = {"Value": [{"00080100": {"Value": ["R-10242"]}, "00080104": {"vr": "LO"}}]}
        if self.chance(0.005):
            data["00185101"] = {"vr": "CS", "Value": self.rng.choice(([], None, 5))}
        return data

    # the whole

    def client(self) -> RandomClient:
        rng = self.rng
        episodes = {
            str(rng.randrange(1, 10**4)): self.episode() for _ in range(rng.choice((0, 1, 2, 2, 3, 3, 4, 6)))
        }
        documents: list[dict[str, object]] = [
            {"ClientID": self.name, "Classification": rng.choice(("N", "B", "M", "CI", "")), **episodes}
        ]
        uids = [self.uid() for _ in range(rng.choice((0, 1, 2, 3, 3, 4, 5, 8)))]
        # Many studies in one episode: they then compete for its events.
        named = [*episodes][: 1 if self.chance(0.3) else None]
        studies: dict[str, object] = {uid: self.study(named) for uid in uids}
        documents.append(
            {"ClientID": self.name, "Site": rng.choice(("stge", "adde", None, "")), "STUDIES": studies}
        )
        if self.chance(0.01):
            documents[1]["STUDIES"] = rng.choice((None, "", [], 5))
        directories = tuple(uid for uid in uids if not self.chance(0.1))
        sidecars: dict[tuple[str, str], object] = {}
        for uid in directories:
            study = studies[uid]
            assert isinstance(study, dict)
            for series in study.values():
                if isinstance(series, dict):
                    sidecars.update({(uid, image): self.sidecar() for image in series if image})
        if self.chance(0.15):
            for _ in range(rng.randint(1, 3)):
                _damage(rng, rng.choice(documents))
        if self.chance(0.01):
            documents[1].pop("Site", None)
        return RandomClient(self.name, documents[0], documents[1], directories, sidecars)


def _damage(rng: random.Random, document: dict[str, object]) -> None:
    """Set one value at any depth to an odd one. Keep ``Site``, because ``omidb`` shows it raw."""
    here = document
    while True:
        keys = [key for key in here if key != "Site"]
        if not keys:
            return
        key = rng.choice(keys)
        child = here[key]
        if not isinstance(child, dict) or not child or rng.random() < 0.2:
            here[key] = copy.deepcopy(rng.choice(ODD[:-1] if key == "ActualEpisodeOpenedYear" else ODD))
            return
        here = child
