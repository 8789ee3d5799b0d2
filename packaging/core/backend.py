"""Builds the distribution omidbfs-core: the tree of omidbfs under another name, and without what needs libfuse.

pip calls it (``pip install ./packaging/core``). It copies the tree, edits the copy's ``pyproject.toml``, and
leaves the rest to setuptools. So both distributions have the same version, modules and extras.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from setuptools import build_meta

_TREE = Path(__file__).resolve().parents[2]
_PARTS = ("omidbfs", "share", "README.md", "LICENSE", "pyproject.toml")
_EDITS = (
    ('name = "omidbfs"\n', 'name = "omidbfs-core"\n'),
    ('    "pyfuse3>=3.3,<4",\n', ""),
    ('    "omidbfs[pixels,serve]",\n', '    "omidbfs-core[pixels,serve]",\n'),
    ('all = ["omidbfs[', 'all = ["omidbfs-core['),
)


@contextmanager
def _copied() -> Iterator[None]:
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as directory:
        for part in _PARTS:
            source, target = _TREE / part, Path(directory, part)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        text = Path(directory, "pyproject.toml").read_text(encoding="utf-8")
        for old, new in _EDITS:
            if text.count(old) != 1:
                raise RuntimeError(f"pyproject.toml has not one line {old!r}: change backend.py with it")
            text = text.replace(old, new)
        Path(directory, "pyproject.toml").write_text(text, encoding="utf-8")
        os.chdir(directory)
        try:
            yield
        finally:
            os.chdir(before)


def build_wheel(wheel_directory: str, config_settings: Any = None, metadata_directory: str | None = None) -> str:
    """Build the wheel (PEP 517)."""
    target = os.path.abspath(wheel_directory)
    with _copied():
        return str(build_meta.build_wheel(target, config_settings))


def build_sdist(sdist_directory: str, config_settings: Any = None) -> str:
    """Build the source distribution (PEP 517)."""
    target = os.path.abspath(sdist_directory)
    with _copied():
        return str(build_meta.build_sdist(target, config_settings))
