"""The deep check reads every DICOM header, also of images with a complete sidecar."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from trees import Quirky, build_index

from omidbfs.database.layout import find_source
from omidbfs.database.problems import Problem
from omidbfs.index.build import refreshed
from omidbfs.index.check import header_problems
from omidbfs.index.classification import Classification


@pytest.fixture
def database(demo_database: Path, tmp_path: Path) -> Path:
    """One client of the demo, to be damaged."""
    client = min(path.name for path in (demo_database / "data").iterdir())
    for tree in ("images", "data"):
        shutil.copytree(demo_database / tree / client, tmp_path / tree / client)
    return tmp_path


def images(database: Path) -> list[Path]:
    return sorted((database / "images").glob("*/*/*.dcm"))


def shallow_and_deep(database: Path) -> tuple[tuple[Problem, ...], list[Problem]]:
    source = find_source(database)
    index = build_index(source, Classification())
    return index.problems, list(header_problems(source, index, index.problems))


def test_a_clean_database_has_no_problem_at_any_depth(database: Path) -> None:
    assert shallow_and_deep(database) == ((), [])


@pytest.mark.parametrize("content", [b"no DICOM", b"\0" * 500])
def test_a_damaged_header_beside_a_good_sidecar_shows_in_the_deep_check_only(
    database: Path, content: bytes
) -> None:
    damaged = images(database)[0]
    damaged.write_bytes(content)
    shallow, deep = shallow_and_deep(database)
    assert shallow == ()
    assert [(problem.file, problem.kind) for problem in deep] == [
        (str(damaged.relative_to(database)), "bad-dicom")
    ]


def test_a_header_that_ends_inside_a_value_is_damaged(database: Path) -> None:
    damaged = images(database)[0]
    content = damaged.read_bytes()
    position = content.index(b"\x08\0\x70\0LO")  # Manufacturer
    damaged.write_bytes(content[: position + 10])
    assert [problem.kind for problem in shallow_and_deep(database)[1]] == ["bad-dicom"]


def test_a_sidecar_that_contradicts_its_dicom_file_shows_in_the_deep_check_only(database: Path) -> None:
    first, second, third = images(database)[:3]
    sidecars = [
        (database / "data" / dcm.relative_to(database / "images")).with_suffix(".json")
        for dcm in (first, second, third)
    ]
    changed = json.loads(sidecars[0].read_bytes())
    changed["00200062"]["Value"] = [{"L": "R", "R": "L"}[changed["00200062"]["Value"][0]]]
    changed["00081090"]["Value"] = [f" {changed['00081090']['Value'][0].lower()}"]  # the same but for its case
    changed["00185101"]["Value"] = [f"{changed['00200062']['Value'][0]}{changed['00185101']['Value'][0]}"]
    del changed["00101010"]
    sidecars[0].write_text(json.dumps(changed))
    exchanged = second.read_bytes(), third.read_bytes()
    second.write_bytes(exchanged[1])
    third.write_bytes(exchanged[0])
    shallow, deep = shallow_and_deep(database)
    assert [problem.kind for problem in shallow] == []
    kinds = {(Path(problem.file).name, problem.kind) for problem in deep}
    assert {(first.name, "header-mismatch")} == {one for one in kinds if one[0] == first.name}
    assert {(second.name, "image-mismatch"), (third.name, "image-mismatch")} <= kinds
    (detail,) = [problem.detail for problem in deep if problem.file.endswith(first.name)]
    assert re.fullmatch(r"laterality is '[LR]' in the JSON and '[LR]' in the DICOM file", detail)


def test_a_known_problem_is_not_reported_twice(database: Path) -> None:
    empty, described = images(database)[:2]
    empty.write_bytes(b"")
    described.write_bytes(b"no DICOM")
    (database / "data" / described.relative_to(database / "images")).with_suffix(".json").unlink()
    shallow, deep = shallow_and_deep(database)
    assert [problem.kind for problem in shallow].count("bad-dicom") == 2
    assert deep == []


def test_a_sidecar_without_image_is_no_header(database: Path) -> None:
    images(database)[0].unlink()
    assert shallow_and_deep(database)[1] == []


def test_a_file_that_vanishes_or_changes_while_it_is_checked_is_a_problem(database: Path) -> None:
    source = find_source(database)
    index = build_index(source, Classification())
    gone, fifo = images(database)[:2]
    gone.unlink()
    fifo.unlink()
    os.mkfifo(fifo)
    details = [problem.detail for problem in header_problems(source, index, ())]
    assert details == ["No such file or directory", "not a regular file"]


def test_the_deep_quirks_are_found_and_nothing_else(quirky_database: Quirky) -> None:
    shallow, deep = shallow_and_deep(quirky_database.path)
    planted = {(problem.file, problem.kind) for problem in quirky_database.problems}
    assert {(problem.file, problem.kind) for problem in (*shallow, *deep)} == planted
    assert deep


def test_a_problem_names_the_client_study_and_image_that_it_is_about(quirky_database: Quirky) -> None:
    index = refreshed(find_source(quirky_database.path))
    for problem in index.problems:
        names = problem.file.split("/")[1:]
        about = [problem.client, problem.study, problem.image]
        if problem.kind == "unexpected-entry":  # has no client
            assert about == [*names[:-1], "", "", ""][:3], problem
        elif len(names) == 3:
            assert about == [*names[:2], re.sub(r"(\.dcm)?\.json$|\.dcm$", "", names[2])] or (
                problem.kind == "duplicate-file" and about[:2] == names[:2]
            ), problem
        else:
            assert problem.client == names[0], problem
    by_image = {(problem.kind, bool(problem.study), bool(problem.image)) for problem in index.problems}
    of_documents = {
        ("study-not-on-disk", True, False),
        ("image-not-on-disk", True, True),
        ("bad-mark", True, True),
    }
    assert by_image >= of_documents | {("nbss-missing", False, False), ("episode-id-unknown", True, False)}
