"""Bringing an index up to date gives the same as reading everything again, but reads only what changed."""

import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_index import plain
from trees import Quirky, Tree

from omidbfs.base.errors import UserError
from omidbfs.clinical.outcomes import OUTCOMES, Windows
from omidbfs.cohorts.cohort import EVERYTHING, Cohorts
from omidbfs.database.client import ClientReader
from omidbfs.database.client_files import ClientFiles
from omidbfs.database.layout import Source, find_source
from omidbfs.database.problems import Problem
from omidbfs.database.records import ImageDb, Nbss
from omidbfs.exports.omidb import omidb_summary
from omidbfs.facets import BY_NAME, RESERVED
from omidbfs.index import build, chunk
from omidbfs.index.build import Work, refreshed
from omidbfs.index.classification import LINK_ALL, Classification, classified
from omidbfs.index.columns import FileColumns, Index
from omidbfs.index.executors import executor_for
from omidbfs.index.saved import source_fingerprint
from omidbfs.index.slices import only_clients
from omidbfs.index.store import load, save

IDENTITIES = ("identity", "row_of", "client_identity", "client_ordinal")


def facts(index: Index) -> dict[str, Any]:
    """Return the content of an index without identities, with accesses instead of their codes."""
    whole: dict[str, Any] = plain(index)
    for name in (*IDENTITIES, "accesses"):
        del whole[name]

    def resolved(files: FileColumns) -> dict[str, Any]:
        accesses = [index.accesses[code] if code else None for code in files.access.reshape(-1).tolist()]
        return plain(files) | {"access": (files.access.shape, accesses)}

    return whole | {"files": [resolved(files) for files in index.files], "documents": resolved(index.documents)}


def rows(index: Index) -> dict[tuple[bytes, str, str], int]:
    """Return the row of each image, by client, study and name on disk."""
    return {(index.clients[int(index.client_of[row])], *index.on_disk(row)): row for row in range(len(index))}


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every user may enter. Those of pytest are private, which hides the modes below."""
    path = Path(tempfile.mkdtemp(prefix="omidbfs-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


# Any sequence of changes -----------------------------------------------------------------------------------


class Mutations:
    """Changes of a database, chosen at random but the same for every seed."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root, self.rng = root.resolve(), random.Random(seed)
        self.new = 0

    def change(self) -> str:
        """Make one change if the database permits, and return its name."""
        names = [name for name in vars(Mutations) if not name.startswith("_") and name != "change"]
        name = self.rng.choice(sorted(names))
        getattr(self, name)()
        return name

    def _any(self, *patterns: str) -> Path | None:
        found = [p for pattern in patterns for p in self.root.glob(pattern) if p.is_file() or p.is_dir()]
        # Some links lead out of the database. Changes must stay inside it.
        found = [path for path in found if path.resolve() == path]
        return self.rng.choice(sorted(found)) if found else None

    def _client(self) -> Path | None:
        return self._any("data/*/", "images/*/")

    def _study(self) -> Path | None:
        return self._any("data/*/*/", "images/*/*/")

    def _json(self) -> Path | None:
        return self._any("data/*/*.json", "data/*/*/*.json")

    def _image(self) -> Path | None:
        return self._any("data/*/*/*.json", "images/*/*/*.dcm")

    def _number(self) -> int:
        self.new += 1
        return 7_000_000 + self.new

    def remove_client(self) -> None:
        if client := self._client():
            for tree in self.rng.choice((["data"], ["images"], ["data", "images"])):
                shutil.rmtree(self.root / tree / client.name, ignore_errors=True)

    def copy_client(self) -> None:
        if client := self._client():
            new = f"{self.rng.choice(('optm', 'demd', 'zzzz', 'aaaa'))}{self._number()}"
            for tree in ("data", "images"):
                if (self.root / tree / client.name).is_dir():
                    subprocess.run(
                        ["cp", "-a", self.root / tree / client.name, self.root / tree / new], check=True
                    )
            for prefix in ("nbss_", "imagedb_"):
                document = self.root / "data" / new / f"{prefix}{client.name}.json"
                if document.is_file():
                    document.rename(document.with_name(f"{prefix}{new}.json"))

    def rename_client(self) -> None:
        if client := self._client():
            client.rename(client.with_name(f"optm{self._number()}"))

    def swap_clients(self) -> None:
        one, other = self._client(), self._client()
        if one and other and one.parent == other.parent and one != other:
            one.rename(one.with_name("swap"))
            other.rename(one)
            one.with_name("swap").rename(other)

    def remove_study(self) -> None:
        if study := self._study():
            shutil.rmtree(study)

    def rename_study(self) -> None:
        if study := self._study():
            study.rename(
                study.with_name(self.rng.choice((f"9.{self._number()}", f"an odd name {self._number()}")))
            )

    def move_study(self) -> None:
        study, client = self._study(), self._client()
        if study and client and not os.path.lexists(client / study.name):
            study.rename(client / study.name)

    def remove_image(self) -> None:
        if image := self._image():
            image.unlink()

    def rename_image(self) -> None:
        if image := self._image():
            new = self.rng.choice((f"8.{self._number()}", f"by-{self._number()}", f"\udcff{self._number()}"))
            image.rename(image.with_name(new + image.suffix))

    def copy_image(self) -> None:
        image, study = self._image(), self._study()
        if image and study and not os.path.lexists(study / image.name):
            shutil.copy2(image, study / image.name)  # often an image UID that occurs twice

    def spell_sidecar_otherwise(self) -> None:
        if image := self._any("data/*/*/*.json"):
            stem = image.name.removesuffix(".json").removesuffix(".dcm")
            other = image.with_name(f"{stem}.json" if image.name.endswith(".dcm.json") else f"{stem}.dcm.json")
            if not os.path.lexists(other):
                self.rng.choice((shutil.copy2, os.rename))(image, other)

    def edit_json(self) -> None:
        if file := self._json():
            content = file.read_bytes()
            edits = (
                content.replace(b"MLO", b"CC"),
                content.replace(b"CC", b"MLO"),
                content.replace(b"HOLOGIC", f"NOBODY {self._number()}".encode()),
                content.replace(b"ON", b"OM"),
                content + b" ",
                content[: len(content) // 2],
                b"{}",
                b"",
            )
            file.write_bytes(self.rng.choice(edits))

    def exchange_json(self) -> None:
        one, other = self._any("data/*/*/*.json"), self._any("data/*/*/*.json")
        if one and other:
            content = one.read_bytes()
            one.write_bytes(other.read_bytes())
            other.write_bytes(content)

    def replace_by_same_size(self) -> None:
        if file := self._image():
            facts = file.stat()
            new = file.with_name("new")
            new.write_bytes(file.read_bytes().swapcase())
            os.utime(new, ns=(facts.st_atime_ns, facts.st_mtime_ns + self.rng.choice((-1, 1, 10**9))))
            new.rename(file)

    def touch(self) -> None:
        if file := self._any("data/*/*", "data/*/*/*", "images/*/*/*", "data/*"):
            os.utime(file, (self.rng.randrange(2**31), self.rng.randrange(2**31)))

    def change_mode(self) -> None:
        if file := self._any("data/*/*.json", "data/*/*/*", "images/*/*/*", "data/*/", "images/*/*/"):
            file.chmod(self.rng.choice((0o700, 0o755, 0o750, 0o500, 0o777)))

    def change_owner(self) -> None:
        if os.geteuid() == 0 and (file := self._any("data/*/*/*.json", "images/*/*/*.dcm")):
            os.chown(file, self.rng.randrange(3), self.rng.randrange(3))

    def spell_document_otherwise(self) -> None:
        if document := self._any("data/*/nbss_*.json", "data/*/IMAGEDB_*.json", "data/*/imagedb_*.json"):
            prefix, _, rest = document.name.partition("_")
            other = document.with_name(f"{prefix.swapcase()}_{rest}")
            if not os.path.lexists(other):
                self.rng.choice((shutil.copy2, os.rename))(document, other)

    def remove_document(self) -> None:
        if document := self._any("data/*/*.json"):
            document.unlink()

    def something_else(self) -> None:
        if place := self._any("data", "images", "data/*/", "images/*/*/"):
            new = place / self.rng.choice((f"x{self._number()}.txt", f".hidden{self._number()}", "notes"))
            if not os.path.lexists(new):
                self.rng.choice((Path.touch, Path.mkdir, os.mkfifo, lambda path: path.symlink_to("nowhere")))(new)

    def file_for_directory(self) -> None:
        if study := self._study():
            shutil.rmtree(study)
            study.write_text("a file")

    def link_to_client(self) -> None:
        if client := self._client():
            client.with_name(f"link{self._number()}").symlink_to(client.name)

    def link_to_outside(self) -> None:
        if client := self._client():
            outside = self.root.parent / f"outside {self._number()}"
            outside.mkdir()
            (client.parent / f"away{self._number()}").symlink_to(outside)


@pytest.mark.unmeasured
@pytest.mark.parametrize("seed", range(3))
def test_a_refresh_gives_what_reading_everything_again_gives(
    quirky_database: Quirky, place: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    root = place / "db"
    subprocess.run(["cp", "-a", quirky_database.path, root], check=True)
    source, mutations = find_source(root, follow_symlinks=seed % 3 == 1), Mutations(root, seed)
    monkeypatch.setattr(build, "CLIENTS_PER_CHUNK", (1, 5, 256)[seed % 3])
    index = refreshed(source)
    images: dict[int, object] = {}
    clients: dict[int, bytes] = {}
    made = []
    for _ in range(10):
        made.append([mutations.change() for _ in range(mutations.rng.choice((1, 1, 2, 6)))])
        if mutations.rng.random() < 0.5:
            save(place / "index", index, "")
            index = load(place / "index", "").index
        new = refreshed(source, index)
        expected, found = facts(refreshed(source)), facts(new)
        assert [name for name in expected if found[name] != expected[name]] == [], made
        check_identities(index, new, images, clients)
        assert refreshed(source, new) is new
        index = new


def check_identities(before: Index, after: Index, images: dict[int, object], clients: dict[int, bytes]) -> None:
    """Check that identities stay, that each stands for one thing, and that the inverse tables agree."""
    had, has = rows(before), rows(after)
    for key in had.keys() & has.keys():
        assert before.identity[had[key]] == after.identity[has[key]], key
    for key, row in has.items():
        number = int(after.identity[row])
        assert images.setdefault(number, key) == key
        assert after.row_of[number] == row
    assert np.count_nonzero(after.row_of != 0xFFFFFFFF) == len(after) == len({*after.identity.tolist()})
    for ordinal, name in enumerate(after.clients):
        number = int(after.client_identity[ordinal])
        assert clients.setdefault(number, name) == name
        assert after.client_ordinal[number] == ordinal
        if known := before.client_table.find(name):
            assert before.client_identity[known[0]] == number
    assert np.count_nonzero(after.client_ordinal != 0xFFFFFFFF) == len(after.clients)


# Reading ---------------------------------------------------------------------------------------------------


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The clients whose files are opened, in order."""
    names: list[str] = []

    class Spy(ClientReader):
        def documents(self, files: ClientFiles, problems: list[Problem]) -> tuple[Nbss | None, ImageDb | None]:
            names.append(files.name)
            return super().documents(files, problems)

    monkeypatch.setattr(chunk, "ClientReader", Spy)
    return names


@pytest.fixture
def five(place: Path) -> Tree:
    """Five clients of two images each."""
    tree = Tree(place / "db")
    for nth in range(5):
        client = tree.client(f"demd{nth}").episode("1", "M")
        client.study(f"1.{nth}", "1").image(f"1.{nth}.1", ViewPosition="CC").image(f"1.{nth}.2", dcm=None)
    return tree


def test_of_a_source_that_has_not_changed_nothing_is_read(five: Tree, read: list[str]) -> None:
    source = find_source(five.root)
    index = refreshed(source)
    assert read == [f"demd{nth}" for nth in range(5)]
    read.clear()
    assert refreshed(source, index) is index
    assert read == []


def touch_again(path: Path) -> None:
    facts = path.stat()
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1))


@pytest.mark.parametrize(
    "change",
    [
        lambda data, images: touch_again(data / "nbss_demd3.json"),
        lambda data, images: touch_again(data / "1.3" / "1.3.1.json"),
        lambda data, images: touch_again(images / "1.3" / "1.3.1.dcm"),
        lambda data, images: (data / "imagedb_demd3.json").chmod(0o400),
        lambda data, images: (data / "1.3").chmod(0o700),
        lambda data, images: images.chmod(0o700),
        lambda data, images: (data / "imagedb_demd3.json").unlink(),
        lambda data, images: (data / "imagedb_demd3.json").rename(data / "IMAGEDB_demd3.json"),
        lambda data, images: (data / "1.3" / "1.3.2.json").rename(data / "1.3" / "1.3.2.dcm.json"),
        lambda data, images: (data / "1.3" / "1.3.2.json").rename(data / "1.3" / "1.3.3.json"),
        lambda data, images: (images / "1.3" / "1.3.2.dcm").write_bytes(b""),
        lambda data, images: (data / "1.3").rename(data / "1.4"),
        lambda data, images: shutil.rmtree(images),
        lambda data, images: (data / "9.9").mkdir(),
        lambda data, images: (data / "1.3" / "notes.txt").touch(),
        lambda data, images: (data / "link").symlink_to("1.3"),
        lambda data, images: os.link(images / "1.3" / "1.3.1.dcm", images.parents[2] / "backup"),
    ],
)
def test_of_a_client_with_any_change_all_is_read_and_of_no_other(
    five: Tree, read: list[str], change: Callable[[Path, Path], object]
) -> None:
    source = find_source(five.root)
    index = refreshed(source)
    read.clear()
    change(five.data / "demd3", five.images / "demd3")
    new = refreshed(source, index)
    assert read == ["demd3"]
    assert new is not index
    assert facts(new) == facts(refreshed(source))


def test_an_empty_directory_in_data_makes_a_study_a_rival_of_another(place: Path) -> None:
    tree = Tree(place / "db")
    client = tree.client().episode("1", day="2012-05-01")
    study = client.study("1.1", "1", "2012-06-01").image("1.1.1").study("1.2", "1", "2012-07-01")
    study.image("1.2.1", has_sidecar=False)
    source, event = find_source(tree.root), BY_NAME["event"]
    index = refreshed(source)
    assert Cohorts(index).counts(EVERYTHING, event) == [("screening", 1), ("none", 1)]
    study.data.mkdir()
    after = refreshed(source, index)
    assert Cohorts(after).counts(EVERYTHING, event) == [("none", 2)]
    assert facts(after) == facts(refreshed(source))


def test_an_edit_of_the_same_size_that_restores_the_time_is_read(five: Tree, read: list[str]) -> None:
    source = find_source(five.root)
    index = refreshed(source)
    read.clear()
    file = five.data / "demd1/1.1/1.1.1.json"
    before = file.stat()
    file.write_bytes(file.read_bytes().replace(b"CC", b"XX"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    new = refreshed(source, index)
    assert read == ["demd1"]
    assert facts(new) == facts(refreshed(source))
    assert new.columns["view"].tolist() != index.columns["view"].tolist()


def test_a_client_that_comes_or_goes_makes_no_other_client_read(five: Tree, read: list[str]) -> None:
    source = find_source(five.root)
    index = refreshed(source)
    read.clear()
    five.client("demd22").study("5.5").image("5.5.1")
    shutil.rmtree(five.data / "demd0")
    shutil.rmtree(five.images / "demd0")
    new = refreshed(source, index)
    assert read == ["demd22"]
    assert list(new.clients) == [b"demd1", b"demd2", b"demd22", b"demd3", b"demd4"]
    read.clear()
    shutil.rmtree(five.data / "demd4")
    shutil.rmtree(five.images / "demd4")
    assert list(refreshed(source, new).clients) == [b"demd1", b"demd2", b"demd22", b"demd3"]
    assert read == []


def test_something_new_beside_the_clients_is_noticed(five: Tree, read: list[str]) -> None:
    source = find_source(five.root)
    index = refreshed(source)
    read.clear()
    (five.data / "README").write_text("")
    new = refreshed(source, index)
    assert {problem.file for problem in new.problems} - {problem.file for problem in index.problems} == {
        "data/README"
    }
    assert read == []
    (five.data / "README").unlink()
    assert facts(refreshed(source, new)) == facts(index)


def test_a_client_that_returns_gets_a_new_identity(five: Tree) -> None:
    source, away = find_source(five.root), five.root / "away"
    first = refreshed(source)
    (five.data / "demd2").rename(away)
    (five.images / "demd2").rename(five.root / "away too")
    second = refreshed(source, first)
    away.rename(five.data / "demd2")
    (five.root / "away too").rename(five.images / "demd2")
    third = refreshed(source, second)
    assert facts(third) == facts(first)
    given = {*first.identity.tolist()}
    assert [number in given for number in third.identity.tolist()].count(False) == 2
    assert sorted(third.client_identity.tolist()) == [0, 1, 3, 4, 5]


def test_a_uid_that_occurs_twice_is_a_problem_as_long_as_it_does(five: Tree) -> None:
    def duplicates(index: Index) -> list[str]:
        return [problem.file for problem in index.problems if problem.kind == "duplicate-uid"]

    source = find_source(five.root)
    index = refreshed(source)
    assert (duplicates(index), list(index.duplicates), index.studies_unique) == ([], [], True)
    shutil.copytree(five.data / "demd0" / "1.0", five.data / "demd4" / "1.0")
    index = refreshed(source, index)
    found = [f"data/{client}/1.0/1.0.{image}.json" for client in ("demd0", "demd4") for image in (1, 2)]
    assert (duplicates(index), index.studies_unique) == (found, False)
    shutil.rmtree(five.data / "demd0" / "1.0")
    shutil.rmtree(five.images / "demd0" / "1.0")
    index = refreshed(source, index)
    assert (duplicates(index), list(index.duplicates), index.studies_unique) == ([], [], True)


def test_progress_reports_compared_and_read_clients(five: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "CLIENTS_PER_CHUNK", 2)
    source = find_source(five.root)
    index = refreshed(source)
    touch_again(five.data / "demd0" / "nbss_demd0.json")
    touch_again(five.data / "demd4" / "nbss_demd4.json")
    told: list[tuple[str, int, int, int]] = []
    refreshed(source, index, Work(progress=lambda *numbers: told.append(numbers)))
    comparing = [("comparing", done, 5, 0) for done in (2, 4, 5)]
    assert told == [*comparing, ("reading", 1, 2, 2), ("reading", 2, 2, 4)]


# Some clients only -----------------------------------------------------------------------------------------


def test_only_the_clients_asked_for_are_refreshed(five: Tree, read: list[str]) -> None:
    source = find_source(five.root)
    some = {"demd1", "demd3", "demd9"}
    index = refreshed(source, only=some)
    assert read == ["demd1", "demd3"]
    assert refreshed(source, index, only=some) is index
    read.clear()
    for nth in (0, 3):
        touch_again(five.data / f"demd{nth}" / f"nbss_demd{nth}.json")
    new = refreshed(source, index, only=some)
    assert read == ["demd3"]
    assert facts(new) == facts(refreshed(source, only=some))
    read.clear()
    whole = refreshed(source, new)
    assert read == ["demd0", "demd2", "demd4"]
    assert facts(whole) == facts(refreshed(source))
    read.clear()
    fewer = refreshed(source, whole, only={"demd4"})
    assert (read, list(fewer.clients)) == ([], [b"demd4"])
    check_identities(whole, fewer, {}, {})


@pytest.mark.parametrize("some", [{"demd1", "demd3", "demd9"}, {"demd0"}, set(), {f"demd{n}" for n in range(5)}])
def test_a_part_of_an_index_is_the_index_of_those_clients(
    quirky_database: Quirky, five: Tree, some: set[str]
) -> None:
    for source in (find_source(five.root), find_source(quirky_database.path)):
        whole, alone = refreshed(source), refreshed(source, only=some)
        missing = [problem for problem in alone.problems if problem.kind == "client-not-on-disk"]
        part = only_clients(whole, some, missing, source)
        assert facts(part) == facts(alone)
        check_identities(whole, part, {}, {})


# A source that goes away -----------------------------------------------------------------------------------


def rename_away(root: Path) -> None:
    root.rename(root.with_name("away"))


def rename_a_tree_away(root: Path) -> None:
    (root / "images").rename(root / "away")


def unmount(root: Path) -> None:
    """As with a disk that is mounted at ``root/data``: the mount point, empty, is still there."""
    (root / "data").rename(root / "away")
    (root / "data").mkdir()


WAYS = [rename_away, rename_a_tree_away, unmount]


@pytest.mark.parametrize("go", WAYS[:2])
def test_a_missing_source_is_reported(five: Tree, go: Callable[[Path], None]) -> None:
    source = find_source(five.root)
    index = refreshed(source)
    go(five.root)
    for previous in (None, index):
        with pytest.raises(UserError, match=r"the source is gone \(No such file or directory\)"):
            refreshed(source, previous)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("go", WAYS)
@pytest.mark.parametrize(("phase", "done"), [("comparing", 1), ("comparing", 5), ("reading", 1), ("reading", 2)])
def test_a_source_that_goes_away_meanwhile_is_not_believed(
    five: Tree, monkeypatch: pytest.MonkeyPatch, phase: str, done: int, go: Callable[[Path], None], workers: int
) -> None:
    monkeypatch.setattr(build, "CLIENTS_PER_CHUNK", 1)
    source = find_source(five.root)
    index = refreshed(source)
    for nth in range(3):
        touch_again(five.data / f"demd{nth}" / f"nbss_demd{nth}.json")
    expected = facts(refreshed(source))
    gone = []

    def told(phase_: str, done_: int, *_: int) -> None:
        if (phase_, done_) == (phase, done):
            go(five.root)
            gone.append(go)

    with executor_for("local", workers) as executor:
        with pytest.raises(UserError, match=r"the source (is gone|was replaced or unmounted while)"):
            refreshed(source, index, Work(executor, workers, told))
        assert gone == [go]
        if go is rename_away:
            five.root.with_name("away").rename(five.root)
        else:
            tree = five.root / ("data" if go is unmount else "images")
            shutil.rmtree(tree, ignore_errors=True)
            (five.root / "away").rename(tree)
        assert facts(refreshed(source, index, Work(executor, workers))) == expected


def test_a_source_that_is_replaced_has_another_fingerprint(five: Tree) -> None:
    source = find_source(five.root)
    before = source_fingerprint(source)
    assert source_fingerprint(source) == before
    unmount(five.root)
    assert source_fingerprint(source) != before


def test_an_error_of_this_process_is_not_an_error_of_the_source(
    five: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_more(*_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(build, "read_chunk", no_more)
    with pytest.raises(OSError, match="Too many open files"):
        refreshed(find_source(five.root))


# Classification --------------------------------------------------------------------------------------------

WINDOWS = [
    Windows(normal_follow_up=12),
    Windows(benign_follow_up=40),
    Windows(ci_prior=0, cancer_prior=0),
    Windows(ci_prior=36, cancer_prior=18, normal_follow_up=30, benign_follow_up=6),
    Windows(1200, 1200, 1200, 1200),
]


@pytest.fixture(scope="module")
def histories(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """Forty clients with up to nine episodes each, in any order, some without events, links or a date."""
    tree, rng = Tree(tmp_path_factory.mktemp("histories") / "db"), random.Random(7)
    for nth in range(40):
        client = tree.client(f"demd{nth}")
        for number in range(rng.randrange(10)):
            day = date(2008, 1, 1) + timedelta(rng.randrange(4000))
            kind = rng.choice(("N", "N", "N", "NA", "B", "M", "CI", ""))
            fields = {"EpisodeOpenedDate": None, "SCREENING": {}} if rng.random() < 0.02 else {}
            client.episode(str(number), kind, str(day), **fields)
            linked = None if rng.random() < 0.1 else str(number)
            for image in range(rng.randrange(3)):
                study = client.study(f"1.{nth}.{number}", linked, str(day))
                study.image(f"1.{nth}.{number}.{image}", dcm=None)
    return find_source(tree.root)


def outcome_of(index: Index) -> list[str]:
    """Return the outcome of each row by its name in the facet."""
    names = [*RESERVED, *(value.code for value in BY_NAME["outcome"].values)]
    return [names[code] for code in index.columns["outcome"].tolist()]


@pytest.mark.parametrize("windows", WINDOWS)
def test_other_windows_give_the_result_of_a_build_with_them(
    histories: Source, monkeypatch: pytest.MonkeyPatch, windows: Windows
) -> None:
    index = refreshed(histories)
    with monkeypatch.context() as patch:
        patch.setattr(chunk, "Windows", lambda: windows)
        built = refreshed(histories)
    assert plain(classified(index, Classification(windows))) == plain(built)
    assert outcome_of(built) != outcome_of(index)


def test_an_index_is_saved_without_windows_and_with_unique_links(histories: Source) -> None:
    index = refreshed(histories)
    assert classified(index, Classification()) is index


@pytest.mark.parametrize("link_all", [False, True])
@pytest.mark.parametrize("windows", [Windows(), *WINDOWS])
def test_outcomes_are_those_that_the_table_of_omidb_has(
    histories: Source, windows: Windows, link_all: bool
) -> None:
    wanted = Classification(windows, link_all)
    index = classified(refreshed(histories), wanted)
    header, *table = omidb_summary(histories, wanted, Cohorts(index), EVERYTHING)
    lines = [dict(zip(header, row, strict=True)) for row in table]
    found = dict(zip((name.decode() for name in index.images), outcome_of(index), strict=True))
    compared = 0
    for line in lines:
        if line["SOPInstanceUID"]:
            theirs, ours = line["EpisodeOutcome"], found[str(line["SOPInstanceUID"])]
            assert ours == theirs if theirs in OUTCOMES else ours == "undefined" if theirs else ours in RESERVED
            compared += 1
    assert compared > 100


def test_the_source_is_not_needed_to_classify_again(five: Tree, tmp_path: Path, read: list[str]) -> None:
    index = refreshed(find_source(five.root))
    wanted = Classification(Windows(normal_follow_up=12, cancer_prior=1), link_all=True)
    expected = facts(classified(index, wanted))
    save(tmp_path / "index", index, "")
    shutil.rmtree(five.root)
    read.clear()
    assert facts(classified(load(tmp_path / "index", "").index, wanted)) == expected
    assert read == []


def test_to_link_all_changes_the_events_and_nothing_else(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.client().episode("1", "M").study("1.1", "1").image()
    index = refreshed(find_source(tree.root))
    other = classified(index, Classification(link_all=True))
    assert Cohorts(other).counts(EVERYTHING, BY_NAME["event"]) == Cohorts(index).counts(
        EVERYTHING, BY_NAME[LINK_ALL]
    )
    assert Cohorts(other).counts(EVERYTHING, BY_NAME["event"]) != Cohorts(index).counts(
        EVERYTHING, BY_NAME["event"]
    )
    for name in plain(index).keys() - {"columns", "combinations"}:
        assert plain(other)[name] == plain(index)[name], name
    assert all(
        np.array_equal(other.columns[name], index.columns[name]) for name in index.columns.keys() - {"event"}
    )
