"""Tells front ends that keep answers of a drive when these answers have become wrong.

Used by :class:`~omidbfs.serving.drive.Drive` and the refresher. Everything here belongs to the loop of the drive.
Comparisons that take long run in threads.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Protocol

import trio

from omidbfs.index.sections import DamagedError
from omidbfs.serving.changes import Changes, all_that_is_known, changed_file, changes
from omidbfs.view.nodes import Directory
from omidbfs.view.view import View

log = logging.getLogger(__name__)

_FILES = 40
"""The largest number of changed files reported to observers at the same time. Others wait."""
_COMPARED = 2
"""The largest number of these that are looked up in all known directories at the same time."""


class Observer(Protocol):
    """A front end that keeps names, attributes or bytes beyond the request that asked for them."""

    def paths(self) -> list[bytes]:
        """Return the paths of the directories about which the observer keeps answers, without the root."""

    def directories(self, view: View) -> Iterable[Directory]:
        """Return the same directories as they are in a view, without those that the view lacks.

        The result is iterated in a thread, as there may be a million.
        """

    async def tell(self, found: Changes) -> bool:
        """Forget what has changed; return whether that succeeded.

        The loop goes on in the meantime, so an observer may wait for requests in progress.
        """

    async def settle(self) -> None:
        """Complete the work that earlier changes have left. Called at the end of each refresh."""


class Observers:
    """All observers of one drive, and which of them have missed a change.

    An observer that missed a change of view must forget everything at the next change.
    """

    def __init__(self) -> None:
        self._all: list[Observer] = []
        self._owed: set[Observer] = set()
        self._files = trio.CapacityLimiter(_FILES)
        self._compared = trio.CapacityLimiter(_COMPARED)
        # Separate from the threads that read: they may wait for a slow disk.
        self._views = trio.CapacityLimiter(1)

    def add(self, observer: Observer) -> None:
        """Add an observer."""
        self._all.append(observer)

    @property
    def know_all(self) -> bool:
        """Whether every observer has been told every change of view."""
        return not self._owed

    def known(self) -> dict[Observer, list[bytes]]:
        """Return for each observer the paths of the directories that it knows now."""
        return {observer: observer.paths() for observer in self._all}

    async def tell_of_view(
        self, old: View, new: View, known: Mapping[Observer, list[bytes]], held: Callable[[], set[int]]
    ) -> None:
        """Tell observers what changed between two views.

        ``known`` has the directories that observers knew in the old view. ``held`` returns the inodes of open
        files. If the changes cannot be found out, or an observer missed an earlier change, it must forget all it
        knows.

        Raises
        ------
        Exception
            The first exception of an observer, after all others were told. So do the other methods that tell.
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
        except DamagedError:  # nobody can tell what the old view has shown
            return None
        except Exception:  # a defect here must not leave observers with wrong answers
            log.exception("what has changed could not be found out; the kernel forgets everything")
            return None

    async def tell_of_file(self, view: View, inode: int) -> None:
        """Tell observers that a file of the source was found changed when it was opened.

        An observer that misses this is owed everything at the next refresh.
        """

        async def tell(observer: Observer) -> None:
            try:
                found = await trio.to_thread.run_sync(
                    changed_file, view, inode, observer.directories(view), limiter=self._compared
                )
                was_told = await observer.tell(found)
            except Exception:
                log.exception("a changed file could not be reported")
                was_told = False
            if not was_told:
                self._owed.add(observer)

        async with self._files:
            await _each(self._all, tell)

    async def tell(self, directory: Directory, name: bytes) -> None:
        """Tell observers that a name leads to another file."""
        await _each(self._all, lambda observer: observer.tell(Changes(entries=[(directory.inode, name)])))

    async def settle(self) -> None:
        """Make all observers complete the work that earlier changes have left."""
        await _each(self._all, lambda observer: observer.settle())


async def _each(observers: Iterable[Observer], call: Callable[[Observer], Awaitable[object]]) -> None:
    """Await a call for each observer, and then raise the first exception of any.

    So a defect of one front end does not prevent the others from being told.
    """
    failures: list[Exception] = []
    for observer in [*observers]:
        try:
            await call(observer)
        except Exception as error:
            failures.append(error)
    if failures:
        raise failures[0]
