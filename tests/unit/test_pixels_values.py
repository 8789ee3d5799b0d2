"""Values for display are what the formulas of the standard say, in every pixel."""

from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_pixels import LUT, Grey
from naive_pixels import shown as naive
from numpy.typing import NDArray
from pixel_files import elements_of, form_of, lut_item, rendered, shown, written
from pydicom import Dataset, uid
from pydicom.dataelem import DataElement

from omidbfs.pixels.errors import PixelError
from omidbfs.pixels.rendition import Format, Rendition, Window

PNG = Rendition("png", Format.PNG)
PNG16 = Rendition("png16", Format.PNG16)
SYNTAXES = [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian]
DEEP = st.sampled_from([Format.PNG, Format.PNG16, Format.NPY])


def ramp(bits: int = 12, signed: bool = False) -> NDArray[Any]:
    """Return 64 values from the smallest to the largest of some bits."""
    low, high = Grey(bits, signed).limits
    words = ("i1" if signed else "u1") if bits <= 8 else ("<i2" if signed else "<u2")
    return np.linspace(low, high, 64).round().astype(words).reshape(8, 8)


DAMAGED = [
    written(ramp(), uid.ImplicitVRLittleEndian, **elements_of(grey, "OW"))
    for grey in (
        Grey(12, window=("20", "30"), function="SIGMOID", slope="2", intercept="-3", padding=(3, 5)),
        Grey(12, voi=LUT(3, [1, 2, 3, 200], 8), modality=LUT(0, [5, 6, 7], 16)),
        Grey(12, photometric="MONOCHROME1", shape="INVERSE", window=("20", "30"), function="LINEAR_EXACT"),
    )
]
"""Files whose headers tests damage. Implicit, since an explicit one has more letters that say nothing."""


def both(stored: NDArray[Any], grey: Grey, form: str = "US", **changes: Any) -> None:
    """Compare 8 and 16 bits with the naive formulas."""
    content = written(stored, **elements_of(grey, form) | changes)
    for rendition, peak in ((PNG, 255), (PNG16, 65535)):
        assert shown(content, rendition).tolist() == naive(grey, stored, peak)


def decimals(low: int, high: int) -> st.SearchStrategy[str]:
    whole = st.integers(low, high).map(str)
    return whole | st.decimals(low, high, places=3).map(str)


def tenths(low: int, high: int) -> st.SearchStrategy[float]:
    return st.integers(low, high).map(lambda number: number / 10)


@st.composite
def luts(draw: st.DrawFn, limits: tuple[int, int]) -> LUT:
    bits = draw(st.integers(8, 16))
    first = draw(st.integers(max(limits[0], -(2**15)), min(limits[1], 2**15 - 1 if limits[0] < 0 else 2**16 - 1)))
    entries = draw(st.lists(st.integers(0, 2**bits - 1), min_size=2, max_size=40))
    return LUT(first, entries, bits)


@st.composite
def greys(draw: st.DrawFn) -> Grey:
    bits, signed = draw(st.integers(8, 16)), draw(st.booleans())
    plain = Grey(bits, signed)
    modality = draw(st.none() | luts(plain.limits))
    has_scale = modality is None and draw(st.booleans())
    slope = draw(decimals(-4, 4).filter(lambda text: float(text) != 0)) if has_scale else None
    intercept = draw(decimals(-3000, 3000)) if has_scale else None
    scaled = Grey(bits, signed, slope=slope, intercept=intercept, modality=modality)
    outputs = sorted(scaled.x(v) for v in plain.limits)
    largest = 2**modality.bits - 1 if modality else int(outputs[1])
    voi = draw(st.none() | luts((0 if modality else min(0, int(outputs[0])), max(1, largest))))
    function = draw(st.sampled_from([None, "LINEAR", "LINEAR_EXACT", "SIGMOID"]))
    window = draw(st.none() | st.tuples(decimals(-5000, 70000), decimals(1, 70000)))
    padding = draw(st.none() | st.tuples(*[st.integers(*plain.limits)] * 2))
    return Grey(
        bits,
        signed,
        draw(st.sampled_from(["MONOCHROME1", "MONOCHROME2"])),
        draw(st.sampled_from([None, "IDENTITY", "INVERSE"])),
        slope,
        intercept,
        modality,
        window,
        function,
        voi,
        padding,
    )


@given(st.data(), greys(), DEEP, st.booleans(), st.sampled_from(["US", "OW"]))
def test_every_transformation_is_that_of_the_formulas(
    data: st.DataObject, grey: Grey, form: Format, inverts: bool, lut_form: str
) -> None:
    stored = np.array(data.draw(st.lists(st.integers(*grey.limits), min_size=6, max_size=6)))
    words = ("i" if grey.signed else "u") + ("1" if grey.bits == 8 else "2")
    stored = stored.astype(f"<{words}").reshape(2, 3)
    window = data.draw(
        st.sampled_from([Window.VOI, Window.VOI, Window.STORED, Window.MINMAX])
        | st.tuples(st.integers(-30000, 90000), st.integers(10, 90000)).map(
            lambda both: (both[0] / 10, both[1] / 10)
        )
    )
    rendition = Rendition("x", form, None, window, inverts)
    peak = 255 if form is Format.PNG else 65535
    name = window.value if isinstance(window, Window) else window
    content = written(stored, **elements_of(grey, lut_form))
    assert shown(content, rendition).tolist() == naive(grey, stored, peak, name, inverts)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", range(8, 17))
def test_what_has_no_voi_is_scaled_over_its_bits_stored(bits: int, signed: bool) -> None:
    stored = ramp(bits, signed)
    both(stored, Grey(bits, signed))
    assert shown(written(stored, BitsStored=bits), PNG16)[[0, -1], [0, -1]].tolist() == [0, 65535]


def test_a_value_that_is_a_whole_number_is_not_rounded_down() -> None:
    # In floating point, ((x - 2047.5) / 4095 + 0.5) * 255 is below the whole number for many x.
    stored = (np.arange(256, dtype="<u2") * 4095 // 255).reshape(16, 16)
    grey = Grey(12, window=("2048", "4096"))
    both(stored, grey)
    assert shown(written(stored, **elements_of(grey)), PNG).ravel().tolist() == [
        int(v) * 255 // 4095 for v in stored.flat
    ]


@pytest.mark.parametrize(
    ("photometric", "shape", "inverted"),
    [
        ("MONOCHROME1", None, True),
        ("MONOCHROME2", None, False),
        ("MONOCHROME1", "INVERSE", True),
        ("MONOCHROME2", "INVERSE", True),
        ("MONOCHROME1", "IDENTITY", False),
        ("MONOCHROME2", "IDENTITY", False),
        ("MONOCHROME1", "", True),
        ("MONOCHROME1", "SOMETHING", True),
    ],
)
def test_values_are_inverted_at_most_once(photometric: str, shape: str | None, inverted: bool) -> None:
    stored = ramp()
    content = written(stored, BitsStored=12, PhotometricInterpretation=photometric, PresentationLUTShape=shape)
    plain = shown(written(stored, BitsStored=12), PNG16)
    assert (shown(content, PNG16)[0, 0], shown(content, PNG16)[-1, -1]) == ((65535, 0) if inverted else (0, 65535))
    assert np.array_equal(shown(content, Rendition("x", Format.PNG16, inverts=False)), plain)


def test_inversion_is_over_the_range_of_the_transform_and_not_of_the_image() -> None:
    stored = np.full((2, 2), 1000, "<u2")
    content = written(stored, BitsStored=12, PhotometricInterpretation="MONOCHROME1")
    assert shown(content, PNG).tolist() == [[192, 192], [192, 192]]  # floor(255 - 255 * 1000 / 4095)


@pytest.mark.parametrize("function", ["LINEAR", None, ""])
def test_a_linear_window_of_width_1_is_a_step(function: str | None) -> None:
    stored = np.array([[99, 100, 101]], "<u2")
    both(stored, Grey(12, window=("100", "1"), function="LINEAR"), VOILUTFunction=function)
    content = written(stored, BitsStored=12, WindowCenter="100", WindowWidth="1")
    assert shown(content, PNG).tolist() == [[0, 255, 255]]


@pytest.mark.parametrize(
    ("function", "width"),
    [("LINEAR", "0"), ("LINEAR", "0.5"), ("LINEAR_EXACT", "0"), ("SIGMOID", "0"), ("SIGMOID", "-7"), (None, "0")],
)
def test_a_window_that_is_too_narrow_is_refused(function: str | None, width: str) -> None:
    content = written(ramp(), BitsStored=12, WindowCenter="100", WindowWidth=width, VOILUTFunction=function)
    with pytest.raises(PixelError, match="the window width is too small"):
        rendered(content, PNG)


@pytest.mark.parametrize("function", ["LINEAR_EXACT", "SIGMOID"])
def test_exact_and_sigmoid_windows_may_be_narrower_than_1(function: str) -> None:
    both(np.array([[99, 100, 101]], "<u2"), Grey(12, window=("100", "0.25"), function=function))


def test_a_sigmoid_of_values_far_away_is_flat() -> None:
    stored = np.array([[0, 65535]], "<u2")
    both(stored, Grey(16, window=("30000", "1"), function="SIGMOID"))
    content = written(stored, WindowCenter="30000", WindowWidth="1", VOILUTFunction="SIGMOID")
    assert shown(content, PNG).tolist() == [[0, 255]]


def test_the_first_of_several_windows_counts() -> None:
    stored = ramp()
    content = written(stored, BitsStored=12, WindowCenter=["1900", "2100"], WindowWidth=["3000", "3600"])
    assert shown(content, PNG).tolist() == naive(Grey(12, window=("1900", "3000")), stored, 255)


@pytest.mark.parametrize("missing", ["WindowCenter", "WindowWidth"])
def test_half_a_window_is_refused(missing: str) -> None:
    content = written(ramp(), BitsStored=12, **{"WindowCenter": "9", "WindowWidth": "9"} | {missing: None})
    with pytest.raises(PixelError, match="a window without a centre or a width"):
        rendered(content, PNG)


def test_an_empty_window_is_none() -> None:
    stored = ramp()
    both(stored, Grey(12), WindowCenter="", WindowWidth="")


def test_an_unknown_function_is_refused() -> None:
    content = written(ramp(), BitsStored=12, WindowCenter="9", WindowWidth="9", VOILUTFunction="CUBIC")
    with pytest.raises(PixelError, match="an unknown VOI LUT function"):
        rendered(content, PNG)


@pytest.mark.parametrize("text", ["1e99999999", "1e-300", "1e30", "nan", "inf", "-", "0x10"])
def test_numbers_that_are_none_are_refused(text: str) -> None:
    content = written(ramp(), BitsStored=12, RescaleIntercept="0", RescaleSlope="5555555555")
    content = content.replace(b"5555555555", text.ljust(10).encode())
    with pytest.raises(PixelError, match=r"no number|damaged"):
        rendered(content, PNG)


def test_a_rescale_slope_of_0_is_refused() -> None:
    content = written(ramp(), BitsStored=12, RescaleSlope="0", RescaleIntercept="7")
    with pytest.raises(PixelError, match="the rescale slope is 0"):
        rendered(content, PNG)


def test_numbers_with_many_digits_stay_exact() -> None:
    both(
        ramp(16),
        Grey(16, slope="0.12345678901234", intercept="-1234.5678901234", window=("7.000000000001", "9999.9")),
    )


def test_a_lut_counts_before_windows() -> None:
    stored = ramp()
    lut = LUT(100, [5, 900, 1023, 4], 10)
    both(stored, Grey(12, voi=lut, window=("2000", "500")))


def test_the_first_of_several_luts_counts() -> None:
    stored = ramp()
    first, second = LUT(100, [5, 900, 1023], 10), LUT(0, [1, 2], 8)
    both(stored, Grey(12, voi=first), VOILUTSequence=[lut_item(first), lut_item(second)])


@pytest.mark.parametrize("sequence", ["VOILUTSequence", "ModalityLUTSequence"])
def test_an_empty_lut_sequence_is_none(sequence: str) -> None:
    grey = Grey(12, slope="2", intercept="-100", window=("2000", "500"))
    both(ramp(), grey, **{sequence: []})


@pytest.mark.parametrize("form", ["US", "OW"])
def test_a_descriptor_of_0_entries_means_65536(form: str) -> None:
    rng = np.random.default_rng(1)
    lut = LUT(0, rng.integers(0, 65536, 65536).tolist(), 16)
    stored = rng.integers(0, 65536, (4, 4)).astype("<u2")
    if form == "OW":  # more than fits into a value of US
        both(stored, Grey(16, voi=lut), form)
        both(stored, Grey(16, modality=lut), form)
    else:
        short = LUT(0, lut.entries[:30000], 16)
        both(stored, Grey(16, voi=short), form)


def test_a_descriptor_of_0_entries_may_be_signed() -> None:
    rng = np.random.default_rng(1)
    lut = LUT(-(2**15), rng.integers(0, 65536, 65536).tolist(), 16)
    both(rng.integers(-(2**15), 2**15, (4, 4)).astype("<i2"), Grey(16, True, modality=lut), "OW")


@pytest.mark.parametrize("vr_signed", [False, True])
def test_the_first_input_is_signed_as_the_pixels_are(vr_signed: bool) -> None:
    lut = LUT(-3, [0, 50, 100, 150, 200, 255], 8)
    stored = np.arange(-6, 6, dtype="<i2").reshape(3, 4)
    both(stored, Grey(16, True, voi=lut), VOILUTSequence=[lut_item(lut, signed=vr_signed)])
    both(stored, Grey(16, True, modality=lut), ModalityLUTSequence=[lut_item(lut, signed=vr_signed)])
    high = LUT(65533, [0, 50, 255], 8)
    unsigned = np.array([[0, 65532, 65533, 65534, 65535]], "<u2")
    both(unsigned, Grey(16, voi=high))
    both(unsigned, Grey(16, modality=high))


def test_the_first_input_of_a_voi_lut_is_signed_where_rescaling_makes_negative_values() -> None:
    lut = LUT(-1000, [0, 50, 100, 255], 8)
    both(np.array([[22, 23, 24, 25, 26, 30]], "<u2"), Grey(12, intercept="-1024", voi=lut))
    # And not where the modality LUT puts out no negative ones.
    high = LUT(40000, [0, 50, 255], 8)
    modality = LUT(-1, [39999, 40000, 40001, 40002], 16)
    both(np.arange(-3, 5, dtype="<i2").reshape(2, 4), Grey(16, True, modality=modality, voi=high))


@pytest.mark.parametrize("count", [4, 5, 256])
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_entries_of_8_bits_may_be_packed_in_words(count: int, syntax: str) -> None:
    lut = LUT(10, np.random.default_rng(count).integers(0, 256, count).tolist(), 8)
    stored = np.arange(0, 64, dtype="<u2").reshape(8, 8)
    packed = bytes(lut.entries) + bytes(count % 2)
    if syntax == uid.ExplicitVRBigEndian:  # words of 16 bits, the first entry in the low byte
        packed = np.frombuffer(packed, "<u2").astype(">u2").tobytes()
    item = lut_item(lut, "packed")
    item["LUTData"].value = packed
    content = written(stored, syntax, BitsStored=12, VOILUTSequence=[item])
    assert shown(content, PNG16).tolist() == naive(Grey(12, voi=lut), stored, 65535)


@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian])
@pytest.mark.parametrize("form", ["US", "OW"])
def test_luts_of_other_encodings(syntax: str, form: str) -> None:
    lut = LUT(10, [3, 1000, 65535, 7, 40000], 16)
    item = lut_item(lut, form)
    if syntax == uid.ExplicitVRBigEndian and form == "OW":
        item["LUTData"].value = np.array(lut.entries, ">u2").tobytes()
    stored = np.arange(0, 64, dtype="<u2").reshape(8, 8)
    for keyword, grey in (("VOILUTSequence", Grey(12, voi=lut)), ("ModalityLUTSequence", Grey(12, modality=lut))):
        content = written(stored, syntax, BitsStored=12, **{keyword: [item]})
        assert shown(content, PNG16).tolist() == naive(grey, stored, 65535)


def broken(**changes: Any) -> Dataset:
    item = lut_item(LUT(10, [1, 2, 3], 8))
    for keyword, value in changes.items():
        if value is None:
            del item[keyword]
        else:
            item[keyword].value = value
    return item


@pytest.mark.parametrize("sequence", ["VOILUTSequence", "ModalityLUTSequence"])
@pytest.mark.parametrize(
    ("item", "kind"),
    [
        (broken(LUTDescriptor=None), "a LUT without a descriptor"),
        (broken(LUTDescriptor=[3, 1]), "a LUT without a descriptor"),
        (broken(LUTData=None), "a LUT that is cut off"),
        (broken(LUTDescriptor=[7, 1, 8]), "a LUT that is cut off"),
        (broken(LUTDescriptor=[3, 1, 0]), "a LUT of an impossible number of bits"),
        (broken(LUTDescriptor=[3, 1, 17]), "a LUT of an impossible number of bits"),
        (broken(LUTData=[1, 256, 3]), "a LUT with larger entries than it says"),
    ],
)
def test_a_broken_lut_is_refused(sequence: str, item: Dataset, kind: str) -> None:
    with pytest.raises(PixelError, match=kind):
        rendered(written(ramp(), BitsStored=12, **{sequence: [item]}), PNG)


def test_a_fraction_takes_the_entry_below() -> None:
    lut = LUT(-2, [10, 20, 30, 40, 50], 8)
    both(np.arange(-8, 8, dtype="<i2").reshape(4, 4), Grey(12, True, slope="0.25", voi=lut))


@pytest.mark.parametrize("ends", [(5, 5), (3, 9), (9, 3)])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_the_darkest_value(ends: tuple[int, int], photometric: str) -> None:
    stored = np.arange(16, dtype="<u2").reshape(4, 4)
    grey = Grey(8 + 4, photometric=photometric, padding=ends)
    both(stored, grey)
    for value in (Window.STORED, Window.MINMAX, (5.0, 9.0)):
        pixels = shown(written(stored, **elements_of(grey)), Rendition("x", Format.PNG16, window=value))
        assert not pixels.ravel()[min(ends) : max(ends) + 1].any()


def test_padding_without_a_limit_is_one_value_and_a_limit_alone_is_none() -> None:
    stored = np.arange(16, dtype="<u2").reshape(4, 4)
    element = DataElement("PixelPaddingValue", "US", 7)
    assert shown(written(stored, BitsStored=12, PixelPaddingValue=element), PNG16).tolist() == naive(
        Grey(12, padding=(7, 7)), stored, 65535
    )
    element = DataElement("PixelPaddingRangeLimit", "US", 7)
    assert shown(written(stored, BitsStored=12, PixelPaddingRangeLimit=element), PNG16).tolist() == naive(
        Grey(12), stored, 65535
    )


def test_padding_of_the_wrong_sign_is_still_padding() -> None:
    stored = np.array([[-2000, 0, 2000]], "<i2")
    element = DataElement("PixelPaddingValue", "US", 65536 - 2000)
    content = written(stored, PhotometricInterpretation="MONOCHROME1", PixelPaddingValue=element)
    assert shown(content, PNG).tolist() == naive(
        Grey(16, True, "MONOCHROME1", padding=(-2000, -2000)), stored, 255
    )


def test_minmax_is_over_what_is_no_padding() -> None:
    stored = np.array([[0, 100, 150], [300, 4000, 4095]], "<u2")
    grey = Grey(12, padding=(4000, 4095))
    content = written(stored, **elements_of(grey))
    rendition = Rendition("x", Format.PNG, window=Window.MINMAX)
    assert shown(content, rendition).tolist() == [[0, 85, 127], [255, 0, 0]]


@pytest.mark.parametrize("grey", [Grey(12), Grey(12, photometric="MONOCHROME1"), Grey(12, padding=(0, 4095))])
def test_minmax_of_one_value(grey: Grey) -> None:
    stored = np.full((2, 2), 77, "<u2")
    content = written(stored, **elements_of(grey))
    expected = 255 if grey.photometric == "MONOCHROME1" else 0
    assert shown(content, Rendition("x", Format.PNG, window=Window.MINMAX)).tolist() == [[expected] * 2] * 2


def test_minmax_of_signed_values() -> None:
    stored = np.array([[-5, 0, 5]], "<i2")
    content = written(stored, BitsStored=12)
    assert shown(content, Rendition("x", Format.PNG, window=Window.MINMAX)).tolist() == [[0, 127, 255]]


def test_a_window_of_a_definition_is_linear_whatever_the_file_says() -> None:
    stored = ramp()
    content = written(stored, BitsStored=12, WindowCenter="9", WindowWidth="9", VOILUTFunction="SIGMOID")
    pixels = shown(content, Rendition("x", Format.PNG, window=(2000.5, 1000.0)))
    assert pixels.tolist() == naive(Grey(12), stored, 255, (2000.5, 1000.0))


@pytest.mark.parametrize("groups", ["SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"])
def test_functional_groups_say_what_the_header_does_not(groups: str) -> None:
    rescale, window, item = Dataset(), Dataset(), Dataset()
    rescale.RescaleSlope, rescale.RescaleIntercept = "2", "-100"
    window.WindowCenter, window.WindowWidth, window.VOILUTFunction = "2000", "3000", "LINEAR_EXACT"
    item.PixelValueTransformationSequence, item.FrameVOILUTSequence = [rescale], [window]
    stored = ramp()
    grey = Grey(12, slope="2", intercept="-100", window=("2000", "3000"), function="LINEAR_EXACT")
    content = written(stored, BitsStored=12, **{groups: [item]})
    assert shown(content, PNG).tolist() == naive(grey, stored, 255)


def test_a_high_bit_that_is_not_the_last_bit_stored() -> None:
    stored = ramp()
    content = written(stored << 4, BitsStored=12, HighBit=15)
    assert shown(content, PNG16).tolist() == naive(Grey(12), stored, 65535)
    assert form_of(content).BitsStored == 12


def test_overlays_in_unused_bits_are_no_values() -> None:
    stored = ramp()
    overlay = (np.arange(64, dtype="<u2").reshape(8, 8) % 16) << 12
    content = written(stored | overlay, BitsStored=12)
    assert shown(content, PNG16).tolist() == naive(Grey(12), stored, 65535)


@settings(max_examples=400)
@given(st.data())
def test_damaged_headers_are_rendered_or_refused(data: st.DataObject) -> None:
    """No error but a PixelError, and never another number of bytes (``rendered`` compares)."""
    content = bytearray(data.draw(st.sampled_from(DAMAGED)))
    begin = content.index(b"MONOCHROME")
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(begin, len(content) - 1))
        content[place] = data.draw(st.sampled_from([0, 255, ord("9"), ord("-"), ord(" ")]) | st.integers(0, 255))
    form = data.draw(DEEP)
    with suppress(PixelError):
        rendered(bytes(content), Rendition("x", form, window=data.draw(st.sampled_from(Window))))
