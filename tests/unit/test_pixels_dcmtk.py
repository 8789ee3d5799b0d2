"""Renditions are within one level of what ``dcmj2pnm`` of DCMTK makes, which shares no code with this project.

It truncates results of floating point and what rescaling puts out, and knows no LINEAR_EXACT. It shifts the
entries of a LUT, and images without a window, to the depth of its output, so that white is not white: LUTs are
compared at their own depth or a smaller one, and images without a window with a window over all bits.
"""

import subprocess
import warnings
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom.data
import pytest
from naive_pixels import LUT, Grey
from PIL import Image
from pixel_files import elements_of, form_of, shown, written
from programs import needs
from pydicom import dcmread, uid
from pydicom.errors import InvalidDicomError
from trees import Quirky

from omidbfs.pixels.rendition import Format, Rendition
from omidbfs.pixels.sizes import size_of

pytestmark = needs("dcmj2pnm")

Depths = tuple[tuple[Format, str], ...]
DEPTHS: Depths = ((Format.PNG, "+on"), (Format.PNG16, "+on2"))
REAL = Path(pydicom.data.__file__).parent / "test_files"
READ_BY_BOTH = [
    "CT_small.dcm",
    "ExplVR_BigEnd.dcm",
    "MR_small.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_expb.dcm",
    "MR_small_implicit.dcm",
    "MR_small_padded.dcm",
    "SC_rgb_small_odd.dcm",
    "SC_rgb_small_odd_big_endian.dcm",
    "SC_ybr_full_422_uncompressed.dcm",
    "examples_overlay.dcm",
    "examples_rgb_color.dcm",
]


DECIDE = (
    "PhotometricInterpretation",
    "PresentationLUTShape",
    "VOILUTFunction",
    "WindowCenter",
    "PixelRepresentation",
    "RescaleSlope",
    "VOILUTSequence",
)
NOT_READ_BY_DCMJ2PNM = (uid.JPEGLSLossless, uid.JPEGLSNearLossless, uid.JPEG2000, uid.JPEG2000Lossless)


def compare(content: bytes, scratch: Path, *options: str, depths: Depths = DEPTHS) -> None:
    """Compare the renditions of 8 and of 16 bits."""
    source, target = scratch / "image.dcm", scratch / "image.png"
    source.write_bytes(content)
    for form, option in depths:
        rendition = Rendition("x", form)
        if size_of(rendition, form_of(content)) is None:
            assert form is Format.PNG16, "colour"
            continue
        subprocess.run(["dcmj2pnm", "-q", "-O", option, *options, source, target], check=True)
        with Image.open(target) as image:
            theirs = np.asarray(image).astype(int)
        ours = shown(content, rendition).astype(int)
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).max() <= 1, (rendition, options)


@pytest.mark.parametrize("name", READ_BY_BOTH)
def test_real_files(name: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        content = (REAL / name).read_bytes()
        has_window = "WindowCenter" in dcmread(REAL / name, stop_before_pixels=True)
    compare(content, tmp_path, *(["+Wi", "1"] if has_window else ["-W"]))


def test_images_of_the_demo(demo_database: Path, tmp_path: Path) -> None:
    chosen: dict[Any, Path] = {}
    for place in sorted(demo_database.rglob("*.dcm"))[::5]:
        header = dcmread(place, stop_before_pixels=True)
        chosen.setdefault((header.Manufacturer, header.PhotometricInterpretation, header.ImageLaterality), place)
    assert len(chosen) > 4
    for place in chosen.values():
        content = place.read_bytes()
        has_window = "WindowCenter" in dcmread(place, stop_before_pixels=True)
        compare(content, tmp_path, *(["+Wi", "1"] if has_window else ["+Ww", "2048", "4096"]))


def test_odd_images_of_the_demo(quirky_database: Quirky, tmp_path: Path) -> None:
    chosen: dict[Any, Path] = {}
    for place in sorted(quirky_database.path.rglob("*.dcm")):
        if not place.is_file():  # opening a pipe waits for ever
            continue
        with suppress(InvalidDicomError, OSError):
            header = dcmread(place, stop_before_pixels=True)
            if "Rows" not in header or header.get("NumberOfFrames", 1) != 1 or "PixelPaddingValue" in header:
                continue
            how = tuple(str(header.get(keyword)) for keyword in DECIDE)
            if not {"LINEAR_EXACT", "0.5"} & {*how}:
                chosen.setdefault((header.file_meta.TransferSyntaxUID, *how), place)
    assert len(chosen) > 15
    for (syntax, *_), place in chosen.items():
        dataset = dcmread(place)
        option = ["+Wl", "1"] if "VOILUTSequence" in dataset else ["+Wi", "1"]
        option = option if "WindowCenter" in dataset else ["+Ww", "2048", "4096"]
        if syntax in NOT_READ_BY_DCMJ2PNM:
            dataset.decompress(generate_instance_uid=False)
        out = BytesIO()
        dataset.save_as(out)
        compare(out.getvalue(), tmp_path, *option, depths=DEPTHS[:1] if "+Wl" in option else DEPTHS)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [8, 10, 12, 13, 16])
def test_windows(bits: int, signed: bool, tmp_path: Path) -> None:
    low, high = Grey(bits, signed).limits
    words = ("i" if signed else "u") + ("1" if bits == 8 else "2")
    stored = np.linspace(low, high, 4096).round().astype(f"<{words}").reshape(64, 64)
    middle, wide = (low + high) // 2, high - low
    for function, slope, intercept, window in (
        ("LINEAR", None, None, (middle, wide // 3)),
        ("LINEAR", "1", "-100", (middle + 7.5, wide)),
        ("LINEAR", "2", "10", (middle, wide)),
        ("LINEAR", None, None, (middle, 1)),
        ("SIGMOID", None, None, (middle, wide // 3)),
        ("SIGMOID", "1", "-100", (middle + 7.5, wide)),
    ):
        for photometric in ("MONOCHROME1", "MONOCHROME2"):
            texts = (str(window[0]), str(window[1]))
            grey = Grey(bits, signed, photometric, None, slope, intercept, None, texts, function)
            compare(
                written(stored, **elements_of(grey)), tmp_path, "+Wi", "1", *["+Wfs"] * (function == "SIGMOID")
            )


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("signed", [False, True])
def test_luts(signed: bool, photometric: str, tmp_path: Path) -> None:
    low, high = Grey(12, signed).limits
    stored = np.linspace(low, high, 4096).round().astype("<i2" if signed else "<u2").reshape(64, 64)
    for bits, depths in ((8, DEPTHS[:1]), (16, DEPTHS)):
        curve = np.linspace(0, 1, 3000) ** 1.7 * (2**bits - 1)
        lut = LUT(low + 100, curve.round().astype(int).tolist(), bits)
        grey = Grey(12, signed, photometric, voi=lut)
        compare(written(stored, **elements_of(grey, "OW")), tmp_path, "+Wl", "1", depths=depths)
        grey = Grey(12, signed, photometric, modality=lut, window=(str(2**bits // 2), str(2**bits // 2)))
        compare(written(stored, **elements_of(grey, "OW")), tmp_path, "+Wi", "1")


@pytest.mark.parametrize("shape", ["IDENTITY", "INVERSE"])
def test_presentation(shape: str, tmp_path: Path) -> None:
    stored = np.arange(4096, dtype="<u2").reshape(64, 64)
    grey = Grey(12, shape=shape, window=("2000", "3000"))
    compare(written(stored, **elements_of(grey)), tmp_path, "+Wi", "1")
