"""Hypothesis takes a front end of a drive and a plain model through the same random steps.

The steps are those of a machine: changes of the source, refreshes, lookups, listings, openings, reads. Each answer
has to be that of the model, and each byte that of the file. Tests of several front ends share the machine. Each
gives it a :class:`Front`, and may add steps of its own.

Steps come one after the other, so what every answer has to be is known exactly, to the byte.
``pytest --hypothesis-profile=search`` takes more.
"""

import errno
import os
import shutil
import stat
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from changing import CLIENTS, IMAGES, PLACES, STUDIES, Source, names_of
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from reference import File, Place, Reference

MODELS = ("Selenia", "Selenia, old", "rare")
MOST_STEPS = 300

WHICH = st.tuples(st.sampled_from(CLIENTS), st.sampled_from(STUDIES), st.sampled_from(IMAGES))
KINDS = st.sampled_from(("dcm", "json"))
FLAT = st.sampled_from(
    ("all", "all", "by-view/CC", "by-view/not-CC", "by-model/selenia,rare", "by-outcome/normal")
)
PICKS = st.integers(0, 1000)


@dataclass(frozen=True)
class Shown:
    """What a front end shows of a node.

    ``of_file`` has the attributes of a file, of which the first two are size and time. ``identity`` tells it from
    other files and other versions; ``None``: nothing does.
    """

    is_directory: bool
    of_file: tuple[object, ...]
    identity: Hashable


class Handle(Protocol):
    """An open file. ``read`` gives its bytes, which stay as they were when it was opened."""

    shown: Shown

    def read(self, offset: int, size: int, *, drops: bool) -> bytes | None:
        """Return some bytes, ``None`` if these are gone; with ``drops`` not from a cache that can be dropped."""

    def close(self) -> None:
        """Close it."""


class Front:
    """A front end over the database at ``root``, and the identities that must keep their meaning between runs."""

    def __init__(self, root: Path) -> None:
        self.source = Source(root)
        self.bytes_of: dict[Hashable, tuple[str, bytes]] = {}
        self.file_of: dict[Hashable, tuple[object, ...]] = {}
        self.directory_of: dict[Hashable, str] = {}

    def refresh(self) -> None:
        """Look for changes of the source, and show them."""
        raise NotImplementedError

    def compared(self, model: Reference) -> Mapping[str, Shown]:
        """Compare everything with the model, if that is quick; return what was compared."""
        return {}

    def shown(self, path: str) -> Shown | None:
        """Return what is at a path, ``None`` if nothing is."""
        raise NotImplementedError

    def expected(self, file: File, links: Callable[[], int]) -> tuple[object, ...]:
        """Return what ``of_file`` has to be for a file with so many links."""
        raise NotImplementedError

    def listed(self, path: str) -> Mapping[str, Shown]:
        """Return the entries of a directory by name."""
        raise NotImplementedError

    def open(self, path: str) -> Handle:
        """Open a file. Raise ESTALE if it is gone, or is no regular file any more."""
        raise NotImplementedError

    def met(self, path: str, shown: Shown, node: File | Place | str | None) -> None:
        """Note an identity, or check that it still means the same file."""
        if shown.identity is None:
            return
        if isinstance(node, Place):
            assert self.directory_of.setdefault(shown.identity, path) == path, "a directory is taken for another"
            assert shown.identity not in self.file_of
        elif isinstance(node, File):
            is_now = (node.source, *shown.of_file[:2])
            assert self.file_of.setdefault(shown.identity, is_now) == is_now, f"{path}: it was another file"
            assert shown.identity not in self.directory_of


class Machine(RuleBasedStateMachine):
    """One run of random steps, which begins with an empty drive."""

    files: Bundle["OpenFile"] = Bundle("files")

    between_refreshes = MOST_STEPS // 8
    """The fewest steps from one refresh to the next, which is slow."""

    def __init__(self, front: Front) -> None:
        super().__init__()
        self.front, self.source = front, front.source
        self.noticed: dict[str, File] = {}
        """The attributes of files that an open found changed."""
        self.epoch = 0
        """Counts the steps that may change the identity of a listed file."""
        self.opened: list[Any] = []
        self.steps = 0

    @invariant()
    def counted(self) -> None:
        """Count the steps since the last refresh."""
        self.steps += 1

    # The source

    @initialize(view=st.sampled_from(("CC", "MLO")), kind=st.sampled_from("NM"))
    def begin(self, view: str, kind: str) -> None:
        """Begin with a drive of 17 images: more files than fit in one answer to readdir."""
        self.source.clear()
        for client in CLIENTS[:2]:
            self.source.client(client, kind, "stge")
            for study in STUDIES:
                for image in IMAGES[:4]:
                    for suffix in ("dcm", "json"):
                        self.source.image((client, study, image), suffix, view, "Selenia", len(image) + 3)
        self.source.image((CLIENTS[0], STUDIES[0], IMAGES[-1]), "dcm", view, "rare", 1)
        self.refresh(walks=False)

    @rule(
        which=WHICH,
        kinds=st.sampled_from((("dcm",), ("json",), ("dcm", "json"))),
        view=st.sampled_from(("CC", "MLO", "")),
        model=st.sampled_from(MODELS),
        blocks=st.integers(0, 5000),
    )
    def add_or_replace(self, which: Any, kinds: Any, view: str, model: str, blocks: int) -> None:
        """Add an image, or put other files in the place of its own."""
        for kind in kinds:
            self.source.image(which, kind, view, model, blocks)

    @rule(which=WHICH, kind=KINDS)
    def remove(self, which: Any, kind: str) -> None:
        """Remove a file."""
        self.source.remove(self.source.file(which, kind))

    @rule(which=WHICH, kind=KINDS, other=WHICH)
    def exchange(self, which: Any, kind: str, other: Any) -> None:
        """Exchange two files, with their sizes and times."""
        one, two = self.source.file(which, kind), self.source.file(other, kind)
        if one.exists() and two.exists() and one != two:
            third = self.source.root / "aside" / "third"
            one.rename(third)
            two.rename(one)
            third.rename(two)

    @rule(which=WHICH, kind=KINDS, wrong=st.sampled_from(("directory", "fifo", "link")))
    def put_something_else(self, which: Any, kind: str, wrong: str) -> None:
        """Put something that is not a file in the place of a file."""
        path = self.source.file(which, kind)
        if path.parent.exists():
            self.source.remove(path)
            if wrong == "directory":
                path.mkdir()
            elif wrong == "fifo":
                os.mkfifo(path)
            else:
                path.symlink_to("/etc/passwd")

    @rule(client=st.sampled_from(CLIENTS), turn=st.integers(0, 5))
    def remove_client(self, client: str, turn: int) -> None:
        """Remove a client, but not each time, so that clients remain."""
        if turn != 5:
            return
        for part in (self.source.tree.images, self.source.tree.data):
            shutil.rmtree(part / client, ignore_errors=True)

    @rule(client=st.sampled_from(CLIENTS), kind=st.sampled_from("NM"), site=st.sampled_from(("stge", "jarv")))
    def edit_client(self, client: str, kind: str, site: str) -> None:
        """Write other JSON of a client: the images of the client change their cohorts."""
        self.source.client(client, kind, site)

    # The drive

    @precondition(lambda self: self.steps > self.between_refreshes)
    @rule(walks=st.booleans())
    def refresh(self, walks: bool) -> None:
        """Refresh the drive. Sometimes compare all of it; then no lookup comes before a listing."""
        self.front.refresh()
        self.model = Reference(self.source.root)
        self.noticed.clear()
        self.epoch += 1
        self.steps = 0
        if walks:
            for path, shown in self.front.compared(self.model).items():
                self.front.met(path, shown, self.model.node(path))

    @rule(place=PLACES)
    def look_up_place(self, place: str) -> None:
        """Look up a directory that may not exist."""
        self.compare_attributes(place)

    @rule(place=FLAT, which=WHICH, kind=KINDS, form=st.sampled_from(("flat", "duplicate", "tree")))
    def look_up_any_file(self, place: str, which: Any, kind: str, form: str) -> None:
        """Look up a file that may not exist."""
        self.compare_attributes(self.path_of(place, which, kind, form))

    @rule(place=PLACES, pick=PICKS)
    def look_up_file(self, place: str, pick: int) -> None:
        """Look up a listed file, before or after a listing."""
        path = self.picked(place, pick)
        if path is not None:
            self.compare_attributes(path)

    @rule(place=PLACES, pick=PICKS)
    def list(self, place: str, pick: int) -> None:
        """List a directory, if it is there. An entry is what a lookup finds."""
        node = self.model.node(place)
        if not isinstance(node, Place):
            return
        entries = self.front.listed(place)
        assert {*entries} == {*self.model.children(node)}, place
        path = self.picked(place, pick)
        if path is not None:
            assert entries[path.rpartition("/")[2]] == self.compare_attributes(path), path

    @rule(target=files, place=PLACES, pick=PICKS)
    def open(self, place: str, pick: int) -> Any:
        """Open a listed file and keep it open."""
        path = self.picked(place, pick)
        return self.opened_at(path) if path is not None else multiple()

    @rule(target=files, place=PLACES, pick=PICKS, blocks=st.integers(0, 5000), looks=st.booleans())
    def open_replaced(self, place: str, pick: int, blocks: int, looks: bool) -> Any:
        """Open a listed file that has just been replaced, and that the front end may or may not know."""
        path = self.picked(place, pick)
        if path is None:
            return multiple()
        if looks:
            self.compare_attributes(path)
        node = self.model.node(path)
        assert isinstance(node, File)
        if stat.S_ISREG(self.kind_at(node.source)):
            self.source.write(Path(node.source), f"#{self.source.version}".encode().ljust(64) * blocks)
        handle = self.opened_at(path)
        self.compare_attributes(path)
        return handle

    def opened_at(self, path: str) -> Any:
        """Open a file that the model has, and note what it must give."""
        node = self.model.node(path)
        assert isinstance(node, File)
        try:
            handle = self.front.open(path)
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            assert not stat.S_ISREG(self.kind_at(node.source)), f"{path}: there is a file"
            return multiple()
        there, content = os.stat(node.source), Path(node.source).read_bytes()
        known = self.noticed.get(node.source, node)
        as_it_is = replace(known, size=there.st_size, mtime=there.st_mtime_ns, mode=there.st_mode & known.mode)
        assert handle.shown.of_file[:2] == self.front.expected(as_it_is, lambda: 0)[:2], path
        if (known.size, known.mtime) != (there.st_size, there.st_mtime_ns):
            self.noticed[node.source] = replace(as_it_is, uid=there.st_uid, gid=there.st_gid)
            self.epoch += 1
        is_now = (node.source, content)
        assert self.front.bytes_of.setdefault(handle.shown.identity, is_now) == is_now, path
        self.front.met(path, handle.shown, node)
        opened = OpenFile(path, handle, content)
        self.opened.append(opened)
        return opened

    @rule(file=files, offset=st.integers(0, 300_000), size=st.integers(0, 200_000), drops=st.booleans())
    def read(self, file: "OpenFile", offset: int, size: int, drops: bool) -> None:
        """Read anywhere in an open file. Its content stays, even if its path changes."""
        found = file.handle.read(offset, size, drops=drops)
        assert found is None or found == file.content[offset : offset + size], file.path

    @rule(file=consumes(files))
    def close(self, file: "OpenFile") -> None:
        """Close a file."""
        self.end(file)

    # Checks

    def compare_attributes(self, path: str) -> Shown | None:
        """Check that a path is as in the model. Return what is there, or ``None`` if it does not exist."""
        node, shown = self.model.node(path), self.front.shown(path)
        if shown is None:
            assert node is None, f"{path} is not found"
            return None
        assert node is not None, f"{path} is found, and should not be"
        assert shown.is_directory == isinstance(node, Place), path
        self.front.met(path, shown, node)
        if isinstance(node, File):
            known = self.noticed.get(node.source, node)
            expected = self.front.expected(known, lambda: self.model.links()[node.source])
            assert shown.of_file == expected, path
        return shown

    def picked(self, place: str, pick: int) -> str | None:
        """Return the path of one of the source's files that a directory lists, ``None`` if it lists none."""
        node = self.model.node(place)
        children = self.model.children(node) if isinstance(node, Place) else {}
        names = sorted(name for name, child in children.items() if isinstance(child, File))
        return f"{place}/{names[pick % len(names)]}" if names else None

    @staticmethod
    def path_of(place: str, which: tuple[str, str, str], kind: str, form: str) -> str:
        """Return a path that an image may have."""
        study, image = names_of(which)
        if form == "tree":
            return f"by-client/{which[0]}/{study}/{image}.{kind}"
        stem = f"{image}~{which[0]}~{study}" if form == "duplicate" else image
        return f"{place}/{stem}.{kind}"

    @staticmethod
    def kind_at(source: str) -> int:
        """Return the type of what is at a path of the source, 0 for nothing."""
        try:
            return os.lstat(source).st_mode
        except FileNotFoundError:
            return 0

    def end(self, opened: Any) -> None:
        """Close a file."""
        self.opened.remove(opened)
        opened.handle.close()

    def teardown(self) -> None:
        """Read all open files, and close them."""
        for opened in [*self.opened]:
            if isinstance(opened, OpenFile):
                self.read(opened, 0, len(opened.content) + 1, drops=True)
            self.end(opened)


@dataclass(eq=False)
class OpenFile:
    """An open file, and the content that it must give."""

    path: str
    handle: Handle
    content: bytes


def run(machine: Callable[[], Machine], runs: int, steps: int = MOST_STEPS) -> None:
    """Take a machine through so many runs, and through ten times as many in a search."""
    is_search = settings.default.max_examples > 100
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=runs * 10 if is_search else runs,
            stateful_step_count=steps,
            deadline=None,
            # A step takes long, so Hypothesis does not shrink failures, except in a search.
            phases=[Phase.generate, Phase.shrink] if is_search else [Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
