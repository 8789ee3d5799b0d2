"""omidbfs with every read in the loop of the drive, without threads. The benchmarks compare threads with it.

python inline.py mount --foreground SOURCE MOUNTPOINT
"""

import os

from omidbfs.cli.main import main
from omidbfs.serving.reader import OpenFile, Reader


async def _read(self: Reader, file: OpenFile, offset: int, size: int) -> bytes:
    return os.pread(file.descriptor, size, offset)


if __name__ == "__main__":
    Reader.read = _read  # type: ignore[method-assign]
    main()
