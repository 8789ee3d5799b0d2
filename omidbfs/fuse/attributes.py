"""Converts attributes of nodes to those of pyfuse3.

Used by the handlers, in their loop.
"""

from pyfuse3 import EntryAttributes

from omidbfs.view.nodes import Attributes

TIMEOUT = 86_400.0
"""Seconds for which the kernel may keep names and attributes. The drive tells the kernel of every change."""


def entry_of(known: Attributes) -> EntryAttributes:
    """Return attributes that the kernel may keep."""
    attributes = EntryAttributes()
    attributes.entry_timeout = attributes.attr_timeout = TIMEOUT
    fill(attributes, *known)
    return attributes


def fill(
    attributes: EntryAttributes, inode: int, mode: int, nlink: int, uid: int, gid: int, size: int, mtime: int
) -> None:
    """Write the fields of :class:`~omidbfs.view.nodes.Attributes` into the attributes of pyfuse3."""
    attributes.st_ino = inode
    attributes.st_mode = mode
    attributes.st_nlink = nlink
    attributes.st_uid = uid
    attributes.st_gid = gid
    attributes.st_size = size
    attributes.st_blocks = (size + 511) >> 9
    attributes.st_mtime_ns = attributes.st_ctime_ns = attributes.st_atime_ns = mtime
