"""Clusters on this machine, in their own processes."""

import importlib.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from clusters import Cluster, require
from trees import Quirky


@pytest.fixture(scope="session")
def database(quirky_database: Quirky) -> Path:
    """A database with every quirk; not to be changed."""
    return quirky_database.path


@pytest.fixture
def dask(tmp_path: Path) -> Iterator[Cluster]:
    """A scheduler with two workers."""
    require("the package distributed", importlib.util.find_spec("distributed") is not None)
    cluster = Cluster(tmp_path)
    try:
        cluster.start(2)
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def mpirun() -> list[str]:
    """``mpirun`` with three processes, as any user, on any machine, over no network but loopback."""
    program = shutil.which("mpirun")
    require("mpirun", program is not None)
    require("the package mpi4py", importlib.util.find_spec("mpi4py") is not None)
    assert program is not None
    loopback = [
        "--mca",
        "btl",
        "^openib",
        "--mca",
        "btl_tcp_if_include",
        "lo",
        "--mca",
        "oob_tcp_if_include",
        "lo",
    ]
    options = ["-n", "3", "--oversubscribe", *loopback]
    if os.geteuid() == 0:
        options.append("--allow-run-as-root")
    return [program, *options]
