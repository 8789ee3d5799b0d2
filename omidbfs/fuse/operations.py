"""The handlers for the kernel's requests: translates between pyfuse3 and a drive.

Created by the daemon, and called by pyfuse3. All handlers run in one trio thread. A handler may raise only
``FUSEError``, because any other exception ends the mount. :func:`_answered` ensures this.
"""

import errno
import functools
import itertools
import logging
import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import CoroutineType
from typing import Any

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileInfo, FUSEError, ReaddirToken, RequestContext, StatvfsData

from omidbfs.fuse.attributes import TIMEOUT, entry_of, fill, memory
from omidbfs.fuse.callers import identity_of
from omidbfs.fuse.directories import EntryPages, OpenDirectory
from omidbfs.fuse.forgetting import Kernel
from omidbfs.fuse.known import Directories, Generated
from omidbfs.fuse.pages import Pages
from omidbfs.index.sections import DamagedError
from omidbfs.serving.archives import OpenArchive
from omidbfs.serving.drive import Drive
from omidbfs.serving.generated import OpenGenerated
from omidbfs.serving.opened import Opened
from omidbfs.view import xattrs
from omidbfs.view.generated import ExportsDirectory
from omidbfs.view.inode import is_directory, is_export, parent_inode
from omidbfs.view.nodes import Directory, Export

log = logging.getLogger(__name__)

_FIRST_CURSOR = 2  # cursor 1 follows ".", 2 follows "..", so the first entry has 3
_BLOCK = 4096
"""Bytes of a block, the unit in which ``statfs`` gives the size of the drive."""
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_TRUNC | os.O_APPEND


def _answered(handler: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
    """Return a handler that counts its requests and turns every exception into an errno.

    ``handler`` is a coroutine function, or a function that returns an answer, or a coroutine where it has to wait.
    Most requests then need one coroutine less.
    """
    kind = handler.__name__

    @functools.wraps(handler)
    async def answered(self: "Operations", *args: object) -> Any:
        self.counters.requests[kind] += 1
        try:
            answer = handler(self, *args)
            return await answer if type(answer) is CoroutineType else answer
        except FUSEError:
            raise
        except OSError as error:
            raise FUSEError(error.errno or errno.EIO) from None
        except MemoryError:
            raise FUSEError(errno.ENOMEM) from None
        except DamagedError:  # the refresher has said so, and makes a new index
            raise FUSEError(errno.EIO) from None
        except Exception:
            log.exception("%s failed; the caller got EIO", kind)
            raise FUSEError(errno.EIO) from None

    return answered


class Operations(pyfuse3.Operations):
    """The handlers of one drive. ``has_xattrs`` says whether files have extended attributes."""

    def __init__(self, drive: Drive, *, has_xattrs: bool = False) -> None:
        super().__init__()
        self.drive = drive
        self.counters = drive.counters
        self.directories = Directories(drive)
        self.generated = Generated(drive)
        self.pages = Pages(drive.disks.threads("pages"))
        self.kernel = Kernel(drive, self.directories, self.pages)
        drive.observers.add(self.kernel)
        self._has_xattrs = has_xattrs
        self.started = trio.Event()
        self._handles = itertools.count(1)
        self._open_files: dict[int, Opened] = {}
        self._open_directories: dict[int, OpenDirectory] = {}
        self._entry_pages = EntryPages()

    def init(self) -> None:
        """Note that the connection to the kernel is up. From then on the kernel can be told of changes."""
        self.started.set()

    # Names and attributes

    @_answered
    def lookup(
        self, parent_inode: int, name: bytes, ctx: RequestContext
    ) -> EntryAttributes | Coroutine[Any, Any, EntryAttributes]:
        """Find a name. NFS servers also look up ``.`` and ``..``.

        A lookup never makes a file: the kernel asks one lookup at a time of a directory. Until the size of a
        generated file is known, the kernel asks for its attributes whenever it needs them, also before it opens
        the file. It sends these requests side by side.
        """
        if name == b".":
            child: Directory | Export | int | None = (
                self.directories.get(parent_inode) or self.generated.get(parent_inode) or parent_inode
            )
        elif name == b"..":
            child = self._parent(self._directory(parent_inode))
        else:
            directory = self._directory(parent_inode)
            if not directory.has_images and not self.drive.looks_up_at_once(directory):
                return self._later_entry(directory, name)
            child = self.drive.view.lookup(directory, name)
        return self._child_entry(child)

    async def _later_entry(self, directory: Directory, name: bytes) -> EntryAttributes:
        """Return the attributes of a text or generated file, as soon as it is known which ones there are."""
        await self.drive.listing(directory)
        return self._child_entry(self.drive.view.lookup(self._directory(directory.inode), name))

    def _child_entry(self, child: Directory | Export | int | None) -> EntryAttributes:
        if child is None:
            raise FUSEError(errno.ENOENT)
        if type(child) is int:
            return self._file_entry(child)
        if isinstance(child, Export):
            self.generated.told(child)
            return self._generated_entry(child, self.generated.size(child.inode))
        assert isinstance(child, Directory)
        self.directories.told(child)
        return entry_of(self.drive.view.directory_attributes(child))

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        """Forget directories and generated files. This must not raise."""
        for inode, times in inode_list:
            self.directories.forget(inode, times)
            self.generated.forget(inode, times)

    @_answered
    def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes | Coroutine[Any, Any, EntryAttributes]:
        """Return attributes."""
        directory = self.directories.get(inode)
        if directory is not None:
            return entry_of(self.drive.view.directory_attributes(directory))
        export = self.generated.get(inode)
        return self._file_entry(inode) if export is None else self._made_entry(export, ctx)

    async def _made_entry(self, export: Export, ctx: RequestContext) -> EntryAttributes:
        """Return the attributes of a generated file. If the caller may read it, make it."""
        size = self.generated.size(export.inode)
        if size is None and self.drive.may_read(identity_of(ctx), export):
            size = await self.drive.generated.size(export)
            self.generated.note(export.inode, size)
        return self._generated_entry(export, size)

    @_answered
    async def readlink(self, inode: int, ctx: RequestContext) -> bytes:
        """Return the target of a symbolic link (``--links symlink``)."""
        files = self.drive.view.files
        if files.facts(inode) is None:
            raise FUSEError(errno.ESTALE)
        return files.link_target(inode)

    @_answered
    async def access(self, inode: int, mode: int, ctx: RequestContext) -> bool:
        """Refuse writing. The kernel never calls this, because ``default_permissions`` is set."""
        return not mode & os.W_OK

    @_answered
    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        """Return the total size of the files, and no free space, as for a CD.

        No number of files is given: a monitor would report that the limit of files is reached.
        """
        stat = StatvfsData()
        stat.f_bsize = stat.f_frsize = _BLOCK
        stat.f_blocks = -(-self.drive.view.files.size // _BLOCK)
        stat.f_namemax = 255
        return stat

    def _directory(self, inode: int) -> Directory:
        directory = self.directories.get(inode)
        if directory is None:
            raise FUSEError(errno.ESTALE)
        return directory

    def _parent(self, directory: Directory) -> Directory:
        parent = self.drive.view.resolve(directory.path.rpartition(b"/")[0])
        if parent is None:
            raise FUSEError(errno.ESTALE)
        return parent

    def _file_entry(self, inode: int) -> EntryAttributes:
        attributes = self.drive.view.attributes(inode)
        if attributes is not None:
            return entry_of(attributes)
        attributes = self.drive.attributes_as_opened(inode)
        if attributes is None:
            raise FUSEError(errno.ESTALE)
        entry = entry_of(attributes)
        entry.attr_timeout = 0  # valid only while the file is open, but a name may still lead the kernel here
        return entry

    def _generated_entry(self, export: Export, size: int | None) -> EntryAttributes:
        """Return the attributes of a generated file. The kernel must not keep them if its size is unknown.

        Nor may it keep those of a file of an earlier view, of which it was told while that was replaced.
        """
        entry = entry_of(self.drive.view.export_attributes(export, size or 0))
        if size is None or not self.drive.view.has_made(export):
            entry.attr_timeout = 0
        return entry

    # Directories

    @_answered
    async def opendir(self, inode: int, ctx: RequestContext) -> int:
        """Open a directory of the current view."""
        view, directory = self.drive.view, self._directory(inode)
        listing = await self.drive.listing(directory)
        handle = next(self._handles)
        self._open_directories[handle] = OpenDirectory(directory, view, listing, self._entry_pages, memory())
        self.counters.open_directories += 1
        return handle

    @_answered
    async def readdir(self, fh: int, start_id: int, token: ReaddirToken) -> None:
        """Reply with as many entries as fit, from any position in O(1)."""
        handle = self._open_directories[fh]
        # One EntryAttributes for all entries: the reply copies it. One for each entry costs a third of the rate.
        shared = handle.memory
        attributes = EntryAttributes() if shared is None else shared.attributes
        content = memoryview(b"") if shared is None else shared.content
        # The kernel must not keep entries of an earlier view: it has already been told what changed. Nor may it
        # keep the size of a generated file, which is unknown until the file is made.
        has_exports = isinstance(handle.directory, ExportsDirectory)
        lasts = handle.view is self.drive.view and not has_exports
        attributes.entry_timeout = attributes.attr_timeout = TIMEOUT if lasts else 0
        known = handle.view.directory_attributes(handle.directory)
        for cursor, name, place in ((1, b".", known.inode), (2, b"..", parent_inode(handle.directory.path))):
            if start_id < cursor:
                fill(attributes, *known._replace(inode=place))
                if not pyfuse3.readdir_reply(token, name, attributes, cursor):
                    return
        first = cursor = max(start_id, _FIRST_CURSOR)
        reply = pyfuse3.readdir_reply
        while any(page := handle.page(cursor - _FIRST_CURSOR)):
            files, entries = page
            for name, packed in files:
                cursor += 1
                content[:] = packed
                if not reply(token, name, attributes, cursor):
                    self.counters.entries_listed += cursor - 1 - first
                    return
            for name, inode, mode, nlink, uid, gid, size, mtime, directory in entries:
                cursor += 1
                if has_exports:
                    size = self.generated.size(inode) or 0  # noqa: PLW2901
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
        self.generated.told(export)

    @_answered
    async def releasedir(self, fh: int) -> None:
        """Close a directory."""
        self._entry_pages.close(self._open_directories.pop(fh))
        self.counters.open_directories -= 1

    # Files

    @_answered
    def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo | Coroutine[Any, Any, FileInfo]:
        """Open a file of the source, a generated file or a text."""
        if flags & _WRITING:
            raise FUSEError(errno.EROFS)
        if not self.pages.are_doubtful(inode):
            file = self.drive.open_at_once(inode)
            if file is not None:
                return self._opened(file)
        return self._open_generated(inode) if is_export(inode) else self._open_waiting(inode)

    async def _open_waiting(self, inode: int) -> FileInfo:
        # After ESTALE the kernel looks up the name again, once.
        times = self.pages.times
        if self.pages.are_doubtful(inode):
            await self.pages.drop(self.drive.view.files.current(inode) or inode)
        file = await self.drive.open(inode)
        if self.pages.were_doubted(inode, times):  # a refresh came in between
            await self.drive.close_file(file)
            raise FUSEError(errno.ESTALE)
        return self._opened(file)

    async def _open_generated(self, inode: int) -> FileInfo:
        export = self.generated.get(inode)
        if export is None:
            raise FUSEError(errno.ESTALE)
        file = await self.drive.open(export)
        assert isinstance(file, OpenGenerated | OpenArchive)
        self.generated.note(inode, file.facts.size)
        return self._opened(file)

    def _opened(self, file: Opened) -> FileInfo:
        handle = next(self._handles)
        self._open_files[handle] = file
        return FileInfo(fh=handle, keep_cache=True)

    @_answered
    def read(self, fh: int, off: int, size: int) -> bytes | Coroutine[Any, Any, bytes]:
        """Read from a handle. pyfuse3 accepts any buffer as the answer."""
        file = self._open_files[fh]
        content: Any = self.drive.read_at_once(file, off, size)
        return self.drive.read(file, off, size) if content is None else content  # type: ignore[return-value]

    @_answered
    def release(self, fh: int) -> Coroutine[Any, Any, None] | None:
        """Close a file."""
        file = self._open_files.pop(fh)
        return None if self.drive.close_at_once(file) else self.drive.close_file(file)

    # Extended attributes

    @_answered
    async def getxattr(self, inode: int, name: bytes, ctx: RequestContext) -> bytes:
        """Return an extended attribute. Without ``--xattr`` raise ENOSYS: then the kernel does not ask again."""
        value = (await self._xattrs(inode)).get(bytes(name))
        if value is None:
            raise FUSEError(pyfuse3.ENOATTR)
        return value

    @_answered
    async def listxattr(self, inode: int, ctx: RequestContext) -> Sequence[bytes]:
        """Return the names of the extended attributes; without ``--xattr`` as :meth:`getxattr`."""
        return list(await self._xattrs(inode))

    async def _xattrs(self, inode: int) -> Mapping[bytes, bytes]:
        if not self._has_xattrs:
            raise FUSEError(errno.ENOSYS)
        directory = self.directories.get(inode)
        if directory is not None:
            return await self.drive.asked(directory, functools.partial(xattrs.of_directory, self.drive.view))
        return {} if is_directory(inode) or is_export(inode) else xattrs.of_file(self.drive.view, inode)


def _refuses_writing(name: str) -> Callable[..., Coroutine[Any, Any, None]]:
    async def refuse(self: Operations, *arguments: object) -> None:
        raise FUSEError(errno.EROFS)

    refuse.__name__ = name
    return refuse


# On a read-only mount the kernel refuses these itself. After a read-write remount, these handlers refuse them.
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
