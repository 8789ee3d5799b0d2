"""Answers requests: lets a client in, and leads each method to the module that knows it.

Used by ``server``, in the loop of the drive. Whoever is let in sees what the same identity sees on a mount. The
drive is read-only, so every method that writes is refused.
"""

import errno
from collections.abc import AsyncGenerator
from urllib.parse import urlencode

from omidbfs.http.access import Door
from omidbfs.http.dav import propfind
from omidbfs.http.files import file_response
from omidbfs.http.markup import STATIC, static
from omidbfs.http.messages import RefusedError, Request, Response, plain, quoted
from omidbfs.http.pages import Pages, prefers_pages
from omidbfs.http.paths import Tags, check_readable, found
from omidbfs.serving.drive import Drive
from omidbfs.serving.rights import Identity
from omidbfs.view.nodes import Directory, Listing

_ALLOWED = "OPTIONS, GET, HEAD, PROPFIND"
_WRITING = ("PUT", "DELETE", "MKCOL", "COPY", "MOVE", "PROPPATCH", "PATCH")
_PAGE = 1024


class Application:
    """Answers the requests of one drive behind one door."""

    def __init__(self, drive: Drive, door: Door, pages: Pages) -> None:
        self.drive = drive
        self.door = door
        self.pages = pages
        self.tags = Tags(drive)

    def count(self, method: str, status: int) -> None:
        """Count a request in the counters of the drive, by its status."""
        self.drive.counters.requests[f"http {status}"] += 1

    async def __call__(self, request: Request) -> Response:
        """Return the response to a request.

        Raises
        ------
        RefusedError
            The request is refused.
        OSError
            An error of the drive.
        """
        self.door.check(request)
        response = self.door.welcome(request)
        if response is not None:
            return response
        identity = await self.door.identity(request)
        if request.method == "OPTIONS":
            return Response(200, {"DAV": "1", "Allow": _ALLOWED, "MS-Author-Via": "DAV"})
        if request.method == "PROPFIND":
            return await propfind(self.drive, self.tags, identity, request)
        if request.method in ("GET", "HEAD"):
            return await self._shown(identity, request)
        if request.method in _WRITING:
            raise RefusedError(403, "the drive is read-only", {"Allow": _ALLOWED})
        raise RefusedError(405, f"the drive is read-only, and knows {_ALLOWED}", {"Allow": _ALLOWED})

    async def _shown(self, identity: Identity, request: Request) -> Response:
        if request.names[:1] == (STATIC,):
            return self._static(request)
        try:
            node = await found(self.drive, identity, request.names)
        except OSError as error:
            if error.errno != errno.ENOENT or not prefers_pages(request):
                raise
            return await self.pages.missing(identity, request)
        if not isinstance(node, Directory):
            if request.is_directory:
                raise RefusedError(404, "there is a file at this path, which has no slash at its end")
            return await file_response(self.drive, self.tags, identity, request)
        if not request.is_directory:
            place = f"{quoted(request.names)}/" + (f"?{urlencode(request.query)}" if request.query else "")
            return plain(301, "a directory has a slash at its end", {"Location": place})
        if prefers_pages(request):
            return await self.pages.response(identity, request, node)
        check_readable(self.drive, identity, node)
        listing = await self.drive.listing(node)
        return Response(200, {"Content-Type": "text/plain; charset=utf-8"}, self._names(listing))

    @staticmethod
    def _static(request: Request) -> Response:
        response = static(request.names[-1]) if len(request.names) == 2 else None
        if response is None:
            raise RefusedError(404)
        return response

    async def _names(self, listing: Listing) -> AsyncGenerator[bytes, None]:
        """Yield the names of a directory, one a line. A slash follows the name of a directory."""
        for start in range(0, listing.length, _PAGE):
            page = listing.page(start, _PAGE)
            self.drive.counters.entries_listed += len(page)
            yield b"".join(name + (b"\n" if directory is None else b"/\n") for name, *_, directory in page)
