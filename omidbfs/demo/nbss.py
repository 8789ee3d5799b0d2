"""Makes ``nbss_<client>.json`` of episodes (NBSS tables DS0026; keys of ``omidb.client_parser``).

``tree`` uses it.
"""

from datetime import date
from random import Random
from typing import Any

from omidbfs.demo.equipment import Machine
from omidbfs.demo.history import EVENTS, Episode, History, Lesion

Json = dict[str, Any]

_FILM = {"Normal": "R1", "Benign": "R2", "Uncertain": "R3", "Suspicious": "R4", "Malignant": "R5"}
_GRADES = {"Normal": 1, "Benign": 2, "Uncertain": 3, "Suspicious": 4, "Malignant": 5}
_LETTER = {"ASSESSMENT": "A", "CLINICAL": "P", "BIOPSYWIDE": "B", "BIOPSYFINE": "C"}
_HISTOLOGY = {"Normal": "H1", "Benign": "H2", "Malignant": "H5"}
_DESCRIPTIONS = {"mass": ("MA", "MA", "MC"), "calcification": ("CA",), "distortion": ("DS", "AS")}


def _opinions(sides: set[str], opinion: str | None) -> Json:
    return {
        f"{name}_opinion": opinion if side in sides or opinion is None else "Normal"
        for name, side in (("left", "L"), ("right", "R"))
    }


def _screening(sides: set[str], opinion: str | None, day: date | None, episode: Episode, machine: Machine) -> Json:
    record = _opinions(sides, opinion)
    for side in "LR":
        record[side] = {
            "AgeAtScreening": str(episode.age),
            "DateTaken": day.isoformat() if day else "",
            "EquipmentMakeModel": f"{machine.manufacturer.split()[0].strip(',').upper()} {machine.model}",
            "Opinion": _FILM.get(opinion or "", "RN") if side in sides else "R1",
        }
    return record


def _pathology(event: str, finding: str, opinion: str | None, random: Random) -> Json:
    if opinion != "Malignant":
        return {"MalignancyType": None}
    if finding == "dcis":
        return {
            "MalignancyType": "a",
            "InSituComponents": random.choice(("NID", "NID NIL")),
            "DcisGrade": random.choice(("NDH", "NDI", "NDL")),
        }
    record: Json = {
        "MalignancyType": "b",
        "InvasiveComponents": random.choice(("IDC", "IDC", "ILC", "IDC ITC")),
        "InvasiveType": random.choice(("IN", "IN", "IP", "IM")),
        "DiseaseGrade": random.choice(("G1", "G2", "G2", "G3")),
        "HormoneERStatus": random.choice(("RP", "RP", "RP", "RN")),
        "HormonePRStatus": random.choice(("RP", "RP", "RN", "RU")),
        "HER2ReceptorStatus": random.choice(("RN", "RN", "RP", "RB")),
    }
    if event == "SURGERY":
        record["InSituComponents"] = random.choice(("", "NID"))
        record["WholeSizeOfTumour"] = random.randint(6, 38)
    return record


def _procedure(event: str, episode: Episode, opinion: str | None, random: Random) -> Json:
    day = episode.dates[event].isoformat()
    record: Json = _opinions({lesion.side for lesion in episode.lesions}, opinion)
    record["dateperformed"] = day
    for side in "LR":
        record[side] = {}
        for lesion in episode.lesions:
            if lesion.side != side:
                continue
            code = _HISTOLOGY.get(opinion or "", "H0") if event == "SURGERY" else None
            if code is None and opinion is not None:
                code = f"{_LETTER[event]}{_GRADES[opinion]}"
            record[side][lesion.number] = {"DatePerformed": day, "Opinion": code}
            if event in ("BIOPSYWIDE", "SURGERY"):
                record[side][lesion.number] |= _pathology(event, episode.finding, opinion, random)
    return record


def _lesion(lesion: Lesion, random: Random) -> Json:
    return {
        "LesionDescription": random.choice(_DESCRIPTIONS[lesion.appearance]),
        "LesionPosition": f"{lesion.side}{random.choice('ABCDE')}{random.randint(1, 4)}",
        "CystAspirated": "N",
    }


def _action(episode: Episode) -> str:
    if episode.finding in ("cancer", "dcis", "bilateral", "interval", "excised", "surgery-uncertain"):
        return "ST"
    return {"interval-unproven": "RF", "opinion-lost": "EC"}.get(episode.finding, "RR")


def _episode(episode: Episode, machine: Machine, studies: list[str], random: Random) -> Json:
    undated = episode.finding == "undated"
    last = max(episode.dates.values(), default=episode.start)
    record: Json = {
        "EpisodeType": episode.type,
        "EpisodeAction": _action(episode),
        "EpisodeIsClosed": "Y",
        "EpisodeOpenedDate": "" if undated else episode.start.isoformat(),
        "EpisodeClosedDate": "" if undated else last.isoformat(),
        "ActualEpisodeOpenedYear": str(episode.true_year),
        "PatientAge": episode.age,
        "StudyList": ",".join(studies),
    }
    sides = {lesion.side for lesion in episode.lesions}
    for event, opinion in EVENTS[episode.finding].items():
        day = None if undated else episode.dates[event]
        if event == "SCREENING":
            record[event] = _screening(sides, opinion, day, episode, machine)
        elif event == "OTHERSCREENING":
            record[event] = {"1": _screening(sides, opinion, day, episode, machine)}
        else:
            record[event] = _procedure(event, episode, opinion, random)
    if episode.type == "CI":
        day = episode.dates.get("BIOPSYWIDE", episode.start)
        record["IntervalCancerDateOfDiagnosis"] = day.isoformat()
        record["INTERVALCANCER"] = {
            side: {x.number: {"DatePerformed": day.isoformat()} for x in episode.lesions if x.side == side}
            for side in "LR"
        }
    if episode.lesions:
        record["LESION"] = {
            side: {x.number: _lesion(x, random) for x in episode.lesions if x.side == side} for side in "LR"
        }
    return record


def _classification(history: History) -> str:
    if any(episode.type == "CI" for episode in history.episodes):
        return "CI"
    if any(episode.is_cancer for episode in history.episodes):
        return "M"
    return "B" if any(episode.finding in ("benign", "excised") for episode in history.episodes) else "N"


def nbss_of(history: History, machines: dict[str, Machine], studies: dict[str, list[str]], random: Random) -> Json:
    """Return ``nbss_<client>.json``; ``machines`` and ``studies`` (UIDs) are given by episode."""
    record: Json = {"ClientID": history.client, "Classification": _classification(history)}
    for episode in history.episodes:
        record[episode.id] = _episode(episode, machines[episode.id], studies[episode.id], random)
    return record
