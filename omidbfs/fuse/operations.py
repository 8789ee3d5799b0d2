"""The file system as the kernel sees it: translates between pyfuse3 and a view, and decides nothing.

All handlers run in one trio thread. A handler may raise only ``FUSEError``, any other exception would end the
mount: :func:`_answered` sees to that.
"""

import errno
import functools
import logging
import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileInfo, FUSEError, ReaddirToken, RequestContext, StatvfsData

from omidbfs.database.layout import Source
from omidbfs.fuse.answers import TIMEOUT, entry_of, fill
from omidbfs.fuse.exports import Exports, OpenContent
from omidbfs.fuse.forgetting import tell_kernel
from omidbfs.fuse.handles import EntryPages, OpenDirectory
from omidbfs.fuse.inodes import Directories
from omidbfs.serving.changes import changed_file
from omidbfs.serving.counters import Counters
from omidbfs.serving.disks import Disks
from omidbfs.serving.pages import Pages
from omidbfs.serving.reader import FileChangedError, OpenFile, Reader
from omidbfs.serving.spool import Spool, spool_directories
from omidbfs.view import xattrs
from omidbfs.view.files import Content
from omidbfs.view.generated import ExportsDirectory
from omidbfs.view.inode import is_directory, is_export, parent_inode
from omidbfs.view.nodes import Directory, Export
from omidbfs.view.view import View

log = logging.getLogger(__name__)

_FIRST_CURSOR = 2  # cursor 1 follows ".", 2 follows "..", so the first entry's own is 3
_LISTS = 2
"""How many long lists are gone through at the same time; others wait for their turn."""
_BLOCK = 4096
"""Bytes of the blocks in which `statfs` says how large the drive is."""
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_TRUNC | os.O_APPEND

_Arguments = ParamSpec("_Arguments")
_Answer = TypeVar("_Answer")
_Handler = Callable[_Arguments, Coroutine[Any, Any, _Answer]]


def _answered(handler: _Handler[_Arguments, _Answer]) -> _Handler[_Arguments, _Answer]:
    """Return a handler that is counted, and whose every failure becomes an errno."""
    kind = handler.__name__

    @functools.wraps(handler)
    async def answered(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Answer:
        operations: Any = args[0]
        operations.counters.requests[kind] += 1
        try:
            return await handler(*args, **kwargs)
        except FUSEError:
            raise
        except OSError as error:
            raise FUSEError(error.errno or errno.EIO) from None
        except MemoryError:
            raise FUSEError(errno.ENOMEM) from None
        except Exception:
            log.exception("%s failed; the caller got EIO", kind)
            raise FUSEError(errno.EIO) from None

    return answered


class Operations(pyfuse3.Operations):
    """The handlers, over one view of one source.

    ``spool`` keeps generated files; ``has_xattrs`` says whether there are extended attributes.
    """

    def __init__(
        self,
        view: View,
        source: Source,
        readahead: int = 0,
        *,
        spool: Spool | None = None,
        has_xattrs: bool = False,
    ) -> None:
        super().__init__()
        self.view = view
        self.directories = Directories(view)
        self.disks = Disks(readahead)
        self.exports = Exports(view, spool or Spool(spool_directories()), self.disks)
        self.reader = Reader(source, self.disks)
        self.pages = Pages(self.disks.threads("pages"))
        self._has_xattrs = has_xattrs
        self.started = trio.Event()
        self.counters = Counters()
        self._handles: dict[int, OpenFile | OpenContent | OpenDirectory | Content] = {}
        self._next_handle = 1
        self._entry_pages = EntryPages()
        self._lists = trio.CapacityLimiter(_LISTS)

    def init(self) -> None:
        """Note that the kernel has said hello: it can be told things from now on."""
        self.started.set()

    def replace_view(self, view: View, reader: Reader) -> None:
        """Serve another view from now on; open directories finish on theirs, and open files stay open.

        ``reader`` is a new one: other directories may be in the place of those that the source was.
        """
        self.view = view
        self.directories.replace_view(view)
        self.exports.replace_view(view)
        self.reader.close_trees()
        self.reader = reader

    def open_files(self) -> set[int]:
        """Return the inodes of the files that are open, other than texts."""
        return {handle.inode for handle in self._handles.values() if isinstance(handle, OpenFile)}

    def counted(self) -> Mapping[str, object]:
        """Return what was done so far, and what is open now."""
        directories = sum(isinstance(handle, OpenDirectory) for handle in self._handles.values())
        return self.counters.shown(open_files=len(self._handles) - directories, open_directories=directories)

    # Names and attributes

    @_answered
    async def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        """Find a name; ``.`` and ``..`` are asked for by NFS servers."""
        if name == b".":
            child: Directory | Export | int | None = (
                self.directories.get(parent_inode) or self.exports.find(parent_inode) or parent_inode
            )
        elif name == b"..":
            child = self._parent(self._directory(parent_inode))
        else:
            child = self.view.lookup(self._directory(parent_inode), name)
        while isinstance(child, Export):
            size = await self.exports.size_for(ctx, child)
            if self.view.has_made(child):
                self.exports.told(child, size)
                return self.exports.entry(child)
            child = self.view.lookup(self._directory(parent_inode), name)  # of what took its place meanwhile
        if child is None:
            raise FUSEError(errno.ENOENT)
        if isinstance(child, Directory):
            self.directories.told(child)
            return entry_of(self.view.directory_attributes(child))
        return self._file_entry(child)

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        """Forget directories and generated files; must not raise."""
        for inode, times in inode_list:
            self.directories.forget(inode, times)
            self.exports.forget(inode, times)

    @_answered
    async def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        """Return attributes."""
        directory = self.directories.get(inode)
        if directory is not None:
            return entry_of(self.view.directory_attributes(directory))
        export = self.exports.find(inode)
        if export is not None:
            await self.exports.size_for(ctx, export)
        export = self.exports.find(inode)  # another view may have taken over meanwhile
        return self._file_entry(inode) if export is None else self.exports.entry(export)

    @_answered
    async def readlink(self, inode: int, ctx: RequestContext) -> bytes:
        """Return where a link leads (``--links symlink``)."""
        if self.view.files.facts(inode) is None:
            raise FUSEError(errno.ESTALE)
        return self.view.files.link_target(inode)

    @_answered
    async def access(self, inode: int, mode: int, ctx: RequestContext) -> bool:
        """Never asked with ``default_permissions``; says what the mode bits say, for the mounting user."""
        return not mode & os.W_OK

    @_answered
    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        """Return what the files take, and that nothing is free, as of a CD.

        There is no number of files: a monitor would take it for a limit that is reached.
        """
        stat = StatvfsData()
        stat.f_bsize = stat.f_frsize = _BLOCK
        stat.f_blocks = -(-self.view.files.size // _BLOCK)
        stat.f_namemax = 255
        return stat

    def _directory(self, inode: int) -> Directory:
        directory = self.directories.get(inode)
        if directory is None:
            raise FUSEError(errno.ESTALE)
        return directory

    def _parent(self, directory: Directory) -> Directory:
        parent = self.view.resolve(directory.path.rpartition(b"/")[0])
        if parent is None:
            raise FUSEError(errno.ESTALE)
        return parent

    def _file_entry(self, inode: int) -> EntryAttributes:
        attributes = None if is_directory(inode) or is_export(inode) else self.view.files.attributes(inode)
        if attributes is not None:
            return entry_of(attributes)
        for handle in self._handles.values():  # replaced or removed, but somebody has it open
            if isinstance(handle, OpenFile | OpenContent) and handle.inode == inode:
                entry = entry_of(self.view.files.attributes_as_opened(inode, handle.facts))
                entry.attr_timeout = 0  # no longer than it is open: a name may still lead the kernel here
                return entry
        raise FUSEError(errno.ESTALE)

    # Directories

    @_answered
    async def opendir(self, inode: int, ctx: RequestContext) -> int:
        """Open a directory on the view as it is now."""
        view, directory = self.view, self._directory(inode)
        listing = await self._unhurried(view, directory, view.listing)
        return self._handle(OpenDirectory(directory, view, listing, self._entry_pages))

    async def _unhurried(self, view: View, directory: Directory, ask: Callable[[Directory], _Answer]) -> _Answer:
        """Return what a view says of a directory; in a thread if that takes more than a moment."""
        if view.lists_at_once(directory):
            return ask(directory)
        return await trio.to_thread.run_sync(ask, directory, limiter=self._lists, abandon_on_cancel=True)

    @_answered
    async def readdir(self, fh: int, start_id: int, token: ReaddirToken) -> None:
        """Answer as many entries as fit; continues anywhere in O(1)."""
        handle = self._handles[fh]
        assert isinstance(handle, OpenDirectory)
        attributes = EntryAttributes()
        # What a listing of an earlier view tells, the kernel must not keep: it has been told what changed. Nor may
        # it keep the size of a generated file, which nobody knows before it is made.
        has_exports = isinstance(handle.directory, ExportsDirectory)
        lasts = handle.view is self.view and not has_exports
        attributes.entry_timeout = attributes.attr_timeout = TIMEOUT if lasts else 0
        known = handle.view.directory_attributes(handle.directory)
        for cursor, name, place in ((1, b".", known.inode), (2, b"..", parent_inode(handle.directory.path))):
            if start_id < cursor:
                fill(attributes, *known._replace(inode=place))
                if not pyfuse3.readdir_reply(token, name, attributes, cursor):
                    return
        first = cursor = max(start_id, _FIRST_CURSOR)
        reply = pyfuse3.readdir_reply
        while entries := handle.entries(cursor - _FIRST_CURSOR):
            # One EntryAttributes for all: the reply copies it. Creating one each costs a third of the rate.
            for name, inode, mode, nlink, uid, gid, size, mtime, directory in entries:
                cursor += 1
                if has_exports:
                    size = self.exports.size(inode) or 0  # noqa: PLW2901
                fill(attributes, inode, mode, nlink, uid, gid, size, mtime)
                if not reply(token, name, attributes, cursor):
                    self.counters.entries_listed += cursor - 1 - first
                    return
                if directory is not None:
                    self.directories.told(directory)
                elif has_exports:
                    self._told_export(handle, name)
        self.counters.entries_listed += cursor - first

    def _told_export(self, handle: OpenDirectory, name: bytes) -> None:
        export = handle.view.lookup(handle.directory, name)
        assert isinstance(export, Export), "a listed name is found"
        self.exports.told(export)

    @_answered
    async def releasedir(self, fh: int) -> None:
        """Close a directory."""
        handle = self._handles.pop(fh)
        assert isinstance(handle, OpenDirectory)
        self._entry_pages.close(handle)

    # Files

    @_answered
    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        """Open a file of the source, a generated file or text."""
        if flags & _WRITING:
            raise FUSEError(errno.EROFS)
        if is_export(inode):
            return FileInfo(fh=self._handle(await self.exports.open(inode)), keep_cache=True)
        content = self.view.files.content(inode)
        if content is not None:
            return FileInfo(fh=self._handle(content), keep_cache=True)
        # For an inode of an earlier version the answer is ESTALE. The kernel then looks the name up again, once:
        # what it finds has to be the file as it is now, which may have changed again since that version.
        view = self.view  # that is asked: another may take its place while a disk is waited for
        files = view.files
        current = files.current(inode) or inode
        if self.pages.are_doubtful(current):
            await self.pages.drop(current)
        try:
            file = await self.reader.open(files, current)
        except FileChangedError:
            await self._forget_file(view, current)
            raise
        if current != inode or self.pages.are_doubtful(inode):  # in doubt again: a refresh came between
            await self.reader.close(file)
            raise FUSEError(errno.ESTALE)
        return FileInfo(fh=self._handle(file), keep_cache=True)

    @_answered
    async def read(self, fh: int, off: int, size: int) -> bytes:
        """Read from a handle; any buffer will do for the answer."""
        handle = self._handles[fh]
        if isinstance(handle, OpenFile):
            content = await self.reader.read(handle, off, size)
        elif isinstance(handle, OpenContent):
            content = await self.exports.read(handle, off, size)
        else:
            assert isinstance(handle, bytes | memoryview)
            content = handle[off : off + size]
        self.counters.bytes_read += len(content)
        return content  # type: ignore[return-value]

    @_answered
    async def release(self, fh: int) -> None:
        """Close a file."""
        handle = self._handles.pop(fh)
        if isinstance(handle, OpenFile):
            await self.reader.close(handle)
        elif isinstance(handle, OpenContent):
            self.exports.close(handle)

    # Extended attributes

    @_answered
    async def getxattr(self, inode: int, name: bytes, ctx: RequestContext) -> bytes:
        """Return an extended attribute; without ``--xattr`` ENOSYS, after which the kernel does not ask again."""
        value = (await self._xattrs(inode)).get(bytes(name))
        if value is None:
            raise FUSEError(pyfuse3.ENOATTR)
        return value

    @_answered
    async def listxattr(self, inode: int, ctx: RequestContext) -> Sequence[bytes]:
        """Return the names of the extended attributes; otherwise as :meth:`getxattr`."""
        return list(await self._xattrs(inode))

    async def _xattrs(self, inode: int) -> Mapping[bytes, bytes]:
        if not self._has_xattrs:
            raise FUSEError(errno.ENOSYS)
        directory = self.directories.get(inode)
        if directory is not None:
            return await self._unhurried(self.view, directory, functools.partial(xattrs.of_directory, self.view))
        return {} if is_directory(inode) or is_export(inode) else xattrs.of_file(self.view, inode)

    def _handle(self, handle: OpenFile | OpenContent | OpenDirectory | Content) -> int:
        number, self._next_handle = self._next_handle, self._next_handle + 1
        self._handles[number] = handle
        return number

    async def _forget_file(self, view: View, inode: int) -> None:
        # In a thread: the kernel may first wait for requests of this very inode, which this loop has to answer.
        known = self.directories.known_in(view)
        found = await trio.to_thread.run_sync(changed_file, view, inode, known, limiter=self._lists)
        await trio.to_thread.run_sync(tell_kernel, found)

    def close(self) -> None:
        """Close whatever is still open, after the mount has ended."""
        self.exports.stop()
        for handle in self._handles.values():
            if isinstance(handle, OpenFile | OpenContent):
                os.close(handle.descriptor)
        self._handles.clear()
        self.reader.close_trees()


def _refuses_writing(name: str) -> Callable[..., Coroutine[Any, Any, None]]:
    async def refuse(self: Operations, *arguments: object) -> None:
        raise FUSEError(errno.EROFS)

    refuse.__name__ = name
    return refuse


# The kernel refuses these itself on a read-only mount; a remount read-write changes nothing.
for _name in (
    "create",
    "link",
    "mkdir",
    "mknod",
    "removexattr",
    "rename",
    "rmdir",
    "setattr",
    "setxattr",
    "symlink",
):
    setattr(Operations, _name, _refuses_writing(_name))
for _name in ("unlink", "write"):
    setattr(Operations, _name, _refuses_writing(_name))
