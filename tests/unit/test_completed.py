"""Facets that a saved index lacks: the index is completed, and images keep their identities."""

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from test_index import plain
from trees import Tree

from omidbfs.database.client import ClientReader
from omidbfs.database.layout import Source, find_source
from omidbfs.database.study import StudyReader
from omidbfs.facets import BY_NAME, FACETS, Kind
from omidbfs.index import build, store
from omidbfs.index.build import refreshed
from omidbfs.index.columns import Index
from omidbfs.index.fingerprint import fingerprint
from omidbfs.index.store import load, save

OF_ALL_LEVELS = ("outcome", "standard-views", "view", "view-modifier", "model", "thickness", "conspicuity")
Older = Callable[..., Index]
CODED = tuple(facet.name for facet in FACETS if facet.tokens is not None)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Three clients, each with two episodes and values that the others do not have."""
    tree = Tree(tmp_path / "db")
    for number, kind in enumerate(("M", "N", "B")):
        client = tree.client(f"demd{number}", site=f"s{number}").episode("1", kind)
        client.episode("2", "CI", "2015-01-01").study(f"1.{number}", "1").image("1", ViewPosition="CC").image("2")
        client.study(f"2.{number}", "2", "2015-01-01").image(
            "1", ManufacturerModelName=f"Model {number}", ViewModifiers=("R-102D6", "R-102D7")[: number + 1]
        )
    return tree


@pytest.fixture
def source(tree: Tree) -> Source:
    return find_source(tree.root)


@pytest.fixture
def older(tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch) -> Older:
    """A function that returns an index as another version with other facets would have saved it."""

    def saved(index: Index, names: tuple[str, ...], *, otherwise: bool = False) -> Index:
        path, known = tmp_path / "older.index", store.definition_of
        columns = {name: column for name, column in index.columns.items() if otherwise or name not in names}
        with monkeypatch.context() as patch:
            patch.setattr(store, "definition_of", lambda one: "older" if one.name in names else known(one))
            save(path, replace(index, columns=columns), fingerprint(source))
        return load(path, fingerprint(source)).index

    return saved


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the images whose headers are read."""
    names: list[str] = []
    image = StudyReader.image

    def counted(self: StudyReader, name: str, *arguments: object) -> object:
        names.append(name)
        return image(self, name, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(StudyReader, "image", counted)
    return names


@pytest.mark.parametrize("names", [*((name,) for name in CODED), OF_ALL_LEVELS, CODED])
@pytest.mark.parametrize("otherwise", [False, True], ids=["without", "otherwise"])
def test_an_index_with_other_facets_is_completed_and_is_then_as_one_built_anew(
    source: Source, older: Older, names: tuple[str, ...], otherwise: bool
) -> None:
    built = refreshed(source)
    found = older(built, names, otherwise=otherwise)
    assert found.lacking == tuple(name for name in CODED if name in names)
    assert plain(refreshed(source, found)) == plain(built)


def test_images_keep_their_identities(tree: Tree, source: Source, older: Older) -> None:
    before = refreshed(source)
    tree.client("aaaa1").study("1.9").image("1")
    (tree.data / "demd1" / "1.1" / "2.json").write_text("{}")
    grown = refreshed(source, before)
    assert grown.identity.tolist() != refreshed(source).identity.tolist()
    for names in (("view",), ("outcome",)):
        assert plain(refreshed(source, older(grown, names))) == plain(grown)


def test_no_header_is_read_for_facets_that_nbss_and_imagedb_decide(
    source: Source, older: Older, read: list[str]
) -> None:
    built = refreshed(source)
    read.clear()
    names = tuple(facet.name for facet in FACETS if facet.name in CODED and facet.level in ("client", "episode"))
    assert plain(refreshed(source, older(built, names))) == plain(built)
    assert read == []


def test_clients_that_have_changed_too_are_read_as_in_any_refresh(
    tree: Tree, source: Source, older: Older, read: list[str]
) -> None:
    found = older(refreshed(source), ("outcome", "classification"))
    tree.client("demd9").episode("1", "CI").study("9.9", "1").image("9")
    (tree.data / "demd1" / "1.1" / "1.json").write_text("{}")
    for name in ("1", "2"):
        (tree.data / "demd0" / "1.0" / f"{name}.json").unlink()
        (tree.images / "demd0" / "1.0" / f"{name}.dcm").unlink()
    read.clear()
    index = refreshed(source, found)
    assert sorted(read) == ["1", "1", "1", "2", "9"]
    anew = refreshed(source)
    assert {name: column.tolist() for name, column in index.columns.items()} == {
        name: column.tolist() for name, column in anew.columns.items()
    }
    assert (index.texts, index.combinations) == (anew.texts, anew.combinations)


def test_a_client_that_changes_meanwhile_is_read_anew(
    tree: Tree, source: Source, older: Older, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, completed = older(refreshed(source), ("outcome",)), build.completed

    def late(*arguments: object) -> object:
        (tree.data / "demd1" / "1.1" / "1.json").write_text("{ }")
        return completed(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(build, "completed", late)
    index = refreshed(source, found)
    assert index.columns["outcome"].tolist() == refreshed(source).columns["outcome"].tolist()
    assert plain(refreshed(source, index)) == plain(index)


def test_a_client_whose_documents_cannot_be_read_for_a_moment_is_read_anew(
    source: Source, older: Older, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, read_data = older(refreshed(source), ("outcome",)), ClientReader._read_data
    failures = ["demd1/nbss_demd1.json"]

    def fails_once(self: ClientReader, *parts: str) -> bytes:
        if "/".join(parts) in failures:
            failures.remove("/".join(parts))
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read_data(self, *parts)

    monkeypatch.setattr(ClientReader, "_read_data", fails_once)
    index = refreshed(source, found)
    assert failures == []
    assert plain(refreshed(source)) == plain(index)


def test_a_facet_that_the_program_has_got_takes_the_place_of_the_users_of_that_name(
    source: Source, older: Older
) -> None:
    index = refreshed(source)
    facet = replace(index.registry.by_name["model"], definition="mine")
    registry = replace(index.registry, user=(facet,))
    found = older(replace(index, registry=registry), ("model",), otherwise=True)
    assert found.registry.user == ()
    assert found.lacking == ("model",)


def test_a_definition_changes_with_what_codes_stand_for_and_where_they_come_from() -> None:
    facet = BY_NAME["view"]
    others = (
        replace(facet, values=facet.values[1:]),
        replace(facet, values=facet.values[::-1]),
        replace(facet, origin=facet.origin[:1]),
        replace(facet, several=True),
        replace(facet, kind=Kind.TEXT),
        replace(facet, lowest=1),
        replace(facet, highest=1),
        replace(facet, label=str.lower),
        replace(facet, definition="2"),
    )
    assert len({store.definition_of(one) for one in (facet, *others)}) == 1 + len(others)
    assert store.definition_of(replace(facet, description="put otherwise")) == store.definition_of(facet)
    places = tuple(one for one in facet.origin if not isinstance(one, str))
    assert store.definition_of(replace(facet, origin=places)) == store.definition_of(facet)
