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
