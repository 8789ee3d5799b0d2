"""Across a network, an index is made with many requests under way, and is the same as that of a local disk."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from drives import eventually

from omidbfs.database.layout import find_source
from omidbfs.index.build import refreshed
from omidbfs.index.lanes import MOST_LANES

PROGRAM = Path(__file__).resolve().parents[2] / "benchmarks" / "distant.py"
MOST = 2 * MOST_LANES
"""Nobody waits until a file is closed, so there may be two requests for each lane."""


class Distant:
    """The database as a file system on which each request takes 2 ms."""

    def __init__(self, below: Path, place: Path) -> None:
        place.mkdir()
        self.place = place
        command = [sys.executable, str(PROGRAM), str(below), str(place), "0.002"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        eventually(lambda: os.path.ismount(place), "mounted")

    def most_under_way(self) -> int:
        """Return the largest number of requests at once since the last call."""
        assert self.process.stdout is not None
        self.process.send_signal(signal.SIGUSR1)
        return int(json.loads(self.process.stdout.readline())["most"])

    def goes_away(self) -> None:
        """Unmount."""
        self.process.terminate()
        self.process.communicate(timeout=60)


@pytest.fixture
def distant(demo_database: Path, tmp_path: Path) -> Iterator[Distant]:
    """The clean database, far away."""
    system = Distant(demo_database, tmp_path / "far")
    yield system
    system.goes_away()


def test_many_requests_are_under_way_across_a_network(distant: Distant, demo_database: Path) -> None:
    near = refreshed(find_source(demo_database))
    distant.most_under_way()
    far = refreshed(find_source(distant.place))
    assert 8 < distant.most_under_way() <= MOST
    assert ([*far.images], far.problem_lines) == ([*near.images], near.problem_lines)
    assert np.array_equal(far.client_digest, near.client_digest)
    assert all(np.array_equal(column, near.columns[name]) for name, column in far.columns.items())
    assert refreshed(find_source(distant.place), far) is far
    assert 8 < distant.most_under_way() <= MOST
