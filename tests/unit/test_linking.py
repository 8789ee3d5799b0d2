from collections.abc import Collection
from datetime import date, timedelta
from time import perf_counter

import pytest

from omidbfs.clinical.linking import StudyLink, all_links, match_studies, study_list_conflicts, unique_links
from omidbfs.database.problems import Problem, Reporter
from omidbfs.database.records import DbStudy, Episode, Event

DAY = [date(2012, 5, 1) + timedelta(number) for number in range(9)]
SCREENED = Episode("1", (Event("screening", dates=(DAY[1],)),))
TREATED = Episode("2", (Event("assessment", dates=(DAY[2],)), Event("surgery", dates=(DAY[3],))))


def study(number: int, day: int | None, episode: str | None = None) -> DbStudy:
    return DbStudy(f"1.{number}", None if day is None else DAY[day], episode, {})


def link(
    episodes: list[Episode],
    *studies: DbStudy,
    link_all: bool = False,
    in_data: Collection[str] | None = None,
) -> tuple[list[StudyLink], list[str]]:
    """Return the links in the order of ``studies``, and the kinds of problems."""
    problems: list[Problem] = []
    present = {study.id for study in studies} if in_data is None else in_data
    matches = match_studies(episodes, studies, Reporter("imagedb", problems))
    links = all_links(studies, matches) if link_all else unique_links(studies, matches, present)
    return [links[study.id] for study in studies], [problem.kind for problem in problems]


def test_the_episode_id_names_the_episode_and_the_date_its_event() -> None:
    assert link([SCREENED, TREATED], study(1, 3, "2")) == ([StudyLink("2", ("surgery",))], [])


def test_the_episode_id_goes_before_the_date() -> None:
    assert link([SCREENED, TREATED], study(1, 3, "1"))[0] == [StudyLink("1", ("screening",))]


@pytest.mark.parametrize(("wrong", "kind"), [(None, "episode-id-missing"), ("9", "episode-id-unknown")])
def test_without_a_valid_episode_id_the_date_finds_the_first_episode(wrong: str | None, kind: str) -> None:
    later = Episode("3", TREATED.events)
    assert link([SCREENED, TREATED, later], study(1, 2, wrong)) == ([StudyLink("2", ("assessment",))], [kind])
    assert link([SCREENED], study(1, 8, wrong)) == ([StudyLink(None)], [kind])


def test_a_study_without_date_is_not_linked() -> None:
    assert link([SCREENED], study(1, None, "1")) == ([StudyLink(None)], ["study-date-missing"])


def test_several_events_are_dropped_unless_all_are_asked_for() -> None:
    assert link([TREATED], study(1, 8, "2"))[0] == [StudyLink("2", ())]
    assert link([TREATED], study(1, 8, "2"), link_all=True)[0] == [StudyLink("2", ("assessment", "surgery"))]


def test_two_screenings_on_one_day_are_two_events() -> None:
    twice = Episode("1", (*(SCREENED.events or ()), *(SCREENED.events or ())))
    assert link([twice], study(1, 1, "1"), link_all=True)[0] == [StudyLink("1", ("screening", "screening"))]
    assert link([twice], study(1, 1, "1"))[0] == [StudyLink("1", ())]


def test_studies_of_one_day_lose_their_events() -> None:
    pair = study(1, 1, "1"), study(2, 1, "1")
    assert link([SCREENED], *pair)[0] == [StudyLink("1", ())] * 2
    assert link([SCREENED], *pair, link_all=True)[0] == [StudyLink("1", ("screening",))] * 2


def test_a_study_on_the_day_keeps_the_event_and_others_lose_it() -> None:
    links, _ = link([SCREENED], study(1, 5, "1"), study(2, 1, "1"), study(3, 6, "1"))
    assert [found.events for found in links] == [(), ("screening",), ()]


def test_a_study_that_lost_its_event_takes_it_from_no_other() -> None:
    # The first two have the same day, and lose their events before the third is compared.
    links, _ = link([SCREENED], study(1, 1, "1"), study(2, 1, "1"), study(3, 5, "1"))
    assert [found.events for found in links] == [(), (), ("screening",)]


@pytest.mark.parametrize("outside", ["1.2", "Thumbs"])
def test_a_study_outside_data_is_linked_but_takes_no_event_from_others(outside: str) -> None:
    other = DbStudy(outside, DAY[1], "1", {})
    links, _ = link([SCREENED], study(1, 1, "1"), other, in_data={"1.1", "Thumbs"})
    assert links == [StudyLink("1", ("screening",)), StudyLink("1", ())]


def test_a_study_that_study_list_puts_elsewhere_is_reported_and_stays_where_it_is() -> None:
    problems: list[Problem] = []
    links = {"1.1": StudyLink("1"), "1.2": StudyLink("2"), "1.3": StudyLink(None), "1.4": StudyLink("1")}
    episodes = [Episode("1", study_list=("1.2", "1.4")), Episode("2", study_list=("1.1", "1.2", "1.3", "9"))]
    study_list_conflicts(episodes, links, Reporter("imagedb", problems))
    assert [(problem.kind, problem.study, problem.detail) for problem in problems] == [
        ("study-list-conflict", "1.1", "study '1.1': in StudyList of episode '2', but linked to episode '1'"),
        ("study-list-conflict", "1.3", "study '1.3': in StudyList of episode '2', but not linked"),
    ]


def test_the_time_is_linear_in_the_studies() -> None:
    many = [DbStudy(f"1.{n}", DAY[1] + timedelta(n), "1", {}) for n in range(20_000)]
    start = perf_counter()
    link([SCREENED], *many)
    assert perf_counter() - start < 5  # 0.1 s; a comparison of all pairs would take minutes
