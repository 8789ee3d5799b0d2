"""The drive as a file system of fsspec is the drive that a mount shows, for every program that takes one."""

import contextlib
import errno
import gc
import io
import json
import multiprocessing
import os
import pickle
import resource
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import comparing
import duckdb
import fsspec
import numpy as np
import pandas
import polars
import pydicom
import pytest
import trio
import zarr
from dask.base import compute
from dask.bytes import read_bytes
from fsspec.spec import AbstractFileSystem
from pixel_files import written
from reference import File, Reference
from trees import Quirky, Tree
from upath import UPath

from omidbfs.api.loop import Loop
from omidbfs.cli.main import main
from omidbfs.demo import generate
from omidbfs.exports.formats import FORMATS

MLO = "by-outcome/malignant/by-view/MLO"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean database of eight clients."""
    path = tmp_path_factory.mktemp("small") / "db"
    generate(path, 8, seed=5)
    return path


@pytest.fixture(scope="module")
def options(database: Path) -> dict[str, str]:
    """The storage options of this database."""
    return {"source": str(database)}


@pytest.fixture(scope="module")
def fs(options: dict[str, str]) -> AbstractFileSystem:
    """The same as a file system."""
    return fsspec.filesystem("omidbfs", **options)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A database that a test may change."""
    tree = Tree(tmp_path / "db")
    tree.client().study("1").image("1.1", ViewPosition="CC").image("1.2", ViewPosition="MLO")
    return tree


def walked(fs: AbstractFileSystem) -> Iterator[tuple[str, Any]]:
    """Yield every listed path, with what a mount would give as its ``lstat``."""
    for _, directories, files in fs.walk("", detail=True):
        for info in (*directories.values(), *files.values()):
            attributes = {f"st_{name}": info[name] for name in ("mode", "uid", "gid", "ino", "nlink", "size")}
            assert (info["type"] == "directory") == (info["name"] in {one["name"] for one in directories.values()})
            times = dict.fromkeys(("st_mtime_ns", "st_atime_ns", "st_ctime_ns"), info["mtime_ns"])
            yield info["name"], SimpleNamespace(**attributes, **times)


def test_the_file_system_is_what_the_model_says(fs: AbstractFileSystem, database: Path) -> None:
    model = Reference(database)
    comparing.compare(dict(walked(fs)), model)
    read: dict[str, bytes] = {}
    for path, node in model.walk():
        if isinstance(node, File) and path.startswith(("all/", "by-client/")):
            known = read.get(node.source) or read.setdefault(node.source, Path(node.source).read_bytes())
            assert fs.cat_file(path) == known, path
    assert len(read) == len([path for path in database.glob("*/*/**/*.*") if path.is_file()])


def test_the_file_system_of_an_odd_database_is_what_the_model_says(quirky_database: Quirky) -> None:
    fs = fsspec.filesystem("omidbfs", source=str(quirky_database.path))
    model = Reference(quirky_database.path)
    paths = (
        "",
        "all",
        "by-client",
        "by-view/not-CC/by-laterality/L",
        "by-manufacturer/unknown",
        "all/as-png/by-site",
    )
    for path in paths:
        place = model.node(path)
        assert place is not None
        assert not isinstance(place, File | str)
        children = model.children(place)
        assert sorted(fs.ls(path, detail=False)) == sorted(f"{path}/{name}".lstrip("/") for name in children)
        assert [name for name in children if not fs.exists(f"{path}/{name}")] == []
    assert not fs.exists("by-view/no-such-view")
    assert not fs.exists("by-view/CC/nothing.dcm")


# Patterns


@pytest.mark.parametrize(
    "pattern",
    [
        "*",
        "by-outcome/*",
        "by-outcome/*/",
        "by-v*w/[CM]*/*.json",
        "by-outcome/malignant/*0.dcm",
        "by-outcome/??lignant/*1.json",
        "by-client/*/*/*.dcm",
        "by-outcome/**/*11.*.dcm",
        "by-outcome/m*/**",
        "by-client/**",
        "README.txt",
        "nothing/*",
        "by-outcome/[!m]*",
    ],
)
def test_a_pattern_matches_what_it_matches_in_every_file_system(fs: AbstractFileSystem, pattern: str) -> None:
    assert fs.glob(pattern) == AbstractFileSystem.glob(fs, pattern)


def test_a_pattern_goes_through_facets_and_renditions_that_are_not_listed(fs: AbstractFileSystem) -> None:
    found = fs.glob("omidbfs://by-outcome/*/by-view/MLO/*.dcm")
    values = fs.ls("by-outcome", detail=False)
    assert sorted(found) == sorted(
        path for value in values for path in fs.ls(f"{value}/by-view/MLO", detail=False) if path.endswith(".dcm")
    )
    assert {path.split("/")[1] for path in found} > {"malignant", "normal"}
    assert AbstractFileSystem.glob(fs, "by-outcome/*/by-view/MLO/*.dcm") == [], "without this, nothing is found"
    names = [path.rpartition("/")[2][:-4] for path in fs.glob(f"{MLO}/*.dcm")]
    images = fs.glob("as-png-64/by-outcome/mal[i]gnant/by-view/MLO/*.png", detail=True)
    assert [path.rpartition("/")[2][:-4] for path in images] == names
    assert {info["size"] for info in images.values()} == {fs.info(path)["size"] for path in images}
    assert fs.glob("by-outcome/*/by-view/MLO/**/*.json") == [path[:-3] + "json" for path in found]


# Files


def test_renditions_generated_files_and_texts_are_those_of_the_commands(
    fs: AbstractFileSystem, database: Path, tmp_path: Path
) -> None:
    main(["export", str(database), MLO, "--as", "png-40", "-o", str(tmp_path / "png")], standalone_mode=False)
    expected = {path.name: path.read_bytes() for path in (tmp_path / "png").glob("*.png")}
    found = fs.cat(f"{MLO}/as-png-40/*.png")
    assert {path.rpartition("/")[2]: content for path, content in found.items()} == expected
    assert len(expected) > 5
    listed = {info["name"]: info["size"] for info in fs.ls(f"{MLO}/.omidbfs")}
    assert set(listed.values()) == {None}, "listing makes nothing"
    for format_ in (one for one in FORMATS.values() if not one.of_client):
        file = tmp_path / format_.file
        main(["export", str(database), MLO, "--format", format_.name, "-o", str(file)], standalone_mode=False)
        path = f"{MLO}/.omidbfs/{format_.file}"
        content = file.read_bytes()
        assert fs.info(path)["size"] == len(content)
        assert fs.cat_file(path) == content
        assert fs.cat_file(path, 100, 200) == content[100:200]
        assert path in listed
    assert json.loads(fs.cat_file(".omidbfs/status.json"))["pid"] == os.getpid()
    with fs.open("README.txt", "r") as text:
        assert len(text.readlines()) == fs.cat_file("README.txt").count(b"\n")


def test_a_file_is_read_in_any_pieces(fs: AbstractFileSystem) -> None:
    for path in (fs.glob(f"{MLO}/*.dcm")[0], fs.glob(f"{MLO}/as-npy/*.npy")[0], "README.txt"):
        whole = fs.cat_file(path)
        size = fs.info(path)["size"]
        assert len(whole) == size
        assert fs.cat_ranges([path] * 4, [0, 10, -7, 5], [4, size + 99, None, 5]) == [
            whole[:4],
            whole[10:],
            whole[-7:],
            b"",
        ]
        with fs.open(path) as file:
            assert (file.read(3), file.tell(), file.seek(-5, 2), file.read()) == (
                whole[:3],
                3,
                size - 5,
                whole[-5:],
            )
            assert file.read() == b""
            assert (file.seek(7), file.read()) == (7, whole[7:])
            assert (file.seek(size + 5), file.read(), file.raw.readall()) == (size + 5, b"", b"")
            buffer = bytearray(size + 3)
            file.seek(0)
            assert file.readinto(buffer) == size
            assert bytes(buffer[:size]) == whole
            with pytest.raises(OSError, match="Invalid argument"):
                file.raw.seek(-1)
    with fs.open(fs.glob(f"{MLO}/*.dcm")[0]) as file:
        assert pydicom.dcmread(file).ViewPosition == "MLO"


def test_nothing_can_be_changed(fs: AbstractFileSystem) -> None:
    changes = [
        lambda: fs.open("all/new", "wb"),
        lambda: fs.open("README.txt", "r+b"),
        lambda: fs.open("README.txt", "a"),
        lambda: fs.pipe("all/new", b""),
        lambda: fs.touch("all/new"),
        lambda: fs.rm("README.txt"),
        lambda: fs.rm("all", recursive=True),
        lambda: fs.mkdir("new"),
        lambda: fs.makedirs("new", exist_ok=True),
        lambda: fs.rmdir("all"),
        lambda: fs.mv("README.txt", "new"),
        lambda: fs.cp_file("README.txt", "new"),
        lambda: fs.put_file(__file__, "new"),
        lambda: fs.open("README.txt").write(b"x"),
    ]
    for change in changes:
        with pytest.raises(OSError, match=r"Read-only file system|write") as refused:
            change()
        assert refused.value.errno in (errno.EROFS, None)
    fs.makedirs("by-view/MLO", exist_ok=True)


def test_what_is_not_there_has_the_errors_of_python(fs: AbstractFileSystem) -> None:
    for path in ("nothing", "by-view/XYZ", "all/nothing.dcm", "by-view/XYZ/by-outcome"):
        for ask in (fs.info, fs.ls, fs.open, fs.cat_file):
            with pytest.raises(FileNotFoundError):
                ask(path)
    with pytest.raises(NotADirectoryError):
        fs.info("README.txt/nothing")
    for ask in (fs.open, fs.cat_file):
        with pytest.raises(IsADirectoryError):
            ask("all")


def test_a_changed_file_is_served_as_it_is_and_never_as_it_was(tree: Tree, tmp_path: Path) -> None:
    fs = fsspec.filesystem("omidbfs", source=str(tree.root), index=str(tmp_path / "index"))
    path, file = "by-view/CC/1.1.dcm", tree.images / "demd1/1/1.1.dcm"
    before = fs.cat_file(path)
    key, open_before = fs.ukey(path), fs.open(path)
    assert open_before.read(10) == before[:10]
    new = file.with_suffix(".new")
    new.write_bytes(b"another file, which is longer" * 99)
    new.rename(file)
    assert fs.cat_file(path) == file.read_bytes()
    assert fs.info(path)["size"] == file.stat().st_size
    assert fs.ukey(path) != key
    assert open_before.read() == before[10:], "an open file stays that file"
    with fs.open(path, block_size=1) as written:
        file.write_bytes(b"written in place")
        with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
            written.read()
    file.unlink()
    with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
        fs.cat_file(path)
    tree.client("demd2").study("2").image("2.1", ViewPosition="CC")
    assert not fs.exists("all/2.1.dcm")
    main(["index", str(tree.root), "--index", str(tmp_path / "index")], standalone_mode=False)
    fs.invalidate_cache()
    assert fs.exists("all/2.1.dcm")
    assert not fs.exists(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_is_refused_what_the_source_refuses() -> None:
    script = """
import json, os, sys, fsspec
fs = fsspec.filesystem("omidbfs", source=sys.argv[1], index=sys.argv[2])
fs.ls("")  # loads everything: that user may not read this Python
os.seteuid(4001)
fs.invalidate_cache()
said = {}
for path in ("all/1.1.dcm", "all/1.2.dcm", "all/as-npy/1.1.npy", "README.txt"):
    try:
        said[path] = len(fs.cat_file(path)) > 0
    except OSError as error:
        said[path] = error.errno
print(json.dumps(said))
"""
    with tempfile.TemporaryDirectory(prefix="omidbfs-") as directory:
        place = Path(directory)
        place.chmod(0o755)
        tree, array = Tree(place / "db"), np.zeros((20, 30), np.uint16)
        study = tree.client().study("1").image("1.1", dcm=written(array)).image("1.2", dcm=written(array))
        (study.images / "1.1.dcm").chmod(0o600)
        main(["index", str(tree.root), "--index", str(place / "index")], standalone_mode=False)
        (place / "index").chmod(0o644)
        command = [sys.executable, "-c", script, tree.root, place / "index"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "all/1.1.dcm": errno.EACCES,
        "all/1.2.dcm": True,
        "all/as-npy/1.1.npy": errno.EACCES,
        "README.txt": True,
    }


# Processes


def lengths(fs: AbstractFileSystem, paths: list[str]) -> list[int]:
    """Return how long some files are, in whatever process."""
    return [len(fs.cat_file(path)) for path in paths]


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_workers_read_what_their_parent_reads(fs: AbstractFileSystem, method: str) -> None:
    paths = [fs.glob(f"{MLO}/*.dcm")[0], fs.glob(f"{MLO}/as-png/*.png")[0], f"{MLO}/.omidbfs/index.csv"]
    expected = lengths(fs, paths)
    with ProcessPoolExecutor(1, multiprocessing.get_context(method)) as workers:
        assert workers.submit(lengths, fs, paths).result(120) == expected
    assert lengths(fs, paths) == expected
    again = pickle.loads(pickle.dumps(fs))
    assert again.ukey(paths[2]) == fs.ukey(paths[2])
    assert again.checksum(paths[0]) == fs.checksum(paths[0])


def read_on(file: io.BufferedReader, sender: Connection) -> None:
    try:
        sender.send(len(file.read()))
    except OSError as error:
        sender.send(error.errno)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_an_open_file_is_of_the_process_that_opened_it(fs: AbstractFileSystem) -> None:
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    with fs.open(f"{MLO}/.omidbfs/index.csv") as file:
        child = context.Process(target=read_on, args=(file, sender))
        child.start()
        try:
            assert receiver.poll(30), "it waits for a thread that is in the other process"
            assert receiver.recv() == errno.ESTALE
        finally:
            child.kill()
            child.join()
        assert file.read()


def test_a_loop_that_cannot_start_says_so(fs: AbstractFileSystem) -> None:
    drive = fs._now().drive
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 5, limits[1]))
    taken = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        with pytest.raises(OSError, match="Too many open files"):
            Loop(drive)
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_database_that_its_own_loop_collects_is_closed(tree: Tree) -> None:
    fs = fsspec.filesystem("omidbfs", skip_instance_cache=True, source=str(tree.root))
    assert fs.cat("all/.omidbfs/index.csv")
    loop = fs._now().loop
    thread = loop.call(own_thread)
    assert any(Path(file).is_relative_to(tree.root) for file in open_files())
    cycle: list[object] = [fs]
    cycle.append(cycle)
    gc.disable()
    try:
        del fs, cycle
        with contextlib.suppress(OSError):  # the loop may end first
            loop.call(collect)
        thread.join(30)
        assert not thread.is_alive()
        assert not any(Path(file).is_relative_to(tree.root) for file in open_files())
    finally:
        gc.enable()


def test_a_loop_that_ends_refuses_what_comes_meanwhile(tree: Tree) -> None:
    fs = fsspec.filesystem("omidbfs", skip_instance_cache=True, source=str(tree.root))
    loop = fs._now().loop
    thread = loop.call(own_thread)

    async def end() -> None:
        loop.end(lambda: None)
        await trio.sleep_forever()

    with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
        loop.call(end)
    thread.join(30)
    for _ in range(2):
        with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
            loop.call(own_thread)


def test_calls_while_a_loop_ends_are_answered_all(tree: Tree) -> None:
    for _ in range(20):
        fs = fsspec.filesystem("omidbfs", skip_instance_cache=True, source=str(tree.root))
        loop = fs._now().loop
        thread = loop.call(own_thread)
        errors: list[OSError] = []
        callers = [threading.Thread(target=call_on, args=(loop, errors)) for _ in range(4)]
        for caller in callers:
            caller.start()
        loop.end(lambda: None)
        for each in (*callers, thread):
            each.join(30)
            assert not each.is_alive()
        assert [error.errno for error in errors] == [errno.ESTALE] * 4


def call_on(loop: Loop, errors: list[OSError]) -> None:
    try:
        while True:
            loop.call(own_thread)
    except OSError as error:
        errors.append(error)


async def own_thread() -> threading.Thread:
    return threading.current_thread()


async def collect() -> None:
    gc.collect()


def open_files() -> Iterator[str]:
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the descriptor of the list itself
            yield os.readlink(f"/proc/self/fd/{descriptor}")


# Programs


def test_frames_are_read_by_url(fs: AbstractFileSystem, options: dict[str, str]) -> None:
    url = f"omidbfs://{MLO}/.omidbfs/index"
    count = len(fs.glob(f"{MLO}/*.dcm"))
    assert len(pandas.read_csv(f"{url}.csv", storage_options=options)) == count
    assert len(pandas.read_parquet(f"{url}.parquet", storage_options=options)) == count
    with fsspec.open(f"{url}.parquet", **options) as file:
        assert len(polars.read_parquet(file)) == count
    with duckdb.connect() as connection:
        connection.register_filesystem(fs)
        query = f"select count(*) from '{url}.parquet'"
        assert connection.sql(query).fetchall() == [(count,)]


def test_dask_reads_a_pattern(fs: AbstractFileSystem, options: dict[str, str]) -> None:
    _, blocks = read_bytes("omidbfs://by-outcome/*/by-view/MLO/*.json", **options)
    contents = compute(*[part for block in blocks for part in block], scheduler="threads")
    assert sorted(contents) == sorted(fs.cat("by-outcome/*/by-view/MLO/*.json").values())


def test_zarr_and_mappers_read_a_cohort_as_a_store(fs: AbstractFileSystem) -> None:
    mapper = fs.get_mapper(MLO)
    name = fs.glob(f"{MLO}/*.dcm")[0].rpartition("/")[2]
    assert mapper[name] == fs.cat_file(f"{MLO}/{name}")
    assert sorted(mapper) == sorted(path.rpartition("/")[2] for path in fs.ls(MLO, detail=False))
    with pytest.raises(KeyError):
        mapper["nothing"]
    with pytest.raises(OSError, match="Read-only"):
        mapper["new"] = b""
    store = zarr.storage.FsspecStore.from_mapper(mapper, read_only=True)
    assert store.read_only


def test_universal_pathlib_walks_the_drive(fs: AbstractFileSystem, options: dict[str, str]) -> None:
    root = UPath("omidbfs://", **options)
    directory = root / "by-outcome" / "malignant" / "by-view" / "MLO"
    assert directory.is_dir()
    assert sorted(path.name for path in directory.iterdir()) == sorted(mapper_names(fs))
    file = next(path for path in directory.iterdir() if path.suffix == ".dcm")
    assert file.read_bytes() == fs.cat_file(f"{MLO}/{file.name}")
    assert file.stat().st_size == len(file.read_bytes())
    assert file in root.glob("by-outcome/malignant/by-view/*/*.dcm")
    assert pickle.loads(pickle.dumps(file)) == file
    assert str(file.parent) == f"omidbfs://{MLO}"


def test_universal_pathlib_knows_the_drive_before_fsspec_has_loaded_it(options: dict[str, str]) -> None:
    script = f"from upath import UPath; path = UPath('omidbfs://by-view/CC', **{options!r}); assert path.is_dir()"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def mapper_names(fs: AbstractFileSystem) -> list[str]:
    return [path.rpartition("/")[2] for path in fs.ls(MLO, detail=False)]


def test_a_directory_is_copied_to_disk(fs: AbstractFileSystem, tmp_path: Path) -> None:
    fs.get(MLO, str(tmp_path / "copy"), recursive=True)
    copied = {path.name: path.read_bytes() for path in (tmp_path / "copy").rglob("*.*")}
    assert copied == {path.rpartition("/")[2]: content for path, content in fs.cat(f"{MLO}/*").items()}


@pytest.mark.parametrize("path", ["all", "all/", "by-view/CC", "by-view/CC/", "README.txt"])
@pytest.mark.parametrize("target", ["new", "new/", "there", "there/"])
def test_what_is_copied_is_where_fsspec_puts_it_from_a_disk(
    tree: Tree, tmp_path: Path, path: str, target: str
) -> None:
    fs, disk = fsspec.filesystem("omidbfs", source=str(tree.root), index=str(tmp_path / "i")), tmp_path / "disk"
    for name in [*fs.ls("all", detail=False), *fs.ls("by-view/CC", detail=False), "README.txt"]:
        (disk / name).parent.mkdir(parents=True, exist_ok=True)
        (disk / name).touch()
    found = []
    for system, source in ((fs, path), (fsspec.filesystem("file", auto_mkdir=True), f"{disk}/{path}")):
        place = tmp_path / type(system).__name__
        (place / "there").mkdir(parents=True)
        system.get(source, f"{place}/{target}", recursive=not path.endswith("txt"))
        found.append(sorted(str(one.relative_to(place)) for one in place.rglob("*")))
    assert found[0] == found[1]
