"""An index that a cluster builds is the index that one process builds."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from clusters import Cluster, require

from omidbfs.index.measured import place_of

DRIVER = """
import os, sys
from pathlib import Path

from omidbfs.database.layout import find_source
from omidbfs.base.errors import UserError
from omidbfs.index import build
from omidbfs.index.build import Work, refreshed
from omidbfs.index.executors import executor_for
from omidbfs.index.fingerprint import fingerprint; from omidbfs.index.store import save


def progress(phase, done, total, images):
    print(phase, done, total, flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    source, name, path = find_source(Path(sys.argv[1])), sys.argv[2], Path(sys.argv[3])
    build.CLIENTS_PER_CHUNK = 1
    try:
        with executor_for(name, 2) as executor:
            index = refreshed(source, None, Work(executor, 2, progress))
        save(path, index, fingerprint(source))
    except UserError as error:
        print("UserError", error, flush=True)
"""


OF_LINKS = r"omidbfs: [0-9]+ images; symbolic links that are not followed: 1, see --follow-symlinks\n"
"""The expected output of every build of an index of the odd database."""


def omidbfs(*arguments: str | Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "omidbfs", *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def arrays(path: Path) -> dict[str, list[object]]:
    """Return the content of an index file, without the time when it was written."""
    found: dict[str, np.ndarray] = safetensors.numpy.load_file(path)
    meta = json.loads(found.pop("meta").tobytes())
    assert time.time() - meta.pop("written") < 600
    return {name: [str(array.dtype), array.tolist()] for name, array in found.items()} | {"meta": [meta]}


@pytest.fixture(scope="session")
def expected(database: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[object]]:
    """The index that one process makes."""
    path = tmp_path_factory.mktemp("expected") / "index"
    done = omidbfs("index", database, "--index", path, "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(OF_LINKS, done.stderr)
    return arrays(path)


class Driver:
    """A build that waits for permission after each client."""

    def __init__(self, source: Path, executor: str, index: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, source, executor, index],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def finish(self) -> tuple[str, str]:
        """Let the build finish. Return its output."""
        try:
            return self.process.communicate("\n" * 1000, timeout=120)
        finally:
            self.process.kill()
            self.process.wait()


# Dask ------------------------------------------------------------------------------------------------------


def test_dask_gives_the_same_index(
    dask: Cluster, database: Path, tmp_path: Path, expected: dict[str, list[object]]
) -> None:
    path, executor = tmp_path / "index", f"dask://{dask.address}"
    for changed in (True, False):
        done = omidbfs("index", database, "--index", path, "--executor", executor, "--json")
        assert done.returncode == 0, dask.log()
        assert re.fullmatch(OF_LINKS, done.stderr)
        assert json.loads(done.stdout)["changed"] is changed
    assert arrays(path) == expected
    omidbfs("index", database, "--index", path, "--executor", executor, "--rebuild")
    assert arrays(path) == expected


def test_dask_gives_the_same_index_though_a_worker_is_killed(
    dask: Cluster, database: Path, tmp_path: Path, expected: dict[str, list[object]]
) -> None:
    driver = Driver(database, f"dask://{dask.address}", tmp_path / "index")
    assert driver.line().startswith("reading 1 ")
    dask.workers[0].send_signal(signal.SIGKILL)
    dask.workers[0].wait()
    said, errors = driver.finish()
    assert driver.process.returncode == 0, errors
    assert "UserError" not in said
    assert arrays(tmp_path / "index") == expected
    assert dask.workers[1].poll() is None


def test_a_scheduler_that_goes_away_ends_the_work_with_one_line(
    dask: Cluster, database: Path, tmp_path: Path
) -> None:
    driver = Driver(database, f"dask://{dask.address}", tmp_path / "index")
    assert driver.line().startswith("reading 1 ")
    dask.scheduler.send_signal(signal.SIGKILL)
    dask.scheduler.wait()
    said, errors = driver.finish()
    last = said.splitlines()[-1]
    assert last == f"UserError --executor dask://{dask.address}: no scheduler answers there (it went away)", errors
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("127.0.0.1:1", "Connection refused"),
        ("nowhere.invalid:8786", "Name or service not known|Temporary failure in name resolution"),
        ("127.0.0.1:99999", "write dask://HOST:PORT"),
        ("127.0.0.1", "write dask://HOST:PORT"),
        ("", "write dask://HOST:PORT"),
    ],
)
def test_a_missing_scheduler_is_one_line(database: Path, tmp_path: Path, address: str, why: str) -> None:
    require("the package distributed", importlib.util.find_spec("distributed") is not None)
    done = omidbfs("index", database, "--index", tmp_path / "index", "--executor", f"dask://{address}")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"--executor dask://{address}: no scheduler answers there (" in done.stderr
    assert any(reason in done.stderr for reason in why.split("|"))


# MPI -------------------------------------------------------------------------------------------------------


def test_mpi_gives_the_same_index(
    mpirun: list[str], database: Path, tmp_path: Path, expected: dict[str, list[object]]
) -> None:
    path = tmp_path / "index"
    program = [sys.executable, "-P", "-m", "mpi4py.futures", "-m", "omidbfs"]
    for changed in (True, False):
        done = subprocess.run(
            [*mpirun, *program, "index", database, "--executor", "mpi", "--index", path, "--json"],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["changed"] is changed
    assert arrays(path) == expected


def test_mpi_gives_the_same_index_client_by_client(
    mpirun: list[str], database: Path, tmp_path: Path, expected: dict[str, list[object]]
) -> None:
    (tmp_path / "driver.py").write_text(DRIVER)
    program = [sys.executable, "-m", "mpi4py.futures", tmp_path / "driver.py"]
    done = subprocess.run(
        [*mpirun, *program, database, "mpi", tmp_path / "index"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == int(lines[-1].split()[2]) > 20
    assert arrays(tmp_path / "index") == expected


# Renditions


def exported(out: Path) -> dict[str, bytes]:
    """Return the files of an export, without its record, whose order may differ."""
    found = (path for path in out.rglob("*") if path.is_file() and path.name != ".omidbfs-export.jsonl")
    return {str(path.relative_to(out)): path.read_bytes() for path in found}


@pytest.fixture(params=["dask", "mpi"])
def elsewhere(request: pytest.FixtureRequest) -> tuple[list[str], str]:
    """The program that works on a cluster, and its ``--executor``."""
    if request.param == "dask":
        return [sys.executable, "-m", "omidbfs"], f"dask://{request.getfixturevalue('dask').address}"
    python = [sys.executable, "-P", "-m", "mpi4py.futures"]
    return [*request.getfixturevalue("mpirun"), *python, "-m", "omidbfs"], "mpi"


def test_renditions_are_the_same_wherever_they_are_made(
    elsewhere: tuple[list[str], str], database: Path, tmp_path: Path
) -> None:
    program, executor = elsewhere
    command = ("export", database, "by-view/MLO/by-fold/5-9", "--as", "png-64x64", "--workers", "2", "-o")
    for name in ("out", "images.npy"):
        (tmp_path / "local").mkdir(exist_ok=True)
        here = omidbfs(*command, tmp_path / "local" / name)
        (tmp_path / "there").mkdir(exist_ok=True)
        place = tmp_path / "there" / name
        done = subprocess.run(
            [*program, *command, place, "--executor", executor],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert here.returncode == 1
        assert done.returncode != 0, done.stderr  # mpirun itself may crash when a program fails (Open MPI 4.1.4)
        assert done.stdout == here.stdout, "two images are no DICOM files"
    assert len(exported(tmp_path / "local")) > 100
    assert exported(tmp_path / "there") == exported(tmp_path / "local")


# Geometry


def test_the_geometry_is_the_same_wherever_it_is_measured(
    elsewhere: tuple[list[str], str], database: Path, tmp_path: Path
) -> None:
    program, executor = elsewhere
    index, found = tmp_path / "index", []
    for where, started in (("local", [sys.executable, "-m", "omidbfs"]), (executor, program)):
        place_of(index).unlink(missing_ok=True)
        command = [*started, "geometry", database, "by-view/MLO/by-fold/0-1,9", "--index", index]
        done = subprocess.run(
            [*command, "--executor", where, "--workers", "2"],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert place_of(index).exists(), done.stderr
        kept = safetensors.numpy.load_file(place_of(index))
        meta = json.loads(kept.pop("meta").tobytes())
        kinds = [meta["kinds"][kind] for kind in kept.pop("kind")]
        failed = done.returncode != 0  # mpirun itself may crash when a program fails (Open MPI 4.1.4)
        found.append(({name: array.tolist() for name, array in kept.items()}, kinds, failed, done.stdout))
    assert found[0] == found[1]
    assert len(found[0][1]) > 50
    assert sum(any(box) for box in found[0][0]["box"]) > 25
