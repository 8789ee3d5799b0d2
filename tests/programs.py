"""Programs of the system that tests use."""

import os
import shutil

import pytest

SEARCHED = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


def found(program: str) -> str | None:
    """Return the path of a program, also of those for administrators."""
    return shutil.which(program, path=SEARCHED)


def needs(*programs: str) -> pytest.MarkDecorator:
    """Skip a test if a program is missing. With OMIDBFS_REQUIRE_FUSE=1 run it, so that it fails."""
    missing = [program for program in programs if found(program) is None]
    is_skipped = bool(missing) and os.environ.get("OMIDBFS_REQUIRE_FUSE") != "1"
    return pytest.mark.skipif(is_skipped, reason=f"not installed: {', '.join(missing)}")


EARLY = """
import os, signal
from omidbfs.__main__ import main
from omidbfs.serving import refresh
opened = refresh.drive_of
def drive_of(*given, **named):
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        os.kill(os.getpid(), number)
    return opened(*given, **named)
refresh.drive_of = drive_of
main()
"""
"""The program, which gets every request of a drive before the drive is open."""
