"""Attributes as the kernel gets them.

Used by the handlers, in their loop.
"""

from pyfuse3 import EntryAttributes

from omidbfs.view.nodes import Attributes

TIMEOUT = 86_400.0
"""Seconds for which the kernel may keep names and attributes: the view changes only when it says so."""


def entry_of(known: Attributes) -> EntryAttributes:
    """Return attributes that the kernel may keep."""
    attributes = EntryAttributes()
    attributes.entry_timeout = attributes.attr_timeout = TIMEOUT
    fill(attributes, *known)
    return attributes


def fill(
    attributes: EntryAttributes, inode: int, mode: int, nlink: int, uid: int, gid: int, size: int, mtime: int
) -> None:
    """Write the fields of :class:`~omidbfs.view.nodes.Attributes` into what the kernel gets."""
    attributes.st_ino = inode
    attributes.st_mode = mode
    attributes.st_nlink = nlink
    attributes.st_uid = uid
    attributes.st_gid = gid
    attributes.st_size = size
    attributes.st_blocks = (size + 511) >> 9
    attributes.st_mtime_ns = attributes.st_ctime_ns = attributes.st_atime_ns = mtime
