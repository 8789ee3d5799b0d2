"""The kinds of files that an image has, with their names and suffixes.

The packages above use these constants, from any thread. No part relies on there being two kinds: a cohort shows a
tuple of kinds, and a kind knows the suffix and the tree of its files.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum


class Tree(IntEnum):
    """The two trees of a source, as positions."""

    IMAGES = 0
    DATA = 1


@dataclass(frozen=True, slots=True)
class FileKind:
    """A kind of file.

    ``number`` is its code in ``by-file-type`` and its position in ``Index.files``; used as an index, a kind is its
    number. ``name`` is its value in ``by-file-type``. ``suffix`` ends the names of its files on the drive.
    ``tree`` holds their bytes.
    """

    number: int
    name: str
    suffix: bytes
    tree: Tree

    def __index__(self) -> int:
        return self.number


DCM = FileKind(0, "dcm", b".dcm", Tree.IMAGES)
JSON = FileKind(1, "json", b".json", Tree.DATA)

FILE_KINDS = (DCM, JSON)
"""The kinds of the files of the source, by their numbers."""

KIND_NAMED: Mapping[str, FileKind] = {kind.name: kind for kind in FILE_KINDS}
