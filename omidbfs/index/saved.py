"""The saved index of a source, and whether it is of that source.

Sessions and builds use it, from a thread that may wait for a disk. It loads nothing that is needed to build an
index, because most commands only open one.
"""

import os
from pathlib import Path

from omidbfs.base.errors import UserError
from omidbfs.database.layout import Source
from omidbfs.index.columns import Index
from omidbfs.index.fingerprint import fingerprint, is_certain
from omidbfs.index.sections import IndexFileError
from omidbfs.index.store import Stored, load

_SAMPLE = 8
"""How many clients of a saved index are looked up in a source, to tell whether it is the source of the index."""


def source_fingerprint(source: Source) -> str:
    """Return a text that identifies a source (:func:`~omidbfs.index.fingerprint.fingerprint`).

    Raises
    ------
    UserError
        The source is gone.
    """
    try:
        return fingerprint(source)
    except OSError as error:
        raise UserError(
            f"the source is gone ({error.strerror})", "is its disk mounted?", place=error.filename
        ) from error


def saved_index(path: Path, source: Source, *, whole: bool = True) -> Stored:
    """Return the saved index of a source; ``whole`` is that of :func:`~omidbfs.index.store.load`.

    Raises
    ------
    IndexFileError
        There is no usable index of this source at ``path``.
    UserError
        The source is gone.
    """
    now = source_fingerprint(source)
    stored = load(path, now, whole=whole)
    if not is_certain(now) and not _has_clients_of(stored.index, source):
        raise IndexFileError("of another source, as none of its clients is there")
    return stored


def _has_clients_of(index: Index, source: Source) -> bool:
    """Return whether the source has a client from a sample of the index. The answer for an empty index is yes."""
    clients = index.clients
    sample = {number * len(clients) // _SAMPLE for number in range(_SAMPLE)} if len(clients) else set()
    return not sample or any(_may_be_there(source, clients[ordinal].decode()) for ordinal in sample)


def _may_be_there(source: Source, client: str) -> bool:
    for tree in source.trees():
        try:
            os.lstat(f"{tree}/{client}")
        except FileNotFoundError:
            continue
        except OSError:  # a failing disk does not show that the client is missing
            return True
        return True
    return False
