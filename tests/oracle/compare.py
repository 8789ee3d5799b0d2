"""Compares one client as ``omidb`` and omidbfs read it. Everything that both know must be the same."""

import csv
import io
import json
import random
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import omidb
from omidb import classificationtools
from omidb.commands import summarise
from randomdb import random_client, random_windows

from omidbfs.clinical import outcomes as clinical
from omidbfs.clinical import summary
from omidbfs.clinical.linking import StudyLink, all_links, match_studies, unique_links
from omidbfs.clinical.outcomes import EpisodeFacts, Windows
from omidbfs.database.imagedb import MARK_FEATURES, parse_imagedb
from omidbfs.database.nbss import parse_nbss
from omidbfs.database.problems import Problem, Reporter
from omidbfs.database.records import OTHER, Episode, ImageDb, Lesion, Mark, Nbss

RAISES = "omidb raises"
UNREADABLE = "client that omidb cannot read"
UNSUMMARISED = "client that omidb cannot summarise"
COMPARED = "client compared"

FEATURE_NAMES = {
    "ArchitecturalDistortion": "architectural_distortion",
    "Dystrophic": "dystrophic_calcification",
    "FatNecrosis": "fat_necrosis",
    "FocalAsymmetry": "focal_asymmetry",
    "Mass": "mass",
    "SuspiciousCalcifications": "suspicious_calcifications",
    "MilkOfCalcium": "milk_of_calcium",
    "OtherBenignCluster": "other_benign_cluster",
    "PlasmaCellMastitis": "plasma_cell_mastitis",
    "Skin": "benign_skin_feature",
    "WithCalcification": "calcifications",
    "SutureCalcification": "suture_calcification",
    "Vascular": "vascular_feature",
}
assert FEATURE_NAMES.keys() == set(MARK_FEATURES)


class Difference(AssertionError):
    """``omidb`` and omidbfs disagree."""


def same(what: str, theirs: object, ours: object) -> None:
    """Raise :class:`Difference` unless the two are equal."""
    if theirs != ours:
        raise Difference(f"{what}\n  omidb:   {theirs!r}\n  omidbfs: {ours!r}")


class OurClient:
    """A client as omidbfs reads it from ``data``."""

    def __init__(self, data: Path, name: str) -> None:
        root = data / name
        self.name = name
        self.root = root
        self.problems: list[Problem] = []
        report = Reporter(name, self.problems)
        self.nbss: Nbss = parse_nbss(json.loads((root / f"nbss_{name}.json").read_text()), report)
        self.document = json.loads((root / f"imagedb_{name}.json").read_text())
        self.imagedb: ImageDb = parse_imagedb(self.document, report)
        self.in_data = {entry.name for entry in root.iterdir() if entry.is_dir()}
        studies = [*self.imagedb.studies.values()]
        matches = match_studies(self.nbss.episodes, studies, report)
        self.links: dict[bool, dict[str, StudyLink]] = {
            False: unique_links(studies, matches, self.in_data),
            True: all_links(studies, matches),
        }
        self.facts: list[EpisodeFacts] = [clinical.episode_facts(episode) for episode in self.nbss.episodes]

    def sidecar(self, study: str, image: str) -> dict[str, object]:
        """Return the JSON of an image, ``{}`` if there is none."""
        for suffix in (".json", ".dcm.json"):
            path = self.root / study / f"{image}{suffix}"
            if path.exists():
                return json.loads(path.read_text())  # type: ignore[no-any-return]
        return {}

    def summary(self, windows: Windows, link_all: bool) -> list[tuple[object, ...]]:
        """Return the rows of ``omidb summarise``."""
        return [
            *summary.summary_rows(
                self.name,
                self.nbss,
                self.imagedb,
                self.links[link_all],
                windows,
                self.in_data.__contains__,
                lambda study, image: True,
                self.sidecar,
            )
        ]


def compare_random_client(data: Path, seed: int, index: int, tally: Counter[str]) -> str | None:
    """Write client ``index`` of ``seed`` below ``data``, compare it, and count its outcomes in ``tally``.

    Returns the name of the client if ``omidb`` can summarise it. Raises :class:`Difference`, and whatever
    one of our parts raises.
    """
    client = random_client(seed, index)
    client.write(data)
    ours = OurClient(data, client.name)
    rng = random.Random(f"windows {seed}:{index}")
    windows = [Windows(), *(random_windows(rng) for _ in range(4))]
    theirs = {link_all: omidb_client(data, client.name, link_all) for link_all in (False, True)}
    if theirs[False] is None:
        same("readable", theirs[False], theirs[True])
        tally[UNREADABLE] += 1
        ours.summary(windows[1], True)
        clinical.client_status(ours.facts)
        return None
    tally[COMPARED] += 1
    compare_episodes(theirs[False], ours)
    compare_outcomes(theirs[False], ours, windows, tally)
    summarised = True
    for link_all, client_of_omidb in theirs.items():
        compare_links(client_of_omidb, ours, link_all, tally)
        for windows_of_summary in windows[:2]:
            rows = ours.summary(windows_of_summary, link_all)
            try:
                expected = omidb_summary([client_of_omidb], windows_of_summary)
            except Exception:
                tally[UNSUMMARISED] += 1
                summarised = False
                continue
            same("header", expected[0], [*summary.HEADER])
            same(f"summary, {windows_of_summary}, link all {link_all}", csv_lines(expected[1:]), csv_lines(rows))
    return client.name if summarised else None


def omidb_client(data: Path, name: str, link_all: bool) -> Any:
    """Return the client as ``omidb`` reads it, or ``None`` where it skips the client."""
    return next(iter(omidb.DB(data, clients=[name], distinct_event_study_links=not link_all)), None)


def omidb_summary(clients: Iterable[Any], windows: Windows) -> list[list[object]]:
    """Return the rows of ``omidb summarise``, header first."""
    config = summarise.Config(
        db="",
        output_file="",
        link_all=False,
        clients_file="",
        log_file="",
        nbss_dir="",
        num_months_ci_prior=windows.ci_prior,
        num_months_cancer_prior=windows.cancer_prior,
        num_months_normal_follow_up=windows.normal_follow_up,
        num_months_benign_follow_up=windows.benign_follow_up,
    )
    return summarise.write_client_data(clients, config).rows  # type: ignore[no-any-return]


def csv_lines(rows: Iterable[Sequence[object]]) -> list[str]:
    """Return the rows as the CSV text of ``omidb summarise``."""
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=",").writerows(rows)
    return text.getvalue().splitlines(keepends=True)


def code(member: Any) -> str | None:
    return None if member is None else member.name


def known(value: str | None) -> str | None:
    """``omidb`` has nothing for a code outside its table."""
    return None if value == OTHER else value


def run(seed: int, indices: Iterable[int], directory: Path, tally: Counter[str]) -> dict[str, Path]:
    """Compare the clients ``indices`` of ``seed`` and return those that ``omidb`` can summarise, with their tree.

    At most 500 clients are on disk at a time, those of the last tree are left there.
    """
    summarised: dict[str, Path] = {}
    data = directory / "data"
    for number, index in enumerate(indices):
        if number % 500 == 0:
            shutil.rmtree(data, ignore_errors=True)
            data.mkdir()
            summarised.clear()
        try:
            name = compare_random_client(data, seed, index, tally)
        except Exception as error:
            error.add_note(f"reproduce: scripts/oracle --seed {seed} --first {index} --clients 1")
            raise
        if name is not None:
            summarised[name] = data
    return summarised


def missing(tally: Counter[str]) -> set[str]:
    """Return the cases that a comparison of many clients must meet and has not met."""
    # InvalidCI is in omidb's table, but no branch gives it.
    expected = {*clinical.OUTCOMES, *clinical.UNDEFINED_OUTCOMES} - {"InvalidCI"}
    expected |= {
        RAISES,
        UNREADABLE,
        UNSUMMARISED,
        "study linked",
        "study linked to no event",
        "mark",
        "unread mark",
    }
    return expected - {*tally}


def compare_episodes(theirs: Any, ours: OurClient) -> None:
    same("episodes", [e.id for e in theirs.episodes], [e.id for e in ours.nbss.episodes])
    for expected, episode, facts in zip(theirs.episodes, ours.nbss.episodes, ours.facts, strict=True):
        fields = ("is_closed", "opened_date", "closed_date", "diagnosis_date", "actual_opened_year")
        same(
            f"episode {episode.id}",
            [code(expected.type), code(expected.action), *(getattr(expected, name) for name in fields)],
            [
                known(episode.type),
                known(episode.action),
                bool(episode.is_closed),  # omidb takes an unstated value for open
                *(getattr(episode, name) for name in fields[1:]),
            ],
        )
        same(f"events of {episode.id}", omidb_events(expected), our_events(episode))
        same(
            f"facts of {episode.id}",
            [
                code(expected.status),
                expected.has_malignant_opinions,
                expected.has_benign_opinions,
                expected.is_interval_cancer,
                not classificationtools._is_not_cancer(expected),
            ],
            [facts.status, facts.malignant, facts.benign, facts.interval_cancer, facts.cancer],
        )
        same(f"date of {episode.id}", or_none(classificationtools._earliest_date, expected), facts.date)
        compare_lesions(expected.lesions, episode.lesions)
    same("client status", theirs.status.name, clinical.client_status(ours.facts))


def or_none(function: Any, *args: object) -> object:
    try:
        return function(*args)
    except Exception:
        return None


def omidb_events(episode: Any) -> list[object] | None:
    if episode.events is None:
        return None
    events: list[object] = []
    for name in ("screening", "assessment", "clinical", "biopsy_wide", "biopsy_fine", "surgery"):
        event = getattr(episode.events, name) or []
        for one in event if isinstance(event, list) else [event]:
            events.append((name, code(one.left_opinion), code(one.right_opinion), tuple(one.dates)))
    return events


def our_events(episode: Episode) -> list[object] | None:
    if episode.events is None:
        return None
    return [(e.name, e.left_opinion, e.right_opinion, e.dates) for e in episode.events]


def compare_lesions(theirs: dict[str, Any], lesions: tuple[Lesion, ...]) -> None:
    same("lesion numbers", {*theirs}, {lesion.number for lesion in lesions})
    clashes = Counter(lesion.number for lesion in lesions)
    for lesion in lesions:
        # omidb keeps the right one of two.
        if clashes[lesion.number] > 1 and lesion.side == "L":
            continue
        expected = theirs[lesion.number]
        status = {None: None, "Invasive": "invasive", "Insitu": "in-situ"}[code(expected.status)]
        same(
            f"lesion {lesion.side} {lesion.number}",
            [
                code(expected.side),
                code(expected.description),
                code(expected.position),
                expected.cyst_aspirated,
                status,
                code(expected.grade),
            ],
            [
                lesion.side,
                known(lesion.description),
                known(lesion.position),
                lesion.cyst_aspirated,
                clinical.lesion_status(lesion),
                clinical.lesion_grade(lesion),
            ],
        )
        for name in ("assessment", "clinical", "biopsy_wide", "biopsy_fine", "surgery", "interval_cancer"):
            procedure = getattr(expected, name)
            pathology = lesion.procedures.get(name)
            same(f"{name} of lesion {lesion.number}", procedure is None, pathology is None)
            if procedure is None or pathology is None:
                continue
            found = msgspec.structs.asdict(pathology)
            found["malignant_type"] = found.pop("malignancy_type")
            for key, value in vars(procedure).items():
                if key == "date":
                    same(f"date of {name}", value, found[key])
                elif isinstance(value, list):
                    same(f"{key} of {name}", [*map(code, value)], [c for c in found[key] if c != OTHER])
                else:
                    same(f"{key} of {name}", code(value), known(found[key]))


def compare_outcomes(theirs: Any, ours: OurClient, windows: list[Windows], tally: Counter[str]) -> None:
    for setting in windows:
        found = clinical.outcomes(ours.facts, setting)
        for expected, facts, outcome in zip(theirs.episodes, ours.facts, found, strict=True):
            try:
                result, future = classificationtools.episode_outcome(
                    expected,
                    theirs.episodes,
                    num_months_ci_prior=setting.ci_prior,
                    num_months_cancer_prior=setting.cancer_prior,
                    num_months_normal_follow_up=setting.normal_follow_up,
                    num_months_benign_follow_up=setting.benign_follow_up,
                )
                pair = (result.name, future)
            except (ValueError, OverflowError):
                pair = (None, None)
            tally[pair[0] or RAISES] += 1
            same(f"outcome of {facts.id}, {setting}", pair, (outcome.code, outcome.future_episode))
            same("single outcome", outcome, clinical.outcome(facts, ours.facts, setting))
    for expected, facts, post_op in zip(theirs.episodes, ours.facts, clinical.post_ops(ours.facts), strict=True):
        same("post-op", or_none(classificationtools.is_post_op, expected, theirs.episodes), post_op)
        same("single post-op", post_op, clinical.post_op(facts, ours.facts))


def compare_links(theirs: Any, ours: OurClient, link_all: bool, tally: Counter[str]) -> None:
    expected = {
        study.id: StudyLink(episode.id, tuple(event.name for event in study.event_type))
        for episode in theirs.episodes
        for study in episode.studies
    }
    links = ours.links[link_all]
    same("linked studies", {*ours.imagedb.studies}, {*links})
    found = {study: link for study, link in links.items() if link.episode and study in ours.in_data}
    same(f"links, link all {link_all}", expected, found)
    tally["study linked"] += sum(bool(link.events) for link in found.values())
    tally["study linked to no event"] += sum(not link.events for link in found.values())
    for episode in theirs.episodes:
        for study in episode.studies:
            series = ours.imagedb.studies[study.id].series
            same("series", [s.id for s in study.series], [*series])
            for one in study.series:
                same("images", [image.id for image in one.images], [*series[one.id]])
                for image in one.images:
                    listed = series[one.id][image.id]
                    same(f"marks of {image.id}", len(image.marks), len(listed.marks))
                    source = ours.document["STUDIES"][study.id][one.id][image.id]
                    for expected_mark, mark in zip(image.marks, listed.marks, strict=True):
                        compare_mark(expected_mark, mark, source)
                    tally["mark"] += len(listed.marks)
                    tally["unread mark"] += listed.unread_marks


def compare_mark(theirs: Any, mark: Mark, marks: Any) -> None:
    """Compare a mark; ``marks`` are those of its image in the source.

    ``omidb`` takes no lesion number that is no text: where the source has such a one, ours is our own.
    """
    box = theirs.boundingBox
    is_text = all(
        isinstance(one.get("LinkedNBSSLesionNumber", ""), str | None)
        for one in marks.values()
        if isinstance(one, dict) and str(one.get("MarkID")) == mark.id
    )
    # "other" is also a mass classification of its own: it may stand for nothing only where omidb has nothing.
    mass = mark.mass_classification if theirs.mass_classification else known(mark.mass_classification)
    same(
        "mark",
        [
            (theirs.id, box.x1, box.y1, box.x2, box.y2),
            theirs.lesion_ids,
            code(theirs.conspicuity),
            code(theirs.mass_classification),
            code(theirs.benign_classification),
            {key for key, name in FEATURE_NAMES.items() if getattr(theirs, name)},
        ],
        [
            (mark.id, mark.x1, mark.y1, mark.x2, mark.y2),
            mark.lesion_numbers if is_text else theirs.lesion_ids,
            known(mark.conspicuity),
            mass,
            known(mark.benign_classification),
            mark.features,
        ],
    )
