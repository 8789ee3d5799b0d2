"""The drive: opens, reads and checks the rights of nodes of a view, and tells front ends what has changed.

Used by front ends (``fuse``, tests) and by the refresher. A front end translates between its protocol and nodes.
It looks up nodes in ``view`` itself, and asks the drive to open, read and check them. A node is a directory, a
generated file, or the inode of a file. Everything here belongs to one trio loop, that of the drive. Any thread
may use views.
"""

import errno
import os
import stat
from collections.abc import Callable, Mapping
from typing import TypeVar

import trio

from omidbfs.database.layout import Source
from omidbfs.database.permissions import Access
from omidbfs.database.records import FileFacts
from omidbfs.serving.counters import Counters
from omidbfs.serving.disks import Disks
from omidbfs.serving.generated import GeneratedFiles, OpenGenerated
from omidbfs.serving.observers import Observers
from omidbfs.serving.reader import FileChangedError, OpenFile, Reader
from omidbfs.serving.rights import READ, SEARCH, Identity, permits
from omidbfs.serving.spool import Spool, spool_directories
from omidbfs.view.nodes import Attributes, Directory, Export, Listing
from omidbfs.view.texts import Content
from omidbfs.view.view import View

_LISTS = 2
"""The largest number of long listings made at the same time. Others wait."""

_Answer = TypeVar("_Answer")


class OpenText:
    """A text of the drive, open for one handle."""

    __slots__ = ("content",)

    def __init__(self, content: Content) -> None:
        self.content = content


Opened = OpenFile | OpenGenerated | OpenText


class Drive:
    """The current view of one source, and all files that are open.

    ``readahead`` is that of :class:`~omidbfs.serving.disks.Disks`. ``spool`` keeps generated files.
    ``front_ends`` has for the name of each front end what it says of itself in ``status.json``.
    """

    def __init__(
        self,
        view: View,
        source: Source,
        readahead: int = 0,
        *,
        spool: Spool | None = None,
        front_ends: Mapping[str, object] | None = None,
    ) -> None:
        self.view = view
        self.disks = Disks(readahead)
        self.reader = Reader(source, self.disks)
        self.generated = GeneratedFiles(view, spool or Spool(spool_directories()), self.disks)
        self.observers = Observers()
        self.counters = Counters()
        self.front_ends = front_ends or {}
        self._opened: set[Opened] = set()
        self._lists = trio.CapacityLimiter(_LISTS)

    # Rights

    def may_read(self, identity: Identity, node: Directory | Export | int) -> bool:
        """Return whether an identity may read a file or list a directory; ``False`` for a stale node.

        This checks only the node itself. A front end without a kernel must also check :meth:`may_search` for each
        directory on the path.
        """
        access = self._access(node)
        return access is not None and permits(access, identity, READ)

    def may_search(self, identity: Identity, directory: Directory) -> bool:
        """Return whether an identity may look up names in a directory."""
        access = self._access(directory)
        return access is not None and permits(access, identity, SEARCH)

    def _access(self, node: Directory | Export | int) -> Access | None:
        view = self.view
        if isinstance(node, int):
            # For a symbolic link the rights of its target count: every user may read the link itself.
            known = view.files.facts(node) or view.files.attributes(node)
            return None if known is None else Access(stat.S_IMODE(known.mode), known.uid, known.gid)
        if not view.has_made(node):
            return None
        if isinstance(node, Export):
            return view.export_access
        shown = view.directory_attributes(node)
        return Access(stat.S_IMODE(shown.mode), shown.uid, shown.gid)

    # Directories

    async def listing(self, directory: Directory) -> Listing:
        """Return the entries of a directory of the current view."""
        return await self.asked(directory, self.view.listing)

    async def asked(self, directory: Directory, ask: Callable[[Directory], _Answer]) -> _Answer:
        """Return ``ask(directory)``; in a thread if that takes more than a moment."""
        if self.view.lists_at_once(directory):
            return ask(directory)
        return await trio.to_thread.run_sync(ask, directory, limiter=self._lists, abandon_on_cancel=True)

    # Files

    async def open(self, node: Export | int) -> Opened:
        """Open a file of the source, a generated file or a text. The caller must have checked the rights.

        Raises
        ------
        OSError
            ESTALE: the node is of another view, or the file is gone or has another version. A new lookup of its
            name finds the current version. Otherwise as :meth:`~omidbfs.serving.reader.Reader.open` and
            :meth:`~omidbfs.serving.generated.GeneratedFiles.open`.
        """
        file: Opened
        view = self.view  # it may be replaced during the awaits below
        if isinstance(node, Export):
            file = await self.generated.open(node)
        elif (current := view.files.current(node)) is None:
            file = _open_text(view, node)
        else:
            # For an inode of an earlier version, open the current version and close it again. This detects a
            # further change, so that the next lookup finds the file as it is.
            try:
                file = await self.reader.open(view.files, current)
            except FileChangedError:
                await self.observers.tell_of_file(view, current)
                raise
            if current != node:
                await self.reader.close(file)
                raise _stale()
        self._opened.add(file)
        return file

    async def read(self, file: Opened, offset: int, size: int) -> bytes | bytearray | memoryview:
        """Return up to ``size`` bytes; fewer only at the end. They are valid until the next read of any file.

        Raises
        ------
        OSError
            As :meth:`~omidbfs.serving.reader.Reader.read`.
        """
        content: bytes | bytearray | memoryview
        if isinstance(file, OpenFile):
            content = await self.reader.read(file, offset, size)
        elif isinstance(file, OpenGenerated):
            content = await self.generated.read(file, offset, size)
        else:
            content = file.content[offset : offset + size]
        self.counters.bytes_read += len(content)
        return content

    async def close_file(self, file: Opened) -> None:
        """Close a file that :meth:`open` returned."""
        self._opened.remove(file)
        if isinstance(file, OpenFile):
            await self.reader.close(file)
        elif isinstance(file, OpenGenerated):
            self.generated.close(file)

    def attributes_as_opened(self, inode: int) -> Attributes | None:
        """Return the attributes of a replaced or removed file, as they were when it was opened.

        Return ``None`` if the file is not open.
        """
        for file in self._opened:
            if not isinstance(file, OpenText) and file.inode == inode:
                return self.view.files.attributes_as_opened(inode, file.facts)
        return None

    def open_files(self) -> set[int]:
        """Return the inodes of the files of the source that are open."""
        return {file.inode for file in self._opened if isinstance(file, OpenFile)}

    # Change

    def replace_view(self, view: View, reader: Reader) -> None:
        """Replace the view. Listings in progress use the old one, and open files stay open.

        ``reader`` is a new reader, because the directories of the source may have been replaced.
        """
        self.view = view
        self.generated.replace_view(view)
        self.reader.close_trees()
        self.reader = reader

    async def take_over(self, view: View, reader: Reader, seen: Mapping[int, FileFacts]) -> None:
        """Replace the view, and tell all observers what has changed.

        ``seen`` has the files that had been found changed before the source was read for this view.

        Raises
        ------
        Exception
            An observer has a defect. The view has been replaced nevertheless.
        """
        # No request is answered before the first await. So observers know exactly what the old view told them.
        old, known = self.view, self.observers.known()
        view.files.continue_from(old.files, seen)
        self.replace_view(view, reader)
        await self.observers.tell_of_view(old, view, known, self.open_files)

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
        """Make the making of generated files end soon, with EINTR."""
        self.generated.stop()

    def close(self) -> None:
        """Close all open files. No request may follow."""
        self.stop()
        for file in self._opened:
            if not isinstance(file, OpenText):
                os.close(file.descriptor)
        self._opened.clear()
        self.reader.close_trees()


def _open_text(view: View, inode: int) -> OpenText:
    content = view.files.texts.content(inode)
    if content is None:
        raise _stale()
    return OpenText(content)


def _stale() -> OSError:
    return OSError(errno.ESTALE, os.strerror(errno.ESTALE))
