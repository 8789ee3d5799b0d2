"""Chooses the page for a path, and gathers what it shows, in threads.

Used by ``application``, in the loop of the drive. A page shows what the identity may see on a mount: names and
counts of directories that it may list, and what an image's files say if it may read all of them.
"""

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar, TypeVarTuple

import trio

from omidbfs.base.errors import UserError
from omidbfs.database.file_kinds import FILE_KINDS
from omidbfs.database.layout import DOCUMENTS, Source
from omidbfs.facets import Kind
from omidbfs.http.cohort_page import NAMES, Place, cohort_parts, facet_part, names_parts
from omidbfs.http.image_page import image_parts
from omidbfs.http.markup import page, text
from omidbfs.http.messages import RefusedError, Request, Response, quoted
from omidbfs.http.paths import check_readable
from omidbfs.index.classification import Classification
from omidbfs.serving.drive import Drive
from omidbfs.serving.rights import Identity
from omidbfs.view.finding import directory_at
from omidbfs.view.nodes import Directory
from omidbfs.view.top import RootDirectory
from omidbfs.view.view import View

_Made = TypeVar("_Made")
_Arguments = TypeVarTuple("_Arguments")

_PAGES = 2
"""The most pages that are counted at the same time. Others wait."""


def prefers_pages(request: Request) -> bool:
    """Return whether a client is a browser: it asks for HTML by name. Other programs get plain names."""
    return "text/html" in request.headers.get("accept", "")


class Pages:
    """The pages of one drive."""

    def __init__(self, drive: Drive, source: Source, classification: Classification) -> None:
        self._drive = drive
        self._source = source
        self._windows = classification.windows
        self._threads = trio.CapacityLimiter(_PAGES)

    async def response(self, identity: Identity, request: Request, directory: Directory) -> Response:
        """Return the page of a directory, of one image in it, or the part of a page for one facet.

        Raises
        ------
        RefusedError
            404: the query asks for what is not there.
        OSError
            EACCES: the identity may not read it.
        """
        check_readable(self._drive, identity, directory)
        query = request.query
        if "go" in query:
            names = tuple(os.fsencode(name) for name in query["go"].strip().split("/") if name.strip())
            return Response(303, {"Location": quoted(names)})
        place = Place(self._drive.view, directory, request.names)
        has_images = directory.has_images or isinstance(directory, RootDirectory)
        if has_images and "image" in query:
            return await self._image(identity, place, os.fsencode(query["image"]))
        if has_images and "facet" in query:
            return await self._facet(place, query["facet"])
        if has_images:
            number = _number(query)
            title, parts = await self._in_thread(cohort_parts, place, number)
        else:
            number = _number(query)
            listing = await self._drive.listing(directory)
            if number > 1 and (number - 1) * NAMES >= listing.length:
                raise RefusedError(404)
            title, parts = await self._in_thread(names_parts, place, listing, number)
        return page(f"{title} - omidbfs", request.names, parts)

    async def missing(self, identity: Identity, request: Request) -> Response:
        """Return the page of a path at which nothing is, with the name that may be meant.

        Raises
        ------
        OSError
            EACCES: the identity may not list names.
        """
        check_readable(self._drive, identity, self._drive.view.root)
        meant = await self._in_thread(_meant, self._drive.view, request.names)
        said = f"There is nothing at this path{f'; {meant}' if meant else '.'}"
        part = f'<main id="main" tabindex="-1" class="alone">\n<h1>Not found</h1><p>{text(said)}</p>\n</main>'
        return replace(page("not found - omidbfs", request.names, [part]), status=404)

    async def _in_thread(self, call: Callable[[*_Arguments], _Made], *arguments: *_Arguments) -> _Made:
        return await trio.to_thread.run_sync(call, *arguments, limiter=self._threads, abandon_on_cancel=True)

    async def _facet(self, place: Place, name: str) -> Response:
        facet = place.view.cohorts.facet(name)
        if facet is None or facet.kind is Kind.NAME:
            raise RefusedError(404, "there is no such facet")
        part = await self._in_thread(facet_part, place, facet)
        return Response(200, {"Content-Type": "text/html; charset=utf-8"}, part.encode())

    async def _image(self, identity: Identity, place: Place, name: bytes) -> Response:
        row = self._row(place, name)
        view = place.view
        client = int(view.index.client_of[row])
        files = [view.files.image(row, kind) for kind in FILE_KINDS]
        files += [view.files.document(client, slot) for slot in range(len(DOCUMENTS))]
        if not all(self._drive.may_read(identity, inode) for inode in files if inode is not None):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        title, parts = await self._in_thread(image_parts, place, self._source, self._windows, row)
        return page(f"{title} - omidbfs", place.names, parts)

    def _row(self, place: Place, name: bytes) -> int:
        """Return the row of an image by its name in a directory, without a suffix."""
        view = place.view
        directory: object = view.resolve(b"/".join(place.files))
        *above, last = name.split(b"/")
        for one in above:
            directory = view.lookup(directory, one) if isinstance(directory, Directory) else None
        if isinstance(directory, Directory):
            for shown in view.cohort(directory).shown:
                inode = view.lookup(directory, last + shown.suffix)
                found = view.place(inode) if isinstance(inode, int) else None
                if found is not None and found[1] is not None:
                    return found[0]
        raise RefusedError(404, "there is no such image here")


def _meant(view: View, names: Sequence[bytes]) -> str:
    """Return the question whether a user meant another name; nothing if none is close."""
    try:
        directory_at(view, "/".join(map(os.fsdecode, names)), lambda: None)
    except UserError as error:  # all else that it says is about files of the server, and about commands
        return error.remedy if error.remedy.startswith("did you mean") else ""
    return ""


def _number(query: object) -> int:
    """Return the number of a page, from 1."""
    text = query.get("page", "1")  # type: ignore[attr-defined]
    if not (text.isascii() and text.isdecimal() and len(text) < 9 and int(text) > 0):
        raise RefusedError(404, "there is no such page")
    return int(text)
