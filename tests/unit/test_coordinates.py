"""Boxes are where the pixels of a rendition are, and the columns of a table lead back to the image."""

import random
from unittest import mock

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pixel_files import form_of, shown, written
from trees import Tree, build_index

from omidbfs.database.layout import find_source
from omidbfs.exports.coordinates import FOLLOWING, Coordinates, Places
from omidbfs.index.classification import Classification
from omidbfs.index.columns import Index
from omidbfs.pixels import render
from omidbfs.pixels.placement import Region, placement
from omidbfs.pixels.rendition import Box, Format, Longest, Rendition, Window

COUNT = 60


class Sized:
    """An index, which Hypothesis shall not print."""

    def __init__(self, index: Index) -> None:
        self.index = index


@pytest.fixture(scope="module")
def sized(tmp_path_factory: pytest.TempPathFactory) -> Sized:
    """An index of images of many sizes, with the chest wall at the left, at the right, and unknown."""
    chance = random.Random(1)
    study = Tree(tmp_path_factory.mktemp("database")).client().study()
    for number in range(COUNT):
        size = {"Rows": chance.randint(1, 5000), "Columns": chance.randint(1, 5000)}
        side = {"ImageLaterality": chance.choice("LR")} if number % 3 else {}
        study.image(f"1.1.{number:02}", SamplesPerPixel=1, BitsAllocated=16, BitsStored=12, **size, **side)
    return Sized(build_index(find_source(study.of.tree.root), Classification()))


lengths = st.integers(16, 8192)
boxes = st.builds(Box, lengths, lengths)
shares = st.floats(0, 1)


@st.composite
def renditions(draw: st.DrawFn) -> Rendition:
    crops = draw(st.booleans())
    size = draw(boxes if crops else st.one_of(st.none(), st.builds(Longest, lengths), boxes))
    margin = draw(shares) if crops else 0.0
    return Rendition("x", Format.PNG, size, mirrors=draw(st.booleans()), crops=crops, margin=margin)


def part(rows: int, columns: int, some: tuple[float, float, float, float]) -> Region:
    """Return a part of an image, from the shares of its rows and columns at which it begins and ends."""
    (top, bottom), (left, right) = sorted(some[:2]), sorted(some[2:])
    top, left = int(top * (rows - 1)), int(left * (columns - 1))
    return Region(
        top, left, top + 1 + int(bottom * (rows - 1 - top)), left + 1 + int(right * (columns - 1 - left))
    )


thousandths = st.integers(-9_000_000, 9_000_000).map(lambda number: number / 1000)


def places_of(index: Index, rendition: Rendition, some: tuple[float, float, float, float]) -> Places:
    """Return the places of all images. A rendition that crops shows some part of each, but all of every fifth."""

    def breasts(rows: NDArray[np.uint32]) -> NDArray[np.integer]:
        whole = index.matrix[rows].tolist()
        return np.array([part(*size, some) if row % 5 else [0] * 4 for row, size in enumerate(whole)], np.uint16)

    return Coordinates(index, rendition, breasts).of(np.arange(COUNT, dtype=np.uint32))


@settings(max_examples=100)
@given(renditions(), st.tuples(*[thousandths] * 4), st.tuples(*[shares] * 4))
def test_the_columns_of_a_table_lead_back_to_the_image(
    sized: Sized,
    rendition: Rendition,
    box: tuple[float, float, float, float],
    some: tuple[float, float, float, float],
) -> None:
    places = places_of(sized.index, rendition, some)
    x1, y1, x2, y2 = places.boxes(np.tile(np.array(box)[:, None], COUNT))
    assert np.array_equal(x1 <= x2, np.full(COUNT, box[0] <= box[2]))
    # As docs/exports.md says, with nothing but the columns of a table.
    row = {name: getattr(places, name) for name in ("columns", *FOLLOWING)}
    x1, x2 = np.where(row["mirrored"], [row["columns"] - x2, row["columns"] - x1], [x1, x2])
    back = [(x - row["offset_column"]) / row["scale_column"] for x in (x1, x2)]
    down = [(y - row["offset_row"]) / row["scale_row"] for y in (y1, y2)]
    found = np.array([back[0], down[0], back[1], down[1]])
    assert np.abs(found - np.array(box)[:, None]).max() < 0.01


@settings(max_examples=50)
@given(renditions(), st.tuples(*[shares] * 4))
def test_many_images_have_the_places_of_each(
    sized: Sized, rendition: Rendition, some: tuple[float, float, float, float]
) -> None:
    index = sized.index
    places = places_of(index, rendition, some)
    corners = np.array([3.25, -4, 17, 2000.5])
    moved = places.boxes(np.tile(corners[:, None], COUNT)).T
    for row in range(0, COUNT, 7):
        form, side = index.pixel_format(row), index.chest_wall_side(row)
        whole = index.matrix[row].tolist()
        one = placement(form, rendition, side, part(*whole, some) if row % 5 else None)
        wanted = [*sorted(one.column(corners[::2])), *one.row(corners[1::2])]
        assert np.allclose(moved[row, [0, 2, 1, 3]], wanted, rtol=1e-12, atol=1e-9)
        region = one.region
        assert places.limits[:, row].tolist() == [region.left, region.top, region.right, region.bottom]
        assert (places.rows[row], places.columns[row], places.mirrored[row]) == (
            one.rows,
            one.columns,
            one.mirrored,
        )
        assert places.sizes[:, row].tolist() == whole[::-1]


@st.composite
def parts(draw: st.DrawFn, rows: int, columns: int) -> Region:
    top, left = draw(st.integers(0, rows - 1)), draw(st.integers(0, columns - 1))
    return Region(top, left, draw(st.integers(top + 1, rows)), draw(st.integers(left + 1, columns)))


small = st.integers(16, 60)
small_sizes = st.one_of(st.none(), st.builds(Longest, small), st.builds(Box, small, small))


@settings(max_examples=80)
@given(st.data(), small, small, small_sizes, st.booleans(), st.sampled_from(["left", "right", None]))
def test_a_bright_part_of_an_image_is_where_its_box_is(
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
    rows: int,
    columns: int,
    size: Box | Longest | None,
    mirrors: bool,
    side: str | None,
) -> None:
    region = data.draw(parts(rows, columns))
    crop = data.draw(parts(rows, columns)) if isinstance(size, Box) else None
    stored = np.zeros((rows, columns), "<u2")
    stored[region.top : region.bottom, region.left : region.right] = 65535
    content = written(stored)
    rendition = Rendition("x", Format.PNG16, size, Window.STORED, mirrors=mirrors, crops=crop is not None)
    one = placement(form_of(content), rendition, side, crop)
    assume(max(one.scale_row, one.scale_column) <= 1)  # enlarged edges are blurred
    if crop is not None:
        pairs = zip(region, crop, strict=True)
        region = Region(*(max(pair) if at < 2 else min(pair) for at, pair in enumerate(pairs)))
        assume(region.rows > 0)
        assume(region.columns > 0)
    with mock.patch.object(render, "_breast", return_value=crop):
        light = shown(content, rendition, side, tmp_path_factory.mktemp("bright")) / 65535
    assert light.shape == (one.rows, one.columns)
    y1, y2 = one.row(np.array([region.top, region.bottom]))
    x1, x2 = sorted(one.column(np.array([region.left, region.right])))
    for axis, low, high, across in ((0, x1, x2, y2 - y1), (1, y1, y2, x2 - x1)):
        covered = light.sum(axis=axis) / across  # the part of each row or column that is bright
        bright_ones = np.flatnonzero(covered > 0.001)
        first, last = bright_ones[0], bright_ones[-1]
        if first == last:
            assert first - 0.01 <= low < high <= first + 1.01
            assert covered[first] == pytest.approx(high - low, abs=0.01)
        else:
            assert first + 1 - covered[first] == pytest.approx(low, abs=0.01)
            assert last + covered[last] == pytest.approx(high, abs=0.01)
            assert (covered[first + 1 : last] > 0.99).all()
