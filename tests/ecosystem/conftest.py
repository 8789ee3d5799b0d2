"""A real drive for packages that are heavy to install. ``scripts/test --ecosystem`` runs these tests."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "mount"))

from drives import Drives


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Measure no coverage here."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.unmeasured)


@pytest.fixture(scope="session")
def mount(tmp_path_factory: pytest.TempPathFactory, demo_database: Path) -> Iterator[Path]:
    """The clean database as a drive. The name is the one that the documentation uses."""
    drives = Drives(tmp_path_factory.mktemp("ecosystem"))
    place = drives.directory / "mnt"
    place.mkdir()
    yield drives(demo_database, at=place)
    drives.close()


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs write their settings and caches into the directory of the test, and ask no server."""
    for name in ("HOME", "HF_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
