"""The spool keeps generated files privately and within bounds, and makes each once."""

import errno
import os
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from omidbfs.serving.spool import Content, Spool, spool_directories


def read(content: Content | None) -> bytes | None:
    if content is None:
        return None
    with open(content.descriptor, "rb") as file:
        file.seek(0)
        data = file.read()
    assert len(data) == content.size
    return data


def on_disk(*directories: Path, limit: int = 1 << 20, most_files: int = 10) -> Spool:
    """A spool that keeps nothing in memory."""
    return Spool(directories, limit, memory=0, most_files=most_files)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def fill(spool: Spool, key: int, size: int) -> None:
    assert read(spool.make(key, lambda: iter([b"%d" % (key % 10) * size]))) == b"%d" % (key % 10) * size


def kept(spool: Spool, keys: range) -> list[int]:
    found = {key: spool.open(key) for key in keys}
    for content in found.values():
        if content is not None:
            os.close(content.descriptor)
    return [key for key, content in found.items() if content is not None]


def test_what_was_made_can_be_opened_any_number_of_times(tmp_path: Path) -> None:
    spool = Spool((tmp_path / "new" / "place",))
    assert spool.open(1) is None
    assert read(spool.make(1, lambda: iter([b"one", b"", b" two"]))) == b"one two"
    assert [read(spool.open(1)) for _ in range(3)] == [b"one two"] * 3
    spool.stop()


@pytest.mark.parametrize("memory", [0, 1 << 20])
def test_what_is_kept_has_no_name_and_is_private(tmp_path: Path, memory: int) -> None:
    place = tmp_path / "cache"
    spool = Spool((place,), memory=memory)
    content = spool.make(1, lambda: iter([b"secret"]))
    if memory == 0:
        assert os.listdir(place) == []
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert stat.S_IMODE(os.fstat(content.descriptor).st_mode) == 0o600
    assert os.fstat(content.descriptor).st_nlink == 0
    os.close(content.descriptor)
    spool.stop()


def test_the_least_recently_used_is_let_go_first(tmp_path: Path) -> None:
    spool = on_disk(tmp_path, limit=100)
    for key in range(3):
        fill(spool, key, 40)
    assert kept(spool, range(3)) == [1, 2]
    assert kept(spool, range(1, 2)) == [1]  # used just now
    fill(spool, 3, 40)
    assert kept(spool, range(4)) == [1, 3]
    spool.stop()


def test_a_thousand_small_ones_take_no_descriptor_and_bounded_memory(tmp_path: Path) -> None:
    spool = Spool((tmp_path / "none",), memory=256 * 100)
    before = descriptors()
    for key in range(1000):
        fill(spool, key, 100)
    assert kept(spool, range(1000)) == list(range(1000 - 256, 1000))
    assert descriptors() <= before  # what another test has left may be closed meanwhile
    assert not (tmp_path / "none").exists()
    assert read(spool.open(999)) == b"9" * 100
    spool.stop()


def test_what_is_on_disk_takes_a_bounded_number_of_descriptors(tmp_path: Path) -> None:
    spool = Spool((tmp_path,), memory=256 * 100, most_files=3)
    before = descriptors()
    for key in range(8):
        fill(spool, key, 101)
        fill(spool, 10 + key, 100)
    assert descriptors() == before + 3
    assert kept(spool, range(20)) == [5, 6, 7, *range(10, 18)], "small ones push out no large ones"
    spool.stop()
    assert descriptors() == before


def test_one_that_is_larger_than_all_that_may_be_kept_is_kept_alone(tmp_path: Path) -> None:
    spool = on_disk(tmp_path, limit=100)
    fill(spool, 1, 10)
    fill(spool, 2, 1000)
    assert kept(spool, range(4)) == [2]
    fill(spool, 3, 10)
    assert kept(spool, range(4)) == [3]
    spool.stop()


def test_an_open_file_outlives_its_removal_from_the_spool(tmp_path: Path) -> None:
    spool = Spool((tmp_path,))
    fill(spool, 1, 10)
    content = spool.open(1)
    spool.forget(1)
    spool.forget(1)
    assert spool.open(1) is None
    assert read(content) == b"1" * 10
    spool.stop()


def test_nothing_is_left_of_what_fails(tmp_path: Path) -> None:
    def failing() -> Iterator[bytes]:
        yield b"half"
        raise ValueError("a defect")

    spool = on_disk(tmp_path)
    before = descriptors()
    with pytest.raises(ValueError, match="a defect"):
        spool.make(1, failing)
    assert spool.open(1) is None
    assert descriptors() == before


def test_on_a_full_disk_what_is_kept_is_given_up(tmp_path: Path) -> None:
    spool = on_disk(tmp_path)
    fill(spool, 1, 10)
    attempts = []

    def full_at_first() -> Iterator[bytes]:
        attempts.append(len(kept(spool, range(3))))
        if len(attempts) == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        yield b"fits"

    assert read(spool.make(2, full_at_first)) == b"fits"
    assert attempts == [1, 0]
    spool.stop()


def test_where_the_first_place_cannot_be_written_to_the_next_is_taken(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    spool = on_disk(tmp_path / "file", tmp_path / "other")
    fill(spool, 1, 10)
    assert (tmp_path / "other").is_dir()
    spool.stop()
    with pytest.raises(FileExistsError):
        on_disk(tmp_path / "file").make(1, lambda: iter([b"x"]))


def test_stopping_ends_the_files_in_the_making(tmp_path: Path) -> None:
    started = threading.Event()

    def endless() -> Iterator[bytes]:
        while True:
            yield b"x"
            started.set()

    spool = Spool((tmp_path,))
    with ThreadPoolExecutor(1) as pool:
        made = pool.submit(spool.make, 1, endless)
        assert started.wait(120)
        spool.stop()
        with pytest.raises(InterruptedError):
            made.result(20)
    with pytest.raises(InterruptedError):
        spool.make(2, lambda: iter([b"x"]))


def test_the_place_is_the_cache_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert spool_directories()[0] == tmp_path / "omidbfs"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert spool_directories()[0] == tmp_path / ".cache" / "omidbfs"


def written(spool: Spool, content: bytes) -> int:
    descriptor = spool.new_file()
    os.write(descriptor, content)
    return descriptor


def test_a_file_that_another_process_wrote_is_kept_like_others(tmp_path: Path) -> None:
    spool = Spool((tmp_path,), limit=1000, memory=256 * 100)
    before = descriptors()
    assert spool.keep("small", written(spool, b"1" * 100), 100) == b"1" * 100
    assert descriptors() == before
    for key in range(3):
        content = spool.keep(("large", key), written(spool, b"2" * 400), 400)
        assert not isinstance(content, bytes)
        assert read(content) == b"2" * 400
    assert descriptors() == before + 2
    assert spool.open(("large", 0)) is None
    assert spool.find("small") == read(spool.open("small")) == b"1" * 100
    assert spool.find(("large", 0)) is None
    assert os.listdir(tmp_path) == []
    spool.stop()
    with pytest.raises(InterruptedError):
        spool.keep("late", written(spool, b"3" * 400), 400)
    assert descriptors() == before


def test_only_some_contents_can_be_forgotten(tmp_path: Path) -> None:
    spool = on_disk(tmp_path)
    fill(spool, 1, 10)
    content = spool.keep("rendition", written(spool, b"x"), 1)
    assert not isinstance(content, bytes)
    os.close(content.descriptor)
    spool.forget_those(lambda key: isinstance(key, int))
    assert spool.open(1) is None
    assert read(spool.open("rendition")) == b"x"
    spool.stop()


@pytest.mark.parametrize(("limit", "files"), [(100, 32), (4096, 512), (1 << 20, 16384), (-1, 16384)])
def test_as_many_files_are_kept_as_leave_descriptors_for_the_rest(
    tmp_path: Path, limit: int, files: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda kind: (0, limit))
    assert Spool((tmp_path,)).most_files == files


@pytest.mark.parametrize("small", [False, True])
def test_what_cannot_be_opened_is_not_kept_and_leaves_no_descriptor(
    tmp_path: Path, small: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    spool = Spool((tmp_path,), memory=256 * 100 if small else 0)
    before = descriptors()
    target = spool.new_file()
    os.ftruncate(target, 50)
    with monkeypatch.context() as patched:
        patched.setattr(os, "dup", refuse)
        if small:
            assert spool.keep(1, target, 50) == bytes(50)
        else:
            with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
                spool.keep(1, target, 50)
    assert descriptors() == before
    assert (spool.find(1) is None) is not small
    spool.stop()
