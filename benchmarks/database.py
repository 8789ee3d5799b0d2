"""Writes a database that is large enough for measurements in seconds: clones of a few clients of the demo."""

import os
from collections.abc import Iterator
from pathlib import Path

from omidbfs.demo import generate

LARGE = 27_000_000
"""Size in bytes of the few images that are as large as real ones, which have 10 to 50 MB."""

_TEMPLATES = 40
_CLIENT_NUMBER = 1480000000000  # omidbfs.demo.imaging.uids: the part of an UID that tells clients apart
_PREAMBLE = 132


def write_database(directory: Path, images: int, large: int) -> None:
    """Write an OMI-DB of at least ``images`` images below ``directory``; ``large`` of them are ``LARGE`` bytes."""
    clients, written = clone_clients(directory), 0
    while written < images:
        written += next(clients)
    block = os.urandom(LARGE // 27)
    for path in sorted((directory / "images").glob("*/*/*.dcm"))[:large]:
        path.write_bytes(block * 27)


def clone_clients(directory: Path, *, tiny: bool = False) -> Iterator[int]:
    """Write clients below ``directory`` without end. Yield the number of images of each.

    To invent a client takes 40 ms, to clone one 2 ms. A clone has other names and UIDs of the same length in its
    paths and files, so it is a valid client with valid DICOM files. With ``tiny``, DICOM files end after their
    preamble. Measures that read only sidecars do not need more, and 20,000 clients then take 5 GB.
    """
    generate(directory, _TEMPLATES, seed=1)
    names = sorted(path.name for path in (directory / "data").iterdir())
    templates = [_contents(directory, name, tiny) for name in names]
    images = [sum(path.endswith(b".dcm") for path in files) for files in templates]
    yield from images
    clone = 0
    while True:
        clone += 1
        for number, (name, files) in enumerate(zip(names, templates, strict=True)):
            _write_clone(os.fsencode(directory), files, name.encode(), clone, number)
            yield images[number]


def _contents(directory: Path, client: str, tiny: bool) -> dict[bytes, bytes]:
    """Return the files of a client, path -> content; ``tiny`` cuts the DICOM files, on disk too."""
    files = {}
    for tree in ("images", "data"):
        for path in (directory / tree / client).rglob("*.*"):
            if path.is_file():
                if tiny and path.suffix == ".dcm":
                    os.truncate(path, _PREAMBLE)
                files[os.fsencode(path.relative_to(directory))] = path.read_bytes()
    return files


def _write_clone(directory: bytes, files: dict[bytes, bytes], name: bytes, clone: int, number: int) -> None:
    letters = bytes(97 + clone // 26**place % 26 for place in range(4))
    (stem,) = {path.split(b"/")[2].split(b".")[-3] for path in files if path.endswith(b".dcm")}
    other = b"%d" % (2 * _CLIENT_NUMBER + clone * _TEMPLATES + number)
    made = set()
    for path, content in files.items():
        place = directory + b"/" + path.replace(name, letters + name[4:]).replace(stem, other)
        folder = os.path.dirname(place)
        if folder not in made:
            os.makedirs(folder, exist_ok=True)
            made.add(folder)
        descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(descriptor, content.replace(name, letters + name[4:]).replace(stem, other))
        os.close(descriptor)
