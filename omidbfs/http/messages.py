"""What a request asks and what a response says, without connections.

Used by every module of ``http``, in the loop of the drive. A request is immutable.
"""

import errno
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qsl, quote_from_bytes, unquote_to_bytes

LONGEST_TARGET = 16 << 10
"""The most bytes of a request line and its headers. The longest path of a drive, escaped, has less."""
_MOST_FIELDS = 16
"""The most fields of a query."""

_ABSOLUTE = re.compile(rb"(https?)://([^/?#@]+)(/[^#]*|\?[^#]*|)", re.I)

Chunk = bytes | bytearray | memoryview


class RefusedError(Exception):
    """A request cannot be answered. ``text`` is one line for people, and names nothing of the source."""

    def __init__(self, status: int, text: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, text)
        self.status = status
        self.text = text or HTTPStatus(status).phrase
        self.headers = headers or {}


_STATUS = {
    errno.ENOENT: 404,
    errno.ENOTDIR: 404,
    errno.ENAMETOOLONG: 414,
    errno.EACCES: 403,
    errno.EPERM: 403,
    errno.ENOSPC: 507,
    errno.ESTALE: 503,
    errno.EMFILE: 503,
    errno.ENFILE: 503,
    errno.EAGAIN: 503,
    errno.ENOMEM: 503,
    errno.EINTR: 503,
}
"""Error of the drive -> status. All others are 500."""

_TEXTS = {
    errno.ENOENT: "there is nothing at this path",
    errno.ENOTDIR: "there is nothing at this path",
    errno.ENAMETOOLONG: "the path is too long",
    errno.EACCES: "the source does not let this user read it",
    errno.ENOSPC: "the server has no room to make this file",
    errno.ESTALE: "the file has changed or is gone; try again",
    errno.EIO: "the file cannot be read or made; the log of the server says why",
}


def refusal(error: OSError) -> RefusedError:
    """Return the refusal that an error of the drive amounts to."""
    number = error.errno or errno.EIO
    status = _STATUS.get(number, 500)
    headers = {"Retry-After": "5"} if status == 503 else {}
    return RefusedError(status, _TEXTS.get(number, ""), headers)


@dataclass(frozen=True, slots=True)
class Request:
    """A request. ``names`` are the components of its path; ``is_directory`` says that a slash follows them.

    Names of headers are in lower case. ``scheme`` is that of a target in absolute form, whose host is then in
    ``headers``. ``user`` is the user at the other end of a Unix socket. ``peer`` stands for the machine at the
    other end of any other connection.
    """

    method: str
    names: tuple[bytes, ...]
    is_directory: bool
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""
    user: int | None = None
    peer: str = ""
    scheme: str = ""

    @property
    def path(self) -> str:
        """The path, quoted, as a URL has it."""
        slash = "/" if self.is_directory and self.names else ""
        return quoted(self.names) + slash


@dataclass(slots=True)
class Response:
    """A response. ``length`` is the number of bytes of a ``body`` that comes in parts; ``None``: unknown.

    ``close`` is called at the end, whether or not the body was sent.
    """

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | AsyncGenerator[Chunk, None] = b""
    length: int | None = None
    close: Callable[[], Awaitable[None]] | None = None


def plain(status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response of one line of text."""
    content = f"{text}\n".encode()
    return Response(status, {"Content-Type": "text/plain; charset=utf-8", **(headers or {})}, content)


def quoted(names: tuple[bytes, ...]) -> str:
    """Return names as the path of a URL, which begins with a slash."""
    return "/" + "/".join(quote_from_bytes(name, safe="~") for name in names)


def parsed(method: str, target: bytes, headers: Mapping[str, str]) -> Request:
    """Return the request for a target such as ``/by-view/CC/?token=...``, or ``http://localhost/by-view/CC/``.

    The host of a target in absolute form takes the place of the Host header (RFC 9112, section 3.2.2).

    Raises
    ------
    RefusedError
        400: the path has an empty component, ``.``, ``..``, a NUL or an escaped slash, or is no path at all.
    """
    absolute, scheme = _ABSOLUTE.fullmatch(target), ""
    if absolute is not None:
        scheme = absolute[1].decode().lower()
        headers = {**headers, "host": absolute[2].decode("latin-1")}
        target = absolute[3] if absolute[3].startswith(b"/") else b"/" + absolute[3]
    path, _, text = target.partition(b"?")
    if path == b"*" and method == "OPTIONS":
        path = b"/"
    if not path.startswith(b"/"):
        raise RefusedError(400, "the target of a request is a path that begins with a slash")
    is_directory = path.endswith(b"/")
    names = tuple(unquote_to_bytes(part) for part in path.strip(b"/").split(b"/")) if path.strip(b"/") else ()
    if path != b"/" and path.removesuffix(b"/").count(b"/") != len(names):
        raise RefusedError(400, "a component of the path is empty")
    if any(name in (b"", b".", b"..") or b"/" in name or b"\0" in name for name in names):
        raise RefusedError(400, "a component of the path is empty, . or .., or has a slash or NUL")
    try:
        pairs = parse_qsl(text.decode("ascii"), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise RefusedError(400, "the query cannot be read") from None
    return Request(method, names, is_directory, dict(pairs), headers, scheme=scheme)
