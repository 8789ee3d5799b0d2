"""The directory ``as-<rendition>``: the directory that contains it, with one rendition of each image as its files.

Used by ``view``. Pure functions: any thread may call them.
"""

import dataclasses
import errno
import os

from omidbfs.view.context import Context
from omidbfs.view.images import LONGEST_PATH
from omidbfs.view.nodes import Directory


def enter_rendition(context: Context, directory: Directory, name: bytes) -> Directory | None:
    """Return a directory narrowed to the images that have a rendition, which it shows instead of their files.

    Return ``None`` if there is no such rendition, and in a directory that has one.

    Raises
    ------
    OSError
        ENAMETOOLONG: the path already has more than :data:`LONGEST_PATH` bytes.
    """
    if directory.cohort.rendition is not None:
        return None
    rendition = context.renditions.named(os.fsdecode(name.removeprefix(b"as-")))
    if rendition is None:
        return None
    if len(directory.path) > LONGEST_PATH:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    _, path, inode = directory.below(name)
    cohort = context.renditions.cohort(directory.cohort, rendition)
    return dataclasses.replace(directory, path=path, inode=inode, cohort=cohort)
