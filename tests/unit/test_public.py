"""What is public, and so kept from version to version."""

import importlib
import pkgutil

import omidbfs

PUBLIC = {
    "omidbfs": [
        "Cohort",
        "Database",
        "Image",
        "ImageDataset",
        "NotFoundError",
        "UserError",
        "__version__",
        "open",
    ],
    "omidbfs.demo": ["DemoError", "generate"],
    "omidbfs.facets": [
        "BY_NAME",
        "COHORT_FACET",
        "FACETS",
        "NONE",
        "OTHER",
        "RESERVED",
        "UNKNOWN",
        "UNLINKED",
        "Facet",
        "Key",
        "Kind",
        "Level",
        "Registry",
        "Subject",
        "Tag",
        "Token",
        "Value",
        "named",
    ],
}


def test_these_names_are_public_and_no_others() -> None:
    modules = ["omidbfs", *(found.name for found in pkgutil.walk_packages(omidbfs.__path__, "omidbfs."))]
    loaded = [importlib.import_module(name) for name in modules if not name.endswith("__main__")]
    assert {one.__name__: one.__all__ for one in loaded if hasattr(one, "__all__")} == PUBLIC
    for name, names in PUBLIC.items():
        assert all(hasattr(importlib.import_module(name), one) for one in names)
