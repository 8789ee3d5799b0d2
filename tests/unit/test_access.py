"""A drive opens no file outside the source, and gives no caller more access than the source."""

import errno
import fcntl
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from omidbfs.database.permissions import Access, TreeReader, limited_mode, no_more_than, read_file, read_listed


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory with a file at ``a/b/file`` and a secret beside it."""
    root = tmp_path / "root"
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "b" / "file").write_bytes(b"content")
    (tmp_path / "secret").write_bytes(b"secret")
    return root


@pytest.fixture(params=["openat2", "by component"])
def reader(request: pytest.FixtureRequest, tree: Path) -> Iterator[TreeReader]:
    with closing(TreeReader(str(tree))) as reader:
        if request.param == "by component":
            reader._has_openat2 = False  # as an old kernel leaves it
        yield reader


def content(reader: TreeReader, path: bytes) -> bytes:
    return read_file(reader, path, 100)


def refusal(reader: TreeReader, path: bytes) -> int | None:
    with pytest.raises(OSError, match=r".") as caught:
        content(reader, path)
    return caught.value.errno


def test_a_file_is_read(reader: TreeReader) -> None:
    assert content(reader, b"a/b/file") == b"content"


@pytest.mark.parametrize("path", [b"a/b/none", b"none/file", b"a/none/file"])
def test_what_is_not_there_is_not_found(reader: TreeReader, path: bytes) -> None:
    assert refusal(reader, path) == errno.ENOENT


def test_a_file_is_no_directory_on_the_way(reader: TreeReader) -> None:
    assert refusal(reader, b"a/b/file/x") == errno.ENOTDIR


@pytest.mark.parametrize("target", ["file", "../../../secret", "/etc/hostname", "link", "none"])
def test_a_link_in_place_of_a_file_is_refused(reader: TreeReader, tree: Path, target: str) -> None:
    (tree / "a" / "b" / "link").symlink_to(target)
    assert refusal(reader, b"a/b/link") == errno.ELOOP


@pytest.mark.parametrize("target", ["..", "../root", "/", "../root/a/b"])
def test_a_link_on_the_way_that_leaves_the_tree_is_refused(reader: TreeReader, tree: Path, target: str) -> None:
    (tree / "out").symlink_to(target)
    place = b"out/file" if target.endswith("b") else b"out/secret"
    assert refusal(reader, place) in (errno.ELOOP, errno.ENOTDIR)
    assert not reader.reaches(b"out")


@pytest.mark.parametrize("path", [b"../secret", b"a/../../secret", b"a/../../root/a/b/file"])
def test_no_path_leads_out_of_the_tree(reader: TreeReader, path: bytes) -> None:
    assert refusal(reader, path) == errno.ELOOP


def test_an_absolute_path_leads_nowhere(reader: TreeReader, tree: Path) -> None:
    assert refusal(reader, os.fsencode(tree.parent / "secret")) in (errno.ELOOP, errno.ENOENT)


def test_a_link_on_the_way_that_stays_inside_is_followed(tree: Path) -> None:
    (tree / "short").symlink_to("a/b")
    with closing(TreeReader(str(tree))) as reader:
        assert content(reader, b"short/file") == b"content"
        assert reader.reaches(b"short")


def test_without_openat2_no_link_is_followed_at_all(tree: Path) -> None:
    (tree / "short").symlink_to("a/b")
    with closing(TreeReader(str(tree))) as reader:
        reader._has_openat2 = False
        assert refusal(reader, b"short/file") == errno.ENOTDIR
        assert not reader.reaches(b"short")


def test_links_are_followed_where_that_is_asked_for(tree: Path) -> None:
    (tree / "out").symlink_to("..")
    (tree / "link").symlink_to("/etc/../" + str(tree.parent / "secret"))
    with closing(TreeReader(str(tree), follow_symlinks=True)) as reader:
        assert content(reader, b"out/secret") == content(reader, b"link") == b"secret"


def test_a_fifo_neither_blocks_nor_opens(reader: TreeReader, tree: Path) -> None:
    os.mkfifo(tree / "fifo")
    assert refusal(reader, b"fifo") == errno.ESTALE


def test_a_directory_does_not_open(reader: TreeReader) -> None:
    assert refusal(reader, b"a/b") == errno.ESTALE


def test_a_socket_does_not_open(reader: TreeReader, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)  # the address of a socket is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        assert refusal(reader, b"socket") == errno.ENXIO


def test_refused_opens_leave_no_descriptor_behind(reader: TreeReader, tree: Path) -> None:
    os.mkfifo(tree / "fifo")
    before = os.listdir("/proc/self/fd")
    for path in (b"fifo", b"a/b", b"none/x", b"a/b/file/x", b"../secret"):
        refusal(reader, path)
    content(reader, b"a/b/file")
    reader.reaches(b"a")
    assert os.listdir("/proc/self/fd") == before


def test_a_tree_that_is_renamed_is_still_the_tree(reader: TreeReader, tree: Path) -> None:
    tree.rename(tree.with_name("elsewhere"))
    assert content(reader, b"a/b/file") == b"content"


# Files that another has a lease on


class Leased:
    """A write lease on a file, as Samba takes it. The holder gives it up after the third attempt to open."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDWR)
        fcntl.fcntl(self.descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        self.pauses: list[float] = []

    def sleep(self, seconds: float) -> None:
        """Take the place of ``time.sleep``."""
        self.pauses.append(seconds)
        if len(self.pauses) == 3:
            fcntl.fcntl(self.descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)


@pytest.fixture
def leased(tree: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Leased]:
    """A lease on the file of the tree."""
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)  # the signal that tells the holder
    lease = Leased(tree / "a/b/file")
    monkeypatch.setattr("omidbfs.database.permissions.time.sleep", lease.sleep)
    yield lease
    os.close(lease.descriptor)
    signal.signal(signal.SIGIO, before)


def test_a_file_that_another_has_a_lease_on_is_waited_for_without_spinning(
    reader: TreeReader, leased: Leased
) -> None:
    assert reader.open_at_once(b"a/b/file") is None, "that may take long"
    assert leased.pauses == []
    assert content(reader, b"a/b/file") == b"content"
    assert leased.pauses == [0.001, 0.002, 0.004]


def test_a_leased_file_is_waited_for_where_links_are_followed(tree: Path, leased: Leased) -> None:
    with closing(TreeReader(str(tree), follow_symlinks=True)) as reader:
        assert content(reader, b"a/b/file") == b"content"
    assert len(leased.pauses) == 3


def test_a_leased_file_that_was_listed_is_waited_for(reader: TreeReader, leased: Leased) -> None:
    directory = reader.directory(b"a/b")
    assert read_listed(reader, directory, "file", 7, 100) == b"content"
    assert len(leased.pauses) == 3
    os.close(directory)


def test_a_file_whose_lease_stays_is_refused_after_a_minute(
    reader: TreeReader, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(*_: object, **__: object) -> int:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    pauses: list[float] = []
    monkeypatch.setattr("omidbfs.database.permissions.time.sleep", pauses.append)
    monkeypatch.setattr("omidbfs.database.permissions.os.open", locked)
    directory = os.dup(reader._root)
    with pytest.raises(BlockingIOError):
        reader.opened_in(directory, "file")
    os.close(directory)
    assert 60 <= sum(pauses) < 61
    assert max(pauses) == 0.1


@pytest.mark.parametrize(("size", "fits"), [(99, True), (100, True), (101, False)])
def test_a_file_larger_than_the_limit_is_refused(reader: TreeReader, tree: Path, size: int, fits: bool) -> None:
    (tree / "large").write_bytes(b"x" * size)
    if fits:
        assert content(reader, b"large") == b"x" * size
    else:
        assert refusal(reader, b"large") == errno.EFBIG


ALICE, BOB, STAFF, GUESTS = 1001, 1002, 2001, 2002


@pytest.mark.parametrize(
    ("mode", "above", "limited"),
    [
        (0o444, [], 0o444),
        (0o444, [Access(0o755, ALICE, STAFF)], 0o444),
        (0o444, [Access(0o700, ALICE, STAFF)], 0o400),
        (0o444, [Access(0o750, ALICE, STAFF)], 0o440),
        (0o444, [Access(0o750, BOB, STAFF)], 0o040),  # alice may or may not be in staff
        (0o444, [Access(0o750, ALICE, GUESTS)], 0o400),
        (0o444, [Access(0o755, BOB, GUESTS)], 0o444),
        (0o444, [Access(0o700, BOB, GUESTS)], 0o000),
        (0o444, [Access(0o705, ALICE, STAFF)], 0o404),
        (0o444, [Access(0o705, BOB, GUESTS)], 0o000),  # guests are shut out, and any user may be a guest
        (0o444, [Access(0o755, ALICE, STAFF), Access(0o711, BOB, STAFF), Access(0o750, ALICE, STAFF)], 0o440),
        (0o440, [Access(0o705, ALICE, STAFF)], 0o400),
        (0o555, [Access(0o744, ALICE, STAFF)], 0o500),
    ],
)
def test_a_caller_that_cannot_search_a_directory_loses_the_bits_of_files_below(
    mode: int, above: list[Access], limited: int
) -> None:
    assert limited_mode(mode, ALICE, STAFF, above) == limited


def bits(mode: int, uid: int, gid: int, caller: int, groups: frozenset[int]) -> int:
    """Return the permission bits of a caller other than root (path_resolution(7))."""
    return mode >> (6 if caller == uid else 3 if gid in groups else 0) & 7


one_of_two = st.sampled_from([1, 2])
directories = st.lists(st.builds(Access, st.integers(0, 0o777), one_of_two, one_of_two), max_size=3)


@given(
    mode=st.integers(0, 0o777),
    uid=one_of_two,
    gid=one_of_two,
    above=directories,
    caller=st.sampled_from([1, 2, 3]),
    groups=st.frozensets(st.sampled_from([1, 2, 3])),
)
@example(0o444, 1, 1, [Access(0o705, 2, 2)], 3, frozenset([2]))
@example(0o444, 1, 1, [Access(0o077, 2, 2)], 2, frozenset())
def test_no_caller_has_more_rights_to_a_file_than_in_the_source(
    mode: int, uid: int, gid: int, above: list[Access], caller: int, groups: frozenset[int]
) -> None:
    limited = limited_mode(mode, uid, gid, above)
    allowed = bits(mode, uid, gid, caller, groups)
    if not all(bits(step.mode, step.uid, step.gid, caller, groups) & 1 for step in above):
        allowed = 0
    assert bits(limited, uid, gid, caller, groups) & ~allowed == 0


@given(st.integers(0, 0o777), st.sampled_from([0o700, 0o750, 0o755, 0o711, 0o710]))
def test_below_directories_of_its_owner_and_group_a_file_keeps_what_its_readers_have(
    mode: int, directory: int
) -> None:
    limited = limited_mode(mode, 1, 1, [Access(directory, 1, 1)])
    for caller, groups in ((1, frozenset([1])), (2, frozenset([1])), (2, frozenset([2]))):
        searches = bits(directory, 1, 1, caller, groups) & 1
        allowed = bits(mode, 1, 1, caller, groups) if searches else 0
        assert bits(limited, 1, 1, caller, groups) == allowed


@given(
    before=st.builds(Access, st.integers(0, 0o777), one_of_two, one_of_two),
    mode=st.integers(0, 0o777),
    uid=one_of_two,
    gid=one_of_two,
    caller=st.sampled_from([1, 2, 3]),
    groups=st.frozensets(st.sampled_from([1, 2, 3])),
)
@example(Access(0o440, 1, 1), 0o640, 2, 1, 2, frozenset())
def test_no_caller_has_more_rights_to_a_file_than_to_the_one_that_it_replaced(
    before: Access, mode: int, uid: int, gid: int, caller: int, groups: frozenset[int]
) -> None:
    limited = no_more_than(before, mode, uid, gid)
    allowed = bits(before.mode, before.uid, before.gid, caller, groups) & bits(mode, uid, gid, caller, groups)
    assert bits(limited, uid, gid, caller, groups) & ~allowed == 0
    if (uid, gid) == (before.uid, before.gid):
        assert limited == mode & before.mode


AS_CALLER = """
import os, sys
path, uid, *groups = sys.argv[1:]
os.setgroups([int(group) for group in groups]); os.setgid(60000); os.setuid(int(uid))
try:
    os.close(os.open(path, os.O_RDONLY))
except PermissionError:
    sys.exit(7)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become others")
@pytest.mark.parametrize("directory", [(0o750, ALICE, STAFF), (0o705, BOB, GUESTS), (0o711, BOB, STAFF)])
@pytest.mark.parametrize("mode", [0o444, 0o440, 0o404])
def test_the_kernel_agrees(directory: tuple[int, int, int], mode: int) -> None:
    place = Path(tempfile.mkdtemp())  # tmp_path lies below a directory that only its owner may search
    try:
        place.chmod(0o755)
        file = place / "above" / "file"
        file.parent.mkdir()
        file.write_bytes(b"content")
        os.chown(file, ALICE, STAFF)
        os.chown(file.parent, *directory[1:])
        file.chmod(mode)
        file.parent.chmod(directory[0])
        limited = limited_mode(mode, ALICE, STAFF, [Access(*directory)])
        for caller, groups in (
            (ALICE, (STAFF,)),
            (BOB, (STAFF,)),
            (BOB, (GUESTS,)),
            (1003, (GUESTS,)),
            (1003, ()),
        ):
            command = [sys.executable, "-S", "-c", AS_CALLER, str(file), str(caller), *map(str, groups)]
            status = subprocess.run(command, check=False).returncode
            assert status in (0, 7)
            if bits(limited, ALICE, STAFF, caller, frozenset(groups)) & 4:
                assert status == 0, (caller, groups)
        assert stat.S_IMODE(file.stat().st_mode) == mode
    finally:
        shutil.rmtree(place)


def test_a_file_that_is_longer_than_it_was_is_read_to_its_end() -> None:
    with closing(TreeReader("/proc/self")) as reader:  # where every file has size 0
        content = read_file(reader, b"status", 100_000)
    assert content.startswith(b"Name:")
    assert b"voluntary_ctxt_switches" in content
