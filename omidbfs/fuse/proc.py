"""Reads files of proc(5) that have lines of the form ``name: value``.

Used by ``callers`` and ``server``. Any thread may call it.
"""

from pathlib import Path


def field(file: Path, name: str) -> str | None:
    """Return the value of a name in a file; ``None`` if the file lacks the name or cannot be read."""
    try:
        lines = file.read_bytes().split(b"\n")  # a name may contain other line ends
    except OSError:
        return None
    start = f"{name}:".encode()
    found = (line.removeprefix(start) for line in lines if line.startswith(start))
    value = next(found, None)
    return None if value is None else value.decode("ascii", "replace").strip()
