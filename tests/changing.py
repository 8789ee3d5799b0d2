"""A database that changes while it is used, and paths of its drive. ``machine`` takes the steps."""

import json
import os
import shutil
from pathlib import Path

from hypothesis import strategies as st
from trees import MARK, Tree

CLIENTS = ("demd1", "demd2", "optm3")
STUDIES = ("1", "2")
IMAGES = ("1", "2", "3", "4", "9.9.9")
"""The last UID may be in several places, so it becomes a duplicate and stops being one."""
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


def names_of(which: tuple[str, str, str]) -> tuple[str, str]:
    """Return the study and the name of an image."""
    client, study, image = which
    return f"{client}.{study}", image if image == IMAGES[-1] else f"{client}.{study}.{image}"


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
