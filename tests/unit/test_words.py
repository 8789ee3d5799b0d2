"""Words for people: singular and plural, and suggestions for misspelt names."""

import time

import pytest

from omidbfs.base.words import closest, counted, did_you_mean, moment
from omidbfs.facets import FACETS

NAMES = {facet.name: facet.name for facet in FACETS}


@pytest.mark.parametrize(
    ("number", "what", "said"),
    [(0, "image", "0 images"), (1, "image", "1 image"), (2, "study", "2 studies"), (1, "study", "1 study")],
)
def test_things_are_counted_in_singular_and_plural(number: int, what: str, said: str) -> None:
    assert counted(number, what) == said


def test_numbers_have_the_form_that_is_asked_for() -> None:
    assert counted(1234, "DICOM file", ",") == "1,234 DICOM files"


def test_a_time_is_that_of_the_clock_with_its_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        with monkeypatch.context() as here:
            here.setenv("TZ", "BST-1")
            time.tzset()
            assert moment(1_764_261_599.9) == "2025-11-27 17:39 BST"
            here.setenv("TZ", "X")  # is no zone
            time.tzset()
            assert moment(1_764_261_599.9) == "2025-11-27 16:39 +0000"
    finally:
        time.tzset()


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        *(("vew", ["view"]), ("veiw", ["view"]), ("View", ["view"]), ("view_modifier", ["view-modifier"])),
        *(("klient", ["client"]), ("manufactuer", ["manufacturer"]), ("lateral", ["laterality"])),
        ("views", ["view", "standard-views"]),
        ("status", ["client-status", "episode-status", "lesion-status"]),
        ("opinion", ["side-opinion", "reading-opinion"]),
    ],
)
def test_a_name_is_close_by_case_by_its_parts_or_by_few_slips(word: str, meant: list[str]) -> None:
    assert closest(word, NAMES) == meant


@pytest.mark.parametrize("word", ["density", "intensity", "breast", "x", "", "-", "by", "agee-at-screening"])
def test_nothing_far_fetched_is_close(word: str) -> None:
    assert closest(word, NAMES) == []


def test_a_short_word_is_close_as_a_whole_part_only() -> None:
    grades = {f"grade-{number}": f"grade-{number}" for number in (1, 13, 2, 3)}
    assert closest("3", grades) == ["grade-3"]
    assert closest("gr", grades) == []


def test_close_names_make_a_question_and_none_makes_no_question() -> None:
    assert did_you_mean(["a", "b"]) == "did you mean a or b?"
    assert did_you_mean([]) == ""
