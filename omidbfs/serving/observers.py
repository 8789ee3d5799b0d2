"""Front ends that keep what a drive has said, and how they are told when that is no longer true.

Used by :class:`~omidbfs.serving.drive.Drive` and the refresher. Everything here belongs to the loop of the drive;
what takes long is found out in threads.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Protocol

import trio

from omidbfs.serving.changes import Changes, all_that_is_known, changed_file, changes
from omidbfs.view.nodes import Directory
from omidbfs.view.view import View

log = logging.getLogger(__name__)

_FILES = 40
"""Changed files of which observers are being told at the same time; others wait for their turn."""
_COMPARED = 2
"""Of these, how many are being looked for in all directories that an observer knows."""


class Observer(Protocol):
    """A front end that keeps names, attributes or bytes beyond the request that asked for them."""

    def paths(self) -> list[bytes]:
        """Return the paths of the directories of which it keeps something, without the root."""

    def directories(self, view: View) -> Iterable[Directory]:
        """Return the same directories as they are in a view, without those that are not in it.

        The result is iterated in a thread: there may be a million.
        """

    async def tell(self, found: Changes) -> bool:
        """Have it forget; return whether it has.

        The loop goes on meanwhile, so an observer may wait for requests that are being answered.
        """

    async def settle(self) -> None:
        """Do what earlier changes have left to do; called at the end of each refresh."""


class Observers:
    """All observers of one drive, and which of them has not been told something.

    An observer that could not be told of a change of view is told of everything at the next one.
    """

    def __init__(self) -> None:
        self._all: list[Observer] = []
        self._owed: set[Observer] = set()
        self._files = trio.CapacityLimiter(_FILES)
        self._compared = trio.CapacityLimiter(_COMPARED)
        # Of its own: threads that wait for a slow disk, to answer reads, must not keep it waiting.
        self._views = trio.CapacityLimiter(1)

    def add(self, observer: Observer) -> None:
        """Tell an observer from now on."""
        self._all.append(observer)

    @property
    def know_all(self) -> bool:
        """Whether every observer was told every change of view."""
        return not self._owed

    def directories(self) -> int:
        """Return how many directories are known, each observer's for itself."""
        return sum(len(observer.paths()) for observer in self._all)

    def known(self) -> dict[Observer, list[bytes]]:
        """Return for each observer the paths of the directories that it knows now."""
        return {observer: observer.paths() for observer in self._all}

    async def tell_of_view(
        self, old: View, new: View, known: Mapping[Observer, list[bytes]], held: Callable[[], set[int]]
    ) -> None:
        """Tell what changed between two views.

        ``known`` is what observers knew of the old one; ``held`` returns the inodes of the files that are open.
        Where the changes cannot be found out, or an earlier change could not be told, all that is known is told.

        Raises
        ------
        Exception
            What an observer raised, after all others were told. So do all methods that tell something.
        """
        owed, self._owed = self._owed, set(known)

        async def tell(observer: Observer) -> None:
            found = None if observer in owed else await self._changes(old, new, known[observer], held())
            if found is None:
                found = await trio.to_thread.run_sync(
                    all_that_is_known, (old, new), observer.paths(), held(), limiter=self._views
                )
            if await observer.tell(found):
                self._owed.remove(observer)

        await _each(known, tell)

    async def _changes(self, old: View, new: View, paths: list[bytes], held: set[int]) -> Changes | None:
        try:
            return await trio.to_thread.run_sync(changes, old, new, paths, held, limiter=self._views)
        except Exception:  # a defect of ours must not leave anybody with what is no more
            log.exception("what has changed could not be found out; the kernel forgets everything")
            return None

    async def tell_of_file(self, view: View, inode: int) -> None:
        """Tell that a file of the source was found changed when it was opened."""

        async def tell(observer: Observer) -> None:
            found = await trio.to_thread.run_sync(
                changed_file, view, inode, observer.directories(view), limiter=self._compared
            )
            await observer.tell(found)

        async with self._files:
            await _each(self._all, tell)

    async def tell(self, directory: Directory, name: bytes) -> None:
        """Tell that a name leads to another file."""
        await _each(self._all, lambda observer: observer.tell(Changes(entries=[(directory.inode, name)])))

    async def settle(self) -> None:
        """Have all observers do what earlier changes have left to do."""
        await _each(self._all, lambda observer: observer.settle())


async def _each(observers: Iterable[Observer], call: Callable[[Observer], Awaitable[object]]) -> None:
    """Await a call for each observer, and then raise what the first has raised.

    A defect of one front end must not keep the others from being told.
    """
    failures: list[Exception] = []
    for observer in [*observers]:
        try:
            await call(observer)
        except Exception as error:
            failures.append(error)
    if failures:
        raise failures[0]
