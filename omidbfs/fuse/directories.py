"""Directories that the kernel has open, each with its current page of entries.

Used by the handlers, in their loop.
"""

from collections import OrderedDict

from omidbfs.fuse.attributes import Memory
from omidbfs.view.nodes import Directory, Entry, Listing
from omidbfs.view.view import View

_PAGE = 1024
_MOST_PAGES = 64
"""The largest number of handles that keep a page, which takes 400 kB. Others make their page again when needed."""


class OpenDirectory:
    """A directory handle: the view in which it was opened, its listing in that view, and its current page.

    A page is entries, or ``files``: names, each with the bytes to write into ``memory``, if there is that.
    """

    __slots__ = ("directory", "entries", "files", "first", "listing", "memory", "pages", "updates", "view")

    def __init__(
        self,
        directory: Directory,
        view: View,
        listing: Listing,
        pages: "EntryPages",
        memory: Memory | None = None,
    ) -> None:
        self.directory = directory
        self.view = view
        self.listing = listing
        self.pages = pages
        self.memory = memory
        self.first = 0
        self.files: list[tuple[bytes, bytes]] = []
        self.entries: list[Entry] = []
        self.updates = view.updates

    def page(self, position: int) -> tuple[list[tuple[bytes, bytes]], list[Entry]]:
        """Return ``files`` or ``entries`` from ``position`` to the end of a page; nothing after the last entry."""
        offset = position - self.first
        updates = self.view.updates
        if self.updates != updates:  # a file is another than the index says, so its entry has another inode
            self.forget()
            self.updates = updates
        if not 0 <= offset < len(self.files) + len(self.entries):
            self.first, offset = position, 0
            self.forget()
            if position < self.listing.length:
                self._make(position)
            self.pages.note(self)
        return (self.files[offset:], self.entries[offset:]) if offset else (self.files, self.entries)

    def _make(self, position: int) -> None:
        columns = None if self.memory is None else self.listing.columns(position, _PAGE)
        if self.memory is None or columns is None:
            self.entries = self.listing.page(position, _PAGE)
        else:
            self.files = self.memory.packed(columns)

    def forget(self) -> None:
        """Drop the page. It is made again when needed."""
        self.files, self.entries = [], []


class EntryPages:
    """The handles that keep a page: the last few that made one."""

    def __init__(self) -> None:
        self._handles: OrderedDict[OpenDirectory, None] = OrderedDict()

    def note(self, handle: OpenDirectory) -> None:
        """Note that a handle has a new page, or none."""
        self._handles.pop(handle, None)
        if handle.files or handle.entries:
            self._handles[handle] = None
        if len(self._handles) > _MOST_PAGES:
            self._handles.popitem(last=False)[0].forget()

    def close(self, handle: OpenDirectory) -> None:
        """Remove a handle that is closed."""
        self._handles.pop(handle, None)
