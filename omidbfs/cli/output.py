"""Writes an exported file, which appears whole or not at all, or standard output; and aligns lines for people.
Commands use this module, in the main thread.
"""

import errno
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from omidbfs.base.whole import replacing

STANDARD = Path("-")
"""The name of standard output (POSIX, utility syntax guideline 13)."""


def aligned(rows: Sequence[tuple[str | int, str]], least: int = 0) -> Iterator[str]:
    """Yield a line for each row, with the second column below itself. Numbers in the first are on the right.

    The first column is as wide as its widest cell, but has at least ``least`` characters.
    """
    width = max((len(str(first)) for first, _ in rows), default=0)
    for first, second in rows:
        yield f"{first:{'>' if isinstance(first, int) else '<'}{max(width, least)}}  {second}"


def write(chunks: Iterable[bytes], output: Path | None) -> None:
    """Write bytes to a file. ``None`` and ``-`` stand for standard output.

    The file appears whole or not at all. Only its owner can read it, because it holds patient data. A pipe or a
    device is written to, not replaced.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    if output is None or output == STANDARD:
        sys.stdout.flush()
        sys.stdout.buffer.writelines(chunks)
        sys.stdout.buffer.flush()
        return
    if output.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(output))
    if output.exists() and not output.is_file():
        with open(output, "wb") as stream:
            stream.writelines(chunks)
        return
    if not (place := Path(os.path.realpath(output)).parent).is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(place))
    with replacing(output) as stream:
        stream.writelines(chunks)
