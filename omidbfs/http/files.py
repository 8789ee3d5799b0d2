"""The content of a file over HTTP: GET and HEAD, with ranges and conditions (RFC 9110, sections 13 and 14).

Used by ``application``, in the loop of the drive. GET opens a file as a program on a mount does, and HEAD asks for
its attributes. Bytes are read and sent in parts, so a large file takes little memory.
"""

import errno
import os
import re
import secrets
from collections.abc import AsyncGenerator, Sequence
from email.utils import parsedate_to_datetime

import trio

from omidbfs.http.messages import Chunk, RefusedError, Request, Response
from omidbfs.http.paths import Tags, attributes, check_readable, content_type, found, http_date, sized
from omidbfs.serving.drive import Drive
from omidbfs.serving.opened import Opened, OpenText
from omidbfs.serving.rights import Identity
from omidbfs.view.nodes import Attributes, Directory, Export

PART = 256 << 10
"""Bytes that are read and sent at a time. A client has to take one part within the limit of ``server``."""
_MOST_RANGES = 16
"""The most ranges of one request. A request with more gets the whole file, as RFC 9110 allows."""
_CLOSING = 5.0
_RANGES = re.compile(r"bytes=\s*(.+)", re.I)
_RANGE = re.compile(r"(\d{0,19})-(\d{0,19})")


async def file_response(drive: Drive, tags: Tags, identity: Identity, request: Request) -> Response:
    """Return the response to GET or HEAD of a file.

    Raises
    ------
    OSError
        As :func:`~omidbfs.http.paths.found` and :meth:`~omidbfs.serving.drive.Drive.open`.
    RefusedError
        412, 416: a condition or a range cannot be met.
    """
    if request.method == "HEAD":
        return await _head(drive, tags, identity, request)
    file, shown = await _opened(drive, identity, request.names)
    try:
        response = _facts(tags, request, shown)
        if response is not None:
            await _close(drive, file)
            return response
        return _content(drive, file, tags, request, shown)
    except BaseException:
        await _close(drive, file)
        raise


async def _head(drive: Drive, tags: Tags, identity: Identity, request: Request) -> Response:
    node = await found(drive, identity, request.names)
    check_readable(drive, identity, node)
    shown = await sized(drive, node) if isinstance(node, Export) else attributes(drive.view, node)
    response = _facts(tags, request, shown)
    if response is None:
        response = Response(200, _headers(tags, request, shown), length=shown.size)
    return response


async def _opened(drive: Drive, identity: Identity, names: Sequence[bytes]) -> tuple[Opened, Attributes]:
    """Open a file. If it was replaced since it was indexed, look it up again, once, as the kernel does."""
    for is_last in (False, True):
        node = await found(drive, identity, names)
        assert not isinstance(node, Directory)
        check_readable(drive, identity, node)
        view = drive.view
        try:
            file = await drive.open(node)
        except OSError as error:
            if error.errno != errno.ESTALE or is_last:
                raise
            continue
        if isinstance(node, Export):
            return file, view.export_attributes(node, file.facts.size)  # type: ignore[union-attr]
        if isinstance(file, OpenText):
            return file, Attributes(node, 0, 1, 0, 0, len(file.content), view.index.newest)
        return file, view.files.attributes_as_opened(node, file.facts)
    raise AssertionError("the loop returns or raises")


async def _close(drive: Drive, file: Opened) -> None:
    with trio.move_on_after(_CLOSING, shield=True):
        await drive.close_file(file)


def _headers(tags: Tags, request: Request, shown: Attributes) -> dict[str, str]:
    return {
        "Content-Type": content_type(request.names[-1]),
        "Last-Modified": http_date(shown.mtime // 1_000_000_000),
        "ETag": tags.of(shown.inode, shown.size, shown.mtime),
        "Accept-Ranges": "bytes",
    }


def _facts(tags: Tags, request: Request, shown: Attributes) -> Response | None:
    """Return the response if the conditions of a request alone decide it (RFC 9110, section 13.2.2)."""
    headers = _headers(tags, request, shown)
    second, asked = shown.mtime // 1_000_000_000, request.headers
    if "if-match" in asked:
        if not _matches(asked["if-match"], headers["ETag"]):
            raise RefusedError(412)
    elif (before := _second(asked.get("if-unmodified-since"))) is not None and second > before:
        raise RefusedError(412)
    if "if-none-match" in asked:
        is_known = _matches(asked["if-none-match"].replace("W/", ""), headers["ETag"])
    else:
        after = _second(asked.get("if-modified-since"))
        is_known = after is not None and second <= after
    return Response(304, headers) if is_known else None


def _matches(condition: str, tag: str) -> bool:
    return condition.strip() == "*" or tag in [one.strip() for one in condition.split(",")]


def _second(date: str | None) -> int | None:
    """Return a date of HTTP in seconds since 1970; ``None`` if there is none, or if it is none."""
    if date is None:
        return None
    try:
        return int(parsedate_to_datetime(date).timestamp())
    except (ValueError, TypeError, OverflowError):
        return None


def _content(drive: Drive, file: Opened, tags: Tags, request: Request, shown: Attributes) -> Response:
    headers, size = _headers(tags, request, shown), shown.size
    wanted = ranges(request.headers.get("range", ""), size)
    if request.headers.get("if-range", headers["ETag"]) != headers["ETag"]:
        wanted = None

    async def close() -> None:
        await _close(drive, file)

    if wanted is None:
        return Response(200, headers, _read(drive, file, [range(size)]), size, close)
    if not wanted:
        raise RefusedError(416, headers={"Content-Range": f"bytes */{size}"})
    if len(wanted) == 1:
        headers["Content-Range"] = _content_range(wanted[0], size)
        return Response(206, headers, _read(drive, file, wanted), len(wanted[0]), close)
    boundary, kind = secrets.token_hex(16), headers["Content-Type"]
    parts: list[bytes | range] = []
    for one in wanted:
        head = f"\r\n--{boundary}\r\nContent-Type: {kind}\r\nContent-Range: {_content_range(one, size)}\r\n\r\n"
        parts += [head.encode(), one]
    parts.append(f"\r\n--{boundary}--\r\n".encode())
    headers["Content-Type"] = f"multipart/byteranges; boundary={boundary}"
    return Response(206, headers, _read(drive, file, parts), sum(map(len, parts)), close)


def _content_range(one: range, size: int) -> str:
    return f"bytes {one.start}-{one.stop - 1}/{size}"


def ranges(header: str, size: int) -> list[range] | None:
    """Return the bytes that a Range header asks for, in its order; none if the file has none of them.

    Return ``None`` for the whole file: the header is absent or not understood, or asks for more than the file has,
    or for too many parts (RFC 9110, section 14.2).
    """
    match = _RANGES.fullmatch(header.strip())
    if match is None:
        return None
    texts = match[1].split(",")
    if len(texts) > _MOST_RANGES:
        return None
    found_ranges = []
    for text in texts:
        one = _RANGE.fullmatch(text.strip())
        if one is None or not (one[1] or one[2]):
            return None
        if not one[1]:
            first, end = max(0, size - int(one[2])), size
        else:
            first, end = int(one[1]), min(size, int(one[2]) + 1) if one[2] else size
            if one[2] and int(one[2]) < first:
                return None
        if first < end:
            found_ranges.append(range(first, end))
    return None if sum(map(len, found_ranges)) > size else found_ranges


async def _read(drive: Drive, file: Opened, parts: Sequence[bytes | range]) -> AsyncGenerator[Chunk, None]:
    """Yield literal parts, and ranges of a file.

    Raises
    ------
    OSError
        As :meth:`~omidbfs.serving.drive.Drive.read`; EIO: the file ends too early.
    """
    for part in parts:
        if isinstance(part, bytes):
            yield part
            continue
        offset = part.start
        while offset < part.stop:
            wanted = min(PART, part.stop - offset)
            content: Chunk | None = drive.read_at_once(file, offset, wanted)
            if content is None:
                content = await drive.read(file, offset, wanted)
            if not content:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            offset += len(content)
            yield bytes(content)  # a copy: the buffer is that of the next read of any file
