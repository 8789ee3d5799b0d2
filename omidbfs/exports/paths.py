"""The paths of the files of images, as tables and lists of paths give them.

The other modules of this folder use it. It is pure, for any thread.
"""

import os
from collections.abc import Callable

from omidbfs.base.names import printable
from omidbfs.database.file_kinds import FileKind, Tree
from omidbfs.database.layout import Source
from omidbfs.index.columns import Index
from omidbfs.index.flat_names import flat_names
from omidbfs.index.levels import Rows

Paths = Callable[[Index, FileKind, Rows], list[bytes]]
"""Returns the path of one file of each image, empty if there is no such file."""


def on_the_drive(index: Index, kind: FileKind, rows: Rows) -> list[bytes]:
    """Return paths relative to the mount."""
    present = (index.files[kind].access[rows] != 0).tolist()
    names = flat_names(index, rows)
    return [
        b"all/%b%b" % (name, kind.suffix) if there else b"" for name, there in zip(names, present, strict=True)
    ]


def below(mountpoint: str) -> Paths:
    """Return the function for absolute paths below the mount point of a drive."""
    start = _encoded(mountpoint.rstrip("/") + "/")

    def paths(index: Index, kind: FileKind, rows: Rows) -> list[bytes]:
        return [start + path if path else path for path in on_the_drive(index, kind, rows)]

    return paths


def in_the_source(source: Source) -> Paths:
    """Return the function for absolute paths of the files on disk. Characters that do not print are escaped."""
    trees = {Tree.IMAGES: source.images, Tree.DATA: source.data}

    def paths(index: Index, kind: FileKind, rows: Rows) -> list[bytes]:
        start = _encoded(f"{trees[kind.tree]}/")
        return [
            start + _encoded(os.fsdecode(index.image_path(row, kind))) if index.has_file(row, kind) else b""
            for row in rows.tolist()
        ]

    return paths


def _encoded(path: str) -> bytes:
    return printable(path).encode()
