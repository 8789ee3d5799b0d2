"""Invents the history of a client: the dates of screening, and the findings. The other modules write it to files.

The history of a client is a story drawn from a deck. Each run of ``len(DECK)`` clients therefore has every story
once, and with them every outcome of ``omidb`` 0.13.1, for any seed.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from random import Random

EVENTS: dict[str, dict[str, str | None]] = {
    "normal": {"SCREENING": "Normal"},
    "repeated": {"SCREENING": "Normal", "OTHERSCREENING": "Normal"},
    "follow-up": {"SCREENING": "Normal"},
    "referred": {"CLINICAL": "Normal"},
    "assessed": {"SCREENING": "Uncertain", "ASSESSMENT": "Normal"},
    "biopsied": {"SCREENING": "Suspicious", "ASSESSMENT": "Uncertain", "BIOPSYWIDE": "Normal"},
    "aspirated": {"SCREENING": "Uncertain", "ASSESSMENT": "Uncertain", "BIOPSYFINE": "Normal"},
    "benign": {"SCREENING": "Uncertain", "ASSESSMENT": "Benign", "BIOPSYWIDE": "Benign"},
    "excised": {
        "SCREENING": "Uncertain",
        "ASSESSMENT": "Uncertain",
        "BIOPSYWIDE": "Uncertain",
        "SURGERY": "Benign",
    },
    "cancer": {
        "SCREENING": "Suspicious",
        "ASSESSMENT": "Suspicious",
        "BIOPSYWIDE": "Malignant",
        "SURGERY": "Malignant",
    },
    "dcis": {
        "SCREENING": "Suspicious",
        "ASSESSMENT": "Suspicious",
        "BIOPSYWIDE": "Malignant",
        "SURGERY": "Malignant",
    },
    "bilateral": {
        "SCREENING": "Suspicious",
        "ASSESSMENT": "Malignant",
        "BIOPSYWIDE": "Malignant",
        "SURGERY": "Malignant",
    },
    "interval": {"CLINICAL": "Suspicious", "BIOPSYWIDE": "Malignant", "SURGERY": "Malignant"},
    "interval-unproven": {"CLINICAL": "Suspicious"},
    "interval-contradicted": {"CLINICAL": "Uncertain", "BIOPSYWIDE": "Benign"},
    "opinion-lost": {"SCREENING": "Uncertain", "ASSESSMENT": None},
    "events-lost": {},
    "undated": {"SCREENING": "Normal"},
    "surgery-uncertain": {"SCREENING": "Suspicious", "ASSESSMENT": "Uncertain", "SURGERY": "Uncertain"},
}
"""Finding -> its events, in order of time, with the opinion on the affected side."""

CANCERS = ("cancer", "dcis", "bilateral", "interval", "interval-unproven")
"""Findings with a malignant lesion."""

_N, _LOST = ("normal", 36), "opinion-lost"

DECK: tuple[tuple[tuple[str, int], ...], ...] = (
    *((_N,), (_N, _N), (_N, _N, _N), (_N, _N, _N)),
    *((_N, ("repeated", 36), _N), (("referred", 20), _N), (_N, ("referred", 15), _N)),
    *((_N, ("cancer", 36)), (_N, _N, ("cancer", 35)), (("cancer", 36),), (("cancer", 36),)),
    *((_N, ("cancer", 37), ("follow-up", 13)), (("cancer", 36), ("follow-up", 12), ("follow-up", 12))),
    *((_N, ("bilateral", 36)), (("dcis", 36),), (_N, ("dcis", 36)), (("assessed", 36), ("cancer", 36))),
    *((_N, ("interval", 20)), (_N, ("interval", 30)), (_N, _N, ("interval", 9))),
    *((_N, ("interval-unproven", 26)), (("assessed", 36), ("interval", 22))),
    *((("benign", 36),), (("benign", 36), _N), (_N, ("benign", 36)), (("excised", 36), _N)),
    *((("assessed", 36), _N), (_N, ("assessed", 36)), (("assessed", 36), ("assessed", 12))),
    *((("biopsied", 36), _N), (_N, ("biopsied", 36)), (("aspirated", 36), _N)),
    *((_N, ("interval-contradicted", 18)), ((_LOST, 36), _N), (("events-lost", 36), _N)),
    *((("undated", 36), _N), (("surgery-uncertain", 36), _N)),
)
"""The stories: for each visit the finding, and the months since the previous visit."""

_TYPES = {"follow-up": "CF", "referred": "G"}
_DELAYS = {"ASSESSMENT": (12, 24), "BIOPSYFINE": (0, 0), "BIOPSYWIDE": (0, 8), "SURGERY": (24, 50)}


@dataclass(frozen=True, slots=True)
class Lesion:
    """One lesion and its place in fractions of the breast, see :func:`omidbfs.demo.anatomy.box_of`.

    ``appearance`` is ``mass``, ``calcification`` or ``distortion``.
    """

    side: str
    number: str
    appearance: str
    depth: float
    offset: float
    radius: float


@dataclass(frozen=True, slots=True)
class Episode:
    """One episode. ``start`` and the ``dates`` of its events are shifted; a field of its own has the true year."""

    id: str
    finding: str
    type: str
    start: date
    true_year: int
    age: int
    dates: dict[str, date]
    lesions: tuple[Lesion, ...]

    @property
    def is_cancer(self) -> bool:
        """Return whether a malignant lesion was found."""
        return self.finding in CANCERS


@dataclass(frozen=True, slots=True)
class History:
    """One client: ``size`` (0 to 4) and ``density`` (0 to 3) of the breasts, and the episodes in time."""

    client: str
    site: str
    size: int
    density: int
    implant: bool
    episodes: tuple[Episode, ...]


def story_of(number: int, seed: int) -> tuple[tuple[str, int], ...]:
    """Return the story of the ``number``-th client (from 0) from the deck, which each round shuffles again."""
    deck = list(DECK)
    Random(f"{seed}/deck/{number // len(deck)}").shuffle(deck)
    return deck[number % len(deck)]


def _lesions(finding: str, random: Random) -> tuple[Lesion, ...]:
    if not EVENTS[finding].keys() - {"SCREENING", "OTHERSCREENING"} or finding == "referred":
        return ()
    sides = ["L", "R"] if finding == "bilateral" else [random.choice("LR")]
    if finding != "bilateral" and random.random() < 0.12:
        sides *= 2
    lesions: list[Lesion] = []
    for side in sides:
        appearance = random.choices(("mass", "calcification", "distortion"), (6, 3, 1))[0]
        lesions.append(
            Lesion(
                side,
                str(1 + sum(lesion.side == side for lesion in lesions)),
                "calcification" if finding == "dcis" else appearance,
                depth=random.uniform(0.28, 0.68),
                offset=random.uniform(-0.5, 0.5),
                radius=random.uniform(0.022, 0.05),
            )
        )
    return tuple(lesions)


def _dates(finding: str, start: date, random: Random) -> dict[str, date]:
    day, dates = start, dict[str, date]()
    for event in EVENTS[finding]:
        if event == "OTHERSCREENING":
            day += timedelta(random.randint(5, 15))
        elif dates and event in _DELAYS:
            day += timedelta(random.randint(*_DELAYS[event]))
        dates[event] = day
    return dates


def history_of(client: str, story: tuple[tuple[str, int], ...], random: Random) -> History:
    """Invent the history of ``client`` along ``story``."""
    months = sum(gap for _, gap in story[1:])
    true_day = date(random.randint(2005, 2021 - months // 12), 1, 1) + timedelta(random.randint(0, 364))
    shift = timedelta(random.choice((-1, 1)) * random.randint(200, 1000))
    age = random.randint(50, 70 - months // 12)
    ids = random.sample(range(1000, 99999), len(story))
    episodes: list[Episode] = []
    for index, (finding, gap) in enumerate(story):
        if index:
            step = timedelta(round(gap * 30.44) + random.randint(-6, 6))
            age += (true_day + step).year - true_day.year
            true_day += step
        default = "CI" if finding.startswith("interval") else "F" if index == 0 and age < 54 else "R"
        episodes.append(
            Episode(
                id=str(ids[index]),
                finding=finding,
                type=_TYPES.get(finding, default),
                start=true_day + shift,
                true_year=true_day.year,
                age=age,
                dates=_dates(finding, true_day + shift, random),
                lesions=_lesions(finding, random),
            )
        )
    return History(
        client,
        random.choice(("adde", "jarv", "stge", "stge")),
        random.randint(0, 4),
        random.randint(0, 3),
        random.random() < 0.06,
        tuple(episodes),
    )
