"""A front end without a kernel lets an identity read the same files as the kernel on a mount."""

import itertools
import json
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import trio
from drives import Drives
from front_end import FrontEnd
from test_daemon import needs_root
from trees import Tree

from omidbfs.database.layout import find_source
from omidbfs.serving.drive import Drive
from omidbfs.serving.refresh import drive_of
from omidbfs.serving.rights import Identity
from omidbfs.serving.session import Session
from omidbfs.view.nodes import Directory
from omidbfs.view.ownership import Ownership

USER, GROUP, OTHER = 4001, 4002, 4003
MODES = [0o000, 0o004, 0o040, 0o044, 0o400, 0o404, 0o440, 0o444, 0o751]
IDENTITIES = [
    Identity(0, 0),
    Identity(0, OTHER),
    *(Identity(uid, gid) for uid, gid in itertools.product((USER, OTHER), (GROUP, OTHER, 0))),
    *(Identity(uid, OTHER, frozenset([GROUP])) for uid in (USER, OTHER)),
    Identity(OTHER, OTHER, frozenset([0, OTHER])),
    Identity(OTHER, GROUP, frozenset([0])),
]
_ASK = """
import json, os, sys

def may(call, path):
    try:
        call(path)
    except PermissionError:
        return False
    return True

def read(path):
    with open(path, "rb") as file:
        file.read()

paths, identities = json.load(sys.stdin)
os.chdir("/")
for uid, gid, groups in identities:
    if not os.fork():
        os.setgroups(groups)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        answers = {path: may(os.listdir if is_directory else read, path) for path, is_directory in paths.items()}
        print(json.dumps(answers), flush=True)
        os._exit(0)
    os.wait()
"""
"""Other users may be unable to start the interpreter, so a process of root changes to them."""


@pytest.fixture
def tree(open_path: Path) -> Tree:
    """A database with files of all modes and owners, some below directories that few users can enter."""
    tree = Tree(open_path / "db")
    owners = itertools.product((0, USER), (0, GROUP))
    for number, (uid, gid) in enumerate(owners):
        study = tree.client(f"demd{number}").study(f"{number}.1")
        for image, mode in enumerate(MODES):
            study.image(f"{number}.1.{image}", ViewPosition="CC")
            for file in tree.root.glob(f"*/*/*/{number}.1.{image}.*"):
                os.chown(file, uid, gid)
                file.chmod(mode)
    for place, mode in (("demd1", 0o750), ("demd2", 0o705), ("demd3", 0o711)):
        os.chown(tree.images / place, USER, GROUP)
        (tree.images / place).chmod(mode)
    return tree


def kernel_says(mount: Path, paths: dict[str, bool], identities: list[Identity]) -> list[dict[str, bool]]:
    """Return the paths on a mount that each identity may read, and whether each is a directory."""
    asked = {str(mount / path): is_directory for path, is_directory in paths.items()}
    users = [(identity.uid, identity.gid, sorted(identity.groups or ())) for identity in identities]
    command = [sys.executable, "-I", "-S", "-c", _ASK]
    said = subprocess.run(command, input=json.dumps([asked, users]), capture_output=True, text=True, check=True)
    return [
        {os.path.relpath(path, mount): may for path, may in json.loads(line).items()}
        for line in said.stdout.splitlines()
    ]


def drive_says(drive: Drive, paths: dict[str, bool], identity: Identity) -> dict[str, bool]:
    """Return the same for our own front end."""
    front_end = FrontEnd(drive, identity)

    async def may(path: str, is_directory: bool) -> bool:
        place = b"" if path == "." else os.fsencode(path)
        try:
            await (front_end.entries if is_directory else front_end.read)(place)
        except PermissionError:
            return False
        return True

    async def answers() -> dict[str, bool]:
        return {path: await may(path, is_directory) for path, is_directory in paths.items()}

    return trio.run(answers)


@needs_root
@pytest.mark.parametrize(
    ("root", "options", "ownership"),
    [
        (0o755, (), Ownership()),
        (0o750, (), Ownership()),
        (0o711, (), Ownership()),
        (0o544, (), Ownership()),
        (0o705, (), Ownership()),
        (0o755, ("--uid", str(USER), "--gid", str(GROUP)), Ownership(USER, GROUP)),
        (0o755, ("--umask", "005"), Ownership(umask=0o005)),
    ],
)
def test_a_front_end_permits_what_the_kernel_permits(
    drive: Drives, tree: Tree, open_path: Path, root: int, options: tuple[str, ...], ownership: Ownership
) -> None:
    for place in (tree.images, tree.data):
        os.chown(place, USER, GROUP)
        place.chmod(root)
    (open_path / "drive").mkdir()
    mount = drive(tree.root, "--allow-other", *options, at=open_path / "drive")
    index = open_path / "index"
    session = Session(find_source(tree.root), index, lambda: nullcontext(lambda *_: None), ownership=ownership)
    stored, _ = session.opened(pytest.fail)
    ours = drive_of(session, stored)
    names = [f"all/{os.path.basename(path)}" for path in tree.root.glob("*/*/*/*.*")]
    files = [
        "README.txt",
        ".omidbfs/status.json",
        ".omidbfs/problems.jsonl",
        "all/.omidbfs/paths.txt",
        "all/.omidbfs/cohort.tar",
        *names,
    ]
    places = [".", "all", "by-view", "by-client/demd1", "by-client/demd1/1.1", "all/.omidbfs", ".omidbfs"]
    paths = {**dict.fromkeys(files, False), **dict.fromkeys(places, True)}
    assert all(isinstance(FrontEnd(ours).find(os.fsencode(place)), Directory) for place in places[1:])
    expected = [drive_says(ours, paths, identity) for identity in IDENTITIES]
    answers = kernel_says(mount, paths, IDENTITIES)
    for identity, answer, by_us in zip(IDENTITIES, answers, expected, strict=True):
        assert answer == by_us, identity
    assert all(answers[0].values()), "root"
    assert len({tuple(answer.values()) for answer in answers}) > 2, "not all may do the same"
    ours.close()
    drive.umount(mount)
