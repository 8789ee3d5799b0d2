"""Writes the whole demo in one call. ``omidbfs demo`` and the tests use it."""

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

import orjson

from omidbfs.base.errors import UserError
from omidbfs.base.process import undisturbed
from omidbfs.database.problems import Problem
from omidbfs.demo.history import story_of
from omidbfs.demo.pixel_variants import PIXEL_VARIANTS
from omidbfs.demo.quirks import QUIRKS, strays_in_the_trees
from omidbfs.demo.subject import STORY, Subject
from omidbfs.demo.tree import FULL, SMALL, Writer, settle
from omidbfs.demo.variants import VARIANTS

_TREES, _QUIRKS = ("images", "data"), "quirks.jsonl"


class DemoError(UserError):
    """The demo cannot be written; the message is one line for users."""


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

    The same ``seed`` gives the same tree, with the same bytes and modification times. A larger number of clients
    adds clients and leaves the first ones as they are. Images have 104 x 80 pixels, or 3328 x 2560 with
    ``full_size`` (17 MB each), and the same field of view. With ``quirks`` more clients follow, always with small
    images, that have the unusual forms and errors of real databases, and ``quirks.jsonl`` lists the problems.
    ``progress`` is called with the number of clients done and the number of clients, without those of quirks.
    If anything is raised, such as ``KeyboardInterrupt``, everything that was written is removed first.

    Returns
    -------
    list of Problem
        The planted problems, sorted; none without ``quirks``. Only a reader of every DICOM header finds those
        whose detail starts with ``deep:``.

    Raises
    ------
    DemoError
        ``directory`` cannot be made or is not empty, or ``clients`` is negative.
    """
    if clients < 0:
        raise DemoError(f"{clients} is not a number of clients")
    with _removed_unless_whole(directory) as made:
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
            with (directory / _QUIRKS).open("xb") as file:
                made[directory / _QUIRKS] = os.dup(file.fileno())
                file.writelines(lines)
        _date_strays(directory)
    return problems


@contextmanager
def _removed_unless_whole(directory: Path) -> Iterator[dict[Path, int]]:
    """Claim a directory. If the block raises, remove what it has made.

    Gives the files and trees that are made, with a descriptor of each: nothing else gets their inodes meanwhile.
    So what another program puts in their places is left alone.
    """
    parents = [place for place in (directory, *directory.parents) if not os.path.lexists(place)]
    made: dict[Path, int] = {}
    try:
        _claim(directory, made)
        yield made
    except BaseException:
        with undisturbed():
            for place, descriptor in made.items():
                _remove(place, descriptor)
            for place in parents:
                with suppress(OSError):
                    place.rmdir()
        raise
    finally:
        for descriptor in made.values():
            os.close(descriptor)


def _remove(place: Path, descriptor: int) -> None:
    with suppress(OSError):
        found = os.lstat(place)
        if os.path.samestat(found, os.fstat(descriptor)):
            shutil.rmtree(place, ignore_errors=True) if stat.S_ISDIR(found.st_mode) else place.unlink()


def _claim(directory: Path, made: dict[Path, int]) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        empty = not any(directory.iterdir())
        if empty:
            for tree in (directory / name for name in _TREES):
                tree.mkdir()
                made[tree] = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise DemoError(f"{directory}: {error.strerror}") from error
    if not empty:
        raise DemoError(f"{directory} is not empty; name a new or an empty directory")


def _plant(directory: Path, seed: int) -> list[Problem]:
    """Write the clients with unusual forms and errors, and return the problems."""
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
    for vary in PIXEL_VARIANTS:
        vary(make)
    for subject in made:
        settle(subject.client)
    return problems


def _date_strays(directory: Path) -> None:
    """Set the modification time of everything outside clients to the start of the epoch."""
    strays = [*(directory / "data").glob("optm_tmp/*"), *(directory / "data").glob("optm_tmp")]
    for place in (
        *strays,
        *(directory / tree / name for tree, name in (("images", "Thumbs.db"), ("data", "notes.txt"))),
        directory / _QUIRKS,
        directory / "images",
        directory / "data",
        directory,
    ):
        if place.exists():
            os.utime(place, (0, 0))
