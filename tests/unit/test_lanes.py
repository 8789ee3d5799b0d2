"""Where a source is slow, many requests are under way. What is read, and its order, does not depend on that."""

import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_index import plain
from trees import Quirky

from omidbfs.database.layout import NO_ANSWER, find_source
from omidbfs.index import lanes
from omidbfs.index.build import refreshed
from omidbfs.index.lanes import MOST_BYTES, MOST_LANES, Admit, Pace, Reading

REQUESTS = 10


def slow() -> Pace:
    """Return the pace of a source for which all lanes are used from the start."""
    return Pace(MOST_LANES, time.monotonic() + 3600)


@pytest.fixture(autouse=True)
def _own_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what other tests have measured."""
    monkeypatch.setattr(lanes.Reading.all_of, "__defaults__", (Pace(),))


class Requests:
    """Counts requests under way; each takes some time."""

    def __init__(self, seconds: float = 0.001) -> None:
        self.seconds = seconds
        self.under_way = self.most = 0
        self._lock = threading.Lock()

    def wait(self) -> None:
        with self._lock:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        time.sleep(self.seconds)
        with self._lock:
            self.under_way -= 1

    def of(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            self.wait()
            return call(*args, **kwargs)

        return called


# How many at once ----------------------------------------------------------------------------------------------


def test_one_thread_reads_a_source_that_answers_at_once() -> None:
    threads: set[int] = set()
    taken: list[int] = []

    def read(client: int, admit: Admit) -> int:
        threads.add(threading.get_ident())
        return sum(range(client))

    Reading(read, taken.append).all_of(range(500), pace := Pace())
    assert taken == [sum(range(client)) for client in range(500)]
    assert (len(threads), pace.lanes) == (1, 1)


def test_many_requests_are_under_way_where_each_takes_long() -> None:
    requests, taken = Requests(), list[int]()

    def read(client: int, admit: Admit) -> int:
        for _ in range(REQUESTS):
            requests.wait()
        return client

    Reading(read, taken.append).all_of(range(200), pace := Pace())
    assert taken == list(range(200))
    assert 8 < requests.most <= MOST_LANES
    assert pace.known() > 8, "the next run begins with as many"
    pace.measured -= 3600
    assert pace.known() == 1, "what was measured long ago is measured again"


@pytest.mark.parametrize(
    ("waits", "wall", "processor", "lanes_"),
    [
        (0, 0.010, 0.001, 1),  # a busy machine
        (100, 0.011, 0.001, 1),  # a fast disk: 0.1 ms a request
        (100, 0.201, 0.001, MOST_LANES),
        (20, 0.010, 0.002, 5),
        (3, 0.100, 0.001, 1),  # too few to judge
    ],
)
def test_the_number_of_lanes_follows_from_waits_of_the_kernel(
    waits: int, wall: float, processor: float, lanes_: int
) -> None:
    pace = Pace()
    pace.learn(waits, wall, processor)
    assert pace.lanes == lanes_


def test_a_slow_source_is_indexed_with_many_requests_at_once(
    demo_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = find_source(demo_database)
    expected = refreshed(source)
    requests = Requests(0.005)
    for name in ("open", "scandir", "read", "fstat"):
        monkeypatch.setattr(os, name, requests.of(getattr(os, name)))
    index = refreshed(source)
    assert 8 < requests.most <= MOST_LANES
    requests.most = 0
    assert refreshed(source, index) is index
    assert 8 < requests.most <= MOST_LANES
    assert plain(index) == plain(expected)


def test_any_number_of_lanes_gives_the_same_index(
    quirky_database: Quirky, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = find_source(quirky_database.path)
    expected = refreshed(source)
    monkeypatch.setattr(lanes.Reading.all_of, "__defaults__", (slow(),))
    index = refreshed(source)
    assert plain(index) == plain(expected)
    assert refreshed(source, expected) is expected


# Bounds ----------------------------------------------------------------------------------------------------------


def test_few_bytes_are_read_ahead_of_the_client_whose_turn_it_is() -> None:
    size, lock = MOST_BYTES // 3, threading.Lock()
    held = most = 0
    taken: list[int] = []

    def read(client: int, admit: Admit) -> int:
        nonlocal held, most
        admit(size)
        with lock:
            held += 1
            most = max(most, held)
        time.sleep(0.02 if client % 10 == 0 else 0)  # others are ready before the client whose turn it is
        return client

    def take(client: int) -> None:
        nonlocal held
        with lock:
            held -= 1
        taken.append(client)

    Reading(read, take).all_of(range(60), slow())
    assert taken == list(range(60))
    assert 1 < most <= 4, "three, and the client whose turn it is"


def test_a_client_beyond_all_bounds_is_read_in_its_turn() -> None:
    taken: list[int] = []

    def read(client: int, admit: Admit) -> int:
        admit(2 * MOST_BYTES)
        return client

    Reading(read, taken.append).all_of(range(20), slow())
    assert taken == list(range(20))


# Failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pace", [Pace, slow])
@pytest.mark.parametrize("where", ["read", "take"])
def test_what_fails_in_a_lane_is_raised(pace: Callable[[], Pace], where: str) -> None:
    def read(client: int, admit: Admit) -> int:
        return 1 // (client - 7) if where == "read" else client

    def take(answer: int) -> None:
        assert where == "read" or 1 // (answer - 7)

    with pytest.raises(ZeroDivisionError):
        Reading(read, take).all_of(range(20), pace())


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_fewer_lanes_do_where_the_system_gives_no_more_threads(
    monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    start, left, taken = threading.Thread.start, [None] * threads, list[int]()

    def start_or_fail(thread: threading.Thread) -> None:
        if not left:
            raise RuntimeError("can't start new thread")
        left.pop()
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_or_fail)
    reading = Reading(lambda client, admit: client, taken.append)
    if threads == 0:
        with pytest.raises(RuntimeError):
            reading.all_of(range(20), slow())
    else:
        reading.all_of(range(20), slow())
        assert taken == list(range(20))


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """An event for which requests wait that the disk does not answer; short patience."""
    monkeypatch.setattr(lanes, "PATIENCE", 0.1)
    event = threading.Event()
    yield event
    event.set()


@pytest.mark.parametrize("pace", [Pace, slow])
def test_a_client_that_hangs_is_left_behind(pace: Callable[[], Pace], hanging: threading.Event) -> None:
    taken: list[tuple[int, str]] = []
    asked: list[Collection[int]] = []

    def read(client: int, admit: Admit) -> tuple[int, str]:
        if client in (3, 11):
            hanging.wait(120)
        return client, "read"

    def is_alive(but: Collection[int]) -> bool:
        asked.append(but)
        return True

    Reading(read, taken.append, lambda client: (client, "given up"), is_alive).all_of(range(20), pace())
    assert taken == [(client, "given up" if client in (3, 11) else "read") for client in range(20)]
    assert {client for but in asked for client in but} == {3, 11}
    hanging.set()
    time.sleep(0.05)
    assert len(taken) == 20, "a late answer counts no more"


def test_a_client_that_was_left_behind_takes_no_room_when_it_wakes_up(
    hanging: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[lanes._Run] = []
    until_taken = lanes._Run.until_taken
    monkeypatch.setattr(lanes._Run, "until_taken", lambda run: (runs.append(run), until_taken(run)))
    woken = threading.Event()

    def read(client: int, admit: Admit) -> int:
        if client == 3:
            hanging.wait(120)
        elif client == 19:
            hanging.set()  # by then, the client was left behind
            woken.wait(120)
        admit(1 << 20)
        if client == 3:
            woken.set()
        return client

    Reading(read, lambda client: None, lambda client: client, lambda but: True).all_of(range(20), slow())
    (run,) = runs
    assert woken.wait(120)
    assert (run.bytes, run.admitted) == (0, {})


def never(but: Collection[int]) -> bool:
    return False


@pytest.mark.parametrize("is_alive", [never, None], ids=["answers no", "hangs too"])
def test_a_disk_that_hangs_is_waited_for_without_a_sign_of_life(
    is_alive: Callable[[Collection[int]], bool] | None, hanging: threading.Event
) -> None:
    taken: list[int] = []
    begun = threading.Event()
    threads: list[int] = []

    def read(client: int, admit: Admit) -> int:
        if client == 5:
            begun.set()
            hanging.wait(120)
        return client

    def hangs(but: Collection[int]) -> bool:
        return hanging.wait(120)

    def work() -> None:
        threads.append(threading.get_native_id())
        Reading(read, taken.append, lambda client: -client, is_alive or hangs).all_of(range(20), Pace())

    thread = threading.Thread(target=work)
    thread.start()
    assert begun.wait(120)
    deadline, before = time.monotonic() + 120, None
    while (now := lanes._switches(threads[0])) != before:  # ten times the patience
        assert time.monotonic() < deadline, "who watches the process has to see that nothing moves"
        before = now
        time.sleep(1)
    assert taken == list(range(5))
    hanging.set()
    thread.join(60)
    assert taken == list(range(20))


@pytest.mark.parametrize("answers", [1, 3])
def test_a_disk_that_did_not_answer_for_a_while_is_looked_at_again(hanging: threading.Event, answers: int) -> None:
    """A client of a disk that hung altogether is left behind when the disk is there again."""
    said = iter([False] * answers)
    taken: list[int] = []

    def read(client: int, admit: Admit) -> int:
        if client == 5:
            hanging.wait(120)
        return client

    Reading(read, taken.append, lambda client: -client, lambda but: next(said, True)).all_of(range(20), Pace())
    assert taken == [-client if client == 5 else client for client in range(20)]


def test_few_threads_ask_whether_a_disk_answers(hanging: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "_SILENCE", 1)
    asked, taken = list[Collection[int]](), list[int]()

    def read(client: int, admit: Admit) -> int:
        if client == 5:
            hanging.wait(120)
        return client

    def is_alive(but: Collection[int]) -> bool:
        asked.append(but)
        return hanging.wait(120)

    def work() -> None:
        Reading(read, taken.append, lambda client: -client, is_alive).all_of(range(20), Pace())

    thread = threading.Thread(target=work)
    thread.start()
    deadline = time.monotonic() + 120
    while len(asked) < lanes._MOST_LEFT:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(1)
    assert len(asked) == lanes._MOST_LEFT
    hanging.set()
    thread.join(120)
    assert taken == list(range(20))


def test_an_answer_while_the_disk_is_looked_at_ends_the_silence(
    hanging: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "_SILENCE", 10_000)
    asked, taken = list[Collection[int]](), list[int]()

    def read(client: int, admit: Admit) -> int:
        if client in (5, 9):
            hanging.wait(120)
            hanging.clear()
        return client

    def is_alive(but: Collection[int]) -> bool:
        asked.append(but)
        if len(asked) == 1:
            hanging.set()
            while 8 not in taken:
                time.sleep(0.001)
        return len(asked) > 1

    Reading(read, taken.append, lambda client: -client, is_alive).all_of(range(20), Pace())
    assert taken == [-client if client == 9 else client for client in range(20)]


def test_a_directory_that_hangs_is_a_problem_and_all_else_is_indexed(
    demo_database: Path, monkeypatch: pytest.MonkeyPatch, hanging: threading.Event
) -> None:
    source = find_source(demo_database)
    whole = refreshed(source)
    client, opened = whole.clients[7].decode(), os.open

    def open_or_hang(path: Any, *args: Any, **kwargs: Any) -> int:
        if str(path).endswith(f"/data/{client}"):
            hanging.wait(120)
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", open_or_hang)
    index = refreshed(source, whole)
    assert len(index) == len(whole) - int(whole.client_rows[8] - whole.client_rows[7])
    (problem,) = [one for one in index.problems if one.kind == "unreadable"]
    assert (problem.file, problem.detail, problem.client) == (f"data/{client}", NO_ANSWER, client)
    assert refreshed(source, index) is index, "nothing changed while it hangs"
    monkeypatch.undo()
    again = refreshed(source, index)
    assert ([*again.images], again.problem_lines) == ([*whole.images], whole.problem_lines)


def test_a_run_that_is_interrupted_ends_its_lanes() -> None:
    begun: list[int] = []

    def read(client: int, admit: Admit) -> int:
        begun.append(client)
        time.sleep(0.01)
        return client

    previous = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(KeyboardInterrupt):
            Reading(read, lambda _: None).all_of(range(10_000), slow())
    finally:
        signal.signal(signal.SIGALRM, previous)
    ended = len(begun)
    time.sleep(0.1)
    assert len(begun) <= ended + 1, "each lane ends with the client at hand"
