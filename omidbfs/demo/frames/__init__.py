"""Compressed frames for the demo, each made once, so that the demo needs no encoder. ``imagery`` uses them.

``scripts/demo-frames`` makes the files again. Each is the :func:`phantom`.
"""

from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

ROWS, COLUMNS = 104, 80


def phantom() -> NDArray[np.uint16]:
    """Return a left breast in CC, rows x columns in 12 bits. Whole numbers make it the same everywhere."""
    down, across = np.arange(ROWS)[:, None] - 52, np.arange(COLUMNS)[None, :]
    inside = 1000 - across * across * 10 // 37 - down * down * 10 // 18
    tissue = 12 * (across * 7 % 23 + down * 5 % 19) * (inside > 300)
    return np.where(inside > 0, 600 + 2 * inside + tissue, 0).clip(0, 4095).astype(np.uint16)


def frame(name: str) -> bytes:
    """Return the codestream in the file ``name``."""
    return files(__name__).joinpath(name).read_bytes()
