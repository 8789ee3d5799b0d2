"""``scripts/bench pixels``: measures what it costs to make renditions of full images, and to read them."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import click
import numpy as np
from figures import Figures, show
from PIL import Image
from rendition_reads import measure_reads, write_images
from rich.console import Console

from omidbfs.demo import generate
from omidbfs.pixels.decode import Source, read
from omidbfs.pixels.geometry import measured
from omidbfs.pixels.render import render
from omidbfs.pixels.rendition import Box, Format, Longest, Rendition, Window

_EXPORTED = "png16-1024x768"

_RENDITIONS = (
    Rendition("png", Format.PNG),
    Rendition("png16", Format.PNG16),
    Rendition("png16-1024x768", Format.PNG16, Box(1024, 768)),
    Rendition("png-512", Format.PNG, Longest(512)),
    Rendition("png16-1024x768-crop", Format.PNG16, Box(1024, 768), crops=True),
    Rendition("png16 with minmax", Format.PNG16, window=Window.MINMAX),
    Rendition("npy", Format.NPY, window=None),
)
"""Renditions to make. ``npy`` of such a file is a copy, as 12 of its 16 bits are used."""


@click.command()
@click.option("--rounds", default=9, show_default=True, help="How often each rendition is made; the best counts.")
@click.option("--images", default=20, show_default=True, help="The number of images of 17 MB on the drive.")
@click.option("--exported", default=256, show_default=True, help="The number of images to export.")
@click.option(
    "--directory", type=click.Path(path_type=Path), help="Where to work.  [default: the temporary directory]"
)
def pixels(rounds: int, images: int, exported: int, directory: Path | None) -> None:
    """Measure what it costs to make renditions of full images, and to read them on a drive.

    The image is one of the demo, 3328 x 2560 pixels, 16 bits, uncompressed. Figures are processor time of one
    process, from the open DICOM file to the written rendition, or to the bounding box of the breast. Beside them,
    Pillow encodes the same pixels at its level 1, and need neither decode nor transform them.

    Then a drive shows other full images. Its renditions are compared with the DICOM files on the same drive, and
    with the files of a null file system. Names are looked up while a hundred programs open renditions.

    At last ``omidbfs export --as`` writes full images with one worker and with two, in turns, by the clock. This
    needs two idle processors.
    """
    if os.geteuid() != 0:
        raise click.ClickException("pixels: needs root, to mount: sudo scripts/bench pixels")
    console = Console(stderr=True, highlight=False)
    made: list[tuple[str, ...]] = []
    with (
        console.status("Writing an image ..."),
        tempfile.TemporaryDirectory(prefix="omidbfs-bench-", dir=directory) as work,
    ):
        generate(Path(work), 1, seed=1, full_size=True)
        path = max(Path(work).rglob("*.dcm"), key=lambda path: path.stat().st_size)
        with path.open("rb") as file, (Path(work) / "rendition").open("wb+", buffering=0) as target:
            source = read(file.fileno())
            for rendition in _RENDITIONS:
                _measure(made, source, file.fileno(), rendition, target.fileno(), rounds)
            (finding,) = _best(rounds, lambda: measured(read(file.fileno())))
    made.append(("geometry", f"{finding * 1e3:.0f} ms", "with reading and decoding"))
    with (
        console.status("Reading from a drive ..."),
        tempfile.TemporaryDirectory(prefix="omidbfs-bench-", dir=directory) as work,
    ):
        read_back = measure_reads(Path(work), images, min(rounds, 5))
    with (
        console.status("Exporting ..."),
        tempfile.TemporaryDirectory(prefix="omidbfs-bench-", dir=directory) as work,
    ):
        one, two = _exports(Path(work), exported, min(rounds, 3))
        each = f"{one / exported * 1e3:.0f} and {two / exported * 1e3:.0f} ms an image"
    read_back.append((f"export --as {_EXPORTED}, two workers to one", f"{one / two:.2f} ({each})"))
    size = f"{source.format.Rows} x {source.format.Columns}"
    show(
        "pixels",
        Figures(f"processor time of renditions, {size}", ("", "", ""), made),
        Figures("renditions on a drive", ("", ""), [*read_back]),
    )


def _exports(work: Path, images: int, rounds: int) -> list[float]:
    """Return the least seconds of an export with one worker, and with two."""
    write_images(work / "source", images, distinct=4)
    environment = {**os.environ, "XDG_CACHE_HOME": str(work / "cache")}
    program = [sys.executable, "-m", "omidbfs"]
    subprocess.run([*program, "index", work / "source"], check=True, env=environment, stdout=subprocess.DEVNULL)
    taken: list[list[float]] = [[], []]
    for _ in range(rounds):
        for workers, times in enumerate(taken, 1):
            options = ["--as", _EXPORTED, "--workers", str(workers), "-o", work / "out"]
            began = time.perf_counter()
            command = [*program, "export", work / "source", *options]
            subprocess.run(command, check=True, env=environment, stderr=subprocess.DEVNULL)
            times.append(time.perf_counter() - began)
            shutil.rmtree(work / "out")
    return [min(times) for times in taken]


def _measure(
    made: list[tuple[str, ...]], source: Source, descriptor: int, rendition: Rendition, target: int, rounds: int
) -> None:
    def make() -> None:
        os.lseek(target, 0, os.SEEK_SET)
        render(descriptor, rendition, source.format, "left", target)

    def encode() -> None:
        image.save(BytesIO(), "png", compress_level=1)

    os.ftruncate(target, 0)
    make()
    size = os.fstat(target).st_size
    beside = f"{size / 1e6:.1f} MB"
    if rendition.format in (Format.PNG, Format.PNG16):
        with Image.open(BytesIO(os.pread(target, size, 0))) as file:
            image = Image.fromarray(np.asarray(file))
        ours, pillows = _best(rounds, make, encode)
        out = BytesIO()
        image.save(out, "png", compress_level=1)
        compressed = len(out.getvalue()) / 1e6
        beside += f"; Pillow at level 1 encodes it in {pillows * 1e3:.0f} ms, to {compressed:.1f} MB"
    else:
        (ours,) = _best(rounds, make)
    made.append((rendition.name, f"{ours * 1e3:.0f} ms", beside))


def _best(rounds: int, *works: Callable[[], None]) -> list[float]:
    """Return the least processor time of each work. They take turns, so that other load affects all alike."""
    taken: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for work, times in zip(works, taken, strict=True):
            began = time.process_time()
            work()
            times.append(time.process_time() - began)
    return [min(times) for times in taken]
