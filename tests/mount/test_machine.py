"""Hypothesis takes a drive and its plain model through the same random steps, and compares them after each.

Steps come one after the other, so what every answer has to be is known exactly, to the inode and the byte:
``tests/mount/test_stress.py`` is about many at once. ``pytest --hypothesis-profile=search`` takes more.
"""

import errno
import json
import mmap
import os
import shutil
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from drives import Drives
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
from test_refresh import refresh
from test_tree import compare, dirents
from trees import MARK, Tree

CLIENTS = ("demd1", "demd2", "optm3")
STUDIES = ("1", "2")
IMAGES = ("1", "2", "3", "4", "9.9.9")
"""The last UID may be in several places, so it becomes a duplicate and stops being one."""
MODELS = ("Selenia", "Selenia, old", "rare")
MOST_STEPS = 300
DROP_CACHES = Path("/proc/sys/vm/drop_caches")

COMPONENTS = st.sampled_from(
    (
        "by-view/CC",
        "by-view/MLO",
        "by-view/CC,MLO",
        "by-view/not-CC",
        "by-view/unknown",
        "by-model/selenia",
        "by-model/Selenia, old",
        "by-model/selenia_comma_-old,rare",
        "by-outcome/malignant",
        "by-outcome/not-normal",
        "by-marked/yes",
        "by-file-type/dcm",
        "by-file-type/json",
        "by-client/demd1",
        "by-client/demd2,optm3",
        "by-client/optm3/optm3.1",
        "by-study/demd1.1",
        "by-site/stge",
        "by-view",
        "by-client",
        "by-nothing",
    )
)
PLACES = (
    st.sampled_from(("", "all", "all", ".omidbfs", "by-client", "by-view", "by-model", "by-study"))
    | st.lists(COMPONENTS, min_size=1, max_size=2).map("/".join)
    | st.sampled_from([f"by-client/{client}/{client}.{study}" for client in CLIENTS for study in STUDIES])
)
WHICH = st.tuples(st.sampled_from(CLIENTS), st.sampled_from(STUDIES), st.sampled_from(IMAGES))
KINDS = st.sampled_from(("dcm", "json"))
FLAT = st.sampled_from(
    ("all", "all", "by-view/CC", "by-view/not-CC", "by-model/selenia,rare", "by-outcome/normal")
)
PICKS = st.integers(0, 1000)
SIZES = st.sampled_from((280, 288, 400, 1000, 4096, 1 << 16))


def names_of(which: tuple[str, str, str]) -> tuple[str, str]:
    """Return the study and the name of an image."""
    client, study, image = which
    return f"{client}.{study}", image if image == IMAGES[-1] else f"{client}.{study}.{image}"


@dataclass(eq=False)
class OpenFile:
    """An open file, also mapped if it has any bytes, and the content that it must give."""

    path: str
    descriptor: int
    content: bytes
    facts: os.stat_result
    mapped: mmap.mmap | None


@dataclass(eq=False)
class OpenDirectory:
    """An open directory, and the entries that it must list in the order of its first listing."""

    path: str
    descriptor: int
    names: set[str]
    nodes: dict[str, Any]
    epoch: int
    listed: list[tuple[str, int, int]] = field(default_factory=list)


class Source:
    """A changing database. Every written file has its own content, size and time."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.version = 0
        self.clear()

    def clear(self) -> None:
        """Take away everything."""
        shutil.rmtree(self.root, ignore_errors=True)
        self.tree = Tree(self.root)
        (self.root / "aside").mkdir()

    def client(self, name: str, kind: str, site: str) -> None:
        """Write the JSON files of a client, which mention no image: images are found on disk."""
        for part in (self.tree.images, self.tree.data):
            (part / name).mkdir(exist_ok=True)
        aside = Tree(self.root / "aside" / "client").client(name, site=site).episode("1", kind)
        for study in STUDIES:
            mentioned = aside.study(f"{name}.{study}", "1")
            mentioned.series[f"{name}.{study}.1"] = MARK
        aside.write()
        for document in aside.data.iterdir():
            self.write(self.tree.data / name / document.name, document.read_bytes())
        shutil.rmtree(self.root / "aside" / "client")

    def write(self, path: Path, content: bytes) -> None:
        """Replace a file atomically, with a unique time."""
        self.version += 1
        new = self.root / "aside" / "file"
        new.write_bytes(content)
        os.utime(new, ns=(self.version, self.version * 1_000_003))
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        new.replace(path)

    @staticmethod
    def remove(path: Path) -> None:
        """Remove a file, or anything else in its place."""
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)

    def image(self, which: tuple[str, str, str], kind: str, view: str, model: str, blocks: int) -> None:
        """Write one file of an image. Every block names the file."""
        client, study = which[0], names_of(which)[0]
        path = self.file(which, kind)
        if not (self.tree.data / client).exists():
            self.client(client, "N", "stge")
        path.parent.mkdir(exist_ok=True)
        said = f"{client}/{study}/{path.name}#{self.version}".encode().ljust(64)
        if kind == "json":
            tags = {"00185101": view, "00081090": model, "00104000": said.decode()}
            document = {tag: {"vr": "CS", "Value": [value]} for tag, value in tags.items()}
            self.write(path, json.dumps(document).encode() + b" " * blocks)
        else:
            self.write(path, said * blocks)

    def file(self, which: tuple[str, str, str], kind: str) -> Path:
        """Return where a file of an image is."""
        study, image = names_of(which)
        return (self.tree.images if kind == "dcm" else self.tree.data) / which[0] / study / f"{image}.{kind}"


class Drive:
    """The mounted drive, and the inodes that must keep their meaning between runs of the machine."""

    def __init__(self, drives: Drives, root: Path) -> None:
        self.source = Source(root)
        self.mount = drives(root)
        self.bytes_of: dict[int, tuple[str, bytes]] = {}
        self.file_of: dict[int, tuple[str, int, int]] = {}
        self.directory_of: dict[int, str] = {}

    def met(self, path: str, facts: os.stat_result, node: File | Place | str | None) -> None:
        """Note an inode, or check that it still means the same file."""
        if isinstance(node, Place):
            assert self.directory_of.setdefault(facts.st_ino, path) == path, "a directory's inode is another's"
            assert facts.st_ino not in self.file_of
        elif isinstance(node, File):
            is_now = (node.source, facts.st_size, facts.st_mtime_ns)
            assert self.file_of.setdefault(facts.st_ino, is_now) == is_now, f"{path}: its inode was another file's"
            assert facts.st_ino not in self.directory_of


class Machine(RuleBasedStateMachine):
    """One run of random steps, which begins with an empty drive."""

    files: Bundle[OpenFile] = Bundle("files")
    directories: Bundle[OpenDirectory] = Bundle("directories")

    def __init__(self, drive: Drive) -> None:
        super().__init__()
        self.drive, self.source, self.mount = drive, drive.source, drive.mount
        self.noticed: dict[str, File] = {}
        """The attributes of files that an open found changed."""
        self.epoch = 0
        """Counts the steps that may change the inode of a listed file."""
        self.opened: list[OpenFile | OpenDirectory] = []
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

    @precondition(lambda self: self.steps > MOST_STEPS // 8)  # this step is slow
    @rule(walks=st.booleans())
    def refresh(self, walks: bool) -> None:
        """Refresh the drive. Sometimes compare all of it; then no lookup comes before a listing."""
        refresh(self.mount)
        self.model = Reference(self.source.root)
        self.noticed.clear()
        self.epoch += 1
        self.steps = 0
        if walks:
            for path, facts in compare(self.mount, self.model).items():
                self.drive.met(path, facts, self.model.node(path))

    @rule()
    def forget(self) -> None:
        """Make the kernel forget unused inodes."""
        if os.access(DROP_CACHES, os.W_OK):
            DROP_CACHES.write_text("2")

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

    @rule(target=files, place=PLACES, pick=PICKS)
    def open(self, place: str, pick: int) -> Any:
        """Open a listed file and keep it open."""
        path = self.picked(place, pick)
        return self.opened_at(path) if path is not None else multiple()

    @rule(target=files, place=PLACES, pick=PICKS, blocks=st.integers(0, 5000), looks=st.booleans())
    def open_replaced(self, place: str, pick: int, blocks: int, looks: bool) -> Any:
        """Open a listed file that has just been replaced, and that the kernel may or may not know."""
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
            descriptor = os.open(self.mount / path, os.O_RDONLY)
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            assert not stat.S_ISREG(self.kind_at(node.source)), f"{path}: there is a file"
            return multiple()
        facts, content = os.fstat(descriptor), Path(node.source).read_bytes()
        there = os.stat(node.source)
        assert (facts.st_size, facts.st_mtime_ns) == (there.st_size, there.st_mtime_ns), path
        known = self.noticed.get(node.source, node)
        if (known.size, known.mtime) != (there.st_size, there.st_mtime_ns):
            mode = there.st_mode & known.mode
            self.noticed[node.source] = File(
                node.source, there.st_size, there.st_mtime_ns, mode, there.st_uid, there.st_gid
            )
            self.epoch += 1
        assert self.drive.bytes_of.setdefault(facts.st_ino, (node.source, content)) == (node.source, content)
        self.drive.met(path, facts, node)
        mapped = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ) if content else None
        handle = OpenFile(path, descriptor, content, facts, mapped)
        self.opened.append(handle)
        return handle

    @rule(handle=files, offset=st.integers(0, 300_000), size=st.integers(0, 200_000), drops=st.booleans())
    def read(self, handle: OpenFile, offset: int, size: int, drops: bool) -> None:
        """Read anywhere in an open file. Its content stays, even if its path changes."""
        if drops:
            os.posix_fadvise(handle.descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        expected = handle.content[offset : offset + size]
        assert os.pread(handle.descriptor, size, offset) == expected, handle.path
        if handle.mapped is not None:
            assert handle.mapped[offset : offset + size] == expected, handle.path
        facts = os.fstat(handle.descriptor)
        assert (facts.st_ino, facts.st_size, facts.st_mtime_ns) == (
            handle.facts.st_ino,
            handle.facts.st_size,
            handle.facts.st_mtime_ns,
        )

    @rule(handle=consumes(files))
    def close(self, handle: OpenFile) -> None:
        """Close a file."""
        self.end(handle)

    @rule(target=directories, place=PLACES)
    def open_directory(self, place: str) -> Any:
        """Open a directory and keep it open, if it is there."""
        node = self.model.node(place)
        if not isinstance(node, Place):
            return multiple()
        descriptor = os.open(self.mount / place, os.O_RDONLY | os.O_DIRECTORY)
        nodes = self.model.children(node)
        handle = OpenDirectory(place, descriptor, {*nodes, ".", ".."}, nodes, self.epoch)
        self.opened.append(handle)
        return handle

    @rule(handle=directories, size=SIZES)
    def list_all(self, handle: OpenDirectory, size: int) -> None:
        """List a directory from its beginning in pieces of any size. Each entry comes once, in one order."""
        os.lseek(handle.descriptor, 0, os.SEEK_SET)
        listed: list[tuple[str, int, int]] = []
        while piece := dirents(handle.descriptor, size):
            listed += piece
        assert {name for name, _, _ in listed} == handle.names, handle.path
        assert len(listed) == len(handle.names), f"{handle.path} lists a name twice"
        assert [cursor for _, _, cursor in listed] == list(range(1, len(listed) + 1))
        if handle.listed:
            assert [name for name, _, _ in listed] == [name for name, _, _ in handle.listed], "in another order"
        handle.listed = listed

    @rule(handle=directories, cursor=st.integers(0, 60) | st.sampled_from((1 << 31, (1 << 63) - 1)), size=SIZES)
    def list_from(self, handle: OpenDirectory, cursor: int, size: int) -> None:
        """List a piece from any cursor, also from an unknown cursor beyond the end."""
        if not handle.listed:
            self.list_all(handle, 4096)
        os.lseek(handle.descriptor, cursor, os.SEEK_SET)
        piece = dirents(handle.descriptor, size)
        expected = handle.listed[cursor : cursor + len(piece)]
        assert [(name, at) for name, _, at in piece] == [(name, at) for name, _, at in expected], handle.path
        assert piece or cursor >= len(handle.listed)
        if handle.epoch != self.epoch:
            return  # the listed file may have changed since
        for name, inode, _ in piece:
            if name not in (".", ".."):
                inner = f"{handle.path}/{name}" if handle.path else name
                assert self.compare_attributes(inner).st_ino == inode, "readdir and lookup disagree"

    @rule(handle=consumes(directories))
    def close_directory(self, handle: OpenDirectory) -> None:
        """Close a directory."""
        self.end(handle)

    # Checks

    def compare_attributes(self, path: str) -> Any:
        """Check that a path is as in the model. Return its ``lstat``, or ``None`` if it does not exist."""
        node = self.model.node(path)
        try:
            facts = os.lstat(self.mount / path)
        except (FileNotFoundError, NotADirectoryError):
            assert node is None, f"{path} is not found"
            return None
        assert node is not None, f"{path} is found, and should not be"
        assert stat.S_ISDIR(facts.st_mode) == isinstance(node, Place), path
        self.drive.met(path, facts, node)
        if isinstance(node, File):
            known = self.noticed.get(node.source, node)
            served = (facts.st_size, facts.st_mtime_ns, stat.S_IMODE(facts.st_mode), facts.st_nlink)
            assert served == (known.size, known.mtime, known.mode, self.model.links()[node.source]), path
        return facts

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

    def end(self, handle: OpenFile | OpenDirectory) -> None:
        """Close a handle."""
        self.opened.remove(handle)
        if isinstance(handle, OpenFile) and handle.mapped is not None:
            handle.mapped.close()
        os.close(handle.descriptor)

    def teardown(self) -> None:
        """Read all open files and directories, and close them."""
        for handle in [*self.opened]:
            if isinstance(handle, OpenFile):
                self.read(handle, 0, len(handle.content) + 1, drops=True)
            self.end(handle)


@pytest.mark.alone
def test_a_drive_does_what_its_model_does_whatever_the_steps(drive: Drives, tmp_path: Path) -> None:
    from_empty = Tree(tmp_path / "db")
    mounted = Drive(drive, from_empty.root)
    steps = settings.default.max_examples
    run_state_machine_as_test(
        lambda: Machine(mounted),
        settings=settings(
            max_examples=steps // 10,
            stateful_step_count=MOST_STEPS,
            deadline=None,
            # A step takes a second, so Hypothesis does not shrink failures, except in a search.
            phases=[Phase.generate, Phase.shrink] if steps > 100 else [Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert len(mounted.bytes_of) > 20
