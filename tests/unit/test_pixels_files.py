"""Renditions are files that other programs open, with the sizes that are known before."""

import itertools
import os
import struct
import zlib
from collections import Counter
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from pixel_files import descriptor, form_of, opened, rendered, shown, written
from pydicom import dcmread, uid
from trees import Quirky

from omidbfs.database.file_kinds import DCM
from omidbfs.database.layout import find_source
from omidbfs.database.pixel_format import PixelFormat
from omidbfs.index.build import refreshed
from omidbfs.pixels import render as rendering
from omidbfs.pixels.encode import tiff_header
from omidbfs.pixels.errors import ContradictionError, PixelError
from omidbfs.pixels.render import direct, render
from omidbfs.pixels.rendition import BUILT_IN, Box, Format, Longest, Rendition, Window
from omidbfs.pixels.sizes import Pixels, size_of

TIFF = Rendition("tiff", Format.TIFF, window=None)
NPY = Rendition("npy", Format.NPY, window=None)
PNG = Rendition("png", Format.PNG)
PNG16 = Rendition("png16", Format.PNG16)
SYNTAXES = [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian]


def image(words: str = "<u2", *shape: int) -> NDArray[Any]:
    limits = np.iinfo(words)
    return np.random.default_rng(3).integers(limits.min, limits.max, shape or (23, 17), words, endpoint=True)


@pytest.mark.parametrize("words", ["u1", "i1", "<u2", "<i2"])
@pytest.mark.parametrize("frames", [0, 1, 2, 5])
@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("rendition", [TIFF, NPY])
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_stored_values_are_those_of_pydicom(
    words: str, frames: int, samples: int, rendition: Rendition, syntax: str, tmp_path: Path
) -> None:
    shape = (*([frames] if frames else []), 23, 17, *([3] if samples == 3 else []))
    content = written(image(words, *shape), syntax, NumberOfFrames=frames or None)
    expected = dcmread(BytesIO(content)).pixel_array
    result = opened(rendered(content, rendition), rendition.format, tmp_path)
    assert result.dtype == expected.dtype.newbyteorder("<")
    assert np.array_equal(result, expected)


def test_a_npy_file_is_what_numpy_writes() -> None:
    for pixels in (image("u1"), image("<i2"), image("<u2", 3, 23, 17)):
        out = BytesIO()
        np.save(out, pixels)
        content = written(pixels, NumberOfFrames=pixels.shape[0] if pixels.ndim == 3 else None)
        assert rendered(content, NPY) == out.getvalue()


def test_frames_are_pages(tmp_path: Path) -> None:
    pixels = image("<u2", 5, 23, 17)
    place = tmp_path / "frames.tiff"
    place.write_bytes(rendered(written(pixels, NumberOfFrames=5), TIFF))
    with Image.open(place) as file:
        assert file.n_frames == 5
        for frame in range(5):
            file.seek(frame)
            assert np.array_equal(np.asarray(file), pixels[frame])
    with tifffile.TiffFile(place) as file:
        assert not file.is_bigtiff
        assert {page.photometric.name for page in file.pages} == {"MINISBLACK"}


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_stored_values_are_not_inverted(photometric: str, tmp_path: Path) -> None:
    pixels = image()
    content = written(pixels, PhotometricInterpretation=photometric, PresentationLUTShape="INVERSE")
    assert np.array_equal(opened(rendered(content, TIFF), Format.TIFF, tmp_path), pixels)


def test_a_tiff_file_from_4_gib_on_is_a_bigtiff(tmp_path: Path) -> None:
    most = ((1 << 32) - 8 - 256) // (32768 * 2)
    for rows, is_big in ((most, False), (most + 1, True)):
        header = tiff_header(Pixels(1, rows, 32768, 1, np.dtype("<u2")))
        place = tmp_path / f"{is_big}.tiff"
        with place.open("wb") as file:
            file.write(header)
            file.truncate(len(header) + rows * 65536)
            file.seek(-2, os.SEEK_END)
            file.write(b"\x34\x12")
        with tifffile.TiffFile(place) as tiff:
            assert tiff.is_bigtiff == is_big
        pixels = tifffile.memmap(place, mode="r")
        assert pixels.shape == (rows, 32768)
        assert pixels[-1, -1] == 0x1234


@pytest.mark.parametrize("samples", [1, 3])
def test_frames_of_a_bigtiff(samples: int, tmp_path: Path) -> None:
    frames = 70
    header = tiff_header(Pixels(frames, 8192, 4096, samples, np.dtype("<i2")))
    place = tmp_path / "frames.tiff"
    size = len(header) + frames * 8192 * 4096 * samples * 2
    with place.open("wb") as file:
        file.write(header)
        file.truncate(size)
    with tifffile.TiffFile(place) as tiff:
        assert tiff.is_bigtiff
        assert len(tiff.pages) == frames
        assert tiff.pages[-1].dataoffsets[0] + tiff.pages[-1].databytecounts[0] == size
    shape = (frames, 8192, 4096, *([3] if samples == 3 else []))
    assert tifffile.memmap(place, mode="r").shape == shape


def test_a_png_file_has_one_chunk_of_stored_blocks() -> None:
    pixels = image("<u2", 300, 200)
    data = rendered(written(pixels), PNG16)
    chunks = []
    at = 8
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        assert struct.unpack_from(">I", data, at + 8 + length)[0] == zlib.crc32(data[at + 4 : at + 8 + length])
        chunks.append((kind, data[at + 8 : at + 8 + length]))
        at += 12 + length
    assert [kind for kind, _ in chunks] == [b"IHDR", b"IDAT", b"IEND"]
    lines = np.frombuffer(zlib.decompress(chunks[1][1]), "u1").reshape(300, 401)
    assert not lines[:, 0].any()
    assert np.array_equal(lines[:, 1:].copy().view(">u2"), pixels)


@pytest.mark.parametrize("columns", [1, 65534, 65535, 32767, 21844])
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_blocks_of_every_length(rows: int, columns: int) -> None:
    for words, rendition in (("u1", PNG), ("<u2", PNG16)):
        pixels = image(words, rows, columns)
        assert np.array_equal(shown(written(pixels), rendition), pixels)


def test_sizes_are_exact_for_every_rendition(tmp_path: Path) -> None:
    contents = [
        written(image("u1", 31, 20)),
        written(image("<i2", 31, 20) >> 3, BitsStored=13),
        written(image("<u2", 1, 1)),
        written(image("u1", 31, 20, 3)),
        written(image("u1", 31, 20, 3), PhotometricInterpretation="YBR_FULL"),
        written(image("<u2", 31, 20, 3)),
        written(image("<u2", 4, 31, 20), NumberOfFrames=4),
        written(image("<u2", 1, 31, 20), NumberOfFrames=1),
    ]
    sizes = (None, Box(40, 16), Longest(16), Longest(8192))
    windows = (None, Window.VOI, Window.STORED, Window.MINMAX, (9.0, 17.0))
    made = 0
    for content, form, size, window in itertools.product(contents, Format, sizes, windows):
        if window is None and (size or form in (Format.PNG, Format.PNG16)):
            continue
        rendition = Rendition("x", form, size, window, mirrors=window is Window.STORED)
        if size_of(rendition, form_of(content)) is None:
            with pytest.raises(PixelError) as caught:
                rendered(content, rendition)
            assert not isinstance(caught.value, ContradictionError)
            continue
        opened(rendered(content, rendition, "right"), form, tmp_path)
        made += 1
    assert made > 200


def test_colour_is_rgb() -> None:
    pixels = image("u1", 9, 8, 3)
    assert np.array_equal(shown(written(pixels), PNG), pixels)
    planes = written(pixels.transpose(2, 0, 1).copy().reshape(9, 8, 3), PlanarConfiguration=1)
    assert np.array_equal(shown(planes, PNG), pixels)
    white = np.full((2, 2, 3), (235, 128, 128), "u1")
    assert (shown(written(white, PhotometricInterpretation="YBR_FULL"), PNG) == 235).all()
    with pytest.raises(PixelError, match="no such rendition"):
        rendered(written(image("i1", 9, 8, 3)), PNG)


def test_a_palette_is_not_rendered_and_its_indices_are_stored_values(tmp_path: Path) -> None:
    content = written(image("u1"), PhotometricInterpretation="PALETTE COLOR")
    with pytest.raises(PixelError, match="no such rendition"):
        rendered(content, PNG)
    assert np.array_equal(opened(rendered(content, TIFF), Format.TIFF, tmp_path), image("u1"))


@pytest.mark.parametrize(
    "changes",
    [
        {"Rows": 24},
        {"Columns": 18},
        {"BitsAllocated": 8, "BitsStored": 8},
        {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"},
        {"NumberOfFrames": 2},
    ],
)
@pytest.mark.parametrize("rendition", [TIFF, NPY])
def test_a_file_that_contradicts_the_index_is_not_rendered(changes: dict[str, Any], rendition: Rendition) -> None:
    content = written(image())
    expected = form_of(content)._replace(**changes)
    source, target = descriptor(content), os.memfd_create("rendition")
    with pytest.raises(ContradictionError):
        render(source, rendition, expected, None, target)
    assert os.fstat(target).st_size == 0
    assert direct(source, rendition, expected) is None


def test_an_index_that_knows_less_or_what_decides_no_size_contradicts_nothing() -> None:
    content = written(image())
    expected = form_of(content)._replace(
        NumberOfFrames=1, PhotometricInterpretation=None, PresentationLUTShape="INVERSE", PixelRepresentation=None
    )
    assert rendered(content, PNG16, expected=expected) == rendered(content, PNG16)


def test_frames_that_the_index_does_not_know_contradict_it() -> None:
    content = written(image("<u2", 2, 9, 8), NumberOfFrames=2)
    expected = form_of(content)._replace(NumberOfFrames=None)
    with pytest.raises(ContradictionError):
        rendered(content, PNG, expected=expected)


@pytest.mark.parametrize("rendition", [TIFF, NPY])
@pytest.mark.parametrize("words", ["u1", "i1", "<u2", "<i2"])
@pytest.mark.parametrize("frames", [0, 3])
def test_plain_files_are_a_header_and_their_own_bytes(rendition: Rendition, words: str, frames: int) -> None:
    shape = (frames, 23, 17) if frames else (23, 17)
    content = written(image(words, *shape), NumberOfFrames=frames or None)
    found = direct(descriptor(content), rendition, form_of(content))
    assert found is not None
    header, offset, length = found
    assert header + content[offset : offset + length] == rendered(content, rendition)


def test_other_files_are_converted() -> None:
    used = written(image())
    assert direct(descriptor(used), PNG, form_of(used)) is None
    assert direct(descriptor(used), Rendition("x", Format.NPY), form_of(used)) is None
    for content in (
        written(image() >> 4, BitsStored=12),
        written(image(), uid.ExplicitVRBigEndian),
        written(image("u1", 9, 8, 3)),
    ):
        assert direct(descriptor(content), NPY, form_of(content)) is None


def test_pixels_that_are_cut_off_are_refused() -> None:
    content = written(image())
    for rendition in (PNG, NPY):
        assert rendered(content + b"\0", rendition)
        with pytest.raises(PixelError, match="cut off"):
            rendered(content[:-2], rendition, expected=form_of(content))
    assert direct(descriptor(content[:-2]), NPY, form_of(content)) is None


def test_a_target_that_takes_few_bytes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    content = written(image("<u2", 200, 300))
    expected = rendered(content, PNG16)
    calls = []

    def writev(target: int, pieces: list[bytes]) -> int:
        calls.append(1)
        return os.write(target, b"".join(pieces)[:7001])

    monkeypatch.setattr(rendering.os, "writev", writev)
    assert rendered(content, PNG16) == expected
    assert len(calls) == -(-len(expected) // 7001)


def test_a_full_disk_is_an_error_of_the_system() -> None:
    content = written(image())
    with open("/dev/full", "wb") as full, pytest.raises(OSError, match="No space left"):
        render(descriptor(content), PNG, form_of(content), None, full.fileno())


def test_sizes_in_the_index_are_those_of_the_files_of_a_quirky_database(quirky_database: Quirky) -> None:
    index = refreshed(find_source(quirky_database.path))
    renditions = [BUILT_IN["png"], BUILT_IN["png16"], BUILT_IN["tiff"], BUILT_IN["npy"]]
    renditions += [Rendition("x", Format.PNG16, Box(64, 48), Window.MINMAX, mirrors=True)]
    seen: Counter[tuple[PixelFormat, int]] = Counter()
    kinds: Counter[str] = Counter()
    for row in range(len(index.images)):
        expected, side = index.pixel_format(row), index.chest_wall_side(row)
        place = quirky_database.path / "images" / os.fsdecode(index.image_path(row, DCM))
        client = index.client_of.item(row)
        seen[expected, client] += 1
        if seen[expected, client] > 4 or not place.is_file():
            continue
        content = place.read_bytes()
        for rendition in renditions:
            if size_of(rendition, expected) is None:
                continue
            try:
                rendered(content, rendition, side, expected)  # compares the size
                kinds[""] += 1
            except PixelError as error:
                kinds[error.kind] += 1
    assert kinds.pop("") > 300
    assert {*kinds} == {"not a DICOM file"}
