"""Scaled images are exact means and interpolations, and stand in their frame where the chest wall is."""

from fractions import Fraction

import naive_pixels as naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pixel_files import shown, written

from omidbfs.pixels import scale
from omidbfs.pixels.rendition import Box, Format, Longest, Rendition
from omidbfs.pixels.sizes import scaled as size_in_index

counts = st.integers(1, 40)


@settings(max_examples=150)
@given(counts, counts, counts, counts, st.sampled_from(["u1", "<u2"]), st.integers(0, 2**32))
def test_scaling_is_that_of_the_formulas(
    rows: int, columns: int, new_rows: int, new_columns: int, words: str, seed: int
) -> None:
    image = np.random.default_rng(seed).integers(0, np.iinfo(words).max, (rows, columns), words, endpoint=True)
    result = scale.scaled(image, new_rows, new_columns)
    assert result.dtype == image.dtype
    assert result.tolist() == naive.scaled(image.tolist(), new_rows, new_columns)


@pytest.mark.parametrize("new", [(3, 5), (60, 81), (9, 61), (61, 70), (200, 130), (2, 200)])
def test_bands_meet(monkeypatch: pytest.MonkeyPatch, new: tuple[int, int]) -> None:
    monkeypatch.setattr(scale, "_PRODUCT", 1 << 11)
    monkeypatch.setattr(scale, "_WIDTH", 7)
    image = np.random.default_rng(0).integers(0, 65536, (61, 70)).astype("<u2")
    assert scale.scaled(image, *new).tolist() == naive.scaled(image.tolist(), *new)


def test_means_of_large_images_are_exact() -> None:
    # 65535 rows of 65535, but for one: the sum is just below a whole number of the mean.
    image = np.full((65535, 3), 65535, "<u2")
    assert scale.scaled(image, 1, 1).tolist() == [[65535]]
    image[4321, 1] -= 1
    assert scale.scaled(image, 1, 1).tolist() == [[65534]]


def test_every_sample_is_scaled_by_itself() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype("u1")
    result = scale.scaled(image, 7, 45)
    for sample in range(3):
        assert result[..., sample].tolist() == naive.scaled(image[..., sample].tolist(), 7, 45)


@given(st.integers(1, 9000), st.integers(1, 9000), st.integers(16, 8192), st.integers(16, 8192))
def test_sizes_are_rounded_half_up_and_at_least_1(rows: int, columns: int, one: int, other: int) -> None:
    fits = min(Fraction(one, rows), Fraction(other, columns))
    assert scale.inner_size(Box(one, other), rows, columns) == naive.size(rows, columns, fits)
    longest = min(Fraction(1), Fraction(one, max(rows, columns)))
    assert scale.inner_size(Longest(one), rows, columns) == naive.size(rows, columns, longest)
    assert size_in_index(Longest(one), rows, columns) == naive.size(rows, columns, longest)
    assert scale.inner_size(None, rows, columns) == (rows, columns)


def test_a_box_enlarges_and_a_longest_side_does_not() -> None:
    assert scale.inner_size(Box(100, 100), 10, 20) == (50, 100)
    assert scale.inner_size(Longest(100), 10, 20) == (10, 20)


@pytest.mark.parametrize("form", [Format.PNG, Format.PNG16, Format.TIFF, Format.NPY])
@pytest.mark.parametrize("side", ["left", "right", None])
@pytest.mark.parametrize("mirrors", [False, True])
@pytest.mark.parametrize("box", [(21, 40), (40, 21), (16, 16)])
def test_an_image_is_anchored_to_the_chest_wall(
    form: Format, side: str | None, mirrors: bool, box: tuple[int, int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    stored = np.random.default_rng(0).integers(0, 65536, (12, 12)).astype("<u2")
    rendition = Rendition("x", form, Box(*box), mirrors=mirrors)
    peak = 255 if form is Format.PNG else 65535
    scratch = tmp_path_factory.mktemp("scaled")
    image = naive.scaled(naive.shown(naive.Grey(16), stored, peak), min(box), min(box))
    stands = side
    if mirrors and side == "right":
        image, stands = [row[::-1] for row in image], "left"
    result = shown(written(stored), rendition, side, scratch)
    assert result.tolist() == naive.framed(image, *box, stands)


@pytest.mark.parametrize("side", ["left", "right", None])
def test_only_images_with_the_chest_wall_at_the_right_are_mirrored(side: str | None) -> None:
    stored = np.arange(30, dtype="u1").reshape(5, 6)
    result = shown(written(stored), Rendition("x", Format.PNG, mirrors=True), side)
    assert result.tolist() == (stored[:, ::-1] if side == "right" else stored).tolist()


def test_what_is_added_is_dark_also_where_values_are_inverted() -> None:
    content = written(np.zeros((4, 2), "u1"), PhotometricInterpretation="MONOCHROME1")
    result = shown(content, Rendition("x", Format.PNG, Box(16, 16)), "right")
    assert result[:, 8:].min() == 255
    assert result[:, :8].max() == 0
