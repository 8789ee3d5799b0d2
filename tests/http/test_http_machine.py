"""Hypothesis takes a server and the plain model through random steps (``machine``)."""

import errno
import json
import os
import signal
from collections.abc import Callable, Mapping
from email.utils import formatdate
from pathlib import Path

from machine import Front, Machine, Shown, run
from reference import File
from servers import Answer, Entry, Server, Servers, eventually
from trees import Tree


def shown(entry: Entry) -> Shown:
    """Return what the server shows of a node."""
    return Shown(entry.is_directory, (entry.size, entry.modified), entry.tag or None)


class Response:
    """A file that a client has read, and asks for parts of, as a download that goes on."""

    def __init__(self, server: Server, path: str, answer: Answer) -> None:
        self._server, self._path, self._content = server, path, answer.body
        of_file = (int(answer["Content-Length"]), answer["Last-Modified"])
        assert of_file[0] == len(answer.body)
        self.shown = Shown(False, of_file, answer["ETag"])

    def read(self, offset: int, size: int, *, drops: bool) -> bytes | None:
        """Return some bytes of the same version, ``None`` if the path has another or none."""
        asked = f"bytes={offset}-{offset + size - 1}" if size else "bytes=0-0"
        tag = str(self.shown.identity)
        if drops:
            return self._content[offset : offset + size]
        answer = self._server.get(self._path, Range=asked, If_Range=tag)
        if answer["ETag"] != tag:
            assert answer.status in (200, 404, 503)
            return None
        if answer.status == 416:
            return b""
        assert answer.status == (206 if self._content else 200)
        return answer.body if size else b""

    def close(self) -> None:
        """Do nothing: the client has it."""


class Served(Front):
    """The server."""

    def __init__(self, servers: Servers, root: Path) -> None:
        super().__init__(root)
        self.server = servers(root)

    def _status(self) -> dict[str, object]:
        found: dict[str, dict[str, object]] = json.loads(self.server.get(".omidbfs/status.json").body)
        return found["refresh"]

    def refresh(self) -> None:
        done = self._status()["done"]
        self.server.process.send_signal(signal.SIGHUP)
        eventually(lambda: self._status()["done"] != done)
        assert self._status()["error"] is None

    def shown(self, path: str) -> Shown | None:
        found = self.server.found(path)
        return None if found is None else shown(found)

    def expected(self, file: File, links: Callable[[], int]) -> tuple[object, ...]:
        return file.size, formatdate(file.mtime // 10**9, usegmt=True)

    def listed(self, path: str) -> Mapping[str, Shown]:
        return {name: shown(entry) for name, entry in self.server.listed(path).items()}

    def open(self, path: str) -> Response:
        answer = self.server.get(path)
        if answer.status == 503:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        assert answer.status == 200, answer
        return Response(self.server, path, answer)


def test_a_server_does_what_its_model_does_whatever_the_steps(servers: Servers, tmp_path: Path) -> None:
    front = Served(servers, Tree(tmp_path / "db").root)
    run(lambda: Machine(front), 2)
    assert len(front.bytes_of) > 20
