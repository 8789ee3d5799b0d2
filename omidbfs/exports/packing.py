"""Writes archives (``tar``) without a drive: one file, or shards for WebDataset.

``omidbfs export`` uses it, in its main thread. Files are read, and renditions made, one after the other.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, closing

import numpy as np

from omidbfs.base.errors import UserError
from omidbfs.database.file_kinds import DCM
from omidbfs.database.layout import Source
from omidbfs.database.permissions import TreeReader
from omidbfs.database.records import mtime_of
from omidbfs.exports.rendered import images_at, made_apart
from omidbfs.exports.selection import Selection
from omidbfs.exports.tar import Archive, archive_of, extents, layers_of, room_in
from omidbfs.pixels.apart import Apart
from omidbfs.pixels.rendition import Rendition
from omidbfs.pixels.worker import Request

_PIECE = 1 << 20

_State = tuple[int, int]
"""Size and time of a file, in ns."""


def shards(chosen: Selection, largest: int) -> Iterator[Archive]:
    """Yield archives of at most ``largest`` bytes that together hold the images of a selection in order.

    No image is divided. One whose files need more is in an archive of its own. There is at least one archive.
    """
    rows, layers = chosen.cohorts.rows(chosen.cohort), layers_of(chosen)
    sizes = extents(layers, chosen.names, rows)
    ends = np.cumsum(sizes)
    first = before = 0
    while True:
        end = max(int(np.searchsorted(ends, before + room_in(largest), "right")), min(first + 1, len(rows)))
        yield archive_of(chosen, layers, rows[first:end], sizes[first:end])
        if end == len(rows):
            return
        first, before = end, ends.item(end - 1)


def packed(archive: Archive, source: Source) -> Iterator[bytes]:
    """Yield the bytes of an archive.

    Raises
    ------
    UserError
        A file of the source is gone, cannot be read, or is not what the index says, or a rendition of it cannot be
        made. A process that renders does not start.
    """
    index, follow = archive.index, source.follow_symlinks
    with ExitStack() as stack:
        trees = [
            None if tree is None else stack.enter_context(closing(TreeReader(tree, follow_symlinks=follow)))
            for tree in (source.images, source.data)
        ]
        apart = stack.enter_context(Apart())
        memory = os.memfd_create("omidbfs")
        stack.callback(os.close, memory)
        for part in archive.parts(0, archive.size):
            if isinstance(part, bytes):
                yield part
                continue
            row, shown, size = part.member.row, part.member.shown, part.member.size
            kind = DCM if isinstance(shown, Rendition) else shown
            tree, path = trees[kind.tree], index.image_path(row, kind)
            assert tree is not None, "a tree that has files exists"
            files = index.files[kind]
            state = files.size.item(row), files.mtime.item(row)
            try:
                descriptor = tree.open(path)
                try:
                    if _state(descriptor) != state:
                        raise _changed(path)
                    if isinstance(shown, Rendition):
                        [image] = images_at(index, [row])
                        request = Request(shown, image.format, image.side, size)
                        problem = made_apart(descriptor, state, request, apart, memory)
                        if problem is not None:
                            raise UserError(f"has no as-{shown.name}: {problem}", place=os.fsdecode(path))
                        yield from _content(memory, size, _state(memory), path)
                    else:
                        yield from _content(descriptor, size, state, path)
                finally:
                    os.close(descriptor)
            except OSError as error:
                raise UserError(f"cannot be read ({error.strerror})", place=os.fsdecode(path)) from error


def _content(descriptor: int, size: int, state: _State, path: bytes) -> Iterator[bytes]:
    """Yield the bytes of a file that stays in a ``state``."""
    offset = 0
    while offset < size:
        piece = os.pread(descriptor, min(_PIECE, size - offset), offset)
        # After reading: a write sets the new time before it writes.
        if not piece or _state(descriptor) != state:
            raise _changed(path)
        yield piece
        offset += len(piece)


def _state(descriptor: int) -> _State:
    found = os.fstat(descriptor)
    return found.st_size, mtime_of(found)


def _changed(path: bytes) -> UserError:
    return UserError(
        "has changed since the index was written", "--verify-first looks for changes", place=os.fsdecode(path)
    )
