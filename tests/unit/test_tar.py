"""``cohort.tar`` has the bytes that Python's ``tarfile`` would write, each in the place that was known before."""

import errno
import io
import os
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trio
from click.testing import CliRunner
from front_end import FrontEnd
from hypothesis import given, settings
from hypothesis import strategies as st
from pixel_files import written
from trees import PIXELS, Quirky, Tree, build_index

from omidbfs.cli.main import main
from omidbfs.database.file_kinds import FileKind
from omidbfs.database.layout import Source, find_source
from omidbfs.database.records import FIRST_TIME, LAST_TIME
from omidbfs.exports import tar
from omidbfs.exports.packing import packed, shards
from omidbfs.exports.tar import Archive, Part, header
from omidbfs.index.classification import Classification
from omidbfs.serving import archives
from omidbfs.serving.archives import OpenArchive
from omidbfs.serving.configuration import read_definitions
from omidbfs.serving.drive import Drive
from omidbfs.serving.refresh import drive_of
from omidbfs.serving.session import Session
from omidbfs.view.file_keys import FileKeys
from omidbfs.view.inode import file_key
from omidbfs.view.nodes import Directory, Export
from omidbfs.view.ownership import drive_access
from omidbfs.view.view import View

SMALL = {**PIXELS, "Rows": 20, "Columns": 20, "BitsStored": 16}
COHORTS = ("all", "by-view/MLO/by-laterality/L", "by-file-type/dcm", "by-file-type/json", "by-view/SIO")
NEVER = 10**18
EIO = os.strerror(errno.EIO)


def view_of(source: Source) -> View:
    return View(build_index(source, Classification()), drive_access(source), {})


def directory(view: View, path: str) -> Directory:
    found = view.resolve(path.encode())
    assert found is not None
    return found


def archive_at(view: View, path: str) -> Archive:
    export = view.lookup(directory(view, f"{path}/.omidbfs"), b"cohort.tar")
    assert isinstance(export, Export)
    return view.archive(export)


def member(name: str, size: int, mtime_ns: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, 0o444, mtime_ns // 10**9
    return info


def packed_by_python(files: list[tuple[str, int, bytes]]) -> bytes:
    """Return the archive that ``tarfile`` makes of names, times and contents."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, mtime_ns, content in files:
            archive.addfile(member(name, len(content), mtime_ns), io.BytesIO(content))
    return stream.getvalue()


def files_of(view: View, source: Source, path: str) -> list[tuple[str, int, bytes]]:
    """Return the images that a directory lists, or those below it: names in an archive, times and contents."""
    found = []

    def walk(place: Directory, before: str) -> None:
        listing = view.listing(place)
        for entry in listing.page(0, listing.length):
            name = os.fsdecode(entry.name)
            if entry.directory is not None:
                walk(entry.directory, f"{before}{name}/")
                continue
            known = view.files.place(entry.inode)
            assert known is not None
            if known[1] is not None:
                tree, where = view.files.source_file(entry.inode)
                content = Path((source.images, source.data)[tree] or "", os.fsdecode(where)).read_bytes()
                stem, _, suffix = name.rpartition(".")
                found.append((f"{before}{stem}/image.{suffix}", entry.mtime, content))

    walk(directory(view, path), "")
    return found


# Headers


@given(
    st.integers(0, 420),
    st.one_of(st.integers(0, 1 << 63), st.sampled_from([8**11 - 1, 8**11])),
    st.one_of(st.integers(FIRST_TIME, LAST_TIME), st.sampled_from([-1, 8**11 * 10**9 - 1, 8**11 * 10**9])),
)
def test_a_header_is_that_of_tarfile(length: int, size: int, mtime_ns: int) -> None:
    name = ("1.2." * 105)[:length] + "/image.dcm"
    expected = member(name, size, mtime_ns).tobuf(tarfile.PAX_FORMAT)
    assert header(name.encode(), size, mtime_ns) == expected


def test_sizes_beyond_8_gib_and_odd_times_are_counted_where_the_headers_have_them(demo_database: Path) -> None:
    view = view_of(find_source(demo_database))
    columns, count = view.index.files[0], len(view.index)
    sizes, mtimes = columns.size.astype(np.uint64), columns.mtime.copy()
    sizes[3], sizes[40], sizes[41] = 8**11 - 1, 8**11, 3 << 40
    mtimes[5], mtimes[41], mtimes[count - 1] = -1, 8**11 * 10**9, FIRST_TIME
    index = replace(view.index, files=(replace(columns, size=sizes, mtime=mtimes), view.index.files[1]))
    found = archive_at(View(index, view.export_access, {}), "all")
    members = [one for group in range(len(found.starts) - 1) for one in found.members(group)]
    end = 0
    for one in members:
        expected = member(one.name.decode(), one.size, one.mtime_ns).tobuf(tarfile.PAX_FORMAT)
        assert (one.start, one.content - one.start) == (end, len(expected))
        end = one.content + -(-one.size // 512) * 512
        assert one.end == end
    assert found.starts[-1] == end
    assert found.size == -(-(end + 1024) // 10240) * 10240
    assert sum(one.content - one.start > 512 for one in members) == 4, (
        "one image has both, and a time is odd in two"
    )
    large = next(one for one in members if one.size == 3 << 40)
    assert list(found.parts(large.content + (2 << 40), large.content + (2 << 40) + 7)) == [Part(large, 2 << 40, 7)]


# Archives


@pytest.mark.parametrize("path", COHORTS)
def test_an_archive_is_what_tarfile_makes_of_what_the_directory_lists(demo_database: Path, path: str) -> None:
    source = find_source(demo_database)
    view = view_of(source)
    archive = archive_at(view, path)
    expected = packed_by_python(files_of(view, source, path))
    assert archive.size == len(expected)
    assert b"".join(packed(archive, source)) == expected


def test_archives_of_a_database_with_every_oddity_and_of_real_directories(quirky_database: Quirky) -> None:
    source = find_source(quirky_database.path)
    view = view_of(source)
    readable = ["all", "by-view/MLO"]
    readable += [f"by-client/{os.fsdecode(name)}" for name in view.index.clients]
    checked = 0
    for path in readable:
        if view.resolve(path.encode()) is None:
            continue
        archive, files = archive_at(view, path), files_of(view, source, path)
        expected = packed_by_python(files)
        assert archive.size == len(expected)
        assert b"".join(packed(archive, source)) == expected
        checked += len(files)
    assert checked > 100


def test_an_empty_cohort_is_an_empty_archive(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.client().study().image("1.1.1", ViewPosition="CC")
    source = find_source(tmp_path)
    archive = archive_at(view_of(source), "by-view/CC/by-view/MLO")
    assert b"".join(packed(archive, source)) == packed_by_python([]) == bytes(10240)
    assert list(archive.parts(20000, 30000)) == []


LONG = "1." * 60 + "1"


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> tuple[View, Source, bytes]:
    """Images with long names, names that are not ASCII, names twice, sizes around a block, and old times."""
    root = tmp_path_factory.mktemp("odd")
    client = Tree(root).client("demd1")
    study = client.study("1.1")
    for number, size in enumerate((0, 1, 511, 512, 513, 1024, 70000)):
        study.image(f"1.1.{number}", dcm=os.urandom(size) or b"x", ViewPosition="CC")
    study.image(LONG, ViewPosition="CC").image("größe ☃", ViewPosition="CC").image("1.1.9", has_sidecar=False)
    client.study("1.2").image("1.1.3", ViewPosition="CC").image("only", dcm=None, ViewPosition="CC")
    for number, path in enumerate(sorted((root / "images").rglob("*.dcm"))):
        os.utime(path, ns=(0, (number - 2) * 10**9 + 999_999_999))
    (root / "images/demd1/1.1/1.1.0.dcm").write_bytes(b"")
    source = find_source(root)
    view = view_of(source)
    return view, source, packed_by_python(files_of(view, source, "all"))


def test_names_that_are_long_or_not_ascii_or_there_twice_are_as_in_the_directory(
    odd: tuple[View, Source, bytes],
) -> None:
    view, source, expected = odd
    archive = archive_at(view, "all")
    assert b"".join(packed(archive, source)) == expected
    with tarfile.open(fileobj=io.BytesIO(expected)) as found:
        names = found.getnames()
    assert f"{LONG}/image.dcm" in names
    assert "gr%C3%B6%C3%9Fe%20%E2%98%83/image.json" in names
    assert "1.1.3~demd1~1.1/image.dcm" in names
    assert "1.1.9/image.json" not in names
    assert "only/image.dcm" not in names


@settings(max_examples=300)
@given(st.data())
def test_any_part_of_an_archive_is_that_part_of_the_whole(
    odd: tuple[View, Source, bytes], data: st.DataObject
) -> None:
    view, source, expected = odd
    archive = archive_at(view, "all")
    members = [one for group in range(len(archive.starts) - 1) for one in archive.members(group)]
    bounds = sorted({0, archive.size, *(at for one in members for at in (one.start, one.content, one.end))})
    near = st.builds(lambda at, by: max(at + by, 0), st.sampled_from(bounds), st.integers(-2, 2))
    place = st.one_of(near, st.integers(0, archive.size + 600))
    offset, end = sorted((data.draw(place), data.draw(place)))
    assert b"".join(bytes_of(view, source, part) for part in archive.parts(offset, end)) == expected[offset:end]


def bytes_of(view: View, source: Source, part: bytes | Part) -> bytes:
    if isinstance(part, bytes):
        return part
    kind = part.member.shown
    assert isinstance(kind, FileKind)
    path = os.fsdecode(view.index.image_path(part.member.row, kind))
    whole = Path((source.images, source.data)[kind.tree] or "", path).read_bytes()
    return whole[part.start : part.start + part.length]


def test_a_whole_database_needs_a_few_bytes_of_memory_for_each_image(demo_database: Path) -> None:
    view = view_of(find_source(demo_database))
    assert archive_at(view, "all").memory < 5 * len(view.index)


def test_webdataset_would_find_a_sample_of_each_image(demo_database: Path) -> None:
    source = find_source(demo_database)
    archive = archive_at(view_of(source), "by-view/MLO")
    samples: dict[str, list[str]] = {}
    with tarfile.open(fileobj=io.BytesIO(b"".join(packed(archive, source)))) as found:
        for one in found:
            split = re.fullmatch(r"((?:.*/|)[^.]+)[.]([^/]*)", one.name)  # webdataset.tariterators.base_plus_ext
            assert split is not None
            samples.setdefault(split[1], []).append(split[2])
    assert len(samples) == len(archive.rows)
    assert set(map(tuple, samples.values())) <= {("dcm", "json"), ("dcm",), ("json",)}


@pytest.mark.parametrize("mode", [0o444, 0o440, 0o400, 0o404])
def test_an_archive_can_be_read_only_by_those_who_may_read_every_file(tree: Tree, mode: int) -> None:
    (tree.images / "demd1/1.1/1.1.7.dcm").chmod(mode)
    view = view_of(find_source(tree.root))
    export = view.lookup(directory(view, "all/.omidbfs"), b"cohort.tar")
    assert isinstance(export, Export)
    assert view.export_attributes(export, 0).mode & 0o777 & ~0o400 & ~mode == 0


# The command


def export(source: Path, *arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["export", str(source), *map(str, arguments)])
    return done.exit_code, done.stderr


def test_shards_hold_all_files_of_an_image_together_and_keep_their_order(
    demo_database: Path, tmp_path: Path
) -> None:
    limit = 300 << 10
    assert export(demo_database, "by-view/MLO", "-o", tmp_path / "mlo.tar", "--shard-size", "300K")[0] == 0
    names = sorted(os.listdir(tmp_path))
    assert names == [f"mlo-{number:06}.tar" for number in range(len(names))]
    assert len(names) > 3
    source = find_source(demo_database)
    expected = [name for name, _, _ in files_of(view_of(source), source, "by-view/MLO")]
    found = []
    for name in names:
        assert (tmp_path / name).stat().st_size <= limit
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
        with tarfile.open(tmp_path / name) as shard:
            of_shard = shard.getnames()
        found.append(of_shard)
    assert [one for of_shard in found for one in of_shard] == expected
    keys = [{one.partition("/")[0] for one in of_shard} for of_shard in found]
    assert sum(map(len, keys)) == len(set[str]().union(*keys)), "no image is in two"


def test_an_image_that_is_larger_than_a_shard_has_one_of_its_own(odd: tuple[View, Source, bytes]) -> None:
    view, source, _ = odd
    chosen = view.selection(directory(view, "all"))
    for largest in (0, 10240, 20480, NEVER):
        found = list(shards(chosen, largest))
        rows = [one.rows.tolist() for one in found]
        assert [row for of_shard in rows for row in of_shard] == chosen.cohorts.rows(chosen.cohort).tolist()
        assert all(one.size <= largest or len(one.rows) == 1 for one in found)
        assert all(len(b"".join(packed(one, source))) == one.size for one in found)
    assert len(found) == 1
    empty = view.selection(directory(view, "by-view/CC/by-view/MLO"))
    assert [one.size for one in shards(empty, 0)] == [10240]


def test_a_shard_of_an_earlier_export_is_named(demo_database: Path, tmp_path: Path) -> None:
    (tmp_path / "x-000001.tar").write_bytes(b"")
    status, said = export(demo_database, "by-view/MLO", "-o", tmp_path / "x", "--shard-size", "1T")
    assert status == 1
    assert f"{tmp_path / 'x-000001.tar'}: is left of an earlier export, and not a part of this one" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--format", "csv", "--shard-size", "1M"), "--shard-size goes with --format tar"),
        (("--format", "tar", "--shard-size", "1M"), "--shard-size needs -o FILE"),
        (("-o", "-", "--shard-size", "1M"), "--shard-size needs -o FILE"),
        (("-o", "x.tar", "--shard-size", "0"), "--shard-size 0 leaves no room: give a size such as 1G"),
    ],
)
def test_shards_of_other_formats_on_standard_output_and_without_size_are_refused(
    demo_database: Path, arguments: tuple[str, ...], said: str
) -> None:
    status, printed = export(demo_database, "all", *arguments)
    assert status == 2
    assert said in printed


def test_a_rendition_that_cannot_be_made_ends_the_export_and_leaves_nothing(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "db")
    study = tree.client().study()
    study.image("1.1.1", dcm=written(np.ones((20, 20), "<u2")), **SMALL)
    study.image("1.1.2", dcm=written(np.ones((20, 20), "<u2"))[:-100], **SMALL)
    status, said = export(tree.root, "as-png-16/all", "-o", tmp_path / "x.tar")
    assert status == 1
    assert "demd1/1.1/1.1.2.dcm: has no as-png-16: " in said
    assert not (tmp_path / "x.tar").exists()


@pytest.mark.parametrize("change", ["longer", "later", "gone"])
def test_a_file_that_has_changed_ends_the_export_and_leaves_nothing(tmp_path: Path, change: str) -> None:
    tree = Tree(tmp_path / "db")
    tree.client().study().image("1.1.1", ViewPosition="CC").image("1.1.2", ViewPosition="CC")
    assert export(tree.root, "-o", tmp_path / "x.tar")[0] == 0
    (tmp_path / "x.tar").unlink()
    path = tree.images / "demd1/1.1/1.1.2.dcm"
    if change == "longer":
        path.write_bytes(path.read_bytes() + b"more")
    elif change == "later":
        os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    else:
        path.unlink()
    status, said = export(tree.root, "-o", tmp_path / "x.tar")
    assert status == 1
    reason = "cannot be read (No such file" if change == "gone" else "has changed since the index was written"
    assert f"demd1/1.1/1.1.2.dcm: {reason}" in said
    assert not (tmp_path / "x.tar").exists()
    assert export(tree.root, "--verify-first", "-o", tmp_path / "x.tar")[0] == 0


# The drive


@contextmanager
def drive_over(source: Path, index: Path) -> Iterator[FrontEnd]:
    session = Session(find_source(source), index, lambda: nullcontext(lambda *_: None))
    stored, _ = session.opened(pytest.fail)
    drive = drive_of(session, stored)
    yield FrontEnd(drive)
    drive.close()


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A database of one client with twelve images."""
    tree = Tree(tmp_path / "db")
    study = tree.client().study()
    for number in range(12):
        study.image(f"1.1.{number}", dcm=bytes([number]) * 3000, ViewPosition="CC")
    return tree


async def opened(drive: Drive, path: bytes = b"all/.omidbfs") -> OpenArchive:
    place = drive.view.resolve(path)
    assert place is not None
    node = drive.view.lookup(place, b"cohort.tar")
    assert isinstance(node, Export)
    file = await drive.open(node)
    assert isinstance(file, OpenArchive)
    return file


async def read(drive: Drive, file: OpenArchive, offset: int, size: int) -> bytes:
    at_once = drive.read_at_once(file, offset, size)
    return bytes(await drive.read(file, offset, size) if at_once is None else at_once)


@pytest.mark.parametrize("is_local", [True, False])
def test_a_drive_reads_any_part_with_few_descriptors_from_many_tasks(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_local: bool
) -> None:
    if not is_local:  # then threads open, read and close
        monkeypatch.setattr("omidbfs.database.permissions._LOCAL", frozenset())
    source = find_source(tree.root)
    expected = packed_by_python(files_of(view_of(source), source, "all"))

    async def check(drive: Drive) -> None:
        file = await opened(drive)
        assert file.facts.size == len(expected)
        assert drive.disks.open_files == 0, "nothing is opened before it is read"
        most = 0

        async def in_steps(step: int) -> None:
            nonlocal most
            for offset in range(0, len(expected) + step, step):
                assert await read(drive, file, offset, step) == expected[offset : offset + step]
                most = max(most, drive.disks.open_files)
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            for step in (512, 700, 1500, 4096, 10240, 1 << 20):
                nursery.start_soon(in_steps, step)
        assert 0 < most <= 4 + 2 * 6, "four, and those that six tasks open or read"
        assert await read(drive, file, 0, len(expected)) == expected
        assert drive.disks.open_files == len(file.descriptors()) <= 4
        assert await read(drive, file, len(expected) + 5, 10) == b""
        await drive.close_file(file)
        assert drive.disks.open_files == 0

    with drive_over(tree.root, tmp_path / "index") as front_end:
        trio.run(check, front_end.drive)


@pytest.mark.parametrize("when", ["before", "while it is open"])
def test_a_member_that_was_replaced_is_eio_and_all_others_are_read(tree: Tree, tmp_path: Path, when: str) -> None:
    path = tree.images / "demd1/1.1/1.1.5.dcm"

    async def check(drive: Drive) -> None:
        file = await opened(drive)
        members = file.archive.members(0)
        replaced = next(one for one in members if one.name == b"1.1.5/image.dcm")
        if when != "before":
            assert await read(drive, file, replaced.content, 100) == bytes([5]) * 100
        path.write_bytes(b"another")
        for one in members:
            if one is replaced:
                for _ in range(2):
                    with pytest.raises(OSError, match=EIO):
                        await read(drive, file, one.content, 100)
                with pytest.raises(OSError, match=EIO):
                    await read(drive, file, 0, file.facts.size)
            else:
                assert len(await read(drive, file, one.content, one.size)) == one.size
            head = await read(drive, file, one.start, one.content - one.start)
            assert head == header(one.name, one.size, one.mtime_ns), "the header is what the index says"
        await drive.close_file(file)
        assert drive.disks.open_files == 0

    with drive_over(tree.root, tmp_path / "index") as front_end:
        trio.run(check, front_end.drive)


def test_a_member_in_doubt_is_compared_with_the_file_that_is_there(tree: Tree, tmp_path: Path) -> None:
    paths = [tree.images / f"demd1/1.1/1.1.{number}.dcm" for number in (5, 6)]

    async def check(drive: Drive) -> None:
        file = await opened(drive)
        members = {one.name: one for one in file.archive.members(0)}
        replaced, same = (members[b"%b/image.dcm" % path.stem.encode()] for path in paths)
        for one in (replaced, same):
            assert len(await read(drive, file, one.content, 3000)) == 3000
        seen = paths[0].stat()
        other = tmp_path / "other"
        other.write_bytes(b"x" * 3000)
        os.utime(other, ns=(seen.st_atime_ns, seen.st_mtime_ns))
        other.replace(paths[0])
        inodes = [drive.view.file(one.row, one.shown) for one in (replaced, same)]
        drive.doubt(FileKeys(file_key(inode) for inode in inodes if inode is not None))
        assert await read(drive, file, same.content, 3000) == bytes([6]) * 3000
        for _ in range(2):
            with pytest.raises(OSError, match=EIO):
                await read(drive, file, replaced.content, 100)
        await drive.close_file(file)
        assert drive.disks.open_files == 0

    with drive_over(tree.root, tmp_path / "index") as front_end:
        trio.run(check, front_end.drive)


def test_places_are_summed_up_once_for_all_who_ask(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sums: list[int] = []
    extents = tar.extents

    def counted(*arguments: object) -> object:
        sums.append(1)
        return extents(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(tar, "extents", counted)

    async def check(drive: Drive) -> None:
        export = FrontEnd(drive).find(b"all/.omidbfs/cohort.tar")
        assert isinstance(export, Export)

        async def ask() -> None:
            assert await drive.generated.size(export) % 10240 == 0

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(ask)
        await drive.close_file(await opened(drive))
        assert len(sums) == 1
        monkeypatch.setattr(archives, "MEMORY", 0)  # the last one is remembered nevertheless
        for _ in range(2):
            await drive.close_file(await opened(drive, b"by-view/CC/.omidbfs"))
        assert len(sums) == 2
        await drive.close_file(await opened(drive))
        assert len(sums) == 3

    with drive_over(tree.root, tmp_path / "index") as front_end:
        trio.run(check, front_end.drive)


def test_an_archive_that_is_open_stays_what_it_was_when_the_view_is_replaced(tree: Tree, tmp_path: Path) -> None:
    source = find_source(tree.root)
    expected = packed_by_python(files_of(view_of(source), source, "all"))
    with drive_over(tree.root, tmp_path / "index") as front_end:
        drive = front_end.drive

        async def check() -> None:
            file = await opened(drive)
            old = FrontEnd(drive).find(b"all/.omidbfs/cohort.tar")
            assert isinstance(old, Export)
            tree.client("demd2").study("2.1").image("2.1.1", ViewPosition="CC")
            drive.replace_view(view_of(source), type(drive.reader)(source, drive.disks))
            with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
                await drive.open(old)
            assert await read(drive, file, 0, file.facts.size) == expected
            newer = await opened(drive)
            assert newer.facts.size > len(expected) - 10240
            assert await read(drive, newer, 0, newer.facts.size) == packed_by_python(
                files_of(drive.view, source, "all")
            )
            await drive.close_file(file)
            await drive.close_file(newer)

        trio.run(check)


def test_a_drive_that_ends_closes_the_members_of_open_archives(tree: Tree, tmp_path: Path) -> None:
    with drive_over(tree.root, tmp_path / "index") as front_end:

        async def check() -> OpenArchive:
            file = await opened(front_end.drive)
            await read(front_end.drive, file, 0, file.facts.size)
            return file

        descriptors = trio.run(check).descriptors()
        assert len(descriptors) == 4
        assert all(os.fstat(number) for number in descriptors)
    for number in descriptors:
        with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
            os.fstat(number)


# Renditions


@pytest.mark.parametrize(
    "path", ["as-png-64/by-view/MLO", "by-outcome/malignant/as-npy", "as-small/by-client/CLIENT"]
)
def test_an_archive_of_renditions_has_the_files_that_the_directory_lists(
    demo_database: Path, tmp_path: Path, path: str
) -> None:
    config = tmp_path / "omidbfs.toml"
    config.write_text('[renditions.small]\nformat = "png16"\nsize = 32\n')
    os.utime(config, ns=(0, 1_900_000_000 * 10**9))  # later than any image
    path = path.replace("CLIENT", min(os.listdir(demo_database / "images")))
    session = Session(
        find_source(demo_database),
        tmp_path / "index",
        lambda: nullcontext(lambda *_: None),
        definitions=read_definitions(config),
    )
    stored, _ = session.opened(pytest.fail)
    drive = drive_of(session, stored)
    front_end = FrontEnd(drive)

    async def check() -> bytes:
        files = []
        async for name, entry in front_end.walk(path.encode()):
            where = os.fsdecode(name).removeprefix(f"{path}/")
            if b".omidbfs" not in name:
                stem, _, suffix = where.rpartition(".")
                files.append((f"{stem}/image.{suffix}", entry.mtime, await front_end.read(name)))
        expected = packed_by_python(files)
        archive = f"{path}/.omidbfs/cohort.tar".encode()
        assert await front_end.read(archive) == expected
        export = front_end.find(archive)
        assert isinstance(export, Export)
        assert await drive.generated.size(export) == len(expected)
        file = await drive.open(export)
        assert isinstance(file, OpenArchive)
        for offset in range(0, len(expected), 70_000):
            assert await read(drive, file, offset, 1000) == expected[offset : offset + 1000]
        await drive.close_file(file)
        assert drive.disks.open_files == 0
        assert len(files) > 3
        return expected

    try:
        expected = trio.run(check)
    finally:
        drive.close()
    name = next(part for part in path.split("/") if part.startswith("as-"))
    plain = "/".join(part for part in path.split("/") if part != name)
    for number, (where, *options) in enumerate(((path,), (plain, "--as", name[3:], "--shard-size", "1G"))):
        command = ["--config", config, "export", demo_database, where, *options, "--index", tmp_path / "index"]
        done = CliRunner().invoke(main, [*map(str, command), "-o", str(tmp_path / f"x{number}.tar")])
        assert done.exit_code == 0, done.output
        [archive] = tmp_path.glob(f"x{number}*.tar")
        assert archive.read_bytes() == expected


def test_a_rendition_that_cannot_be_made_is_eio_in_its_archive(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "db")
    study = tree.client().study()
    for number in range(3):
        content = written(np.full((20, 20), number + 1, "<u2"))
        study.image(f"1.1.{number}", dcm=content[:-100] if number == 1 else content, **SMALL)

    async def check(drive: Drive) -> None:
        file = await opened(drive, b"as-png16-16/all/.omidbfs")
        members = file.archive.members(0)
        assert [one.name for one in members] == [b"1.1.0/image.png", b"1.1.1/image.png", b"1.1.2/image.png"]
        for one in (members[1], *members):
            if one is members[1]:
                with pytest.raises(OSError, match=EIO):
                    await read(drive, file, one.content, 100)
            else:
                assert (await read(drive, file, one.content, one.size))[:4] == b"\x89PNG"
        await drive.close_file(file)
        assert drive.disks.open_files == 0

    with drive_over(tree.root, tmp_path / "index") as front_end:
        trio.run(check, front_end.drive)
