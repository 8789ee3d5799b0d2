"""Detects processes and threads that wait for a disk that does not answer, by proc(5).

Used by ``patience``. Any thread may call it. No signal, not even SIGKILL, ends such a process before the disk
answers.
"""

from contextlib import suppress
from pathlib import Path

Seen = dict[int, tuple[str, int]]
"""For each thread its state of proc(5), and its number of context switches."""

_DEAD = ("Z", "X")


def threads_of(group: int) -> Seen:
    """Return the threads of all processes of a group; none if the group is gone or has only zombies."""
    seen: Seen = {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError, ValueError):  # the process has just ended
            state, _, its_group = _fields(process)[:3]
            if int(its_group) == group and state not in _DEAD:
                for thread in (process / "task").iterdir():
                    with suppress(OSError, IndexError, ValueError):
                        seen[int(thread.name)] = _fields(thread)[0], _switches(thread)
    return seen


def thread_of_ours(thread: int) -> Seen:
    """Return a thread of this process; nothing if it has ended."""
    with suppress(OSError, IndexError, ValueError):
        place = Path(f"/proc/self/task/{thread}")
        return {thread: (_fields(place)[0], _switches(place))}
    return {}


def are_stuck(before: Seen, now: Seen) -> bool:
    """Return whether threads that were seen twice, some time apart, wait for a disk that does not answer.

    Either no thread has run in the meantime or is about to run, or a thread is still in the same uninterruptible
    sleep.
    """
    same = [state for thread, (state, times) in now.items() if before.get(thread) == (state, times)]
    return "D" in same or (before == now and "R" not in same)


def _fields(place: Path) -> list[str]:
    """Return what follows the name in ``stat``: state, parent, group, and so on."""
    return (place / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()


def _switches(place: Path) -> int:
    lines = (place / "status").read_text(encoding="utf-8", errors="replace").splitlines()
    return sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)
