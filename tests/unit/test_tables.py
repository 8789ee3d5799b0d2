"""Each number in the tables of a cohort is what pandas and omidb find in the JSON of the source."""

import io
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import omidb
import pandas
import pyarrow.parquet
import pytest
from click.testing import CliRunner
from omidb import classificationtools
from trees import Quirky, Tree, build_index

from omidbfs.cli.main import main
from omidbfs.cohorts.cohort import EVERYTHING
from omidbfs.database.file_kinds import DCM
from omidbfs.database.layout import find_source
from omidbfs.exports import fields
from omidbfs.exports.fields import column_name
from omidbfs.exports.formats import FORMATS
from omidbfs.exports.paths import below, on_the_drive
from omidbfs.facets import Level
from omidbfs.index.classification import Classification
from omidbfs.view.ownership import drive_access
from omidbfs.view.view import View

Json = dict[str, Any]


def view_of(place: Path) -> View:
    source = find_source(place)
    return View(build_index(source, Classification()), drive_access(source), {})


@pytest.fixture(scope="module")
def view(demo_database: Path) -> View:
    return view_of(demo_database)


def content(view: View, path: str, name: str) -> bytes:
    """Return a format of a cohort, as the drive and the command write it."""
    directory = view.resolve(path.encode())
    made = FORMATS[name].content
    assert directory is not None
    assert made is not None
    return b"".join(made(view.selection(directory)))  # type: ignore[arg-type]


def table(view: View, path: str, name: str) -> pandas.DataFrame:
    """Return a CSV file of a cohort; all cells are texts, empty for none."""
    return pandas.read_csv(io.BytesIO(content(view, path, name)), dtype=str, keep_default_na=False)


# The source, as raw JSON


def sidecars(place: Path) -> dict[str, Json]:
    return {path.stem: json.loads(path.read_bytes()) for path in place.glob("data/*/*/*.json")}


def value(dataset: Json, tag: str, number: int = 0) -> Any:
    values = dataset.get(tag, {}).get("Value") or []
    return values[number] if number < len(values) else None


def cell(text: object) -> str:
    return "" if text is None else str(text)


# Images


def test_the_table_of_images_has_what_the_json_of_each_image_says(view: View, demo_database: Path) -> None:
    found, raw = table(view, "all", "csv").set_index("image"), sidecars(demo_database)
    assert set(found.index) == set(raw)
    for image, row in found.iterrows():
        dataset = raw[str(image)]
        assert row["series_uid"] == cell(value(dataset, "0020000E")) != ""
        assert row["sop_class_uid"] == cell(value(dataset, "00080016")) != ""
        assert (row["rows"], row["columns"]) == (
            cell(value(dataset, "00280010")),
            cell(value(dataset, "00280011")),
        )
        factor = value(dataset, "00181114")
        for number, name in enumerate(("row_spacing", "column_spacing")):
            spacing = value(dataset, "00181164", number)
            assert row[f"imager_{name}"] == cell(spacing)
            assert row[name] == ("" if spacing is None or not factor else repr(spacing / factor))


def test_both_tables_of_images_have_the_same_values(view: View) -> None:
    texts = table(view, "by-view/MLO", "csv").to_dict("records")
    typed = pyarrow.parquet.read_table(io.BytesIO(content(view, "by-view/MLO", "parquet"))).to_pylist()
    assert len(texts) == len(typed) > 0
    for row, other in zip(texts, typed, strict=True):
        for name, text in row.items():
            found = other[name]
            if name != "boxes":
                assert text == ("|".join(found) if isinstance(found, list) else cell(found)), name


def test_the_future_episode_is_the_one_that_omidb_names(view: View, demo_database: Path) -> None:
    futures = {}
    for client in omidb.DB(demo_database / "data", demo_database / "images"):
        for episode in client.episodes:
            try:
                futures[client.id, episode.id] = classificationtools.episode_outcome(episode, client.episodes)[1]
            except ValueError:
                futures[client.id, episode.id] = None
    found = table(view, "all", "csv")
    for _, row in found.iterrows():
        assert row["future_episode"] == cell(futures.get((row["client"], row["episode"])))
    assert any(found["future_episode"])


def test_a_value_that_is_no_uid_or_no_size_is_harmless(tmp_path: Path) -> None:
    header = {
        "00080016": {"vr": "UI", "Value": ["1.2.3"]},
        "0020000E": {"vr": "UI", "Value": ['=1,\n"x"']},
        "00181164": {"vr": "DS", "Value": [0.07, 0.05]},
    }
    Tree(tmp_path).client().study().image("1.1.1", header=header).image("1.1.2", header={})
    view = view_of(tmp_path)
    for row in (
        [{key: text or None for key, text in row.items()} for row in table(view, "all", "csv").to_dict("records")],
        pyarrow.parquet.read_table(io.BytesIO(content(view, "all", "parquet"))).to_pylist(),
    ):
        assert row[0]["series_uid"] == "%3D1%2C%0A%22x%22"
        assert row[0]["sop_class_uid"] is row[0]["row_spacing"] is row[1]["series_uid"] is None
        assert (float(row[0]["imager_row_spacing"]), float(row[0]["imager_column_spacing"])) == (0.07, 0.05)
        assert row[1]["imager_row_spacing"] is None


# Clients, studies and episodes


def naive(place: Path) -> pandas.DataFrame:
    """Return a row for each image, from ImageDB, NBSS, the sidecars and omidb."""
    rows = []
    outcomes = {}
    screenings = set()
    for client in omidb.DB(place / "data", place / "images"):
        for episode in client.episodes:
            try:
                found = classificationtools.episode_outcome(episode, client.episodes)[0].name
            except ValueError:
                found = None
            outcomes[client.id, episode.id] = found
            for study in episode.studies:
                if any(event.name == "screening" for event in study.event_type):
                    screenings.add(study.id)
    raw = sidecars(place)
    for path in sorted(place.glob("data/*/imagedb_*.json")):
        imagedb = json.loads(path.read_bytes())
        client = imagedb["ClientID"]
        for study, content in imagedb["STUDIES"].items():
            for series in content.values():
                for image, marks in series.items() if isinstance(series, dict) else ():
                    dataset = raw[image]
                    age = value(dataset, "00101010")
                    rows.append(
                        {
                            "client": client,
                            "episode": content["EpisodeID"],
                            "study": study,
                            "image": image,
                            "date": content["StudyDate"],
                            "age": int(age.strip("Y")) if age else None,
                            "marks": len(marks or {}),
                            "code": outcomes.get((client, content["EpisodeID"])),
                            "screening": study in screenings,
                            "side": value(dataset, "00200062") or value(dataset, "00200060"),
                            "view": value(dataset, "00185101"),
                            "intent": value(dataset, "00080068"),
                        }
                    )
    return pandas.DataFrame(rows)


@pytest.fixture(scope="module")
def source(demo_database: Path) -> pandas.DataFrame:
    return naive(demo_database)


COHORTS = {
    "all": lambda rows: rows["image"] != "",
    "by-outcome/malignant": lambda rows: rows["code"] == "M",
    "by-outcome/M,CI/by-intent/presentation": lambda rows: (
        rows["code"].isin(["M", "CI"]) & (rows["intent"] == "FOR PRESENTATION")
    ),
    "by-outcome/M/by-outcome/N": lambda rows: rows["image"] == "",
}


@pytest.mark.parametrize("path", COHORTS)
def test_each_client_study_and_episode_has_what_pandas_finds(
    view: View, source: pandas.DataFrame, demo_database: Path, path: str
) -> None:
    rows = source[COHORTS[path](source)]
    linked = rows[rows["episode"].fillna("") != ""]
    for name, keys, of in (
        ("clients", ["client"], rows),
        ("studies", ["study"], rows),
        ("episodes", ["client", "episode"], linked),
    ):
        found = table(view, path, name).set_index(keys)
        groups = of.groupby(keys)
        assert found.index.is_unique
        assert set(found.index) == set(groups.size().index)
        for key, group in groups:
            row = found.loc[key if len(keys) > 1 else key[0]]
            assert (row["images"], row["marks"]) == (str(len(group)), str(group["marks"].sum()))
            assert row["youngest_age"] == cell(age_of(group["age"].min()))
            assert row["oldest_age"] == cell(age_of(group["age"].max()))
            if name == "studies":
                assert row["study_date"] == group["date"].iloc[0]
                assert row["client"] == group["client"].iloc[0]
            else:
                assert row["studies"] == str(group["study"].nunique())
                assert row["first_study_date"] == group["date"].min()
                assert row["last_study_date"] == group["date"].max()
        if name == "clients":
            for client, row in found.iterrows():
                nbss = json.loads((demo_database / f"data/{client}/nbss_{client}.json").read_bytes())
                assert row["nbss_episodes"] == str(sum(isinstance(each, dict) for each in nbss.values()))
                assert row["episodes"] == str(linked[linked["client"] == client]["episode"].nunique())
        if name == "episodes":
            for (client, episode), row in found.iterrows():
                nbss = json.loads((demo_database / f"data/{client}/nbss_{client}.json").read_bytes())[episode]
                assert row["episode_opened"] == (nbss["EpisodeOpenedDate"] or "")
                assert row["episode_closed"] == (nbss["EpisodeClosedDate"] or "")
                lesions = nbss.get("LESION", {})
                assert row["lesions"] == str(sum(len(lesions.get(side, {})) for side in "LR"))


@pytest.mark.parametrize("path", COHORTS)
def test_each_client_study_and_episode_has_the_facets_of_its_images(view: View, path: str) -> None:
    images = table(view, path, "csv")
    for name, keys, compared in (
        ("clients", ["client"], 5),
        ("studies", ["study"], 15),
        ("episodes", EPISODE, 10),
    ):
        found = table(view, path, name).set_index(keys)
        shared = [column for column in found.columns if column in facets_of(view) and column in images.columns]
        assert len(shared) >= compared
        for key, group in (
            images[images["episode"] != ""].groupby(keys) if name == "episodes" else images.groupby(keys)
        ):
            row = found.loc[key if len(keys) > 1 else key[0]]
            for column in shared:
                assert {*group[column]} == {row[column]}, column


EPISODE = ["client", "episode"]


def facets_of(view: View) -> set[str]:
    return {
        column_name(facet)
        for facet in view.index.registry.facets
        if facet.name not in ("client", "episode", "study")
    }


def age_of(age: float) -> int | None:
    return None if pandas.isna(age) else int(age)


@pytest.mark.parametrize("path", COHORTS)
def test_summary_and_manifest_count_what_pandas_counts(
    view: View, source: pandas.DataFrame, demo_database: Path, path: str
) -> None:
    rows = source[COHORTS[path](source)]
    files = [
        demo_database / tree / f"{row.client}/{row.study}/{row.image}{suffix}"
        for row in rows.itertuples()
        for tree, suffix in (("images", ".dcm"), ("data", ".json"))
    ]
    counts = {
        "clients": rows["client"].nunique(),
        "episodes": len(rows[rows["episode"].fillna("") != ""].drop_duplicates(["client", "episode"])),
        "studies": rows["study"].nunique(),
        "images": len(rows),
        "marks": rows["marks"].sum(),
    }
    summary, manifest = (json.loads(content(view, path, name)) for name in ("summary", "manifest"))
    assert {name: summary[name] for name in counts} == manifest["counts"] == counts
    of_files = {"dcm": len(rows), "json": len(rows)}
    size = sum(file.stat().st_size for file in files)
    assert (summary["files"], summary["bytes"]) == (of_files, size)
    assert {name: manifest["files"][name] for name in ("dcm", "json", "bytes")} == {**of_files, "bytes": size}
    assert summary["facets"]["laterality"] == rows.groupby("side").size().to_dict()


# Pairs


@pytest.mark.parametrize("path", COHORTS)
def test_the_pairs_are_those_that_pandas_finds(view: View, source: pandas.DataFrame, path: str) -> None:
    rows = source[COHORTS[path](source)]
    intents = set(rows["intent"])
    screened = source[source["screening"] & source["episode"].notna()]
    wanted = {}
    for (client, episode), group in rows[rows["episode"].fillna("") != ""].groupby(["client", "episode"]):
        ranked = group.sort_values(["screening", "date", "study"], ascending=[False, True, True])
        current = ranked.iloc[0]
        earlier = screened[
            (screened["client"] == client)
            & (screened["episode"] != episode)
            & (screened["date"] < current["date"])
        ]
        studies = earlier.drop_duplicates("study").sort_values("date", ascending=False)
        for number, (_, prior) in enumerate(studies.iterrows(), 1):
            images = {}
            for name, of, among in (
                ("current", current["study"], rows),
                ("prior", prior["study"], source[source["intent"].isin(intents)]),
            ):
                for side in "LR":
                    for view_ in ("CC", "MLO"):
                        each = among[(among["study"] == of) & (among["side"] == side) & (among["view"] == view_)]
                        paths = sorted(f"all/{image}.dcm" for image in each["image"])
                        images[f"{name}_{side.lower()}_{view_.lower()}"] = "|".join(paths)
            days = (pandas.Timestamp(current["date"]) - pandas.Timestamp(prior["date"])).days
            wanted[client, episode, prior["study"]] = {
                "prior_number": str(number),
                "prior_episode": prior["episode"],
                "current_study": current["study"],
                "current_date": current["date"],
                "prior_date": prior["date"],
                "days_between": str(days),
                **images,
            }
    found = table(view, path, "pairs").set_index(["client", "current_episode", "prior_study"])
    assert found.index.is_unique
    assert {key: {name: row[name] for name in wanted[key]} for key, row in found.iterrows()} == wanted
    assert bool(len(found)) == (path != "by-outcome/M/by-outcome/N")
    labels = {"N": "normal", "M": "malignant", "MP": "malignant-prior", "CI": "interval-cancer"}
    of_episode = {(row["client"], row["episode"]): row["code"] for _, row in source.iterrows()}
    for (client, episode, _), row in found.iterrows():
        for name, number in (("current", episode), ("prior", row["prior_episode"])):
            code = of_episode[client, number]
            if code in labels:
                assert row[f"{name}_outcome"] == labels[code]


def test_a_prior_needs_a_date_an_episode_of_its_own_and_a_screening(tmp_path: Path) -> None:
    client = Tree(tmp_path).client("demd1")
    for number, day in (("1", "2010-01-01"), ("2", "2012-01-01"), ("3", "2014-01-01")):
        client.episode(number, day=day)
    client.episode("4", "CI", "2013-01-01", SCREENING=None)
    client.study("1.1", "1", "2010-01-01").image("1.1.1")
    client.study("2.1", "2", "2012-01-01").image("2.1.1")
    client.study("2.2", "2", None).image("2.2.1")
    client.study("4.1", "4", "2013-01-01").image("4.1.1")
    client.study("3.1", "3", "2014-01-01").image("3.1.1")
    client.study("9.1", None, "2011-01-01").image("9.1.1")
    Tree.client(client.tree, "demd2").episode("1", day="2010-01-01").study("5.1", "1", "2010-01-01").image("5.1.1")
    found = table(view_of(tmp_path), "all", "pairs")
    assert [tuple(row) for row in found[["current_study", "prior_number", "prior_study"]].to_numpy()] == [
        ("2.1", "1", "1.1"),
        ("3.1", "1", "2.1"),
        ("3.1", "2", "1.1"),
        ("4.1", "1", "2.1"),
        ("4.1", "2", "1.1"),
    ]


# Marks


OF_MARK = {
    "conspicuity": omidb.mark.Conspicuity,
    "mass_classification": omidb.mark.MassClassification,
    "benign_classification": omidb.mark.BenignClassification,
}
RECEPTORS = {
    "oestrogen_receptor": "HormoneERStatus",
    "progesterone_receptor": "HormonePRStatus",
    "her2": "HER2ReceptorStatus",
}
OPINIONS = {
    "assessment_opinion": "ASSESSMENT",
    "clinical_opinion": "CLINICAL",
    "biopsy_wide_opinion": "BIOPSYWIDE",
    "biopsy_fine_opinion": "BIOPSYFINE",
    "surgery_opinion": "SURGERY",
}


def test_each_mark_has_its_box_and_its_lesion_as_in_the_json(view: View, demo_database: Path) -> None:
    found = {(row["image"], row["mark"]): row for row in table(view, "all", "marks").to_dict("records")}
    raw, count, sized = sidecars(demo_database), 0, 0
    positive = {"RP": "positive", "RN": "negative", "RB": "borderline", "RU": "unknown", None: "unknown"}
    for path in demo_database.glob("data/*/imagedb_*.json"):
        imagedb = json.loads(path.read_bytes())
        nbss = json.loads(path.with_name(path.name.replace("imagedb", "nbss")).read_bytes())
        for study in imagedb["STUDIES"].values():
            for series in study.values():
                for image, marks in series.items() if isinstance(series, dict) else ():
                    for mark in (marks or {}).values():
                        count += 1
                        row = found[image, str(mark["MarkID"])]
                        corners = [row[name] for name in ("x1", "y1", "x2", "y2")]
                        assert corners == [str(mark[name]) for name in ("X1", "Y1", "X2", "Y2")]
                        side = value(raw[image], "00200062") or value(raw[image], "00200060")
                        assert (row["laterality"], row["view"]) == (side, value(raw[image], "00185101"))
                        for column, kind in OF_MARK.items():
                            said = mark.get(kind.__name__)
                            name = "" if said is None else kind(said).name.replace("_", "-")
                            assert row[column] == name.replace("not-", "un")  # not- is a complement on the drive
                        others = {
                            *(kind.__name__ for kind in OF_MARK.values()),
                            "MarkID",
                            "LinkedNBSSLesionNumber",
                            "Width",
                            "Height",
                        }
                        flags = {key for key in mark if key not in others and key[:1] not in "XY"}
                        wanted = {re.sub("(?<=[a-z])(?=[A-Z])", "-", flag).lower() for flag in flags}
                        assert {*filter(None, row["features"].split("|"))} == wanted
                        number = str(mark.get("LinkedNBSSLesionNumber"))
                        episode = nbss.get(study["EpisodeID"], {})
                        lesion = episode.get("LESION", {}).get(side, {}).get(number)
                        if lesion is None:
                            assert row["linked_lesions"] == row["grade"] == row["lesion_size"] == ""
                            continue
                        assert row["lesions"] == row["linked_lesions"] == number
                        assert row["lesion_position"] == lesion["LesionPosition"]
                        surgery, wide = (
                            episode.get(event, {}).get(side, {}).get(number, {})
                            for event in ("SURGERY", "BIOPSYWIDE")
                        )
                        size = surgery.get("WholeSizeOfTumour")
                        sized += size is not None
                        assert row["lesion_size"] == ("" if size is None else str(float(size)))
                        for column, key in RECEPTORS.items():
                            of_lesion = [one[key] for one in (surgery, wide) if one.get(key, "RU") != "RU"]
                            assert row[column] == positive[of_lesion[0] if of_lesion else None]
                        for column, event in OPINIONS.items():
                            opinion = episode.get(event, {}).get(side, {}).get(number, {}).get("Opinion")
                            assert f"{row[column]}-".startswith(f"{opinion.lower()}-" if opinion else "unknown-")
                        malignancy = surgery.get("MalignancyType")
                        if malignancy in ("a", "b"):
                            assert row["lesion_status"] == {"a": "in-situ", "b": "invasive"}[malignancy]
                        described = {"CA": "calcification-only", "MA": "mass"}.get(lesion["LesionDescription"])
                        assert described in (None, row["lesion_description"])
                        grade = surgery.get("DiseaseGrade") or wide.get("DiseaseGrade")
                        if grade in ("G1", "G2", "G3"):
                            assert row["grade"] == f"grade-{grade[1]}"
    assert len(found) == count > 50
    assert sized > 0


def test_a_mark_of_several_lesions_has_the_values_of_each(tmp_path: Path) -> None:
    lesions = {
        "L": {"1": {"LesionDescription": "MA", "LesionPosition": "LA1"}, "2": {"LesionDescription": "CA"}},
        "R": {"1": {"LesionDescription": "CY"}},
    }
    surgery = {"L": {"1": {"WholeSizeOfTumour": "12.5", "Opinion": "H5"}, "2": {"WholeSizeOfTumour": "large"}}}
    mark = {"MarkID": 7, "X1": "1", "Y1": "2", "X2": "3", "Y2": "4", "LinkedNBSSLesionNumber": "2,1,9"}
    client = Tree(tmp_path).client().episode("1", "M", LESION=lesions, SURGERY=surgery | {"left_opinion": "OM"})
    client.study("1.1", "1").image("1.1.1", marks={"7": mark}, ImageLaterality="L")
    view = view_of(tmp_path)
    (row,) = table(view, "all", "marks").to_dict("records")
    (typed,) = pyarrow.parquet.read_table(io.BytesIO(content(view, "all", "marks-parquet"))).to_pylist()
    assert (row["lesions"], row["linked_lesions"], row["lesion_size"]) == ("1|2|9", "1|2", "12.5|")
    assert (typed["linked_lesions"], typed["lesion_size"]) == (["1", "2"], [12.5, None])
    assert row["lesion_description"] == "mass|calcification-only"
    assert typed["surgery_opinion"] == ["h5-hist-malignant", "unknown"]
    assert typed["lesion_position"] == ["LA1", "unknown"]
    assert [problem.kind for problem in view.index.problems if "WholeSize" in problem.detail] == ["odd-value"]


# All tables


TABLES = ("pairs", "clients", "studies", "episodes", "marks")


@pytest.mark.parametrize("name", TABLES)
def test_csv_and_parquet_of_a_table_agree_and_are_typed(view: View, name: str) -> None:
    for path in COHORTS:
        texts = table(view, path, name)
        typed = pyarrow.parquet.read_table(io.BytesIO(content(view, path, f"{name}-parquet")))
        typed.validate(full=True)
        assert list(texts.columns) == typed.column_names
        assert all(re.fullmatch("[a-z][a-z0-9_]*", column) for column in texts.columns)
        for row, other in zip(texts.to_dict("records"), typed.to_pylist(), strict=True):
            for column, text in row.items():
                found = other[column]
                assert text == ("|".join(map(cell, found)) if isinstance(found, list) else cell(found)), column
    for field in typed.schema:
        if field.name.endswith(("_date", "_opened", "_closed")):
            assert field.type == pyarrow.date32()
        if field.name in ("images", "marks", "days_between", "prior_number", "x1", "rows", "youngest_age"):
            assert field.type == pyarrow.int32()
    assert content(view, "by-outcome/M/by-outcome/N", name).count(b"\n") == 1, "an empty cohort has the header"


@pytest.mark.parametrize("name", TABLES)
def test_the_same_cohort_gives_the_same_bytes_in_any_size_of_page(
    view: View, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = [content(view, path, name) for path in COHORTS]
    monkeypatch.setattr(fields, "PAGE", 7)
    assert [content(view, path, name) for path in COHORTS] == whole


@pytest.mark.parametrize("name", TABLES)
def test_the_columns_of_a_table_are_documented(view: View, name: str) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "exports.md").read_text(encoding="utf-8")
    part = page.split(f"\n## {name}\n", 1)[1].split("\n## ", 1)[0]
    documented = [
        column
        for line in re.findall(r"^\| (`.*?) \|", part, re.M)
        for column in re.findall(r"`([a-z0-9_]+)`", line)
    ]
    levels = {"clients": ("client",), "episodes": ("client", "episode"), "studies": ("client", "episode", "study")}
    facets = {
        column_name(facet) for facet in view.index.registry.facets if facet.level.value in levels.get(name, ())
    } - {"client", "episode", "study"}
    header = content(view, "all", name).split(b"\n")[0].decode().split(",")
    assert documented == [column for column in header if column not in facets]
    assert set(header) - set(documented) == facets


def test_every_quirk_is_in_the_tables(quirky_database: Quirky) -> None:
    view = view_of(quirky_database.path)
    levels = dict(zip(("clients", "studies", "episodes"), (Level.CLIENT, Level.STUDY, Level.EPISODE), strict=True))
    for name in TABLES:
        found = table(view, "all", name)
        typed = pyarrow.parquet.read_table(io.BytesIO(content(view, "all", f"{name}-parquet")))
        assert len(found) == typed.num_rows
        if name in levels:
            assert len(found) == view.cohorts.count(EVERYTHING, levels[name])
        if name == "marks":
            assert len(found) == len(view.index.marks)


def test_a_mark_is_linked_in_the_table_as_in_the_facet(quirky_database: Quirky, demo_database: Path) -> None:
    for place in (quirky_database.path, demo_database):
        view = view_of(place)
        found = table(view, "all", "marks")
        linked = found[found["linked_lesions"] != ""]
        rows = table(view, "by-lesion-link/linked", "csv")
        assert set(linked["image"]) == set(rows["image"])
        for facet in ("lesion_status", "grade", "lesion_description", "her2"):
            of_image = rows.set_index(["image", "study"])[facet].to_dict()
            for _, row in linked.iterrows():
                assert set(row[facet].split("|")) <= set(of_image[row["image"], row["study"]].split("|"))


@pytest.mark.parametrize(
    ("arguments", "start", "said"),
    [
        (("-o", "my-pairs.csv"), b"client,current_episode", "my-pairs.csv: "),
        (("-o", "clients.parquet"), b"PAR1", "clients.parquet: 25 clients"),
        (("--format", "studies", "-o", "x.parquet"), b"PAR1", "x.parquet: "),
        (("-o", "remarks.csv"), b"client,episode,study,image", "remarks.csv: "),
    ],
)
def test_the_name_of_the_file_chooses_the_table(
    demo_database: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    start: bytes,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["export", str(demo_database), "--index", "i", *arguments])
    assert done.exit_code == 0, done.output
    assert said in done.stderr
    assert Path(arguments[-1]).read_bytes().startswith(start)


# Absolute paths


def exported(arguments: list[object]) -> str:
    done = CliRunner().invoke(main, ["export", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_absolute_paths_in_the_source_are_those_of_files(demo_database: Path, tmp_path: Path) -> None:
    options = [demo_database, "by-view/CC", "--index", tmp_path / "i", "--absolute", "source"]
    paths = exported([*options, "--format", "paths"]).splitlines()
    assert all(path.startswith(f"{os.path.realpath(demo_database)}/") and os.path.isfile(path) for path in paths)
    found = pandas.read_csv(io.StringIO(exported([*options, "--format", "csv"])), dtype=str)
    assert sorted([*found["dcm"], *found["json"]]) == sorted(paths)
    for _, row in found.iterrows():
        assert Path(row["dcm"]).stem == Path(row["json"]).stem == row["image"]


def test_a_path_in_the_source_is_one_line_and_a_cell(tmp_path: Path) -> None:
    place = tmp_path / 'a,"b'
    Tree(place).client().study("1.1").image("1.1\n,2")
    options = [place, "--index", tmp_path / "i", "--absolute", "source", "--format"]
    wanted = f"{place}/images/demd1/1.1/1.1\\n,2.dcm"
    assert exported([*options, "paths"]).splitlines()[0] == wanted
    assert pandas.read_csv(io.StringIO(exported([*options, "csv"])))["dcm"][0] == wanted


def test_absolute_paths_on_a_drive_are_below_its_mount_point(view: View) -> None:
    rows = np.arange(0, len(view.index), 7, dtype=np.uint32)
    relative = on_the_drive(view.index, DCM, rows)
    for mountpoint in ("/mnt/drive", "/mnt/drive/"):
        assert below(mountpoint)(view.index, DCM, rows) == [b"/mnt/drive/" + path for path in relative]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("--format", "coco", "--absolute", "source"),
            "--absolute goes with --format csv, parquet, pairs, marks or",
        ),
        (("--as", "png", "--absolute", "source", "-o", "x"), "--absolute goes with --format csv"),
        (("--format", "csv", "--absolute", "drive"), "--absolute drive needs a mounted drive as SOURCE"),
    ],
)
def test_absolute_paths_are_refused_where_there_are_none(
    demo_database: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = CliRunner().invoke(main, ["export", str(demo_database), *arguments])
    assert done.exit_code == 2
    assert said in done.output
