"""``omidbfs describe`` explains an image, also if some of its files are missing."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from trees import MARK, PIXELS, Client, Quirky, Tree

from omidbfs.cli.main import main

Run = Callable[..., Result]


def words(text: str) -> list[str]:
    """Return the lines of a text with one blank between the words of each."""
    return [" ".join(line.split()) for line in text.splitlines()]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return lambda *arguments: CliRunner().invoke(main, [str(one) for one in arguments], prog_name="omidbfs")


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Tree(tmp_path / "db").client("demd1")


@pytest.fixture
def described(run: Run, tmp_path: Path) -> Callable[..., list[Any]]:
    """A function that describes an image of the database of a test, at each place where it is."""

    def describe(image: str, *options: object) -> list[Any]:
        result = run("describe", tmp_path / "db", image, "--json", *options)
        assert (result.exit_code, result.stderr) == (0, "")
        found: list[Any] = json.loads(result.stdout)
        return found

    return describe


@pytest.mark.parametrize(
    ("episodes", "options", "outcome", "future", "why"),
    [
        ([("1", "M")], (), "M", None, "by itself: a malignant opinion after surgery or biopsy"),
        ([("1", "CI")], (), "CI", None, "by itself: its type is interval-case, with no biopsy or surgery"),
        ([("1", "N")], (), "N", None, "by itself: no assessment, biopsy or surgery; no cancer follows"),
        ([("1", "NA")], (), "NA", None, "by itself: assessment, and no biopsy or surgery; no cancer"),
        ([("1", "B")], (), "B", None, "by itself: a benign opinion after surgery or biopsy"),
        ([("1", "")], (), "InvalidEvents", None, "it has no events"),
        (
            [("1", "N"), ("2", "M", "2014-05-01")],
            (),
            "MP",
            "2",
            "episode 2 (status malignant) follows 730 days later; no window",
        ),
        (
            [("1", "N"), ("2", "CI", "2014-05-01")],
            (),
            "CIP",
            "2",
            "episode 2 (an interval cancer) follows 730 days",
        ),
        (
            [("1", "N"), ("2", "M", "2014-05-01")],
            ("--num-months-cancer-prior", "36"),
            "MP",
            "2",
            "730 days later; the window is 36 months",
        ),
        (
            [("1", "N"), ("2", "M", "2014-05-01")],
            ("--num-months-cancer-prior", "12", "--num-months-ci-prior", "36"),
            "InvalidPrior",
            "2",
            "episode 2 (status malignant), a cancer, follows 730 days later: outside the window for its priors",
        ),
        (
            [("1", "N"), ("2", "N", "2014-05-01")],
            ("--num-months-normal-follow-up", "12"),
            "N",
            "2",
            "episode 2 (status normal) without cancer follows 730 days later, after 12 months",
        ),
        ([("1", "N")], ("--num-months-normal-follow-up", "12"), "NoSubsequentEpisode", None, "no episode follows"),
        (
            [("1", "N"), ("2", "", "2014-05-01")],
            ("--num-months-normal-follow-up", "12"),
            "InvalidEvents",
            "2",
            "episode 2 (status undefined) 730 days later decides, but its events are invalid",
        ),
    ],
)
def test_an_outcome_comes_with_the_rule_and_the_episode_that_decided(
    client: Client,
    described: Callable[..., list[Any]],
    episodes: list[tuple[str, ...]],
    options: tuple[str, ...],
    outcome: str,
    future: str | None,
    why: str,
) -> None:
    for episode in episodes:
        client.episode(*episode)
    client.study("1.1", "1").image("1.1.1")
    (found,) = described("1.1.1", *options)
    assert found["episode"]["future_episode"] == future
    assert why in found["episode"]["why"]
    name = {
        "M": "malignant", "CI": "interval-cancer", "N": "normal", "NA": "normal-assessed", "B": "benign",
        "MP": "malignant-prior", "CIP": "interval-cancer-prior",
    }.get(outcome, "undefined")  # fmt: skip
    reason = {"InvalidEvents": "invalid-events", "InvalidPrior": "invalid-prior"}.get(outcome)
    if outcome == "NoSubsequentEpisode":
        reason = "no-subsequent-episode"
    assert (found["episode"]["outcome"], found["episode"]["undefined_outcome"]) == (name, reason)
    assert found["facets"]["outcome"]["values"] == [name]


def test_an_image_comes_with_its_files_events_and_every_facet(
    client: Client, described: Callable[..., list[Any]]
) -> None:
    client.episode("1", "M").study("1.1", "1").image("1.1.1", ViewPosition="MLO", ImageLaterality="L")
    (found,) = described("1.1.1")
    assert (found["client"], found["study"], found["image"], found["study_date"]) == (
        "demd1",
        "1.1",
        "1.1.1",
        "2012-05-01",
    )
    dcm, sidecar = found["files"]
    assert dcm["path"] == "images/demd1/1.1/1.1.1.dcm"
    assert dcm["size"] == (client.images / "1.1/1.1.1.dcm").stat().st_size
    assert sidecar["present"]
    events = {event["name"]: event for event in found["episode"]["events"]}
    assert events["surgery"]["left_opinion"] == "malignant"
    assert events["screening"]["dates"] == ["2012-05-01"]
    view = found["facets"]["view"]
    assert view["values"] == ["MLO"]
    assert view["raw"] == {"ViewPosition (0018,5101)": "MLO"}
    assert found["facets"]["year"]["raw"] == {"ActualEpisodeOpenedYear": "2012"}
    assert found["facets"]["site"]["raw"] == {"Site": "stge"}
    assert found["facets"]["classification"]["raw"] == {"Classification": "N"}
    assert found["facets"]["implant"]["raw"] == {}
    assert found["facets"]["episode"]["values"] == ["demd1~1"]


def test_values_have_the_names_that_the_drive_gives_them(run: Run, quirky_database: Quirky) -> None:
    """In every part of the output, an odd code keeps its own name, as in tables."""
    names = run("ls", quirky_database.path, "by-marked/yes").stdout.splitlines()
    of_image = {
        "features": "mark-feature",
        "conspicuity": "conspicuity",
        "mass_classification": "mass-classification",
        "benign_classification": "benign-classification",
    }
    of_lesion = {"description": "lesion-description", "status": "lesion-status", "grade": "grade"}
    told = []
    for name in names[::6]:
        for found in json.loads(run("describe", quirky_database.path, name, "--json").stdout):
            values = {facet: set(one["values"]) for facet, one in found["facets"].items()}
            if found["episode"]:
                told += [(found["episode"][kind], values[f"episode-{kind}"]) for kind in ("type", "status")]
            for mark in found["marks"]:
                for key, facet in of_image.items():
                    said = mark[key] if isinstance(mark[key], list) else [mark[key]]
                    told += [(one, values[facet]) for one in said if one is not None]
                for lesion in mark["lesions"]:
                    told += [(lesion[key], values[facet]) for key, facet in of_lesion.items() if lesion[key]]
    assert len(told) > 40
    assert [pair for pair in told if pair[0] not in pair[1]] == []


def test_the_facets_are_those_by_which_the_image_is_found(run: Run, demo_database: Path) -> None:
    names = run("ls", demo_database, "by-marked/yes/by-outcome/malignant").stdout.splitlines()
    image = names[0].rpartition(".")[0]
    (found,) = json.loads(run("describe", demo_database, image, "--json").stdout)
    path = "/".join(f"by-{name}/{value}" for name, facet in found["facets"].items() for value in facet["values"])
    assert set(run("ls", demo_database, path).stdout.splitlines()) == {f"{image}.dcm", f"{image}.json"}


def test_marks_come_with_the_lesions_of_their_number_and_side(
    client: Client, described: Callable[..., list[Any]]
) -> None:
    lesions = {"L": {"1": {"LesionDescription": "CA"}}, "R": {"1": {"LesionDescription": "DI"}}}
    client.episode("1", "M", LESION=lesions)
    mark = {**MARK["1"], "LinkedNBSSLesionNumber": "1", "Conspicuity": "Subtle", "Mass": 1}
    client.study("1.1", "1").image(
        "1.1.1", ImageLaterality="L", marks={"1": mark, **{"2": {**MARK["1"], "MarkID": 2}}}
    )
    (found,) = described("1.1.1")
    first, second = found["marks"]
    assert first["box"] == [10, 10, 20, 20]
    assert (first["features"], first["conspicuity"]) == (["mass"], "subtle")
    (lesion,) = first["lesions"]
    assert (lesion["side"], lesion["number"], lesion["description"]) == ("L", "1", "calcification-only")
    assert (second["lesion_numbers"], second["lesions"]) == (None, [])


def test_problems_are_those_that_concern_the_image(client: Client, described: Callable[..., list[Any]]) -> None:
    client.study("1.1", "9").image("1", has_sidecar=False, dcm=b"none").image("2").study("1.2", "8").image("3")
    (found,) = described("1")
    assert {problem["kind"] for problem in found["problems"]} >= {
        "sidecar-missing",
        "bad-dicom",
        "episode-id-unknown",
    }
    assert not [problem for problem in found["problems"] if "1.2" in problem["detail"]]
    assert [file["present"] for file in found["files"]] == [True, False]
    assert {problem["kind"] for problem in described("2")[0]["problems"]} == {"episode-id-unknown"}


def test_a_uid_that_occurs_twice_is_explained_at_each_place(
    client: Client, described: Callable[..., list[Any]]
) -> None:
    client.study("1.1").image("7").study("1.2").image("7")
    for name in ("7", "7.dcm", "by-view/unknown/7~demd1~1.1.json"):
        assert [found["study"] for found in described(name)] == ["1.1", "1.2"]


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("1.2.826.0.2", "; did you mean 1.2.826.0.1?"),
        ("1.2.826", "; did you mean 1.2.826.0.1?"),
        ("9.9.9.9.9.9.9", "; `omidbfs ls SOURCE by-client` lists the clients"),
        ("x", "; `omidbfs ls SOURCE by-client` lists the clients"),
        ("", "; `omidbfs ls SOURCE by-client` lists the clients"),
    ],
)
def test_an_unknown_uid_is_one_line(run: Run, client: Client, typed: str, hint: str) -> None:
    client.study("1.1").image("1.2.826.0.1")
    result = run("describe", client.tree.root, typed)
    assert result.exit_code == 1
    assert result.stderr == f"omidbfs: {typed}: no image, study or client has this name{hint}\n"


def test_what_the_index_knows_is_told_without_the_source(
    run: Run, client: Client, described: Callable[..., list[Any]]
) -> None:
    client.episode("1", "N").episode("2", "M", "2014-05-01")
    client.study("1.1", "1").image("1.1.1", ViewPosition="CC", marks=MARK)
    (before,) = described("1.1.1")
    for tree in (client.tree.images, client.tree.data):
        shutil.rmtree(tree / "demd1")
    (after,) = described("1.1.1")
    assert (before["source_read"], after["source_read"]) == (True, False)
    assert after["episode"]["why"] == before["episode"]["why"]
    assert after["episode"]["events"] is None
    assert {name: facet["values"] for name, facet in after["facets"].items()} == {
        name: facet["values"] for name, facet in before["facets"].items()
    }
    assert after["marks"][0]["box"] == before["marks"][0]["box"]
    text = run("describe", client.tree.root, "1.1.1").stdout
    assert "source is away, or the image is gone from it: what follows is what the index knows" in words(text)


def test_a_facet_of_the_user_comes_with_its_raw_value(
    run: Run, client: Client, described: Callable[..., list[Any]], tmp_path: Path
) -> None:
    header = {"00180060": {"vr": "DS", "Value": [29]}}
    client.episode("1", "N", their={"own": "a b"}).study("1.1", "1").image("1.1.1", header=header)
    definitions = (
        'kvp]\ntag = "KVP"',
        'number]\ntag = "00180060"',
        'kind]\nnbss = "EpisodeType"',
        'own]\nnbss = "their.own"',
    )
    (tmp_path / "omidbfs.toml").write_text("".join(f"[facets.{one}\n" for one in definitions))
    (found,) = described("1.1.1")
    assert found["facets"]["kvp"]["values"] == ["29"]
    assert found["facets"]["kvp"]["raw"] == {"KVP (0018,0060)": 29}
    assert found["facets"]["number"]["raw"] == {"(0018,0060)": 29}
    assert found["facets"]["kind"]["raw"] == {"EpisodeType": "R"}
    assert found["facets"]["own"]["raw"] == {"their.own": "a b"}


def test_every_image_of_a_quirky_database_is_explained_in_lines(run: Run, quirky_database: Quirky) -> None:
    names = run("ls", quirky_database.path, "all").stdout.splitlines()
    images = sorted({name.removesuffix(".json").removesuffix(".dcm") for name in names})
    assert len(images) > 20
    for image in images[::4]:
        result = run("describe", quirky_database.path, image)
        assert result.exit_code == 0, result.stderr
        assert all(line.isprintable() for line in result.stdout.splitlines())
        assert result.stdout.startswith("image    ")
        assert "\nby-her2 " in result.stdout


def test_the_renditions_of_an_image_and_why_it_lacks_one(run: Run, client: Client, described: Any) -> None:
    study = client.study().image("1", **PIXELS).image("2", NumberOfFrames=3, **PIXELS)
    study.image("3", dcm=None, **PIXELS).image("4")
    Path("omidbfs.toml").write_text('[renditions.small]\nformat = "png"\nsize = 64\n')
    assert described("1.png")[0]["renditions"] == {
        "png": {"size": 8492, "why_not": None},
        "png16": {"size": 16812, "why_not": None},
        "tiff": {"size": 16904, "why_not": None},
        "npy": {"size": 16768, "why_not": None},
        "small": {"size": 64 * 50 + 68, "why_not": None},
    }
    reasons = [
        {one["why_not"] for one in described(image)[0]["renditions"].values()} for image in ("2.dcm", "3", "4.npy")
    ]
    assert reasons == [{"it has several frames", None}, {"it has no DICOM file"}, {"Rows is unknown"}]
    text = run("describe", "db", "as-png/all/2.png").stdout
    assert "as-png none: it has several frames" in words(text)
    assert "as-tiff 50,696 bytes" in words(text)


def test_a_path_that_has_no_rendition_is_explained(run: Run, client: Client) -> None:
    client.study().image("1", **PIXELS)
    assert run("ls", "db", "as-png16/all").stdout == "1.png\n"
    assert run("ls", "-R", "db", "as-png/by-laterality").stdout == "as-png/by-laterality/unknown/1.png\n"
    assert run("count", "db", "as-png/by-client/demd1").exit_code == 0
    for path, said in {
        "as-pgn": "there is no as-pgn; did you mean as-png?",
        "as-png-9000": "there is no as-png-9000; the numbers of a size are 16 to 8192, without leading zeros\n",
        "as-png16-10x10": "there is no as-png16-10x10; the numbers of a size are 16 to 8192, without leading",
        "as-png16-512-crop": "there is no as-png16-512-crop; -crop needs rows and columns, as in as-png16-",
        "as-png-crop": "there is no as-png-crop; -crop needs rows and columns, as in as-png-1024x768-crop",
        "as-npy-512": "there is no as-npy-512; only as-png and as-png16 take a size; [renditions] can",
        "as-png-0512x512": "there is no as-png-0512x512; the numbers of a size are 16 to 8192, without",
        "as-zzzzzzzz": "there is no as-zzzzzzzz; there are as-png, as-png16, as-tiff, as-npy, and sizes such as",
        "as-png/as-npy": "there is no as-npy below as-png; a path has one rendition",
    }.items():
        result = run("ls", "db", path)
        assert result.exit_code == 1
        assert said in result.stderr
