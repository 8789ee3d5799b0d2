"""``omidbfs://`` as a path of universal_pathlib, which loads this module by its entry point at the first path."""

from fsspec import get_filesystem_class
from upath import UPath

get_filesystem_class("omidbfs")  # universal_pathlib asks only a loaded file system how its paths are split


class OmidbPath(UPath):
    """A path of the drive: ``UPath("omidbfs://by-view/MLO", source="db")``."""
