"""Telling the kernel what to forget."""

import errno
import logging
import os
from collections import Counter
from collections.abc import Callable

import pyfuse3

from omidbfs.serving.changes import Changes

log = logging.getLogger(__name__)


def tell_kernel(found: Changes) -> bool:
    """Have the kernel forget, and return whether it did.

    Not to be called where requests are answered: it may first wait for answers.
    """
    refused: Counter[str] = Counter()
    for inode in found.attributes:
        _tell(refused, pyfuse3.invalidate_inode, inode, True)
    for inode, name in found.entries:
        _tell(refused, pyfuse3.invalidate_entry, inode, name)
    for reason, times in refused.items():  # one line for all: there may be millions
        log.warning("the kernel did not take a change: %s%s", reason, f" ({times} times)" if times > 1 else "")
    return not refused


def _tell(refused: Counter[str], tell: Callable[..., None], *arguments: object) -> None:
    try:
        tell(*arguments)
    except FileNotFoundError:
        pass  # the kernel does not know it, so it has nothing to forget
    except OSError as error:
        refused[os.strerror(error.errno or errno.EIO)] += 1
