"""What the kernel has open, other than files of the source and generated ones: directories."""

from omidbfs.nodes import Directory, Entry
from omidbfs.view import View

_PAGE = 1024


class OpenDirectory:
    """A directory handle: the view it started with, its listing there, and the page at hand."""

    __slots__ = ("directory", "first", "listing", "page", "updates", "view")

    def __init__(self, directory: Directory, view: View) -> None:
        self.directory = directory
        self.view = view
        self.listing = view.listing(directory)
        self.first = 0
        self.page: list[Entry] = []
        self.updates = view.files.updates

    def entries(self, position: int) -> list[Entry]:
        """Return the entries from ``position`` to the end of a page; empty after the last one."""
        offset = position - self.first
        if self.updates != self.view.files.updates:  # a file was found changed: its entry has another inode now
            self.page, self.updates = [], self.view.files.updates
        if not 0 <= offset < len(self.page):
            self.first, offset = position, 0
            self.page = self.listing.page(position, _PAGE) if position < self.listing.length else []
        return self.page[offset:] if offset else self.page
