"""Decodes and checks ``.omidbfs/status.json``, which may come from a mount of another user.

Used by ``asking``. Any thread may call it.
"""

from typing import Annotated

import msgspec


class Refreshes(msgspec.Struct, frozen=True):
    """``refresh`` of ``status.json`` (S61)."""

    state: str
    since: str
    done: int
    error: str | None = None
    stuck: int = 0


class Options(msgspec.Struct, frozen=True):
    """``options`` of ``status.json``: how a drive classifies, by the names of the options of commands."""

    num_months_ci_prior: int | None = None
    num_months_cancer_prior: int | None = None
    num_months_normal_follow_up: int | None = None
    num_months_benign_follow_up: int | None = None
    link_all: bool = False


class Counted(msgspec.Struct, frozen=True):
    """``counters`` of ``status.json`` (S82)."""

    reports: int
    requests: dict[str, int]
    bytes_read: int
    entries_listed: int
    open_files: int
    open_directories: int


class Status(msgspec.Struct, frozen=True):
    """The fields that commands read of ``status.json`` (S61). Other versions may have further fields."""

    pid: Annotated[int, msgspec.Meta(ge=1, le=1 << 22)]
    started: str
    version: str
    clients: int
    studies: int
    images: int
    index: str
    index_written: float
    images_directory: str | None
    data_directory: str | None
    refresh: Refreshes
    options: Options = Options()
    follow_symlinks: bool = False
    configuration: str | None = ""
    """``None`` if it reads none; empty if this version does not say so."""
    counters: Counted | None = None


def understood(text: bytes) -> Status | None:
    """Return the decoded status of a drive; ``None`` if the text is not such a status."""
    try:
        return msgspec.json.decode(text, type=Status)
    except msgspec.MsgspecError:
        return None
