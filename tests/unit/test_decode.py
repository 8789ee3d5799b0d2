"""Decoding: every transfer syntax, and every way in which files contradict themselves."""

import os
import resource
import struct
import subprocess
import sys
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from programs import needs
from pydicom import Dataset, uid
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.encoders.base import get_encoder

from omidbfs.pixels import compressed
from omidbfs.pixels.codestream import Frame, frame_of
from omidbfs.pixels.decode import Source, read
from omidbfs.pixels.errors import PixelError

ROWS, COLUMNS = 37, 42
PLAIN = uid.ExplicitVRLittleEndian


def ramp(bits: int = 12, frames: int = 0) -> NDArray[Any]:
    """Return an image with noise that uses all values of ``bits`` bits."""
    rng = np.random.default_rng(bits)
    shape = (frames, ROWS, COLUMNS) if frames else (ROWS, COLUMNS)
    values = np.linspace(0, (1 << bits) - 1, int(np.prod(shape))) + rng.integers(-3, 4, int(np.prod(shape)))
    return np.clip(values, 0, (1 << bits) - 1).astype("<u1" if bits <= 8 else "<u2").reshape(shape)


def dicom(pixels: bytes, syntax: str = PLAIN, vr: str = "OW", **changes: Any) -> bytes:
    """Return a DICOM file: 12 bits in 16, one frame, but for what ``changes`` says; ``None`` omits an element."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = uid.DigitalMammographyXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = uid.UID("1.2.3")
    meta.TransferSyntaxUID = uid.UID(syntax)
    elements: dict[str, Any] = {
        "SOPClassUID": meta.MediaStorageSOPClassUID,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": ROWS,
        "Columns": COLUMNS,
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "WindowCenter": "2048",
        **changes,
    }
    dataset = Dataset()
    for keyword, value in elements.items():
        if value is not None:
            setattr(dataset, keyword, value)
    if pixels is not None:
        dataset.add_new(0x7FE00010, "OB" if uid.UID(syntax).is_encapsulated else vr, pixels)
        dataset["PixelData"].is_undefined_length = uid.UID(syntax).is_encapsulated
    dataset.file_meta = meta
    out = BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


def source_of(content: bytes, scratch: Path) -> Source:
    place = scratch / "image.dcm"
    place.write_bytes(content)
    return read(os.open(place, os.O_RDONLY))


def stored(content: bytes, scratch: Path) -> NDArray[Any]:
    source = source_of(content, scratch)
    try:
        return source.stored()
    finally:
        os.close(source._descriptor)


def refused(content: bytes, scratch: Path) -> str:
    with pytest.raises(PixelError) as error:
        stored(content, scratch)
    return error.value.kind


def code(values: NDArray[Any], syntax: str = uid.JPEG2000Lossless, bits: int = 12, **changes: Any) -> bytes:
    """Return one frame as a codestream."""
    options = {
        "rows": values.shape[0],
        "columns": values.shape[1],
        "samples_per_pixel": 1 if values.ndim == 2 else 3,
        "number_of_frames": 1,
        "bits_allocated": values.dtype.itemsize * 8,
        "bits_stored": bits,
        "pixel_representation": int(values.dtype.kind == "i"),
        "photometric_interpretation": "MONOCHROME2" if values.ndim == 2 else "RGB",
        "planar_configuration": 0,
        **changes,
    }
    made: bytes = get_encoder(syntax).encode(values.tobytes(), **options)
    return made


def in_items(frames: list[bytes], **how: Any) -> bytes:
    return encapsulate(frames, **how)


# transfer syntaxes
@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_uncompressed_little_endian_is_the_bytes_of_the_file(syntax: str, bits: int, tmp_path: Path) -> None:
    values = ramp(bits)
    allocated = values.dtype.itemsize * 8
    content = dicom(values.tobytes(), syntax, BitsAllocated=allocated, BitsStored=bits, HighBit=bits - 1)
    source = source_of(content, tmp_path)
    found = source.stored()
    assert found.dtype == values.dtype
    assert np.array_equal(found, values)
    assert source.format.TransferSyntaxUID == syntax
    assert (source.format.Rows, source.format.Columns, source.format.BitsStored) == (ROWS, COLUMNS, bits)
    assert source.header.WindowCenter == 2048
    assert "PixelData" not in source.header
    if bits == 12:
        assert source.place is None, "four bits of each word may be anything"
    else:
        assert source.place is not None
        offset, length = source.place
        assert content[offset : offset + length] == found.tobytes()


def test_big_endian_and_deflated(tmp_path: Path) -> None:
    values = ramp()
    big = dicom(values.byteswap().tobytes(), uid.ExplicitVRBigEndian)
    assert stored(big, tmp_path).dtype == np.dtype("<u2")
    assert np.array_equal(stored(big, tmp_path), values)
    deflated = dicom(values.tobytes(), uid.DeflatedExplicitVRLittleEndian, BitsStored=16, HighBit=15)
    source = source_of(deflated, tmp_path)
    assert source.format.TransferSyntaxUID == uid.DeflatedExplicitVRLittleEndian
    assert source.place is None
    assert np.array_equal(source.stored(), values)


@pytest.mark.parametrize(("vr", "swapped"), [("OB", False), ("OW", True)])
def test_big_endian_bytes_are_swapped_in_words_only(vr: str, swapped: bool, tmp_path: Path) -> None:
    values = ramp(8)[:, :33]
    data = values.tobytes() + b"\0"
    data = np.frombuffer(data, "<u2").byteswap().tobytes() if swapped else data
    content = dicom(
        data, uid.ExplicitVRBigEndian, vr, BitsAllocated=8, BitsStored=8, HighBit=7, Columns=33, NumberOfFrames=1
    )
    assert np.array_equal(stored(content, tmp_path), values)


LOSSLESS = [uid.RLELossless, uid.JPEGLSLossless, uid.JPEG2000Lossless]


@pytest.mark.parametrize("syntax", LOSSLESS)
@pytest.mark.parametrize("bits", [5, 8, 10, 12, 16])
def test_lossless_compression_gives_the_source(syntax: str, bits: int, tmp_path: Path) -> None:
    values = ramp(bits)
    allocated = values.dtype.itemsize * 8
    pixels = in_items([code(values, syntax, bits)])
    content = dicom(pixels, syntax, BitsAllocated=allocated, BitsStored=bits, HighBit=bits - 1)
    source = source_of(content, tmp_path)
    assert source.place is None
    found = source.stored()
    assert found.dtype == values.dtype
    assert np.array_equal(found, values)


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_signed_values_keep_their_signs(syntax: str, tmp_path: Path) -> None:
    values = (ramp().astype("<i2") - 2048).astype("<i2")
    pixels = in_items([code(values, syntax)])
    found = stored(dicom(pixels, syntax, PixelRepresentation=1), tmp_path)
    assert found.dtype == np.dtype("<i2")
    assert np.array_equal(found, values)


@needs("dcmcjpeg", "dcmdjpeg")
@pytest.mark.parametrize(
    ("option", "syntax", "worst"),
    [
        ("+el", uid.JPEGLossless, 0),
        ("+e1", uid.JPEGLosslessSV1, 0),
        ("+eb", uid.JPEGBaseline8Bit, None),
        ("+ee", uid.JPEGExtended12Bit, None),
    ],
)
def test_jpeg_is_decoded_as_by_dcmtk(option: str, syntax: str, worst: int | None, tmp_path: Path) -> None:
    values = ramp()
    (tmp_path / "source.dcm").write_bytes(dicom(values.tobytes(), SOPInstanceUID="1.2.3"))
    made, back = tmp_path / "made.dcm", tmp_path / "back.dcm"
    subprocess.run(["dcmcjpeg", option, tmp_path / "source.dcm", made], check=True)
    subprocess.run(["dcmdjpeg", made, back], check=True, capture_output=True)
    source = source_of(made.read_bytes(), tmp_path)
    assert source.format.TransferSyntaxUID == syntax
    expected = pydicom.dcmread(back).pixel_array
    assert expected.dtype == source.stored().dtype
    assert np.array_equal(source.stored(), expected)
    if worst is not None:
        assert np.abs(source.stored().astype(int) - values).max() <= worst


@pytest.mark.parametrize("syntax", [uid.JPEG2000Lossless, uid.JPEG2000])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_jpeg_2000_is_decoded_as_by_gdcm(
    syntax: str, bits: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = ramp(bits)
    lossy = {"j2k_cr": [5]} if syntax == uid.JPEG2000 else {}
    pixels = in_items([code(values, syntax, bits, **lossy)])
    allocated = values.dtype.itemsize * 8
    content = dicom(pixels, syntax, BitsAllocated=allocated, BitsStored=bits, HighBit=bits - 1)
    one = stored(content, tmp_path)
    monkeypatch.setattr(compressed, "_PLUGINS", {**compressed._PLUGINS, uid.UID(syntax): ("gdcm",)})
    other = stored(content, tmp_path)
    assert np.abs(one.astype(int) - other).max() <= (0 if syntax == uid.JPEG2000Lossless else 1)


def test_jpeg_2000_of_real_files_is_decoded_as_by_gdcm(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = 0
    for place in _wheel():
        descriptor = os.open(place, os.O_RDONLY)
        try:
            source = read(descriptor)
            if source.format.TransferSyntaxUID not in (uid.JPEG2000Lossless, uid.JPEG2000):
                continue
            one = source.stored()
            with monkeypatch.context() as patch:
                patch.setattr(compressed, "_PLUGINS", dict.fromkeys(compressed._PLUGINS, ("gdcm",)))
                other = source.stored()
        except PixelError:
            continue
        finally:
            os.close(descriptor)
        compared += 1
        assert one.dtype == other.dtype
        assert np.abs(one.astype(int) - other).max() <= 1, place.name
    assert compared >= 7


def _wheel() -> list[Path]:
    return sorted(Path(pydicom.__file__).parent.rglob("*.dcm"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("place", _wheel(), ids=lambda place: place.name)
def test_real_files_have_the_values_of_pydicom(place: Path) -> None:
    descriptor = os.open(place, os.O_RDONLY)
    try:
        source = read(descriptor)
        found: NDArray[Any] | str = source.stored()
        if source.place is not None:
            assert os.pread(descriptor, source.place[1], source.place[0]) == source.stored().tobytes()
    except PixelError as error:
        found = error.kind
    finally:
        os.close(descriptor)
    try:
        expected = pydicom.dcmread(place).pixel_array
    except Exception:
        expected = None
    if isinstance(found, str):
        assert expected is None or found in ("neither 8 nor 16 bits allocated", "not a DICOM file")
    elif expected is None:
        assert source.format.TransferSyntaxUID == uid.JPEGExtended12Bit, "pydicom asks no decoder for 12 bits"
    else:
        assert found.dtype == expected.dtype.newbyteorder("<")
        assert np.array_equal(found, expected)


def test_a_missing_decoder_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = in_items([code(ramp())])
    monkeypatch.setattr(get_decoder(uid.JPEG2000Lossless), "_available", {})
    kind = refused(dicom(pixels, uid.JPEG2000Lossless), tmp_path)
    assert kind == "no decoder is installed for the transfer syntax: pip install 'omidbfs[pixels]'"


def test_an_unknown_transfer_syntax_is_refused(tmp_path: Path) -> None:
    content = dicom(in_items([b"\0\0"]), uid.MPEG2MPML)
    assert refused(content, tmp_path) == "a transfer syntax that is not supported"


# lengths
def test_pixel_data_may_be_longer_than_the_image(tmp_path: Path) -> None:
    values = ramp()
    for more in (b"\0", b"\0\0", bytes(3 * values.nbytes)):
        content = dicom(values.tobytes(), BitsStored=16, HighBit=15)
        at = content.index(values.tobytes())
        content = content[: at - 4] + struct.pack("<I", values.nbytes + len(more)) + content[at:] + more
        source = source_of(content, tmp_path)
        assert np.array_equal(source.stored(), values)
        assert source.place == (at, values.nbytes)


def test_pixel_data_that_are_cut_off_are_refused(tmp_path: Path) -> None:
    values = ramp()
    content = dicom(values.tobytes(), BitsStored=16, HighBit=15)
    assert refused(content[:-1], tmp_path) == "the pixel data are cut off"
    assert source_of(content[:-1], tmp_path).place is None
    assert refused(dicom(values.tobytes()[:-2]), tmp_path) == "the pixel data are cut off"


@pytest.mark.parametrize(
    "content",
    [
        dicom(ramp().tobytes()),
        dicom(ramp().tobytes(), uid.DeflatedExplicitVRLittleEndian),
        dicom(ramp().byteswap().tobytes(), uid.ExplicitVRBigEndian),
        *(dicom(in_items([code(ramp(), syntax)]), syntax) for syntax in LOSSLESS),
        dicom(in_items([code(frame) for frame in ramp(12, 3)]), uid.JPEG2000Lossless, NumberOfFrames=3),
    ],
    ids=["explicit", "deflated", "big endian", "rle", "jpeg-ls", "jpeg 2000", "frames"],
)
def test_a_file_cut_off_anywhere_is_refused_or_whole(content: bytes, tmp_path: Path) -> None:
    whole = stored(content, tmp_path)
    end = len(content)
    lengths = {*range(0, end, 41), *range(end - 40, end)}
    assert {refused(content[:length], tmp_path) for length in lengths if length < end - 16} != set()
    for length in sorted(lengths):
        try:
            found = stored(content[:length], tmp_path)
        except PixelError:
            continue
        assert np.array_equal(found, whole)  # only what follows the pixels is missing
        assert end - length <= 8 + 2


@pytest.mark.parametrize("frames", [40, 65535])
@pytest.mark.parametrize("syntax", [PLAIN, uid.DeflatedExplicitVRLittleEndian, *LOSSLESS])
def test_nothing_is_allocated_for_frames_that_are_not_there(syntax: str, frames: int, tmp_path: Path) -> None:
    values = ramp()
    pixels = in_items([code(values, syntax)]) if syntax in LOSSLESS else values.tobytes()
    content = dicom(pixels, syntax, NumberOfFrames=frames)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert refused(content, tmp_path) == "the pixel data are cut off"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000, "kB"


def test_impossible_numbers_of_frames_are_refused(tmp_path: Path) -> None:
    content = dicom(ramp().tobytes(), NumberOfFrames=2_000_000_000)
    assert refused(content, tmp_path) == "an impossible number of frames"


def test_deflated_data_are_inflated_as_far_as_the_pixels_go(tmp_path: Path) -> None:
    values = ramp()
    content = dicom(values.tobytes(), uid.DeflatedExplicitVRLittleEndian)
    meta = 144 + int.from_bytes(content[140:144], "little")
    inner = zlib.decompress(content[meta:], -zlib.MAX_WBITS)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = content[:meta] + deflate.compress(inner) + deflate.compress(bytes(1 << 28)) + deflate.flush()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert np.array_equal(stored(bomb, tmp_path), values)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000, "kB"


# contradictions
@pytest.mark.parametrize("syntax", [uid.JPEGLSLossless, uid.JPEG2000Lossless])
@pytest.mark.parametrize(
    "change", [{"Rows": ROWS + 1}, {"Columns": COLUMNS - 1}, {"Rows": COLUMNS, "Columns": ROWS}]
)
def test_a_frame_of_another_size_is_refused(syntax: str, change: dict[str, int], tmp_path: Path) -> None:
    pixels = in_items([code(ramp(), syntax)])
    content = dicom(pixels, syntax, **change)
    assert refused(content, tmp_path) == "the frame has another size than the header says"


def test_a_frame_with_more_bits_than_allocated_is_refused(tmp_path: Path) -> None:
    content = dicom(in_items([code(ramp())]), uid.JPEG2000Lossless, BitsAllocated=8, BitsStored=8, HighBit=7)
    assert refused(content, tmp_path) == "the frame has more bits than the header says"


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_the_header_decides_about_signs(bits: int, tmp_path: Path) -> None:
    unsigned = ramp(bits)
    kind = "<i1" if bits == 8 else "<i2"
    signed = ((unsigned.astype(int) ^ (1 << bits - 1)) - (1 << bits - 1)).astype(kind)
    form = {"BitsAllocated": unsigned.dtype.itemsize * 8, "BitsStored": bits, "HighBit": bits - 1}
    syntax = uid.JPEG2000Lossless
    content = dicom(in_items([code(unsigned, syntax, bits)]), syntax, PixelRepresentation=1, **form)
    assert np.array_equal(stored(content, tmp_path), signed)
    content = dicom(in_items([code(signed, syntax, bits)]), syntax, PixelRepresentation=0, **form)
    assert np.array_equal(stored(content, tmp_path), unsigned)


def test_a_codestream_may_have_more_bits_than_are_stored(tmp_path: Path) -> None:
    values = ramp()
    pixels = in_items([code(values, uid.JPEG2000Lossless, 16)])
    assert np.array_equal(stored(dicom(pixels, uid.JPEG2000Lossless), tmp_path), values)
    small = ramp(8)
    pixels = in_items([code(small, uid.JPEG2000Lossless, 8)])
    found = stored(dicom(pixels, uid.JPEG2000Lossless), tmp_path)
    assert found.dtype == np.dtype("<u2")
    assert np.array_equal(found, small)


@pytest.mark.parametrize("syntax", [PLAIN, uid.RLELossless])
def test_a_high_bit_elsewhere_moves_the_values(syntax: str, tmp_path: Path) -> None:
    values = ramp()
    raised = values << 4 | 0xF
    pixels = in_items([code(raised, syntax, 16)]) if syntax == uid.RLELossless else raised.tobytes()
    assert np.array_equal(stored(dicom(pixels, syntax, HighBit=15), tmp_path), values)
    signed = (values.astype("<i2") ^ 0x800) - 0x800
    found = stored(dicom(pixels, syntax, HighBit=15, PixelRepresentation=1), tmp_path)
    assert np.array_equal(found, signed)


@pytest.mark.parametrize("high", [10, 16, 40000])
def test_an_impossible_high_bit_is_refused(high: int, tmp_path: Path) -> None:
    assert refused(dicom(ramp().tobytes(), HighBit=high), tmp_path) == "the high bit contradicts the bits stored"


def test_an_element_that_cannot_be_decoded_is_refused(tmp_path: Path) -> None:
    content = dicom(ramp().tobytes()).replace(b"\x28\0\x02\x01US", b"\x28\0\x02\x01QS")
    assert refused(content, tmp_path) == "the header is damaged or cut off"


@pytest.mark.parametrize(("bits", "overlay"), [(12, 0x8000), (12, 0x1000), (5, 0x80)])
def test_overlays_in_unused_bits_are_masked(bits: int, overlay: int, tmp_path: Path) -> None:
    values = ramp(bits)
    form = {"BitsAllocated": values.dtype.itemsize * 8, "BitsStored": bits, "HighBit": bits - 1}
    assert np.array_equal(stored(dicom((values | overlay).tobytes(), **form), tmp_path), values)


def test_signs_are_extended(tmp_path: Path) -> None:
    signed = (ramp().astype("<i2") - 2048).astype("<i2")
    for words in (signed, signed & 0xFFF, signed & 0xFFF | 0x4000):
        found = stored(dicom(words.astype("<i2").tobytes(), PixelRepresentation=1), tmp_path)
        assert found.dtype == np.dtype("<i2")
        assert np.array_equal(found, signed)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"BitsAllocated": 1, "BitsStored": 1}, "neither 8 nor 16 bits allocated"),
        ({"BitsAllocated": 32, "BitsStored": 32}, "neither 8 nor 16 bits allocated"),
        ({"BitsAllocated": 12}, "neither 8 nor 16 bits allocated"),
        ({"BitsStored": 17}, "more bits stored than allocated"),
        ({"SamplesPerPixel": 2}, "neither 1 nor 3 samples"),
        ({"Rows": 0}, "the header does not say how pixels are stored"),
        ({"BitsStored": None}, "the header does not say how pixels are stored"),
        ({"PixelRepresentation": None}, "the header does not say how pixels are stored"),
    ],
)
def test_formats_of_no_mammogram_are_refused(changes: dict[str, Any], kind: str, tmp_path: Path) -> None:
    assert refused(dicom(ramp().tobytes(), **changes), tmp_path) == kind


def test_floats_and_files_without_pixels_are_refused(tmp_path: Path) -> None:
    floats = dicom(None, FloatPixelData=bytes(4 * ROWS * COLUMNS))  # type: ignore[arg-type]
    assert refused(floats, tmp_path) == "floating point pixel data"
    assert refused(dicom(None), tmp_path) == "no pixel data"  # type: ignore[arg-type]
    assert refused(b"", tmp_path) == "not a DICOM file"


def test_uncompressed_pixels_of_undefined_length_are_refused(tmp_path: Path) -> None:
    content = dicom(ramp().tobytes())
    at = content.index(ramp().tobytes())
    content = content[: at - 4] + b"\xff" * 4 + content[at:]
    assert source_of(content, tmp_path).place is None
    assert refused(content, tmp_path) == "uncompressed pixel data without a length"


# frames, colours
def _tables(frames: list[bytes]) -> dict[str, dict[str, Any]]:
    data, offsets, lengths = encapsulate_extended(frames)
    extended = {"ExtendedOffsetTable": offsets, "ExtendedOffsetTableLengths": lengths}
    return {
        "basic": {"pixels": in_items(frames)},
        "none": {"pixels": in_items(frames, has_bot=False)},
        "extended": {"pixels": data, **extended},
        "basic, fragments": {"pixels": in_items(frames, fragments_per_frame=3)},
        "none, fragments": {"pixels": in_items(frames, fragments_per_frame=3, has_bot=False)},
    }


@pytest.mark.parametrize("table", ["basic", "none", "extended", "basic, fragments", "none, fragments"])
@pytest.mark.parametrize("frames", [1, 4])
@pytest.mark.parametrize("syntax", [uid.JPEGLSLossless, uid.JPEG2000Lossless])
def test_frames_are_found_in_fragments(syntax: str, frames: int, table: str, tmp_path: Path) -> None:
    values = ramp(12, frames)
    how = _tables([code(frame, syntax) for frame in values])[table]
    content = dicom(syntax=syntax, NumberOfFrames=frames, **how)
    found = stored(content, tmp_path)
    assert np.array_equal(found, values if frames > 1 else values[0])


def test_what_follows_the_pixels_does_not_matter(tmp_path: Path) -> None:
    values = ramp()
    pixels = in_items([code(values)])
    content = dicom(pixels, uid.JPEG2000Lossless)
    padding = b"\xfc\xff\xfc\xffOB\0\0\4\0\0\0\0\0\0\0"
    assert np.array_equal(stored(content + padding, tmp_path), values)
    at = content.index(pixels)  # a length where there should be none
    content = content[: at - 4] + struct.pack("<I", len(pixels)) + pixels + padding
    assert np.array_equal(stored(content, tmp_path), values)


def test_a_wrong_offset_table_is_not_believed(tmp_path: Path) -> None:
    values = ramp(12, 4)
    codes = [code(frame) for frame in values]
    for fragments in (1, 2):
        right = in_items(codes, fragments_per_frame=fragments)
        for table in ((0, 1, 2, 3), (0, 0, 0, 0), (8, 16, 24, 32), (0, 1 << 31, 8, 9)):
            pixels = right[:8] + struct.pack("<4I", *table) + right[24:]
            found = stored(dicom(pixels, uid.JPEG2000Lossless, NumberOfFrames=4), tmp_path)
            assert np.array_equal(found, values)


def test_fragments_of_rle_without_a_table_are_refused(tmp_path: Path) -> None:
    codes = [code(frame, uid.RLELossless) for frame in ramp(12, 2)]
    with_table = in_items(codes, fragments_per_frame=2)
    assert np.array_equal(stored(dicom(with_table, uid.RLELossless, NumberOfFrames=2), tmp_path), ramp(12, 2))
    without = in_items(codes, fragments_per_frame=2, has_bot=False)
    kind = refused(dicom(without, uid.RLELossless, NumberOfFrames=2), tmp_path)
    assert kind == "the fragments do not say which frame they belong to"


def test_frames_of_uncompressed_images(tmp_path: Path) -> None:
    values = ramp(16, 5)
    source = source_of(dicom(values.tobytes(), NumberOfFrames=5, BitsStored=16, HighBit=15), tmp_path)
    assert np.array_equal(source.stored(), values)
    assert source.place is not None
    assert source.place[1] == values.nbytes
    more = dicom(values.tobytes(), NumberOfFrames=4, BitsStored=16, HighBit=15)
    assert np.array_equal(stored(more, tmp_path), values[:4]), "as many as the header says"


@pytest.mark.parametrize("planes", [0, 1])
def test_colours_are_rgb_by_pixel(planes: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    values = rng.integers(0, 256, (ROWS, COLUMNS, 3), np.uint8)
    data = values.transpose(2, 0, 1) if planes else values
    form: dict[str, Any] = {
        "SamplesPerPixel": 3,
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
        "PlanarConfiguration": planes,
        "PhotometricInterpretation": "RGB",
    }
    assert np.array_equal(stored(dicom(data.tobytes(), **form), tmp_path), values)
    form["PhotometricInterpretation"] = "HSV"
    assert refused(dicom(data.tobytes(), **form), tmp_path) == "a colour space that is not supported"
    form["PhotometricInterpretation"] = "YBR_FULL_422"
    form["Columns"] = 33
    assert refused(dicom(data.tobytes(), **form), tmp_path) == "subsampled colours in an odd number of columns"


# hostile files
def test_what_a_codestream_says_about_itself() -> None:
    values = ramp()
    assert frame_of(code(values)) == Frame(ROWS, COLUMNS, 1, 12)
    assert frame_of(code((values - 2048).astype("<i2"))) == Frame(ROWS, COLUMNS, 1, 12, True)
    assert frame_of(code(values, uid.JPEGLSLossless)) == Frame(ROWS, COLUMNS, 1, 12)
    assert frame_of(code(values, uid.RLELossless)) is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(data=st.binary(max_size=3000))
def test_random_bytes_say_nothing_or_a_frame(data: bytes) -> None:
    for begin in (b"", b"\xff\xd8\xff", b"\xff\x4f\xff\x51"):
        found = frame_of(begin + data)
        assert found is None or found.precision > 0


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(data=st.binary(max_size=3000), syntax=st.sampled_from([PLAIN, *compressed._PLUGINS]))
def test_random_pixels_are_refused_plainly(data: bytes, syntax: str, tmp_path: Path) -> None:
    mark = b"here are the data"
    content = dicom(mark if syntax == PLAIN else in_items([mark]), syntax)
    begin = content.index(mark) - (0 if syntax == PLAIN else 24 if len(data) % 3 else 8)
    assert refused(content[:begin] + data, tmp_path)


def test_a_codestream_that_promises_much_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    program = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
from omidbfs.pixels.decode import read
from omidbfs.pixels.errors import PixelError
try:
    read(os.open(sys.argv[1], os.O_RDONLY)).stored()
except PixelError as error:
    print(error.kind)
"""
    huge = bytearray(code(ramp()))
    huge[8:16] = struct.pack(">II", 65535, 65535)
    huge[24:32] = struct.pack(">II", 65535, 65535)
    for rows, kind in ((ROWS, "the frame has another size than the header says"), (65535, None)):
        place = tmp_path / "huge.dcm"
        place.write_bytes(
            dicom(in_items([bytes(huge)]), uid.JPEG2000Lossless, Rows=rows, Columns=COLUMNS if kind else rows)
        )
        done = subprocess.run([sys.executable, "-c", program, place], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == kind or (kind is None and done.stdout)
