"""Coordinates of the image go to a rendition and back, and lead to the pixels that are there."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from omidbfs.database.pixel_format import PixelFormat
from omidbfs.pixels.placement import Placement, Region, placement
from omidbfs.pixels.rendition import Box, Configured, Format, Longest, Rendition
from omidbfs.pixels.scale import framed, scaled

sides = st.sampled_from(["left", "right", None])
lengths = st.integers(1, 400)
sizes = st.one_of(
    st.none(), st.builds(Box, st.integers(16, 300), st.integers(16, 300)), st.builds(Longest, st.integers(16, 300))
)


@st.composite
def placements(draw: st.DrawFn) -> Placement:
    rows, columns = draw(lengths), draw(lengths)
    top, left = draw(st.integers(0, rows - 1)), draw(st.integers(0, columns - 1))
    box = Region(top, left, draw(st.integers(top + 1, rows)), draw(st.integers(left + 1, columns)))
    size = draw(sizes)
    rendition = Rendition(
        "r",
        Format.PNG,
        size,
        mirrors=draw(st.booleans()),
        crops=isinstance(size, Box) and draw(st.booleans()),
        margin=draw(st.floats(0, 1)),
    )
    form = PixelFormat(Rows=rows, Columns=columns)
    return placement(form, rendition, draw(sides), draw(st.sampled_from([box, None])))


@given(placements(), st.floats(-50, 500), st.floats(-50, 500))
def test_coordinates_go_there_and_back(place: Placement, row: float, column: float) -> None:
    assert abs(float(place.image_row(place.row(np.float64(row)))) - row) < 0.01
    assert abs(float(place.image_column(place.column(np.float64(column)))) - column) < 0.01


@given(placements())
def test_the_edges_of_what_is_shown_are_the_edges_of_what_stands_in_the_frame(place: Placement) -> None:
    region = place.region
    edges = place.row(np.array([region.top, region.bottom], float))
    np.testing.assert_allclose(edges, [place.top, place.top + place.inner_rows], atol=1e-6)
    ends = sorted(place.column(np.array([region.left, region.right], float)).tolist())
    np.testing.assert_allclose(ends, [place.left, place.left + place.inner_columns], atol=1e-6)


@given(placements(), st.data())
def test_a_bright_square_is_where_the_coordinates_say(place: Placement, data: st.DataObject) -> None:
    region = place.region
    row = data.draw(st.integers(region.top, region.bottom - 1))
    column = data.draw(st.integers(region.left, region.right - 1))
    image = np.zeros((place.image_rows, place.image_columns), "<u2")
    image[row, column] = 65535
    cut = scaled(
        image[region.top : region.bottom, region.left : region.right], place.inner_rows, place.inner_columns
    )
    shown = framed(cut[:, ::-1] if place.mirrored else cut, place.rows, place.columns, place.top, place.left)
    total = shown.sum()
    if total < 1000:  # scaled down so far that rounding counts
        return
    # The centre of the brightness is the centre of the pixel, but at an edge, where interpolation has one side.
    spread = max(1.0, place.scale_row, place.scale_column)
    down, across = (np.arange(count) + 0.5 for count in shown.shape)
    assert abs((shown.sum(1) * down).sum() / total - float(place.row(np.float64(row + 0.5)))) < spread
    assert abs((shown.sum(0) * across).sum() / total - float(place.column(np.float64(column + 0.5)))) < spread


def test_a_margin_is_a_share_of_the_longer_side_and_ends_with_the_image() -> None:
    rendition = replace(Rendition("r", Format.PNG, Box(64, 64)), crops=True, margin=0.1)
    place = placement(PixelFormat(Rows=100, Columns=80), rendition, "left", Region(5, 0, 95, 40))
    assert place.region == Region(0, 0, 100, 49)


def test_a_name_with_crop_needs_rows_and_columns_and_ends_with_it() -> None:
    named = Configured().named
    found = named("png16-64x48-crop")
    assert found is not None
    assert (found.size, found.crops, found.margin) == (Box(64, 48), True, 0)
    for name in ("png-crop", "png-64-crop", "png-crop-64x48", "png-64x48-crop-crop", "npy-64x48-crop"):
        assert named(name) is None
    plain = named("png16-64x48")
    assert plain is not None
    assert plain.text != found.text
    assert replace(found, margin=0.1).text != found.text
