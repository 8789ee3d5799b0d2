"""The index on disk: load returns exactly what save wrote, or refuses."""

import fcntl
import json
import os
import random
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from test_index import plain
from trees import Quirky, Tree

from omidbfs.database.layout import Source, find_source
from omidbfs.database.permissions import born
from omidbfs.index import fingerprint as fingerprints
from omidbfs.index.build import refreshed
from omidbfs.index.columns import Index
from omidbfs.index.fingerprint import fingerprint, is_of
from omidbfs.index.sections import IndexFileError
from omidbfs.index.store import SCHEMA, default_path, load, may_replace, save

SOURCE = "what tells the source"


@dataclass(frozen=True)
class Saved:
    """An index, and the file that it was saved to."""

    index: Index
    path: Path
    content: bytes

    @property
    def header(self) -> dict[str, Any]:
        return json.loads(self.content[8 : self.data])  # type: ignore[no-any-return]

    @property
    def data(self) -> int:
        """Where the arrays begin."""
        return 8 + int.from_bytes(self.content[:8], "little")


@pytest.fixture(scope="module")
def saved(quirky_database: Quirky, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """The index of the database with every quirk. Tests must not change it."""
    index = refreshed(find_source(quirky_database.path))
    path = tmp_path_factory.mktemp("store") / "db.index"
    save(path, index, SOURCE)
    return Saved(index, path, path.read_bytes())


@pytest.fixture
def empty(tmp_path: Path) -> Index:
    """The index of a database without clients."""
    return refreshed(find_source(Tree(tmp_path / "empty").root))


@pytest.fixture
def refused(tmp_path: Path) -> Callable[[bytes], str]:
    """A function that returns why a file with this content is refused."""
    path = tmp_path / "refused.index"

    def reason(content: bytes) -> str:
        path.write_bytes(content)
        return why(path)

    return reason


def why(path: Path) -> str:
    with pytest.raises(IndexFileError) as caught:
        load(path, SOURCE)
    assert re.fullmatch(r"[^\n]{1,100}", str(caught.value))
    return str(caught.value)


def sealed(header: object, data: bytes = b"") -> bytes:
    """Return a file whose header has a matching checksum."""
    text = json.dumps(header).encode()
    text = text.replace(b"........", b"%08x" % crc32(text), 1)
    return len(text).to_bytes(8, "little") + text + data


# Save and load --------------------------------------------------------------------------------------------


def test_what_is_loaded_is_what_was_saved(saved: Saved) -> None:
    loaded = load(saved.path, SOURCE)
    assert plain(loaded.index) == plain(saved.index)
    assert abs(loaded.written - time.time()) < 600


def test_an_index_that_was_loaded_can_be_saved_again(saved: Saved, tmp_path: Path) -> None:
    save(tmp_path / "again.index", load(saved.path, SOURCE).index, SOURCE)
    assert plain(load(tmp_path / "again.index", SOURCE).index) == plain(saved.index)


def test_an_empty_database_is_saved_and_loaded(empty: Index, tmp_path: Path) -> None:
    save(tmp_path / "new" / "empty.index", empty, SOURCE)
    assert plain(load(tmp_path / "new" / "empty.index", SOURCE).index) == plain(empty)


def test_names_and_texts_that_no_encoding_knows_are_kept(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "db")
    study = (
        tree.client().episode("\udce9 1", "M").study("1.1", "\udce9 1").image("1", Manufacturer='"é\U0001f600"')
    )
    os.rename(os.fsencode(study.data / "1.json"), os.fsencode(study.data) + b"/\xff\xed\xa0\x80.json")
    index = refreshed(find_source(tree.root))
    save(tmp_path / "db.index", index, SOURCE)
    loaded = load(tmp_path / "db.index", SOURCE).index
    assert plain(loaded) == plain(index)
    assert "\udcff\udced\udca0\udc80" in loaded.raw_images.values()


def test_the_arrays_lie_in_the_mapped_file_and_cannot_be_written(saved: Saved) -> None:
    index = load(saved.path, SOURCE).index
    for array in (index.identity, index.images.heap, index.image_table.slots, *index.columns.values()):
        assert not array.flags.owndata
        assert not array.flags.writeable
        assert array.ctypes.data % array.itemsize == 0


def test_safetensors_sees_the_same_arrays(saved: Saved) -> None:
    with safetensors.safe_open(saved.path, "numpy") as file:
        assert (file.metadata()["source"], file.metadata()["schema"]) == (SOURCE, SCHEMA)
        seen = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    assert seen.keys() == saved.header.keys() - {"__metadata__"}
    index = saved.index
    expected = {
        "images.heap": index.images.heap,
        "images.offsets": index.images.offsets,
        "clients.slots": index.client_table.slots,
        "dcm.size": index.files[0].size,
        "json.mtime": index.files[1].mtime,
        "documents.access": index.documents.access,
        "episodes.date": index.episodes.date,
        "marks.x1": index.marks.x1,
        "marks.lesions.heap": index.marks.lesions.heap,
        "matrix": index.matrix,
        **{f"columns.{name}": column for name, column in index.columns.items()},
        **{name: getattr(index, name) for name in ("study_of", "identity", "long_suffix", "client_digest")},
    }
    for name, array in expected.items():
        assert (seen[name].dtype, seen[name].shape) == (array.dtype, array.shape), name
        assert np.array_equal(seen[name], array), name
    assert seen["problems"].tobytes() == index.problem_lines


# Source ----------------------------------------------------------------------------------------------------


def test_only_its_owner_can_read_an_index_under_any_umask(empty: Index, tmp_path: Path) -> None:
    path = tmp_path / "cache" / "db.index"
    before = os.umask(0)
    try:
        save(path, empty, SOURCE)
        save(path, empty, SOURCE)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_an_open_file_that_is_replaced_becomes_private(empty: Index, tmp_path: Path) -> None:
    path = tmp_path / "db.index"
    path.write_text("")
    path.chmod(0o666)
    save(path, empty, SOURCE)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_each_source_has_its_own_place_in_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sources = [
        Source("/a", "/b"),
        Source("/a", None),
        Source(None, "/a"),
        Source("/a", "/b", follow_symlinks=True),
    ]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    places = [default_path(source) for source in sources]
    assert len({*places}) == len(sources)
    assert {place.parent for place in places} == {tmp_path / "omidbfs"}
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_path(sources[0]) == tmp_path / "home" / ".cache" / "omidbfs" / places[0].name


def test_a_source_is_known_again_and_another_is_not(tmp_path: Path) -> None:
    one, other = (find_source(Tree(tmp_path / name).root) for name in ("one", "other"))
    assert fingerprint(one) == fingerprint(find_source(tmp_path / "one"))
    assert fingerprint(one) != fingerprint(other)
    (tmp_path / "one").rename(tmp_path / "moved")
    one = find_source(tmp_path / "moved")
    assert fingerprint(one) != fingerprint(other)
    (tmp_path / "moved" / "images").rename(tmp_path / "moved" / "old")
    with pytest.raises(FileNotFoundError):
        fingerprint(one)


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[Callable[[], Path]]:
    """A function that mounts another disk at one place, filled in one way, and returns the place."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = 0

    def mount() -> Path:
        nonlocal mounted
        done = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], capture_output=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"a disk cannot be mounted here: {done.stderr.decode().strip()}")
        mounted += 1
        return Tree(place).client().study().image().of.tree.root

    yield mount
    for _ in range(mounted):
        subprocess.run(["umount", "-l", place], check=True)


def test_two_disks_that_were_filled_alike_are_two_sources_at_one_place(disks: Callable[[], Path]) -> None:
    one = find_source(disks())
    before, inodes = fingerprint(one), [os.stat(tree).st_ino for tree in one.trees()]
    other = find_source(disks())
    assert one == other
    assert [os.stat(tree).st_ino for tree in other.trees()] == inodes
    if born(str(other.images)) is None:
        pytest.skip("this kernel does not say when a directory of a tmpfs came to be")
    assert not is_of(before, fingerprint(other))
    assert is_of(fingerprint(other), fingerprint(find_source(other.images and Path(other.images).parent)))


def test_a_disk_that_is_mounted_again_is_the_same_source(tmp_path: Path) -> None:
    image, place = tmp_path / "image", tmp_path / "disk"
    image.write_bytes(bytes(1 << 20))
    place.mkdir()
    seen = []
    for filled in (False, True):
        if not filled and subprocess.run(["mkfs.ext4", "-q", "-F", image], check=False).returncode != 0:
            pytest.skip("a disk cannot be made here")
        if subprocess.run(["mount", "-o", "loop", image, place], check=False).returncode != 0:
            pytest.skip("a disk cannot be mounted here")
        try:
            seen.append(fingerprint(find_source(place if filled else Tree(place).root)))
        finally:
            subprocess.run(["umount", place], check=True)
    assert seen[0] == seen[1]


def test_a_disk_of_which_a_client_does_not_know_its_age_is_known_by_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, other = (find_source(Tree(tmp_path / name).root) for name in ("one", "other"))
    before = fingerprint(source)
    monkeypatch.setattr(fingerprints, "born", lambda _: None)
    assert is_of(before, fingerprint(source))
    assert is_of(fingerprint(source), before)
    assert not is_of(before, fingerprint(other))


def test_a_directory_is_as_old_as_stat_says(tmp_path: Path) -> None:
    said = subprocess.run(["stat", "-c", "%W", tmp_path], capture_output=True, text=True, check=True).stdout
    found = born(str(tmp_path))
    assert (0 if found is None else found // 10**9) == int(said)
    with pytest.raises(FileNotFoundError):
        born(str(tmp_path / "none"))


# Damage ----------------------------------------------------------------------------------------------------


@pytest.fixture
def flipped(saved: Saved, tmp_path: Path) -> Callable[[int, int], str]:
    """``flipped(place, bit)`` returns why the file with this bit flipped is refused."""
    path = tmp_path / "flipped.index"
    path.write_bytes(saved.content)

    def flip(place: int, bit: int) -> str:
        with path.open("r+b", buffering=0) as file:
            os.pwrite(file.fileno(), bytes([saved.content[place] ^ 1 << bit]), place)
            reason = why(path)
            os.pwrite(file.fileno(), saved.content[place : place + 1], place)
        return reason

    return flip


def test_a_flipped_bit_in_any_array_is_found_and_the_array_named(
    saved: Saved, flipped: Callable[[int, int], str]
) -> None:
    arrays = 0
    for name, entry in saved.header.items():
        if name != "__metadata__" and entry["data_offsets"][0] < entry["data_offsets"][1]:
            first, end = (saved.data + offset for offset in entry["data_offsets"])
            for place, bit in ((first, 0), ((first + end) // 2, 4), (end - 1, 7)):
                assert flipped(place, bit) == f"damaged: {name}"
            arrays += 1
    assert arrays > 70


@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_in_the_length_of_the_header_is_found(flipped: Callable[[int, int], str], bit: int) -> None:
    for place in range(8):
        assert "damaged" in flipped(place, bit)


@pytest.mark.parametrize(
    "pattern",
    [
        rb'"dtype":"(\w+)"',
        rb'"shape":\[(\d+)',
        rb'"data_offsets":\[(\d+,\d+)',
        rb'"source":"([^"]+)"',
        rb'"schema":"([^"]+)"',
        rb'"format":"([^"]+)"',
        rb'"header":"(\w+)"',
        rb'"checksums":"([^}]+)"',
        rb'("__metadata__")',
        rb'("images\.heap")',
        rb"([][{}])",
        rb"( )",
    ],
)
def test_a_flipped_bit_in_the_header_is_found(
    saved: Saved, flipped: Callable[[int, int], str], pattern: bytes
) -> None:
    header = saved.content[: saved.data] + b" " * 8
    found = list(re.finditer(pattern, header[8:]))
    assert found
    places = {
        8 + place for match in (found[0], found[len(found) // 2], found[-1]) for place in range(*match.span(1))
    }
    for number, place in enumerate(sorted(place for place in places if place < saved.data)):
        for bit in range(8) if len(places) < 50 else [number % 8]:
            assert any(word in flipped(place, bit) for word in ("damaged", "no index of omidbfs"))


def test_a_flipped_bit_anywhere_is_found(saved: Saved, flipped: Callable[[int, int], str]) -> None:
    rng = random.Random(1)
    for place in (*range(8, saved.data, 7), *rng.choices(range(saved.data, len(saved.content)), k=300)):
        flipped(place, rng.randrange(8))


def test_a_file_cut_off_anywhere_is_refused(saved: Saved, refused: Callable[[bytes], str]) -> None:
    size, rng = len(saved.content), random.Random(2)
    edges = [0, 1, 7, 8, 9, 10, saved.data - 1, saved.data, saved.data + 1, size // 2, size - 8, size - 1]
    for length in (*edges, *rng.choices(range(size), k=100)):
        assert "damaged" in refused(saved.content[:length])


@pytest.mark.parametrize("more", [b"\0", b" ", b"\0" * 8, b"\0" * 4096])
def test_a_file_with_something_behind_it_is_refused(
    saved: Saved, refused: Callable[[bytes], str], more: bytes
) -> None:
    assert refused(saved.content + more) == "damaged: cut off or too long"
    assert "damaged" in refused(saved.content + saved.content)


def test_pages_that_never_reached_the_disk_are_found(saved: Saved, refused: Callable[[bytes], str]) -> None:
    for start in range(0, len(saved.content), 4096):
        page = saved.content[start : start + 4096]
        if any(page):
            assert "damaged" in refused(saved.content[:start] + bytes(len(page)) + saved.content[start + 4096 :])


# Other files -----------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
headers = json_values | st.fixed_dictionaries(
    {
        "__metadata__": json_values
        | st.fixed_dictionaries({"format": st.just("omidbfs index"), "header": json_values})
    }
)


@given(st.binary(max_size=60) | headers.map(sealed))
def test_random_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "random.index"
    path.write_bytes(content)
    why(path)


checksums = st.sampled_from(['{"a": 0}', f'{{"a": {crc32(bytes(8))}, "b": 0}}', "[]", "{", ""])
entries = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["U8", "F32", 8, None]),
        "shape": st.sampled_from([[0], [1], [8], [2, 4], [-1], [3], "8", None]),
        "data_offsets": st.sampled_from([[0, 8], [8, 8], [4, 8], [8, 0], [-8, 8], [0], ["0", "8"], None, 8]),
    },
)


@given(
    st.dictionaries(st.sampled_from("ab"), entries | json_values, max_size=2),
    st.fixed_dictionaries(
        {"format": st.just("omidbfs index"), "header": st.just("........")},
        optional={
            "schema": st.just(SCHEMA),
            "source": st.just(SOURCE) | json_values,
            "checksums": checksums | json_values,
        },
    ),
)
def test_a_valid_header_with_nonsense_in_it_is_refused(
    tmp_path_factory: pytest.TempPathFactory, arrays: dict[str, object], metadata: dict[str, object]
) -> None:
    path = tmp_path_factory.getbasetemp() / "nonsense.index"
    path.write_bytes(sealed(arrays | {"__metadata__": metadata}, bytes(8)))
    why(path)


def test_a_file_that_lacks_any_one_array_is_refused(saved: Saved, refused: Callable[[bytes], str]) -> None:
    for lost in saved.header.keys() - {"__metadata__"}:
        header = saved.header
        checksums = json.loads(header["__metadata__"]["checksums"])
        entry = header.pop(lost)
        del checksums[lost]
        first, end = entry["data_offsets"]
        for other in header.values():
            if other.get("data_offsets", [0])[0] >= end:
                other["data_offsets"] = [offset - (end - first) for offset in other["data_offsets"]]
        header["__metadata__"] |= {"checksums": json.dumps(checksums), "header": "........"}
        data = saved.content[saved.data :]
        assert "damaged" in refused(sealed(header, data[:first] + data[end:])), lost


def test_another_safetensors_file_is_no_index(refused: Callable[[bytes], str]) -> None:
    arrays = {"weights": np.zeros((2, 2), np.float32)}
    assert refused(safetensors.numpy.save(arrays)) == "damaged or no index"
    assert refused(safetensors.numpy.save(arrays, {"format": "pt"})) == "damaged or no index"
    assert refused(safetensors.numpy.save(arrays, {"format": "pt", "header": "x"})) == "no index of omidbfs"


@pytest.mark.parametrize("schema", ["0", "1", "2", "99", "", "one"])
def test_an_index_of_another_version_is_named_as_such(refused: Callable[[bytes], str], schema: str) -> None:
    other = {"what": "arrays", "__metadata__": {"format": "omidbfs index", "schema": schema, "header": "........"}}
    assert refused(sealed(other)).startswith("of another version")


def test_an_index_of_another_source_is_refused(saved: Saved) -> None:
    for other in ("", SOURCE + " ", SOURCE.upper()):
        with pytest.raises(IndexFileError, match="of another source"):
            load(saved.path, other)


def test_what_is_not_there_is_missing(tmp_path: Path) -> None:
    assert why(tmp_path / "none.index") == "missing"
    (tmp_path / "link").symlink_to(tmp_path / "none.index")
    assert why(tmp_path / "link") == "missing"


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert why(tmp_path) == "cannot be read: Is a directory"
    (tmp_path / "file").write_text("")
    assert why(tmp_path / "file" / "db.index") == "cannot be read: Not a directory"
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    assert why(tmp_path / "circle") == "cannot be read: Too many levels of symbolic links"
    assert why(tmp_path / "file") == "damaged: shorter than its header"


def test_a_special_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "no" in why(tmp_path / "pipe")
    assert "no" in why(Path("/dev/zero"))


def test_an_index_that_another_has_a_lease_on_is_waited_for(saved: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "omidbfs.database.permissions.time.sleep", lambda _: fcntl.fcntl(held, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    )
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)  # the signal that tells the holder
    held = os.open(saved.path, os.O_RDWR)
    try:
        for use in (lambda: len(load(saved.path, SOURCE).index), lambda: may_replace(saved.path)):
            fcntl.fcntl(held, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            assert use()
    finally:
        os.close(held)
        signal.signal(signal.SIGIO, before)


LOAD_AS_SOMEBODY = """
import os, sys
from pathlib import Path
from omidbfs.index.sections import IndexFileError
from omidbfs.index.store import load
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    load(Path(sys.argv[1]), "")
except IndexFileError as error:
    print(error)
"""


def test_an_index_that_others_may_not_read_is_named(saved: Saved, tmp_path: Path) -> None:
    hidden = tmp_path / "hidden.index"
    hidden.write_bytes(saved.content)
    hidden.chmod(0)
    done = subprocess.run(
        [sys.executable, "-c", LOAD_AS_SOMEBODY, str(hidden)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "cannot be read: Permission denied\n"


# Writing ---------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "tmpfs", place], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_leaves_the_old_index_and_nothing_else(saved: Saved, empty: Index, small_disk: Path) -> None:
    path = small_disk / "db.index"
    save(path, empty, SOURCE)
    before = path.read_bytes()
    (small_disk / "other").write_bytes(bytes((256 << 10) - len(saved.content) // 2 - len(before) - 8192))
    with pytest.raises(OSError, match="No space left"):
        save(path, saved.index, SOURCE)
    assert sorted(os.listdir(small_disk)) == ["db.index", "other"]
    assert path.read_bytes() == before
    assert plain(load(path, SOURCE).index) == plain(empty)


def test_a_read_only_disk_leaves_the_old_index(saved: Saved, empty: Index, small_disk: Path) -> None:
    path = small_disk / "db.index"
    save(path, empty, SOURCE)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    for place in (path, small_disk / "new" / "db.index"):
        with pytest.raises(OSError, match="Read-only"):
            save(place, saved.index, SOURCE)
    assert os.listdir(small_disk) == ["db.index"]
    assert plain(load(path, SOURCE).index) == plain(empty)


def test_a_place_that_is_a_directory_is_left_as_it_is(empty: Index, tmp_path: Path) -> None:
    (tmp_path / "place").mkdir()
    with pytest.raises(OSError, match="directory"):
        save(tmp_path / "place", empty, SOURCE)
    assert sorted(os.listdir(tmp_path)) == ["empty", "place"]


@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_an_interrupt_leaves_the_old_index_and_nothing_else(
    saved: Saved, empty: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "place" / "db.index"
    save(path, empty, SOURCE)
    with monkeypatch.context() as patch:
        patch.setattr(os, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            save(path, saved.index, SOURCE)
    assert os.listdir(path.parent) == ["db.index"]
    assert plain(load(path, SOURCE).index) == plain(empty)


def test_a_reader_keeps_its_index_while_another_replaces_it(saved: Saved, empty: Index, tmp_path: Path) -> None:
    path = tmp_path / "db.index"
    save(path, saved.index, SOURCE)
    reader = load(path, SOURCE).index
    save(path, empty, SOURCE)
    assert plain(load(path, SOURCE).index) == plain(empty)
    path.unlink()
    assert plain(reader) == plain(saved.index)


SAVE_AGAIN_AND_AGAIN = """
import sys
from pathlib import Path
from omidbfs.index.store import load, save
source, target, times = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
index = load(source, sys.argv[4]).index
for _ in range(times):
    save(target, index, sys.argv[4])
"""


def saving(source: Path, target: Path, times: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", SAVE_AGAIN_AND_AGAIN, source, target, str(times), SOURCE])


def test_two_simultaneous_saves_leave_one_whole_file(saved: Saved, empty: Index, tmp_path: Path) -> None:
    save(tmp_path / "empty.index", empty, SOURCE)
    place = tmp_path / "place"
    target = place / "db.index"
    seen = set()
    with saving(saved.path, target, 40) as one, saving(tmp_path / "empty.index", target, 40) as other:
        while one.poll() is None or other.poll() is None:
            if target.exists():
                index = load(target, SOURCE).index
                seen.add(len(index))
                assert len(index.images) == len(index.identity) == len(index)
    assert (one.returncode, other.returncode) == (0, 0)
    assert seen == {0, len(saved.index)}
    assert os.listdir(place) == ["db.index"]
    final = load(target, SOURCE).index
    assert plain(final) == plain(saved.index if len(final) else empty)


def test_one_that_is_killed_while_it_saves_leaves_a_whole_file(saved: Saved, empty: Index, tmp_path: Path) -> None:
    target, rng = tmp_path / "place" / "db.index", random.Random(3)
    save(target, empty, SOURCE)
    for _ in range(4):
        written = target.stat().st_ino
        with saving(saved.path, target, 10**6) as process:
            while target.stat().st_ino == written:
                time.sleep(0.001)
            time.sleep(rng.random() / 50)
            process.send_signal(signal.SIGKILL)
        assert plain(load(target, SOURCE).index) == plain(saved.index)
    for name in os.listdir(target.parent):  # unfinished files have their mode from the start
        assert stat.S_IMODE((target.parent / name).stat().st_mode) == 0o600


def safetensors_file(metadata: dict[str, str] | None) -> bytes:
    return safetensors.numpy.save({"weights": np.zeros((2, 2), np.float32)}, metadata)


@pytest.mark.parametrize(
    "content",
    [
        b"some notes\n",
        b"#!/bin/sh\nomidbfs index /data/omidb\n",
        b"PK\x03\x04" * 100,
        b"\x00" * 5000,
        safetensors_file(None),
        safetensors_file({"format": "pt", "schema": SCHEMA, "source": "", "checksums": "{}", "header": ""}),
        safetensors_file({"format": "omidbfs index"}),
        sealed({"omidbfs index": {}, "__metadata__": ["omidbfs index"]}),
    ],
)
def test_a_file_that_is_no_index_is_not_overwritten(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes"
    path.write_bytes(content)
    assert not may_replace(path)


def test_a_pipe_in_the_place_of_an_index_is_left_alone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    assert not may_replace(tmp_path / "pipe")
    assert not may_replace(tmp_path / "circle")
    assert not may_replace(tmp_path)


def test_nothing_an_index_of_any_version_and_a_damaged_one_may_be_replaced(tmp_path: Path, saved: Saved) -> None:
    path, whole = tmp_path / "db.index", saved.content
    assert may_replace(path)
    middle = (saved.data + len(whole)) // 2
    damaged = whole[:middle] + b"\xff" * 64 + whole[middle + 64 :]
    older = whole[: saved.data].replace(f'"schema":"{SCHEMA}"'.encode(), b'"schema":"1"') + whole[saved.data :]
    for content in (whole, b"", whole[: saved.data], whole[:middle], damaged, older, whole + b"more"):
        path.write_bytes(content)
        assert may_replace(path)
    (tmp_path / "link").symlink_to(path)
    assert may_replace(tmp_path / "link")
    for cut in (1, 8, saved.data // 2):  # its source is unknown
        path.write_bytes(whole[:cut])
        assert not may_replace(path)
