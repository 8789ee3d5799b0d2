"""WebDAV of class 1, read-only: PROPFIND and its properties (RFC 4918).

Used by ``application``, in the loop of the drive. A directory is answered a page of entries at a time, so it takes
little memory, however long it is. Expat parses the body of a request. A body with a document type is refused, so
no entity is ever expanded.
"""

import functools
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from urllib.parse import quote_from_bytes
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

import trio

from omidbfs.http.messages import RefusedError, Request, Response
from omidbfs.http.paths import (
    Node,
    Tags,
    attributes,
    check_readable,
    content_type,
    found,
    http_date,
    sized,
    sized_entry,
)
from omidbfs.serving.drive import Drive
from omidbfs.serving.rights import Identity
from omidbfs.view.generated import ExportsDirectory
from omidbfs.view.nodes import Directory, Entry, Export, Listing
from omidbfs.view.view import View

LARGEST_LISTING = 1 << 28
"""The most bytes of an answer to PROPFIND. A directory that would need more is refused."""
_PAGE = 512
"""Entries that are written at a time. Meanwhile the drive answers nobody else."""
_MOST_NAMES = 64
"""The most properties that a request may ask for."""
_LONGEST_NAME = 512

_HEAD = '<?xml version="1.0" encoding="utf-8"?>\n<D:multistatus xmlns:D="DAV:">\n'
_TAIL = "</D:multistatus>\n"
_XML = {"Content-Type": "application/xml; charset=utf-8"}
_OK, _MISSING = "HTTP/1.1 200 OK", "HTTP/1.1 404 Not Found"


@functools.lru_cache(maxsize=8192)
def _iso(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second))


_COMMON: dict[str, Callable[[Entry, Tags], str]] = {
    "displayname": lambda entry, _: _text(entry.name),
    "creationdate": lambda entry, _: _iso(entry.mtime // 1_000_000_000),
    "getlastmodified": lambda entry, _: http_date(entry.mtime // 1_000_000_000),
}
_OF_DIRECTORIES = {**_COMMON, "resourcetype": lambda *_: "<D:collection/>"}
_OF_UNSIZED = {
    **_COMMON,
    "resourcetype": lambda *_: "",
    "getcontenttype": lambda entry, _: content_type(entry.name),
}
_OF_FILES = {
    **_OF_UNSIZED,
    "getcontentlength": lambda entry, _: str(entry.size),
    "getetag": lambda entry, tags: tags.of(entry.inode, entry.size, entry.mtime),
}
"""Live properties (RFC 4918, section 15) -> their values, as XML."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The properties that a request asks for; ``names`` is ``None`` for all. ``has_values`` is false for propname.

    A name is (namespace, local name).
    """

    names: tuple[tuple[str, str], ...] | None = None
    has_values: bool = True


def wanted(body: bytes) -> Wanted:
    """Return what the body of PROPFIND asks for. No body asks for all properties.

    Raises
    ------
    RefusedError
        400: the body is no propfind element. 413: it asks for too many properties.
    """
    if not body.strip():
        return Wanted()
    path: list[str] = []
    kinds: list[str] = []
    names: dict[tuple[str, str], None] = {}

    def start(name: str, _: object) -> None:
        if len(path) == 1:
            kinds.append(name)
        elif len(path) == 2 and path[1] == "DAV:}prop":
            namespace, _, local = name.rpartition("}")
            if len(names) >= _MOST_NAMES or len(name) > _LONGEST_NAME:
                raise RefusedError(413, "the request asks for too many properties")
            names[namespace, local] = None
        path.append(name)
        if path[0] != "DAV:}propfind" or len(path) > 8:
            raise RefusedError(400, "the body is no propfind element")

    def refuse(*_: object) -> None:
        raise RefusedError(400, "a document type is not accepted")

    parser = expat.ParserCreate(namespace_separator="}")
    parser.StartElementHandler, parser.EndElementHandler = start, lambda _: path.pop()
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(body, True)
    except expat.ExpatError:
        raise RefusedError(400, "the body is no well-formed XML") from None
    if "DAV:}prop" in kinds:
        return Wanted(tuple(names))
    if "DAV:}propname" in kinds:
        return Wanted(has_values=False)
    if "DAV:}allprop" in kinds:
        return Wanted()
    raise RefusedError(400, "the body is no propfind element")


async def propfind(drive: Drive, tags: Tags, identity: Identity, request: Request) -> Response:
    """Return the properties of a node, and with ``Depth: 1`` of the entries of a directory.

    Raises
    ------
    RefusedError
        403: ``Depth: infinity``, as RFC 4918, section 9.1, allows. 507: the answer would be too large.
    """
    depth = request.headers.get("depth", "infinity").strip().lower()
    if depth == "infinity":
        return _error(403, "propfind-finite-depth")
    if depth not in ("0", "1"):
        raise RefusedError(400, "Depth is 0, 1 or infinity")
    asked = wanted(request.body)
    node = await found(drive, identity, request.names)
    own = await _own_entry(drive, identity, request, node)
    writer = Writer(tags, asked)
    if depth == "0" or not isinstance(node, Directory):
        text = _HEAD + writer.lines(_place(request), [own], is_own=True) + _TAIL
        return Response(207, dict(_XML), text.encode())
    check_readable(drive, identity, node)
    view, listing = drive.view, await drive.listing(node)
    place = _place(request) if not request.names else _place(request) + "/"
    if listing.length * writer.longest(place) > LARGEST_LISTING:
        return _error(507, "number-of-matches-within-limits")
    first = writer.lines(_place(request), [own], is_own=True)
    listed = _entries(drive, identity, view, node, listing)
    return Response(207, dict(_XML), _pages(writer, place, first, listed))


def _place(request: Request) -> str:
    return request.path.rstrip("/") if request.names else "/"


def _error(status: int, condition: str) -> Response:
    """Return a refusal with a precondition code (RFC 4918, section 16; RFC 5323, section 6.3 for the limit)."""
    text = f'<?xml version="1.0" encoding="utf-8"?>\n<D:error xmlns:D="DAV:"><D:{condition}/></D:error>\n'
    return Response(status, dict(_XML), text.encode())


async def _own_entry(drive: Drive, identity: Identity, request: Request, node: Node) -> Entry:
    name = request.names[-1] if request.names else b""
    if isinstance(node, Export):
        shown = drive.view.export_attributes(node, -1)
        if drive.may_read(identity, node):
            shown = await sized(drive, node)
        return Entry(name, *shown, None)
    return Entry(name, *attributes(drive.view, node), node if isinstance(node, Directory) else None)


async def _entries(
    drive: Drive, identity: Identity, view: View, directory: Directory, listing: Listing
) -> AsyncGenerator[list[Entry], None]:
    for start in range(0, listing.length, _PAGE):
        page = listing.page(start, _PAGE)
        if isinstance(directory, ExportsDirectory):  # clients trust the sizes of a listing
            page = [await sized_entry(drive, identity, directory, view, entry) for entry in page]
        drive.counters.entries_listed += len(page)
        yield page


async def _pages(
    writer: "Writer", place: str, first: str, pages: AsyncGenerator[list[Entry], None]
) -> AsyncGenerator[bytes, None]:
    yield (_HEAD + first).encode()
    async with aclosing(pages) as every:
        async for page in every:
            yield writer.lines(place, page).encode()
            await trio.lowlevel.checkpoint()
    yield _TAIL.encode()


class Writer:
    """Writes the response elements of one PROPFIND."""

    def __init__(self, tags: Tags, asked: Wanted) -> None:
        self._tags = tags
        self._kinds = [self._kind(table, asked) for table in (_OF_FILES, _OF_DIRECTORIES, _OF_UNSIZED)]

    def longest(self, place: str) -> int:
        """Return the most bytes of an entry below a place, but for rare long names."""
        return len(place) + max(len(template) + 40 * len(values) for template, values in self._kinds) + 80

    def lines(self, place: str, entries: Iterable[Entry], *, is_own: bool = False) -> str:
        """Return the elements of entries below a place, or of the entry at the place itself."""
        found_lines = []
        tags, (of_files, of_directories, of_unsized) = self._tags, self._kinds
        for entry in entries:
            href = place if is_own else place + quote_from_bytes(entry.name, safe="~")
            kind = of_files if entry.size >= 0 else of_unsized
            if entry.directory is not None:
                kind = of_directories
                href += "/" if not href.endswith("/") else ""
            template, values = kind
            found_lines.append(template % (href, *[value(entry, tags) for value in values]))
        return "".join(found_lines)

    @staticmethod
    def _kind(
        table: dict[str, Callable[[Entry, Tags], str]], asked: Wanted
    ) -> tuple[str, list[Callable[[Entry, Tags], str]]]:
        """Return the element of one kind of entry with gaps for values, and the functions that fill the gaps."""
        names = [("DAV:", name) for name in table] if asked.names is None else list(asked.names)
        known = [name for space, name in names if space == "DAV:" and name in table]
        lacking = [(space, name) for space, name in names if space != "DAV:" or name not in table]
        values = [table[name] for name in known] if asked.has_values else []
        gap = "<D:{0}>%s</D:{0}>" if asked.has_values else "<D:{0}/>"
        text = "".join(gap.format(name) for name in known)
        template = f"<D:response><D:href>%s</D:href>{_propstat(text, _OK) if known or not lacking else ''}"
        if lacking:
            missing = "".join(_empty(space, name) for space, name in lacking).replace("%", "%%")
            template += _propstat(missing, _MISSING)
        return template + "</D:response>\n", values


def _propstat(properties: str, status: str) -> str:
    return f"<D:propstat><D:prop>{properties}</D:prop><D:status>{status}</D:status></D:propstat>"


def _empty(space: str, name: str) -> str:
    if space == "DAV:":
        return f"<D:{name}/>"
    return f"<x:{name} xmlns:x={quoteattr(space)}/>" if space else f"<{name}/>"


def _text(name: bytes) -> str:
    text = name.decode("utf-8", "replace")
    if not text.isprintable():  # XML has no control characters
        text = "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)
    return escape(text)
