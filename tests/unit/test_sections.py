"""A section of the index is compared before its first use, and a damaged one never gives an answer."""

import errno
import json
import pickle
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import trio
from click.testing import CliRunner, Result
from pyfuse3 import FUSEError, RequestContext
from trees import Tree

from omidbfs.cli.main import main
from omidbfs.database.layout import find_source
from omidbfs.fuse.operations import Operations
from omidbfs.index import sections as sections_module
from omidbfs.index.columns import FileColumns, Index
from omidbfs.index.marks import MarkColumns
from omidbfs.index.names import Names
from omidbfs.index.sections import DamagedError, Sections
from omidbfs.index.store import Stored
from omidbfs.serving.refresh import Refresher, Schedule, drive_of
from omidbfs.serving.session import Session
from omidbfs.view.inode import ROOT_INODE
from omidbfs.view.nodes import Attributes
from omidbfs.view.view import View

BIG = ("images.heap", "images.slots", "study_of", "identity", "columns.view", "dcm.access", "problems", "meta")
"""Sections that different parts of the program use."""

LISTED = "cohorts/listed"
"""A cohort of a configuration. Its list has a name that the database lacks."""

Walk = dict[str, dict[bytes, Attributes]]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database in which every section of the index has content, with that index beside it."""
    place = tmp_path_factory.mktemp("sections")
    tree = Tree(place / "db")
    client = tree.client("demd1").episode("1", "M")
    client.study("1.1", "1").image("1", ViewPosition="CC").image("2", ViewPosition="MLO")
    tree.client("demd2").episode("7", "N").study("2.1", "7").image("3", ViewPosition="MLO").image("1")
    (tree.data / "stray.txt").touch()
    done = CliRunner().invoke(main, ["index", str(tree.root), "--index", str(place / "whole")])
    assert (done.exit_code, done.stderr) == (0, "")
    return tree.root


@pytest.fixture(scope="module")
def whole(database: Path) -> bytes:
    """The bytes of the index."""
    return (database.parent / "whole").read_bytes()


def places_of(content: bytes) -> dict[str, int]:
    """Return the place of a byte in the middle of each section that has any."""
    data = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:data])
    del header["__metadata__"]
    ends = {name: entry["data_offsets"] for name, entry in header.items()}
    return {name: data + (first + end) // 2 for name, (first, end) in ends.items() if first < end}


@pytest.fixture
def damaged(tmp_path: Path, whole: bytes) -> Callable[[str], Path]:
    """``damaged(section)`` returns an index with a wrong bit in that section."""

    def damage(section: str) -> Path:
        content = bytearray(whole)
        content[places_of(whole)[section]] ^= 0x10
        path = tmp_path / "index"
        path.write_bytes(content)
        return path

    return damage


def run(database: Path, index: Path, command: str, *arguments: str) -> Result:
    words = [*command.split(), "--index", str(index), str(database), *arguments]
    with tempfile.TemporaryDirectory() as place:
        config = Path(place, "omidbfs.toml")
        config.write_text('[cohorts.listed]\nclients = "list.txt"\n' if LISTED in arguments else "")
        config.with_name("list.txt").write_text("demd1\nnobody\n")
        return CliRunner().invoke(main, ["--config", str(config), *words], prog_name="omidbfs")


# Commands


@pytest.mark.parametrize(
    ("command", "arguments", "least_unused"),
    [
        ("count", (), 60),
        ("count --json", ("by-view/MLO",), 60),
        ("count --of clients", (LISTED,), 60),
        ("count --link-all", ("by-event/screening",), 60),
        ("count --num-months-ci-prior 12", ("by-outcome/malignant",), 60),
        ("facets --of clients", ("by-view/MLO", "by-site"), 60),
        ("ls", (), 60),
        ("ls --json", ("by-view/MLO",), 30),
        ("ls -R", (), 0),
    ],
)
def test_a_command_never_answers_from_a_damaged_section(
    database: Path,
    whole: bytes,
    damaged: Callable[[str], Path],
    command: str,
    arguments: tuple[str, ...],
    least_unused: int,
) -> None:
    expected = run(database, database.parent / "whole", command, *arguments)
    assert (expected.exit_code, expected.stderr) == (0, "")
    sections, used = places_of(whole), set()
    for section in sections:
        index = damaged(section)
        result = run(database, index, command, *arguments)
        assert (result.exit_code, result.stdout) == (0, expected.stdout), section
        if result.stderr:
            assert result.stderr == f"omidbfs: {index}: damaged: {section}; building it anew\n"
            assert run(database, index, "count").stderr == ""
            used.add(section)
    assert len(used) <= len(sections) - least_unused
    if not least_unused:
        assert used == set(sections)


@pytest.mark.parametrize("section", BIG)
@pytest.mark.parametrize("command", ["index", "check", "describe", "export --format csv", "report -o -"])
def test_every_other_command_builds_a_damaged_index_anew(
    database: Path, damaged: Callable[[str], Path], command: str, section: str
) -> None:
    index = damaged(section)
    result = run(database, index, command, *(["1"] if command == "describe" else []))
    assert f"omidbfs: {index}: damaged: {section}; building it anew\n" in result.stderr
    assert result.exit_code == (command == "check")
    assert run(database, index, "count").stderr == ""


@pytest.mark.parametrize("section", ["meta", "columns.view", "images.heap"])
def test_completion_offers_nothing_from_a_damaged_section(
    database: Path, damaged: Callable[[str], Path], section: str
) -> None:
    index = damaged(section)
    words = ["omidbfs", "count", f"--index={index}", str(database), "by-view/"]
    done = subprocess.run(
        [sys.executable, "-m", "omidbfs"],
        env={
            "COMP_WORDS": " ".join(words),
            "COMP_CWORD": "4",
            "_OMIDBFS_COMPLETE": "bash_complete",
            "HOME": "/nowhere",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert bool(done.stdout.strip()) == (section == "images.heap")


# A drive


def session_of(database: Path, index: Path) -> Session:
    return Session(find_source(database), index, lambda: nullcontext(lambda *_: None))


@pytest.fixture
def refresher_of(database: Path) -> Callable[[Path], Refresher]:
    """A function that returns the refresher of a drive that begins with an index."""

    def of(index: Path) -> Refresher:
        session = session_of(database, index)
        stored = session.saved_or_none(whole=False)
        if stored is None:
            raise DamagedError
        arguments = ["--config", "/dev/null", "index", str(database), f"--index={index}", "--json"]
        return Refresher(drive_of(session, stored), session, stored, arguments)

    return of


PLACES = ("", "all", "by-view", "by-view/MLO", "by-client", "by-client/demd2", "by-client/demd2/2.1", "by-episode")


def walked(view: View) -> Walk:
    """Return the attributes of the files and directories in some directories; what is damaged is left out."""
    found: Walk = {}
    for place in PLACES:
        try:
            directory = view.resolve(place.encode())
            assert directory is not None
            listing = view.listing(directory)
            entries = listing.page(0, listing.length)
            found[place] = {entry.name: Attributes(*entry[1:-1]) for entry in entries}
            for entry in entries:
                assert view.lookup(directory, entry.name) is not None
        except DamagedError:
            continue
    return found


def stem(name: bytes) -> bytes:
    """Return the identifier in the name of a file, in a cohort or in the real tree."""
    return re.split(rb"[~.]", name)[0]


@pytest.fixture(scope="module")
def intact(database: Path) -> Walk:
    session = session_of(database, database.parent / "whole")
    return walked(session.view(session.saved()))


UNUSED_BY_TEXTS = ("marks.x1", "series_of", "other_uid_of")
"""Sections that no text about the drive needs."""


def test_a_drive_shows_nothing_from_a_damaged_section(
    whole: bytes, damaged: Callable[[str], Path], refresher_of: Callable[[Path], Refresher], intact: Walk
) -> None:
    assert set(intact) == set(PLACES)
    begun: Counter[int] = Counter()
    for section in places_of(whole):
        try:
            refresher = refresher_of(damaged(section))
        except DamagedError:  # mount then makes a new index first
            continue
        found = walked(refresher.drive.view)
        assert {**intact, **found} == intact, section
        begun[len(found)] += 1
        with pytest.raises(DamagedError, match=re.escape(f"damaged: {section}")):
            trio.run(refresher.drive.prepare, refresher._stored.verify)
        texts = refresher.drive.view.files.texts
        assert {b"README.txt", b"status.json"} <= texts._inodes.keys(), "no lookup makes them in the loop"
        if section in UNUSED_BY_TEXTS:
            assert texts._inodes.keys() == set(texts.names)
    assert begun[len(PLACES)] > 30  # damage to what these places do not need
    assert sum(begun.values()) > begun[len(PLACES)] + 10


def test_handlers_answer_eio_and_the_log_has_one_line(
    damaged: Callable[[str], Path],
    refresher_of: Callable[[Path], Refresher],
    caplog: pytest.LogCaptureFixture,
    expect_warning: Callable[[str], None],
) -> None:
    expect_warning(r"^WARNING: the index is damaged")
    refresher = refresher_of(damaged("columns.view"))
    operations = Operations(refresher.drive)

    async def requests() -> list[int]:
        told = []
        place = await operations.lookup(ROOT_INODE, b"by-view", RequestContext())
        for _ in range(3):
            with pytest.raises(FUSEError) as caught:
                await operations.opendir(place.st_ino, RequestContext())
            told.append(caught.value.errno)
        await operations.lookup(ROOT_INODE, b"README.txt", RequestContext())
        about = await operations.lookup(ROOT_INODE, b".omidbfs", RequestContext())
        await refresher._prepare()
        with pytest.raises(FUSEError) as caught:
            await operations.lookup(about.st_ino, b"facets.json", RequestContext())
        await operations.lookup(about.st_ino, b"status.json", RequestContext())
        return [*told, caught.value.errno]

    assert trio.run(requests) == [errno.EIO] * 4
    assert [record.getMessage() for record in caplog.records] == [
        "the index is damaged: columns.view; what needs it gets EIO until a refresh has built it anew"
    ]


@pytest.mark.parametrize("section", ["images.heap", "identity", "columns.view", "dcm.size", "client_identity"])
def test_a_drive_with_a_damaged_index_makes_a_new_one_at_once_and_no_inode_changes_hands(
    damaged: Callable[[str], Path],
    refresher_of: Callable[[Path], Refresher],
    intact: Walk,
    section: str,
    monkeypatch: pytest.MonkeyPatch,
    expect_warning: Callable[[str], None],
) -> None:
    expect_warning(rf"^WARNING: the index is damaged: {re.escape(section)};")
    told: list[set[tuple[int, bytes]]] = []
    monkeypatch.setattr(
        "omidbfs.fuse.forgetting.tell_kernel", lambda found: told.append(set(found.entries)) or True
    )
    refresher = refresher_of(damaged(section))
    operations = Operations(refresher.drive)
    place = refresher.drive.view.resolve(b"all")
    assert place is not None
    operations.directories.told(place)
    operations.started.set()

    async def until_refreshed() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(refresher.run, Schedule(), operations.started)
            with trio.fail_after(60):
                while not refresher._done:
                    await trio.sleep(0.01)
            await refresher.end()

    trio.run(until_refreshed)
    assert refresher._error is None
    refresher._stored.verify()
    found = walked(refresher.drive.view)
    assert {where: set(names) for where, names in found.items()} == {
        where: set(names) for where, names in intact.items()
    }
    before = {attributes.inode: name for names in intact.values() for name, attributes in names.items()}
    for names in found.values():
        for name, attributes in names.items():
            known = before.get(attributes.inode)
            assert known is None or stem(known) == stem(name)
    assert any(place.inode in {inode for inode, _ in entries} for entries in told)


def test_texts_that_are_being_made_hold_up_no_other_name(
    database: Path, refresher_of: Callable[[Path], Refresher]
) -> None:
    """While the drive is prepared, a lookup of a text waits, and a lookup of anything else does not."""
    refresher = refresher_of(database.parent / "whole")
    operations, drive = Operations(refresher.drive), refresher.drive
    go_on, order = trio.Event(), list[str]()
    token: list[trio.lowlevel.TrioToken] = []

    async def text(about: int) -> None:
        await operations.lookup(about, b"status.json", RequestContext())
        order.append("text")

    async def requests() -> None:
        token.append(trio.lowlevel.current_trio_token())
        about = await operations.lookup(ROOT_INODE, b".omidbfs", RequestContext())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drive.prepare, lambda: trio.from_thread.run(go_on.wait, trio_token=token[0]))
            while drive.preparing is None:
                await trio.sleep(0)
            nursery.start_soon(text, about.st_ino)
            await trio.sleep(0)
            all_ = await operations.lookup(ROOT_INODE, b"all", RequestContext())
            await operations.lookup(all_.st_ino, b"3.dcm", RequestContext())
            order.append("file")
            go_on.set()

    trio.run(requests)
    assert order == ["file", "text"]


# Sections


@pytest.fixture
def stored(database: Path) -> Stored:
    return session_of(database, database.parent / "whole").saved(whole=False)


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[int]]:
    """The number of comparisons of each section, by the place of its bytes."""
    calls: Counter[int] = Counter()
    checksum = sections_module.checksum

    def counting(array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> int:
        if array.size:
            calls[array.__array_interface__["data"][0]] += 1
        return checksum(array)

    monkeypatch.setattr(sections_module, "checksum", counting)
    return calls


def test_a_section_is_compared_once_and_only_if_it_is_used(stored: Stored, compared: Mapping[int, int]) -> None:
    index = stored.index
    assert not compared
    for _ in range(3):
        index.images.take(np.array([0, 1]))
        index.columns["view"].sum()
        index.files[0].size.sum()
    assert list(compared.values()) == [1] * 4
    assert "view" in index.columns
    assert index.lacking == ()
    assert len(compared) == 4
    stored.verify()
    stored.verify()
    assert set(compared.values()) == {1}


def test_an_object_is_like_any_other_once_all_of_it_is_read(stored: Stored) -> None:
    index = stored.index
    names = index.studies
    assert type(names) is not Names
    assert list(names) == list(pickle.loads(pickle.dumps(names))) == [b"1.1", b"2.1"]
    assert type(names) is Names
    assert not hasattr(index, "no_such_field")
    stored.verify()
    assert (type(index), type(index.columns), type(index.marks)) == (Index, dict, MarkColumns)
    assert {type(part) for part in index.files} == {FileColumns}


def test_threads_that_read_a_section_at_the_same_time_get_the_same(stored: Stored) -> None:
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: stored.index.images.heap, range(64)))
    assert len({id(array) for array in found}) == 1


def test_a_damaged_section_is_compared_once_and_refused_each_time(compared: Mapping[int, int]) -> None:
    sections = Sections({"a": np.zeros(8, np.uint8)}, {"a": 1})
    for _ in range(3):
        with pytest.raises(DamagedError, match="damaged: a"):
            sections.read("a")
    with pytest.raises(DamagedError):
        sections.verify()
    assert list(compared.values()) == [1]
