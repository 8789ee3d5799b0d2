"""Path components as sets of rows. All ways to select a cohort agree."""

import tracemalloc
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trees import Tree, build_index

from omidbfs.cohorts import cohort
from omidbfs.cohorts.cohort import EVERYTHING, IMAGES, Cohort, Cohorts, Term
from omidbfs.cohorts.remembered import Remembered
from omidbfs.database.file_kinds import DCM, JSON
from omidbfs.database.layout import find_source
from omidbfs.database.permissions import Access
from omidbfs.facets import BY_NAME, FACETS, Kind, Level
from omidbfs.index.classification import Classification
from omidbfs.view import xattrs
from omidbfs.view.images import CohortDirectory
from omidbfs.view.view import View

VIEWS = ("CC", "MLO", "ML", None)
MODELS = ("Selenia Dimensions", "selenia-dimensions", "Inspiration", "a,b", "not-Inspiration")


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory: pytest.TempPathFactory) -> Cohorts:
    """The cohorts of three clients: 36 images of all views and models, ages 48 to 59, some files missing."""
    tree = Tree(tmp_path_factory.mktemp("cohort"))
    for nth in range(3):
        client = tree.client(f"demd{nth}", site=("stge", "adde", None)[nth])
        for number, kind in enumerate(("N", "M", "CI")):
            client.episode(str(number), kind, f"201{number}-05-01")
            study = client.study(f"{nth}.{number}", str(number), f"201{number}-05-01")
            for image in range(4):
                view = VIEWS[image]
                study.image(
                    f"{nth}.{number}.{image}",
                    dcm=None if image == nth else b"",
                    has_sidecar=image != 3 or nth == 1,
                    PatientAge=f"0{48 + 4 * nth + image}Y",
                    ManufacturerModelName=MODELS[(nth + image) % 5],
                    ViewModifiers=("R-102D6", "R-102D7")[: image % 3],
                    **({"ViewPosition": view} if view else {}),
                )
    source = find_source(tree.root)
    return Cohorts(build_index(source, Classification()))


def labels(cohorts: Cohorts, facet: str, component: str) -> tuple[bool, set[str]] | None:
    """Return whether a component is negated and which values it names, ``None`` if it names none."""
    term = cohorts.term(BY_NAME[facet], component)
    if term is None:
        return None
    assert term.facet == facet
    return term.negated, {cohorts.label(BY_NAME[facet], code) for code in term.codes}


@pytest.mark.parametrize(
    ("facet", "component", "negated", "names"),
    [
        ("view", "CC", False, {"CC"}),
        ("view", "CC,MLO", False, {"CC", "MLO"}),
        ("view", "CC,CC", False, {"CC"}),
        ("view", "not-CC", True, {"CC"}),
        ("view", "not-CC,MLO", True, {"CC", "MLO"}),
        ("view", "unknown", False, {"unknown"}),
        ("view", "not-unknown", True, {"unknown"}),
        ("view", "R-10242", False, {"CC"}),
        ("view", "399162004,R-10226", False, {"CC", "MLO"}),
        ("view", "SIO", False, {"SIO"}),
        ("outcome", "CI", False, {"interval-cancer"}),
        ("outcome", "CI,malignant", False, {"interval-cancer", "malignant"}),
        ("outcome", "not-normal", True, {"normal"}),
        ("episode-type", "Routine Recall", False, {"routine-recall"}),
        ("model", "selenia-dimensions", False, {"selenia-dimensions"}),
        ("model", "Selenia Dimensions", False, {"selenia-dimensions"}),
        ("model", "a,b", False, {"a_comma_b"}),
        ("model", "not-Inspiration", False, {"_not-inspiration"}),
        ("model", "_not-inspiration", False, {"_not-inspiration"}),
        ("model", "not-inspiration", True, {"inspiration"}),
        ("model", "not-_not-inspiration", True, {"_not-inspiration"}),
        ("model", "not-a_comma_b", True, {"a_comma_b"}),
        ("age", "50-54", False, {"50-54"}),
        ("age", "not-50-54,60-64", True, {"50-54", "60-64"}),
        ("age", "-4", False, {"0-4"}),
        ("age", "125-", False, {"125-129", "130-134"}),
        ("age", "unknown,-4", False, {"unknown", "0-4"}),
        ("year", "2012", False, {"2012"}),
        ("year", "2012-2013", False, {"2012", "2013"}),
        ("year", "not-1901-", True, {str(year) for year in range(1901, 2151)}),
        ("fold", "0-7", False, set("01234567")),
        ("fold", "-99", False, set("0123456789")),
        ("fold", "8,9", False, set("89")),
    ],
)
def test_a_component_names_values(
    cohorts: Cohorts, facet: str, component: str, negated: bool, names: set[str]
) -> None:
    assert labels(cohorts, facet, component) == (negated, names)


@pytest.mark.parametrize(
    ("facet", "component"),
    [
        ("view", ""),
        ("view", ","),
        ("view", "CC,"),
        ("view", ",CC"),
        ("view", "cc"),
        ("view", "not-"),
        ("view", "not-not-CC"),
        ("view", "CC,not-MLO"),
        ("view", "CC-MLO"),
        ("view", "1-2"),
        ("outcome", "ci"),
        ("model", "nonesuch"),
        ("age", "-"),
        ("age", "54-50"),
        ("age", "50-54-"),
        ("age", "50--54"),
        ("age", "fifty"),
        ("age", "٥٠"),
        ("age", "1234567890"),
        ("age", "131"),
        ("age", "50,131-"),
        ("year", "-1899"),
        ("fold", "10"),
        ("fold", "not-10-12"),
        ("client", "demd9"),
        ("client", "not-demd9"),
        ("client", "\udcff"),
        ("file-type", "png"),
        ("file-type", "unknown"),
    ],
)
def test_anything_else_names_nothing(cohorts: Cohorts, facet: str, component: str) -> None:
    assert cohorts.term(BY_NAME[facet], component) is None


def test_clients_and_studies_are_named_by_themselves(cohorts: Cohorts) -> None:
    assert cohorts.term(BY_NAME["client"], "demd1") == Term("client", frozenset([1]))
    assert cohorts.term(BY_NAME["client"], "not-demd0,demd2") == Term("client", frozenset([0, 2]), negated=True)
    assert len(cohorts.rows(EVERYTHING.narrowed(Term("study", frozenset([0, 4]))))) == len(
        cohorts.rows(EVERYTHING.narrowed(Term("study", frozenset([0]))))
    ) + len(cohorts.rows(EVERYTHING.narrowed(Term("study", frozenset([4])))))


def component_strategy(cohorts: Cohorts, facet_name: str) -> st.SearchStrategy[Term]:
    """Return any term of a facet."""
    facet = BY_NAME[facet_name]
    names = [name for name, _ in cohorts.counts(EVERYTHING, facet)]
    texts = st.lists(st.sampled_from(names), min_size=1, max_size=3).map(",".join)
    terms = st.builds("{}{}".format, st.sampled_from(("", "not-")), texts).map(lambda c: cohorts.term(facet, c))
    return terms.filter(lambda term: term is not None)  # type: ignore[return-value]


@st.composite
def any_cohort(draw: st.DrawFn, cohorts: Cohorts) -> Cohort:
    """Return a cohort of up to four terms, and of a list of images."""
    rows = st.frozensets(st.integers(0, len(cohorts.index) - 1))
    listed = draw(st.none() | st.builds(Term, st.just(IMAGES), rows, st.booleans()))
    found = EVERYTHING if listed is None else EVERYTHING.narrowed(listed)
    for facet in draw(st.lists(st.sampled_from(FACETS), max_size=4)):
        found = found.narrowed(draw(component_strategy(cohorts, facet.name)))
    return found


@given(st.data())
def test_the_rows_of_a_cohort_are_those_that_satisfy_it_one_by_one(cohorts: Cohorts, data: st.DataObject) -> None:
    wanted = data.draw(any_cohort(cohorts))
    index = cohorts.index
    rows = {
        row
        for row in range(len(index))
        if cohorts.contains(wanted, row) and any(index.has_file(row, kind) for kind in wanted.files)
    }
    assert set(cohorts.rows(wanted)) == rows
    assert cohorts.rows(wanted).tolist() == sorted(rows)
    assert cohorts.ordinals(wanted, Level.CLIENT).tolist() == sorted({int(index.client_of[row]) for row in rows})
    assert cohorts.ordinals(wanted, Level.STUDY).tolist() == sorted({int(index.study_of[row]) for row in rows})


@pytest.mark.parametrize("few", [0, 256])
def test_the_rows_of_a_client_in_a_cohort_are_those_of_both(
    cohorts: Cohorts, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(cohort, "_FEW_ROWS", few)
    views = cohorts.term(BY_NAME["view"], "CC,MLO")
    only_json = cohorts.term(BY_NAME["file-type"], "json")
    assert views is not None
    assert only_json is not None
    wanted = EVERYTHING.narrowed(views).narrowed(only_json)
    bounds = cohorts.index.client_rows.tolist()
    parts = [cohorts.rows_between(wanted, first, end).tolist() for first, end in pairwise(bounds)]
    assert [row for part in parts for row in part] == cohorts.rows(wanted).tolist()
    assert all(
        first <= row < end for part, (first, end) in zip(parts, pairwise(bounds), strict=True) for row in part
    )
    assert all(parts)


@given(st.data())
def test_the_counts_of_a_cohort_are_the_sizes_of_its_value_directories(
    cohorts: Cohorts, data: st.DataObject
) -> None:
    wanted = data.draw(any_cohort(cohorts))
    facet = data.draw(st.sampled_from(FACETS))
    for name, count in cohorts.counts(wanted, facet):
        term = cohorts.term(facet, name)
        assert term is not None, f"{name} is listed and not found"
        assert len(cohorts.rows(wanted.narrowed(term))) == count > 0


@given(st.data())
def test_the_order_of_terms_and_their_repetition_change_nothing(cohorts: Cohorts, data: st.DataObject) -> None:
    wanted = data.draw(any_cohort(cohorts))
    terms = data.draw(st.permutations([*wanted.terms, *wanted.terms[:1]]))
    assert cohorts.rows(Cohort(tuple(terms), wanted.files)).tolist() == cohorts.rows(wanted).tolist()


def test_file_type_is_no_term_of_images(cohorts: Cohorts) -> None:
    only_json = cohorts.term(BY_NAME["file-type"], "json")
    not_json = cohorts.term(BY_NAME["file-type"], "not-json")
    assert only_json is not None
    assert not_json is not None
    assert EVERYTHING.narrowed(only_json) == Cohort((), (JSON,))
    assert EVERYTHING.narrowed(not_json) == Cohort((), (DCM,))
    assert len(cohorts.rows(EVERYTHING.narrowed(only_json).narrowed(not_json))) == 0
    assert cohorts.ordinals(EVERYTHING.narrowed(only_json).narrowed(not_json), Level.CLIENT).tolist() == []


def test_what_is_remembered_of_cohorts_has_a_limit_in_bytes(
    cohorts: Cohorts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cohort, "Remembered", lambda: Remembered(10_000))
    small, ages = Cohorts(cohorts.index), BY_NAME["age"]
    wanted = [EVERYTHING.narrowed(term) for age in range(40, 70) if (term := small.term(ages, f"{age}-"))]
    sizes = [len(small.rows(one)) for one in wanted]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 0, "an empty cohort takes room, too"
    at_hand = [small.are_at_hand(one, 36) for one in wanted]
    assert at_hand == sorted(at_hand), "the last ones"
    assert 5 < sum(at_hand) < 10, "1 kB and more for each"
    assert [len(small.rows(one)) for one in wanted] == sizes
    assert small._remembered.size <= 10_000


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=40), st.integers(0, 60_000))
def test_the_rows_asked_for_last_are_remembered_in_few_bytes(asked: list[tuple[int, bool]], most: int) -> None:
    """Number ``n`` stands for a cohort of every row of 1 to n + 1 thousand that ``n`` divides."""
    rows = {number: np.arange(0, 1000 * (number + 1), max(1, number), dtype=np.uint32) for number in range(10)}
    remembered, expected = Remembered(most), OrderedDict[int, int]()
    for number, is_new in asked:
        known = remembered.get(number)
        assert (known is not None) == (number in expected) == (remembered.length(number) is not None)
        if known is None and is_new:
            known = remembered.put(number, rows[number].copy(), 100)
            expected[number] = 1124 + min(rows[number].nbytes, (int(rows[number][-1]) + 9 + 7) // 8)
        if known is not None:
            assert known.tolist() == rows[number].tolist()
            assert known.dtype == np.uint32
            assert not known.flags.writeable
            expected.move_to_end(number)
        latest = remembered._latest[1].nbytes
        while expected and sum(expected.values()) + latest > most:
            expected.popitem(last=False)
            latest = remembered._latest[1].nbytes
        assert remembered.size == sum(expected.values()) + latest <= most


def test_no_more_memory_is_taken_than_is_counted() -> None:
    remembered = Remembered(1 << 20)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(3000):
            step = 1 + number % 50
            remembered.put(("a cohort", number), np.arange(number, 100_000, step, dtype=np.uint32), 0)
            remembered.get(("a cohort", number - 3))
        for number in range(3000):
            remembered.put(("an empty cohort", number), np.zeros(0, np.uint32), 0)
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0 < remembered.size <= 1 << 20
    assert taken <= 1.1 * remembered.size


class Counting(np.ndarray):  # type: ignore[type-arg]
    """A column that counts the items that are taken from it."""

    taken = 0

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        Counting.taken += np.size(found)
        return found


@pytest.mark.parametrize("place", ["by-client/demd1", "by-client/demd1/1.1", "by-client/demd1/by-view/not-ML"])
def test_a_client_or_study_of_a_cohort_takes_a_slice_of_the_columns(
    cohorts: Cohorts, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr(cohort, "_FEW_ROWS", 0)
    index, of_client = cohorts.index, 12
    columns = {name: column.view(Counting) for name, column in index.columns.items()}
    view = View(replace(index, columns=columns), Access(0o755, 0, 0), {})
    directory = view.resolve(f"by-view/CC,MLO/by-age/20-90/{place}".encode())
    assert directory is not None
    Counting.taken = 0
    count = int(xattrs.of_directory(view, directory)[b"user.omidb.count"])
    assert 0 < count <= of_client
    assert 0 < Counting.taken <= 3 * of_client, "three facets at most"
    Counting.taken = 0
    assert isinstance(directory, CohortDirectory) or view.listing(directory).page(0, 100)
    assert Counting.taken <= 10 * of_client, "for some lookups"


def test_many_threads_may_ask_at_once(cohorts: Cohorts) -> None:
    shared = Cohorts(cohorts.index)
    wanted = [
        EVERYTHING.narrowed(term)
        for facet in FACETS
        if facet.kind is not Kind.NAME
        for name, _ in cohorts.counts(EVERYTHING, facet)
        if (term := cohorts.term(facet, name)) is not None
    ]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda cohort: len(shared.rows(cohort)), wanted * 20))
    assert found == [len(cohorts.rows(each)) for each in wanted] * 20


def test_a_database_with_nothing_in_it_has_empty_cohorts(tmp_path: Path) -> None:
    empty = Cohorts(build_index(find_source(Tree(tmp_path).root), Classification()))
    assert len(empty.rows(EVERYTHING)) == 0
    for facet in FACETS:
        assert empty.counts(EVERYTHING, facet) == []
