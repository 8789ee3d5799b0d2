"""At each refresh a drive becomes what its source is, and the kernel keeps no outdated answer."""

import ctypes
import errno
import json
import mmap
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drives import Drives, eventually, mounted_below
from programs import EARLY
from reference import File, Place, Reference
from test_tree import compare, dirents, walk
from trees import MARK, Client, Study, Tree

from omidbfs.clinical.outcomes import Windows

FAILED = "the refresh failed and the drive goes on as it was"


def status(mount: Path) -> dict[str, Any]:
    """Return what a drive says of its refreshes."""
    found: dict[str, Any] = json.loads((mount / ".omidbfs/status.json").read_bytes())
    return found


def refresh(mount: Path, state: str = "idle") -> None:
    """Refresh by signal, and wait until it is done."""
    before = status(mount)
    wanted = before["refresh"]["done"] + (2 if before["refresh"]["state"] == "refreshing" else 1)
    os.kill(before["pid"], signal.SIGHUP)
    eventually(lambda: status(mount)["refresh"]["done"] >= wanted, "refreshed")
    assert status(mount)["refresh"]["state"] == state, status(mount)["refresh"]


def settled(mount: Path) -> None:
    """Wait for the refresh that follows mounting from a saved index."""
    eventually(lambda: status(mount)["refresh"]["done"] == 1, "the first refresh")
    assert status(mount)["refresh"]["error"] is None


def test_requests_that_come_before_the_drive_is_ready_do_not_end_it(drive: Drives, tree: Tree) -> None:
    drive.program = [sys.executable, "-c", EARLY]
    settled(drive(tree.root))  # a drive that has just read the source does not look again by itself


def replaced(path: Path, content: bytes) -> None:
    """Put another file in the place of one."""
    other = path.with_name("new")
    other.write_bytes(content)
    other.replace(path)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A database of three clients."""
    tree = Tree(tmp_path / "db")
    one = tree.client("demd1").episode("1", "N")
    one.study("1.1", "1").image("1.1.1", dcm=b"first", ViewPosition="CC", ManufacturerModelName="Selenia, old")
    one.study("1.2", "1").image("1.2.1", ViewPosition="MLO", ImageLaterality="L")
    two = tree.client("demd2").episode("1", "M")
    two.study("2.1", "1").image("2.1.1", marks=MARK, Manufacturer="HOLOGIC").image("2.1.2", has_sidecar=False)
    tree.client("optm3", site="jarv").study("3.1").image("3.1.1", dcm=None, PatientAge="057Y")
    return tree


@pytest.fixture
def mount(drive: Drives, tree: Tree) -> Path:
    """The drive over it."""
    return drive(tree.root)


NESTED = (
    "by-view/CC/by-client",
    "by-view/CC/by-client/demd1",
    "by-view/CC/by-client/demd1/1.1",
    "by-view/CC,MLO",
    "by-view/not-CC",
    "by-client/demd1,demd2",
    "by-client/not-demd2/by-view/CC",
    "by-client/demd1/by-view/CC",
    "by-client/demd1/1.1/by-view",
    "by-study/1.1,3.1",
    "by-study/1.1/by-outcome/normal",
    "by-outcome/normal/by-client/demd1/1.2",
    "by-model/Selenia, old",
    "by-model/selenia_comma_-old,unknown",
    "by-model/Selenia, old/by-view/CC",
    "by-age/50-69",
    "by-file-type/json/by-client/demd2",
)


def names_of(mount: Path, model: Reference) -> set[str]:
    """Return every path of the model, nested ones that are not listed included."""
    paths = {path for path, _ in model.walk()}
    for nested in NESTED:
        place = model.node(nested)
        if isinstance(place, Place):
            paths |= {f"{nested}/{name}" for name in model.children(place)}
            paths |= {nested[: match.start()] for match in re.finditer("/|$", nested)}
    return paths


def check(mount: Path, model: Reference, known: set[str]) -> set[str]:
    """Compare all lookups, then all listings: a listing would update the kernel. Return all names."""
    now, links = names_of(mount, model), model.links()
    for path in sorted(known | now):
        node = model.node(path)
        if node is None:
            with pytest.raises(FileNotFoundError):
                os.lstat(mount / path)
            continue
        facts = os.lstat(mount / path)
        assert stat.S_ISDIR(facts.st_mode) == isinstance(node, Place), path
        if isinstance(node, File):
            served = (facts.st_size, facts.st_mtime_ns, stat.S_IMODE(facts.st_mode), facts.st_nlink)
            assert served == (node.size, node.mtime, node.mode, links[node.source]), path
            assert (mount / path).read_bytes() == Path(node.source).read_bytes(), path
    compare(mount, model)
    for nested in NESTED:
        place = model.node(nested)
        if isinstance(place, Place):
            assert sorted(os.listdir(mount / nested)) == sorted(model.children(place)), nested
    told = status(mount)
    assert (told["images"], told["listed_files"]) == (
        len(model.images),
        sum(not isinstance(node, Place) for _, node in model.walk()),
    )
    views = json.loads((mount / ".omidbfs/facets.json").read_bytes())["view"]["values"]
    assert sorted(views) == sorted(os.listdir(mount / "by-view"))
    return now


# Changes


def client(tree: Tree, name: str) -> Client:
    """Return an existing client."""
    found = Client.__new__(Client)
    found.tree, found.name = tree, name
    found.images, found.data = tree.images / name, tree.data / name
    found.has = {"nbss": True, "imagedb": True}
    found.documents = {kind: json.loads((found.data / f"{kind}_{name}.json").read_bytes()) for kind in found.has}
    found.studies = found.documents["imagedb"]["STUDIES"]  # type: ignore[assignment]
    return found


def study(tree: Tree, name: str, uid: str) -> Study:
    """Return an existing study."""
    of = client(tree, name)
    found = Study.__new__(Study)
    found.of, found.uid = of, uid
    found.images, found.data = of.images / uid, of.data / uid
    found.series = of.studies[uid]["9.9"]  # type: ignore[index]
    return found


def client_added(tree: Tree) -> None:
    tree.client("demd4").episode("1", "CI").study("4.1", "1").image("4.1.1", ViewPosition="ML")


def uid_becomes_a_duplicate(tree: Tree) -> None:
    tree.client("demd5").study("5.1").image("1.1.1", ViewPosition="CC").image("3.1.1")


def uid_is_unique_again(tree: Tree) -> None:
    shutil.rmtree(tree.images / "demd5")
    shutil.rmtree(tree.data / "demd5")


def study_added(tree: Tree) -> None:
    client(tree, "demd1").study("1.3", "1").image("1.3.1", ViewPosition="CC")


def image_added(tree: Tree) -> None:
    study(tree, "demd2", "2.1").image("2.1.3", ViewPosition="MLO")


def pixels_replaced(tree: Tree) -> None:
    replaced(tree.images / "demd1/1.1/1.1.1.dcm", b"other pixels, and more of them")


def pixels_replaced_by_as_many(tree: Tree) -> None:
    path = tree.images / "demd1/1.1/1.1.1.dcm"
    replaced(path, path.read_bytes().swapcase())


def sidecar_edited(tree: Tree) -> None:
    path = tree.data / "demd1/1.2/1.2.1.json"
    path.write_bytes(path.read_bytes().replace(b"MLO", b"CC"))


def sidecar_appears(tree: Tree) -> None:
    (tree.data / "demd2/2.1/2.1.2.json").write_bytes((tree.data / "demd2/2.1/2.1.1.json").read_bytes())


def sidecar_vanishes(tree: Tree) -> None:
    (tree.data / "demd2/2.1/2.1.1.json").unlink()


def in_place(path: Path, content: bytes) -> None:
    """Write over a file so that neither size nor time shows it, as ``rsync --inplace --times`` may."""
    facts = path.stat()
    assert len(content) == facts.st_size
    with open(path, "r+b") as stream:
        stream.write(content)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def edited_in_place(tree: Tree) -> None:
    for path in (tree.images / "demd1/1.1/1.1.1.dcm", tree.data / "demd1/1.1/1.1.1.json"):
        in_place(path, path.read_bytes().replace(b"CC", b"XX").replace(b"first", b"FIRST"))


def model_vanishes(tree: Tree) -> None:
    path = tree.data / "demd1/1.1/1.1.1.json"
    path.write_bytes(path.read_bytes().replace(b"Selenia, old", b"Dimensions"))


def outcome_changes(tree: Tree) -> None:
    client(tree, "demd1").episode("1", "B")


def site_changes(tree: Tree) -> None:
    found = client(tree, "optm3")
    found.documents["imagedb"]["Site"] = "adde"
    found.write()


def nbss_vanishes(tree: Tree) -> None:
    (tree.data / "demd2/nbss_demd2.json").unlink()


def access_narrowed(tree: Tree) -> None:
    (tree.images / "demd1/1.1/1.1.1.dcm").chmod(0o600)
    (tree.data / "demd1/nbss_demd1.json").chmod(0o640)


def study_moves_to_another_client(tree: Tree) -> None:
    for part in (tree.images, tree.data):
        (part / "demd1/1.1").rename(part / "optm3/1.1")


def image_removed(tree: Tree) -> None:
    (tree.images / "demd2/2.1/2.1.2.dcm").unlink()
    (tree.data / "demd2/2.1/2.1.2.json").unlink()


def study_removed(tree: Tree) -> None:
    shutil.rmtree(tree.images / "demd1/1.3")
    shutil.rmtree(tree.data / "demd1/1.3")


def client_replaced(tree: Tree) -> None:
    for part in (tree.images, tree.data):
        shutil.rmtree(part / "demd4")
    tree.client("demd4").episode("1", "N").study("4.1", "1").image("4.1.1", dcm=b"another client's")


def client_removed(tree: Tree) -> None:
    for part in (tree.images, tree.data):
        shutil.rmtree(part / "demd1")


def client_comes_back(tree: Tree) -> None:
    tree.client("demd1").study("1.1").image("1.1.1", dcm=b"back", ViewPosition="CC")


def stranger_appears(tree: Tree) -> None:
    (tree.images / "nobody").mkdir()


def all_removed(tree: Tree) -> None:
    for part in (tree.images, tree.data):
        for found in part.iterdir():
            shutil.rmtree(found)


CHANGES: tuple[Callable[[Tree], None], ...] = (
    client_added,
    uid_becomes_a_duplicate,
    uid_is_unique_again,
    study_added,
    image_added,
    edited_in_place,
    pixels_replaced,
    pixels_replaced_by_as_many,
    sidecar_edited,
    sidecar_appears,
    sidecar_vanishes,
    model_vanishes,
    outcome_changes,
    site_changes,
    nbss_vanishes,
    access_narrowed,
    study_moves_to_another_client,
    image_removed,
    study_removed,
    client_replaced,
    client_removed,
    client_comes_back,
    stranger_appears,
    all_removed,
    client_added,
)


@pytest.mark.unmeasured
def test_after_each_refresh_every_view_is_what_the_model_says(mount: Path, tree: Tree) -> None:
    known = check(mount, Reference(tree.root), set())
    for change in CHANGES:
        inodes = inodes_of(mount)
        change(tree)
        refresh(mount)
        model = Reference(tree.root)
        known = check(mount, model, known)
        for (source, *facts), inode in inodes_of(mount).items():
            before = inodes.get((source, *facts))
            assert before in (None, inode), f"{source} is as it was"
        lines = (mount / ".omidbfs/problems.jsonl").read_text().splitlines()
        assert ("nobody" in str(lines)) == (change in (stranger_appears,)), change


def inodes_of(mount: Path) -> dict[tuple[str, int, int], int]:
    """Return (path in the real tree, size, time) -> inode."""
    return {
        (path, facts.st_size, facts.st_mtime_ns): facts.st_ino
        for path, facts in walk(mount / "by-client")
        if stat.S_ISREG(facts.st_mode)
    }


def test_directories_in_use_keep_no_name_that_is_gone(mount: Path, tree: Tree) -> None:
    places = [
        "by-client/demd1",
        "by-client/demd1/1.1",
        "by-view/CC",
        "by-study/1.1",
        "by-model/selenia_comma_-old",
    ]
    places += ["by-view/CC/by-client/demd1", "by-outcome/normal", "by-client", "by-study", "by-model"]
    names = {place: os.listdir(mount / place) for place in places}
    opened = {place: os.open(mount / place, os.O_RDONLY | os.O_DIRECTORY) for place in places}
    held = [
        os.open(mount / "by-view/CC/1.1.1.dcm", os.O_RDONLY),
        os.open(mount / "by-client/demd1/1.1", os.O_PATH),
    ]
    here = subprocess.Popen(["cat"], cwd=mount / "by-client/demd1/1.1", stdin=subprocess.PIPE)
    try:
        for _ in range(2):
            for place, descriptor in opened.items():
                for name in names[place]:
                    os.stat(name, dir_fd=descriptor)
            client_removed(tree)
            refresh(mount)
            for place, descriptor in opened.items():
                for name in names[place]:
                    if (mount / place / name).exists():
                        assert name in os.listdir(mount / place)
                        continue
                    with pytest.raises(OSError) as raised:  # noqa: PT011
                        os.stat(name, dir_fd=descriptor)
                    assert raised.value.errno in (errno.ENOENT, errno.ESTALE), (place, name)
            with pytest.raises(OSError) as raised:  # noqa: PT011
                os.stat(f"/proc/{here.pid}/cwd/1.1.1.dcm")
            assert raised.value.errno in (errno.ENOENT, errno.ESTALE)
            compare(mount, Reference(tree.root))
            one = tree.client("demd1").episode("1", "N")
            study = one.study("1.1", "1").image("1.1.1", ViewPosition="CC", ManufacturerModelName="Selenia, old")
            study.study("1.2", "1").image("1.2.1", ViewPosition="MLO")
            refresh(mount)
            compare(mount, Reference(tree.root))
            assert os.stat(f"/proc/{here.pid}/cwd/1.1.1.dcm").st_size == os.stat(mount / "all/1.1.1.dcm").st_size
    finally:
        here.communicate()
        for descriptor in (*opened.values(), *held):
            os.close(descriptor)


# Files that are open, and pages that are kept

_libc = ctypes.CDLL(None, use_errno=True)


def resident(path: Path) -> bool:
    """Return whether the kernel has the pages of a file, without reading it."""
    with open(path, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        place = np.frombuffer(mapped, np.uint8)
        pages = np.zeros(-(-len(place) // mmap.PAGESIZE), np.uint8)
        start, answer = (ctypes.c_void_p(array.ctypes.data) for array in (place, pages))
        assert _libc.mincore(start, ctypes.c_size_t(len(place)), answer) == 0
        del place
        return bool((pages & 1).all())


@pytest.mark.alone
def test_files_of_unchanged_clients_keep_their_cached_pages(mount: Path, tree: Tree) -> None:
    kept, changed = mount / "all/2.1.1.dcm", mount / "all/1.1.1.dcm"
    for path in (kept, changed):
        path.read_bytes()
        assert resident(path)
    study_added(tree)
    sidecar_edited(tree)
    pixels_replaced(tree)
    refresh(mount)
    assert resident(kept)
    assert not resident(changed), "it is another file"


def test_an_open_file_reads_on_or_is_stale_and_never_gives_other_bytes(mount: Path, tree: Tree) -> None:
    content = bytes(range(256)) * 4096
    replaced(tree.images / "demd1/1.1/1.1.1.dcm", content)
    refresh(mount)
    path = mount / "all/1.1.1.dcm"
    with open(path, "rb", buffering=0) as stream:
        assert stream.read(100) == content[:100]
        for change in (pixels_replaced, client_removed, client_comes_back):
            change(tree)
            refresh(mount)
            facts = os.fstat(stream.fileno())
            assert (facts.st_size, facts.st_nlink > 0) == (len(content), True)
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            assert os.pread(stream.fileno(), len(content) + 1, 0) == content
            if path.exists():
                assert path.read_bytes() == (tree.images / "demd1/1.1/1.1.1.dcm").read_bytes()
                assert path.stat().st_size == (tree.images / "demd1/1.1/1.1.1.dcm").stat().st_size


def test_an_edit_that_size_and_time_do_not_show_is_read_by_the_same_inode(
    drive: Drives, mount: Path, tree: Tree
) -> None:
    path, place = tree.images / "demd1/1.1/1.1.1.dcm", mount / "all/1.1.1.dcm"
    inode = place.stat().st_ino
    with open(place, "rb", buffering=0) as held, mmap.mmap(held.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert held.read() == mapped[:] == b"first"
        for content, rebuilds in ((b"other", False), (b"third", True)):
            in_place(path, content)
            if rebuilds:
                drive.run("index", tree.root, "--rebuild")
            refresh(mount)
            assert (mount / "by-view/CC/1.1.1.dcm").read_bytes() == content
            assert os.pread(held.fileno(), 9, 0) == mapped[:] == content, "a handle goes on"
            assert place.stat().st_ino == inode
        in_place(path, b"again")
        refresh(mount)
        assert mapped[:] == b"again", "although no program has opened it since"


def test_a_handle_of_a_file_replaced_by_one_of_the_same_size_and_time_does_not_give_its_bytes_to_others(
    drive: Drives, mount: Path, tree: Tree
) -> None:
    path, place = tree.images / "demd1/1.1/1.1.1.dcm", mount / "all/1.1.1.dcm"
    inode, facts = place.stat().st_ino, path.stat()
    for content, goes_on in ((b"first", True), (b"other", False)):
        with open(place, "rb", buffering=0) as held:
            assert held.read() == b"first"
            new = tree.root / "new"
            new.write_bytes(content)
            os.utime(new, ns=(facts.st_atime_ns, facts.st_mtime_ns))
            new.rename(path)
            refresh(mount)
            assert place.stat().st_ino == inode
            if goes_on:
                assert os.pread(held.fileno(), 9, 0) == b"first"
            else:
                with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
                    os.pread(held.fileno(), 9, 0)
            assert (mount / "by-view/CC/1.1.1.dcm").read_bytes() == content


def test_an_open_old_file_does_not_change_what_paths_show(mount: Path, tree: Tree) -> None:
    places = [
        mount / name / "1.1.1.dcm" for name in ("all", "by-view/CC", "by-outcome/normal", "by-client/demd1/1.1")
    ]
    for place in places:
        assert place.stat().st_size == 5
    with open(places[0], "rb") as stream:
        pixels_replaced(tree)
        content = (tree.images / "demd1/1.1/1.1.1.dcm").read_bytes()
        assert places[1].read_bytes() == content  # found out here
        assert places[2].stat()
        refresh(mount)
        assert [place.stat().st_size for place in places] == [len(content)] * 4
        assert os.fstat(stream.fileno()).st_size == 5
        assert stream.read() == b"first"


def test_a_file_that_was_found_changed_and_is_as_it_was_again_is_shown_so(mount: Path, tree: Tree) -> None:
    path, shown = tree.images / "demd1/1.1/1.1.1.dcm", mount / "all/1.1.1.dcm"
    inode = shown.stat().st_ino
    path.rename(tree.root / "kept")
    path.write_bytes(b"for a moment")
    assert shown.read_bytes() == b"for a moment"
    (tree.root / "kept").rename(path)
    refresh(mount)
    for place in ("all", "by-view/CC", "by-client/demd1/1.1"):
        facts = (mount / place / "1.1.1.dcm").stat()
        assert (facts.st_size, facts.st_ino) == (5, inode)
    assert shown.read_bytes() == b"first"


def test_open_directories_keep_the_entries_they_started_with(mount: Path, tree: Tree) -> None:
    many = study(tree, "demd1", "1.1")
    for number in range(300):
        many.image(f"1.1.{number + 10}", ViewPosition="CC")
    refresh(mount)
    places = ["all", "by-view/CC", "by-client", "by-client/demd1/1.1", "by-study", "by-site", ""]
    expected = {place: sorted([".", "..", *os.listdir(mount / place)]) for place in places}
    opened = {place: os.open(mount / place, os.O_RDONLY | os.O_DIRECTORY) for place in places}
    found = {place: [name for name, *_ in dirents(opened[place], 280)] for place in places}
    client_removed(tree)
    client_added(tree)
    refresh(mount)
    after = check(mount, Reference(tree.root), set())
    for place, descriptor in opened.items():
        while page := dirents(descriptor, 280):
            found[place] += [name for name, *_ in page]
        os.close(descriptor)
        assert sorted(found[place]) == expected[place], place
    # old pages are not used
    assert check(mount, Reference(tree.root), {f"all/{name}" for name in expected["all"][2:]}) == after


# Beginning from a saved index


def test_a_drive_is_there_with_a_saved_index_and_then_shows_what_changed(drive: Drives, tree: Tree) -> None:
    drive.run("index", tree.root)
    client_added(tree)
    mount = drive(tree.root)
    os.lstat(mount / "all/1.1.1.dcm")
    settled(mount)
    check(mount, Reference(tree.root), set())


def test_with_a_saved_index_a_drive_answers_before_the_source_has_been_looked_at(
    drive: Drives, tree: Tree
) -> None:
    drive.run("index", tree.root)
    client_added(tree)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # a process that reads this FIFO waits
        mount = drive(tree.root, "--executor", f"dask://127.0.0.1:{silent.getsockname()[1]}")
        assert (mount / "all/1.1.1.dcm").read_bytes() == b"first"
        assert not (mount / "all/4.1.1.dcm").exists()
        assert status(mount)["refresh"]["state"] == "refreshing"
        drive.umount(mount)


def test_verify_first_shows_what_changed_before_the_first_answer(drive: Drives, tree: Tree) -> None:
    drive.run("index", tree.root)
    client_added(tree)
    mount = drive(tree.root, "--verify-first")
    assert (mount / "all/4.1.1.dcm").exists()
    assert status(mount)["refresh"]["done"] == 0
    compare(mount, Reference(tree.root))


def test_inodes_survive_refreshes_and_a_remount(drive: Drives, tree: Tree) -> None:
    mount = drive(tree.root)
    client_added(tree)
    refresh(mount)
    uid_becomes_a_duplicate(tree)
    refresh(mount)
    before = inodes_of(mount)
    drive.umount(mount)
    again = drive(tree.root)
    assert inodes_of(again) == before
    settled(again)
    assert inodes_of(again) == before


# Asking for a refresh


def test_the_command_returns_when_the_change_is_shown(drive: Drives, mount: Path, tree: Tree) -> None:
    client_added(tree)
    done = drive.run("refresh", mount)
    assert (done.stdout, done.stderr) == ("", "")
    assert (mount / "all/4.1.1.dcm").exists()
    link = drive.directory / "link"
    link.symlink_to(mount)
    client_removed(tree)
    drive.run("refresh", link)
    assert not (mount / "all/1.1.1.dcm").exists()


def test_refresh_every_needs_no_asking(drive: Drives, tree: Tree) -> None:
    mount = drive(tree.root, "--refresh-every", "1")
    client_added(tree)
    eventually((mount / "all/4.1.1.dcm").exists, "shown")


def test_a_refresh_of_another_file_system_is_refused(drive: Drives, tree: Tree, tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nothing", Path("/proc"), Path("/")):
        done = drive.run("refresh", place, status=1)
        assert re.fullmatch(r"omidbfs: .*: no drive of omidbfs is mounted there\n", done.stderr)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_cannot_refresh(drive: Drives, open_path: Path) -> None:
    tree = Tree(open_path / "db")
    tree.client().study().image()
    (open_path / "drive").mkdir()
    mount = drive(tree.root, "--allow-other", at=open_path / "drive")
    script = "import sys; from pathlib import Path; from omidbfs.fuse.control import ask_for_refresh\n"
    script += (
        "try: ask_for_refresh(Path(sys.argv[1]))\nexcept Exception as error: print(type(error).__name__, error)"
    )
    packages = os.pathsep.join([str(Path(__file__).parents[2]), *(p for p in sys.path if "-packages" in p)])
    done = subprocess.run(
        ["/usr/bin/env", "-i", f"PYTHONPATH={packages}", sys.executable, "-c", script, str(mount)],
        user=65534,
        group=65534,
        extra_groups=[],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:  # otherwise that user cannot start this Python
        assert done.stdout == f"UserError {mount}: the drive is another user's, who has to refresh it\n"
    assert status(mount)["refresh"]["done"] == 0
    drive.umount(mount)


def test_nothing_changed_writes_nothing(mount: Path) -> None:
    index = Path(status(mount)["index"])
    before, told = index.stat(), status(mount)
    inode = (mount / ".omidbfs/facets.json").stat().st_ino
    refresh(mount)
    after = index.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert (mount / ".omidbfs/facets.json").stat().st_ino == inode
    assert set(told["refresh"]) == {"state", "since", "done", "error", "stuck"}
    moving = {"refresh": None, "counters": None}
    assert {**status(mount), **moving} == {**told, **moving}
    assert list(index.parent.glob(f".{index.name}*")) == []


def test_options_survive_a_refresh(drive: Drives, tree: Tree, tmp_path: Path) -> None:
    tree.client("demd6").episode("1", "N").study("6.1", "1").image("6.1.1")
    (tmp_path / "list").write_text("demd1\ndemd6\ndemd7\n")
    options = ["--num-months-normal-follow-up", "36", "--link-all", "--clients-file", str(tmp_path / "list")]
    mount = drive(tree.root, *options, "--index", "kept.index", "--list-nested")
    told = status(mount)
    assert told["index"] == str(drive.directory / "kept.index")
    for _ in range(2):
        model = Reference(tree.root, Windows(normal_follow_up=36))
        shown = {image.client for image in model.images} & {"demd1", "demd6", "demd7"}
        assert set(os.listdir(mount / "by-client")) == shown
        assert "by-view" in os.listdir(mount / "all")
        assert "normal" not in os.listdir(mount / "by-outcome")
        assert status(mount)["options"] == told["options"]
        tree.client("demd7").episode("1", "N").study("7.1", "1").image("7.1.1") if not shown & {"demd7"} else None
        refresh(mount)


def test_links_are_refreshed_like_files(drive: Drives, tree: Tree) -> None:
    mount = drive(tree.root, "--links", "symlink")
    assert os.readlink(mount / "all/1.1.1.dcm").endswith("images/demd1/1.1/1.1.1.dcm")
    os.lstat(mount / "by-view/CC/1.1.1.dcm")
    study_moves_to_another_client(tree)
    refresh(mount)
    assert os.readlink(mount / "all/1.1.1.dcm").endswith("images/optm3/1.1/1.1.1.dcm")
    assert os.readlink(mount / "by-view/CC/1.1.1.dcm").endswith("images/optm3/1.1/1.1.1.dcm")


# Errors


def test_a_source_that_is_away_leaves_the_drive_as_it_was(drive: Drives, mount: Path, tree: Tree) -> None:
    before = {path: facts for path, facts in walk(mount) if path != ".omidbfs/status.json"}
    index = Path(status(mount)["index"]).stat()
    away = tree.root.with_name("away")
    tree.root.rename(away)
    drive.expect_log(FAILED)
    refresh(mount, "failed")
    assert f"{tree.root}: no such directory" in status(mount)["refresh"]["error"]
    done = drive.run("refresh", mount, status=1)
    assert done.stderr.startswith(f"omidbfs: {mount}: the refresh failed: {tree.root}: no such directory")
    assert len(done.stderr.splitlines()) == 1
    lines = drive.logs[0].read_text().splitlines()
    assert sum(FAILED in line for line in lines) == 2
    assert not re.search("demd|optm|1[.]1[.]1", "".join(lines).replace(str(tree.root), ""))
    assert {path: facts for path, facts in walk(mount) if path != ".omidbfs/status.json"} == before
    assert Path(status(mount)["index"]).stat() == index
    assert (mount / "all/1.1.1.dcm").read_bytes() == b"first"
    os.statvfs(mount)
    away.rename(tree.root)
    client_added(tree)
    refresh(mount)
    assert status(mount)["refresh"]["error"] is None
    check(mount, Reference(tree.root), set(before))


def test_a_source_that_vanishes_during_a_refresh_leaves_the_drive_as_it_was(
    drive: Drives, mount: Path, tree: Tree
) -> None:
    names = sorted(os.listdir(mount / "all"))
    client_added(tree)
    os.mkfifo(tree.images / "pipe")  # a mark for each moment
    drive.expect_log(FAILED)
    for tree_of in ("images", "data"):
        before = status(mount)["refresh"]["done"]
        os.kill(drive.pid(mount), signal.SIGHUP)
        eventually(lambda: status(mount)["refresh"]["state"] == "refreshing", "begun")
        (tree.root / tree_of).rename(tree.root / "away")
        eventually(lambda done=before: status(mount)["refresh"]["done"] > done, "ended")  # type: ignore[misc]
        told = status(mount)["refresh"]
        if told["state"] == "failed":
            assert sorted(os.listdir(mount / "all")) == names
            assert str(tree.root) in told["error"]
        (tree.root / "away").rename(tree.root / tree_of)
    refresh(mount)
    check(mount, Reference(tree.root), set())


def test_a_refresh_reads_other_directories_in_the_place_of_the_source(
    drive: Drives, mount: Path, tree: Tree
) -> None:
    known = check(mount, Reference(tree.root), set())
    with open(mount / "all/1.1.1.dcm", "rb") as stream:
        for part in ("images", "data"):
            shutil.copytree(tree.root / part, tree.root / "copy" / part)
        for part in ("images", "data"):
            (tree.root / part).rename(tree.root / f"{part} as they were")
            (tree.root / "copy" / part).rename(tree.root / part)
        pixels_replaced(tree)
        refresh(mount)
        check(mount, Reference(tree.root), known)
        assert stream.read() == b"first"


@pytest.mark.parametrize("harm", ["deleted", "damaged", "rebuilt"])
def test_an_index_that_is_lost_is_made_anew_and_no_inode_changes_hands(
    drive: Drives, mount: Path, tree: Tree, harm: str
) -> None:
    """Every file here has the same size and time: only its number tells it from others."""
    for path in tree.root.rglob("*.dcm"):
        replaced(path, path.name.rjust(20).encode())
        os.utime(path, (0, 1_000_000))
    client_added(tree)
    refresh(mount)
    for path in (tree.images / "demd4/4.1").iterdir():
        replaced(path, path.name.rjust(20).encode())
        os.utime(path, (0, 1_000_000))
    refresh(mount)
    known = check(mount, Reference(tree.root), set())
    before = inodes_of(mount)
    client_removed(tree)
    refresh(mount)
    index = Path(status(mount)["index"])
    if harm == "deleted":
        index.unlink()
    elif harm == "damaged":
        replaced(index, index.read_bytes()[:-100])
    else:
        drive.run("index", tree.root, "--rebuild")
    refresh(mount)
    check(mount, Reference(tree.root), known)
    after = inodes_of(mount)
    assert after.items() <= before.items()
    tree.client("demd0").study("0.1").image("0.1.1", dcm=b"0.1.1.dcm".rjust(20))
    os.utime(tree.images / "demd0/0.1/0.1.1.dcm", (0, 1_000_000))
    refresh(mount)
    check(mount, Reference(tree.root), known)
    new = {inode for (path, *_), inode in inodes_of(mount).items() if path.startswith("demd0")}
    assert not new & set(before.values())


def test_a_foreign_file_in_the_place_of_the_index_is_left_alone(drive: Drives, mount: Path, tree: Tree) -> None:
    index = Path(status(mount)["index"])
    replaced(index, b"something else entirely")
    client_added(tree)
    drive.expect_log(FAILED)
    refresh(mount, "failed")
    assert "is not known to be an index of omidbfs" in status(mount)["refresh"]["error"]
    assert index.read_bytes() == b"something else entirely"
    index.unlink()
    refresh(mount)
    check(mount, Reference(tree.root), set())


def test_a_place_for_the_index_that_is_lost_fails_the_refresh_in_one_line(drive: Drives, tree: Tree) -> None:
    place = drive.directory / "place"
    place.mkdir()
    mount = drive(tree.root, "--index", str(place / "index"))
    client_added(tree)
    place.rename(drive.directory / "elsewhere")
    place.write_bytes(b"")
    drive.expect_log(FAILED)
    refresh(mount, "failed")
    assert "the index cannot be kept there" in status(mount)["refresh"]["error"]
    place.unlink()
    refresh(mount)
    check(mount, Reference(tree.root), set())


# Ending


def test_unmounting_during_a_refresh_leaves_no_process(drive: Drives, tree: Tree) -> None:
    for number in range(3):
        mount = drive(tree.root)
        (client_added, sidecar_edited, study_added)[number](tree)
        os.kill(drive.pid(mount), signal.SIGHUP)
        eventually(lambda m=mount: status(m)["refresh"]["state"] == "refreshing", "begun")  # type: ignore[misc]
        if number == 1:
            os.kill(drive.pid(mount), signal.SIGTERM)
            eventually(lambda: drive.processes() == [], "no process")
            drive.forget(mount)
        else:
            drive.umount(mount)
        assert drive.processes() == []
        assert mounted_below(drive.directory) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_drive_that_is_read_and_refreshed(drive: Drives, tree: Tree, number: int) -> None:
    mount = drive(tree.root)
    end = threading.Event()

    def read() -> None:
        while not end.is_set():
            try:
                for _, facts in walk(mount):
                    del facts
            except OSError:
                continue

    readers = [threading.Thread(target=read) for _ in range(4)]
    process = drive.pid(mount)
    for reader in readers:
        reader.start()
    try:
        for change in (client_added, pixels_replaced, sidecar_edited, study_added):
            change(tree)
            os.kill(process, signal.SIGHUP)
        os.kill(process, number)
        eventually(lambda: drive.processes() == [], "ended")
    finally:
        end.set()
        for reader in readers:
            reader.join()
    drive.forget(mount)
    assert mounted_below(drive.directory) == []


def test_old_views_are_let_go(drive: Drives, mount: Path, tree: Tree) -> None:
    process = drive.pid(mount)
    here = subprocess.Popen(["cat"], cwd=mount / "by-client/demd1/1.1", stdin=subprocess.PIPE)

    def held() -> tuple[int, int]:
        maps = Path(f"/proc/{process}/maps").read_text().splitlines()
        return len(os.listdir(f"/proc/{process}/fd")), sum(".index" in line for line in maps)

    try:
        list(walk(mount))
        before = held()
        for change in (client_added, client_removed, study_removed_of_demd2, client_comes_back, pixels_replaced):
            change(tree)
            refresh(mount)
            list(walk(mount))
        eventually(lambda: held() == before, f"as at the beginning {held()} {before}")
    finally:
        here.communicate()


def study_removed_of_demd2(tree: Tree) -> None:
    shutil.rmtree(tree.images / "demd2/2.1")
    shutil.rmtree(tree.data / "demd2/2.1")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        yield
