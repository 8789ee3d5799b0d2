"""A worker that does what the first word of the DICOM file says, in the place of ``omidbfs.pixels.worker``.

    python -P hostile_worker.py SOCKET PIPE

Tests start it. Each rendition is the first line of the file, the name of the rendition and what the worker was
told, and dots up to the size.
"""

import os
import resource
import sys
import time
from pathlib import Path

from omidbfs.database.pixel_format import PixelFormat
from omidbfs.pixels.errors import ContradictionError, PixelError
from omidbfs.pixels.geometry import Breast
from omidbfs.pixels.rendition import Format, Rendition
from omidbfs.pixels.worker import Calls, serve

COMMAND = [sys.executable, "-P", str(Path(__file__).resolve())]
HEADER = b"a header, then the file:"
START = 64
_MEMORY = 1 << 28
_made: list[bytes] = []


def line_of(source: int) -> bytes:
    return os.pread(source, START, 0).split(b"\n")[0]


def show_busy() -> None:
    """Let a test see that a request is in progress: an idle process has another name."""
    Path("/proc/self/comm").write_text("busy", encoding="ascii")


def render(source: int, rendition: Rendition, expected: PixelFormat, side: str | None, target: int) -> None:
    line, size = line_of(source), resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    match line.split(b" ")[0].decode():
        case "slow":
            time.sleep(0.5)
        case "short":
            size -= 1
        case "long":
            size += 1
        case "abort":
            os.abort()
        case "hang":
            show_busy()
            while True:
                time.sleep(1)
        case "spin":  # holds the interpreter, as native code may
            show_busy()
            sum(range(1 << 60))
        case "allocate":
            kept = []
            while True:
                kept.append(bytes(1 << 24))
        case "undecodable":
            raise PixelError("no pixel data")
        case "lies":
            raise PixelError("PatientName=DOE^JANE\na forged line")
        case "contradicts" if expected[:3] != inspect(source)[:3]:
            raise ContradictionError("the file contradicts the index")
        case "defect":
            raise KeyError("a name that no log may show")
        case "once" if _made:
            os.write(target, b"?" * size)
            os.abort()
        case "once":
            size -= line.endswith(b"short")
        case "inside":
            numbers = os.listdir("/proc/self/fd")  # one of them is that of the listing
            paths = [f"/proc/self/fd/{number}" for number in numbers]
            names = [os.readlink(path) for path in paths if os.path.lexists(path)]
            limits = [resource.getrlimit(limit)[0] for limit in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE)]
            line = repr((names, limits, os.getsid(0) == os.getpid())).encode()
    content = line + f" {rendition.name} {expected.Rows} {side}".encode()
    _made.append(line)
    left = memoryview(content.ljust(size, b"."))
    while left:
        left = left[os.write(target, left) :]


def direct(source: int, rendition: Rendition, expected: PixelFormat) -> tuple[bytes, int, int] | None:
    line, size = line_of(source), resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if line.startswith(b"direct"):
        return HEADER, START, size - len(HEADER)
    if line.startswith(b"outside"):
        return HEADER, 1 << 40, size - len(HEADER)
    return None


def decode(source: int) -> None:
    """Do what the first word says, and write the result nowhere."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    target = os.memfd_create("nowhere")
    render(source, Rendition("png", Format.PNG), PixelFormat(), None, target)
    os.close(target)


def measure(source: int) -> Breast:
    decode(source)
    return Breast()


def inspect(source: int) -> PixelFormat:
    """What a file that ``contradicts`` says: numbers of rows, columns and frames."""
    rows, columns, frames = map(int, line_of(source).split(b" ")[1:])
    return PixelFormat(rows, columns, frames, 1, 16, 12)


if __name__ == "__main__":
    serve(Calls(render, render, direct, inspect, decode, measure), _MEMORY)
