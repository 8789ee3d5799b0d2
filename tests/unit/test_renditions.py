"""Names and sizes of renditions: what ``as-<rendition>`` is, and how many bytes its files have."""

import io
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from omidbfs.database.pixel_format import PixelFormat
from omidbfs.pixels.rendition import BUILT_IN, Box, Configured, Format, Longest, Rendition, Window, size_in
from omidbfs.pixels.sizes import npy_header, pixels_of, scaled, size_of, why_not

GREY = PixelFormat(104, 80, None, 1, 16, 12, 0, "MONOCHROME2", "IDENTITY", "1.2.840.10008.1.2.1")
COLOUR = GREY._replace(SamplesPerPixel=3, BitsAllocated=8, BitsStored=8, PhotometricInterpretation="RGB")
MINE = Rendition("mine", Format.PNG, Box(32, 32), (100.0, 50.0))


# Names


@pytest.mark.parametrize(
    ("name", "rendition"),
    [
        ("png", Rendition("png", Format.PNG)),
        ("png16", Rendition("png16", Format.PNG16)),
        ("tiff", Rendition("tiff", Format.TIFF, window=None)),
        ("npy", Rendition("npy", Format.NPY, window=None)),
        ("png-1024x768", Rendition("png-1024x768", Format.PNG, Box(1024, 768))),
        ("png16-16x8192", Rendition("png16-16x8192", Format.PNG16, Box(16, 8192))),
        ("png-512", Rendition("png-512", Format.PNG, Longest(512))),
        ("png16-8192", Rendition("png16-8192", Format.PNG16, Longest(8192))),
        ("mine", MINE),
    ],
)
def test_a_name_is_one_of_every_drive_or_with_a_size_or_of_the_configuration(
    name: str, rendition: Rendition
) -> None:
    assert Configured({"mine": MINE}).named(name) == rendition


@pytest.mark.parametrize(
    "name",
    [
        *("", "PNG", "png8", "jpeg", "png-", "png-15", "png-8193", "png-016", "png-16x", "png-x16", "png-16x15"),
        *("png-16x8193", "png-16x16x16", "png-+16", "png- 16", "png-1_6", "png-١٦", "png-16\n", "png-16X16"),
        *("tiff-512", "npy-16x16", "mine-512", "png-png", "png16-0x16", "\udcff", "yours"),
    ],
)
def test_any_other_name_is_no_rendition(name: str) -> None:
    assert Configured({"mine": MINE}).named(name) is None


@given(st.integers(0, 20000), st.integers(0, 20000))
def test_a_size_has_numbers_from_16_to_8192(rows: int, columns: int) -> None:
    is_size = [16 <= number <= 8192 for number in (rows, columns)]
    assert size_in(f"{rows}") == (Longest(rows) if is_size[0] else None)
    assert size_in(f"{rows}x{columns}") == (Box(rows, columns) if all(is_size) else None)


def test_the_time_of_a_definition_counts_for_what_it_defines_only() -> None:
    configured = Configured({"mine": MINE}, 7)
    assert [configured.time_of(one) for one in (MINE, BUILT_IN["png"], replace(MINE, mirrors=True))] == [7, 0, 0]


# Sizes


def png(rows: bytes, height: int) -> bytes:
    """Return a PNG file without its IHDR's content being right: only its length counts here."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    lines = len(rows) // height
    raw = b"".join(b"\0" + rows[at : at + lines] for at in range(0, len(rows), lines))
    blocks = [raw[at : at + 65535] for at in range(0, len(raw), 65535)]
    stored = b"".join(
        bytes([block is blocks[-1]])
        + len(block).to_bytes(2, "little")
        + (65535 - len(block)).to_bytes(2, "little")
        + block
        for block in blocks
    )
    data = b"\x78\x01" + stored + zlib.adler32(raw).to_bytes(4, "big")
    assert zlib.decompress(data) == raw
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", bytes(13)) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


SHAPES = st.tuples(st.integers(1, 400), st.integers(1, 400))


@given(SHAPES, st.sampled_from(("png", "png16", "png-100x50", "png16-300x300", "png-64", "png16-128")))
@example((257, 254), "png")  # rows with their filters are 65,535 bytes
@example((256, 255), "png")
@example((1, 65535), "png")
def test_the_size_of_a_png_is_that_of_a_file_with_stored_blocks(shape: tuple[int, int], name: str) -> None:
    rendition = Configured().named(name)
    assert rendition is not None
    form = GREY._replace(Rows=shape[0], Columns=shape[1])
    rows, columns = scaled(rendition.size, *shape)
    width = columns * (2 if rendition.format is Format.PNG16 else 1)
    assert size_of(rendition, form) == len(png(bytes(rows * width), rows))
    if rendition.format is Format.PNG:
        colour = COLOUR._replace(Rows=shape[0], Columns=shape[1])
        assert size_of(rendition, colour) == len(png(bytes(rows * columns * 3), rows))


@given(
    SHAPES | st.tuples(st.just(1), st.sampled_from((9_999_999, 10**8))),
    st.sampled_from((None, 1, 2, 60)),
    st.sampled_from((1, 3)),
    st.sampled_from((8, 16)),
    st.sampled_from((None, 0, 1)),
)
def test_an_npy_file_is_that_of_numpy(
    shape: tuple[int, int], frames: int | None, samples: int, bits: int, sign: int | None
) -> None:
    form = GREY._replace(
        Rows=shape[0],
        Columns=shape[1],
        NumberOfFrames=frames,
        SamplesPerPixel=samples,
        BitsAllocated=bits,
        BitsStored=8,
        PixelRepresentation=sign,
    )
    dtype = np.dtype(f"{'i' if sign else 'u'}{bits // 8}")
    whole = ((frames,) if frames and frames > 1 else ()) + shape + ((3,) if samples == 3 else ())
    array: Any = np.lib.stride_tricks.as_strided(np.zeros(1, dtype), whole, [0] * len(whole))
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, np.lib.format.header_data_from_array_1_0(np.empty(0, dtype)) | {"shape": whole}
    )
    pixels = pixels_of(BUILT_IN["npy"], form)
    assert (pixels.shape, pixels.dtype, pixels.bytes) == (array.shape, array.dtype, array.nbytes)
    assert npy_header(pixels.dtype.str, pixels.shape) == stream.getvalue()
    assert size_of(BUILT_IN["npy"], form) == len(stream.getvalue()) + array.nbytes


@given(SHAPES, st.sampled_from((None, 1, 2, 60)))
def test_a_tiff_file_has_256_bytes_for_each_frame_beside_the_array(
    shape: tuple[int, int], frames: int | None
) -> None:
    form = GREY._replace(Rows=shape[0], Columns=shape[1], NumberOfFrames=frames)
    assert size_of(BUILT_IN["tiff"], form) == 8 + (frames or 1) * (256 + shape[0] * shape[1] * 2)


def test_an_npy_file_is_what_numpy_save_writes() -> None:
    stream = io.BytesIO()
    np.save(stream, np.zeros((104, 80), np.uint16))
    assert size_of(BUILT_IN["npy"], GREY) == len(stream.getvalue())


@pytest.mark.parametrize(
    ("size", "shape", "expected"),
    [
        (None, (3328, 2560), (3328, 2560)),
        (Box(100, 200), (3328, 2560), (100, 200)),
        (Box(8192, 8192), (1, 1), (8192, 8192)),
        (Longest(1664), (3328, 2560), (1664, 1280)),
        (Longest(8192), (3328, 2560), (3328, 2560)),
        (Longest(16), (3328, 2), (16, 1)),  # never less than one pixel
        (Longest(16), (32, 3), (16, 2)),  # a half is rounded up
        (Longest(100), (3, 10000), (1, 100)),
    ],
)
def test_scaling_keeps_the_aspect_rounds_halves_up_and_never_enlarges(
    size: Box | Longest | None, shape: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert scaled(size, *shape) == expected


@pytest.mark.parametrize(
    ("form", "has", "why"),
    [
        (GREY, "png png16 tiff npy", None),
        (COLOUR, "png tiff npy", "it is in colour, which is rendered in 8 bits as png"),
        (GREY._replace(NumberOfFrames=60), "tiff npy", "it has several frames"),
        (GREY._replace(NumberOfFrames=1), "png png16 tiff npy", None),
        (GREY._replace(BitsStored=8), "png png16 tiff npy", None),
        (GREY._replace(PhotometricInterpretation=None), "png png16 tiff npy", None),
        (GREY._replace(PhotometricInterpretation="PALETTE COLOR"), "tiff npy", "it is PALETTE COLOR"),
        (COLOUR._replace(BitsAllocated=16, BitsStored=16), "tiff npy", "it is in colour"),
        (COLOUR._replace(PixelRepresentation=1), "tiff npy", "it is in colour"),
        (PixelFormat(), "", "Rows is unknown"),
        *((GREY._replace(**{name: None}), "", f"{name} is unknown") for name in ("Columns", "SamplesPerPixel")),
        *((GREY._replace(**{name: None}), "", f"{name} is unknown") for name in ("BitsAllocated", "BitsStored")),
        (GREY._replace(BitsStored=7), "", "it stores 7 bits in 16"),
        (GREY._replace(BitsAllocated=32, BitsStored=32), "", "it stores 32 bits in 32"),
        (GREY._replace(BitsAllocated=12, BitsStored=12), "", "it stores 12 bits in 12"),
        (GREY._replace(BitsAllocated=8), "", "it stores 12 bits in 8"),
        (GREY._replace(SamplesPerPixel=2), "", "it has 2 samples per pixel"),
        (GREY._replace(Rows=65535, Columns=65535), "tiff npy", "it is larger than 2 GiB"),
    ],
)
def test_an_image_has_the_renditions_that_its_pixel_format_allows(
    form: PixelFormat, has: str, why: str | None
) -> None:
    assert [name for name, one in BUILT_IN.items() if size_of(one, form) is not None] == has.split()
    reasons = {why_not(one, form) for name, one in BUILT_IN.items() if name not in has.split()}
    assert all((reason or "").startswith(why or "nothing") for reason in reasons), reasons


def test_with_a_window_tiff_and_npy_have_the_values_of_png16() -> None:
    for format in (Format.TIFF, Format.NPY):
        shown = Rendition("x", format, Box(32, 64), Window.MINMAX)
        pixels = pixels_of(shown, GREY._replace(PixelRepresentation=1))
        assert (pixels.shape, pixels.dtype) == ((32, 64), np.dtype("<u2"))
        assert size_of(shown, COLOUR) is size_of(shown, GREY._replace(NumberOfFrames=2)) is None
