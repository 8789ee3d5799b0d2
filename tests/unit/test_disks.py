"""Threads are bounded and shared between files. Stuck threads delay no other call. Log lines are rare."""

import errno
import logging
import os
import resource
import threading
from collections.abc import Callable, Iterator

import pytest
import trio
import trio.testing

from omidbfs.serving.disks import _MOST_STUCK, _SHARE, _STUCK, _THREADS, Disks, Rarely, Threads


class Held:
    """Calls that wait until they are released."""

    def __init__(self) -> None:
        self.may = threading.Event()
        self.running = 0
        self.most = 0
        self._lock = threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        self.may.wait(60)
        with self._lock:
            self.running -= 1


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, by the clock of the wall."""
    while not condition():
        await trio.to_thread.run_sync(threading.Event().wait, 0.002)


@pytest.fixture
def held() -> Iterator[Held]:
    """Calls that are released at the end of the test."""
    calls = Held()
    yield calls
    calls.may.set()


def test_one_file_takes_no_more_than_its_share(held: Held) -> None:
    async def main() -> None:
        threads = Threads()
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(threads.run, 1, held)
            await until(lambda: held.running == _SHARE)
            assert await threads.run(2, lambda: "other") == "other"
            held.may.set()
        assert held.most == _SHARE

    trio.run(main)


def test_a_result_or_an_error_comes_back_and_a_cancelled_task_does_not_wait(held: Held) -> None:
    async def main() -> None:
        threads = Threads()
        assert await threads.run(1, lambda: "result") == "result"
        with pytest.raises(ZeroDivisionError):
            await threads.run(1, lambda: 1 // 0)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                for _ in range(2 * _SHARE):
                    nursery.start_soon(threads.run, 1, held)
                await until(lambda: held.running == _SHARE)
                scope.cancel()
        assert scope.cancelled_caught
        assert held.running == _SHARE, "nobody waits for them"
        held.may.set()
        await until(lambda: held.running == 0)
        assert await threads.run(1, lambda: "result") == "result"
        assert not threads._shares

    trio.run(main)


def test_a_call_that_returns_after_the_loop_has_ended_is_dropped(held: Held) -> None:
    async def main() -> None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(Threads().run, 1, held)
                await until(lambda: held.running == 1)
                scope.cancel()

    trio.run(main)
    held.may.set()
    while held.running:
        threading.Event().wait(0.002)


def test_all_files_together_take_no_more_than_there_is(held: Held) -> None:
    async def main() -> None:
        threads = Threads()
        async with trio.open_nursery() as nursery:
            for file in range(100):
                nursery.start_soon(threads.run, file, held)
            await until(lambda: held.running == _THREADS)
            held.may.set()
        assert held.most == _THREADS

    trio.run(main)


def test_stuck_threads_do_not_count(held: Held) -> None:
    async def main() -> None:
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, trio.testing.MockClock)
        threads = Threads()
        async with trio.open_nursery() as nursery:
            for file in range(_THREADS):
                nursery.start_soon(threads.run, file, held)
            await until(lambda: held.running == _THREADS)
            assert threads.review() == 0
            clock.jump(_STUCK + 1)
            assert threads.review() == _THREADS
            assert await threads.run(1000, lambda: "goes on") == "goes on"
            for file in range(5):
                nursery.start_soon(threads.run, file + 2000, held)
            await until(lambda: held.running == _THREADS + 5)
            held.may.set()
        assert threads.review() == 0

    trio.run(main, clock=trio.testing.MockClock())


def test_only_so_many_threads_may_be_stuck_before_the_others_wait(held: Held) -> None:
    async def main() -> None:
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, trio.testing.MockClock)
        threads = Threads()
        most = _THREADS + _MOST_STUCK
        async with trio.open_nursery() as nursery:
            for file in range(most + 20):
                nursery.start_soon(threads.run, file, held)
            running = 0
            while running < most:
                running = min(running + _THREADS, most)
                await until(lambda expected=running: held.running == expected)  # type: ignore[misc]
                clock.jump(_STUCK + 1)
                assert threads.review() == running
            await trio.to_thread.run_sync(threading.Event().wait, 0.05)
            assert held.running == most
            held.may.set()
        assert threads.review() == 0

    trio.run(main, clock=trio.testing.MockClock())


def test_a_cancelled_call_does_not_wait(held: Held) -> None:
    async def main() -> None:
        threads = Threads()
        with trio.move_on_after(0.01) as scope:
            await threads.run(1, held)
        assert scope.cancelled_caught

    trio.run(main)


def test_a_caller_gets_the_error_of_its_call() -> None:
    def fail() -> None:
        raise OSError(errno.EREMOTEIO, "no")

    with pytest.raises(OSError, match="no"):
        trio.run(Threads().run, 1, fail)


def test_as_many_files_may_be_open_as_leave_something_for_the_drive(
    expect_warning: Callable[[str], None],
) -> None:
    async def main() -> None:
        disks = Disks(reserved=40)
        assert disks.most_open_files == resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 64 - 40
        for _ in range(disks.most_open_files):
            disks.count_open()
        expect_warning("files are open, and no more can be: raise the limit of the process")
        for _ in range(3):
            with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
                disks.count_open()
        disks.open_files -= 1
        disks.count_open()

    trio.run(main)


def test_the_same_line_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    now = [100.0]
    log = logging.getLogger("omidbfs.test")
    rarely = Rarely(lambda: now[0])
    log.addFilter(rarely)
    with caplog.at_level("INFO", "omidbfs"):
        for _ in range(1000):
            log.info("it %s", "fails")
        log.info("something else")
        now[0] += 61
        log.info("it fails")
    log.removeFilter(rarely)
    assert caplog.messages == ["it fails", "something else", "it fails (999 more times since this was last said)"]
