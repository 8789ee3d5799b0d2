"""The version of this program, for what it prints and writes. Any thread may ask."""

from contextlib import suppress

_DISTRIBUTIONS = ("omidbfs", "omidbfs-core")
"""The distributions that hold this package. A Python has one of them."""


def installed_version() -> str:
    """Return the version of the installed distribution. To look for it takes 30 ms."""
    from importlib.metadata import PackageNotFoundError, version

    for distribution in _DISTRIBUTIONS:
        with suppress(PackageNotFoundError):
            return version(distribution)
    return "0+unknown"  # a source tree that was never installed
