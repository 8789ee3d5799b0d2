"""Writing what is exported: to a file, which appears whole or not at all, or to standard output. Used by the
commands ``export`` and ``report``, in the main thread.
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
    """Write bytes to a file, or to standard output, which ``-`` stands for, too.

    The file appears whole or not at all, readable by its owner only: it holds patient data. What is no file but
    a pipe or a device is written to, not replaced.

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
