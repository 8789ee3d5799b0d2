"""``scripts/bench http``: measures a server: bytes by ranges, long listings, and the pages for browsers.

The floor of the bytes is a bare loop that reads the same file and sends it over a socket, in the same run.
"""

import html
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import click
import synthetic
from database import clone_clients
from figures import Figures, padded, show
from rich.console import Console

_STILL = Path(__file__).with_name("still.py")
_CLIENTS = 512
_LARGE = 400 << 20
_RANGES = (1 << 20, 8 << 20, _LARGE)
_ENTRIES = 100_000
_LARGE_COHORT = 300_000
_TIMES = 3
_PART = 256 << 10
_READING = 3
"""Seconds in which a server reads and checks its index, after it has begun to listen."""


@click.command()
@click.option("--rows", default=3_000_000, show_default=True, help="The number of rows of the synthetic index.")
@click.option(
    "--directory", type=click.Path(path_type=Path), help="Where to work.  [default: the temporary directory]"
)
def http(rows: int, directory: Path | None) -> None:
    """Measure a server on loopback, with a client that only counts bytes."""
    status = Console(stderr=True, highlight=False).status("Writing a large file ...")
    answers = []
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="omidbfs-bench-", dir=directory)))
        stack.enter_context(status)
        large = _large_file(work / "large")
        floor = _best(lambda: _bare(large))
        with _served(work, work / "large", work / "large.index") as (port, token):
            for size in _RANGES:
                seconds = _best(lambda size=size: _by_ranges(port, token, size))  # type: ignore[misc]
                speeds = [f"{_LARGE / one / 1e6:,.0f} MB/s" for one in (seconds, floor)]
                answers.append((f"ranges of {size >> 20} MB", *speeds))
        status.update("Writing an index ...")
        source, saved = work / "source", work / "synthetic.index"
        for _ in zip(range(_CLIENTS), clone_clients(source, tiny=True), strict=False):
            pass
        rows, _ = synthetic.write(source, rows, saved)
        place = synthetic.find_cohort(source, saved, _ENTRIES // 2)
        status.update("Listing ...")
        with _served(work, source, saved) as (port, token):
            large_place = synthetic.find_cohort(source, saved, _LARGE_COHORT)
            # PROPFIND refuses the entries of the larger one, as it says (LARGEST_LISTING).
            for path, questions in ((place, _questions(place)), (large_place, [*_questions(large_place)][1:])):
                for what, ask in questions:
                    found: list[int] = []
                    seconds = _best(lambda ask=ask, found=found: found.append(ask(port, token)))  # type: ignore[misc]
                    answers.append((f"{what} of {path}: {found[-1]:,}", f"{1000 * seconds:,.0f} ms"))
        status.update("Counting ...")
        for what, pause in (("once it has read its index", _READING), ("as soon as it listens", 0)):
            first = min(_first_page(work, source, saved, large_place, pause) for _ in range(_TIMES))
            for said, one in (
                (f"the first page of a server, {what}", first.page),
                ("others", first.rest),
            ):
                answers.append((f"{said}: {one.facets} facets", f"{1000 * one.seconds:,.0f} ms"))
    title = "a server on loopback; the best of three"
    show("http", Figures(title, ("", "result", "floor"), padded(answers, 3)))


def _questions(path: str) -> Iterator[tuple[str, Callable[[int, str], int]]]:
    yield "PROPFIND", lambda port, token: _asked(port, token, f"PROPFIND /{path}/", "Depth: 1").count(b"<D:href>")
    yield "names", lambda port, token: _asked(port, token, f"GET /{path}/").count(b"\n")
    yield (
        "page, values",
        lambda port, token: _asked(port, token, f"GET /{path}/", "Accept: text/html").count(b"data-n"),
    )


class _Counted(NamedTuple):
    seconds: float
    facets: int


class _First(NamedTuple):
    """The first page of a cohort, and the facets that its script asks for after that, one by one."""

    page: _Counted
    rest: _Counted


def _first_page(work: Path, source: Path, index: Path, path: str, pause: float) -> _First:
    """Ask a new server, which has counted nothing yet, for a page, so many seconds after it began to listen."""
    with _served(work, source, index) as (port, token):
        time.sleep(pause)
        begun = time.perf_counter()
        content = _asked(port, token, f"GET /{path}/", "Accept: text/html")
        took = time.perf_counter() - begun
        waiting = re.findall(rb'data-facet="([^"]+)"', content)
        begun = time.perf_counter()
        for one in waiting:
            _asked(port, token, f"GET {html.unescape(one.decode())}", "Accept: text/html")
        rest = _Counted(time.perf_counter() - begun, len(waiting))
    return _First(_Counted(took, content.count(b'<section class="facet"') - len(waiting)), rest)


def _large_file(root: Path) -> Path:
    images, data = root / "images/demd1/1.1", root / "data/demd1/1.1"
    for place in (images, data):
        place.mkdir(parents=True)
    (data / "1.1.1.json").write_text(json.dumps({}))
    path = images / "1.1.1.dcm"
    with path.open("wb") as stream:
        for _ in range(_LARGE >> 20):
            stream.write(os.urandom(1 << 20))
    return path


@contextmanager
def _served(work: Path, source: Path, index: Path) -> Iterator[tuple[int, str]]:
    command = [sys.executable, str(_STILL), "serve", f"--index={index}", "--http=127.0.0.1:0", str(source)]
    where = {**os.environ, "XDG_CACHE_HOME": str(work / "cache")}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=where)
    try:
        assert process.stdout is not None
        said = process.stdout.readline().strip()
        if not said:
            raise click.ClickException("http: the server did not start")
        address, _, token = said.partition("/?token=")
        yield int(address.rpartition(":")[2]), token
    finally:
        process.terminate()
        process.wait()


def _best(measured: Callable[[], object]) -> float:
    times = []
    for _ in range(_TIMES):
        begun = time.perf_counter()
        measured()
        times.append(time.perf_counter() - begun)
    return min(times)


def _by_ranges(port: int, token: str, size: int) -> None:
    buffer = memoryview(bytearray(1 << 20))
    with socket.create_connection(("127.0.0.1", port)) as one:
        for start in range(0, _LARGE, size):
            asked = f"Range: bytes={start}-{start + size - 1}\r\nAuthorization: Bearer {token}"
            one.sendall(f"GET /all/1.1.1.dcm HTTP/1.1\r\nHost: localhost\r\n{asked}\r\n\r\n".encode())
            head = b""
            while b"\r\n\r\n" not in head:
                head += one.recv(4096)
            if not head.startswith(b"HTTP/1.1 206 "):
                raise click.ClickException("http: the server refused a range")
            left = size - len(head.partition(b"\r\n\r\n")[2])
            while left:
                left -= one.recv_into(buffer)


def _bare(path: Path) -> None:
    """Read a file in parts in another process, which sends each part over a socket."""
    code = (
        "import os, socket, sys\n"
        "one = socket.create_connection(('127.0.0.1', int(sys.argv[2])))\n"
        f"file, part = os.open(sys.argv[1], os.O_RDONLY), bytearray({_PART})\n"
        "while count := os.readv(file, [part]): one.sendall(memoryview(part)[:count])\n"
    )
    buffer = memoryview(bytearray(1 << 20))
    with socket.create_server(("127.0.0.1", 0)) as server:
        process = subprocess.Popen([sys.executable, "-S", "-c", code, str(path), str(server.getsockname()[1])])
        one, _ = server.accept()
        with one:
            while one.recv_into(buffer):
                pass
    process.wait()


def _asked(port: int, token: str, line: str, header: str = "Accept: */*") -> bytes:
    with socket.create_connection(("127.0.0.1", port)) as one:
        headers = f"Host: localhost\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n{header}"
        one.sendall(f"{line} HTTP/1.1\r\n{headers}\r\n\r\n".encode())
        parts = []
        while part := one.recv(1 << 20):
            parts.append(part)
    answer = b"".join(parts)
    if answer[9:12] not in (b"200", b"207"):
        raise click.ClickException(f"http: {answer[:40].decode()}")
    return answer
