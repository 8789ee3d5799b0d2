"""The drive: opens, reads and checks the rights of nodes of a view, and tells front ends what has changed.

Used by front ends (``fuse``, tests) and by the refresher. A front end translates between its protocol and nodes.
It looks up nodes in ``view`` itself, and asks the drive to open, read and check them. A node is a directory, a
generated file, or the inode of a file. Everything here belongs to one trio loop, that of the drive. Any thread
may use views.
"""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TypeVar

import trio

from omidbfs.database.layout import Source
from omidbfs.database.records import FileFacts
from omidbfs.index.sections import DamagedError
from omidbfs.serving.archives import OpenArchive
from omidbfs.serving.counters import Counters
from omidbfs.serving.disks import Disks
from omidbfs.serving.generated import GeneratedFiles, OpenGenerated
from omidbfs.serving.observers import Observers
from omidbfs.serving.opened import Opened, OpenText, descriptors_of, opened_text
from omidbfs.serving.reader import OpenFile, Reader
from omidbfs.serving.renditions import RenditionFiles
from omidbfs.serving.rights import READ, SEARCH, Identity, access_of, permits
from omidbfs.serving.sources import OpenSource, Sources, doubt
from omidbfs.serving.spool import Spool, spool_directories
from omidbfs.serving.workers import DESCRIPTORS, Workers
from omidbfs.view.file_keys import FileKeys
from omidbfs.view.generated import ExportsDirectory
from omidbfs.view.inode import is_rendition
from omidbfs.view.nodes import Attributes, Directory, Export, Listing
from omidbfs.view.texts import Content
from omidbfs.view.top import AboutDirectory
from omidbfs.view.view import View

_LISTS = 2
"""The largest number of long listings made at the same time. Others wait."""

_Answer = TypeVar("_Answer")


class Drive:
    """The current view of one source, and all files that are open.

    ``readahead`` is that of :class:`~omidbfs.serving.disks.Disks`. ``spool`` keeps generated files and renditions.
    ``workers`` make renditions.
    ``front_ends`` has for the name of each front end what it says of itself in ``status.json``.
    """

    def __init__(
        self,
        view: View,
        source: Source,
        readahead: int = 0,
        *,
        spool: Spool | None = None,
        workers: Workers | None = None,
        front_ends: Mapping[str, object] | None = None,
    ) -> None:
        self.view = view
        spool, workers = spool or Spool(spool_directories()), workers or Workers()
        self.disks = Disks(readahead, spool.most_files + workers.most * DESCRIPTORS)
        self.observers = Observers()
        self.counters = Counters()
        self.renditions = RenditionFiles(spool, self.disks, workers, self.counters)
        self.sources = Sources(Reader(source, self.disks), self.renditions, self.observers)
        self.generated = GeneratedFiles(view, spool, self.disks, self.sources)
        self._workers = workers
        self.front_ends = front_ends or {}
        self.preparing: trio.Event | None = None
        """Set at the end of :meth:`prepare`; ``None`` at any other time."""
        self._opened: set[Opened] = set()
        self._lists = trio.CapacityLimiter(_LISTS)

    @property
    def reader(self) -> Reader:
        """What reads the files of the source."""
        return self.sources.reader

    # Rights

    def may_read(self, identity: Identity, node: Directory | Export | int) -> bool:
        """Return whether an identity may read a file or list a directory; ``False`` for a stale node.

        This checks only the node itself. A front end without a kernel must also check :meth:`may_search` for each
        directory on the path.
        """
        access = access_of(self.view, node)
        return access is not None and permits(access, identity, READ)

    def may_search(self, identity: Identity, directory: Directory) -> bool:
        """Return whether an identity may look up names in a directory."""
        access = access_of(self.view, directory)
        return access is not None and permits(access, identity, SEARCH)

    # The index

    async def prepare(self, verify: Callable[[], None]) -> None:
        """Make in a thread what the view otherwise makes at its first use. Requests are answered meanwhile.

        ``verify`` compares the index with its checksums.

        Raises
        ------
        DamagedError
            A section of the index is damaged. Requests that need it raise this error, too.
        """
        self.preparing = trio.Event()
        try:
            await trio.to_thread.run_sync(_prepare, self.view, verify, abandon_on_cancel=True)
        finally:
            self.preparing.set()
            self.preparing = None

    async def texts_made(self) -> None:
        """Wait until the texts in ``.omidbfs/`` are made, if the drive is being prepared."""
        if self.preparing is not None:
            await self.preparing.wait()

    # Directories

    def looks_up_at_once(self, directory: Directory) -> bool:
        """Return whether names in a directory are found in a moment. If not, ask for its :meth:`listing` first."""
        if isinstance(directory, AboutDirectory):
            return self.preparing is None
        return not isinstance(directory, ExportsDirectory) or self.view.lists_at_once(directory)

    async def listing(self, directory: Directory) -> Listing:
        """Return the entries of a directory of the current view."""
        if isinstance(directory, AboutDirectory):
            await self.texts_made()
        return await self.asked(directory, self.view.listing)

    async def asked(self, directory: Directory, ask: Callable[[Directory], _Answer]) -> _Answer:
        """Return ``ask(directory)``; in a thread if that takes more than a moment."""
        if self.view.lists_at_once(directory):
            return ask(directory)
        return await trio.to_thread.run_sync(ask, directory, limiter=self._lists, abandon_on_cancel=True)

    # Files

    def open_at_once(self, inode: int) -> OpenFile | None:
        """Return what :meth:`open` does for a file of the source; ``None`` if that might wait, or fails."""
        file = self.reader.open_at_once(self.view.files, inode)
        if file is not None:
            self._opened.add(file)
        return file

    async def open(self, node: Export | int) -> Opened:
        """Open a file of the source, a rendition, a generated file or a text.

        The caller must have checked the rights.

        Raises
        ------
        OSError
            ESTALE: the node is of another view, or the file is gone or has another version. A new lookup of its
            name finds the current version. Otherwise as :meth:`~omidbfs.serving.sources.Sources.open` and
            :meth:`~omidbfs.serving.generated.GeneratedFiles.open`.
        """
        file: Opened
        view = self.view  # it may be replaced during the awaits below
        if isinstance(node, Export):
            file = await self.generated.open(node)
        elif is_rendition(node) or view.files.current(node) is not None:
            file = await self.sources.open(view, node)
        else:
            file = opened_text(view, node)
        self._opened.add(file)
        return file

    def doubt(self, keys: FileKeys) -> None:
        """Have some open files compared with those that are there now, before their next read, and so renditions.

        A front end that shares bytes between handles calls this before it drops those of doubtful files.
        """
        for file in self._opened:
            if isinstance(file, OpenSource):
                doubt(file, keys)
            elif isinstance(file, OpenArchive):
                for member in file.opened.values():
                    doubt(member.file, keys)

    def read_at_once(self, file: Opened, offset: int, size: int) -> bytes | memoryview | None:
        """Return what :meth:`read` does; ``None`` if that might wait.

        Raises
        ------
        OSError
            As :meth:`read`.
        """
        if isinstance(file, OpenSource):
            content = self.sources.read_at_once(file, offset, size)
        elif isinstance(file, OpenText):
            content = file.content[offset : offset + size]
        elif isinstance(file, OpenArchive):
            content = self.generated.archives.read_at_once(file, offset, size)
        else:
            content = None
        if content is not None:
            self.counters.bytes_read += len(content)
        return content

    async def read(self, file: Opened, offset: int, size: int) -> bytes | bytearray | memoryview:
        """Return up to ``size`` bytes; fewer only at the end. They are valid until the next read of any file.

        Raises
        ------
        OSError
            As :meth:`~omidbfs.serving.sources.Sources.read`.
        """
        content: bytes | bytearray | memoryview
        if isinstance(file, OpenSource):
            content = await self.sources.read(self.view, file, offset, size)
        elif isinstance(file, OpenGenerated):
            content = await self.generated.read(file, offset, size)
        elif isinstance(file, OpenArchive):
            content = await self.generated.archives.read(file, offset, size)
        else:
            content = file.content[offset : offset + size]
        self.counters.bytes_read += len(content)
        return content

    def close_at_once(self, file: Opened) -> bool:
        """Close a file that :meth:`open` returned; return ``False`` if that might wait."""
        self._opened.remove(file)  # also if closing fails: its descriptor is then that of another file
        if isinstance(file, OpenArchive):
            is_closed = self.generated.archives.close_at_once(file)
        elif isinstance(file, OpenSource):
            is_closed = self.sources.close_at_once(file)
        else:
            is_closed = True
            if isinstance(file, OpenGenerated):
                self.generated.close(file)
        if not is_closed:
            self._opened.add(file)
        return is_closed

    async def close_file(self, file: Opened) -> None:
        """Close a file that :meth:`open` returned."""
        if self.close_at_once(file):
            return
        self._opened.remove(file)
        if isinstance(file, OpenArchive):
            await self.generated.archives.close(file)
        else:
            assert isinstance(file, OpenSource), "closing any other file never waits"
            await self.sources.close(file)

    def attributes_as_opened(self, inode: int) -> Attributes | None:
        """Return the attributes of a replaced or removed file, as they were when it was opened.

        Return ``None`` if the file is not open.
        """
        for file in self._opened:
            if not isinstance(file, OpenText) and file.inode == inode:
                return self.view.files.attributes_as_opened(inode, file.facts)
        return None

    def open_files(self) -> set[int]:
        """Return the inodes of the files of the source and of the renditions that are open."""
        return {file.inode for file in self._opened if isinstance(file, OpenSource)}

    # Change

    def replace_view(self, view: View, reader: Reader) -> None:
        """Replace the view. Listings in progress use the old one, and open files stay open.

        ``reader`` is a new reader, because the directories of the source may have been replaced.
        """
        self.view = view
        self.generated.replace_view(view)
        self.reader.close_trees()
        self.sources.reader = reader

    async def take_over(self, view: View, reader: Reader, seen: Mapping[int, FileFacts]) -> int:
        """Replace the view, and tell all observers what has changed; return how many directories they knew.

        ``seen`` has the files that had been found changed before the source was read for this view.

        Raises
        ------
        Exception
            An observer has a defect. The view has been replaced nevertheless.
        """
        # No request is answered before the first await. So observers know exactly what the old view told them.
        old, known = self.view, self.observers.known()
        view.continue_from(old, seen)
        self.replace_view(view, reader)
        await self.observers.tell_of_view(old, view, known, self.open_files)
        return sum(map(len, known.values()))

    async def replace_text(self, name: bytes, change: Callable[[Content], Content]) -> None:
        """Replace the content of a text in ``.omidbfs/`` by ``change(content)``, and tell all observers."""
        view = self.view
        inode = view.files.texts.inode(name)
        assert inode is not None, "every drive has it"
        text = view.files.texts.content(inode)
        assert text is not None, "a name leads to the current content"
        view.files.texts.replace(name, change(text))
        parent = view.resolve(b".omidbfs")
        assert parent is not None, "every drive has it"
        await self.observers.tell(parent, name)

    def counted(self) -> Mapping[str, object]:
        """Return the counters, and the number of open files."""
        return self.counters.shown(open_files=len(self._opened))

    def stop(self) -> None:
        """Make the making of generated files and renditions end soon, with EINTR."""
        self.generated.stop()
        self._workers.stop()

    def review(self) -> None:
        """Review disks that hang, and end idle processes. To be called about once a second."""
        self.disks.review()
        self._workers.review()

    def forsake(self) -> None:
        """Let go of a drive that this process inherited by fork(2). It goes on in the parent process."""
        self._workers.forsake()

    def close(self) -> None:
        """Close all open files. No request may follow."""
        self.stop()
        for file in self._opened:
            for descriptor in descriptors_of(file):
                with suppress(OSError):  # of a disk
                    os.close(descriptor)
        self._opened.clear()
        self._workers.close()
        self.reader.close_trees()


def _prepare(view: View, verify: Callable[[], None]) -> None:
    try:
        verify()
        view.prepare()
    except DamagedError:
        # Other texts need other sections. Commands ask for status.json, which leaves out what it cannot know.
        for name in view.files.texts.names:
            with suppress(DamagedError):
                view.files.texts.inode(name)
        raise
