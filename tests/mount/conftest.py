"""Fixtures for real drives. They check the system, and leave nothing mounted or running."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from drives import Drives

_PROBE = """
import sys, pyfuse3
pyfuse3.init(pyfuse3.Operations(), sys.argv[1], {"ro"})
pyfuse3.close(unmount=True)
"""


@pytest.fixture(scope="session", autouse=True)
def fuse(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip a test if nothing can be mounted. With OMIDBFS_REQUIRE_FUSE=1 fail it."""
    place = tmp_path_factory.mktemp("probe")
    done = subprocess.run(
        [sys.executable, "-c", _PROBE, str(place)], capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if not line.startswith(("Traceback", " "))]
        reason = "FUSE cannot be used here: " + ("; ".join(said) or "no reason given")
        if os.environ.get("OMIDBFS_REQUIRE_FUSE") == "1":
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Drives]:
    """``drive(source, *options)`` mounts a drive for the test, and returns its mount point."""
    drives = Drives(tmp_path)
    yield drives
    drives.close()


@pytest.fixture(scope="session")
def session_drive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drives]:
    """A factory of drives that live as long as the session."""
    drives = Drives(tmp_path_factory.mktemp("session"))
    yield drives
    drives.close()


@pytest.fixture(scope="session")
def demo_drive(session_drive: Drives, demo_database: Path) -> Path:
    """The clean database, mounted for all tests that only read it."""
    return session_drive(demo_database)


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A temporary directory that every user may enter. The directories of pytest are private."""
    place = Path(tempfile.mkdtemp(prefix="omidbfs-"))
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)
