"""The layout of a source: every spelling of a tree is found. Foreign files are reported, not shown."""

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trees import Tree

from omidbfs.base.errors import UserError
from omidbfs.base.names import printable
from omidbfs.database.client_files import ClientFiles
from omidbfs.database.layout import Scanner, Source, find_source
from omidbfs.database.problems import KINDS, Problem


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """One client, demd1, with one whole image, 1.1.1, in study 1.1."""
    return Tree(tmp_path / "db").client("demd1").study("1.1").image("1.1.1").of.tree


Scan = tuple[dict[str, ClientFiles], list[tuple[str, str]]]


def scan(source: Source) -> Scan:
    """Return the clients of a source, and file and kind of the problems."""
    problems: list[Problem] = []
    scanner = Scanner(source, problems)
    clients = {name: scanner.client(name) for name in scanner.clients()}
    assert {problem.kind for problem in problems} <= KINDS.keys()
    return clients, sorted((problem.file, problem.kind) for problem in problems)


def scanned(tree: Tree, **options: bool) -> Scan:
    return scan(find_source(tree.root, **options))


def shown(files: ClientFiles) -> list[str]:
    """Return the paths of the files of a client."""
    paths = list(files.documents)
    for study, images in files.studies.items():
        for image, halves in images.items():
            paths += [f"{study}/{image}.dcm"] * (halves.dcm is not None)
            paths += [f"{study}/{image}{halves.sidecar_suffix}"] * (halves.sidecar is not None)
    return sorted(paths)


# Roots -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("root", ["", "image_db/sharing/standard", "sharing/standard", "sharing/omi-db", "FFDM"])
@pytest.mark.parametrize("spelling", [("images", "data"), ("IMAGES", "DATA"), ("images", "DATA")])
def test_the_trees_are_found_wherever_the_wild_has_them(
    tmp_path: Path, root: str, spelling: tuple[str, str]
) -> None:
    images, data = (tmp_path / root / name for name in spelling)
    for directory in (images, data):
        directory.mkdir(parents=True)
    source = find_source(tmp_path)
    assert (source.images, source.data) == (str(images), str(data))
    assert (source.images_label, source.data_label) == spelling


def test_of_two_roots_and_of_two_spellings_the_first_is_taken(tmp_path: Path) -> None:
    for name in ("FFDM/images", "images", "IMAGES"):
        (tmp_path / name).mkdir(parents=True)
    assert find_source(tmp_path).images == str(tmp_path / "images")


@pytest.mark.parametrize("missing", ["images", "data"])
def test_one_tree_is_enough_and_the_other_one_is_reported(tree: Tree, missing: str) -> None:
    shutil.rmtree(tree.root / missing)
    clients, problems = scanned(tree)
    assert list(clients) == ["demd1"]
    assert (missing, "tree-missing") in problems


def test_two_trees_apart_are_one_database(tree: Tree, tmp_path: Path) -> None:
    other = tmp_path / "another disk"
    tree.images.rename(other)
    clients, problems = scan(find_source(None, other, tree.data))
    assert shown(clients["demd1"]) == ["1.1/1.1.1.dcm", "1.1/1.1.1.json", "imagedb_demd1.json", "nbss_demd1.json"]
    assert problems == []


def test_one_named_tree_completes_those_of_the_source(tree: Tree, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    source = find_source(tree.root, images=other)
    assert (source.images, source.data) == (str(other), str(tree.data))


def test_both_trees_can_be_one_directory(tree: Tree) -> None:
    shutil.copytree(tree.images, tree.data, dirs_exist_ok=True)
    clients, problems = scan(find_source(None, tree.data, tree.data))
    assert shown(clients["demd1"]) == ["1.1/1.1.1.dcm", "1.1/1.1.1.json", "imagedb_demd1.json", "nbss_demd1.json"]
    assert problems == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda root: (root / "none", None, None),
            "no such directory; SOURCE is the directory that holds images/",
        ),
        (lambda root: (root, None, None), "holds no images/ or data/ directory"),
        (lambda root: (None, root, None), "name a SOURCE directory, or both --images and --data"),
        (lambda root: (None, root, root / "none"), r"no such directory \(given as --data\)"),
        (lambda root: (root, root / "none", None), r"no such directory \(given as --images\)"),
    ],
)
def test_a_directory_that_is_no_source_is_refused_with_a_remedy(
    tmp_path: Path, make: Callable[[Path], tuple[Path | None, ...]], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        find_source(*make(tmp_path))


def test_an_empty_database_is_a_database(tmp_path: Path) -> None:
    assert scanned(Tree(tmp_path)) == ({}, [])


# Names -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["demd1", "optm175588", "ABCD0", "wxyz" + "9" * 16])
def test_four_letters_and_digits_are_a_client(tmp_path: Path, name: str) -> None:
    clients, problems = scanned(Tree(tmp_path).client(name).tree)
    assert (list(clients), problems) == ([name], [])


@pytest.mark.parametrize("name", ["optm_tmp", "demd", "abc1", "abcde1", "demd1x", ".demd1", "demd1 ", "demd١"])
def test_any_other_directory_is_reported(tree: Tree, name: str) -> None:
    (tree.data / name).mkdir()
    clients, problems = scanned(tree)
    assert list(clients) == ["demd1"]
    assert problems == [(f"data/{name}", "unexpected-entry")]


def test_a_file_is_no_client(tree: Tree) -> None:
    (tree.images / "demd2").write_text("")
    clients, problems = scanned(tree)
    assert list(clients) == ["demd1"]
    assert problems == [("images/demd2", "unexpected-entry")]


def test_a_client_may_be_in_one_tree_only(tree: Tree) -> None:
    (tree.images / "demd2" / "1.2").mkdir(parents=True)
    (tree.images / "demd2" / "1.2" / "1.2.1.dcm").write_text("")
    shutil.rmtree(tree.client("demd3").images)
    clients, problems = scanned(tree)
    assert {name: shown(files) for name, files in clients.items() if name != "demd1"} == {
        "demd2": ["1.2/1.2.1.dcm"],
        "demd3": ["imagedb_demd3.json", "nbss_demd3.json"],
    }
    assert problems == []


def test_a_client_may_be_a_file_in_the_other_tree(tree: Tree) -> None:
    shutil.rmtree(tree.images / "demd1")
    (tree.images / "demd1").write_text("")
    clients, problems = scanned(tree)
    assert shown(clients["demd1"]) == ["1.1/1.1.1.json", "imagedb_demd1.json", "nbss_demd1.json"]
    assert problems == [("images/demd1", "unexpected-entry")]


def test_a_client_that_vanishes_is_an_empty_client(tree: Tree) -> None:
    problems: list[Problem] = []
    scanner = Scanner(find_source(tree.root), problems)
    assert scanner.clients() == ["demd1"]
    for directory in (tree.images, tree.data):
        shutil.rmtree(directory / "demd1")
    assert shown(scanner.client("demd1")) == []


@pytest.mark.parametrize("suffix", [".json", ".dcm.json"])
def test_a_sidecar_has_either_name(tmp_path: Path, suffix: str) -> None:
    tree = Tree(tmp_path).client().study("1.1").image("1.1.1", suffix=suffix).of.tree
    clients, problems = scanned(tree)
    image = clients["demd1"].studies["1.1"]["1.1.1"]
    assert image.dcm is not None
    assert image.sidecar is not None
    assert (image.sidecar_suffix, problems) == (suffix, [])


def test_a_second_sidecar_is_reported_and_shown_as_an_image_of_its_own(tree: Tree) -> None:
    (tree.data / "demd1/1.1/1.1.1.dcm.json").write_text("{}")
    clients, problems = scanned(tree)
    images = clients["demd1"].studies["1.1"]
    assert problems == [("data/demd1/1.1/1.1.1.dcm.json", "duplicate-file")]
    assert {name: image.double for name, image in images.items()} == {"1.1.1": False, "1.1.1.dcm": True}
    assert "1.1/1.1.1.dcm.json" in shown(clients["demd1"])


@pytest.mark.parametrize("dcm", [[], ["1.1.dcm"], ["1.1.dcm.dcm"], ["1.1.dcm", "1.1.dcm.dcm"]])
@pytest.mark.parametrize(
    "sidecars",
    [
        ["1.1.dcm.json"],
        ["1.1.json", "1.1.dcm.json"],
        ["1.1.dcm.json", "1.1.dcm.dcm.json"],
        ["1.1.json", "1.1.dcm.json", "1.1.dcm.dcm.json"],
    ],
)
def test_however_often_a_name_says_dcm_no_file_is_lost(
    tmp_path: Path, dcm: list[str], sidecars: list[str]
) -> None:
    study = Tree(tmp_path).client("demd1").study("1.1")
    for place, names in ((study.images, dcm), (study.data, sidecars)):
        place.mkdir()
        for name in names:
            (place / name).write_text("{}")
    client = scanned(study.of.tree)[0]["demd1"]
    assert all(image.dcm or image.sidecar for image in client.studies["1.1"].values())
    files = shown(client)
    assert [file for file in files if "/" in file] == sorted(f"1.1/{name}" for name in (*dcm, *sidecars))


def test_documents_have_either_case_and_both_are_shown(tree: Tree) -> None:
    for kind in ("nbss", "imagedb"):
        (tree.data / f"demd1/{kind.upper()}_demd1.json").write_text("{}")
    clients, problems = scanned(tree)
    assert len(clients["demd1"].documents) == 4
    assert problems == [
        ("data/demd1/IMAGEDB_demd1.json", "duplicate-file"),
        ("data/demd1/NBSS_demd1.json", "duplicate-file"),
    ]


@pytest.mark.parametrize(
    "place",
    [
        "data/demd1/nbss_demd2.json",
        "data/demd1/Nbss_demd1.json",
        "data/demd1/other_demd1.json",
        "data/demd1/readme.txt",
        "data/demd1/.DS_Store",
        "data/demd1/1.1/1.1.1.dcm",
        "data/demd1/1.1/notes.txt",
        "data/demd1/1.1/.1.1.2.json",
        "data/demd1/1.1/.json",
        "data/demd1/1.1/1.1.2.JSON",
        "images/demd1/nbss_demd1.json",
        "images/demd1/1.1/1.1.1.json",
        "images/demd1/1.1/.dcm",
        "images/demd1/1.1/Thumbs.db",
        "images/Thumbs.db",
    ],
)
def test_a_stray_file_is_reported_and_not_shown(tree: Tree, place: str) -> None:
    before = shown(scanned(tree)[0]["demd1"])
    (tree.root / place).write_text("{}")
    clients, problems = scanned(tree)
    assert problems == [(place, "unexpected-entry")]
    assert shown(clients["demd1"]) == before


@given(st.binary(max_size=20).map(os.fsdecode) | st.text(st.characters(codec=None), max_size=20))
def test_any_name_can_be_printed(name: str) -> None:
    assert printable(name).encode().decode() == printable(name)


# Special files --------------------------------------------------------------------------------------------

PLACES = ["images/demd1/1.1/1.2.dcm", "data/demd1/1.1/1.2.json", "data/demd1/NBSS_demd1.json"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_regular_file_is_reported_and_not_shown(
    tree: Tree, place: str, make: Callable[[Path], None]
) -> None:
    before = shown(scanned(tree)[0]["demd1"])
    make(tree.root / place)
    clients, problems = scanned(tree)
    assert problems == [(place, "not-a-regular-file")]
    assert shown(clients["demd1"]) == before


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("target", ["/etc/hostname", "1.1.1.json", "nowhere", "1.2.dcm"])
def test_a_link_in_place_of_a_file_is_reported_and_not_shown(tree: Tree, place: str, target: str) -> None:
    before = shown(scanned(tree)[0]["demd1"])
    (tree.root / place).symlink_to(target)
    clients, problems = scanned(tree)
    assert problems == [(place, "symlink")]
    assert shown(clients["demd1"]) == before


def test_a_link_in_place_of_a_file_is_followed_where_that_is_asked_for(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("123456789")
    (tree.images / "demd1/1.1/1.2.dcm").symlink_to(tmp_path / "elsewhere")
    (tree.images / "demd1/1.1/1.3.dcm").symlink_to("nowhere")
    clients, problems = scanned(tree, follow_symlinks=True)
    image = clients["demd1"].studies["1.1"]["1.2"]
    assert image.dcm is not None
    assert image.dcm.size == 9
    assert problems == [("images/demd1/1.1/1.3.dcm", "unreadable")]


@pytest.mark.parametrize("place", ["images/demd2", "data/demd1/1.2"])
@pytest.mark.parametrize("target", ["/tmp", "../../..", "nowhere", "demd2", "1.2"])
def test_a_link_that_leaves_the_source_or_leads_nowhere_is_no_directory(
    tree: Tree, place: str, target: str
) -> None:
    (tree.root / place).symlink_to(target)
    clients, problems = scanned(tree)
    assert problems == [(place, "symlink")]
    assert list(clients) == ["demd1"]
    assert list(clients["demd1"].studies) == ["1.1"]


def test_a_link_out_of_the_source_and_back_is_no_directory(tree: Tree) -> None:
    (tree.data / "demd1" / "1.2").symlink_to("../../../db/data/demd1/1.1")  # openat2(RESOLVE_BENEATH) refuses it
    assert scanned(tree)[1] == [("data/demd1/1.2", "symlink")]


def test_a_link_to_a_tree_whose_name_starts_alike_leaves_the_source(tmp_path: Path) -> None:
    data, images = tmp_path / "omi", tmp_path / "omi2"
    (data / "demd1" / "1.1").mkdir(parents=True)
    (images / "demd1").mkdir(parents=True)
    (images / "demd1" / "1.1").symlink_to("../../omi/demd1/1.1")
    assert scan(find_source(None, images, data))[1] == [("images/demd1/1.1", "symlink")]


def test_a_client_in_both_trees_is_not_followed_out_of_one_of_them(tree: Tree, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (tree.images / "demd1").rename(outside)
    (tree.images / "demd1").symlink_to(outside)
    clients, problems = scanned(tree)
    assert problems == [("images/demd1", "symlink")]
    assert "1.1/1.1.1.dcm" not in shown(clients["demd1"])
    assert "1.1/1.1.1.dcm" in shown(scanned(tree, follow_symlinks=True)[0]["demd1"])


def test_the_trees_themselves_may_be_links(tree: Tree, tmp_path: Path) -> None:
    before = scanned(tree)
    tree.images.rename(tmp_path / "elsewhere")
    tree.images.symlink_to(tmp_path / "elsewhere")
    assert scanned(tree) == before
    assert before[1] == []


def test_a_directory_that_becomes_a_link_after_it_was_looked_at_is_not_followed(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tree.data / "demd1" / "1.1"
    judged = Scanner._is_directory

    def judge_and_swap(self: Scanner, entry: "os.DirEntry[str]", directory: str, place: Any) -> bool:
        answer = judged(self, entry, directory, place)
        if place.path == "data/demd1/1.1":
            study.rename(tmp_path / "outside")
            study.symlink_to(tmp_path / "outside")
        return answer

    monkeypatch.setattr(Scanner, "_is_directory", judge_and_swap)
    clients, problems = scanned(tree)
    assert problems == [("data/demd1/1.1", "unreadable")]
    assert "1.1/1.1.1.json" not in shown(clients["demd1"])


def test_only_whole_names_are_documents(tree: Tree) -> None:
    for name in ("nbss_", "nbss_.json", "_demd1.json", "nbssdemd1.json", "xnbss_demd1.json"):
        (tree.data / "demd1" / name).write_text("{}")
    clients, problems = scanned(tree)
    assert {kind for _, kind in problems} == {"unexpected-entry"}
    assert len(problems) == 5
    assert set(clients["demd1"].documents) == {"nbss_demd1.json", "imagedb_demd1.json"}


def test_a_link_that_stays_inside_is_a_directory(tree: Tree) -> None:
    (tree.data / "demd1" / "1.2").symlink_to("1.1")
    clients, problems = scanned(tree)
    assert "1.2/1.1.1.json" in shown(clients["demd1"])
    assert problems == []


@pytest.fixture
def public_tree() -> Iterator[Tree]:
    """As ``tree``, below directories that everybody may search; those of pytest are private."""
    place = Path(tempfile.mkdtemp())
    place.chmod(0o755)
    yield Tree(place / "db").client("demd1").study("1.1").image("1.1.1").of.tree
    shutil.rmtree(place)


def modes(tree: Tree, **options: bool) -> dict[str, int]:
    """Return the modes of all images of demd1, by study."""
    studies = scanned(tree, **options)[0]["demd1"].studies
    return {study: image.dcm.mode for study, images in studies.items() for image in images.values() if image.dcm}


def test_write_bits_are_cleared_and_private_directories_make_private_files(public_tree: Tree) -> None:
    client, study = public_tree.images / "demd1", public_tree.images / "demd1/1.1"
    (study / "1.1.1.dcm").chmod(0o664)
    assert modes(public_tree) == {"1.1": 0o444}
    study.chmod(0o750)
    assert modes(public_tree) == {"1.1": 0o440}
    study.chmod(0o755)
    client.chmod(0o700)
    assert modes(public_tree) == {"1.1": 0o400}
    client.chmod(0o755)
    public_tree.root.chmod(0o700)
    assert modes(public_tree) == {"1.1": 0o400}


def test_a_link_does_not_lead_around_a_private_directory(public_tree: Tree) -> None:
    private = public_tree.images / "demd2"
    (private / "1.2").mkdir(parents=True)
    (private / "1.2" / "1.2.1.dcm").write_text("")
    private.chmod(0o700)
    (public_tree.images / "demd1/1.2").symlink_to("../demd2/1.2")
    (public_tree.images / "demd1/1.3").mkdir()
    (public_tree.images / "demd1/1.3/1.3.1.dcm").symlink_to("../../demd2/1.2/1.2.1.dcm")
    assert modes(public_tree) == {"1.1": 0o444, "1.2": 0o400}
    assert modes(public_tree, follow_symlinks=True) == {"1.1": 0o444, "1.2": 0o400, "1.3": 0o400}


# Errors of the operating system ---------------------------------------------------------------------------

AS_SOMEBODY = """
import json, os, sys
from omidbfs.database.layout import Scanner, find_source
from pathlib import Path
if os.geteuid() == 0:  # root reads everything
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
problems = []
scanner = Scanner(find_source(Path(sys.argv[1])), problems)
clients = [scanner.client(name) for name in scanner.clients()]
images = sum(len(study) for client in clients for study in client.studies.values())
print(json.dumps([images, sorted([problem.file, problem.kind] for problem in problems)]))
"""


@pytest.mark.parametrize("mode", [0o000, 0o444])
@pytest.mark.parametrize("place", ["images/demd1", "data/demd1/1.1", "data"])
def test_a_directory_that_may_not_be_read_is_reported_and_the_rest_is_shown(
    public_tree: Tree, place: str, mode: int
) -> None:
    Tree(public_tree.root).client("demd2").study("1.2").image("1.2.1")
    directory = public_tree.root / place
    before = stat.S_IMODE(directory.stat().st_mode)
    directory.chmod(mode)
    try:
        done = subprocess.run(
            [sys.executable, "-c", AS_SOMEBODY, str(public_tree.root)], capture_output=True, text=True, check=True
        )
    finally:
        directory.chmod(before)
    images, problems = json.loads(done.stdout)
    assert images == 2
    unreadable = [file for file, kind in problems if kind == "unreadable"]
    assert unreadable
    assert all(file.startswith(place) for file in unreadable)


# Times -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("second", "shown"), [(-(10**10), -(1 << 63)), (2 * 10**10, (1 << 63) - 1)])
@pytest.mark.parametrize("mode", [0o755, 0o750])
def test_a_time_that_64_bits_do_not_hold_is_shown_as_the_nearest_that_they_do(
    second: int, shown: int, mode: int
) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as place:  # a tmpfs holds every time; other disks do not
        tree = Tree(Path(place, "db")).client("demd1").study("1.1").image("1.1.1").of.tree
        (tree.images / "demd1/1.1").chmod(mode)
        file = tree.images / "demd1/1.1/1.1.1.dcm"
        os.utime(file, (second, second))
        clients, problems = scanned(tree)
        facts = clients["demd1"].studies["1.1"]["1.1.1"].dcm
        assert facts is not None
        assert (facts.mtime_ns, facts.size) == (shown, file.stat().st_size)
        assert problems == [("images/demd1/1.1/1.1.1.dcm", "odd-time")]
