"""A drive with a changing source, refreshes and readers, all at once, gives every byte right.

``OMIDBFS_STRESS_SECONDS=60 pytest tests/mount/test_stress.py`` does so for a minute.
"""

import errno
import json
import os
import random
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from drives import Drives, eventually
from reference import File, Reference
from test_refresh import refresh, status
from test_tree import compare
from trees import Study, Tree, sidecar

SECONDS = float(os.environ.get("OMIDBFS_STRESS_SECONDS", "20"))
BLOCK = 64
CLIENTS = tuple(f"demd{number}" for number in range(1, 9))
SHARED = "9.9.9"
"""A UID that several clients may have, so that it often becomes a duplicate and stops being one."""
MAY_HAPPEN = {errno.ENOENT, errno.ESTALE, errno.ENOTDIR}


class Writer:
    """Changes a database without end. Every block of a file names the file and its version."""

    def __init__(self, root: Path) -> None:
        self.tree = Tree(root)
        self.staging = root / "staging"
        self.version = 0
        self.chance = random.Random(1)
        for name in CLIENTS[:5]:
            self.add(name)

    def content(self, place: str) -> bytes:
        """Return the next version of a DICOM file."""
        self.version += 1
        return f"{place}#{self.version}".encode().ljust(BLOCK) * self.chance.randint(1, 3000)

    def header(self, place: str) -> bytes:
        """Return the next version of a sidecar."""
        self.version += 1
        view = self.chance.choice(("CC", "MLO", "ML"))
        model = self.chance.choice(("one", "two", f"rare {self.version % 3}"))
        document = sidecar(ViewPosition=view, ManufacturerModelName=model)
        return json.dumps({**document, "00100010": {"vr": "PN", "Value": [f"{place}#{self.version}"]}}).encode()

    def write(self, path: Path, content: bytes) -> None:
        """Replace a file atomically, with a unique time."""
        new = self.staging / "file"
        self.staging.mkdir(exist_ok=True)
        new.write_bytes(content)
        os.utime(new, ns=(self.version, self.version * 1_000_003))
        new.replace(path)

    def fill(self, study: Study, image: str) -> None:
        """Write both files of an image."""
        place = f"{study.of.name}/{study.uid}/{image}"
        for directory in (study.images, study.data):
            directory.mkdir(exist_ok=True)
        self.write(study.images / f"{image}.dcm", self.content(place))
        self.write(study.data / f"{image}.json", self.header(place))

    def add(self, name: str) -> None:
        """Add a client, whole."""
        if (self.tree.data / name).exists():
            return
        aside = Tree(self.staging / name)
        client = aside.client(name).episode("1", self.chance.choice("NBM"))
        for number in range(self.chance.randint(1, 2)):
            study = client.study(f"{name[4:]}.{number}", "1")
            for image in range(self.chance.randint(1, 3)):
                self.fill(study, f"{name[4:]}.{number}.{image}")
        if self.chance.random() < 0.5:
            self.fill(study, SHARED)
        for part in ("images", "data"):
            (aside.root / part / name).rename(self.tree.root / part / name)
        shutil.rmtree(aside.root)

    def remove(self, name: str) -> None:
        """Remove a client, half of the times at once and otherwise file by file."""
        parts = [part / name for part in (self.tree.images, self.tree.data) if (part / name).exists()]
        for path in parts:
            if self.chance.random() < 0.5:
                shutil.rmtree(path.rename(self.staging / "gone"))
            else:
                shutil.rmtree(path)

    def replace(self, name: str) -> None:
        """Put another client, of the same name, in the place of one."""
        self.remove(name)
        self.add(name)

    def edit(self, name: str) -> None:
        """Replace some files, each at once, and some that only the client has, in place."""
        for part, content in ((self.tree.images, self.content), (self.tree.data, self.header)):
            for path in sorted((part / name).glob("*/*")):
                if self.chance.random() < 0.5:
                    self.write(path, content(f"{name}/{path.parent.name}/{path.name.rpartition('.')[0]}"))
        nbss = self.tree.data / name / f"nbss_{name}.json"
        if nbss.exists():
            nbss.write_bytes(nbss.read_bytes().replace(b'"ON"', b'"OB"') + b" ")

    def step(self) -> None:
        """Make one change."""
        change: Callable[[str], None] = self.chance.choice(
            (self.add, self.remove, self.replace, self.edit, self.edit)
        )
        change(self.chance.choice(CLIENTS))


class Readers:
    """Walk, stat, hash and hold files open. Check that each inode keeps its meaning."""

    def __init__(self, mount: Path) -> None:
        self.mount = mount
        self.owner: dict[int, str] = {}
        self.seen: set[Path] = set()
        self.reads = 0

    def read(self, path: Path) -> None:
        """Read a file whole, and check that it is one version of the file that the path names."""
        descriptor = os.open(path, os.O_RDONLY)
        try:
            self.check(path, descriptor)
        finally:
            os.close(descriptor)

    def check(self, path: Path, descriptor: int) -> None:
        """Check what a descriptor gives."""
        facts = os.fstat(descriptor)
        content = os.pread(descriptor, facts.st_size + BLOCK, 0)
        if path.suffix == ".dcm":
            assert len(content) == facts.st_size, path
            block = content[:BLOCK]
            assert block * (facts.st_size // BLOCK) == content, f"{path}: two versions in one"
            identity = block.decode().strip()
        else:
            assert len(content) == facts.st_size, path
            identity = json.loads(content)["00100010"]["Value"][0]
        place = identity.partition("#")[0].split("/")
        name = path.name.removesuffix(path.suffix)
        if "~" in name:
            uid, client, study = name.split("~")
            assert [client, study, uid] == place, path
        else:
            assert name == place[2], path
        if path.parent.parent.parent.name == "by-client":
            assert list(path.parts[-3:-1]) == place[:2], path
        owner = self.owner.setdefault(facts.st_ino, identity + path.suffix)
        assert owner == identity + path.suffix, f"inode {facts.st_ino} of {path} was {owner}"
        self.seen.add(path)
        self.reads += 1

    def walk(self, chance: random.Random) -> None:
        """Walk a view and read what is in it."""
        view = chance.choice(("all", "by-view", "by-model", "by-client", "by-outcome", "by-study"))
        for folder, _, names in os.walk(self.mount / view):
            for name in names:
                if not name.startswith(("nbss_", "imagedb_")):
                    self.tolerated(lambda path=Path(folder, name): self.read(path))  # type: ignore[misc]

    def look_up(self, chance: random.Random) -> None:
        """Find names without any listing, here and there."""
        for _ in range(50):
            client = chance.choice(CLIENTS)
            study = f"{client[4:]}.{chance.randrange(2)}"
            image = chance.choice((SHARED, f"{study}.{chance.randrange(3)}"))
            kind = chance.choice((".dcm", ".json"))
            place = chance.choice(
                (
                    "all",
                    f"by-client/{client}/{study}",
                    "by-view/CC",
                    "by-view/not-CC",
                    "by-model/one,two",
                    f"by-study/{study}",
                )
            )
            stem = f"{image}~{client}~{study}" if image == SHARED and "by-client" not in place else image
            for name in (image, stem):
                self.tolerated(lambda path=self.mount / place / f"{name}{kind}": self.read(path))  # type: ignore[misc]
            self.tolerated(lambda path=self.mount / place: os.listdir(path))  # type: ignore[misc]

    def hold(self, chance: random.Random) -> None:
        """Hold files open, and read them again and again, from the source too."""
        held: list[tuple[Path, int]] = []
        try:
            names = [name for name in os.listdir(self.mount / "all") if name.endswith(".dcm")]
            for name in chance.sample(names, min(5, len(names))):
                path = self.mount / "all" / name
                self.tolerated(lambda path=path: held.append((path, os.open(path, os.O_RDONLY))))  # type: ignore[misc]
            for _ in range(20):
                for path, descriptor in held:
                    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                    self.tolerated(lambda path=path, number=descriptor: self.check(path, number))  # type: ignore[misc]
                    self.tolerated(lambda path=path: path.stat())  # type: ignore[misc]
        finally:
            for _, descriptor in held:
                os.close(descriptor)

    @staticmethod
    def tolerated(action: Callable[[], object]) -> None:
        """Ignore the errors of files that have just disappeared."""
        try:
            action()
        except OSError as error:
            if error.errno not in MAY_HAPPEN:
                raise


class Crew:
    """Threads that repeat an action. The first failure ends all of them."""

    def __init__(self) -> None:
        self.end = threading.Event()
        self.failures: list[str] = []
        self.turns: dict[str, int] = {}
        self.threads: list[threading.Thread] = []

    def do(self, name: str, action: Callable[[], object]) -> None:
        """Start a thread."""
        self.turns[name] = 0

        def loop() -> None:
            try:
                while not self.end.is_set():
                    action()
                    self.turns[name] += 1
            except BaseException:
                self.failures.append(f"{name}: {traceback.format_exc()}")
                self.end.set()

        self.threads.append(threading.Thread(target=loop, name=name, daemon=True))
        self.threads[-1].start()

    def watch(self, seconds: float) -> None:
        """Let the threads run. Fail if one fails or does not end."""
        self.end.wait(seconds)
        self.end.set()
        deadline = time.monotonic() + 60
        for thread in self.threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        frames = sys._current_frames()
        stuck = [
            "".join(traceback.format_stack(frames[thread.ident or 0]))
            for thread in self.threads
            if thread.is_alive()
        ]
        assert not stuck, f"a deadlock: {stuck}"
        assert not self.failures, "\n".join(self.failures)
        assert min(self.turns.values()) > 0, self.turns


def test_every_byte_is_right_whatever_happens_at_once(drive: Drives, tmp_path: Path) -> None:
    writer = Writer(tmp_path / "db")
    mount = drive(tmp_path / "db")
    process = drive.pid(mount)
    descriptors = len(os.listdir(f"/proc/{process}/fd"))
    readers, crew = Readers(mount), Crew()

    def write() -> None:
        writer.step()
        crew.end.wait(0.01)  # changes must not come faster than the source is read

    def ask() -> None:
        before = status(mount)["refresh"]["done"]
        os.kill(process, signal.SIGHUP)
        eventually(lambda: status(mount)["refresh"]["done"] > before, "refreshed", 60)

    crew.do("writer", write)
    crew.do("refresher", ask)
    for name, action in (("walk", readers.walk), ("look up", readers.look_up), ("hold", readers.hold)):
        chance = random.Random(name)
        crew.do(name, lambda action=action, chance=chance: action(chance))  # type: ignore[misc]
    crew.watch(SECONDS)
    assert readers.reads > 100
    refresh(mount)  # the current one
    refresh(mount)
    model = Reference(tmp_path / "db")
    for path in readers.seen:
        node = model.node(str(path.relative_to(mount)))
        assert path.exists() == (node is not None), path
        assert node is None or path.stat().st_size == node.size, path  # type: ignore[union-attr]
    compare(mount, model)
    for path, node in model.walk():
        if isinstance(node, File):
            assert (mount / path).read_bytes() == Path(node.source).read_bytes(), path
    eventually(lambda: len(os.listdir(f"/proc/{process}/fd")) == descriptors, "every descriptor closed")
    assert status(mount)["refresh"]["error"] is None
