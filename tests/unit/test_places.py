"""The directories of a user follow the XDG specification, and do not depend on the current directory."""

import os
import pwd
from pathlib import Path
from typing import Literal

import pytest

from omidbfs.base.errors import UserError
from omidbfs.base.places import user_directory
from omidbfs.database.layout import Source
from omidbfs.index.store import default_path
from omidbfs.serving.spool import spool_directories

KINDS: list[tuple[Literal["cache", "config", "state"], str, str]] = [
    ("cache", "XDG_CACHE_HOME", ".cache"),
    ("config", "XDG_CONFIG_HOME", ".config"),
    ("state", "XDG_STATE_HOME", ".local/state"),
]


@pytest.mark.parametrize(("kind", "variable", "below"), KINDS)
def test_a_place_is_the_one_named_if_that_is_absolute_else_below_the_home(
    monkeypatch: pytest.MonkeyPatch, kind: Literal["cache", "config", "state"], variable: str, below: str
) -> None:
    monkeypatch.setenv("HOME", "/home/one")
    monkeypatch.setenv(variable, "/named")
    assert user_directory(kind) == Path("/named/omidbfs")
    for ignored in ("", "named", "./named", "~/named"):
        monkeypatch.setenv(variable, ignored)
        assert user_directory(kind) == Path("/home/one", below, "omidbfs")
    monkeypatch.delenv(variable)
    assert user_directory(kind) == Path("/home/one", below, "omidbfs")


def without_home(monkeypatch: pytest.MonkeyPatch, user: int) -> None:
    for _, variable, _ in KINDS:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: user)


@pytest.mark.parametrize("home", [None, "", "somewhere"])
def test_a_home_that_is_no_absolute_name_is_that_of_the_system(
    monkeypatch: pytest.MonkeyPatch, home: str | None
) -> None:
    without_home(monkeypatch, 0)
    if home is not None:
        monkeypatch.setenv("HOME", home)
    assert user_directory("cache") == Path(pwd.getpwuid(0).pw_dir, ".cache/omidbfs")


def test_a_user_without_a_home_is_told_what_to_name(monkeypatch: pytest.MonkeyPatch) -> None:
    without_home(monkeypatch, 54321)
    assert user_directory("cache") is None
    with pytest.raises(UserError, match=r"^no place for the index: name one with --index, or set HOME$"):
        default_path(Source("/a", "/b"))
    [place] = spool_directories()
    assert place.is_absolute(), "where the system has temporary files"
