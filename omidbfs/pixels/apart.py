"""Starts and asks the processes that decode and render (``worker``), which hostile pixels may crash, hang or fill.

``check`` and exports use :class:`Apart`, one thread each. A drive has several processes, and waits for them in its
loop (``serving/workers``).
"""

import builtins
import math
import os
import pickle
import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from omidbfs.base.errors import UserError
from omidbfs.base.process import module_command
from omidbfs.database.pixel_format import PixelFormat
from omidbfs.pixels.errors import ANOTHER, KINDS, OUT_OF_MEMORY
from omidbfs.pixels.sizes import keeps_renditions, size_of
from omidbfs.pixels.worker import Answer, Found, Request

DIED = "the decoder crashed"
TOO_SLOW = "the decoder takes too long"
PROBLEMS = frozenset({DIED, TOO_SLOW, OUT_OF_MEMORY})
"""The kinds of problems that end a process."""

_DEFECTS = frozenset(
    f"a defect, {name}"
    for name, value in vars(builtins).items()
    if isinstance(value, type) and issubclass(value, Exception)
)
_SAID = KINDS | _DEFECTS
"""The problems that a process may name. It may have been taken over, and no log may show what it likes."""

PATIENCE = 60.0
"""Seconds that a request may take."""
_PATIENCE_PER_BYTE = 0.25e-6
"""Seconds that it may take in addition for each byte of pixels, stored or shown: a decoder in Python is slow."""
_STARTING = 120.0
"""Seconds in which a process has to start, on a busy machine and from a slow disk."""
_LEAVING = 0.5
"""Seconds in which it may end by itself."""
_LARGEST_ANSWER = 1 << 16
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class Process:
    """A process that decodes, the parent's end of its socket, and the pipe whose closing ends it.

    ``command`` starts another program than the module ``worker``. The numbers of two descriptors are appended.
    """

    __slots__ = ("connection", "life", "process")

    def __init__(self, command: Sequence[str] = ()) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        its_life, life = os.pipe()
        try:
            self.process = subprocess.Popen(
                [*(command or module_command("omidbfs.pixels.worker")), str(theirs.fileno()), str(its_life)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # what a decoder prints may quote the file
                pass_fds=(theirs.fileno(), its_life),
                start_new_session=True,
                env={**os.environ, **_ONE_THREAD},
            )
        except BaseException:
            ours.close()
            os.close(life)
            raise
        finally:
            theirs.close()
            os.close(its_life)
        self.connection, self.life = ours, life

    def send(self, request: Request, descriptors: Sequence[int]) -> None:
        """Send a request, and the descriptors of the DICOM file and of the file to write to."""
        socket.send_fds(self.connection, [pickle.dumps(request)], descriptors)

    def received(self) -> Answer:
        """Return the next answer. The first one says that the process has started.

        Raises
        ------
        OSError
            The process has ended, or does not answer in the time of ``connection``.
        msgspec.MsgspecError
            Its answer makes no sense.
        """
        # What a process says is not unpickled: a decoder may have been taken over.
        answer = msgspec.msgpack.decode(self.connection.recv(_LARGEST_ANSWER), type=Answer)
        if answer.problem is None or answer.problem in _SAID:
            return answer
        return msgspec.structs.replace(answer, problem=ANOTHER)

    def forsake(self) -> None:
        """Close what this process inherited by fork(2). The other process goes on for the parent process."""
        self.connection.close()
        os.close(self.life)
        self.process.returncode = 0  # it is no child of this process, which must not wait for it

    def end(self) -> None:
        """End the process, and do not wait until it has ended."""
        self.connection.close()
        os.close(self.life)  # the kernel kills it
        with suppress(OSError):
            self.process.kill()


def patience(request: Request) -> float:
    """Return the seconds that a request may take."""
    of = request.expected
    numbers = (of.NumberOfFrames, of.Rows, of.Columns, of.SamplesPerPixel, of.BitsAllocated)
    stored = math.prod(number or 1 for number in numbers) / 8
    return PATIENCE + _PATIENCE_PER_BYTE * (stored + request.size)


def _said(answer: Answer) -> str | None:
    return f"cannot be read: {os.strerror(answer.errno)}" if answer.errno else answer.problem


class Apart:
    """A process that decodes; it is started at the first image, and again after its end. Use it as a context.

    ``command`` is that of :class:`Process`.
    """

    def __init__(self, command: Sequence[str] = ()) -> None:
        self._command = command
        self._process: Process | None = None

    def __enter__(self) -> "Apart":
        return self

    def __exit__(self, *exception: object) -> None:
        self._end()

    def asked(self, request: Request, descriptors: Sequence[int]) -> str | None:
        """Have a request done. Return why that failed, or ``None``.

        ``descriptors`` are those of the open DICOM file, and of an empty file for the rendition. Where the file
        contradicts the index, the file counts, as on a drive (S48).

        Raises
        ------
        UserError
            The process cannot be started.
        """
        return _said(self._whole_answer(request, descriptors))

    def measured(self, descriptor: int, expected: PixelFormat) -> Found | str:
        """Return what is found of the breast in an open DICOM file, or why its pixels cannot be decoded.

        Raises
        ------
        UserError
            The process cannot be started.
        """
        answer = self._answer(Request(None, expected, measures=True), [descriptor])
        return answer.breast or _said(answer) or ANOTHER

    def forsake(self) -> None:
        """Close what this process inherited by fork(2)."""
        if self._process is not None:
            self._process.forsake()
            self._process = None

    def _whole_answer(self, request: Request, descriptors: Sequence[int]) -> Answer:
        answer = self._answer(request, descriptors)
        found, rendition = answer.found, request.rendition
        if found is not None and rendition is not None and keeps_renditions(found, request.expected):
            size = size_of(rendition, found) or 0
            answer = self._answer(request._replace(expected=found, size=size), descriptors)
        return answer

    def _answer(self, request: Request, descriptors: Sequence[int]) -> Answer:
        process = self._process or self._start()
        process.connection.settimeout(patience(request))
        try:
            process.send(request, descriptors)
            return process.received()
        except TimeoutError:
            self._end()
            return Answer(TOO_SLOW)
        except (OSError, msgspec.MsgspecError):  # it ended before or while it was asked
            self._end()
            return Answer(DIED)
        except BaseException:  # Ctrl-C: its answer would be taken for that to the next request
            self._end()
            raise

    def _start(self) -> Process:
        self._process = process = Process(self._command)
        process.connection.settimeout(_STARTING)
        try:
            process.received()
            return process
        except (OSError, msgspec.MsgspecError):
            status = self._end()  # no image is to blame
        except BaseException:
            self._end()
            raise
        raise UserError(f"a process that decodes does not start (status {status})", "try fewer --workers")

    def _end(self) -> int:
        """End the process; return its status, negative for a signal."""
        process, self._process = self._process, None
        if process is None:
            return 0
        process.connection.close()
        with suppress(subprocess.TimeoutExpired):
            process.process.wait(_LEAVING)
        process.end()
        return process.process.wait()
