"""The rows of a cohort are those that a plain loop over the rows of the index finds, whichever way they are asked.

The loop knows nothing of codes: it compares the names of values, and numbers. Terms of arbitrary codes, which no
path has, are compared code by code.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trees import Tree

from omidbfs.cohorts import cohort as module
from omidbfs.cohorts import conditions
from omidbfs.cohorts.cohort import EVERYTHING, IMAGES, LEVEL_OF, Cohort, Cohorts, Term
from omidbfs.cohorts.named import Criteria, NamedCohort
from omidbfs.cohorts.resolved import resolved
from omidbfs.database.file_kinds import FILE_KINDS, FileKind
from omidbfs.database.layout import find_source
from omidbfs.facets import FACETS, Facet, Kind, Level
from omidbfs.facets.defined import Definition
from omidbfs.index.build import refreshed
from omidbfs.index.codes import Bits, Codes, as_array, as_run, compact, matching, size_of
from omidbfs.index.columns import FIRST_CODE, Index

VIEWS = ("CC", "MLO", "ML", "", "LM")
MODELS = ("Selenia Dimensions", "selenia-dimensions", "Inspiration", "x")
BLOCKS = [(5, 0), (1 << 16, 32)]
"""Rows that are compared at a time, and most rows that are compared one by one."""

Satisfies = Callable[[int], bool]
Piece = tuple[Term, Satisfies]
"""A term, and a function that says of a row whether it satisfies the term."""


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """Three clients with 45 images of many values, a study of two of them, unlinked studies, and files missing."""
    tree = Tree(tmp_path_factory.mktemp("engine") / "db")
    table: list[tuple[str, str]] = []
    for nth in range(3):
        client = tree.client(f"demd{nth}", site=("stge", "adde", None)[nth])
        for number, kind in enumerate(("N", "M", "CI")):
            client.episode(str(number), kind, f"201{number}-05-01")
            linked = (str(number), f"201{number}-05-01") if (nth + number) % 3 else (None, None)
            study = client.study(
                "same" if number == nth == 0 or (nth, number) == (2, 1) else f"{nth}.{number}", *linked
            )
            for image in range(5):
                name = f"{nth}.{number}.{image}"
                study.image(
                    name,
                    dcm=None if image == nth else b"",
                    has_sidecar=image != 3 or nth == 1,
                    PatientAge=f"0{48 + 4 * nth + image}Y",
                    ManufacturerModelName=MODELS[(nth + image) % 4],
                    ViewModifiers=("R-102D6", "R-102D7")[: image % 3],
                    **({"ViewPosition": VIEWS[image]} if VIEWS[image] else {}),
                )
                table += [(name, f"reader-{(nth * image) % 3}")] * (image != 4)
    tree.client("demd7").episode("1")
    mine = Definition("reader", "", "image", "", table=tuple(table))
    return refreshed(find_source(tree.root), user_facets=[mine])


@pytest.fixture(scope="module", params=[None, np.uint16, np.uint32])
def engine(request: pytest.FixtureRequest, index: Index) -> Cohorts:
    """The cohorts of the index, with the columns as they are, or in a larger type."""
    if request.param is None:
        return Cohorts(index)
    wide = {name: column.astype(request.param) for name, column in index.columns.items()}
    return Cohorts(replace(index, columns=wide))


@contextmanager
def small(block: int, few: int) -> Iterator[None]:
    """Compare so many rows at a time, and so many one by one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conditions, "_BLOCK", block)
        patch.setattr(module, "_FEW_ROWS", few)
        yield


# The loop ----------------------------------------------------------------------------------------------------


def names_of(engine: Cohorts, facet: Facet, row: int) -> list[str]:
    """Return the names of the values that an image has."""
    index = engine.index
    if facet.kind is Kind.NAME:
        client, study = index.clients[index.client_of[row]], index.studies[index.study_of[row]]
        episode = int(index.study_episode[index.study_of[row]])
        number = b"unlinked" if episode < 0 else client + b"~" + index.episodes.ids[episode]
        return [{Level.CLIENT: client, Level.STUDY: study, Level.EPISODE: number}[facet.level].decode()]
    return [engine.label(facet, code) for code in index.codes_of(facet.name, row)]


def numbers_of(index: Index, facet: Facet, row: int) -> list[int]:
    """Return the numbers that an image has in a facet of numbers."""
    codes = index.codes_of(facet.name, row)
    return [facet.lowest + code - FIRST_CODE for code in codes if code >= FIRST_CODE]


def codes_of(index: Index, facet: str, row: int) -> Sequence[int]:
    """Return the codes, or the ordinal, of an image in a facet."""
    if facet not in LEVEL_OF:
        return index.codes_of(facet, row)
    study = int(index.study_of[row])
    ordinals = {"client": int(index.client_of[row]), "study": study, "episode": int(index.study_episode[study])}
    return [{**ordinals, IMAGES: row}[facet]]


def loop(index: Index, pieces: Sequence[Piece], shown: Sequence[FileKind] = FILE_KINDS) -> list[int]:
    """Return the rows that satisfy every piece, and have a file of a kind that is shown."""
    found = []
    for row in range(len(index)):
        has_file = any(index.files[kind].access[row] != 0 for kind in shown)
        if has_file and all(satisfies(row) for _, satisfies in pieces):
            found.append(row)
    return found


# What it compares --------------------------------------------------------------------------------------------


@st.composite
def written(draw: st.DrawFn, engine: Cohorts) -> Piece:
    """Return a component of a path: a union of names and ranges, or what is not in it."""
    index = engine.index
    facet = draw(st.sampled_from([one for one in index.registry.facets if one.kind is not Kind.FILE]))
    names = sorted({name for row in range(len(index)) for name in names_of(engine, facet, row)})
    part = st.sampled_from(names).map(lambda name: (name, name))
    if facet.kind is Kind.NUMBER:
        number = st.integers(facet.lowest - 2, facet.highest + 2).filter(lambda one: one >= 0)
        within = st.integers(max(facet.lowest, 0), facet.highest)  # no range lies wholly beyond the limits
        part |= st.tuples(number, within).map(
            lambda ends: (f"{min(ends)}-{max(ends)}", range(min(ends), max(ends) + 1))
        )
    parts, negated = draw(st.lists(part, min_size=1, max_size=4)), draw(st.booleans())
    term = engine.term(facet, ("not-" if negated else "") + ",".join(text for text, _ in parts))
    assert term is not None

    def satisfies(row: int) -> bool:
        has = names_of(engine, facet, row)
        numbers = numbers_of(index, facet, row) if facet.kind is Kind.NUMBER else []
        inside = any(
            meant in has if isinstance(meant, str) else any(one in meant for one in numbers) for _, meant in parts
        )
        return inside != negated

    return term, satisfies


def codes(most: int, least: int = 0) -> st.SearchStrategy[Codes]:
    """Return sets of codes, in each form, up to ``most``."""
    one = st.integers(least, most)
    few = st.frozensets(one, max_size=8)
    many = st.frozensets(one, min_size=min(40, most), max_size=200).map(compact)
    return few | many | st.tuples(one, one).map(lambda ends: compact(range(min(ends), max(ends) + 1)))


@st.composite
def coded(draw: st.DrawFn, engine: Cohorts) -> Piece:
    """Return a term of any codes, which may be larger than the type of the column."""
    index = engine.index
    facet = draw(st.sampled_from([*index.columns, *LEVEL_OF]))
    if facet in LEVEL_OF:
        most = {"client": len(index.clients), "study": len(index.studies), "episode": len(index.episodes.ids)}
        chosen = codes(most.get(facet, len(index)) - 1, -1 if facet == "episode" else 0)
    else:
        chosen = codes(draw(st.sampled_from([8, 300, 70_000])))
    term = Term(facet, draw(chosen), draw(st.booleans()))
    plain = set(term.codes)
    return term, lambda row: any(code in plain for code in codes_of(index, facet, row)) != term.negated


@pytest.mark.parametrize(("block", "few"), BLOCKS)
@given(st.data())
def test_a_cohort_has_the_rows_that_a_loop_finds(
    engine: Cohorts, block: int, few: int, data: st.DataObject
) -> None:
    index = engine.index
    pieces = data.draw(st.lists(written(engine) | coded(engine), max_size=4))
    shown = data.draw(st.sampled_from([FILE_KINDS, FILE_KINDS[:1], FILE_KINDS[1:], ()]))
    wanted = EVERYTHING
    for term, _ in pieces:
        wanted = wanted.narrowed(term)
    wanted = Cohort(wanted.terms, shown)
    first, end = sorted((data.draw(st.integers(0, len(index))), data.draw(st.integers(0, len(index)))))
    some = data.draw(st.lists(st.integers(0, len(index) - 1), unique=True).map(sorted))
    rows = loop(index, pieces, shown)
    with small(block, few):
        fresh = Cohorts(index)
        for _ in range(2):  # found, and remembered
            assert fresh.rows(wanted).tolist() == rows
        assert fresh.rows(wanted).dtype == np.uint32
        assert fresh.rows_between(wanted, first, end).tolist() == [row for row in rows if first <= row < end]
        assert fresh.which(wanted, slice(first, end)).tolist() == [row in rows for row in range(first, end)]
        assert fresh.which(wanted, np.array(some, np.intp)).tolist() == [row in rows for row in some]
        assert fresh.count(wanted, Level.IMAGE) == len(rows)
        satisfying = loop(index, pieces)
        assert [row for row in range(len(index)) if fresh.contains(wanted, row)] == satisfying


@given(st.data())
def test_the_counts_of_a_cohort_are_those_of_a_loop(engine: Cohorts, data: st.DataObject) -> None:
    index = engine.index
    pieces = data.draw(st.lists(written(engine) | coded(engine), max_size=2))
    facet = data.draw(st.sampled_from([one for one in index.registry.facets if one.kind is not Kind.FILE]))
    wanted = Cohort(tuple(term for term, _ in pieces))
    counts: dict[str, int] = {}
    for row in loop(index, pieces):
        for name in set(names_of(engine, facet, row)):
            counts[name] = counts.get(name, 0) + 1
    assert dict(engine.counts(wanted, facet)) == counts
    if facet.kind is not Kind.NAME:
        assert [engine.label(facet, code) for code in engine.values(wanted, facet).tolist()] == [
            name for name, _ in engine.counts(wanted, facet)
        ]


@given(st.data())
def test_a_named_cohort_has_what_is_included_and_not_excluded(engine: Cohorts, data: st.DataObject) -> None:
    index, by_name = engine.index, engine.index.registry.by_name

    def path() -> tuple[str, list[Piece]]:
        pieces, words = [], []
        for facet in data.draw(st.lists(st.sampled_from(["view", "view-modifier", "age", "reader"]), max_size=2)):
            names = sorted({name for row in range(len(index)) for name in names_of(engine, by_name[facet], row)})
            name = data.draw(st.sampled_from(names))
            words += [f"by-{facet}", name]
            pieces.append(
                (EVERYTHING, lambda row, facet=facet, name=name: name in names_of(engine, by_name[facet], row))
            )
        return "/".join(words), pieces  # type: ignore[return-value]

    (included, ours), (excluded, theirs) = path(), path()
    listed = data.draw(st.lists(st.sampled_from(list(index.images)).map(bytes.decode), max_size=40))
    lists = ((Level.IMAGE, tuple(listed)),) if listed else ()
    definition = NamedCohort("it", Criteria(included, "", lists), Criteria(excluded, "") if excluded else None)
    found = resolved(engine, [definition])
    assert found.problems == []
    engine = Cohorts(index, found.named)
    gone = loop(index, theirs) if excluded else []
    of_lists = [row for row in loop(index, ours) if not listed or index.images[row].decode() in listed]
    expected = [row for row in of_lists if row not in gone]
    assert engine.rows(found.cohorts["it"]).tolist() == expected
    assert [row for row in range(len(index)) if engine.contains(found.cohorts["it"], row)] == expected


def test_an_index_without_rows_has_empty_cohorts(tmp_path: Path) -> None:
    empty = Cohorts(refreshed(find_source(Tree(tmp_path / "db").root)))
    for facet in (*FACETS, None):
        if facet is not None and facet.kind is Kind.FILE:
            continue
        name = IMAGES if facet is None else facet.name
        for chosen in (frozenset[int](), range(40), *([] if name in LEVEL_OF else [frozenset([2, 7, 300])])):
            if name in LEVEL_OF and chosen:
                continue  # there are no ordinals
            for negated in (False, True):
                wanted = EVERYTHING.narrowed(Term(name, chosen, negated))
                assert empty.rows(wanted).tolist() == []
                assert empty.rows_between(wanted, 0, 0).tolist() == []
                assert empty.which(wanted, slice(0, 1 << 16)).tolist() == []


# Codes -------------------------------------------------------------------------------------------------------


@given(
    st.frozensets(st.integers(-1, 3000), max_size=300)
    | st.tuples(st.integers(0, 99), st.integers(0, 999)).map(lambda run: frozenset(range(run[0], run[0] + run[1])))
)
def test_compact_codes_are_the_same_set_in_any_form(chosen: frozenset[int]) -> None:
    small_one, again = compact(chosen), compact(sorted(chosen, reverse=True))
    assert small_one == again
    assert hash(small_one) == hash(again)
    assert set(small_one) == chosen
    assert len(small_one) == len(chosen)
    assert as_array(small_one).tolist() == sorted(chosen)
    assert [code in small_one for code in range(-1, 3100)] == [code in chosen for code in range(-1, 3100)]
    run = as_run(small_one)
    assert run is None or set(run) == chosen
    for dtype in (np.uint8, np.uint16, np.uint32, np.int32, np.intp):
        values = np.arange(
            -1 if np.dtype(dtype).kind == "i" else 0, min(3100, int(np.iinfo(dtype).max) + 1)
        ).astype(dtype)
        assert matching(small_one)(values).tolist() == [value in chosen for value in values.tolist()]


def test_codes_take_little_memory() -> None:
    every_other, few_of_many = compact(range(0, 100_000, 2)), compact(range(0, 100_000_000, 2_000_000))
    assert isinstance(every_other, Bits)
    assert size_of(every_other) < 100_000 / 8 + 100
    assert isinstance(few_of_many, frozenset), "bits would take 12 MB"
    assert size_of(few_of_many) < 10_000
    assert size_of(compact(range(1_000_000))) < 100


@given(st.frozensets(st.integers(0, 500)), st.lists(st.integers(-1, 600)))
def test_bits_are_a_set(numbers: frozenset[int], values: list[int]) -> None:
    bits = Bits.of(np.array(sorted(numbers), np.uint32))
    assert list(bits) == sorted(numbers)
    assert len(bits) == len(numbers)
    assert bool(bits) == bool(numbers)
    assert [value in bits for value in values] == [value in numbers for value in values]
    assert bits.holds(np.array(values, np.intp)).tolist() == [value in numbers for value in values]
