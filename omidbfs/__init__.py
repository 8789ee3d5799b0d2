"""Mount an OMI-DB as a drive in which the path is the query.

Public are the names in ``__all__`` of this module, of ``omidbfs.facets`` and of ``omidbfs.demo``. All other
modules are private: they may change with any version.
"""

__all__ = ["__version__"]

__version__: str


def __getattr__(name: str) -> str:
    # Found when asked for: to look takes 30 ms, and every worker process of a build would.
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("omidbfs")
    except PackageNotFoundError:  # a source tree that was never installed
        return "0+unknown"
