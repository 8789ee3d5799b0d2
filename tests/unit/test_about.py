"""The texts of a drive about itself."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from trees import MARK, Tree, build_index

from omidbfs import __version__
from omidbfs.clinical.outcomes import Windows
from omidbfs.database.layout import find_source
from omidbfs.database.problems import KINDS, Problem, problem_lines
from omidbfs.facets import FACETS
from omidbfs.index.classification import Classification
from omidbfs.index.columns import Index
from omidbfs.view.about import facet_counts, generated_texts, readme, renewed_status, status, status_text
from omidbfs.view.root import root_of

OPTIONS = Classification(Windows(ci_prior=36, benign_follow_up=0), link_all=True)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clients with three images. One image has no DICOM file, one has no sidecar."""
    tree = Tree(tmp_path_factory.mktemp("about"))
    study = tree.client("demd1").episode("1").study("1.1", "1").image("1", ViewPosition="CC", marks=MARK)
    study.image("2", dcm=None).client("demd2").study("2.1").image("3", has_sidecar=False, dcm=b"no DICOM")
    return tree.root


@pytest.fixture(scope="module")
def index(database: Path) -> Index:
    return build_index(find_source(database), OPTIONS)


def test_the_readme_names_every_facet_and_fits_a_screen() -> None:
    lines = readme(FACETS).splitlines()
    assert len(lines) < 50
    assert max(map(len, lines)) <= 120
    words = [word for line in lines for word in line.split()]
    for facet in FACETS:
        assert f"by-{facet.name}" in words


def test_the_status_says_what_is_served_and_how(index: Index) -> None:
    said = status(root_of(index), ("/db/images", "/db/data"), OPTIONS)
    assert {name: said[name] for name in ("clients", "studies", "images", "dcm_files", "json_files")} == {
        "clients": 2,
        "studies": 2,
        "images": 3,
        "dcm_files": 2,
        "json_files": 2,
    }
    assert (said["version"], said["pid"]) == (__version__, os.getpid())
    assert (said["images_directory"], said["data_directory"]) == ("/db/images", "/db/data")
    assert said["options"] == {
        "num_months_ci_prior": 36,
        "num_months_cancer_prior": None,
        "num_months_normal_follow_up": None,
        "num_months_benign_follow_up": 0,
        "link_all": True,
    }


def test_the_status_counts_the_problems_by_kind(index: Index) -> None:
    counts = status(root_of(index), (None, None), OPTIONS)["problems"]
    assert isinstance(counts, dict)
    assert sum(counts.values()) == len(index.problems) > 2
    assert counts["dcm-missing"] == counts["sidecar-missing"] == counts["bad-dicom"] == 1
    assert counts.keys() <= KINDS.keys()


def test_the_values_of_a_single_valued_facet_add_up_to_all_images(index: Index) -> None:
    said = facet_counts(root_of(index))
    assert list(said) == [facet.name for facet in FACETS]
    for facet in FACETS:
        entry = said[facet.name]
        assert isinstance(entry, dict)
        if "values" in entry and not facet.several and facet.level != "file":
            assert sum(entry["values"].values()) == len(index), facet.name
    assert said["client"]["count"] == said["study"]["count"] == 2  # type: ignore[index]
    assert said["file-type"]["values"] == {"dcm": 2, "json": 2}  # type: ignore[index]
    assert said["view"]["values"] == {"CC": 1, "unknown": 2}  # type: ignore[index]


def test_each_facet_comes_with_what_it_is_and_its_values_or_their_number(index: Index) -> None:
    said = facet_counts(root_of(index))
    for facet in FACETS:
        found = said[facet.name]
        assert isinstance(found, dict)
        assert (found["description"], found["level"], found["source"]) == (
            facet.description,
            facet.level,
            facet.source,
        )
        assert ("values" in found) != ("count" in found)
    assert said["client"]["count"] == said["study"]["count"] == said["episode"]["count"] == 2  # type: ignore[index]
    assert said["view"]["values"] == {"CC": 1, "unknown": 2}  # type: ignore[index]


def test_a_problem_is_a_line_of_json(index: Index) -> None:
    lines = generated_texts(root_of(index), (None, None), OPTIONS)["problems.jsonl"].splitlines()
    assert [Problem(**json.loads(line)) for line in lines] == list(index.problems)


@pytest.mark.parametrize("length", [1, 300_000, 3 << 20])
def test_problems_are_read_piece_by_piece(index: Index, length: int) -> None:
    problems = tuple(Problem(f"data/{number}", "bad-json", "x" * length) for number in range(7))
    much = replace(index, problem_lines=memoryview(problem_lines(problems)))
    assert tuple(much.each_problem()) == much.problems == problems
    assert much.problem_kinds() == {"bad-json": 7}


@pytest.mark.parametrize("length", [1, 300_000, 3 << 20])
def test_the_problems_of_a_client_are_those_that_name_it(index: Index, length: int) -> None:
    odd = '"client":"demd2"' + "x" * length
    names = ["", "demd1", "demd2", "demd1", 'demd"2', "demd22"]
    problems = [Problem(f"data/{number}", "bad-json", odd, name, "1.1") for number, name in enumerate(names)]
    much = replace(index, problem_lines=memoryview(problem_lines(problems)))
    for name in {*names, "demd"} - {""}:
        assert list(much.problems_of(name)) == [one for one in problems if one.client == name]


def test_a_status_is_renewed_without_counting_again(index: Index) -> None:
    state = {"refresh": {"state": "idle"}, "started": "today"}
    before = status_text(root_of(index), (None, None), OPTIONS, {"refresh": {"state": "failed"}})
    assert json.loads(before)["refresh"] == {"state": "failed"}
    assert renewed_status(before, state) == status_text(root_of(index), (None, None), OPTIONS, state)


def test_a_drive_adds_four_texts(index: Index, database: Path) -> None:
    texts = generated_texts(root_of(index), (str(database / "images"), None), OPTIONS)
    assert sorted(texts) == ["README.txt", "facets.json", "problems.jsonl", "status.json"]
    assert json.loads(texts["status.json"])["images_directory"] == str(database / "images")
    assert json.loads(texts["facets.json"]).keys() == {facet.name for facet in FACETS}
    assert len(texts["problems.jsonl"].splitlines()) == len(index.problems)
    assert all(text.endswith(b"\n") for text in texts.values())
