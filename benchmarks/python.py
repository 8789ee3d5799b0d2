"""``scripts/bench python``: reading and listing through fsspec and the Python interface, beside plain files."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import fsspec
from figures import Figures, padded, show
from synthetic import write

import omidbfs
from omidbfs.demo import generate

_ROUNDS = 9
_PART = 1 << 20


@click.command()
@click.option("--images", default=50_000, show_default=True, help="The images of the directory that is listed.")
@click.option("--megabytes", default=256, show_default=True, help="The size of the file that is read.")
def python(images: int, megabytes: int) -> None:
    """Read a large file, and list and select many images, in Python without a mount."""
    with TemporaryDirectory(prefix="omidbfs-bench-") as directory:
        source = Path(directory, "db")
        generate(source, 25, seed=5)
        large = next(source.glob("images/*/*/*.dcm"))
        with large.open("ab") as file:
            file.truncate(megabytes << 20)
        rows = [*_read(source, large), *_list(source, images, Path(directory, "large-index"))]
    show("python", Figures("without a mount", ("", "", ""), padded(rows, 3)))


def _read(source: Path, large: Path) -> Iterator[tuple[str, ...]]:
    fs = fsspec.filesystem("omidbfs", source=str(source), index=str(source.with_name("index")))
    path = f"all/{large.name}"
    size = large.stat().st_size / 1e6
    plain, plain_parts, *found = _best(
        lambda: _whole(large.open("rb")),
        lambda: _parts(large.open("rb")),
        lambda: _whole(fs.open(path)),
        lambda: fs.cat_file(path),
        lambda: _parts(fs.open(path)),
    )
    names = ("open(path).read()", "cat_file(path)", "open(path), 1 MB at a time")
    for name, took, native in zip(names, found, (plain, plain, plain_parts), strict=True):
        yield f"fsspec, {name}", f"{size / took:,.0f} MB/s", f"{native / took:.2f} of a plain file"


def _list(source: Path, images: int, index: Path) -> Iterator[tuple[str, ...]]:
    rows, _ = write(source, images, index)
    fs = fsspec.filesystem("omidbfs", source=str(source), index=str(index))
    fs.info("all")
    [listing] = _best(lambda: fs.ls("all"))
    [names] = _best(lambda: fs.ls("all", detail=False))
    entries = len(fs.ls("all", detail=False))
    yield f"fsspec, ls of {entries:,} entries", f"{listing:.2f} s", f"{names:.2f} s for names alone"
    db = omidbfs.open(source, index=index)
    [where] = _best(lambda: len(db.all.where(view=["CC", "MLO"], age=(50, 69)) - db["by-laterality/L"]))
    yield f"where and - on {rows:,} images", f"{where * 1000:.1f} ms"


def _whole(file: Any) -> None:
    with file:
        file.read()


def _parts(file: Any) -> None:
    with file:
        while file.read(_PART):
            pass


def _best(*works: Callable[[], Any]) -> list[float]:
    """Return the shortest time of each, in seconds. They take turns."""
    best = [float("inf")] * len(works)
    for _ in range(_ROUNDS):
        for number, work in enumerate(works):
            started = time.perf_counter()
            work()
            best[number] = min(best[number], time.perf_counter() - started)
    return best
