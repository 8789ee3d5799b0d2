"""Databases that many tests read, and the rule that no test logs an unexpected warning."""

import logging
import re
import signal
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from trees import Quirky

from omidbfs.demo import generate

settings.register_profile("omidbfs", deadline=None, database=None, derandomize=True)
settings.register_profile("search", deadline=None, database=None, max_examples=1000)
settings.load_profile("omidbfs")

# nohup(1) and shells start programs that ignore these signals, and children inherit this. A test that sends such a
# signal would wait for ever.
for _number in (signal.SIGHUP, signal.SIGQUIT):
    signal.signal(_number, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Do not measure coverage in the large tests against a model. Smaller tests cover the same code."""
    if item.get_closest_marker("unmeasured") is None:
        return (yield)
    measuring = sys.gettrace()
    sys.settrace(None)
    try:
        return (yield)
    finally:
        sys.settrace(measuring)


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache directory for the indexes of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def demo_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean database of 25 clients. Tests must not change it."""
    path = tmp_path_factory.mktemp("demo") / "db"
    generate(path, 25, seed=5)
    return path


@pytest.fixture(scope="session")
def quirky_database(tmp_path_factory: pytest.TempPathFactory) -> Quirky:
    """A small database with every quirk. Tests must not change it."""
    path = tmp_path_factory.mktemp("quirky") / "db"
    return Quirky(path, generate(path, 3, seed=6, quirks=True))


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
