"""Fixtures for real drives. They check the system, and leave nothing mounted or running."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from drives import Drives

_PROBE = """
import sys, pyfuse3
pyfuse3.init(pyfuse3.Operations(), sys.argv[1], {"ro"})
pyfuse3.close(unmount=True)
"""


_MEASURED = ("daemon", "fstab", "generated", "handlers", "lifecycle")
"""Modules of tests in which coverage is measured. A drive is several processes, and to measure one takes longer
than to start it. The other modules show drives to tools and models, or under stress, and run the same code."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of the other modules."""
    measured = {Path(__file__).with_name(f"test_{name}.py") for name in _MEASURED}
    for item in items:
        if item.path.parent == Path(__file__).parent and item.path not in measured:
            item.add_marker(pytest.mark.unmeasured)


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
def drive(tmp_path: Path, open_path: Path) -> Iterator[Drives]:
    """``drive(source, *options)`` mounts a drive for the test, and returns its mount point.

    Drives end before ``open_path`` is removed, which may hold their source.
    """
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
