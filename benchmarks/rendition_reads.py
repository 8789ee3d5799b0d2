"""Reads renditions and an archive from a drive, and looks up names while many are made. ``pixels`` uses it."""

import os
import subprocess
import sys
import time
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from statistics import median, quantiles

import numpy as np
from nullfs import LARGE
from places import Place, mounted
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import DigitalMammographyXRayImageStorageForPresentation, ExplicitVRLittleEndian

ROWS, COLUMNS = 3328, 2560
_BLOCK = 1 << 20
_READERS = 100
_LOOKUPS = 5000
_READ_ALL = """
import sys
for path in sys.argv[1:]:
    with open(path, "rb", buffering=0) as file:
        while file.read(1 << 20):
            pass
"""


def write_images(source: Path, count: int, distinct: int = 1 << 62) -> None:
    """Write a database of ``count`` uncompressed full images of 16 bits with sidecars.

    The first ``distinct`` have files of their own. Each other one is a hard link to one of these.
    """
    written: list[Path] = []
    plate = np.random.default_rng(1).integers(0, 1 << 16, (ROWS, COLUMNS), np.uint16)
    for number in range(count):
        client, uid = f"demd{number}", f"1.2.{number}"
        image = _image(uid)
        for tree, name, content in (
            ("data", f"{client}/1.1.{number}/{uid}.json", image.to_json()),
            ("data", f"{client}/nbss_{client}.json", f'{{"ClientID": "{client}"}}'),
            ("data", f"{client}/imagedb_{client}.json", f'{{"ClientID": "{client}"}}'),
        ):
            path = source / tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
        study = source / "images" / client / f"1.1.{number}"
        study.mkdir(parents=True)
        if number >= distinct:
            (study / f"{uid}.dcm").hardlink_to(written[number % distinct])
            continue
        image.PixelData = np.roll(plate, number).tobytes()
        image.save_as(study / f"{uid}.dcm", enforce_file_format=True)
        written.append(study / f"{uid}.dcm")


def _image(uid: str) -> Dataset:
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID, image.SOPInstanceUID = DigitalMammographyXRayImageStorageForPresentation, uid
    image.Modality, image.ViewPosition, image.ImageLaterality = "MG", "CC", "L"
    image.Rows, image.Columns, image.SamplesPerPixel = ROWS, COLUMNS, 1
    image.PhotometricInterpretation, image.PixelRepresentation = "MONOCHROME2", 0
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
    image.WindowCenter, image.WindowWidth = 32768, 50000
    return image


def measure_reads(work: Path, images: int, rounds: int) -> list[tuple[str, str]]:
    """Return pairs of a title and a result, measured on a drive and on a null file system below ``work``."""
    write_images(work / "source", images)
    (work / "native").mkdir()
    for number in range(4):  # the null file system shows files of one size
        with open(work / "native" / f"{number}.dcm", "wb") as file:
            file.truncate(LARGE)
    with ExitStack() as stack:
        drive = stack.enter_context(_drive(work))
        nullfs = [sys.executable, str(Path(__file__).with_name("nullfs.py")), str(work / "native")]
        null = stack.enter_context(mounted("nullfs", [*nullfs, str(work / "nullfs")], work / "nullfs"))
        reads = [*_first_reads(drive, rounds), *_second_reads(drive, null, rounds), *_archive(drive, rounds)]
        return [*reads, *_lookups(drive)]


def _drive(work: Path) -> AbstractContextManager[Place]:
    mount = ["mount", "--foreground", str(work / "source"), str(work / "drive"), "--spool", str(work / "spool")]
    cache = f"XDG_CACHE_HOME={work / 'cache'}"
    return mounted("drive", ["env", cache, sys.executable, "-m", "omidbfs", *mount], work / "drive")


def _rate(paths: list[Path], most: int = 1 << 62) -> float:
    """Return the MB/s at which files are opened and read, up to ``most`` bytes each, one after the other."""
    begin, done = time.perf_counter(), 0
    for path in paths:
        with open(path, "rb", buffering=0) as file:
            left = most
            while part := file.read(min(_BLOCK, left)):
                left -= len(part)
                done += len(part)
    return done / (time.perf_counter() - begin) / 1e6


def _files(directory: Path) -> list[Path]:
    return sorted(Path(entry.path) for entry in os.scandir(directory))


def _forget(paths: list[Path]) -> None:
    """Make the kernel drop the pages of files."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def _first_reads(drive: Place, rounds: int) -> list[tuple[str, str]]:
    """Compare ``as-npy`` with the DICOM files. Each rendition is opened for the first time."""
    sources = [path for path in _files(drive.directory / "all") if path.suffix == ".dcm"]
    arrays = _files(drive.directory / "as-npy/all")
    _rate([_files(drive.directory / "as-png-64/all")[0]])  # a worker is there
    _rate(sources)
    ratios = []
    part = len(arrays) // rounds
    for number in range(rounds):
        chosen = slice(number * part, (number + 1) * part)
        _forget(sources[chosen])
        ratios.append(_rate(arrays[chosen]) / _rate(sources[chosen]))
    return [("as-npy, first read, of reading the .dcm", f"{median(ratios):.2f}")]


def _second_reads(drive: Place, null: Place, rounds: int) -> list[tuple[str, str]]:
    """Compare renditions that are kept with the null file system, with and without pages in the kernel."""
    rows = []
    floor = _files(null.directory)[:4]
    for rendition in ("png16", "npy"):
        paths = _files(drive.directory / f"as-{rendition}/all")[:4]
        size = paths[0].stat().st_size
        for title, forget in (("second read", False), ("second read, without the kernel's pages", True)):
            for files in (paths, floor):
                _rate(files)
            ratios = []
            for _ in range(rounds):
                if forget:
                    _forget([*paths, *floor])
                ratios.append(_rate(paths) / _rate(floor, size))
            rows.append((f"as-{rendition}, {title}, of nullfs", f"{median(ratios):.2f}"))
    return rows


def _archive(drive: Place, rounds: int) -> list[tuple[str, str]]:
    """Compare ``cohort.tar`` with the files that are in it, one after the other, without pages in the kernel."""
    files, archive = _files(drive.directory / "all"), [drive.directory / "all/.omidbfs/cohort.tar"]
    _rate(files)
    ratios = []
    for _ in range(rounds):
        _forget([*files, *archive])
        ratios.append(_rate(archive) / _rate(files))
    return [("cohort.tar, of reading the same files in turn", f"{median(ratios):.2f}")]


def _lookups(drive: Place) -> list[tuple[str, str]]:
    """Return the times of lookups while a hundred programs open renditions that have to be made."""
    names = [path.name for path in _files(drive.directory / "all")]
    rows = []
    for readers in (0, _READERS):
        command = [sys.executable, "-I", "-S", "-c", _READ_ALL]
        running = []
        for number in range(readers):
            paths = _files(drive.directory / f"as-png-{1000 + number}/all")
            running.append(subprocess.Popen([*command, *map(str, paths)]))
        if readers:
            time.sleep(2)
        times = []
        for number in range(_LOOKUPS):
            name = names[number % len(names)]
            path = drive.directory / "all" / f"{name}x"  # what is not found is not kept: each is a request
            begin = time.perf_counter()
            os.path.lexists(path)
            times.append(time.perf_counter() - begin)
            time.sleep(0.0005)
        for process in running:
            process.kill()
            process.wait()
        cuts = quantiles(times, n=100)
        title = f"lookup beside {readers} readers, median and 99th percentile"
        rows.append((title, f"{cuts[49] * 1e3:.2f} ms, {cuts[98] * 1e3:.2f} ms"))
    return rows
