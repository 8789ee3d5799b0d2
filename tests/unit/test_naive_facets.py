"""Facets agree with a second opinion: a few loops over the JSON on disk.

Only the links of studies to episodes are taken from the index; they have the reference parser as their oracle.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from trees import Quirky

from omidbfs.cohorts.cohort import EVERYTHING, Cohorts
from omidbfs.database.layout import find_source
from omidbfs.facets import FACETS
from omidbfs.index.build import refreshed
from omidbfs.index.columns import Index

Json = dict[str, Any]
STORAGE = "1.2.840.10008.5.1.4.1.1."
FLAGS = {
    "Mass": "mass",
    "WithCalcification": "with-calcification",
    "SuspiciousCalcifications": "suspicious-calcifications",
    "ArchitecturalDistortion": "architectural-distortion",
    "FocalAsymmetry": "focal-asymmetry",
    "Dystrophic": "dystrophic",
    "FatNecrosis": "fat-necrosis",
    "MilkOfCalcium": "milk-of-calcium",
    "OtherBenignCluster": "other-benign-cluster",
    "PlasmaCellMastitis": "plasma-cell-mastitis",
    "Skin": "skin",
    "SutureCalcification": "suture-calcification",
    "Vascular": "vascular",
}
OPINIONS = {"OM": "malignant", "OS": "suspicious", "OU": "uncertain", "OB": "benign", "ON": "normal"}
READINGS = {
    "R1": "r1-normal",
    "R2": "r2-benign",
    "R3": "r3-uncertain",
    "R4": "r4-suspicious",
    "R5": "r5-malignant",
}
READINGS |= {"RN": "normal", "RB": "benign", "RU": "uncertain", "RS": "suspicious", "RM": "malignant"}
TEXTS = {"Malignant": "OM", "Suspicious": "OS", "Uncertain": "OU", "Benign": "OB", "Normal": "ON"}
GRADES = {
    "G1": "grade-1",
    "G2": "grade-2",
    "G3": "grade-3",
    "NDH": "dcis-high",
    "NDI": "dcis-intermediate",
    "NDL": "dcis-low",
}


def loaded(path: Path) -> Json | None:
    """Return a JSON object, ``None`` for anything else."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def first(sidecar: Json, tag: str) -> Any:
    """Return the first value of an attribute, ``None`` for none."""
    element = sidecar.get(tag)
    value = element["Value"][0] if isinstance(element, dict) and element.get("Value") else None
    return None if value in ("", "Data anonymised") else value


SYNTAXES = {
    "": "implicit-vr-little-endian",
    ".1": "explicit-vr-little-endian",
    ".1.99": "deflated",
    ".2": "explicit-vr-big-endian",
    ".4.50": "jpeg-baseline",
    ".4.51": "jpeg-extended",
    ".4.57": "jpeg-lossless",
    ".4.70": "jpeg-lossless-sv1",
    ".4.80": "jpeg-ls-lossless",
    ".4.81": "jpeg-ls-near-lossless",
    ".4.90": "jpeg-2000-lossless",
    ".4.91": "jpeg-2000",
    ".5": "rle-lossless",
}


def of_header(sidecar: Json) -> dict[str, list[str]]:
    """Return the facets of a sidecar."""

    def said(tag: str, name: Any = str) -> list[str]:
        value = first(sidecar, tag)
        return ["unknown"] if value is None else [name(value)]

    sop_class, frames = first(sidecar, "00080016"), first(sidecar, "00280008")
    types = [text for text in (sidecar.get("00080008") or {}).get("Value", ()) if text]
    kinds = {"GENERATED_2D": "synthetic-2d", "TOMO_PROJ": "tomosynthesis-projection"}
    usual = "tomosynthesis" if "TOMOSYNTHESIS" in types else types[0].lower() if types else "unknown"
    kind = kinds.get(types[-1], usual) if types else usual
    rows, columns = first(sidecar, "00280010"), first(sidecar, "00280011")
    is_tomosynthesis = str(sop_class).startswith(f"{STORAGE}13.1.") or int(frames or 1) > 1 or "2d" in kind
    is_tomosynthesis |= "tomosynthesis" in kind
    acquisition = first(sidecar, "00189507") or {}
    thickness = first(sidecar, "001811A0") or first(acquisition, "001811A0")
    return {
        "sop-class": said(
            "00080016",
            {
                f"{STORAGE}1.2": "mammography-presentation",
                f"{STORAGE}1.2.1": "mammography-processing",
                f"{STORAGE}13.1.3": "tomosynthesis",
            }.__getitem__,
        ),
        "modality": said("00080060"),
        "photometric-interpretation": said("00280004"),
        "matrix-size": ["unknown"] if rows is None or columns is None else [f"{rows}x{columns}"],
        "transfer-syntax": said("00020010", lambda uid: SYNTAXES[uid.removeprefix("1.2.840.10008.1.2")]),
        "thickness": [
            "unknown" if not is_number(thickness) else f"{int(thickness) // 10}0-{int(thickness) // 10}9"
        ],
        "magnification": said("00181114", lambda factor: f"{float(factor):.1f}"),
        "partial-view": said("00281350", str.lower),
        "image-type": [kind],
        "laterality": [side_of(sidecar) or "unknown"],
        "tomosynthesis": ["yes" if is_tomosynthesis else "unknown" if sop_class is None else "no"],
    }


def is_number(value: Any) -> bool:
    return value is not None and str(value).replace(".", "").isdigit()


def side_of(sidecar: Json) -> str | None:
    groups = [first(sidecar, tag) or {} for tag in ("52009229", "52009230")]
    said = [
        first(sidecar, "00200062"),
        *(first(first(group, "00209071") or {}, "00209072") for group in groups),
        first(sidecar, "00200060"),
    ]
    sides = [text[0] for text in said if text and text[0] in "LR"]
    position = first(sidecar, "00185101") or ""
    if not sides and position[:1] in ("L", "R") and position not in ("LM", "LMO"):
        return str(position[0])
    return sides[0] if sides else "other" if "X" in said else None


def of_marks(marks: Any, side: str | None, episode: Json | None) -> dict[str, list[str]]:
    """Return the facets of the marks of an image. ``marks`` is as in ImageDB."""
    marks = marks or {}
    readable = [mark for mark in marks.values() if isinstance(mark, dict) and is_box(mark)]
    if not readable:
        nothing = ["unknown" if marks else "none"]
        names = ("mark-feature", "conspicuity", "lesion-link", "grade", "lesion-status", "her2")
        return {"mark-count": [str(len(marks))], **dict.fromkeys(names, nothing)}
    features, conspicuity, links, grades, her2 = set(), set(), set(), set(), set()
    for mark in readable:
        features |= {name for flag, name in FLAGS.items() if mark.get(flag)} or {"unknown"}
        conspicuity.add(
            (mark.get("Conspicuity") or "unknown").lower().replace("not_recalled", "unrecalled").replace("_", "-")
        )
        linked = mark.get("LinkedNBSSLesionNumber")
        numbers = (
            set() if linked in (None, "", "UNLINKED") else {number.strip() for number in str(linked).split(",")}
        )
        lesions = (((episode or {}).get("LESION") or {}).get(side or "") or {}) if episode is not None else {}
        named = [number for number in lesions if number in numbers and isinstance(lesions[number], dict)]
        links.add("no-lesion" if not numbers else "linked" if named else "missing-lesion")
        for number in named or [None]:
            surgery, biopsy = (
                (((episode or {}).get(event) or {}).get(side or "") or {}).get(number) or {}
                for event in ("SURGERY", "BIOPSYWIDE")
            )
            grade = next(
                (
                    GRADES[one[key]]
                    for key in ("DiseaseGrade", "DcisGrade")
                    for one in (surgery, biopsy)
                    if one.get(key) in GRADES
                ),
                "unknown",
            )
            grades.add("unlinked" if episode is None else grade)
            status = {"RP": "positive", "RN": "negative", "RB": "borderline"}
            found = [
                one["HER2ReceptorStatus"] for one in (surgery, biopsy) if one.get("HER2ReceptorStatus") in status
            ]
            her2.add("unlinked" if episode is None else status[found[0]] if found else "unknown")
    return {
        "mark-count": [str(len(marks))],
        "mark-feature": sorted(features),
        "conspicuity": sorted(conspicuity),
        "lesion-link": sorted(links),
        "grade": sorted(grades),
        "her2": sorted(her2),
    }


def is_box(mark: Json) -> bool:
    try:
        return all(isinstance(int(mark[corner]), int) for corner in ("X1", "X2", "Y1", "Y2")) and "MarkID" in mark
    except (KeyError, ValueError, TypeError):
        return False


def of_breast(episode: Json | None, side: str | None) -> dict[str, list[str]]:
    """Return the opinions of one breast."""
    if episode is None or side not in ("L", "R"):
        nothing = ["unlinked" if episode is None else "unknown"]
        return {"side-opinion": nothing, "reading-opinion": nothing}
    key = {"L": "left_opinion", "R": "right_opinion"}[side]
    events = [
        episode[name] for name in ("SURGERY", "BIOPSYWIDE", "BIOPSYFINE") if isinstance(episode.get(name), dict)
    ]
    codes = {TEXTS.get(event.get(key), event.get(key)) for event in events}
    worst = next((name for code, name in OPINIONS.items() if code in codes), "none")
    found = {"side-opinion": [worst]}
    screening = episode.get("SCREENING")
    if isinstance(screening, dict) and isinstance(screening.get(side), dict):
        code = screening[side].get("Opinion")
        if code in READINGS:  # elsewhere it may be another screening's, or text
            found["reading-opinion"] = [READINGS[code]]
    return found


def second_opinion(root: Path, index: Index) -> Iterator[tuple[int, dict[str, list[str]]]]:
    """Yield the facets in the JSON of each image with a readable sidecar."""
    documents: dict[tuple[str, str], Json | None] = {}
    for row in range(len(index)):
        client = index.clients[int(index.client_of[row])].decode()
        study, image = index.on_disk(row)
        sidecar = loaded(root / "data" / client / study / f"{image}{index.sidecar_suffix(row)}")
        files = {
            "dcm": (root / "images" / client / study / f"{image}.dcm").is_file(),
            "json": index.files[1].access[row] != 0,
        }
        which = "pair" if all(files.values()) else "dcm-only" if files["dcm"] else "json-only"
        if sidecar is None:
            yield row, {"files": [which]}
            continue
        for kind in ("nbss", "imagedb"):
            if (client, kind) not in documents:
                names = (f"{kind}_{client}.json", f"{kind.upper()}_{client}.json")
                place = next(
                    (root / "data" / client / n for n in names if (root / "data" / client / n).exists()), root
                )
                documents[client, kind] = loaded(place)
        nbss, imagedb = documents[client, "nbss"], documents[client, "imagedb"]
        ordinal = int(index.study_episode[index.study_of[row]])
        episode = (nbss or {})[index.episodes.ids[ordinal].decode()] if ordinal >= 0 else None
        found = {"files": [which], **of_header(sidecar), **of_breast(episode, side_of(sidecar))}
        series = ((imagedb or {}).get("STUDIES") or {}).get(study) or {}
        listed = [images[image] for images in series.values() if isinstance(images, dict) and image in images]
        if len(listed) == 1 and (listed[0] is None or isinstance(listed[0], (dict, str))):
            found |= of_marks(listed[0] if isinstance(listed[0], dict) else None, side_of(sidecar), episode)
        if episode is not None:
            closed = {"Y": "yes", "N": "no"}.get(episode.get("EpisodeIsClosed"), "unknown")
            found["closed"] = [closed]
        yield row, found


@pytest.fixture(scope="module", params=["demo_database", "quirky_database"])
def database(request: pytest.FixtureRequest) -> tuple[Path, Index]:
    found = request.getfixturevalue(request.param)
    root = found.path if isinstance(found, Quirky) else found
    return root, refreshed(find_source(root))


def test_facets_say_what_the_json_says(database: tuple[Path, Index]) -> None:
    root, index = database
    cohorts, by_name = Cohorts(index), index.registry.by_name
    compared: dict[str, int] = {}
    for row, found in second_opinion(root, index):
        for name, values in found.items():
            labels = sorted(cohorts.label(by_name[name], code) for code in index.codes_of(name, row))
            assert labels == sorted(values), (name, index.image_path(row, 0))
            compared[name] = compared.get(name, 0) + 1
    assert all(compared[name] > len(index) / 2 for name in ("sop-class", "grade", "conspicuity", "files")), (
        compared
    )
    assert min(compared.values()) > len(index) / 10


def test_the_images_of_a_study_tell_whether_its_standard_views_are_complete(database: tuple[Path, Index]) -> None:
    _, index = database
    cohorts, by_name = Cohorts(index), index.registry.by_name

    def label(name: str, row: int) -> str:
        return cohorts.label(by_name[name], index.codes_of(name, row)[0])

    wanted = {("L", "CC"), ("L", "MLO"), ("R", "CC"), ("R", "MLO")}
    seen = set()
    for study in range(len(index.studies)):
        rows = range(int(index.study_rows[study]), int(index.study_rows[study + 1]))
        groups: dict[str, list[tuple[str, str]]] = {}
        for row in rows:
            groups.setdefault(label("intent", row), []).append((label("laterality", row), label("view", row)))
        whole = [views for views in groups.values() if wanted <= set(views)]
        expected = "complete-4" if any(len(views) == 4 for views in whole) else "extra" if whole else "incomplete"
        assert {label("standard-views", row) for row in rows} == {expected}
        seen.add(expected)
    assert seen == {"complete-4", "extra", "incomplete"}


def test_every_facet_with_one_value_per_image_counts_up_to_all_images(database: tuple[Path, Index]) -> None:
    _, index = database
    cohorts = Cohorts(index)
    for facet in FACETS:
        total = sum(count for _, count in cohorts.counts(EVERYTHING, facet))
        if facet.level == "file":
            continue
        assert total == len(index) if not facet.several else total >= len(index), facet.name
