"""``python -m omidbfs.pixels.worker``: a process that decodes and renders DICOM files, one after the other.

Its parent (``apart``) sends requests over a socket. With each request come a descriptor of the DICOM file and one
to write to, or only the former. The process gets no paths. Decoders run here, because hostile pixels may make them
crash, hang or allocate without end. That ends this process, and never its parent. It has one thread.
"""

import errno
import gc
import os
import pickle
import resource
import signal
import socket
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import msgspec

from omidbfs.base.process import end_with_parent
from omidbfs.database.pixel_format import PixelFormat
from omidbfs.pixels.errors import OUT_OF_MEMORY, ContradictionError, PixelError
from omidbfs.pixels.rendition import Rendition

if TYPE_CHECKING:
    from omidbfs.pixels.geometry import Breast

MEMORY = 4 << 30
"""Bytes that a worker may allocate for one request, besides what it has when it starts."""

_LARGEST_MESSAGE = 1 << 16


class Request(NamedTuple):
    """What to do with a DICOM file: make a rendition of it, or without ``rendition`` only decode or measure it.

    ``expected`` is what the index says of the pixels, and ``side`` that of the chest wall. ``size`` is the largest
    number of bytes to write. With ``is_bare``, the numbers of the rendition alone are written (``render_bare``).
    With ``measures``, the breast is looked for.
    """

    rendition: Rendition | None
    expected: PixelFormat
    side: str | None = None
    size: int = 0
    is_bare: bool = False
    measures: bool = False


_Pixel = Annotated[int, msgspec.Meta(ge=0, le=65535)]


class Found(msgspec.Struct, frozen=True):
    """The breast in an image (``geometry.Breast``); ``box`` is top, left, bottom, right. Its types are checked."""

    box: tuple[_Pixel, _Pixel, _Pixel, _Pixel] | None
    side: Literal["left", "right"] | None
    share: Annotated[float, msgspec.Meta(ge=0, le=1)]


class Answer(msgspec.Struct, frozen=True):
    """How a request ended. Without ``problem`` and ``errno`` it succeeded.

    ``problem`` is the kind of a :class:`~omidbfs.pixels.errors.PixelError`, and ``errno`` an error of the system.
    ``found`` is what the file says of its pixels, if that contradicts the index. With ``header``, nothing was
    written: the rendition is ``header``, followed by ``length`` bytes of the DICOM file from ``start`` on.
    ``breast`` is what was found with ``measures``.
    """

    problem: str | None = None
    errno: int = 0
    found: PixelFormat | None = None
    header: bytes | None = None
    start: int = 0
    length: int = 0
    breast: Found | None = None


Render = Callable[[int, Rendition, PixelFormat, str | None, int], None]


class Calls(NamedTuple):
    """The functions that do the work. The first three are those of the module ``render``.

    ``inspect`` returns what a DICOM file says of its pixels, ``decode`` decodes all of them, and ``measure`` looks
    for the breast.
    """

    render: Render
    render_bare: Render
    direct: Callable[[int, Rendition, PixelFormat], tuple[bytes, int, int] | None]
    inspect: Callable[[int], PixelFormat]
    decode: Callable[[int], object]
    measure: "Callable[[int], Breast]"


def real_calls() -> Calls:
    """Return the functions of omidbfs."""
    from omidbfs.pixels import decode, render

    return Calls(
        render.render,
        render.render_bare,
        render.direct,
        lambda source: decode.read(source).format,
        lambda source: decode.read(source).stored(),
        _measured,
    )


def _measured(source: int) -> "Breast":
    from omidbfs.pixels import decode, geometry  # scipy, which only a few renditions need

    return geometry.measured(decode.read(source))


def serve(calls: Calls, memory: int = MEMORY) -> None:
    """Answer requests until the parent closes its end. The arguments of the process are two descriptors."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    end_with_parent(int(sys.argv[2]))
    _limit(memory)
    gc.freeze()
    connection.send(msgspec.msgpack.encode(Answer()))  # it has started
    while True:
        text, descriptors, _, _ = socket.recv_fds(connection, _LARGEST_MESSAGE, 2)
        if not text:
            return
        try:
            answer = _answer(pickle.loads(text), descriptors, calls)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        connection.send(msgspec.msgpack.encode(answer))


def _answer(request: Request, descriptors: list[int], calls: Calls) -> Answer:
    rendition, expected, side, size, is_bare, measures = request
    source, *targets = descriptors
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        if measures:
            breast = calls.measure(source)
            return Answer(breast=Found(breast.box, breast.side, breast.share))
        if rendition is None:
            calls.decode(source)
        elif targets:
            make = calls.render_bare if is_bare else calls.render
            make(source, rendition, expected, side, targets[0])
        elif (parts := calls.direct(source, rendition, expected)) is not None:
            return Answer(None, 0, None, *parts)
        return Answer()
    except ContradictionError as error:
        return Answer(error.kind, found=calls.inspect(source))
    except PixelError as error:
        return Answer(error.kind)
    except MemoryError:
        return Answer(OUT_OF_MEMORY)
    except OSError as error:
        no_memory = error.errno == errno.ENOMEM
        return Answer(OUT_OF_MEMORY) if no_memory else Answer(errno=error.errno or errno.EIO)
    except Exception as error:  # a defect; its message may quote the file
        return Answer(f"a defect, {type(error).__name__}")


def _limit(memory: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    with open("/proc/self/statm", encoding="ascii") as file:
        mapped = int(file.read().split()[0]) * resource.getpagesize()
    for limit, most in ((resource.RLIMIT_AS, mapped + memory), (resource.RLIMIT_CORE, 0)):
        _, hard = resource.getrlimit(limit)
        if hard == resource.RLIM_INFINITY or most < hard:
            resource.setrlimit(limit, (most, most))
    with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")  # if memory runs out, no other process has to die for hostile pixels
    warnings.simplefilter("ignore")
    # A process that answers the kernel goes first on a processor that both want.
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


if __name__ == "__main__":
    serve(real_calls())
