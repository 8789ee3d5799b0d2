"""Workers make renditions. One that dies, hangs, or needs too much memory or room ends, and is replaced."""

import ast
import errno
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import trio
from hostile_worker import COMMAND, HEADER, START
from pixel_files import descriptor, form_of, written

from omidbfs.database.pixel_format import PixelFormat
from omidbfs.pixels import apart, worker
from omidbfs.pixels.apart import DIED, TOO_SLOW
from omidbfs.pixels.decode import read
from omidbfs.pixels.errors import KINDS, OUT_OF_MEMORY
from omidbfs.pixels.rendition import BUILT_IN, Format, Rendition
from omidbfs.pixels.sizes import size_of
from omidbfs.pixels.worker import Answer, Request, real_calls
from omidbfs.serving import workers as module
from omidbfs.serving.workers import Workers

SIZE = 1000
REQUEST = Request(Rendition("png", Format.PNG), PixelFormat(Rows=5), "left", SIZE)


@pytest.fixture
def workers() -> Iterator[Workers]:
    made = Workers(2, COMMAND)
    yield made
    made.close()
    assert not made.processes()


async def asked(workers: Workers, word: str, *, is_written: bool = True) -> tuple[Answer, bytes]:
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as target:
        source.write(word.encode() + b"\n")
        source.flush()
        answer = await workers.run(REQUEST, source.fileno(), target.fileno() if is_written else None)
        target.seek(0)
        return answer, target.read()


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_there(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_worker_gets_two_descriptors_and_what_to_render(workers: Workers) -> None:
    async def scenario() -> None:
        answer, content = await asked(workers, "fine")
        assert (answer, content.rstrip(b".")) == (Answer(), b"fine png 5 left")

    trio.run(scenario)


def test_a_worker_has_no_other_files_and_is_limited(workers: Workers) -> None:
    async def scenario() -> None:
        _, content = await asked(workers, "inside")
        names, limits, is_leader = ast.literal_eval(content.decode().rpartition(")")[0] + ")")
        others = [name for name in names if not name.startswith(("socket:", "pipe:")) and name != "/dev/null"]
        assert len(others) == 2
        assert all(name.endswith(" (deleted)") for name in others)
        assert len(names) == 2 + 3 + 2
        assert limits == [0, SIZE]
        assert is_leader, "Ctrl-C in the terminal of the drive does not reach it"

    trio.run(scenario)


def test_a_worker_may_answer_with_parts_of_the_file(workers: Workers) -> None:
    async def scenario() -> None:
        parts = Answer(None, 0, None, HEADER, START, SIZE - len(HEADER))
        assert await asked(workers, "direct", is_written=False) == (parts, b"")

    trio.run(scenario)


@pytest.mark.parametrize("frames", [127, 128, 300])
def test_a_tiff_file_of_many_frames_is_written_if_its_header_is_no_short_message(frames: int) -> None:
    content = written(np.arange(frames * 64, dtype="<u2").reshape(frames, 8, 8), NumberOfFrames=frames)
    rendition = BUILT_IN["tiff"]

    async def scenario() -> None:
        with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as target:
            source.write(content)
            source.flush()
            form = read(source.fileno()).format
            size = size_of(rendition, form)
            assert size == 8 + 256 * frames + 128 * frames
            request = Request(rendition, form, None, size)
            answer = await workers.run(request, source.fileno())
            assert (answer.problem, answer.errno, answer.header is None) == (None, 0, frames > 127)
            if answer.header is None:
                assert await workers.run(request, source.fileno(), target.fileno()) == Answer()
                assert os.fstat(target.fileno()).st_size == size
        assert len(workers.processes()) == 1

    workers = Workers(1)
    try:
        trio.run(scenario)
    finally:
        workers.close()


@pytest.mark.parametrize(
    ("word", "problem"),
    [
        ("abort", DIED),
        ("hang", TOO_SLOW),
        ("spin", TOO_SLOW),
        ("allocate", OUT_OF_MEMORY),
        ("undecodable", "no pixel data"),
        ("lies", "another problem"),
        ("contradicts 9 9 1", "the file contradicts the index"),
        ("defect", "a defect, KeyError"),
    ],
)
def test_a_failure_is_an_answer_and_the_next_request_succeeds(
    workers: Workers, word: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        for _ in range(2):
            with monkeypatch.context() as patched:
                patched.setattr(apart, "PATIENCE", 1 if problem == TOO_SLOW else 60)
                answer, _ = await asked(workers, word)
            assert answer.problem == problem
            assert (await asked(workers, "fine"))[0] == Answer()
        assert len(workers.processes()) == 1

    trio.run(scenario)


def test_a_worker_cannot_write_more_than_the_size(workers: Workers) -> None:
    async def scenario() -> None:
        answer, content = await asked(workers, "long")
        assert os.strerror(answer.errno) == "File too large"
        assert len(content) == SIZE

    trio.run(scenario)


def test_a_file_is_judged_by_a_worker_that_no_other_file_has_harmed(workers: Workers) -> None:
    async def scenario() -> None:
        assert (await asked(workers, "fine"))[0] == Answer()
        answer, content = await asked(workers, "once")
        assert (answer, content.rstrip(b".")) == (Answer(), b"once png 5 left")

    trio.run(scenario)


def test_of_a_worker_that_failed_nothing_remains_in_the_rendition(workers: Workers) -> None:
    async def scenario() -> None:
        await asked(workers, "fine")
        answer, content = await asked(workers, "once short")
        assert (answer, len(content)) == (Answer(), SIZE - 1)

    trio.run(scenario)


def test_a_file_that_crashes_every_worker_ends_two() -> None:
    workers = Workers(4, COMMAND)

    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(workers.most):
                nursery.start_soon(asked, workers, "slow")
        before = workers.processes()
        assert len(before) == workers.most
        assert (await asked(workers, "abort"))[0].problem == DIED
        assert len(workers.processes()) == workers.most - 1
        assert set(workers.processes()) < set(before), "one that was idle, and the new one"

    trio.run(scenario)
    workers.close()


def test_a_worker_that_was_killed_while_idle_is_replaced(workers: Workers) -> None:
    async def scenario() -> None:
        await asked(workers, "fine")
        for process in workers.processes():
            os.kill(process, signal.SIGKILL)
        assert (await asked(workers, "fine"))[0] == Answer()

    trio.run(scenario)


def test_a_few_workers_serve_many_requests(workers: Workers) -> None:
    answers = []

    async def one() -> None:
        answers.append((await asked(workers, "fine"))[0])

    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(one)
        assert len(workers.processes()) <= 2

    trio.run(scenario)
    assert answers == [Answer()] * 20


def test_requests_that_take_long_leave_room_for_others_up_to_a_limit(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LONG", 0.2)

    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(workers.most):
                nursery.start_soon(asked, workers, "hang")
            with trio.fail_after(60):
                while len(workers.processes()) < workers.most:
                    await trio.sleep(0.02)
                with trio.move_on_after(0.5) as waiting:
                    await asked(workers, "fine")
                assert waiting.cancelled_caught, "all are busy, and for how long was not reviewed"
                workers.review()
                assert (await asked(workers, "fine"))[0] == Answer()
                for _ in range(2 * workers.most):
                    nursery.start_soon(asked, workers, "hang")
                for _ in range(20):
                    await trio.sleep(0.05)
                    workers.review()
                assert len(workers.processes()) == workers.largest == 2 * workers.most
            nursery.cancel_scope.cancel()
        await trio.sleep(0)
        workers.review()
        assert (await asked(workers, "fine"))[0] == Answer()

    trio.run(scenario)


def test_a_request_that_is_given_up_ends_its_worker(workers: Workers) -> None:
    async def scenario() -> None:
        with trio.move_on_after(0.5):
            await asked(workers, "spin")
        assert workers.processes() == []

    trio.run(scenario)


def test_idle_workers_are_ended(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        await asked(workers, "fine")
        (process,) = workers.processes()
        workers.review()
        assert is_there(process)
        monkeypatch.setattr(module, "_IDLE", -1)
        workers.review()
        eventually(lambda: not is_there(process))
        assert (await asked(workers, "fine"))[0] == Answer()

    trio.run(scenario)


def test_stopping_ends_a_request_that_hangs(workers: Workers) -> None:
    async def scenario() -> None:
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                with pytest.raises(InterruptedError):
                    await asked(workers, "spin")

            nursery.start_soon(ask)
            while not workers.processes():
                await trio.sleep(0.01)
            workers.stop()
        with pytest.raises(InterruptedError):
            await asked(workers, "fine")

    trio.run(scenario)


_DRIVE = """
import sys, tempfile, trio
sys.path[:0] = {tests!r}
from hostile_worker import COMMAND
from test_workers import Workers, asked

async def scenario():
    workers = Workers(2, COMMAND)
    await asked(workers, "fine")
    print(*workers.processes(), flush=True)
    await asked(workers, sys.argv[1])

trio.run(scenario)
"""


@pytest.mark.parametrize("word", ["hang", "spin"])
def test_a_worker_does_not_outlive_a_drive_that_is_killed(word: str) -> None:
    code = _DRIVE.format(tests=[str(Path(__file__).parent), str(Path(__file__).parents[1])])
    with subprocess.Popen([sys.executable, "-c", code, word], stdout=subprocess.PIPE, text=True) as drive:
        assert drive.stdout is not None
        worker = int(drive.stdout.readline())
        eventually(lambda: Path(f"/proc/{worker}/comm").read_text() == "busy\n")
        drive.kill()
    eventually(lambda: not is_there(worker))


def test_without_room_for_another_process_asking_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise BlockingIOError(11, "no more processes")

    async def scenario() -> None:
        workers = Workers(1, COMMAND)
        with monkeypatch.context() as patched:
            patched.setattr("subprocess.Popen", refuse)
            with pytest.raises(BlockingIOError):
                await asked(workers, "fine")
        assert (await asked(workers, "fine"))[0] == Answer()
        workers.close()

    trio.run(scenario)


def test_every_kind_of_request_has_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[int] = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, limit: limits.append(limit[0]))
    stored = np.zeros((64, 48), "<u2")
    stored[8:56, :30] = 1000
    source, target = descriptor(written(stored)), descriptor(b"")
    damaged = descriptor(written(stored)[:-100])
    form = form_of(written(stored))
    calls = real_calls()

    def answer(request: Request, *descriptors: int) -> Answer:
        return worker._answer(request, [*descriptors], calls)

    def content() -> bytes:
        found = os.pread(target, 1 << 20, 0)
        os.ftruncate(target, 0)
        os.lseek(target, 0, os.SEEK_SET)
        return found

    png, npy = BUILT_IN["png"], BUILT_IN["npy"]
    try:
        assert answer(Request(png, form, size=100_000), source, target) == Answer()
        assert len(content()) == size_of(png, form)
        assert answer(Request(png, form, is_bare=True), source, target) == Answer()
        assert len(content()) == stored.size
        parts = answer(Request(npy, form), source)
        assert parts.header is not None
        assert os.pread(source, parts.length, parts.start) == stored.tobytes()
        assert answer(Request(None, form), source) == Answer()
        found = answer(Request(None, form, measures=True), source).breast
        assert found is not None
        assert found.box == (8, 0, 56, 30)
        assert answer(Request(png, PixelFormat(Rows=5)), source, target).found == form
        assert answer(Request(None, form), damaged).problem in KINDS
        assert answer(Request(png, form), source, -1).errno == errno.EBADF
        assert limits[0] == 100_000
    finally:
        for one in (source, target, damaged):
            os.close(one)


@pytest.mark.parametrize(
    ("raised", "answer"),
    [
        (MemoryError(), Answer(OUT_OF_MEMORY)),
        (OSError(errno.ENOMEM, "no memory"), Answer(OUT_OF_MEMORY)),
        (OSError(errno.ENOSPC, "full"), Answer(errno=errno.ENOSPC)),
        (OSError("no number"), Answer(errno=errno.EIO)),
        (KeyError("demd1"), Answer("a defect, KeyError")),
    ],
)
def test_an_error_is_an_answer_that_quotes_nothing(
    raised: Exception, answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)

    def fail(source: int) -> object:
        raise raised

    assert worker._answer(Request(None, PixelFormat()), [0], real_calls()._replace(decode=fail)) == answer
