"""Counts what a drive has done since it was made.

Used by drives and front ends, in the loop of the drive. The numbers identify no user and no client.
"""

from collections import defaultdict
from collections.abc import Mapping


class Counters:
    """The counters. Front ends add to them; ``requests`` has one counter for each name of a request."""

    __slots__ = (
        "bytes_read",
        "entries_listed",
        "failed_renditions",
        "open_directories",
        "renditions",
        "reports",
        "requests",
    )

    def __init__(self) -> None:
        self.requests: defaultdict[str, int] = defaultdict(int)
        self.bytes_read = 0
        self.entries_listed = 0
        self.open_directories = 0
        self.renditions = 0
        """How many renditions were made."""
        self.failed_renditions: defaultdict[str, int] = defaultdict(int)
        """How many could not be made, by the kind of the problem."""
        self.reports = 0
        """How often a report was requested. By this number a caller recognises a new report."""

    def shown(self, *, open_files: int = 0) -> Mapping[str, object]:
        """Return the counters as ``status.json`` shows them."""
        return {
            "reports": self.reports,
            "requests": dict(sorted(self.requests.items())),
            "bytes_read": self.bytes_read,
            "entries_listed": self.entries_listed,
            "open_files": open_files,
            "open_directories": self.open_directories,
            "renditions": {"made": self.renditions, "failed": dict(sorted(self.failed_renditions.items()))},
        }
