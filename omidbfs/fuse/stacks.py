"""Shows what a drive is doing: the stacks of its threads and tasks, for SIGUSR1.

Used by the daemon, in its loop. The stacks contain lines of code and no values, so they name no client.
"""

import sys
import threading
import traceback
from collections.abc import Iterator

import trio


def stacks() -> Iterator[str]:
    """Yield the stack of every thread and of every trio task, line by line. Call this in the thread of trio."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for number, frame in sys._current_frames().items():
        yield f"thread {names.get(number, number)}:"
        yield from _lines(traceback.StackSummary.extract(traceback.walk_stack(frame), lookup_lines=False))
    root = trio.lowlevel.current_root_task()
    for task in _tasks(root) if root is not None else ():
        yield f"task {task.name}:"
        yield from _lines(traceback.StackSummary.extract(task.iter_await_frames(), lookup_lines=False))


def _tasks(task: trio.lowlevel.Task) -> Iterator[trio.lowlevel.Task]:
    yield task
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            yield from _tasks(child)


def _lines(summary: traceback.StackSummary) -> Iterator[str]:
    return (f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in summary)
