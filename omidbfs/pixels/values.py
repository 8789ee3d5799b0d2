"""The grey transformation (PS3.4, N.2) from stored values to values for display, as one table per file.

``render`` uses it. Pure functions: any thread may call them. A stored value has at most 16 bits, so the table has
an entry for each, and all arithmetic is exact: ratios of whole numbers, and one ``floor`` at the end. Only the
sigmoid needs floating point. With v a stored value, x the output of the modality LUT, and ``peak`` the largest
value for display, the steps are:

1. Modality (PS3.3, C.11.1): the first item of ModalityLUTSequence, else x = RescaleSlope v + RescaleIntercept.
2. Values of interest (C.11.2): the first item of VOILUTSequence, else the first window, else all bits stored.
   A ramp from ``low`` to ``high`` is y = 0 for x <= low, y = peak for x > high, and between them
   y = peak (x - low) / (high - low). A window with centre c and width w is

   - LINEAR: the ramp from c - 1/2 - (w - 1)/2 to c - 1/2 + (w - 1)/2, with w >= 1 (C.11.2.1.2.1);
   - LINEAR_EXACT: the ramp from c - w/2 to c + w/2, with w > 0 (C.11.2.1.3.2);
   - SIGMOID: y = peak / (1 + exp(-4 (x - c) / w)), with w > 0 (C.11.2.1.3.1).

   An entry d of a LUT of n bits is y = peak d / (2^n - 1).
3. Presentation (C.11.4, C.11.6): y becomes peak - y where the shape is INVERSE, or where no shape is stated and
   the image is MONOCHROME1.

The value for display is floor(y). Padding (C.7.5.1.1.2) is 0.
"""

import math
from collections.abc import Iterator, Sized
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from omidbfs.database.pixel_format import PixelFormat
from omidbfs.pixels.errors import PixelError
from omidbfs.pixels.rendition import Rendition, Window

_RESCALE = ("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept")
_VOI = ("VOILUTSequence", "WindowCenter", "WindowWidth")
_SAFE = 1 << 62
"""Whole numbers below it stay whole numbers of 64 bits."""
_LARGEST = 1e18
"""Larger numbers, and fractions that are smaller than its inverse, are no values of a mammogram."""
_LONGEST = 64
"""Characters of a number; DICOM allows 16."""
_LARGEST_EXPONENT = 700.0


@dataclass(frozen=True, slots=True)
class _Outputs:
    """Outputs of the modality LUT: ``slope * numbers + intercept``, one for each stored value.

    ``smallest`` and ``largest`` limit what it can put out.
    """

    numbers: NDArray[np.int64]
    slope: Fraction
    intercept: Fraction
    smallest: Fraction
    largest: Fraction

    def of(self, place: int) -> Fraction:
        """Return the output at a place in the table."""
        return self.slope * int(self.numbers[place]) + self.intercept

    def line(self, factor: Fraction, offset: Fraction) -> tuple[NDArray[Any], int]:
        """Return numerators and the denominator of ``factor * (x - offset)`` for all outputs x."""
        slope, constant = factor * self.slope, factor * (self.intercept - offset)
        denominator = math.lcm(slope.denominator, constant.denominator)
        first, second = int(slope * denominator), int(constant * denominator)
        numbers: NDArray[Any] = self.numbers
        if max(abs(first) << 17, abs(second), denominator) * 2 >= _SAFE:
            numbers = numbers.astype(object)
        return numbers * first + second, denominator


@dataclass(frozen=True, slots=True)
class _LUT:
    """A lookup table: its first input, its entries, and the largest value that an entry can have."""

    first: int
    entries: NDArray[np.int64]
    largest: int

    def of(self, inputs: NDArray[Any]) -> NDArray[np.int64]:
        """Return the entries for inputs; those outside the table get its first or last entry."""
        places = np.clip(inputs - self.first, 0, len(self.entries) - 1)
        entries: NDArray[np.int64] = self.entries[places.astype(np.int64)]
        return entries


def table(
    header: Dataset,
    form: PixelFormat,
    rendition: Rendition,
    peak: int,
    limits: tuple[int, int] | None = None,
) -> NDArray[np.uint16]:
    """Return the value for display, 0 to ``peak``, of each stored value.

    Parameters
    ----------
    header
        The attributes of groups 0028 and 2050, and functional groups.
    form
        How the file says that pixels are stored: one sample of 8 to 16 bits.
    rendition
        Its ``window``, which is not ``None``, and ``inverts`` count.
    peak
        255 or 65535.
    limits
        The :func:`extent` of the image, which counts for :attr:`Window.MINMAX`.

    Returns
    -------
    NDArray[np.uint16]
        2^BitsStored entries. That of a stored value v is at v modulo their number.

    Raises
    ------
    PixelError
        The header states a transformation that has no meaning.
    """
    stored = _stored_values(form)
    outputs = _modality(header, form, stored)
    inverts = rendition.inverts and is_inverted(form)
    window = rendition.window
    if isinstance(window, tuple):
        centre, width = (_exact(number) for number in window)
        result = _windowed(outputs, "LINEAR", centre, width, peak, inverts)
    elif window is Window.MINMAX:
        # Without limits all is padding, and any ramp does.
        low, high = sorted(outputs.of(end % len(stored)) for end in limits or (0, 0))
        result = _ramp(outputs, low, high, peak, inverts)
    elif window is Window.STORED:
        result = _ramp(outputs, outputs.smallest, outputs.largest, peak, inverts)
    else:
        result = _of_interest(header, form, outputs, peak, inverts)
    pad = padding(header, form)
    if pad is not None:
        result[(stored >= pad[0]) & (stored <= pad[1])] = 0
    return result


def is_inverted(form: PixelFormat) -> bool:
    """Return whether the largest value is the darkest: by the presentation LUT shape, else for MONOCHROME1."""
    shape = (form.PresentationLUTShape or "").strip().upper()
    if shape in ("IDENTITY", "INVERSE"):
        return shape == "INVERSE"
    return form.PhotometricInterpretation == "MONOCHROME1"


def is_darker_upwards(header: Dataset, form: PixelFormat) -> bool:
    """Return whether the largest stored value is displayed as the darkest, by modality and presentation.

    Raises
    ------
    PixelError
        The modality LUT or the rescaling is damaged.
    """
    stored = _stored_values(form)
    ends = _modality(header, form, np.array([stored.min(), stored.max()]))
    return is_inverted(form) != (ends.of(0) > ends.of(1))


def padding(header: Dataset, form: PixelFormat) -> tuple[int, int] | None:
    """Return the smallest and the largest stored value that is padding (C.7.5.1.1.2); ``None`` if none is.

    Both have the sign of the pixels.
    """
    ends = [_value(header, keyword) for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    if not isinstance(ends[0], int):
        return None
    allocated = form.BitsAllocated or 16
    words = np.array([end & ((1 << allocated) - 1) for end in ends if isinstance(end, int)])
    values = _signed(words, allocated) if form.PixelRepresentation else words
    return int(values.min()), int(values.max())


def extent(header: Dataset, form: PixelFormat, stored: NDArray[Any]) -> tuple[int, int] | None:
    """Return the smallest and the largest stored value of an image that is no padding; ``None`` if all are."""
    pad = padding(header, form)
    if pad is None:
        return int(stored.min()), int(stored.max())
    ends: list[int] = []
    for row in stored:
        kept = row[(row < pad[0]) | (row > pad[1])]
        if kept.size:
            ends += (int(kept.min()), int(kept.max()))
    return (min(ends), max(ends)) if ends else None


def _bits(form: PixelFormat) -> int:
    assert form.BitsStored, "the format of a file is known"
    return form.BitsStored


def _stored_values(form: PixelFormat) -> NDArray[np.int64]:
    values = np.arange(1 << _bits(form))
    return _signed(values, _bits(form)) if form.PixelRepresentation else values


def _signed(words: NDArray[np.int64], bits: int) -> NDArray[np.int64]:
    sign = 1 << bits - 1
    return (words ^ sign) - sign


def _modality(header: Dataset, form: PixelFormat, stored: NDArray[np.int64]) -> _Outputs:
    place = _stating(header, "PixelValueTransformationSequence", _RESCALE)
    item = _first_item(place, "ModalityLUTSequence")
    if item is not None:
        lut = _lut(item, header, is_signed=bool(form.PixelRepresentation))
        return _Outputs(lut.of(stored), Fraction(1), Fraction(0), Fraction(0), Fraction(lut.largest))
    slope, intercept = _number(place, "RescaleSlope"), _number(place, "RescaleIntercept")
    slope, intercept = Fraction(1) if slope is None else slope, Fraction(0) if intercept is None else intercept
    if not slope:
        raise PixelError("the rescale slope is 0")
    ends = sorted(slope * int(end) + intercept for end in (stored.min(), stored.max()))
    return _Outputs(stored, slope, intercept, *ends)


def _of_interest(
    header: Dataset, form: PixelFormat, outputs: _Outputs, peak: int, inverts: bool
) -> NDArray[np.uint16]:
    place = _stating(header, "FrameVOILUTSequence", _VOI)
    item = _first_item(place, "VOILUTSequence")
    if item is not None:
        lut = _lut(item, header, is_signed=outputs.smallest < 0)  # C.11.2.1.1
        numerators, denominator = outputs.line(Fraction(1), Fraction(0))
        return _floor(lut.of(numerators // denominator) * peak, lut.largest, peak, inverts)
    centre, width = _number(place, "WindowCenter"), _number(place, "WindowWidth")
    if centre is None and width is None:
        return _ramp(outputs, outputs.smallest, outputs.largest, peak, inverts)
    if centre is None or width is None:
        raise PixelError("a window without a centre or a width")
    function = _value(place, "VOILUTFunction")
    return _windowed(outputs, str(function or "LINEAR").strip().upper(), centre, width, peak, inverts)


def _windowed(
    outputs: _Outputs, function: str, centre: Fraction, width: Fraction, peak: int, inverts: bool
) -> NDArray[np.uint16]:
    if width < 1 if function == "LINEAR" else width <= 0:
        raise PixelError("the window width is too small")
    if function == "LINEAR":
        low = centre - Fraction(1, 2) - (width - 1) / 2
        return _ramp(outputs, low, low + width - 1, peak, inverts)
    if function == "LINEAR_EXACT":
        return _ramp(outputs, centre - width / 2, centre + width / 2, peak, inverts)
    if function != "SIGMOID":
        raise PixelError("an unknown VOI LUT function")
    numerators, denominator = outputs.line(-4 / width, centre)
    exponents = np.minimum((numerators / denominator).astype(float), _LARGEST_EXPONENT)
    # Not np.exp, whose last bit depends on the processor.
    y = peak / (1 + np.array([math.exp(exponent) for exponent in exponents.tolist()]))
    return np.floor(peak - y if inverts else y).astype(np.uint16)


def _ramp(outputs: _Outputs, low: Fraction, high: Fraction, peak: int, inverts: bool) -> NDArray[np.uint16]:
    if low == high:
        numerators, _ = outputs.line(Fraction(1), low)
        return _floor((numerators > 0).astype(np.int64) * peak, 1, peak, inverts)
    return _floor(*outputs.line(peak / (high - low), low), peak, inverts)


def _floor(numerators: NDArray[Any], denominator: int, peak: int, inverts: bool) -> NDArray[np.uint16]:
    """Return floor(y), or floor(peak - y), for ratios that are limited to 0 to peak."""
    # The numerators of a ramp are below 2^62, and so may be the denominator: the product needs more.
    limit = peak * denominator
    limited = np.clip(numerators if limit < _SAFE else numerators.astype(object), 0, limit)
    result: NDArray[np.uint16] = ((limit - limited if inverts else limited) // denominator).astype(np.uint16)
    return result


def _lut(item: Dataset, header: Dataset, is_signed: bool) -> _LUT:
    """Return a LUT (C.11.1.1, C.11.2.1.1), whichever value representations it has."""
    descriptor = _value(item, "LUTDescriptor")
    data = _value(item, "LUTData")
    try:
        count, first, bits = (int(number) & 0xFFFF for number in descriptor)
    except (TypeError, ValueError):
        raise PixelError("a LUT without a descriptor") from None
    count = count or 1 << 16
    if not 1 <= bits <= 16:
        raise PixelError("a LUT of an impossible number of bits")
    if first >> 15 and is_signed:
        first -= 1 << 16
    entries = _entries(data, count, bits, item)
    if entries.max() >> bits:
        raise PixelError("a LUT with larger entries than it says")
    return _LUT(first, entries, (1 << bits) - 1)


def _entries(data: Any, count: int, bits: int, item: Dataset) -> NDArray[np.int64]:
    if isinstance(data, int):
        data = [data]
    if isinstance(data, bytes):
        is_little = item.original_encoding[1] is not False
        words = np.frombuffer(data[: len(data) // 2 * 2], "<u2" if is_little else ">u2")
    else:
        try:
            words = np.array([int(number) & 0xFFFF for number in data or ()], "<u2")
        except (TypeError, ValueError):
            raise PixelError("a LUT without data") from None
    if len(words) < count and bits <= 8:  # two entries in a word, the first in its low byte (PS3.5, 8.2)
        words = words.astype("<u2").view("u1")
    if len(words) < count:
        raise PixelError("a LUT that is cut off")
    return words[:count].astype(np.int64)


def _stating(header: Dataset, group: str, keywords: tuple[str, ...]) -> Dataset:
    """Return the dataset that states one of some attributes: the header, or a functional group (C.7.6.16)."""
    for place in _places(header, group):
        if any(_is_stated(_value(place, keyword)) for keyword in keywords):
            return place
    return header


def _places(header: Dataset, group: str) -> Iterator[Dataset]:
    yield header
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        item = _first_item(header, groups)
        if item is not None and (found := _first_item(item, group)) is not None:
            yield found


def _is_stated(value: Any) -> bool:
    return value is not None and value != "" and not (isinstance(value, Sized) and not len(value))


def _first_item(place: Dataset, keyword: str) -> Dataset | None:
    items = _value(place, keyword)
    try:
        return items[0] if items else None
    except (TypeError, IndexError):
        return None


def _number(place: Dataset, keyword: str) -> Fraction | None:
    """Return the first value of an attribute exactly as its text says; ``None`` if it has none."""
    value = _value(place, keyword)
    if value is not None and not isinstance(value, str | int | float):
        value = value[0] if len(value) else None
    return None if value is None or not str(value).strip() else _exact(value)


def _exact(value: Any) -> Fraction:
    text = str(value).strip()
    try:
        size = abs(float(text))
        if len(text) > _LONGEST or (size and not 1 / _LARGEST <= size <= _LARGEST):
            raise ValueError
        return Fraction(text)
    except (ValueError, TypeError, OverflowError):
        raise PixelError("a rescale or window value that is no number") from None


def _value(place: Dataset, keyword: str) -> Any:
    try:
        return place.get(keyword)
    except Exception:  # pydicom raises nearly anything on damaged input
        raise PixelError("an attribute of the values is damaged") from None
