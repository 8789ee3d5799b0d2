"""OMI-DB by paths: a read-only drive in which the path is the query, and the same in Python.

``omidbfs.open("db")["by-outcome/malignant/by-view/MLO"]`` is a cohort (docs/python.md).

Public are the names in ``__all__`` of this module, of ``omidbfs.facets`` and of ``omidbfs.demo``. All other
modules are private: they may change with any version.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omidbfs.api.cohort import Cohort
    from omidbfs.api.database import Database, open
    from omidbfs.api.dataset import ImageDataset
    from omidbfs.api.image import Image
    from omidbfs.base.errors import NotFoundError, UserError

__all__ = ["Cohort", "Database", "Image", "ImageDataset", "NotFoundError", "UserError", "__version__", "open"]

__version__: str

_PLACES = {
    "Cohort": "api.cohort",
    "Database": "api.database",
    "Image": "api.image",
    "ImageDataset": "api.dataset",
    "NotFoundError": "base.errors",
    "UserError": "base.errors",
    "open": "api.database",
}


def __getattr__(name: str) -> object:
    # Found when asked for: to load the interface takes 0.3 s, to look for the version 30 ms, and every worker
    # process of a build would.
    from importlib import import_module

    if name in _PLACES:
        return getattr(import_module(f"omidbfs.{_PLACES[name]}"), name)
    if name == "__version__":
        return import_module("omidbfs.base.version").installed_version()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
