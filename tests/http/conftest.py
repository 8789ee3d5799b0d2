"""Servers for the tests of HTTP."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import Server, Servers


@pytest.fixture(scope="session")
def session_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """A factory of servers that live as long as the session."""
    servers = Servers(tmp_path_factory.mktemp("servers"))
    yield servers
    servers.close()


@pytest.fixture
def servers(tmp_path: Path, open_path: Path) -> Iterator[Servers]:
    """A factory of servers for one test. They end before ``open_path`` is removed, which may hold their source."""
    servers = Servers(tmp_path)
    yield servers
    servers.close()


@pytest.fixture(scope="session")
def server(session_servers: Servers, demo_database: Path) -> Server:
    """The clean database, served for all tests that only read it."""
    return session_servers(demo_database)
