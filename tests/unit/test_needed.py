"""Texts, link counts and tables of names are made at first use."""

import json
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import trio
from click.testing import CliRunner
from trees import Tree, build_index

from omidbfs.cli.main import main
from omidbfs.cohorts import cohort
from omidbfs.database.layout import find_source
from omidbfs.database.permissions import Access
from omidbfs.facets import FACETS, Kind
from omidbfs.index.classification import Classification
from omidbfs.index.columns import Index
from omidbfs.serving.refresh import drive_of
from omidbfs.serving.session import Session
from omidbfs.view import about, texts
from omidbfs.view.about import LazyTexts
from omidbfs.view.root import Links
from omidbfs.view.view import View

ACCESS = Access(0o555, 0, 0)
TEXTS = ("README.txt", "status.json", "facets.json", "problems.jsonl")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """The number of calls that made texts, link counts, and tables of names."""
    calls: Counter[str] = Counter()

    def count(place: object, name: str) -> None:
        make: Callable[..., object] = getattr(place, name)

        def counting(*arguments: object) -> object:
            calls[name] += 1
            return make(*arguments)

        monkeypatch.setattr(place, name, counting)

    for name in ("readme", "status", "facet_counts"):
        count(about, name)
    count(texts, "text_inode")
    count(Links, "count_all")
    count(cohort, "readings_of")
    return calls


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Two clients with three images."""
    study = Tree(tmp_path / "db").client("demd1").episode("1", "M").study("1.1", "1").image("1", ViewPosition="CC")
    study.image("2", ViewPosition="MLO").client("demd2").study("2.1").image("3", ViewPosition="MLO")
    return study.of.tree.root


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """The index of one image."""
    study = Tree(tmp_path_factory.mktemp("bare")).client("demd1").study("1.1").image("1")
    return build_index(find_source(study.of.tree.root), Classification())


def session_of(database: Path, tmp_path: Path) -> Session:
    """Return a session over a database without a saved index."""
    return Session(find_source(database), tmp_path / "index", lambda: nullcontext(lambda *_: None))


@pytest.mark.parametrize(
    ("arguments", "facets_read"),
    [
        (("count", "{}"), 0),
        (("count", "{}", "by-view/MLO/by-client/demd1"), 1),
        (("ls", "{}", "by-view/MLO"), 1),
        (("ls", "{}", "by-client", "--recursive"), 0),
        (("ls", "{}", "by-view", "--recursive", "--json"), 1),
        (("facets", "{}"), 0),
        (("facets", "{}", "by-view/MLO", "--json"), 1),
        (("describe", "{}", "1"), 0),
        (("export", "{}", "by-view/MLO", "--format", "csv"), 1),
        (("export", "{}", "--format", "summary"), 0),
    ],
)
def test_a_command_makes_only_what_it_needs(
    database: Path, tmp_path: Path, made: Counter[str], arguments: tuple[str, ...], facets_read: int
) -> None:
    words = [word.format(database) for word in arguments]
    result = CliRunner().invoke(main, [*words, "--index", str(tmp_path / "index")])
    assert (result.exit_code, result.stderr) == (0, "")
    assert made == Counter(readings_of=facets_read)


def test_listing_the_root_makes_the_text_that_it_lists_and_no_other(
    database: Path, tmp_path: Path, made: Counter[str]
) -> None:
    result = CliRunner().invoke(main, ["ls", str(database), "--index", str(tmp_path / "index")])
    assert "README.txt\n" in result.stdout
    assert made == Counter(readme=1, text_inode=1)


def test_a_drive_answers_before_it_makes_all_of_it_once(
    database: Path, tmp_path: Path, made: Counter[str]
) -> None:
    session = session_of(database, tmp_path)
    drive = drive_of(session, session.brought_up_to_date(None))
    view = drive.view
    assert view.listing(view.root).length > len(FACETS)
    assert not made
    trio.run(drive.prepare, lambda: None)
    coded = sum(facet.kind not in (Kind.NAME, Kind.FILE) for facet in FACETS)
    once = {"readme": 1, "status": 1, "facet_counts": 1, "text_inode": 4, "count_all": 1, "readings_of": coded}
    assert made == once
    for place in (b"", b".omidbfs", b"all", b"by-view/MLO"):
        directory = view.resolve(place)
        assert directory is not None
        listing = view.listing(directory)
        assert len(listing.page(0, 1000)) == listing.length > 0
    assert [view.files.texts.inode(name.encode()) is not None for name in TEXTS] == [True] * 4
    assert made == once
    inode = view.files.texts.inode(b"status.json")
    assert inode is not None
    content = view.files.texts.content(inode)
    assert content is not None
    assert json.loads(bytes(content))["refresh"]["state"] == "idle"


def test_a_text_is_made_once_for_all_callers(bare: Index) -> None:
    calls, several = [], threading.Barrier(8)

    def make() -> bytes:
        calls.append(threading.get_ident())
        threading.Event().wait(0.05)
        return b"made"

    def ask(number: int) -> tuple[int | None, bytes | memoryview | None]:
        several.wait()
        inode = view.files.texts.inode(b"status.json")
        return inode, view.files.texts.content(inode or 0)

    view = View(bare, ACCESS, LazyTexts({"README.txt": lambda: pytest.fail("not asked for"), "status.json": make}))
    assert view.files.texts.names == [b"README.txt", b"status.json"]
    with ThreadPoolExecutor(8) as pool:
        answers = {*pool.map(ask, range(8))}
    assert len(answers) == len(calls) == 1
    assert answers.pop()[1] == b"made"


def test_a_text_that_failed_is_made_at_the_next_request(bare: Index) -> None:
    attempts = iter([OSError("too little memory")])

    def make() -> bytes:
        for problem in attempts:
            raise problem
        return b"made"

    view = View(bare, ACCESS, LazyTexts({"status.json": make}))
    with pytest.raises(OSError, match="too little"):
        view.files.texts.inode(b"status.json")
    assert view.files.texts.content(view.files.texts.inode(b"status.json") or 0) == b"made"


def test_the_inode_of_a_text_leads_to_it_in_a_new_view(bare: Index) -> None:
    """The kernel keeps inodes of texts when another view replaces the one that gave them."""
    texts = {"README.txt": b"read me", "status.json": b"{}\n"}
    before, after = View(bare, ACCESS, texts), View(bare, ACCESS, {**texts, "status.json": b"[]\n"})
    same, other = before.files.texts.inode(b"README.txt") or 0, before.files.texts.inode(b"status.json") or 0
    assert after.files.texts.content(same) == b"read me"
    attributes = after.files.attributes(same)
    assert attributes is not None
    assert attributes.size == 7
    assert after.files.texts.content(other) is after.files.attributes(other) is None
    assert View(bare, ACCESS, {}).files.texts.content(same) is None


def test_links_of_some_rows_are_those_that_are_counted_for_all(database: Path) -> None:
    index = build_index(find_source(database), Classification())
    view = View(index, ACCESS, {})
    links, rows = view.lists.links, np.array([2, 0], np.uint32)
    few = [links.of(rows).tolist(), links.of(slice(1, 3)).tolist(), links.item(1)]
    links.count_all()
    assert few == [links.of(rows).tolist(), links.of(slice(1, 3)).tolist(), links.item(1)]
