"""Kinds of files in a cohort. A new kind takes one new entry, because no part assumes two kinds."""

from dataclasses import replace

import numpy as np
import pytest
from trees import Tree, build_index

from omidbfs.cohorts.cohort import EVERYTHING, Cohort, Cohorts, Term
from omidbfs.database.file_kinds import DCM, FILE_KINDS, JSON, KIND_NAMED, FileKind
from omidbfs.database.file_kinds import Tree as Place
from omidbfs.database.layout import find_source
from omidbfs.database.permissions import Access
from omidbfs.exports.paths import on_the_drive
from omidbfs.exports.texts import path_list, summary
from omidbfs.facets import BY_NAME
from omidbfs.index.classification import Classification
from omidbfs.index.columns import FileColumns, Index
from omidbfs.view.files import split_name
from omidbfs.view.view import View

OTHER = FileKind(2, "other", b".other.png", Place.IMAGES)
FILE_TYPE = BY_NAME["file-type"]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """Three images: a pair, one without DICOM file, one without JSON; the last two have a third file."""
    study = Tree(tmp_path_factory.mktemp("kinds")).client("demd1").study("1.1").image("1.1.1")
    study.image("1.1.2", dcm=None).image("1.1.3", has_sidecar=False)
    index = build_index(find_source(study.of.tree.root), Classification())
    third = FileColumns(np.array([0, 20, 30], np.uint64), np.array([0, 1, 2]), np.array([0, 1, 1], np.uint16))
    return replace(index, files=(*index.files, third))


def test_the_kinds_are_numbered_as_their_columns_and_as_the_values_of_their_facet() -> None:
    assert [kind.number for kind in FILE_KINDS] == [*range(len(FILE_KINDS))]
    assert [value.label for value in FILE_TYPE.values] == [kind.name for kind in FILE_KINDS] == [*KIND_NAMED]
    assert FILE_KINDS[DCM] is DCM
    assert FILE_KINDS[JSON] is JSON


def test_no_kind_hides_another_by_its_suffix() -> None:
    for kind in FILE_KINDS:
        assert split_name(b"1.2" + kind.suffix, FILE_KINDS) == (b"1.2", kind)
        assert split_name(b"1.2" + kind.suffix, [other for other in FILE_KINDS if other is not kind]) is None
    assert split_name(b"1.2", FILE_KINDS) is split_name(b"1.2.dcm", ()) is None


@pytest.mark.parametrize(
    ("shown", "rows"),
    [((OTHER,), [1, 2]), ((DCM, OTHER), [0, 1, 2]), ((JSON, OTHER), [0, 1, 2]), ((DCM,), [0, 2]), ((), [])],
)
def test_a_cohort_holds_the_images_that_have_what_it_shows(
    index: Index, shown: tuple[FileKind, ...], rows: list[int]
) -> None:
    cohorts, cohort = Cohorts(index), Cohort((), shown)
    assert cohorts.rows(cohort).tolist() == cohorts.rows_between(cohort, 0, 3).tolist() == rows
    present = [kind for kind in shown if any(index.has_file(row, kind) for row in range(3))]
    assert cohorts.values(cohort, FILE_TYPE).tolist() == [kind.number for kind in present]
    assert [name for name, _ in cohorts.counts(cohort, FILE_TYPE)] == [kind.name for kind in present]
    lines = b"".join(path_list(cohorts, cohort)).splitlines()
    expected = [b"all/%b%b" % (index.images[row], kind.suffix) for row in rows for kind in shown]
    assert lines == [path for path in expected if path in lines]
    assert len(lines) == sum(index.has_file(row, kind) for row in rows for kind in shown)
    assert b"".join(summary(cohorts, cohort, "x")).startswith(b"{")
    for negated in (False, True):
        narrowed = cohort.narrowed(Term("file-type", frozenset([OTHER.number]), negated=negated))
        assert narrowed.files == tuple(kind for kind in shown if (kind is OTHER) != negated)


def test_a_listing_has_the_files_of_an_image_side_by_side_whatever_their_kinds(index: Index) -> None:
    view = View(index, Access(0o755, 0, 0), {})
    everyone = np.arange(3, dtype=np.uint32)
    for shown in ((OTHER,), (JSON, OTHER), (DCM, JSON, OTHER), (DCM, JSON), (DCM,), ()):
        files = view.files.of_rows(everyone, shown)
        page = view.files.page(files, shown, flat=True)
        of = [(row, kind) for row in range(3) for kind in shown if index.has_file(row, kind)]
        assert [entry.name for entry in page] == [index.images[row] + kind.suffix for row, kind in of]
        assert [entry.size for entry in page] == [int(index.files[kind].size[row]) for row, kind in of]


def test_the_paths_of_a_kind_are_those_of_its_files(index: Index) -> None:
    assert on_the_drive(index, OTHER, np.arange(3, dtype=np.uint32)) == [
        b"",
        b"all/1.1.2.other.png",
        b"all/1.1.3.other.png",
    ]
    assert Cohorts(index).rows(EVERYTHING).tolist() == [0, 1, 2]


def test_the_bytes_of_a_kind_are_in_a_tree(index: Index) -> None:
    files = View(index, Access(0o755, 0, 0), {}).files
    inodes = [files.image(0, kind) or 0 for kind in FILE_KINDS]
    assert [files.source_file(inode) for inode in inodes] == [
        (kind.tree, index.image_path(0, kind)) for kind in FILE_KINDS
    ]
    assert [files.place(inode) for inode in inodes] == [(0, kind) for kind in FILE_KINDS]
