"""What a drive has done since it was made, in numbers that name nobody.

Used by drives and front ends, all in the loop of the drive.
"""

from collections import defaultdict
from collections.abc import Mapping


class Counters:
    """Counted by front ends, one addition each; ``requests`` by the name of the request."""

    __slots__ = ("bytes_read", "entries_listed", "open_directories", "reports", "requests")

    def __init__(self) -> None:
        self.requests: defaultdict[str, int] = defaultdict(int)
        self.bytes_read = 0
        self.entries_listed = 0
        self.open_directories = 0
        self.reports = 0
        """How often they were asked for: by this number a caller knows that the answer is a new one."""

    def shown(self, *, open_files: int = 0) -> Mapping[str, object]:
        """Return them as ``status.json`` shows them."""
        return {
            "reports": self.reports,
            "requests": dict(sorted(self.requests.items())),
            "bytes_read": self.bytes_read,
            "entries_listed": self.entries_listed,
            "open_files": open_files,
            "open_directories": self.open_directories,
        }
