"""``[renditions.NAME]`` in the configuration: what it means, and what is refused, with file, line and remedy."""

import os
from pathlib import Path

import pytest

from omidbfs.base.errors import UserError
from omidbfs.pixels.rendition import Box, Configured, Format, Longest, Rendition, Window
from omidbfs.serving.configuration import Definitions, read_config, read_definitions


def read(directory: Path, text: str) -> Configured:
    """Return the renditions of a configuration with a text."""
    path = directory / "omidbfs.toml"
    path.write_text(text)
    assert read_config(path, {"ls": set()}) == {"ls": {}}
    return read_definitions(path).renditions


@pytest.mark.parametrize(
    ("table", "rendition"),
    [
        ('format = "png"', Rendition("mine", Format.PNG)),
        ('format = "png16"\nsize = "1024x768"', Rendition("mine", Format.PNG16, Box(1024, 768))),
        ('format = "png"\nsize = 512', Rendition("mine", Format.PNG, Longest(512))),
        ('format = "png"\nsize = "512"', Rendition("mine", Format.PNG, Longest(512))),
        ('format = "png"\nwindow = "minmax"', Rendition("mine", Format.PNG, window=Window.MINMAX)),
        ('format = "png"\nwindow = [2000, 1]', Rendition("mine", Format.PNG, window=(2000.0, 1.0))),
        ('format = "png"\nwindow = [-5e-1, 1.5]', Rendition("mine", Format.PNG, window=(-0.5, 1.5))),
        (
            'format = "png"\ninvert = "never"\nmirror = true',
            Rendition("mine", Format.PNG, inverts=False, mirrors=True),
        ),
        ('format = "png"\ninvert = "auto"\nmirror = false', Rendition("mine", Format.PNG)),
        ('format = "npy"', Rendition("mine", Format.NPY, window=None)),
        ('format = "tiff"', Rendition("mine", Format.TIFF, window=None)),
        (
            'format = "npy"\nwindow = "voi"\nsize = "256x256"\nmirror = true',
            Rendition("mine", Format.NPY, Box(256, 256), Window.VOI, mirrors=True),
        ),
        ('format = "tiff"\nwindow = "stored"', Rendition("mine", Format.TIFF, window=Window.STORED)),
    ],
)
def test_a_table_defines_a_rendition(tmp_path: Path, table: str, rendition: Rendition) -> None:
    found = read(tmp_path, f"[renditions.mine]\n{table}\n")
    assert found.renditions == {"mine": rendition}
    assert found.mtime_ns == os.stat(tmp_path / "omidbfs.toml").st_mtime_ns


def test_without_renditions_the_time_of_the_file_does_not_matter(tmp_path: Path) -> None:
    assert read(tmp_path, '[cohorts.mine]\nexclude = "by-view/CC"\n') == Configured()
    assert read_definitions(None) == Definitions()


@pytest.mark.parametrize("name", ["a", "a1", "small-8-bit", "png-bright", "x-512"])
def test_a_name_has_words_of_lower_case_letters_and_digits(tmp_path: Path, name: str) -> None:
    assert [*read(tmp_path, f'[renditions.{name}]\nformat = "png"\n').renditions] == [name]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *(
            (f'[renditions."{name}"]\nformat = "png"', f"1: [renditions.{name}]: a name has lower-case letters")
            for name in ("A", "1a", "a--b", "a-", "-a", "a_b", "a.b", "ä", "", "x" * 101)
        ),
        *(
            (
                f'#\n[renditions.{name}]\nformat = "png"',
                f"2: [renditions.{name}]: as-{name} is a rendition of every drive; choose another name",
            )
            for name in ("png", "png16", "tiff", "npy", "png-512", "png16-10x10", "npy-1", "tiff-99999")
        ),
        (
            '[renditions.as-a]\nformat = "png"',
            "1: [renditions.as-a]: the drive would call it as-as-a; write [renditions.a]",
        ),
        ("[renditions.a]\nsize = 512", "1: [renditions.a]: needs a format: png, png16, tiff or npy"),
        ('[renditions.a]\nformat = "jpeg"', "2: [renditions.a]: format is png, png16, tiff or npy"),
        ("[renditions.a]\nformat = 1", "2: [renditions.a]: format is png, png16, tiff or npy"),
        (
            '[renditions.a]\nformat = "png"\nsizes = 512',
            "3: [renditions.a]: sizes is not understood; format, size, window, invert, mirror, crop and margin "
            "are; did you mean size?",
        ),
        *(
            (
                f'[renditions.a]\nformat = "png"\n\nsize = {size}',
                '4: [renditions.a]: size is "RxC" or N: rows and columns, or the longest side, from 16 to 8192',
            )
            for size in ("15", "8193", "-20", "'512x'", "'0512'", "true", "1.5", "[16, 16]", '"16 x 16"', "1" * 30)
        ),
        *(
            (
                f'[renditions.a]\nformat = "png"\nwindow = {window}',
                "3: [renditions.a]: window is voi, stored, minmax or [centre, width]",
            )
            for window in ('"VOI"', "1", "[1]", "[1, 2, 3]", '["1", 2]', "[nan, 1]", "[1, inf]", "[true, 1]")
        ),
        (f'[renditions.a]\nformat = "png"\nwindow = [{"9" * 400}, 2]', "3: [renditions.a]: window is"),
        ('[renditions.a]\nformat = "png"\nwindow = [9, 0.5]', "3: [renditions.a]: window has a width below 1"),
        ('[renditions.a]\nformat = "png"\ninvert = true', "3: [renditions.a]: invert is auto or never"),
        ('[renditions.a]\nformat = "png"\nmirror = "yes"', "3: [renditions.a]: mirror is true or false"),
        *(
            (
                f'[renditions.a]\nformat = "{format}"\n{key} = {value}',
                f"3: [renditions.a]: {key} does not apply to stored values; add a window",
            )
            for format in ("tiff", "npy")
            for key, value in (("size", 512), ("invert", '"auto"'), ("mirror", "false"))
        ),
        ("[renditions]\na = 1", "2: [renditions.a]: is not a table"),
        ("renditions = 1", "1: [renditions.]: a name has"),
    ],
)
def test_a_wrong_definition_is_refused_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path}/omidbfs.toml:{message}"), str(caught.value)


def test_a_misspelt_table_is_no_command(tmp_path: Path) -> None:
    path = tmp_path / "omidbfs.toml"
    path.write_text("[rendition.a]\nformat = 'png'")
    with pytest.raises(UserError, match=r"\[rendition\] is no command of omidbfs; did you mean renditions\?"):
        read_config(path, {"ls": set()})
