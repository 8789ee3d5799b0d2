"""All executors give the same index. If a process is killed, one line says so."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from pathlib import Path
from typing import Any

import pytest
from test_index import plain
from trees import Quirky

from omidbfs.base.errors import UserError
from omidbfs.base.process import available_cpus
from omidbfs.base.progress import Progress
from omidbfs.database.layout import find_source
from omidbfs.index import build, executors
from omidbfs.index.build import Work, refreshed
from omidbfs.index.executors import executor_for, in_order, watched


def refusal(name: str, workers: int = 2) -> str:
    with pytest.raises(UserError) as caught, executor_for(name, workers):
        pytest.fail("there is no such executor")
    assert re.fullmatch(r"[^\n]+", str(caught.value))
    return str(caught.value)


def exists(process: int) -> bool:
    return Path(f"/proc/{process}").exists()


def processes(executor: Executor | None) -> list[int]:
    """Return the workers of a pool, all of them started."""
    assert isinstance(executor, ProcessPoolExecutor)
    return sorted(executor._processes)


# The same index --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_any_number_of_workers_gives_the_same_index(
    quirky_database: Quirky, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr(build, "CLIENTS_PER_CHUNK", 3)
    monkeypatch.setattr(executors, "WORTH_STARTING", 0)
    source = find_source(quirky_database.path)
    here = refreshed(source)
    with executor_for("local", workers) as executor:
        assert (executor is None) == (workers == 1)
        index = refreshed(source, None, Work(executor, workers))
        assert plain(index) == plain(here)
        assert refreshed(source, index, Work(executor, workers)) is index
        started = processes(executor) if executor is not None else []
    assert len(started) == workers - 1, "this process is one of the workers"
    assert not any(exists(process) for process in started)


def test_a_small_database_is_read_by_this_process_alone(demo_database: Path) -> None:
    source = find_source(demo_database)
    with executor_for("local", 4) as executor:
        index = refreshed(source, None, Work(executor, 4))
        assert refreshed(source, index, Work(executor, 4)) is index
        assert processes(executor) == []


def test_others_start_where_the_rest_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "WORTH_STARTING", 0.5)
    with executor_for("local", 3) as executor:
        results = in_order(executor, 3, _slowly, [[number] for number in range(40)])
        first = next(results)
        assert first == (os.getpid(), [0]), "this process begins alone"
        rest = list(results)
        assert [numbers for _, numbers in rest] == [[number] for number in range(1, 40)]
        assert {process for process, _ in rest} == {os.getpid(), *processes(executor)}


def _slowly(numbers: list[int]) -> tuple[int, list[int]]:
    time.sleep(0.05)
    return os.getpid(), numbers


def told_to(lines: list[tuple[object, ...]]) -> Progress:
    return lambda *numbers: lines.append(numbers)


def test_several_workers_tell_of_the_same_work_in_shorter_steps_towards_the_end(
    demo_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "CLIENTS_PER_CHUNK", 4)
    source = find_source(demo_database)
    told: list[list[tuple[object, ...]]] = [[], []]
    for workers, lines in enumerate(told, 1):
        with executor_for("local", workers) as executor:
            refreshed(source, None, Work(executor, workers, told_to(lines)))
    assert told[0][-1] == told[1][-1]
    alone, together = ([line[1] for line in lines] for lines in told)
    assert alone == [4, 8, 12, 16, 20, 24, 25]
    assert together == [1, 3, 6, 9, 11, 13, *range(15, 26)]


def interrupts_are_blocked(process: int) -> bool:
    status = Path(f"/proc/{process}/status").read_text()
    (mask,) = [line.split()[1] for line in status.splitlines() if line.startswith("SigBlk:")]
    return bool(int(mask, 16) >> signal.SIGINT - 1 & 1)


def test_workers_are_new_processes_that_leave_interrupts_to_their_parent() -> None:
    with executor_for("local", 2) as executor:
        assert executor is not None
        first = executor.submit(signal.getsignal, signal.SIGINT)
        assert interrupts_are_blocked(*processes(executor))  # it is not up yet
        assert not interrupts_are_blocked(os.getpid())
        assert first.result() == signal.SIG_IGN
        assert executor.submit(os.getpid).result() != os.getpid()
        executor.submit(os.getpid).result()
        for process in processes(executor):
            os.kill(process, signal.SIGINT)
        assert executor.submit(abs, -1).result() == 1


def test_there_is_a_processor_to_work_with() -> None:
    assert 1 <= available_cpus() <= (os.cpu_count() or 1)


# Failures --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["comparing", "reading"])
def test_a_worker_that_is_killed_ends_the_work_with_one_line(
    demo_database: Path, monkeypatch: pytest.MonkeyPatch, phase: str
) -> None:
    monkeypatch.setattr(build, "CLIENTS_PER_CHUNK", 1)
    monkeypatch.setattr(executors, "WORTH_STARTING", 0)
    source = find_source(demo_database)
    previous = refreshed(source) if phase == "comparing" else None
    killed: list[int] = []

    def kill(phase_: str, done: int, total: int, images: int) -> None:
        if phase_ == phase and not killed and processes(executor):
            killed.extend(processes(executor))
            os.kill(killed[0], signal.SIGKILL)

    with (
        pytest.raises(UserError, match=r"^a worker process was killed, .*; try fewer --workers$"),
        executor_for("local", 3) as executor,
    ):
        refreshed(source, previous, Work(executor, 3, kill))
    assert len(killed) == 2
    assert not any(exists(process) for process in killed)


def test_an_interrupt_leaves_no_process_behind(demo_database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "CLIENTS_PER_CHUNK", 1)
    started: list[int] = []

    def interrupt(*_: object) -> None:
        started.extend(processes(executor))
        if started:
            raise KeyboardInterrupt

    monkeypatch.setattr(executors, "WORTH_STARTING", 0)
    with pytest.raises(KeyboardInterrupt), executor_for("local", 3) as executor:
        refreshed(find_source(demo_database), None, Work(executor, 3, interrupt))
    assert len(started) == 2
    assert not any(exists(process) for process in started)


def test_cancelled_work_ends_at_once() -> None:
    started: list[int] = []

    def work() -> None:
        with executor_for("local", 4) as executor:
            assert executor is not None
            results = [executor.submit(bytes, 1 << 24) for _ in range(60)]
            results += [executor.submit(time.sleep, 600) for _ in range(3)]
            wait(results, 60, FIRST_COMPLETED)  # the next tasks are submitted when the work is cancelled
            started.extend(processes(executor))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert len(started) == 3
    assert not any(exists(process) for process in started)


WORK_FOR_EVER = """
import time
from omidbfs.index.executors import executor_for
if __name__ == "__main__":
    with executor_for("local", 3) as executor:
        for _ in range(2):
            executor.submit(time.sleep, 600)
        print(*executor._processes, flush=True)
        time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_workers_end_with_their_parent_process(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "work.py").write_text(WORK_FOR_EVER)
    command, pipe = [sys.executable, tmp_path / "work.py"], subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        workers = [int(word) for word in process.stdout.readline().split()]
        if number == signal.SIGKILL:
            process.kill()
        else:  # as systemd does, which signals all processes
            os.killpg(process.pid, number)
            assert process.communicate(timeout=60)[1] == "", "nothing is left for Python to tell of"
            assert process.returncode == 128 + number
    assert len(workers) == 2
    deadline = time.monotonic() + 60
    while any(map(exists, workers)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(map(exists, workers))


@pytest.mark.parametrize("name", ["", "locale", "dask", "dask:/", "mpi:2", "http://localhost"])
def test_an_executor_that_is_not_known_is_refused(name: str) -> None:
    assert refusal(name) == f"--executor {name}: not known; use local, dask://HOST:PORT or mpi"


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [("dask://localhost:1", "distributed", "dask"), ("mpi", "mpi4py.futures", "mpi")],
)
def test_an_executor_whose_library_is_not_installed_names_it(
    monkeypatch: pytest.MonkeyPatch, name: str, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert refusal(name).startswith(f"--executor {extra}: not installed; pip install 'omidbfs[{extra}]'")


WITHOUT_MPI_LIBRARY = """
from omidbfs.base.errors import UserError
from omidbfs.index.executors import executor_for
try:
    with executor_for("mpi", 2):
        pass
except UserError as error:
    print(error)
"""


def test_mpi_without_an_mpi_library_is_reported(tmp_path: Path) -> None:
    pytest.importorskip("mpi4py")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_MPI_LIBRARY],
        env=os.environ | {"MPI4PY_LIBMPI": str(tmp_path / "none.so")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("--executor mpi: not installed; ")
    assert "needs an MPI library" in done.stdout


# In order, and never many at a time ------------------------------------------------------------------------


class Recorder(Executor):
    """Does the work at once, and counts the results that were not read yet."""

    def __init__(self) -> None:
        self.submitted: list[Future[Any]] = []
        self.asked = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        recorder = self

        class Counted(Future[Any]):
            def result(self, timeout: float | None = None) -> Any:
                recorder.asked += 1
                return super().result(timeout)

        future = Counted()
        try:
            future.set_result(fn(*args, **kwargs))
        except ZeroDivisionError as error:
            future.set_exception(error)
        self.submitted.append(future)
        return future


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("tasks", [0, 1, 7, 100])
def test_results_come_in_order_and_few_tasks_are_ahead(workers: int, tasks: int) -> None:
    recorder, most, results = Recorder(), 0, []
    for result in in_order(recorder, workers, str, range(tasks)):
        results.append(result)
        most = max(most, len(recorder.submitted) - len(results) + 1)
    assert results == [str(task) for task in range(tasks)]
    assert len(recorder.submitted) == (tasks if tasks > 1 else 0)  # one task needs no executor
    assert tasks <= 1 or min(tasks, workers + 1) <= most <= 3 * workers + 1


def test_what_a_task_raises_is_raised_and_the_rest_cancelled() -> None:
    recorder = Recorder()
    results = in_order(recorder, 2, lambda task: 1 // task, (2, 1, 0, 3))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert recorder.asked == 3


def test_tasks_without_a_waiting_caller_are_cancelled() -> None:
    never, is_lost = threading.Event(), threading.Event()
    with ThreadPoolExecutor(2) as pool, watched(pool, is_lost.is_set) as executor:
        done, waiting = executor.submit(str, 1), executor.submit(never.wait)
        assert done.result(60) == "1"
        is_lost.set()
        with pytest.raises(CancelledError):
            waiting.result(60)
        never.set()
    assert done.result() == "1"
