"""The demo in one call."""

import os
from collections.abc import Callable
from pathlib import Path
from random import Random

import orjson

from omidbfs.base.errors import UserError
from omidbfs.database.problems import Problem
from omidbfs.demo.history import story_of
from omidbfs.demo.quirks import QUIRKS, strays_in_the_trees
from omidbfs.demo.subject import STORY, Subject
from omidbfs.demo.tree import FULL, SMALL, Writer, settle
from omidbfs.demo.variants import VARIANTS


class DemoError(UserError):
    """The demo cannot be written there; the message is one line for people."""


def client_name(number: int, seed: int) -> str:
    """Return the name of the ``number``-th client, from 0: ``demd<N>`` or ``optm<N>``."""
    random = Random(f"{seed}/name/{number}")
    prefix = "demd" if random.random() < 0.75 else "optm"
    return f"{prefix}{1 + number * 23 + random.randrange(23)}"


def generate(
    directory: Path,
    clients: int,
    seed: int,
    *,
    full_size: bool = False,
    quirks: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[Problem]:
    """Write a synthetic OMI-DB of ``clients`` clients below ``directory``.

    The same ``seed`` gives the same tree, to the byte and to the modification time, and the same first
    clients whatever their number. Images are 104 x 80 pixels of a true field of view, or 3328 x 2560 with
    ``full_size`` (17 MB each). With ``quirks`` more clients follow, always of small images, that have what
    real databases have in store, and ``quirks.jsonl`` names the problems. ``progress`` is called with the
    numbers of clients done and to do, quirks not counted.

    Returns
    -------
    list of Problem
        The problems planted, sorted; those whose detail starts with ``deep:`` show only to who reads every
        header. Without ``quirks`` there is none.

    Raises
    ------
    DemoError
        ``directory`` cannot be made, or is not empty, or ``clients`` is negative.
    """
    _claim(directory, clients)
    writer = Writer(directory, FULL if full_size else SMALL, seed)
    for number in range(clients):
        writer.write(number, client_name(number, seed), story_of(number, seed))
        if progress is not None:
            progress(number + 1, clients)
    problems = sorted(_plant(directory, seed)) if quirks else []
    if quirks:
        lines = (
            orjson.dumps({"file": problem.file, "kind": problem.kind, "detail": problem.detail}) + b"\n"
            for problem in problems
        )
        (directory / "quirks.jsonl").write_bytes(b"".join(lines))
    _date_strays(directory)
    return problems


def _claim(directory: Path, clients: int) -> None:
    if clients < 0:
        raise DemoError(f"{clients} is not a number of clients")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        empty = not any(directory.iterdir())
        if empty:
            for tree in ("images", "data"):
                (directory / tree).mkdir()
    except OSError as error:
        raise DemoError(f"{directory}: {error.strerror}") from error
    if not empty:
        raise DemoError(f"{directory} is not empty; name a new or an empty directory")


def _plant(directory: Path, seed: int) -> list[Problem]:
    """Write the clients that something is odd about, and return the problems."""
    writer = Writer(directory, SMALL, seed)
    made: list[Subject] = []

    def make() -> Subject:
        number = len(made)
        prefix = "abcd" if number == 0 else "demd" if number % 2 else "optm"
        made.append(Subject(writer.write(10**6 + number, f"{prefix}{9000001 + number}", STORY)))
        return made[-1]

    problems = list(strays_in_the_trees(directory))
    for vary in VARIANTS:
        vary(make)
    for quirk in QUIRKS:
        problems += quirk(make)
    for subject in made:
        settle(subject.client)
    return problems


def _date_strays(directory: Path) -> None:
    """Give all that belongs to no client the start of the epoch."""
    strays = [*(directory / "data").glob("optm_tmp/*"), *(directory / "data").glob("optm_tmp")]
    for place in (
        *strays,
        *(directory / tree / name for tree, name in (("images", "Thumbs.db"), ("data", "notes.txt"))),
        directory / "quirks.jsonl",
        directory / "images",
        directory / "data",
        directory,
    ):
        if place.exists():
            os.utime(place, (0, 0))
