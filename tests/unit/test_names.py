"""Names on the drive are safe, short and unique, whatever the name of a file is."""

import os
import re
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from omidbfs.base.names import LONGEST, folded, safe_bytes, slug
from omidbfs.facets import RESERVED

NAME_MAX = 255
FLAT_SUFFIX = b"~" + b"d" * 20 + b"~" + b"0" * 16 + b".json"
"""The longest suffix that the drive appends to the name of an image."""

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
    name = safe_bytes(os.fsencode(raw))
    assert re.fullmatch(rb"[A-Za-z0-9._+%-]+", name)
    assert not name.startswith((b".", b"-", b"by-", b"as-", b"not-"))


@given(on_disk | near_the_limit)
def test_a_name_stays_a_file_name_with_everything_that_the_drive_appends(raw: str) -> None:
    assert len(safe_bytes(os.fsencode(raw))) <= LONGEST
    assert len(safe_bytes(os.fsencode(raw)) + FLAT_SUFFIX) <= NAME_MAX


def test_a_name_that_is_too_long_ends_in_digits_that_stand_for_the_whole() -> None:
    first, second = (safe_bytes(os.fsencode("9" * 200 + end)).decode() for end in "12")
    assert re.fullmatch("9{166}%_[0-9a-f]{32}", first)
    assert (len(first), len({first, second})) == (200, 2)
    assert safe_bytes(os.fsencode("9" * 200)) == b"9" * 200
    first, second = (slug("x" * 200 + end) for end in "12")
    assert re.fullmatch("x{183}_[0-9a-f]{16}", first)
    assert (len(first), len({first, second})) == (200, 2)
    assert slug("x" * 200) == "x" * 200


@given(st.lists(on_disk | looks_escaped | near_the_limit, min_size=2, max_size=20, unique=True))
def test_two_names_on_disk_are_two_names_on_the_drive(raws: list[str]) -> None:
    assert len({safe_bytes(os.fsencode(raw)) for raw in raws}) == len(raws)


@given(on_disk | looks_escaped | near_the_limit)
def test_an_escaped_name_is_not_the_name_of_a_file_that_is_really_called_so(raw: str) -> None:
    name = safe_bytes(os.fsencode(raw))
    if name != os.fsencode(raw):
        assert safe_bytes(name) != name


@given(st.from_regex(r"[0-9]{1,20}(\.[0-9]{1,10}){1,8}", fullmatch=True))
def test_a_uid_is_shown_verbatim(uid: str) -> None:
    assert safe_bytes(os.fsencode(uid)) == uid.encode()


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
        ("as-png", b"%61s-png"),
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
    assert safe_bytes(os.fsencode(raw)) == name


any_text = st.text(st.characters(codec=None), max_size=300)
meaningful = st.text("aBé1 -_.,<>≥%(+α−\u0301=\n", max_size=8)
SIGNS = "<>≤≥=≠≈±~()[]{}/\\|%&*×?!#@:;'\"`^$£€°"
MINUS = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d"


def plain(text: str) -> str:
    """The text without differences of spelling, in a second, slow implementation."""
    text = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower())
    text = "".join("-" if one in MINUS else " " if one in "_\0" or one.isspace() else one for one in text)
    text = " ".join(part for part in text.split(" ") if part)
    while text.endswith((".", " ")) and text.strip(". "):
        text = text[:-1]
    for sign in SIGNS:
        text = text.replace(f" {sign}", sign).replace(f"{sign} ", sign)
    return unicodedata.normalize("NFC", "".join(" " if joins(text, i) else one for i, one in enumerate(text)))


def joins(text: str, place: int) -> bool:
    """Whether there is a hyphen between two words, or a blank beside one."""
    if text[place] == " ":
        return True
    before, after = text[:place], text[place + 1 :]
    if text[place] != "-" or before.endswith(" ") != after.startswith(" "):
        return False
    ends = before.rstrip(" ")[-1:], after.lstrip(" ")[:1]
    return all(end.isalnum() or "\u0300" <= end <= "\u036f" for end in ends)


@given(any_text | meaningful)
@example("\ud800")
@example("-.-a")
@example(".-.")
@example("not a")
@example("none")
def test_a_slug_is_a_short_safe_name_that_says_nothing_that_the_drive_understands(text: str) -> None:
    assert re.fullmatch(r"(?!not-)[a-z0-9_+][a-z0-9._+-]*", slug(text))
    assert len(slug(text)) <= LONGEST
    assert slug(text) not in RESERVED


@given(st.lists(any_text | meaningful | st.sampled_from(["not a", "other", "_u3b1_"]), min_size=2, max_size=20))
@example(["<\u0338", "< \u0338", "≮"])
@example(["x" * 200, "x" * 201, "x" * 300, f"{'x' * 300}.", f"{'x' * 300}a"])
@example(["α" * 100, "α" * 101, "β" + "α" * 100])
def test_two_texts_have_one_name_exactly_if_they_differ_in_spelling_only(texts: list[str]) -> None:
    for one in texts:
        for other in texts:
            assert (slug(one) == slug(other)) == (folded(one) == folded(other)), (one, other)


@given(any_text | meaningful)
def test_what_is_mere_spelling(text: str) -> None:
    assert re.sub(" +", " ", folded(text)) == re.sub(" +", " ", plain(text))


WORD = st.text("abCD12é.+", min_size=1, max_size=4).filter(lambda word: word.strip(".+") == word)


@given(st.lists(WORD, min_size=1, max_size=4), st.data())
def test_case_blanks_hyphens_underscores_and_a_full_stop_are_mere_spelling(
    words: list[str], data: st.DataObject
) -> None:
    spelled = words[0]
    for word in words[1:]:
        spelled += data.draw(st.sampled_from([" ", "-", "_", "  ", " - ", "__", "\t", "\u00a0", "–"]))
        spelled += data.draw(st.sampled_from([word, word.upper(), unicodedata.normalize("NFD", word)]))
    spelled = (
        data.draw(st.sampled_from(["", " ", "_"])) + spelled + data.draw(st.sampled_from(["", ".", " ", "_."]))
    )
    assert slug(spelled) == slug(" ".join(words))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Lorad Selenia", "lorad-selenia"),
        (" Senographe  DS_ADS_43.10.1 ", "senographe-ds-ads-43.10.1"),
        ("DS/ADS", "ds_slash_ads"),
        ("Mammomat Größe", "mammomat-gro_diaeresis__eszett_e"),
        ("../../etc/passwd", "_dot_._slash_.._slash_etc_slash_passwd"),
        ("HOLOGIC, Inc.", "hologic_comma_-inc"),
        ("L30+", "l30+"),
        ("<50 mm", "_less_50-mm"),
        ("≥ 50 mm", "_at-least_50-mm"),
        ("-1.5", "_minus_1.5"),
        ("−1.5", "_minus_1.5"),
        (".5", "_dot_5"),
        ("ER+", "er+"),
        ("ER-", "er_minus_"),
        ("ER", "er"),
        ("ER- PR+", "er_minus_-pr+"),
        ("grade α", "grade-_alpha_"),
        ("grade β", "grade-_beta_"),
        ("(B)", "_open_b_close_"),
        ("5–10", "5-10"),
        ("1,5", "1_comma_5"),
        ("1, 5", "1_comma_-5"),
        ("乳房", "_u4e73__u623f_"),
        ("_u4e73__u623f_", "u4e73-u623f"),
        ("Unknown", "_unknown"),
        ("none.", "_none"),
        ("Not seen", "_not-seen"),
        ("nothing", "nothing"),
        ("_", "_blank_"),
        ("blank", "blank"),
    ],
)
def test_free_text_becomes_a_slug(text: str, name: str) -> None:
    assert slug(text) == name


def test_accents_without_end_have_a_name_soon() -> None:
    endless = "a" + "\u0301\u0327" * 500_000  # Unicode sorts the accents, which would take hours for all of them
    names = {slug(endless), slug(f"{endless}b"), slug(f"{endless}B")}
    assert len(names) == 3, "so far behind the beginning upper and lower case are two texts"
    assert slug(f"A {endless}") == slug(f"a_{endless}")
    assert {len(name) for name in names} <= set(range(LONGEST + 1))
