"""Starts servers with the real command, speaks HTTP to them, and checks that they leave nothing behind."""

import base64
import http.client
import os
import re
import socket
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

DAV = "{DAV:}"
_MEASURED = {name: text for name, text in os.environ.items() if name == "COVERAGE_PROCESS_START"}
"""What asks for the coverage of a process. Servers are few, so each is measured."""


@dataclass
class Answer:
    """A response."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def __getitem__(self, name: str) -> str:
        return self.headers[name] or ""


@dataclass
class Entry:
    """An entry of a listing over WebDAV."""

    is_directory: bool
    size: int
    modified: str
    tag: str


class Server:
    """A running ``omidbfs serve``, and a client of it."""

    def __init__(self, process: "subprocess.Popen[str]", said: str, log: Path) -> None:
        self.process, self.said, self.log = process, said, log
        match = re.fullmatch(r"(https?)://(.*):(\d+)/(?:\?token=(.*))?|unix:(.*)", said)
        assert match, said
        self.token = match[4] or ""
        self.port = int(match[3] or 0)
        self.path = match[5] or ""
        self.url = f"{match[1]}://{match[2]}:{match[3]}"
        self._used = 0.0
        self._connection: http.client.HTTPConnection | None = None

    def connection(self) -> http.client.HTTPConnection:
        """Return a new connection."""
        if not self.path:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        made = http.client.HTTPConnection("localhost", timeout=60)
        made.sock = socket.socket(socket.AF_UNIX)
        made.sock.connect(self.path)
        return made

    def ask(
        self, method: str, target: str, *, body: str | None = None, known: bool = True, **headers: str
    ) -> Answer:
        """Send a request, with the token if this client is to be ``known``; ``if_match`` is ``If-Match``."""
        if time.monotonic() - self._used > 20:  # it may be closed by now
            self.close()
        self._used = time.monotonic()
        connection = self._connection or self.connection()
        self._connection = connection
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if known and self.token:
            sent.setdefault("Authorization", f"Bearer {self.token}")
        try:
            connection.request(method, target, body, sent)
            response = connection.getresponse()
            answer = Answer(response.status, response.headers, response.read())
        except BaseException:
            self.close()
            raise
        if response.will_close:
            self.close()
        return answer

    def get(self, path: str, **headers: str) -> Answer:
        """Get what is at a path, which is not quoted."""
        return self.ask("GET", "/" + quote(path), **headers)

    def listed(self, path: str) -> dict[str, Entry]:
        """Return the entries of a directory."""
        found = self._described(path + ("/" if path else ""), "1")
        assert found is not None, path
        del found[path]
        return {name.rpartition("/")[2]: entry for name, entry in found.items()}

    def found(self, path: str) -> Entry | None:
        """Return what is at a path, ``None`` if nothing is."""
        found = self._described(path, "0")
        return None if found is None else found[path]

    def _described(self, path: str, depth: str) -> dict[str, Entry] | None:
        answer = self.ask("PROPFIND", "/" + quote(path), Depth=depth)
        if answer.status == 404:
            return None
        assert answer.status == 207, (path, answer)
        found = {}
        for element in ET.fromstring(answer.body).findall(f"{DAV}response"):
            href = unquote(element.findtext(f"{DAV}href") or "")
            found[href.strip("/")] = Entry(
                href.endswith("/") and element.find(f".//{DAV}collection") is not None,
                int(element.findtext(f".//{DAV}getcontentlength") or 0),
                element.findtext(f".//{DAV}getlastmodified") or "",
                element.findtext(f".//{DAV}getetag") or "",
            )
        return found

    def walk(self, enters: Callable[[str], bool], path: str = "") -> Iterator[tuple[str, Entry]]:
        """Yield every listed path below a directory, as far as it ``enters`` the directories."""
        for name, entry in self.listed(path).items():
            below = f"{path}/{name}" if path else name
            yield below, entry
            if entry.is_directory and enters(below):
                yield from self.walk(enters, below)

    def close(self) -> None:
        """Close the connection of this client. The next request opens another."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def raw(self, sent: bytes) -> bytes:
        """Send bytes, and return what comes back until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as one:
            one.sendall(sent)
            found = b""
            while part := one.recv(1 << 16):
                found += part
            return found


class Servers:
    """Starts servers: call it with a source and options."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = {
            **os.environ,
            "XDG_STATE_HOME": str(directory / "state"),
            "XDG_CONFIG_HOME": str(directory / "config"),
        }
        self.program = ["-m", "omidbfs"]
        self.running: list[Server] = []

    def run(self, *arguments: object, text: str = "") -> "subprocess.CompletedProcess[str]":
        """Run ``omidbfs`` to its end."""
        command = [sys.executable, "-m", "omidbfs", *map(str, arguments)]
        return subprocess.run(
            command, input=text, capture_output=True, text=True, env=self.environment, timeout=120, check=False
        )

    def __call__(self, source: Path, *options: object, at: str = "127.0.0.1:0") -> Server:
        """Start a server, and return it when it listens."""
        log = self.directory / f"server{len(self.running)}.log"
        command = [sys.executable, *self.program, "serve", source, "--http", at, "--log-file", log, *options]
        process = subprocess.Popen(
            [*map(str, command)],
            env={**self.environment, **_MEASURED},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        said = process.stdout.readline().strip()
        assert said, process.communicate()
        server = Server(process, said, log)
        self.running.append(server)
        return server

    def end(self, server: Server) -> str:
        """End a server; return what it wrote to standard error."""
        self.running.remove(server)
        server.close()
        server.process.terminate()
        _, errors = server.process.communicate(timeout=30)
        assert server.process.returncode == 0, errors
        assert "Traceback" not in server.log.read_text()
        assert not server.token or server.token not in server.log.read_text()
        return errors

    def close(self) -> None:
        """End all servers, and check that they had nothing to report."""
        lines = [line for server in [*self.running] for line in self.end(server).splitlines()]
        expected = ("reading clients: ", "omidbfs: ")  # on a slow machine, and of links that are not followed
        unexpected = [line for line in lines if not line.startswith(expected) or "WARNING" in line]
        assert not unexpected, unexpected


def basic(name: str, password: str) -> str:
    """Return the header of HTTP Basic authentication."""
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def eventually(condition: Callable[[], bool], seconds: float = 120) -> None:
    """Wait until ``condition()`` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
