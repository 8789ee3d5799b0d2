"""Mount an OMI-DB as a drive in which the path is the query."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("omidbfs")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"
