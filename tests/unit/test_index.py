"""The index finds every name. It is the same for any division of a source into pieces."""

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from trees import Quirky, Tree, build_index

from omidbfs.clinical.client import read_client
from omidbfs.clinical.outcomes import Windows
from omidbfs.cohorts.cohort import EVERYTHING, Cohort, Cohorts
from omidbfs.database.client import ClientReader
from omidbfs.database.file_kinds import DCM, JSON
from omidbfs.database.header import Header
from omidbfs.database.layout import Scanner, find_source
from omidbfs.database.records import FileFacts
from omidbfs.database.study import ImageRecord
from omidbfs.facets import BY_NAME
from omidbfs.index import build
from omidbfs.index.chunk import ChunkBuilder
from omidbfs.index.classification import Classification
from omidbfs.index.columns import Index
from omidbfs.index.merge import merge
from omidbfs.index.names import Names, NameTable, duplicated

# Names -----------------------------------------------------------------------------------------------------

names = st.binary(max_size=4) | st.sampled_from([b"plumless", b"buckeroo", b"1.2.3", b""])


def test_two_words_with_one_checksum_are_what_these_tests_rely_on() -> None:
    assert crc32(b"plumless") == crc32(b"buckeroo")


@given(st.lists(names, max_size=40), names)
@example([], b"")
@example([b"plumless", b"buckeroo", b"plumless"], b"buckeroo")
def test_a_table_finds_what_a_dictionary_finds(known: list[bytes], unknown: bytes) -> None:
    places: dict[bytes, list[int]] = {}
    for ordinal, name in enumerate(known):
        places.setdefault(name, []).append(ordinal)
    table = NameTable.of(Names.of(known))
    for name in (*known, unknown):
        assert table.find(name) == places.get(name, [])
        assert table._found_at_once(name, crc32(name) & (len(table.slots) - 1)) == places.get(name, [])


def test_a_name_that_occurs_very_often_is_found_wherever_it_does() -> None:
    known = [b"1", b"2", b"x", b"1"] * 500
    table = NameTable.of(Names.of(known))
    for name in (b"1", b"2", b"x", b"y"):
        assert table.find(name) == [ordinal for ordinal, other in enumerate(known) if other == name]


@given(st.lists(names, max_size=40))
@example([b"plumless", b"buckeroo"])
@example([b"plumless", b"buckeroo", b"plumless", b"buckeroo", b"plumless"])
def test_names_that_occur_more_than_once_are_known(known: list[bytes]) -> None:
    assert duplicated(Names.of(known)).tolist() == [i for i, name in enumerate(known) if known.count(name) > 1]


@given(st.lists(names, max_size=10), st.data())
def test_names_are_taken_in_any_order(known: list[bytes], data: st.DataObject) -> None:
    heap = Names.of(known)
    assert list(heap) == known
    assert [heap[ordinal] for ordinal in range(len(heap))] == known
    if known:
        order = data.draw(st.lists(st.integers(0, len(known) - 1)))
        assert heap.take(np.array(order, np.uint32)) == [known[ordinal] for ordinal in order]


def test_more_names_than_one_batch_are_iterated() -> None:
    known = [str(number).encode() for number in range(10_000)]
    assert list(Names.of(known)) == known


def test_a_table_of_many_names_finds_every_one_of_them() -> None:
    known = [f"1.2.826.{number}".encode() for number in range(20_000)]
    table = NameTable.of(Names.of(known))
    assert all(table.find(name) == [ordinal] for ordinal, name in enumerate(known))
    assert len(table.slots) >= 2 * len(known)


def test_a_table_goes_round_at_its_end() -> None:
    names = [str(number).encode() for number in range(5)]
    table = NameTable.of(Names.of(names), np.array([15, 14, 15, 31, 47], np.uint32))
    assert len(table.slots) == 16
    assert sorted(table.slots[[14, 15, 0, 1, 2]].tolist()) == [0, 1, 2, 3, 4]
    assert table.slots[14] == 1


def test_many_may_have_the_same_name() -> None:  # as the episodes of a database, which clients number from 1
    known = [b"1", b"2", b"3"] * 100_000
    table = NameTable.of(Names.of(known))
    assert table.find(b"2") == list(range(1, len(known), 3))
    assert table.find(b"4") == []


# Pieces ----------------------------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """Return a part of an index as something that can be compared."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, value.tolist()
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, tuple):
        return tuple(plain(inner) for inner in value)
    return value


Pieces = Callable[[Path, int], Index]


@pytest.fixture
def in_pieces(monkeypatch: pytest.MonkeyPatch) -> Pieces:
    """A function that reads a source in chunks of so many clients."""

    def read(path: Path, clients: int) -> Index:
        monkeypatch.setattr(build, "CLIENTS_PER_CHUNK", clients)
        return build_index(find_source(path), Classification())

    return read


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clients: texts with the same slug, a UID that occurs twice, several events and view modifiers."""
    tree = Tree(tmp_path_factory.mktemp("three"))
    for nth, model in enumerate(("Selenia", "selenia ", "Inspiration")):
        client = tree.client(f"demd{nth}").episode("1", "M").episode("2", "N", "2015-01-01")
        client.study(f"1.{nth}", "1").image("5", ManufacturerModelName=model, ViewModifiers=("R-102D6", "R-102D7"))
        study = client.study(f"2.{nth}", "2", "2015-01-01").image(f"6.{nth}", ManufacturerModelName="Inspiration")
        study.image("odd name", suffix=".dcm.json", PatientAge="064Y").image("7 8", dcm=None)
        (study.images / "6.9.dcm").write_bytes(b"no DICOM")
    (tree.images / "demd1" / "1.1" / "5.dcm").chmod(0o400)
    return tree.root


@pytest.mark.parametrize("clients", [1, 2, 3])
def test_a_source_read_in_pieces_gives_the_same_index(in_pieces: Pieces, three: Path, clients: int) -> None:
    assert plain(in_pieces(three, clients)) == plain(in_pieces(three, 100))


@pytest.mark.parametrize("clients", [1, 7])
def test_a_database_with_every_quirk_read_in_pieces_gives_the_same_index(
    in_pieces: Pieces, quirky_database: Quirky, clients: int
) -> None:
    assert plain(in_pieces(quirky_database.path, clients)) == plain(in_pieces(quirky_database.path, 1000))


def test_progress_is_reported_chunk_by_chunk(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, int, int, int]] = []
    monkeypatch.setattr(build, "CLIENTS_PER_CHUNK", 2)
    index = build_index(find_source(three), Classification(), progress=lambda *numbers: told.append(numbers))
    assert told == [("reading", 2, 3, 10), ("reading", 3, 3, 15)]
    assert len(index) == 15


# Content ---------------------------------------------------------------------------------------------------


def rows_by_value(index: Index, facet: str) -> dict[str, list[int]]:
    """Return the rows of each listed value."""
    cohorts = Cohorts(index)
    found = {}
    for value, _ in cohorts.counts(EVERYTHING, BY_NAME[facet]):
        term = cohorts.term(BY_NAME[facet], value)
        assert term is not None
        found[value] = cohorts.rows(Cohort().narrowed(term)).tolist()
    return found


@pytest.fixture(scope="module")
def index(three: Path) -> Index:
    return build_index(find_source(three), Classification())


def paths(index: Index) -> Iterator[tuple[int, int, str]]:
    for row in range(len(index)):
        for kind in (DCM, JSON):
            if index.has_file(row, kind):
                yield row, kind, index.image_path(row, kind).decode()


def test_there_is_one_row_for_each_image_in_the_order_of_client_study_and_image(index: Index) -> None:
    keys = [
        (index.clients[int(index.client_of[row])], index.studies[int(index.study_of[row])], index.images[row])
        for row in range(len(index))
    ]
    assert keys == sorted(keys)
    assert len(set(keys)) == len(index) == 15


def test_rows_name_the_files_on_disk_and_all_of_them(index: Index, three: Path) -> None:
    found = {(("images", "data")[kind], path) for _, kind, path in paths(index)}
    on_disk = {
        (tree, str(file.relative_to(three / tree)))
        for tree in ("images", "data")
        for file in (three / tree).glob("*/*/*")
    }
    assert found == on_disk


def test_rows_say_what_stat_says(index: Index, three: Path) -> None:
    for row, kind, path in paths(index):
        facts = (three / ("images", "data")[kind] / path).stat()
        files = index.files[kind]
        assert (int(files.size[row]), int(files.mtime[row])) == (facts.st_size, facts.st_mtime_ns)
        mode, uid, gid = index.accesses[int(files.access[row])]
        assert (mode & ~facts.st_mode, uid, gid) == (0, facts.st_uid, facts.st_gid)


def test_rows_of_studies_and_clients_are_runs(index: Index) -> None:
    for ordinals, bounds in ((index.study_of, index.study_rows), (index.client_of, index.client_rows)):
        for ordinal, (first, end) in enumerate(itertools.pairwise(bounds.tolist())):
            assert ordinals[first:end].tolist() == [ordinal] * (end - first)
        assert bounds[-1] == len(index)


def test_identity_and_row_are_inverse(index: Index) -> None:
    assert index.row_of[index.identity].tolist() == list(range(len(index)))
    assert index.client_ordinal[index.client_identity].tolist() == list(range(len(index.clients)))


def test_an_image_has_each_of_its_several_values(index: Index) -> None:
    modifiers = rows_by_value(index, "view-modifier")
    assert modifiers["magnification"] == modifiers["spot-compression"]
    assert len(modifiers["magnification"]) == 3
    assert set(modifiers["unknown"]).isdisjoint(modifiers["magnification"])


def test_texts_that_share_a_slug_are_one_value_that_knows_them_all(index: Index) -> None:
    assert [(text.label, text.raw) for text in index.texts["model"]] == [
        ("inspiration", ("Inspiration",)),
        ("selenia", ("Selenia", "selenia")),
    ]
    assert {value: len(rows) for value, rows in rows_by_value(index, "model").items()} == {
        "inspiration": 4,
        "selenia": 2,
        "unknown": 9,
    }


def test_a_uid_that_occurs_more_than_once_is_known_and_reported_each_time(index: Index) -> None:
    assert {index.images[row] for row in index.duplicates} == {b"5", b"6.9", b"7%208", b"odd%20name"}
    reported = [problem.file for problem in index.problems if problem.kind == "duplicate-uid"]
    assert len(reported) == len(set(reported)) == len(index.duplicates)
    assert {"data/demd0/1.0/5.json", "images/demd2/2.2/6.9.dcm", "data/demd1/2.1/7 8.json"} <= set(reported)


def test_problems_are_sorted(index: Index) -> None:
    assert list(index.problems) == sorted(index.problems)


def test_study_uids_of_two_clients_are_known_to_be_no_identifier(tmp_path: Path, index: Index) -> None:
    assert index.studies_unique
    tree = Tree(tmp_path).client("demd1").study("1.1").image("1").client("demd2").study("1.1").image("2").of.tree
    assert not build_index(find_source(tree.root), Classification()).studies_unique


def test_a_directory_of_a_study_without_images_has_no_row(tmp_path: Path) -> None:
    tree = Tree(tmp_path).client("demd1").study("1.1").image("1").of.tree
    (tree.data / "demd1" / "1.0").mkdir()
    tree.client("demd0")
    index = build_index(find_source(tmp_path), Classification())
    assert (len(index), list(index.studies), list(index.clients)) == (1, [b"1.1"], [b"demd0", b"demd1"])


def test_an_empty_database_has_an_index(tmp_path: Path) -> None:
    Tree(tmp_path)
    index = build_index(find_source(tmp_path), Classification())
    assert (len(index), len(index.clients), index.problems, index.newest) == (0, 0, (), 0)
    cohorts = Cohorts(index)
    for facet in BY_NAME.values():
        assert cohorts.counts(EVERYTHING, facet) == []


def test_only_the_clients_asked_for_are_read(three: Path) -> None:
    index = build_index(find_source(three), Classification(), only={"demd2", "demd0", "demd9"})
    assert list(index.clients) == [b"demd0", b"demd2"]
    missing = [problem.file for problem in index.problems if problem.kind == "client-not-on-disk"]
    assert missing == ["demd9"]


def test_classification_is_what_the_windows_make_it(three: Path) -> None:
    default = rows_by_value(build_index(find_source(three), Classification()), "outcome")
    windows = Classification(Windows(normal_follow_up=120))
    assert len(default["normal"]) > len(
        rows_by_value(build_index(find_source(three), windows), "outcome").get("normal", [])
    )


def test_link_all_gives_a_study_every_event_of_its_day(three: Path) -> None:
    default = rows_by_value(build_index(find_source(three), Classification()), "event")
    every = rows_by_value(build_index(find_source(three), Classification(link_all=True)), "event")
    assert "surgery" not in default
    assert every["surgery"] == every["assessment"] == default["none"]


def test_the_quirks_are_found_and_nothing_else(quirky_database: Quirky) -> None:
    index = build_index(find_source(quirky_database.path), Classification())
    planted = {(p.file, p.kind) for p in quirky_database.problems if not p.detail.startswith("deep:")}
    assert {(problem.file, problem.kind) for problem in index.problems} == planted
    for problem in index.problems:
        assert re.fullmatch(r"[^\x00-\x1f]*", problem.detail)


def test_a_source_may_have_more_owners_than_two_bytes_count(tmp_path: Path) -> None:
    """No test can make files of 70,000 owners, so a made-up record of a client stands for them."""
    source = find_source(Tree(tmp_path).client("demd1").study().image().of.tree.root)
    with ClientReader(source) as reader:
        client = read_client(Scanner(source, []), reader, "demd1", [])
    study = client.studies[0]
    images = tuple(
        ImageRecord(f"1.{number}", FileFacts(1, 0, 0o400, number, 0), None, ".json", Header(), None)
        for number in range(70_000)
    )
    builder = ChunkBuilder([])
    builder.add(replace(client, studies=(msgspec.structs.replace(study, images=images),)), 0)
    index = merge([builder.finish()], [], source)
    assert [index.accesses[code][1] for code in index.files[DCM].access[[0, 65_535, 69_999]]] == [
        0,
        65_535,
        69_999,
    ]
    assert index.files[JSON].access.max() == 0
