"""Names on the drive: whatever a file is called, its name there is safe, short, and nobody else's."""

import os
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from omidbfs.names import LONGEST, safe_name, slug

NAME_MAX = 255
FLAT_SUFFIX = b"~" + b"d" * 20 + b"~" + b"0" * 16 + b".json"
"""The longest that the drive appends to the name of an image."""

on_disk = (
    st.binary(min_size=1, max_size=NAME_MAX).filter(lambda name: not {0, ord("/")} & set(name)).map(os.fsdecode)
)
looks_escaped = st.text("%_-.by2ED not", min_size=1, max_size=8)
near_the_limit = st.builds(
    lambda letter, length, tail: letter * length + tail,
    st.sampled_from("1.%~"),
    st.integers(60, 210),
    st.text("1%_~", max_size=4),
)


@given(on_disk | looks_escaped | near_the_limit)
@example("..")
@example("a" * NAME_MAX)
def test_a_name_is_made_of_safe_characters_and_says_nothing_that_the_drive_understands(raw: str) -> None:
    name = safe_name(raw)
    assert re.fullmatch(rb"[A-Za-z0-9._+%-]+", name)
    assert not name.startswith((b".", b"-", b"by-", b"not-"))


@given(on_disk | near_the_limit)
def test_a_name_stays_a_file_name_with_everything_that_the_drive_appends(raw: str) -> None:
    assert len(safe_name(raw)) <= LONGEST
    assert len(safe_name(raw) + FLAT_SUFFIX) <= NAME_MAX


@given(st.lists(on_disk | looks_escaped | near_the_limit, min_size=2, max_size=20, unique=True))
def test_two_names_on_disk_are_two_names_on_the_drive(raws: list[str]) -> None:
    assert len({safe_name(raw) for raw in raws}) == len(raws)


@given(on_disk | looks_escaped | near_the_limit)
def test_an_escaped_name_is_not_the_name_of_a_file_that_is_really_called_so(raw: str) -> None:
    name = safe_name(raw)
    if name != os.fsencode(raw):
        assert safe_name(os.fsdecode(name)) != name


@given(st.from_regex(r"[0-9]{1,20}(\.[0-9]{1,10}){1,8}", fullmatch=True))
def test_a_uid_is_shown_verbatim(uid: str) -> None:
    assert safe_name(uid) == uid.encode()


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("with space", b"with%20space"),
        ("50%", b"50%25"),
        ("a,b", b"a%2Cb"),
        ("a~b", b"a%7Eb"),
        (".hidden", b"%2Ehidden"),
        ("-rf", b"%2Drf"),
        ("by-view", b"%62y-view"),
        ("not-CC", b"%6Eot-CC"),
        ("nothing", b"nothing"),
        ("nbss_1.json", b"%6Ebss_1.json"),
        ("NBSS_1.json", b"%4EBSS_1.json"),
        ("imagedb_1.json", b"%69magedb_1.json"),
        ("IMAGEDB_1.json", b"%49MAGEDB_1.json"),
        ("Nbss_1", b"Nbss_1"),
        ("ü", b"%C3%BC"),
        (os.fsdecode(b"\xff"), b"%FF"),
        ("new\nline", b"new%0Aline"),
    ],
)
def test_what_is_not_safe_is_percent_escaped(raw: str, name: bytes) -> None:
    assert safe_name(raw) == name


@given(st.text(st.characters(codec=None), max_size=300))
@example("\ud800")
@example("-.-a")
@example(".-.")
def test_a_slug_is_a_short_safe_lower_case_name(text: str) -> None:
    assert re.fullmatch(r"[a-z0-9_+][a-z0-9._+-]*", slug(text))
    assert len(slug(text)) <= LONGEST


@given(st.text(max_size=300))
def test_a_slug_is_its_own_slug(text: str) -> None:
    assert slug(slug(text)) == slug(text)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Lorad Selenia", "lorad-selenia"),
        (" Senographe  DS/ADS_43.10.1 ", "senographe-ds-ads_43.10.1"),
        ("Mammomat Größe", "mammomat-groe"),
        ("../../etc/passwd", "etc-passwd"),
        ("L30+", "l30+"),
    ],
)
def test_free_text_becomes_a_slug(text: str, name: str) -> None:
    assert slug(text) == name


def test_texts_without_a_plain_character_are_told_apart() -> None:
    assert slug("乳房") != slug("乳癌")
    assert slug("乳房").startswith("text-")


def test_long_texts_that_start_alike_are_told_apart() -> None:
    assert slug("x" * 300 + "a") != slug("x" * 300 + "b")
