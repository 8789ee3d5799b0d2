"""The part of the loop that waits for requests, on a descriptor of ours in place of the kernel's."""

import itertools
import os
import select
import time
from collections.abc import Iterator
from pathlib import Path

import pyfuse3
import pytest
import trio
import trio.testing

from omidbfs.fuse import loop
from omidbfs.fuse.loop import IN_A_ROW, Lock, LowLevel, Reserve


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A descriptor to wait for, and one that makes it readable."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


async def _answer(waiting: LowLevel, reader: int, lock: Lock, answered: list[str], name: str) -> None:
    """Answer requests of one byte each for ever, as a task of pyfuse3 does."""
    while True:
        async with lock:
            await waiting.wait_readable(reader)
            os.read(reader, 1)
        answered.append(name)


def test_every_other_task_gets_a_turn_after_so_many_requests(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    waiting, answered, turns = LowLevel(Reserve()), list[str](), list[int]()

    async def other() -> None:
        while len(turns) < 20:
            turns.append(len(answered))
            await trio.lowlevel.checkpoint()

    async def run() -> None:
        os.write(writer, bytes(10 * IN_A_ROW))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_answer, waiting, reader, Lock(Reserve()), answered, "")
            nursery.start_soon(other)
            with trio.fail_after(120):
                while len(answered) < 10 * IN_A_ROW:
                    await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()

    trio.run(run)
    steps = [later - earlier for earlier, later in itertools.pairwise(turns)]
    # One more ends the wait. Trio runs the tasks of a round in any order: one may run twice in between.
    assert 1 < max(steps) <= 2 * (IN_A_ROW + 1)


def test_requests_in_a_row_are_answered_without_another_task_in_between(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    waiting, answered = LowLevel(Reserve()), list[str]()

    async def run() -> None:
        lock = Lock(Reserve())
        async with trio.open_nursery() as nursery:
            for name in "ab":
                nursery.start_soon(_answer, waiting, reader, lock, answered, name)
            os.write(writer, bytes(IN_A_ROW))
            with trio.fail_after(120):
                while len(answered) < IN_A_ROW:
                    await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()

    trio.run(run)
    assert len(set(answered)) == 1


def test_another_task_answers_while_one_waits_for_something_else(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    waiting, answered = LowLevel(Reserve()), list[str]()

    async def slow(lock: Lock) -> None:
        async with lock:
            await waiting.wait_readable(reader)
            os.read(reader, 1)
        await trio.sleep_forever()  # a disk that hangs

    async def run() -> None:
        lock = Lock(Reserve())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(slow, lock)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(_answer, waiting, reader, lock, answered, "other")
            await trio.testing.wait_all_tasks_blocked()
            os.write(writer, bytes(5))
            with trio.fail_after(120):
                while len(answered) < 4:
                    await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()

    trio.run(run)
    assert answered == ["other"] * 4


def test_a_descriptor_that_is_about_to_be_closed_ends_the_wait(pipe: tuple[int, int]) -> None:
    reader, _ = pipe

    async def run() -> None:
        waiting = LowLevel(Reserve())
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def wait() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await waiting.wait_readable(reader)

            await trio.testing.wait_all_tasks_blocked()
            waiting.notify_closing(reader)  # type: ignore[operator]  # through to trio's own

    trio.run(run)


def test_a_wait_is_cancelled_and_so_is_a_wait_for_the_lock(pipe: tuple[int, int]) -> None:
    reader, _ = pipe
    answered: list[str] = []

    async def run() -> None:
        lock = Lock(Reserve())
        with trio.move_on_after(0.05):
            async with trio.open_nursery() as nursery:
                for name in "abc":
                    nursery.start_soon(_answer, LowLevel(Reserve()), reader, lock, answered, name)
        async with lock:  # nobody holds it any more
            pass

    trio.run(run)
    assert answered == []


def test_a_drive_that_is_idle_takes_no_processor_time(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    polls: list[int] = []

    class Counted(LowLevel):
        def _is_readable(self, descriptor: int) -> bool:
            polls.append(descriptor)
            return super()._is_readable(descriptor)

    async def run() -> float:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_answer, Counted(Reserve()), reader, Lock(Reserve()), [], "")
            os.write(writer, b"1")
            await trio.sleep(0.05)
            start = time.process_time()
            await trio.sleep(0.3)
            nursery.cancel_scope.cancel()
        return time.process_time() - start

    assert trio.run(run) < 0.1
    assert len(polls) <= 2  # for a moment after each answer, and then not any more


def test_a_poll_that_fails_leaves_the_wait_to_trio(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = pipe
    answered: list[str] = []

    def broken() -> object:
        raise MemoryError

    monkeypatch.setattr(select, "poll", broken)

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_answer, LowLevel(Reserve()), reader, Lock(Reserve()), answered, "")
            os.write(writer, bytes(200))
            with trio.fail_after(120):
                while len(answered) < 200:
                    await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()

    trio.run(run)


def test_a_new_task_waits_for_memory_while_another_answers(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = pipe
    answered: list[str] = []
    reserve = Reserve()
    waiting, lock = LowLevel(reserve), Lock(reserve)

    async def answered_by(count: int) -> set[str]:
        os.write(writer, bytes(count))
        with trio.fail_after(120):
            while len(answered) < count:
                await trio.sleep(0.001)
        names = set(answered)
        answered.clear()
        return names

    async def run() -> None:
        async with trio.open_nursery() as new:
            async with trio.open_nursery() as old:
                old.start_soon(_answer, waiting, reader, lock, answered, "old")
                assert await answered_by(1) == {"old"}
                monkeypatch.setattr(loop, "BUFFER", 1 << 62)
                new.start_soon(_answer, waiting, reader, lock, answered, "new")
                assert await answered_by(10 * IN_A_ROW) == {"old"}
                old.cancel_scope.cancel()
            os.write(writer, b"1")
            await trio.sleep(3 * loop.PAUSE)
            assert answered == []
            monkeypatch.setattr(loop, "BUFFER", 1)
            assert await answered_by(IN_A_ROW) == {"new"}
            new.cancel_scope.cancel()

    trio.run(run)


def test_the_reserve_takes_room_and_no_memory() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    async def run() -> int:
        reserves = [Reserve() for _ in range(64)]
        before = resident()
        assert all(reserve.is_there() for reserve in reserves)
        return resident() - before

    assert trio.run(run) < 16 * loop.BUFFER


def test_a_task_without_memory_lets_the_next_one_answer(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = pipe
    reserve = Reserve()
    waiting, lock = LowLevel(reserve), Lock(reserve)
    answered: list[str] = []
    busy = trio.Event()

    async def once(name: str) -> None:
        async with lock:
            await waiting.wait_readable(reader)
            os.read(reader, 1)
        answered.append(name)

    async def blocked_after_one() -> None:
        await once("first")
        await trio.sleep_forever()  # a disk that hangs

    async def with_buffer() -> None:
        await once("second")
        await busy.wait()
        await once("second")

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(with_buffer)
            os.write(writer, b"1")
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(blocked_after_one)
            await trio.testing.wait_all_tasks_blocked()
            monkeypatch.setattr(loop, "BUFFER", 1 << 62)
            nursery.start_soon(once, "new")
            await trio.testing.wait_all_tasks_blocked()
            busy.set()  # it waits behind the new task
            await trio.testing.wait_all_tasks_blocked()
            os.write(writer, b"23")
            with trio.fail_after(120):
                while len(answered) < 3:
                    await trio.sleep(0.001)
            nursery.cancel_scope.cancel()

    trio.run(run)
    assert answered == ["second", "first", "second"]


def test_the_only_processor_is_left_to_the_program_that_asks(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    waiting = LowLevel(Reserve())
    monkeypatch.setattr(loop, "perf_counter_ns", iter([0, 0]).__next__)  # asked for once more it raises
    assert not waiting._is_readable(pipe[0])


def test_pyfuse3_is_left_alone_where_it_has_no_such_place(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pyfuse3.trio is trio, "nothing in this process has installed it"
    monkeypatch.setattr(loop, "find_spec", lambda _: None)
    assert not loop.install()
    assert pyfuse3.trio is trio
    monkeypatch.setattr(pyfuse3, "trio", None)
    assert not loop.install()


def test_everything_else_of_trio_is_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyfuse3, "trio", trio)
    assert loop.install()
    assert loop.install(), "once more changes nothing"
    assert pyfuse3.trio.open_nursery is trio.open_nursery
    assert pyfuse3.trio.lowlevel.current_task is trio.lowlevel.current_task
    assert pyfuse3.trio.ClosedResourceError is trio.ClosedResourceError
