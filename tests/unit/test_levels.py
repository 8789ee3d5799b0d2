"""The levels of an index answer what a loop over the images finds."""

from pathlib import Path

import numpy as np
import pytest
from trees import MARK, Tree, build_index

from omidbfs.cohorts.cohort import EVERYTHING, IMAGES, LEVEL_OF, Cohort, Cohorts, Term
from omidbfs.database.layout import find_source
from omidbfs.facets import BY_NAME, Kind, Level
from omidbfs.index.classification import Classification


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory: pytest.TempPathFactory) -> Cohorts:
    """Two clients with images, a study of both, a study without episode, and a client without images."""
    tree = Tree(Path(tmp_path_factory.mktemp("levels")) / "db")
    one = tree.client("demd1").episode("7").episode("a b", day="2013-01-01")
    one = one.study("1.1", "7").image("1", marks=MARK).image("2").study("1.2", "a b").image("3").of
    one.study("1.3", None, None).image("4").client("demd2").episode("7").study("1.1", "7").image("5", marks=MARK)
    tree.client("demd3").episode("7")
    return Cohorts(build_index(find_source(tree.root), Classification()))


def some_cohorts(cohorts: Cohorts) -> list[Cohort]:
    chosen = [EVERYTHING, *(Cohort((Term(IMAGES, frozenset(rows)),)) for rows in ((), (0,), (1, 3), (0, 1, 4)))]
    return [*chosen, Cohort((Term("client", frozenset([0]), negated=True),))]


def test_every_identity_facet_is_that_of_its_level(cohorts: Cohorts) -> None:
    identity = {facet.name: facet.level for facet in BY_NAME.values() if facet.kind is Kind.NAME}
    assert identity == {level: level for level in (Level.CLIENT, Level.EPISODE, Level.STUDY)}
    assert {**identity, IMAGES: Level.IMAGE} == LEVEL_OF
    assert list(cohorts.levels) == [Level.CLIENT, Level.EPISODE, Level.STUDY, Level.IMAGE]


@pytest.mark.parametrize("level", [Level.CLIENT, Level.EPISODE, Level.STUDY, Level.IMAGE])
def test_a_level_answers_what_a_loop_over_images_finds(cohorts: Cohorts, level: Level) -> None:
    members, (facet,) = cohorts.levels[level], (name for name, of in LEVEL_OF.items() if of is level)
    for cohort in some_cohorts(cohorts):
        rows = cohorts.rows(cohort)
        of_rows = [members.ordinal(row) for row in rows.tolist()]
        assert members.ordinals(rows).tolist() == of_rows
        assert cohorts.ordinals(cohort, level).tolist() == sorted({one for one in of_rows if one >= 0})
        assert cohorts.count(cohort, level) == len({one for one in of_rows if one >= 0})
        assert len(members.cells(rows)) == len(rows)
        for ordinal in set(of_rows):
            shown = {row for row in range(len(cohorts.index)) if members.ordinal(row) == ordinal}
            assert set(members.rows(frozenset([ordinal])).tolist()) == shown
            term = Cohort((Term(facet, frozenset([ordinal])),))
            assert {row for row in range(len(cohorts.index)) if cohorts.contains(term, row)} == shown
            (name,) = members.names(np.array([ordinal]))
            assert ordinal in members.find(name)
            assert ordinal in members.named(name.decode())


def test_levels_are_counted(cohorts: Cohorts) -> None:
    counts = {level.plural: cohorts.count(EVERYTHING, level) for level in (*cohorts.levels, Level.MARK)}
    assert counts == {"clients": 2, "episodes": 3, "studies": 4, "images": 5, "marks": 2}
    assert {level.plural: members.total() for level, members in cohorts.levels.items()} == {
        "clients": 3,
        "episodes": 4,  # unlinked is one
        "studies": 4,
        "images": 5,
    }
    assert cohorts.count(Cohort((Term(IMAGES, frozenset([1, 4])),)), Level.MARK) == 1


def test_a_level_lists_values_by_its_own_names(cohorts: Cohorts) -> None:
    listed = {
        level: members.names(members.listed(None)) for level, members in cohorts.levels.items() if level != "image"
    }
    assert listed == {
        Level.CLIENT: [b"demd1", b"demd2", b"demd3"],
        Level.EPISODE: [b"demd1~7", b"demd1~a%20b", b"demd2~7", b"unlinked"],
        Level.STUDY: [b"1.1", b"1.2", b"1.3"],
    }
    assert cohorts.levels[Level.EPISODE].cells(np.arange(5, dtype=np.uint32)) == [b"7", b"7", b"a%20b", b"", b"7"]
