from datetime import date, timedelta
from time import perf_counter

import pytest

from omidbfs.clinical.outcomes import (
    OUTCOMES,
    UNDEFINED_OUTCOMES,
    Outcome,
    Windows,
    client_status,
    episode_facts,
    lesion_grade,
    lesion_status,
    outcome,
    outcomes,
    post_op,
)
from omidbfs.database.records import OTHER, Episode, Event, Lesion, Pathology

START = date(2010, 1, 1)
DEFAULT = Windows()
SCREENING = Event("screening", "ON", "ON")
ASSESSMENT = Event("assessment", "ON", "ON")
BIOPSY = Event("biopsy_wide", "ON", "ON")


def episode(number: int, days: int | None, *events: Event, type: str = "R") -> Episode:
    day = None if days is None else START + timedelta(days)
    return Episode(str(number), events or None, type, opened_date=day, diagnosis_date=day)


def classify(*episodes: Episode, windows: Windows = DEFAULT) -> Outcome:
    """Return the outcome of the first one."""
    facts = [episode_facts(one) for one in episodes]
    return outcome(facts[0], facts, windows)


def surgery(opinion: str | None) -> Event:
    return Event("surgery", None, opinion)


NORMAL = episode(1, 0, SCREENING)
BENIGN = episode(1, 0, SCREENING, surgery("OB"))
NEXT = episode(2, 365, SCREENING)
CANCER = episode(3, 730, SCREENING, surgery("OM"))
INTERVAL = episode(4, 730, type="CI")


@pytest.mark.parametrize(
    ("status", "found"),
    [
        ("CI", INTERVAL),
        (None, episode(1, 0, surgery("OB"), type="CI")),
        ("CI", episode(1, 0, surgery("OM"), type="CI")),
        ("M", CANCER),
        ("B", BENIGN),
        ("NAB", episode(1, 0, ASSESSMENT, BIOPSY)),
        ("NA", episode(1, 0, ASSESSMENT)),
        ("N", NORMAL),
        (None, episode(1, 0)),
        (None, episode(1, 0, surgery("ON"))),
        (None, episode(1, 0, Event("assessment"))),
    ],
)
def test_the_status_of_an_episode(status: str | None, found: Episode) -> None:
    assert episode_facts(found).status == status


@pytest.mark.parametrize(
    ("windows", "code", "future"),
    [
        (Windows(), "N", None),
        (Windows(cancer_prior=24), "MP", "3"),
        (Windows(cancer_prior=23), "N", None),
        (Windows(normal_follow_up=11), "N", "2"),
        (Windows(normal_follow_up=12), "InvalidPrior", "3"),
        (Windows(normal_follow_up=24), "InvalidPrior", "3"),
        (Windows(ci_prior=24, cancer_prior=12), "InvalidPrior", "3"),
    ],
)
def test_windows_of_whole_years_include_their_last_day(windows: Windows, code: str, future: str | None) -> None:
    assert classify(NORMAL, NEXT, CANCER, windows=windows) == Outcome(code, future)


def test_the_last_episode_before_a_cancer_is_its_prior() -> None:
    assert classify(NEXT, NORMAL, CANCER) == Outcome("MP", "3")
    assert classify(NEXT, NORMAL, INTERVAL) == Outcome("CIP", "4")


def test_a_required_follow_up_has_to_exist() -> None:
    assert classify(NORMAL, windows=Windows(normal_follow_up=0)) == Outcome("NoSubsequentEpisode")
    assert classify(NORMAL, NEXT, windows=Windows(normal_follow_up=36)) == Outcome("InvalidFollowUp")
    assert classify(BENIGN, NEXT, windows=Windows(benign_follow_up=6)) == Outcome("B", "2")


def test_an_episode_without_date_leaves_no_order() -> None:
    undated = episode(9, None)
    assert classify(NORMAL, undated) == Outcome("DateError")
    assert post_op(episode_facts(NORMAL), [episode_facts(NORMAL), episode_facts(undated)]) is None


def test_where_omidb_raises_there_is_no_outcome() -> None:
    assert classify(episode(1, 0, surgery("ON"))) == Outcome(None)
    assert classify(NORMAL, NEXT, windows=Windows(ci_prior=10**12)) == Outcome(None)


def test_an_event_without_opinion_invalidates_the_episodes_before() -> None:
    assert classify(NORMAL, episode(2, 365, Event("clinical"))) == Outcome("InvalidEvents")
    assert classify(NORMAL, episode(2, 365), windows=Windows(normal_follow_up=0)) == Outcome("InvalidEvents", "2")


def test_post_op_is_after_surgery_or_an_interval_cancer() -> None:
    facts = [episode_facts(one) for one in (BENIGN, NEXT, INTERVAL)]
    assert [post_op(one, facts) for one in facts] == [False, True, True]


@pytest.mark.parametrize(
    ("status", "episodes"),
    [("N", []), ("N", [NORMAL]), ("B", [NORMAL, BENIGN]), ("M", [BENIGN, CANCER]), ("CI", [CANCER, INTERVAL])],
)
def test_the_worst_episode_makes_the_status_of_the_client(status: str, episodes: list[Episode]) -> None:
    assert client_status(episode_facts(one) for one in episodes) == status


@pytest.mark.parametrize(
    ("status", "grade", "procedures"),
    [
        (None, None, {}),
        (None, None, {"surgery": Pathology(disease_grade=OTHER)}),
        (None, None, {"assessment": Pathology(disease_grade="G1")}),
        ("invasive", "G1", {"biopsy_wide": Pathology(disease_grade="G1", dcis_grade="NDH")}),
        ("invasive", None, {"biopsy_wide": Pathology(malignancy_type="b")}),
        ("in-situ", "NDH", {"surgery": Pathology(dcis_grade="NDH")}),
        ("in-situ", None, {"biopsy_wide": Pathology(malignancy_type="a")}),
        (None, None, {"biopsy_wide": Pathology(malignancy_type="c")}),
    ],
)
def test_the_status_and_grade_of_a_lesion(
    status: str | None, grade: str | None, procedures: dict[str, Pathology]
) -> None:
    lesion = Lesion("L", "1", procedures=procedures)
    assert (lesion_status(lesion), lesion_grade(lesion)) == (status, grade)


def test_outcomes_and_reasons_share_no_name() -> None:
    assert not OUTCOMES.keys() & UNDEFINED_OUTCOMES.keys()


def test_the_time_is_near_linear_in_the_episodes() -> None:
    facts = [episode_facts(episode(n, n // 10, SCREENING)) for n in range(20_000)]
    start = perf_counter()
    found = outcomes(facts, Windows(36, 39, 36, 36))
    assert perf_counter() - start < 5  # 0.1 s; a sort for each episode would take minutes
    assert len(found) == len(facts)
