"""The saved index of a source in any process: what databases, cohorts, images and datasets have in common.

The other modules of this folder use it, from any thread. A process that inherits it by fork(2), or gets a pickled
one, opens the index for itself.
"""

import os
import warnings
from collections.abc import Callable

from omidbfs.api.opened import Opened
from omidbfs.base.errors import UserError
from omidbfs.base.names import printable
from omidbfs.index.store import Stored
from omidbfs.serving.session import Session
from omidbfs.view.view import View


class Connection:
    """One state of an index, under the options of a session. ``written`` is the time of the index."""

    def __init__(self, session: Session, written: float, opened: Opened | None = None) -> None:
        self.session = session
        self._written, self._opened = written, opened

    @property
    def view(self) -> View:
        """The view that a drive would show."""
        return self.now().view

    def now(self) -> Opened:
        """Return what this process has open."""
        opened = self._opened
        if opened is None:
            opened = self._opened = Opened(self.session, self._stored())
        elif opened.process != os.getpid():
            opened.forsake()
            opened = self._opened = Opened(self.session, opened.stored)
        return opened

    def _stored(self) -> Stored:
        stored, _ = self.session.opened(warn, whole=False)
        if stored.written != self._written:
            raise UserError(
                "the index is not the one from which the cohort was chosen",
                "open the database again, and choose again",
                place=self.session.index_path,
            )
        return stored

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Connection):
            return NotImplemented
        return (self.session, self._written) == (other.session, other._written)

    def __hash__(self) -> int:
        return hash((self.session.index_path, self._written))

    def __reduce__(self) -> tuple[Callable[..., "Connection"], tuple[Session, float]]:
        return Connection, (self.session, self._written)


def warn(line: str) -> None:
    """Give a line to the user of the program as a warning."""
    warnings.warn(printable(line), stacklevel=3)
