"""Samba serves a drive: a client of the network sees the sizes and bytes of the source."""

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from drives import Drives, eventually
from programs import found, needs
from trees import Tree

SMBD = found("smbd")

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="smbd needs root"),
    needs("smbd", "smbclient"),
]

CONFIGURATION = """
[global]
server role = standalone server
smb ports = {port}
interfaces = 127.0.0.1/8
bind interfaces only = yes
disable netbios = yes
map to guest = Bad User
guest account = nobody
load printers = no
disable spoolss = yes
passdb backend = tdbsam:{place}/passdb.tdb
private dir = {place}
lock directory = {place}
state directory = {place}
cache directory = {place}
pid directory = {place}
ncalrpc dir = {place}/ncalrpc
log file = {place}/log
[omidb]
path = {drive}
guest ok = yes
"""

LARGE = bytes(range(256)) * 12_001
"""About 3 MB, not a multiple of any block size."""


def is_listening(port: int) -> bool:
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0


class Share:
    """A share, and its client."""

    def __init__(self, port: int, directory: Path) -> None:
        self._port = port
        self._directory = directory

    def run(self, command: str) -> str:
        """Run commands of smbclient in the share, from a new directory."""
        client = ["smbclient", "//127.0.0.1/omidb", f"--port={self._port}", "--no-pass", "-c", command]
        done = subprocess.run(client, cwd=self._directory, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def get(self, path: str) -> bytes:
        """Return the content of a file."""
        self.run(f'get "{path}" got')
        return (self._directory / "got").read_bytes()


@pytest.fixture
def share(drive: Drives, open_path: Path) -> Iterator[Share]:
    """A drive that smbd serves to guests on a port of this machine."""
    tree = Tree(open_path / "db")
    study = tree.client().study()
    study.image("1.1.1", dcm=LARGE, ViewPosition="CC").image("1.1.2", dcm=b"small", ViewPosition="MLO")
    for name in ("drive", "smbd", "client"):
        (open_path / name).mkdir()
    mount = drive(tree.root, "--allow-other", at=open_path / "drive")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    configuration = open_path / "smbd/smb.conf"
    configuration.write_text(CONFIGURATION.format(port=port, place=open_path / "smbd", drive=mount))
    assert SMBD is not None
    command = [SMBD, "--foreground", "--no-process-group", f"--configfile={configuration}"]
    server = subprocess.Popen(command, start_new_session=True, env=drive.environment)
    try:
        eventually(lambda: server.poll() is not None or is_listening(port), "smbd listening")
        yield Share(port, open_path / "client")
    finally:
        server.terminate()
        server.wait(timeout=30)
        eventually(lambda: set(drive.processes()) <= {drive.pid(mount)}, "the children of smbd gone")
        drive.umount(mount)


def test_a_share_has_the_sizes_and_bytes_of_the_source(share: Share, open_path: Path) -> None:
    listed = {line.split()[0]: line.split()[2] for line in share.run("ls all\\*").splitlines() if "1.1." in line}
    sources = {path.name: path for path in (open_path / "db").rglob("1.1.*")}
    assert listed == {name: str(path.stat().st_size) for name, path in sources.items()}
    for name, path in sources.items():
        assert share.get(f"all/{name}") == path.read_bytes()
    # Nested facets are found by name here, too.
    assert share.get("by-view/CC/by-file-type/dcm/1.1.1.dcm") == LARGE
