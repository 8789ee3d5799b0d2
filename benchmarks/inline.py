"""omidbfs as it would be if every read were made in the loop of the drive: what threads are compared with.

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
