"""Writes an exported file, or writes to standard output. A file appears whole or not at all. The commands
``export`` and ``report`` use this module, in the main thread.
"""

import errno
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from omidbfs.base.whole import replacing

STANDARD = Path("-")
"""The name of standard output (POSIX, utility syntax guideline 13)."""


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
