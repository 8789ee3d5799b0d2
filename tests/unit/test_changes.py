"""When a view is replaced, the kernel is told of every known name that leads to something else."""

import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from trees import PIXELS, Tree, build_index

from omidbfs.database.file_kinds import DCM, FILE_KINDS
from omidbfs.database.layout import Source, find_source
from omidbfs.database.records import FileFacts
from omidbfs.exports.formats import BY_FILE
from omidbfs.facets.defined import Definition
from omidbfs.index.build import refreshed
from omidbfs.index.classification import Classification
from omidbfs.index.columns import Index
from omidbfs.pixels.rendition import BUILT_IN, Configured, Format, Longest, Rendition
from omidbfs.serving import changes as module
from omidbfs.serving.changes import Changes, all_that_is_known, changed_file, changes
from omidbfs.serving.continuity import continued
from omidbfs.view.about import generated_texts
from omidbfs.view.images import CohortDirectory
from omidbfs.view.inode import directory_inode, file_key
from omidbfs.view.nodes import Directory
from omidbfs.view.ownership import drive_access
from omidbfs.view.root import root_of
from omidbfs.view.view import View

CLIENTS = ("demd1", "demd2", "optm3")
STUDIES = ("1.1", "2.2")
IMAGES = ("7", "8")
MODELS = ("a", "b", "a,b", "not-a", "Foo Bar", "FOO bar")
VIEWS = ("CC", "MLO")

FORMATS: tuple[dict[str, object], ...] = (
    {},
    {**PIXELS},
    {**PIXELS, "Rows": 50},
    {**PIXELS, "ImageLaterality": "R"},
)
"""Attributes of pixels: without a rendition, with one, with one of another size, of another chest wall."""
MINE = Rendition("mine", Format.PNG16, Longest(64))

Description = dict[str, tuple[int, dict[str, dict[str, tuple[str, str, int, bool, int]]]]]
"""Client -> version of NBSS, study -> image -> model, view, version, whether it has a DICOM file, its FORMATS."""

images = st.tuples(
    st.sampled_from(MODELS), st.sampled_from(VIEWS), st.integers(0, 2), st.booleans(), st.integers(0, 3)
)
studies = st.dictionaries(st.sampled_from(IMAGES), images, min_size=1, max_size=2)
clients = st.tuples(st.integers(0, 1), st.dictionaries(st.sampled_from(STUDIES), studies, min_size=1, max_size=2))
databases = st.dictionaries(st.sampled_from(CLIENTS), clients, max_size=3)


def write(root: Path, database: Description) -> Source:
    """Write a database. Equal descriptions give files with equal times."""
    shutil.rmtree(root, ignore_errors=True)
    tree = Tree(root)
    for name, (nbss, studies) in database.items():
        client = tree.client(name).episode("1", "NB"[nbss])
        for uid, its in studies.items():
            study = client.study(uid, episode="1")
            for image, (model, view, version, has_dcm, pixels) in its.items():
                said = {"ManufacturerModelName": model, "ViewPosition": view, **FORMATS[pixels]}
                study.image(image, dcm=b"" if has_dcm else None, **said)
                for path in (study.images / f"{image}.dcm", study.data / f"{image}.json"):
                    if path.exists():
                        os.utime(path, (0, version))
        for path in client.data.glob("*.json"):
            os.utime(path, (0, nbss))
    return find_source(root)


def view_of(source: Source, index: Index, configured: Configured | None = None) -> View:
    texts = generated_texts(root_of(index), (source.images, source.data), Classification())
    return View(index, drive_access(source), texts, configured=configured)


def known_to_the_kernel(view: View) -> Iterator[Directory]:
    """Yield every directory that is listed, and many that are only found."""
    paths = [b""]
    while paths:
        directory = view.resolve(paths.pop())
        assert directory is not None
        yield directory
        listing = view.listing(directory)
        paths += [entry.directory.path for entry in listing.page(0, listing.length) if entry.directory]
    models = [model.encode() for model in MODELS]
    parts = [b"by-model/" + model for model in [*models, b"not-b", b"a,foo-bar", b"Foo Bar,b"]]
    parts += [b"by-client/demd1,demd2", b"by-client/not-demd1", b"by-study/1.1,2.2", b"by-file-type/json"]
    parts += [b"as-png", b"as-mine", b"as-png-16/by-model/foo-bar", b"by-view/CC/as-png"]
    for part in parts:
        for below in (
            *(b"", b"/by-view", b"/by-view/CC", b"/by-client", b"/by-client/demd1", b"/by-client/demd2/1.1"),
            *(b"/by-study", b"/by-study/1.1", b"/by-outcome/normal", b"/by-file-type/dcm"),
            *(b"/all", b"/as-png", b"/as-mine"),
        ):
            yield from _found(view, part + below)
    for client in CLIENTS:
        for below in (b"", b"/1.1", b"/2.2"):
            for part in parts:
                yield from _found(view, b"by-client/" + client.encode() + below + b"/" + part)


def _found(view: View, path: bytes) -> Iterator[Directory]:
    """Yield the directory at a path and those on the way to it: the kernel has looked each of them up."""
    names = path.split(b"/")
    for length in range(1, len(names) + 1):
        directory = view.resolve(b"/".join(names[:length]))
        if directory is not None:
            yield directory


def names_in(view: View, directory: Directory, children: set[bytes]) -> set[bytes]:
    listing = view.listing(directory)
    names = {entry.name for entry in listing.page(0, listing.length)} | children
    for image in IMAGES:
        for kind in ("dcm", "json", "png"):
            names.add(f"{image}.{kind}".encode())
            names |= {f"{image}~{c}~{s}.{kind}".encode() for c in CLIENTS for s in STUDIES}
    return names


def untold(old: View, new: View, found: Changes) -> list[str]:
    """Return the names about which the kernel would be wrong."""
    known = {directory.path: directory for directory in known_to_the_kernel(old)}
    entries, attributes = set(found.entries), set(found.attributes)
    root, wrong = old.root.inode, []

    def is_told(path: bytes) -> bool:
        names = path.split(b"/")
        above = [b"/".join(names[:length]) for length in range(len(names))]
        return any(
            (directory_inode(parent) if parent else root, name) in entries
            for parent, name in zip(above, names, strict=True)
        )

    for path, directory in known.items():
        assert directory.inode in attributes, path
        inner = {other.rpartition(b"/")[2] for other in known if other and other.rpartition(b"/")[0] == path}
        after = new.resolve(path)
        for name in names_in(old, directory, inner):
            before = old.lookup(directory, name)
            place = path + b"/" + name if path else name
            if before is None or (isinstance(before, Directory) and place not in known):
                continue
            there = new.lookup(after, name) if after is not None else None
            if isinstance(before, Directory):
                if not isinstance(there, Directory) and not is_told(place):
                    wrong.append(f"gone: {place!r}")
            elif before != there and not is_told(place):
                wrong.append(f"leads elsewhere: {place!r}")
            elif before == there and before not in attributes and not is_told(place):
                was, is_now = old.attributes(before), new.attributes(before)
                wrong += [f"other attributes: {place!r}"] * (was != is_now)
    return wrong


def one(
    model: str = "a",
    view: str = "CC",
    version: int = 0,
    has_dcm: bool = True,
    image: str = "7",
    nbss: int = 0,
    pixels: int = 1,
):
    return (nbss, {"1.1": {image: (model, view, version, has_dcm, pixels)}})


@settings(max_examples=20)
@given(databases, databases)
@example({"demd1": one()}, {"demd1": one(), "demd2": one()})
@example({"demd1": one(), "demd2": one()}, {"demd1": one()})
@example({"demd1": one("a"), "demd2": one("b", image="8")}, {"demd1": one("a"), "optm3": one("a,b")})
@example({"demd1": one("not-a"), "demd2": one("b", image="8")}, {"demd1": one("a"), "demd2": one("b", image="8")})
@example({"demd1": one("Foo Bar"), "demd2": one("FOO bar")}, {"demd1": one("FOO bar"), "demd2": one("FOO bar")})
@example({"demd1": one(nbss=0)}, {"demd1": one(nbss=1)})
@example({"demd1": one()}, {"demd1": one(view="MLO")})
@example({"demd1": one()}, {"demd1": one(pixels=0)})
@example({"demd1": one()}, {"demd1": one(pixels=2)})
@example({"demd1": one()}, {"demd1": one(pixels=3)})
@pytest.mark.unmeasured
def test_the_kernel_is_told_of_every_name_that_leads_elsewhere(before: Description, after: Description) -> None:
    with tempfile.TemporaryDirectory() as place:
        source = write(Path(place) / "db", before)
        index = refreshed(source)
        old = view_of(source, index)
        source = write(Path(place) / "db", after)
        new = view_of(source, refreshed(source, index))
        known = [directory.path for directory in known_to_the_kernel(old)]
        assert untold(old, new, changes(old, new, known)) == []


@pytest.mark.parametrize("most", [10**6, 0])
@pytest.mark.parametrize(
    "after",
    [
        Configured(),
        Configured({"mine": MINE}, 5),
        Configured({"mine": MINE}, 2**62),
        Configured({"mine": replace(MINE, mirrors=True)}, 2**62),
        Configured({"mine": replace(MINE, format=Format.NPY)}, 2**62),
    ],
)
def test_the_kernel_is_told_of_a_changed_definition(
    tmp_path: Path, after: Configured, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_COMPARISONS", most)
    source = write(tmp_path / "db", {"demd1": one(), "demd2": one("b", pixels=0, image="8")})
    index = refreshed(source)
    old, new = view_of(source, index, Configured({"mine": MINE}, 2**61)), view_of(source, index, after)
    new.renditions.continue_from(old.renditions)
    known = [directory.path for directory in known_to_the_kernel(old)]
    assert b"as-mine/all" in known
    held = old.lookup(old.resolve(b"as-mine/all"), b"7.png")  # type: ignore[arg-type]
    assert isinstance(held, int)
    assert untold(old, new, changes(old, new, known, [held])) == []


@pytest.mark.parametrize("what", ["pixel_formats", "orientations"])
def test_the_kernel_is_told_of_renditions_if_an_index_says_other_things_of_the_same_files(
    tmp_path: Path, what: str
) -> None:
    source = write(tmp_path / "db", {"demd1": one(pixels=3), "demd2": one(pixels=3, image="8")})
    index = refreshed(source)
    formats = tuple(one._replace(Rows=105 if one.Rows else None) for one in index.pixel_formats)
    sides = tuple(one._replace(chest_wall_side=None) for one in index.orientations)
    changed = {"pixel_formats": formats} if what == "pixel_formats" else {"orientations": sides}
    old, new = view_of(source, index), view_of(source, replace(index, **changed))
    found = changes(old, new, [directory.path for directory in known_to_the_kernel(old)])
    directory = old.resolve(b"as-png/all")
    assert directory is not None
    assert old.lookup(directory, b"7.png") in set(found.attributes)
    assert untold(old, new, changes(old, new, [each.path for each in known_to_the_kernel(old)])) == []


@settings(max_examples=5)
@given(databases, databases)
@pytest.mark.unmeasured
def test_after_too_many_changes_the_kernel_forgets_all_but_open_files(
    before: Description, after: Description
) -> None:
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MOST_COMPARISONS", 0)
        source = write(Path(place) / "db", before)
        index = refreshed(source)
        old = view_of(source, index)
        source = write(Path(place) / "db", after)
        new = view_of(source, refreshed(source, index))
        known = [directory.path for directory in known_to_the_kernel(old)]
        flat = [directory for directory in known_to_the_kernel(old) if isinstance(directory, CohortDirectory)]
        files = {
            inode
            for directory in flat
            for name in names_in(old, directory, set())
            if isinstance(inode := old.lookup(directory, name), int)
        }
        found = changes(old, new, known, files)
        assert untold(old, new, found) == []
        assert untold(old, new, all_that_is_known((old, new), known[1:], files)) == []
        everything_open = {entry for entry in found.entries if entry[0] != old.root.inode}
        patch.undo()
        entries = {entry for entry in changes(old, new, known).entries if entry[0] != old.root.inode}
        assert everything_open == entries, "what is open is told at every place"


def test_without_changes_only_texts_are_invalidated(tmp_path: Path) -> None:
    source = write(tmp_path / "db", {"demd1": one(), "demd2": one(image="8")})
    index = refreshed(source)
    old, new = view_of(source, index), view_of(source, index)
    found = changes(old, new, [directory.path for directory in known_to_the_kernel(old)])
    about = directory_inode(b".omidbfs")
    texts = {(about, name.encode()) for name in ("README.txt", "status.json", "facets.json", "problems.jsonl")}
    assert set(found.entries) == {*texts, (1, b"README.txt")}


def test_a_new_client_invalidates_no_name_of_another(tmp_path: Path) -> None:
    source = write(tmp_path / "db", {"demd1": one(), "demd2": one(image="8")})
    index = refreshed(source)
    old = view_of(source, index)
    source = write(tmp_path / "db", {"demd1": one(), "demd2": one(image="8"), "optm3": one(image="9")})
    new = view_of(source, refreshed(source, index))
    known = [directory.path for directory in known_to_the_kernel(old)]
    assert all(name.endswith((b".json", b".jsonl", b".txt")) for _, name in changes(old, new, known).entries)


TEXTS = (b"README.txt", b"status.json", b"facets.json", b"problems.jsonl")


def names_told(found: Changes) -> set[tuple[int, bytes]]:
    """Return the entries that the kernel is told of, except texts."""
    return {entry for entry in found.entries if entry[1] not in TEXTS}


def test_a_changed_definition_invalidates_only_its_facet(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "db")
    tree.client().study().image("7", ViewPosition="CC").image("8", ViewPosition="CC")
    source = find_source(tree.root)

    def defined(**texts: str) -> Definition:
        return Definition("mine", "", "image", "", table=tuple((name[1:], text) for name, text in texts.items()))

    old_index = refreshed(source, user_facets=[defined(_7="x", _8="x")])
    old = view_of(source, old_index)
    new = view_of(source, refreshed(source, old_index, user_facets=[defined(_7="y", _8="x")]))
    known = [b"all", b"by-mine", b"by-mine/x", b"by-mine/x/by-client", b"by-mine/x,unknown", b"by-view/CC"]
    found = changes(old, new, known)
    assert old_index.client_digest.tolist() == new.index.client_digest.tolist()
    assert names_told(found) == {
        (directory_inode(place), name)
        for place in (b"by-mine/x", b"by-mine/x,unknown")
        for name in (b"7.dcm", b"7.json")
    }
    assert len(found.touched) == 0, "no file is another"


def test_a_changed_index_of_the_same_files_invalidates_names(tmp_path: Path) -> None:
    before = {"demd1": one(), "demd2": one(image="8")}
    source = write(tmp_path / "db", before)
    index = refreshed(source)
    old = view_of(source, index)
    source = write(tmp_path / "db", {"demd1": one(view="MLO", nbss=1), "demd2": one(image="8")})
    rebuilt = replace(continued(refreshed(source), index), client_digest=index.client_digest)
    new = view_of(source, rebuilt)
    known = [directory.path for directory in known_to_the_kernel(old)]
    assert untold(old, new, changes(old, new, known)) == []


def files_of(view: View) -> dict[str, int]:
    """Return path in the real tree -> inode."""
    found = {}
    for client in view.index.clients:
        top = view.resolve(b"by-client/" + client)
        assert top is not None
        places = [top]
        while places:
            place = places.pop()
            listing = view.listing(place)
            for entry in listing.page(0, listing.length):
                if entry.directory is not None:
                    places.append(entry.directory)
                else:
                    found[(place.path + b"/" + entry.name).decode()] = entry.inode
    return found


def test_a_changed_ctime_alone_puts_only_pages_in_doubt(tmp_path: Path) -> None:
    source = write(tmp_path / "db", {"demd1": one(), "demd2": one(image="8")})
    index = refreshed(source)
    old = view_of(source, index)
    for number, path in enumerate(path for path in (tmp_path / "db").glob("*/demd1/**/*") if path.is_file()):
        os.link(path, tmp_path / str(number))  # as cp -al does it
    new = view_of(source, refreshed(source, index))
    assert files_of(new) == files_of(old), "no inode is another"
    known = [directory.path for directory in known_to_the_kernel(old)]
    found = changes(old, new, known)
    assert names_told(found) == set()
    assert not set(found.attributes) & set(files_of(old).values())
    of_client = {file_key(inode) for path, inode in files_of(old).items() if "demd1" in path}
    assert set(found.touched) == of_client
    assert len(of_client) == 4


def test_changed_rights_invalidate_attributes_and_no_name(open_place: Path) -> None:
    source = write(open_place / "db", {"demd1": one(), "demd2": one(image="8")})
    index = refreshed(source)
    old = view_of(source, index)
    for path in (open_place / "db").glob("*/demd1/**/*"):
        if path.is_file():
            path.chmod(0o600)
    new = view_of(source, refreshed(source, index))
    found = changes(old, new, [directory.path for directory in known_to_the_kernel(old)])
    assert names_told(found) == set()
    told = set(found.attributes) & set(files_of(old).values())
    assert told == {inode for path, inode in files_of(old).items() if "demd1" in path}


def test_changed_rights_invalidate_the_attributes_of_renditions_that_a_file_decides(open_place: Path) -> None:
    source = write(open_place / "db", {"demd1": one(), "demd2": one(image="8")})
    index = refreshed(source)
    old = view_of(source, index)
    directory = old.resolve(b"as-png/all")
    assert directory is not None
    by_index = old.lookup(directory, b"7.png"), old.lookup(directory, b"8.png")
    for row in range(2):
        assert old.renditions.learn(row, BUILT_IN["png"], index.pixel_format(row)._replace(Rows=105))
    learned = old.lookup(directory, b"7.png"), old.lookup(directory, b"8.png")
    assert not {*learned} & {*by_index}
    (open_place / "db/images/demd1/1.1/7.dcm").chmod(0o600)
    new = view_of(source, refreshed(source, index))
    new.continue_from(old, {})
    assert new.attributes(learned[0]).mode != old.attributes(learned[0]).mode  # type: ignore[arg-type, union-attr]
    told = set(changes(old, new, [b"as-png", b"as-png/all"]).attributes)
    assert told & {*learned} == {learned[0]}
    assert untold(old, new, changes(old, new, [each.path for each in known_to_the_kernel(old)])) == []


def test_a_file_that_changed_and_changed_back_is_invalidated_everywhere(tmp_path: Path) -> None:
    """The kernel may know either version by each path, and keeps it while a program has it open."""
    source = write(tmp_path / "db", {"demd1": one()})
    index = refreshed(source)
    old, new = view_of(source, index), view_of(source, index)
    places = (b"all", b"by-view/CC", b"by-client/demd1", b"by-client/demd1/1.1")
    files = old.files
    for inode in (files.image(0, DCM), files.document(0, 0)):
        assert inode is not None
        facts = files.facts(inode)
        assert facts is not None
        files.update(inode, FileFacts(facts.size + 1, facts.mtime_ns, facts.mode, facts.uid, facts.gid))
    found = changes(old, new, places)
    image = {(directory_inode(place), b"7.dcm") for place in places if place != b"by-client/demd1"}
    assert names_told(found) == image | {(directory_inode(b"by-client/demd1"), b"nbss_demd1.json")}
    assert set(files.found_changed_inodes()) <= set(found.attributes)


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A directory that every user may enter. Those of pytest are private, which hides the modes below."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        yield Path(place)


def test_changes_in_the_loop_do_not_disturb_a_thread_that_reads(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "db")
    study = tree.client().study()
    for number in range(100):
        study.image(f"1.{number}")
    source = find_source(tree.root)
    files = view_of(source, refreshed(source)).files
    inodes = [inode for row in range(100) for kind in FILE_KINDS if (inode := files.image(row, kind))]
    ended, failed = threading.Event(), []

    def ask() -> None:
        try:
            while not ended.is_set():
                assert set(files.found_changed_inodes()) <= set(inodes)
        except RuntimeError as error:
            failed.append(error)

    asking = threading.Thread(target=ask)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        asking.start()
        for _ in range(20):
            for inode in inodes:
                facts = files.facts(inode)
                assert facts is not None
                files.update(inode, facts)
            files._changed.clear()
    finally:
        ended.set()
        asking.join()
        sys.setswitchinterval(interval)
    assert failed == []


# Identities


def places(index: Index) -> dict[tuple[bytes, bytes, bytes], int]:
    """Return (client, study, image) -> identity."""
    rows = range(len(index))
    return {
        (
            index.clients[int(index.client_of[row])],
            index.studies[int(index.study_of[row])],
            index.images[row],
        ): int(index.identity[row])
        for row in rows
    }


@settings(max_examples=40)
@given(st.lists(databases, min_size=2, max_size=4), st.lists(st.booleans(), min_size=4, max_size=4))
def test_identities_go_on_through_indexes_that_were_lost(history: list[Description], lost: list[bool]) -> None:
    with tempfile.TemporaryDirectory() as place:
        kept: Index | None = None
        shown: Index | None = None
        owner: dict[int, tuple[bytes, bytes, bytes]] = {}
        for database, is_lost in zip(history, lost, strict=False):
            source = write(Path(place) / "db", database)
            kept = refreshed(source, None if is_lost else kept)
            before = places(shown) if shown is not None else {}
            shown = continued(kept, shown) if shown is not None else kept
            now = places(shown)
            assert all(now[name] == number for name, number in before.items() if name in now)
            assert len(set(now.values())) == len(now)
            for name, number in now.items():
                assert owner.setdefault(number, name) == name or name in before, "a number is never another's"
                assert int(shown.row_of[number]) == list(now).index(name)
            for ordinal, number in enumerate(shown.client_identity.tolist()):
                assert int(shown.client_ordinal[number]) == ordinal


def test_identities_that_go_on_cost_nothing(tmp_path: Path) -> None:
    index = refreshed(write(tmp_path / "db", {"demd1": one(), "demd2": one(image="8")}))
    new = refreshed(write(tmp_path / "db", {"demd2": one(image="8", version=1), "optm3": one(image="9")}), index)
    assert continued(new, index) is new


def test_generated_files_of_a_cohort_are_forgotten_after_any_change(tmp_path: Path) -> None:
    Tree(tmp_path / "db").client().study().image("1.1.1", ViewPosition="CC")
    source = find_source(tmp_path / "db")
    index = refreshed(source)
    old, new = (View(index, drive_access(source), {}) for _ in range(2))
    path = b"by-view/CC/.omidbfs"
    place = old.resolve(path)
    assert place is not None
    forgotten = changes(old, new, [path]).entries
    assert {(place.inode, name) for name in BY_FILE} <= set(forgotten)


def test_a_changed_file_invalidates_the_directories_that_hold_it(tmp_path: Path) -> None:
    image = ("Foo Bar", "CC", 1, True, 1)
    other = ("b", "MLO", 2, True, 2)
    source = write(
        tmp_path / "db",
        {"demd1": (1, {"1.1": {"7": image, "8": other}}), "demd2": (0, {"2.2": {"7": other, "9": image}})},
    )
    view = view_of(source, build_index(source, Classification()))
    known = list(known_to_the_kernel(view))
    listed: dict[int, set[tuple[int, bytes]]] = {}
    for directory in known:
        listing = view.listing(directory)
        for entry in listing.page(0, listing.length):
            rendition = view.renditions.found(entry.inode)
            source_inode = entry.inode if rendition is None else rendition.source
            listed.setdefault(source_inode, set()).add((directory.inode, entry.name))
    files = [inode for inode in listed if view.files.facts(inode) is not None]
    assert len(files) == 4 * 2 + 2 * 2
    for inode in files:
        facts = view.files.facts(inode)
        assert facts is not None
        view.files.update(inode, FileFacts(facts.size + 1, facts.mtime_ns, facts.mode, facts.uid, facts.gid))
        found = changed_file(view, inode, known)
        assert found.attributes == [inode]
        assert set(found.entries) == listed[inode]
