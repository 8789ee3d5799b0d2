"""Reads clients in lanes: in one thread, or in many where the source is slow to answer.

Functions that read runs of clients use it, for an executor (``chunk``, ``build``, ``user_facets``). The calling
thread only watches. The lanes are threads, and what they share is behind one lock.

On a local disk a single lane does all the work, as fast as a plain loop. Where a request takes milliseconds, as it
does on a network, each lane reads another client, so that as many requests are under way as there are lanes. A
lane that waits for a request that is never answered is left behind, and its client with it.
"""

import math
import resource
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

_Name = TypeVar("_Name")
_Answer = TypeVar("_Answer")

SLOW = 0.0003
"""Seconds: if a request takes longer, several are under way at once."""
MOST_LANES = 48
"""Most threads of a process that read clients."""
MOST_BYTES = 16 << 20
"""Bytes that may be read ahead of the client whose turn it is, whatever the number of lanes."""
PATIENCE = 30.0
"""Seconds without an answer, from which on a lane may be left behind."""
_SILENCE = 20
"""How many times ``PATIENCE`` a run waits before it looks again, if nothing answers. In this time, those who watch
the process find it stuck (``serving.patience``)."""
_MOST_LEFT = 8
"""Most lanes of a run that are left behind, and most threads that ask whether the disk answers. After that, the
run waits."""
_FEW = 8
"""Requests that had to wait, from which their time can be judged."""
_VALID = 60.0
"""Seconds for which a pace is believed."""

Admit = Callable[[int], None]
"""``admit(bytes)`` returns when a client of so many bytes may be read."""


@dataclass(slots=True)
class Pace:
    """How many lanes a source needs, as measured in each of them."""

    lanes: int = 1
    measured: float = 0.0

    def known(self) -> int:
        """Return the number of lanes to begin with."""
        if time.monotonic() > self.measured + _VALID:
            self.lanes = 1
        return self.lanes

    def learn(self, waits: int, wall: float, processor: float) -> None:
        """Take in what one client took: how often a thread waited, seconds from start to end, and those at work.

        Waits are counted as they are by the kernel. Time that a busy machine gives to others is no wait.
        """
        is_slow = waits >= _FEW and wall - processor > waits * SLOW
        needed = min(max(2, math.ceil(wall / max(processor, 1e-6))), MOST_LANES) if is_slow else 1
        # Several lanes also wait for each other. So they become more, and never fewer.
        if self.lanes == 1 or needed >= 1.5 * self.lanes:
            self.lanes, self.measured = needed, time.monotonic()


_PACE = Pace()
"""The pace of this process, which remembers it from one run of clients to the next."""


@dataclass(slots=True, eq=False)
class _Lane:
    """A thread, the number of the client that it reads, and what was seen of it at the last look."""

    thread: int = 0
    client: int | None = None
    is_waiting: bool = False
    is_left: bool = False
    seen: object = None


@dataclass(slots=True)
class Reading(Generic[_Name, _Answer]):
    """How clients are read.

    ``read`` returns the answer of a client, in any thread. ``take`` gets the answers in order, one at a time.
    ``given_up`` returns the answer of a client that is waited for in vain; without it, the reading waits.
    ``is_alive`` returns whether the source answers for any client but those that are named; it may hang itself.
    """

    read: Callable[[_Name, Admit], _Answer]
    take: Callable[[_Answer], None]
    given_up: Callable[[_Name], _Answer] | None = None
    is_alive: Callable[[Collection[_Name]], bool] = lambda but: False

    def all_of(self, clients: Sequence[_Name], pace: Pace = _PACE) -> None:
        """Read clients, and return when all of them are taken. What ``read`` or ``take`` raises is raised."""
        if clients:
            _Run(self, clients, pace).until_taken()


@dataclass(slots=True)
class _Run(Generic[_Name, _Answer]):
    how: Reading[_Name, _Answer]
    clients: Sequence[_Name]
    pace: Pace
    lanes: list[_Lane] = field(default_factory=list)
    answers: dict[int, _Answer] = field(default_factory=dict)
    admitted: dict[int, int] = field(default_factory=dict)
    bytes: int = 0
    begun: int = 0
    taken: int = 0
    is_taking: bool = False
    is_over: bool = False
    is_silent: bool = False
    left: int = 0
    asking: list[threading.Thread] = field(default_factory=list)
    error: BaseException | None = None
    lock: threading.Condition = field(default_factory=threading.Condition)
    moved: threading.Event = field(default_factory=threading.Event)

    def until_taken(self) -> None:
        try:
            self._open_lanes(self.pace.known())
            while not self.is_over:
                if self.moved.wait(PATIENCE * (_SILENCE if self.is_silent else 1)):
                    self.moved.clear()
                    self.is_silent = False
                else:
                    # A look is a sign of life to those who watch the process. Where nothing answers there are few.
                    self.is_silent = True  # an answer during the look ends the next wait
                    self.is_silent = not self._look()
        finally:
            with self.lock:
                self.is_over = True
                self.lock.notify_all()
        if self.error is not None:
            raise self.error

    # In lanes

    def _open_lanes(self, number: int) -> None:
        with self.lock:
            number = min(number, len(self.clients) - self.begun + sum(not lane.is_left for lane in self.lanes))
            while sum(not lane.is_left for lane in self.lanes) < number:
                lane = _Lane()
                try:
                    threading.Thread(target=self._serve, args=(lane,), daemon=True).start()
                except RuntimeError:  # the system gives no more threads
                    if all(one.is_left for one in self.lanes):
                        raise
                    return
                self.lanes.append(lane)

    def _serve(self, lane: _Lane) -> None:
        lane.thread = threading.get_native_id()
        try:
            while (number := self._begin(lane)) is not None:
                admit = partial(self._admit, lane, number)
                waits, wall, processor = _waits(), time.perf_counter(), time.thread_time()
                answer = self.how.read(self.clients[number], admit)
                self.pace.learn(_waits() - waits, time.perf_counter() - wall, time.thread_time() - processor)
                if self.pace.lanes > len(self.lanes) - self.left:
                    self._open_lanes(self.pace.lanes)
                self._answered(lane, number, answer)
        except BaseException as error:
            with self.lock:
                if not lane.is_left:
                    self.error, self.is_over = self.error or error, True
            self.moved.set()

    def _begin(self, lane: _Lane) -> int | None:
        with self.lock:
            if self.is_over or lane.is_left or self.begun == len(self.clients):
                return None
            lane.client, self.begun = self.begun, self.begun + 1
            return lane.client

    def _admit(self, lane: _Lane, number: int, size: int) -> None:
        with self.lock:
            lane.is_waiting = True
            # The client whose turn it is never waits: all others wait for it.
            while self.taken < number and self.bytes and self.bytes + size > MOST_BYTES and not self.is_over:
                self.lock.wait()
            lane.is_waiting = False
            if lane.is_left:  # nobody takes its answer
                return
            self.admitted[number] = size
            self.bytes += size

    def _answered(self, lane: _Lane, number: int, answer: _Answer) -> None:
        with self.lock:
            if lane.is_left:
                return
            lane.client = None
            self.answers[number] = answer
        if self.is_silent:
            self.moved.set()
        self._take()

    def _take(self) -> None:
        """Take all answers whose turn it is, unless another thread is taking them."""
        with self.lock:
            if self.is_taking:
                return
            self.is_taking = True
        while True:
            with self.lock:
                if self.is_over or self.taken not in self.answers:
                    self.is_taking = False
                    return
                answer = self.answers.pop(self.taken)
            self.how.take(answer)
            with self.lock:
                self.bytes -= self.admitted.pop(self.taken, 0)
                self.taken += 1
                self.is_over = self.is_over or self.taken == len(self.clients)
                self.lock.notify_all()
            if self.is_over:
                self.moved.set()

    # In the thread that watches

    def _look(self) -> bool:
        """Leave lanes behind that wait for ever, while others are answered. Return whether there is any hope."""
        with self.lock:
            reading = {
                lane: lane.client
                for lane in self.lanes
                if lane.client is not None and not lane.is_left and not lane.is_waiting
            }
            stuck = []
            for lane, number in reading.items():
                seen = (number, _switches(lane.thread))
                if seen == lane.seen:
                    stuck.append(lane)
                lane.seen = seen
        if not stuck:
            return True
        given_up = self.how.given_up
        if given_up is None or self.left + len(stuck) > _MOST_LEFT or not self._is_alive(reading.values()):
            return len(stuck) < len(reading)
        for lane in stuck:
            answer = given_up(self.clients[reading[lane]])
            with self.lock:
                if lane.client == reading[lane]:  # else it was answered at this moment
                    lane.is_left, self.left = True, self.left + 1
                    self.answers[reading[lane]] = answer
        self._take()
        self._open_lanes(len(reading))
        return True

    def _is_alive(self, numbers: Iterable[int]) -> bool:
        names = [self.clients[number] for number in numbers]
        answers: list[bool] = []

        def ask() -> None:
            with suppress(OSError):
                answers.append(self.how.is_alive(names))

        self.asking = [thread for thread in self.asking if thread.is_alive()]
        if len(self.asking) < _MOST_LEFT:  # the others hang as well
            self.asking.append(threading.Thread(target=ask, daemon=True))
            self.asking[-1].start()
            self.asking[-1].join(PATIENCE / 4)
        return answers == [True]


def _waits() -> int:
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw


def _switches(thread: int) -> tuple[str, ...]:
    """Return how often a thread of this process went to sleep or was interrupted (proc(5))."""
    with suppress(OSError):
        lines = Path(f"/proc/self/task/{thread}/status").read_text(encoding="utf-8", errors="replace").splitlines()
        return tuple(line for line in lines if "ctxt_switches" in line)
    return ()
