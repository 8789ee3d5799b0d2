"""Telling the kernel what to forget."""

import logging
from collections.abc import Callable

import pyfuse3

from omidbfs.mount.changes import Changes

log = logging.getLogger(__name__)


def tell_kernel(found: Changes) -> bool:
    """Have the kernel forget, and return whether it did.

    Not to be called where requests are answered: it may first wait for answers.
    """
    refused = 0
    for inode in found.attributes:
        refused += not _told(pyfuse3.invalidate_inode, inode, True)
    for inode, name in found.entries:
        refused += not _told(pyfuse3.invalidate_entry, inode, name)
    return not refused


def _told(tell: Callable[..., None], *arguments: object) -> bool:
    try:
        tell(*arguments)
    except FileNotFoundError:
        pass  # the kernel does not know it, so it has nothing to forget
    except OSError as error:
        log.warning("the kernel did not take a change: %s", error.strerror)
        return False
    return True
