"""Prepares a process that serves a drive for a long time.

Used by the daemons of front ends, in the main thread, when the index is open and before the loop starts.
"""

import ctypes
import gc
import sys
from contextlib import suppress

_M_ARENA_MAX = -8
_NEW_OBJECTS = 20_000
"""New objects after which the garbage collector runs: more than a page of a generated file has."""
_SWITCH_INTERVAL = 0.0005
"""Seconds after which a thread that makes a file yields to the loop. Python's default, 0.005, delays requests."""


def tune_process() -> None:
    """Limit memory and pauses: arenas of the C library, the garbage collector, the switching of threads."""
    # Without a limit of arenas (mallopt(3)) each thread that waits for a disk has its own, which keeps freed
    # memory: 55 MB of private memory after three minutes instead of 40 (scripts/soak).
    with suppress(AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)
    # The index has millions of objects that live as long as the drive. The garbage collector need not examine
    # them. And it need not run for the objects of a page of a generated file, because no request is answered then.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS)
    sys.setswitchinterval(_SWITCH_INTERVAL)
