from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omidbfs.database.imagedb import MARK_FEATURES, parse_imagedb
from omidbfs.database.problems import Problem, Reporter
from omidbfs.database.records import OTHER, DbImage, DbStudy, ImageDb, Mark

BOX: dict[str, object] = {"MarkID": 1, "X1": "10", "Y1": 20, "X2": "30", "Y2": 40.0}


def read(document: object) -> tuple[ImageDb, list[str]]:
    problems: list[Problem] = []
    imagedb = parse_imagedb(document, Reporter("imagedb", problems))
    return imagedb, [problem.kind for problem in problems]


def read_study(**values: object) -> tuple[DbStudy, list[str]]:
    imagedb, kinds = read({"STUDIES": {"1.2": values}})
    return imagedb.studies["1.2"], kinds


def read_image(value: object) -> tuple[DbImage, list[str]]:
    study, kinds = read_study(**{"1.2.3": {"1.2.3.4": value}})
    return study.series["1.2.3"]["1.2.3.4"], kinds


def read_mark(**values: object) -> tuple[Mark, list[str]]:
    image, kinds = read_image({"1": {**BOX, **values}})
    return image.marks[0], kinds


def test_a_study_has_a_date_an_episode_and_series_of_images() -> None:
    document = {
        "ClientID": "demd1",
        "Site": "stge",
        "STUDIES": {"1.2": {"StudyDate": "2012-05-01", "EpisodeID": "9994", "1.3": {"1.4": None, "1.5": ""}}},
    }
    series = {"1.3": {"1.4": DbImage(), "1.5": DbImage()}}
    study = DbStudy("1.2", date(2012, 5, 1), "9994", series)
    assert read(document) == (ImageDb("demd1", "stge", {"1.2": study}), [])


@pytest.mark.parametrize("nothing", [None, "", {}])
def test_a_study_or_image_without_a_value_is_there(nothing: object) -> None:
    assert read({"STUDIES": {"1.2": nothing}}) == read({"STUDIES": {"1.2": {}}})
    assert read_image(nothing) == (DbImage(), [])


def test_only_uids_name_series_and_images() -> None:
    study, kinds = read_study(notes={"1.3": None}, **{"1.2.3": {"": "", "1.4": None, "x": {}, "x.1": None}})
    assert study.series == {"1.2.3": {"1.4": DbImage()}}
    assert kinds == ["odd-value", "odd-value"]


@pytest.mark.parametrize("value", [9994, 0, True, ["9994"]])
def test_only_text_names_an_episode(value: object) -> None:
    study, kinds = read_study(EpisodeID=value)
    assert (study.episode_id, kinds) == (None, ["odd-value"])


def test_a_mark_has_a_box_and_the_features_that_are_set() -> None:
    mark, kinds = read_mark(Mass="Mass", Skin=1, Vascular=0, FatNecrosis="", Conspicuity="Very_subtle")
    assert mark == Mark("1", 10, 20, 30, 40, None, "very_subtle", features=frozenset({"Mass", "Skin"}))
    assert kinds == []
    assert len(MARK_FEATURES) == 13


@pytest.mark.parametrize(
    ("value", "numbers"),
    [
        *(("1", {"1"}), ("1, 02", {"1", "2"}), ("UNLINKED", None), (None, None), ("", None), ([], None)),
        *((1, {"1"}), (1.0, {"1"}), ([1, "2"], {"1", "2"}), (["1,2", 3.0], {"1", "2", "3"})),
    ],
)
def test_the_lesions_of_a_mark_are_numbers_however_they_are_written(value: object, numbers: object) -> None:
    mark, kinds = read_mark(LinkedNBSSLesionNumber=value)
    assert (mark.lesion_numbers, kinds) == (numbers, [])


@pytest.mark.parametrize("value", ["1,", "one", True, 1.5, float("nan"), 10**400, {}, [None], [[1]], ["1", True]])
def test_what_is_no_lesion_number_is_odd_and_links_to_none(value: object) -> None:
    mark, kinds = read_mark(LinkedNBSSLesionNumber=value)
    assert (mark.lesion_numbers, kinds) == (None, ["odd-value"])


def test_names_may_be_numbers() -> None:
    assert read({"ClientID": 5, "Site": 12.0}) == (ImageDb("5", "12", {}), [])
    assert read({"Site": True}) == (ImageDb(None, None, {}), ["odd-value"])


def test_a_classification_outside_its_table_is_other() -> None:
    mark, kinds = read_mark(MassClassification="fluffy")
    assert (mark.mass_classification, kinds) == (OTHER, ["unknown-code"])


@pytest.mark.parametrize(
    "mark", [None, 5, "x", [], {}, {**BOX, "X1": None}, {**BOX, "Y2": "1.5"}, {**BOX, "X2": float("inf")}]
)
def test_a_mark_without_id_or_box_is_left_out_counted_and_reported(mark: object) -> None:
    image, kinds = read_image({"1": BOX, "2": mark})
    assert (len(image.marks), image.unread_marks, kinds) == (1, 1, ["bad-mark"])


@pytest.mark.parametrize("document", [None, [], "x", 5, {"STUDIES": 5}, {"STUDIES": []}])
def test_a_document_of_another_type_is_odd_and_empty(document: object) -> None:
    assert read(document) == (ImageDb(None, None, {}), ["odd-value"])


names = st.sampled_from(["1", "1.2", "1.2\n", "x", "", "MarkID", "X1", "Y1", "X2", "Y2", "StudyDate", "EpisodeID"])
json_values: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(names, children, max_size=5),
    max_leaves=10,
)


@given(json_values | st.fixed_dictionaries({"STUDIES": json_values, "Site": json_values}))
def test_no_json_value_anywhere_raises(document: object) -> None:
    problems: list[Problem] = []
    parse_imagedb(document, Reporter("imagedb", problems))
    assert all(problem.detail.isprintable() for problem in problems)
