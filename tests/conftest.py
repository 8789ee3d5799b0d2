"""Databases that many tests read, and the rule that no test logs an unexpected warning."""

import fcntl
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import settings
from trees import Quirky

from omidbfs.database.problems import Problem

_ENVIRONMENT = {**os.environ}
"""The environment before any test changes it. It may ask for the measurement of coverage."""

_HOPELESS = 720
"""Seconds after which a test waits for a drive that does not answer. Its own time is over before (``timeout``)."""
_begun = deque[float](maxlen=1)
"""When the last test began."""

settings.register_profile("omidbfs", deadline=None, database=None, derandomize=True)
settings.register_profile("search", deadline=None, database=None, max_examples=1000)
settings.load_profile("omidbfs")

# nohup(1) and shells start programs that ignore these signals, and children inherit this. A test that sends such a
# signal would wait for ever.
for _number in (signal.SIGHUP, signal.SIGQUIT):
    signal.signal(_number, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the tests of packages that are heavy to install, unless they are named."""
    is_named = any("ecosystem" in argument for argument in config.args)
    return True if collection_path == Path(__file__).with_name("ecosystem") and not is_named else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the large tests first, so that no worker still runs one when all others have ended."""
    items.sort(key=lambda item: all(marker.name != "unmeasured" for marker in item.own_markers))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Do not measure coverage in tests marked ``unmeasured``. Measure processes only in those that mount.

    The former are the large tests against a model, and those of tools and pages: smaller ones cover the same code.
    To measure a process takes as long as to start Python twice, and drives show what processes do.
    """
    _begun.append(time.monotonic())
    is_measured = item.get_closest_marker("unmeasured") is None
    if is_measured and item.path.parent.name == "mount":
        return (yield)
    measuring, in_threads = sys.gettrace(), threading.gettrace()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("COVERAGE_PROCESS_START", raising=False)
        if not is_measured:
            sys.settrace(None)
            threading.settrace(None)  # type: ignore[arg-type]
        try:
            return (yield)
        finally:
            if not is_measured:
                sys.settrace(measuring)
                threading.settrace(in_threads)  # type: ignore[arg-type]


@pytest.fixture(scope="session", autouse=True)
def _rescue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Kill the drives of a test that waits for one for ever: the kernel lets no signal reach who waits there."""
    place, is_over = os.fsencode(tmp_path_factory.getbasetemp()) + b"/", threading.Event()

    def watch() -> None:
        while not is_over.wait(10):
            if time.monotonic() > _begun[-1] + _HOPELESS:
                for process in Path("/proc").glob("[0-9]*"):
                    with suppress(OSError):
                        if place in (process / "cmdline").read_bytes():
                            os.kill(int(process.name), signal.SIGKILL)

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    yield
    is_over.set()
    watching.join()


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache directory for the indexes of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def shared_demo(tmp_path_factory: pytest.TempPathFactory, name: str, *options: str) -> Path:
    """Return a demo database that the first worker of pytest-xdist makes, and all use.

    A process of its own makes it, so that its coverage is measured whichever test comes first.
    """
    base = tmp_path_factory.getbasetemp()
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with place.with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.fstat(lock.fileno()).st_size:
            command = [sys.executable, "-m", "omidbfs", "demo", str(place / "db"), *options]
            subprocess.run(command, env=_ENVIRONMENT, cwd=base, check=True, stdout=subprocess.DEVNULL)
            lock.write("made")
    return place / "db"


@pytest.fixture(scope="session")
def demo_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean database of 25 clients. Tests must not change it."""
    return shared_demo(tmp_path_factory, "demo", "--clients", "25", "--seed", "5")


@pytest.fixture(scope="session")
def quirky_database(tmp_path_factory: pytest.TempPathFactory) -> Quirky:
    """A small database with every quirk. Tests must not change it."""
    path = shared_demo(tmp_path_factory, "quirky", "--clients", "3", "--seed", "6", "--quirks")
    lines = (path / "quirks.jsonl").read_bytes().splitlines()
    return Quirky(path, [msgspec.json.decode(line, type=Problem) for line in lines])


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A temporary directory that every user may enter. The directories of pytest are private."""
    place = Path(tempfile.mkdtemp(prefix="omidbfs-"))
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)


class _Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []
        self.expected: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname}: {record.getMessage()}")


@pytest.fixture(autouse=True)
def _warnings_logged() -> Iterator[_Kept]:
    """Fail a test if ``omidbfs`` logged an unexpected warning or worse in its process."""
    kept = _Kept()
    logger = logging.getLogger("omidbfs")
    logger.addHandler(kept)
    yield kept
    logger.removeHandler(kept)
    assert [line for line in kept.lines if not any(re.search(text, line) for text in kept.expected)] == []


@pytest.fixture
def expect_warning(_warnings_logged: _Kept) -> Callable[[str], None]:
    """``expect_warning(regex)``: lines that match may be logged in this process."""
    return _warnings_logged.expected.append
