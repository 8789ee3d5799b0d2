"""What the kernel says of processes in files of the form ``name: value`` (proc(5)).

Used by ``callers`` and ``server``. Any thread may call it.
"""

from pathlib import Path


def field(file: Path, name: str) -> str | None:
    """Return what a file has under a name, ``None`` if it has nothing or cannot be read."""
    try:
        lines = file.read_bytes().split(b"\n")  # the name of a process may have other ends of lines
    except OSError:
        return None
    start = f"{name}:".encode()
    found = (line.removeprefix(start) for line in lines if line.startswith(start))
    value = next(found, None)
    return None if value is None else value.decode("ascii", "replace").strip()
