"""Tells from outside whether processes wait for a disk that does not answer."""

import os
import signal
import subprocess
import time

import pytest

from omidbfs.serving.stuck import Seen, are_stuck, threads_of


@pytest.mark.parametrize(
    ("before", "now", "stuck"),
    [
        ({7: ("S", 5)}, {7: ("S", 5)}, True),
        ({7: ("S", 5)}, {7: ("S", 6)}, False),
        ({7: ("S", 5), 8: ("S", 3)}, {7: ("S", 6), 8: ("S", 3)}, False),
        ({7: ("S", 5), 8: ("D", 3)}, {7: ("S", 6), 8: ("D", 3)}, True),
        ({7: ("S", 5), 8: ("D", 3)}, {7: ("S", 6), 8: ("D", 4)}, False),
        ({7: ("S", 5)}, {7: ("S", 5), 9: ("D", 1)}, False),
        ({7: ("R", 5)}, {9: ("S", 5)}, False),
        ({7: ("R", 5), 8: ("S", 3)}, {7: ("R", 5), 8: ("S", 3)}, False),
    ],
)
def test_a_thread_that_has_not_run_or_sleeps_uninterruptibly_is_stuck(
    before: Seen, now: Seen, stuck: bool
) -> None:
    assert are_stuck(before, now) == stuck


def test_the_threads_of_a_group_are_seen_until_it_is_gone() -> None:
    command = ["sh", "-c", "sleep 1000 & echo $!; wait"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            started = int(process.stdout.readline())
            seen = threads_of(process.pid)
            assert set(seen) == {process.pid, started}
        finally:
            os.killpg(process.pid, signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        while started in threads_of(process.pid):
            time.sleep(0.01)
        assert threads_of(process.pid) == {}, "a zombie waits for nothing"
