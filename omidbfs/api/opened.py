"""What a database has open in one process: a drive, its loop if that is needed, and processes that decode.

Used by the other modules of this folder, from any thread. A process that inherited it by fork(2) makes its own.
"""

import errno
import os
import resource
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import NoReturn

from omidbfs.api.files import DriveFile, RawFile, SourceFile
from omidbfs.api.loop import Loop
from omidbfs.database.file_kinds import Tree
from omidbfs.index.store import Stored
from omidbfs.pixels.apart import Apart
from omidbfs.serving.disks import stale
from omidbfs.serving.drive import Drive
from omidbfs.serving.opened import Opened as Handle
from omidbfs.serving.opened import OpenText
from omidbfs.serving.reader import FileChangedError
from omidbfs.serving.refresh import drive_of
from omidbfs.serving.rights import own_identity
from omidbfs.serving.session import Session
from omidbfs.serving.spool import Spool, spool_directories
from omidbfs.view.inode import is_source
from omidbfs.view.nodes import Directory, Export, Node
from omidbfs.view.view import View

_SPOOL = 512 << 20
"""The largest number of bytes of generated files and renditions that are kept. Each process has its own."""
_ATTEMPTS = 5
"""How often a file is looked up that changes again and again."""


class Opened:
    """A drive over an index, for the user of this process."""

    def __init__(self, session: Session, stored: Stored) -> None:
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.drive = drive_of(session, stored, Spool(spool_directories(), _SPOOL))
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)  # a library leaves its program as it is
        self.stored = stored
        self._source = session.source
        self.process = os.getpid()
        self.identity = own_identity()
        self._lock = Lock()
        self._running: list[Loop] = []
        self._idle: list[Apart] = []
        self._end = weakref.finalize(self, _end, os.getpid(), self.drive, self._running, self._idle)

    @property
    def view(self) -> View:
        """The view of the drive."""
        return self.drive.view

    @property
    def loop(self) -> Loop:
        """The loop of the drive, which is started at its first use."""
        with self._lock:
            if not self._running:
                self._running.append(Loop(self.drive))
            return self._running[0]

    def forsake(self) -> None:
        """Let go of what this process inherited by fork(2)."""
        if self._end.detach() is None:
            return  # another thread does it
        self.drive.forsake()
        for process in self._idle:
            process.forsake()

    # Files

    def open(self, node: Export | int, path: str) -> RawFile:
        """Open a file of the view, which is at ``path``. A file of the source that has changed is opened as it is.

        Raises
        ------
        OSError
            EACCES: this user may not read it. ESTALE: it is gone. Otherwise as ``Drive.open``.
        """
        if isinstance(node, int) and is_source(node):
            return self.source_file(node)
        self._check(node)
        loop = self.loop  # a garbage collection may close the file: it must not wait for the lock
        handle = loop.call(self.drive.open, node)
        size = len(handle.content) if isinstance(handle, OpenText) else handle.facts.size
        return DriveFile(
            path,
            size,
            lambda offset, size: loop.call(self._read, handle, offset, size),
            lambda: loop.later(self.drive.close_file, handle),
        )

    async def _read(self, handle: Handle, offset: int, size: int) -> bytes:
        return bytes(await self.drive.read(handle, offset, size))

    def source_file(self, inode: int) -> SourceFile:
        """Open a file of the source in this thread; the errors are those of :meth:`open`."""
        for _ in range(_ATTEMPTS):
            current = self.view.files.current(inode)
            if current is None:
                break
            self._check(current)
            try:
                found = self.drive.reader.opened(self.view.files, current)
            except OSError:
                found = None
            if found is not None:
                return SourceFile(self._place(current), *found)
            self.loop.call(self._look_again, current)
        raise stale()

    def _place(self, inode: int) -> str:
        tree, path = self.view.files.source_file(inode)
        source = self._source.images if tree is Tree.IMAGES else self._source.data
        return os.path.join(source or "", os.fsdecode(path))

    async def _look_again(self, inode: int) -> None:
        """Find out what a file of the source has become. Raise the error of a drive that opens it."""
        try:
            await self.drive.close_file(await self.drive.open(inode))
        except FileChangedError:
            return

    # Rights

    def _check(self, node: Node) -> None:
        if not self.drive.may_read(self.identity, node):
            refuse()

    def check_list(self, directory: Directory) -> None:
        """Raise EACCES if this user may not list a directory."""
        self._check(directory)

    def check_search(self) -> None:
        """Raise EACCES if this user may not look up names. All directories of a view have the same rights."""
        if not self.drive.may_search(self.identity, self.view.root):
            refuse()

    # Processes

    @contextmanager
    def apart(self) -> Iterator[Apart]:
        """Give a process that decodes. It is kept for later."""
        with self._lock:
            process = self._idle.pop() if self._idle else Apart()
        try:
            yield process
        finally:
            with self._lock:
                self._idle.append(process)


def _end(process: int, drive: Drive, running: list[Loop], idle: list[Apart]) -> None:
    """End what was started, when nobody uses it any more or the program ends; in no other process.

    A garbage collection calls this in any thread, also in that of the loop.
    """

    def close() -> None:
        drive.close()
        for one in idle:
            one.__exit__()

    if process == os.getpid():
        running[0].end(close) if running else close()


def refuse() -> NoReturn:
    """Raise EACCES."""
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
