from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omidbfs.clinical.outcomes import Windows, client_status, episode_facts, lesion_grade, lesion_status, outcomes
from omidbfs.database.codes import EPISODE_TYPES, EVENTS, LESION_POSITIONS
from omidbfs.database.nbss import parse_nbss
from omidbfs.database.problems import Problem, Reporter
from omidbfs.database.records import OTHER, Episode, Event, Lesion, Nbss, Pathology


def read(document: object) -> tuple[Nbss, list[str]]:
    """Return the record and the kinds of problems."""
    problems: list[Problem] = []
    nbss = parse_nbss(document, Reporter("nbss", problems))
    return nbss, [problem.kind for problem in problems]


def read_episode(**values: object) -> tuple[Episode, list[str]]:
    nbss, kinds = read({"1": values})
    return nbss.episodes[0], kinds


def test_every_object_is_an_episode_and_scalars_are_not() -> None:
    nbss, kinds = read({"ClientID": "optm1", "Classification": "CI", "7": {}, "Notes": "x", "9": {}})
    assert (nbss.client_id, nbss.classification) == ("optm1", "CI")
    assert [episode.id for episode in nbss.episodes] == ["7", "9"]
    assert kinds == []


@pytest.mark.parametrize(("code", "text"), EPISODE_TYPES.items())
def test_a_code_is_taken_as_code_and_as_text(code: str, text: str) -> None:
    assert read_episode(EpisodeType=code) == read_episode(EpisodeType=text)
    assert read_episode(EpisodeType=text)[0].type == code


@pytest.mark.parametrize("nothing", [None, "", "Data anonymised"])
def test_null_empty_and_anonymised_are_absent_and_no_problem(nothing: object) -> None:
    keys = ("EpisodeType", "EpisodeOpenedDate", "ActualEpisodeOpenedYear", "SCREENING", "SURGERY", "LESION")
    assert read({"ClientID": nothing, "1": dict.fromkeys(keys, nothing), "2": nothing}) == read({"1": {}})
    assert read({"1": dict.fromkeys(keys, nothing)})[1] == []


def test_a_code_outside_its_table_is_other_and_an_opinion_outside_it_is_none() -> None:
    assert read_episode(EpisodeType="Z")[0].type == OTHER
    assert read_episode(EpisodeType="Z")[1] == ["unknown-code"]
    episode, kinds = read_episode(SURGERY={"left_opinion": "OZ", "right_opinion": "Benign"})
    assert episode.events == (Event("surgery", None, "OB"),)
    assert kinds == ["unknown-code"]


@pytest.mark.parametrize("text", ["2012-05-01", "20120501", "2012-5-1", 20120501, 20120501.0])
def test_dates_are_read_as_omidb_reads_them_and_may_be_numbers(text: object) -> None:
    assert read_episode(EpisodeOpenedDate=text)[0].opened_date == date(2012, 5, 1)


@pytest.mark.parametrize(
    "value", ["2012-W01-1", "2012-13-01", "1 May", " 2012-05-01", 20121301, 2012.5, True, 0, [], {}]
)
def test_what_is_no_date_is_odd_and_absent(value: object) -> None:
    assert read_episode(EpisodeOpenedDate=value) == (Episode("1"), ["odd-value"])


@pytest.mark.parametrize(("value", "year"), [("2012", 2012), (2012, 2012), (" 2012 ", 2012), (2012.0, 2012)])
def test_years_are_numbers_or_text(value: object, year: int) -> None:
    assert read_episode(ActualEpisodeOpenedYear=value)[0].actual_opened_year == year


@pytest.mark.parametrize("value", ["soon", -1, 10**400, float("nan"), float("inf"), [], "9" * 5000])
def test_what_is_no_year_is_odd_and_absent(value: object) -> None:
    assert read_episode(ActualEpisodeOpenedYear=value) == (Episode("1"), ["odd-value"])


@pytest.mark.parametrize("value", ["1.2,1.3", " 1.2 , 1.3,", ["1.2", "1.3"], ["1.2,1.3"]])
def test_the_studies_of_an_episode_are_text_with_commas_or_a_list(value: object) -> None:
    assert read_episode(StudyList=value) == (Episode("1", study_list=("1.2", "1.3")), [])


@pytest.mark.parametrize(("value", "studies"), [(5, ()), ({}, ()), ([None, "1.2"], ("1.2",))])
def test_what_lists_no_studies_is_odd(value: object, studies: tuple[str, ...]) -> None:
    assert read_episode(StudyList=value) == (Episode("1", study_list=studies), ["odd-value"])


def test_an_ethnic_group_may_be_a_number() -> None:
    assert read({"Ethnicity": 7})[0].ethnicity == "7"


def test_an_empty_event_exists() -> None:
    assert read_episode(ASSESSMENT={})[0].events == (Event("assessment"),)
    assert read_episode(ASSESSMENT=None)[0].events is None


def test_events_come_in_the_order_of_omidb_with_one_entry_per_screening() -> None:
    other = {"1": {"L": {"DateTaken": "20120502"}}, "2": {}}
    keys: dict[str, object] = {key: {} for key in reversed(EVENTS.values())}
    events = read_episode(**keys, OTHERSCREENING=other)[0].events
    assert events is not None
    assert [event.name for event in events] == ["screening", "screening", *EVENTS]
    assert events[1].dates == (date(2012, 5, 2),)


def test_other_screenings_count_only_beside_a_screening() -> None:
    assert read_episode(OTHERSCREENING={"1": {}})[0].events is None


def test_the_dates_of_an_event_are_distinct_and_in_file_order() -> None:
    side = {"1": {"DatePerformed": "20120503"}, "2": {"DatePerformed": "20120501"}}
    events = read_episode(SURGERY={"dateperformed": "20120502", "R": side, "L": side})[0].events
    assert events is not None
    assert [day.day for day in events[0].dates] == [3, 1, 2]


def test_one_lesion_number_may_occur_on_both_sides() -> None:
    lesions = read_episode(
        LESION={
            "L": {"1": {"LesionDescription": "Mass", "CystAspirated": "Y"}},
            "R": {"1": {"LesionPosition": "RA1"}},
        },
        SURGERY={"L": {"1": {"DiseaseGrade": "II", "HormoneERStatus": "RP", "HER2ReceptorStatus": "RB"}}},
        INTERVALCANCER={"R": {"1": {"DatePerformed": "20120501"}, "unlisted": {}}},
    )[0].lesions
    surgery = Pathology(disease_grade="G2", hormone_er_status="RP", her2_receptor_status="RB")
    assert lesions == (
        Lesion("L", "1", "MA", None, True, {"surgery": surgery}),
        Lesion("R", "1", None, "RA1", False, {"interval_cancer": Pathology(date=date(2012, 5, 1))}),
    )


def test_a_position_may_be_the_number_of_its_code() -> None:
    lesions = read_episode(LESION={"L": {"1": {"LesionPosition": 3}}})[0].lesions
    assert lesions[0].position == [*LESION_POSITIONS][2]


def test_components_are_split_by_blanks() -> None:
    lesion = read_episode(LESION={"L": {"1": {}}}, SURGERY={"L": {"1": {"InvasiveComponents": "IDC Lobular Q"}}})
    assert lesion[0].lesions[0].procedures["surgery"].invasive_components == ("IDC", "ILC", OTHER)
    assert lesion[1] == ["unknown-code"]


@pytest.mark.parametrize("document", [None, [], [{"1": {}}], "x", 5, True])
def test_a_document_of_another_type_is_odd_and_empty(document: object) -> None:
    assert read(document) == (Nbss(None, None, ()), ["odd-value"])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["OM", "20120501"]),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(st.sampled_from(["L", "R", "1", "DatePerformed", "DiseaseGrade"]), children, max_size=3)
    ),
    max_leaves=8,
)
KEYS = [*EVENTS.values(), "OTHERSCREENING", "INTERVALCANCER", "LESION", "EpisodeType", "ActualEpisodeOpenedYear"]


@given(json_values | st.dictionaries(st.text(), st.dictionaries(st.sampled_from(KEYS), json_values), max_size=3))
def test_no_json_value_anywhere_raises(document: object) -> None:
    problems: list[Problem] = []
    nbss = parse_nbss(document, Reporter("nbss", problems))
    facts = [episode_facts(episode) for episode in nbss.episodes]
    outcomes(facts, Windows(36, 39, 12, 12))
    client_status(facts)
    for episode in nbss.episodes:
        for lesion in episode.lesions:
            lesion_status(lesion)
            lesion_grade(lesion)
    assert all(problem.detail.isprintable() for problem in problems)
