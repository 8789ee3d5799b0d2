"""The facet ``latest-of-view``: one image of each side, view and intent of a study."""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trees import Tree, sidecar

from omidbfs.cohorts.cohort import EVERYTHING, Cohorts
from omidbfs.database.header import Header
from omidbfs.database.layout import find_source
from omidbfs.database.study import ImageRecord
from omidbfs.facets import BY_NAME
from omidbfs.facets.latest import _latest_of_study, moment
from omidbfs.index.build import refreshed
from omidbfs.index.columns import Index

FACET = BY_NAME["latest-of-view"]
DATE_TIME, DATE, TIME, CONTENT_DATE, CONTENT_TIME = "0008002A", "00080022", "00080032", "00080023", "00080033"
NUMBER = "00200013"
MLO = {"ViewPosition": "MLO", "ImageLaterality": "L", "PresentationIntentType": "FOR PRESENTATION"}


@pytest.fixture
def values(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Return the value of each image of one study, given by what their sidecars state besides the view."""

    def found(*images: dict[str, Any], **others: dict[str, str]) -> dict[str, str]:
        study = Tree(tmp_path / "db").client().study("1.1")
        for number, said in enumerate(images, 1):
            header = {**sidecar(**{**MLO, **others.get(f"i{number}", {})})}
            header |= {tag: {"vr": "XX", "Value": [value]} for tag, value in said.items()}
            study.image(f"1.1.{number}", header=header)
        index = refreshed(find_source(tmp_path / "db"))
        return dict(zip(map(bytes.decode, index.images), labels(index), strict=True))

    return found


def labels(index: Index) -> list[str]:
    cohorts = Cohorts(index)
    return [cohorts.label(FACET, index.codes_of(FACET.name, row)[0]) for row in range(len(index))]


@pytest.mark.parametrize(
    ("images", "latest"),
    [
        ([{}], 1),
        ([{TIME: "101500"}, {TIME: "101459.9"}], 1),
        ([{DATE: "20120501", TIME: "235959"}, {DATE: "20120502", TIME: "000001"}], 2),
        ([{DATE_TIME: "20120501101501.5+0100"}, {DATE: "20120501", TIME: "101501.4"}], 1),
        ([{CONTENT_DATE: "20120501", CONTENT_TIME: "1016"}, {DATE: "2012-05-01", TIME: "10:15:30"}], 1),
        ([{TIME: "nonsense", CONTENT_TIME: "09"}, {TIME: "", NUMBER: 7}], 1),
        ([{TIME: "101500", NUMBER: 9}, {TIME: "101500", NUMBER: "10"}], 2),
        ([{NUMBER: 2.0}, {NUMBER: "x"}, {}], 1),
        ([{}, {}, {}], 3),
    ],
)
def test_the_latest_image_of_a_view_is_one(
    values: Callable[..., dict[str, str]], images: list[dict[str, Any]], latest: int
) -> None:
    found = values(*images)
    assert [name for name, value in found.items() if value == "yes"] == [f"1.1.{latest}"]
    assert set(found.values()) <= {"yes", "no"}


def test_each_side_view_and_intent_has_its_own_latest_image(values: Callable[..., dict[str, str]]) -> None:
    found = values(
        {TIME: "1000"},
        {TIME: "1001"},
        {TIME: "0900"},
        {TIME: "0901"},
        {TIME: "0902"},
        {TIME: "0903"},
        {TIME: "0904"},
        i3={"ImageLaterality": "R"},
        i4={"ViewPosition": "CC"},
        i5={"PresentationIntentType": "FOR PROCESSING"},
        i6={"ViewPosition": "somewhere"},
        i7={"ImageLaterality": "X"},
    )
    expected = ["no", "yes", "yes", "yes", "yes", "unknown", "unknown"]
    assert list(found.values()) == expected


def test_the_demo_has_one_latest_image_of_each_view(demo_database: Path) -> None:
    index = refreshed(find_source(demo_database))
    cohorts = Cohorts(index)
    groups: defaultdict[tuple[Any, ...], list[str]] = defaultdict(list)
    for row, value in enumerate(labels(index)):
        place = tuple(index.codes_of(name, row) for name in ("laterality", "view", "intent"))
        groups[int(index.study_of[row]), place].append(value)
    assert {tuple(sorted(set(values))) for values in groups.values()} == {("yes",), ("no", "yes")}
    assert all(values.count("yes") == 1 for values in groups.values())
    assert dict(cohorts.counts(EVERYTHING, FACET))["yes"] == len(groups)


headers = st.builds(
    Header,
    PresentationIntentType=st.sampled_from([None, "FOR PRESENTATION"]),
    ImageLaterality=st.sampled_from(["L", "R", None]),
    ViewPosition=st.sampled_from(["CC", "MLO", None]),
    AcquisitionTime=st.sampled_from([None, "10", "1001", "100100.25", "x"]),
    ContentDate=st.sampled_from([None, "20120501", "2012"]),
    InstanceNumber=st.sampled_from([None, 1.0, 2.0]),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(headers, max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_images_does_not_matter(said: list[Header], random: Any) -> None:
    images = [ImageRecord(f"1.{n}", None, None, ".json", header, None) for n, header in enumerate(said)]
    found = _latest_of_study(tuple(images))
    shuffled = random.sample(images, len(images))
    assert _latest_of_study(tuple(shuffled)) == found
    known = [one for one in images if one.header.ImageLaterality and one.header.ViewPosition]
    assert found.keys() == {one.name for one in known}
    for one in known:
        alike = [
            other
            for other in known
            if all(
                getattr(other.header, name) == getattr(one.header, name)
                for name in ("PresentationIntentType", "ImageLaterality", "ViewPosition")
            )
        ]
        later = [
            other
            for other in alike
            if (moment(other.header), other.header.InstanceNumber or 0, other.name)
            > (moment(one.header), one.header.InstanceNumber or 0, one.name)
        ]
        assert found[one.name] == (not later)
