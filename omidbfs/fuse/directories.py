"""Directories that the kernel has open, each with its current page of entries.

Used by the handlers, in their loop.
"""

from collections import OrderedDict

from omidbfs.view.nodes import Directory, Entry, Listing
from omidbfs.view.view import View

_PAGE = 1024
_MOST_PAGES = 64
"""The largest number of handles that keep a page, which takes 400 kB. Others make their page again when needed."""


class OpenDirectory:
    """A directory handle: the view in which it was opened, its listing in that view, and its current page."""

    __slots__ = ("directory", "first", "listing", "page", "pages", "updates", "view")

    def __init__(self, directory: Directory, view: View, listing: Listing, pages: "EntryPages") -> None:
        self.directory = directory
        self.view = view
        self.listing = listing
        self.pages = pages
        self.first = 0
        self.page: list[Entry] = []
        self.updates = view.updates

    def entries(self, position: int) -> list[Entry]:
        """Return the entries from ``position`` to the end of a page; an empty list after the last entry."""
        offset = position - self.first
        updates = self.view.updates
        if self.updates != updates:  # a file is another than the index says, so its entry has another inode
            self.page, self.updates = [], updates
        if not 0 <= offset < len(self.page):
            self.first, offset = position, 0
            self.page = self.listing.page(position, _PAGE) if position < self.listing.length else []
            self.pages.note(self)
        return self.page[offset:] if offset else self.page


class EntryPages:
    """The handles that keep a page: the last few that made one."""

    def __init__(self) -> None:
        self._handles: OrderedDict[OpenDirectory, None] = OrderedDict()

    def note(self, handle: OpenDirectory) -> None:
        """Note that a handle has a new page, or none."""
        self._handles.pop(handle, None)
        if handle.page:
            self._handles[handle] = None
        if len(self._handles) > _MOST_PAGES:
            self._handles.popitem(last=False)[0].page = []

    def close(self, handle: OpenDirectory) -> None:
        """Remove a handle that is closed."""
        self._handles.pop(handle, None)
