"""Opens and reads files of the source: one descriptor for each handle, without delays for other readers.

Used by the drive, in its loop. Calls that may wait for a disk run in threads. The methods that end in ``_at_once``
do what cannot wait, without a task or a thread: most requests need no more. ``opened`` is for other threads.
"""

import errno
import os
import stat
from contextlib import suppress

from omidbfs.database.layout import Source
from omidbfs.database.permissions import TreeReader, is_local
from omidbfs.database.records import FileFacts, mtime_of
from omidbfs.serving.disks import Disk, Disks, complaints, stale
from omidbfs.view.files import Files

_GONE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.ESTALE)
_LARGEST_REQUEST = 1 << 20
_ADVICE = 128 << 10
"""Bytes of one posix_fadvise(2). The kernel reads no more than the read-ahead of the disk, usually this size."""
_SMALL = 64 << 10
"""Bytes of a file that is read by the thread that opens it."""
_IN_A_ROW = 3
"""Consecutive reads after which a file counts as read sequentially."""


class FileChangedError(OSError):
    """A source file was found changed when it was opened."""


class OpenFile:
    """A file of the source, open for one handle. ``facts`` are those at the time of opening.

    ``reached`` is the end of the last read, and ``in_a_row`` the number of consecutive reads. ``has_waited`` says
    whether a read had to wait for the disk. ``asked_for`` is the end of the bytes requested in advance. ``doubts``
    counts how often its bytes were put in doubt, and ``compared`` how many of these are settled.
    """

    __slots__ = (
        *("asked_for", "compared", "descriptor", "disk", "doubts", "facts"),
        *("has_waited", "in_a_row", "inode", "reached"),
    )

    def __init__(self, inode: int, descriptor: int, facts: FileFacts, disk: Disk) -> None:
        self.inode = inode
        self.descriptor = descriptor
        self.facts = facts
        self.disk = disk
        self.reached = self.in_a_row = self.asked_for = self.doubts = self.compared = 0
        self.has_waited = not disk.at_once


class Reader:
    """Opens and reads source files for inodes of a drive. ``disks`` live longer than a reader."""

    def __init__(self, source: Source, disks: Disks) -> None:
        follow = source.follow_symlinks
        self._disks = disks
        self._trees = [
            TreeReader(tree, follow_symlinks=follow) if tree is not None else None
            for tree in (source.images, source.data)
        ]
        self._being_opened = 0
        self._is_closing = False
        # An answer from the page cache is copied into the kernel before the loop goes on. So one buffer
        # suffices, and stays in the processor's cache.
        self._buffer = memoryview(bytearray(_LARGEST_REQUEST))

    def open_at_once(self, files: Files, inode: int) -> OpenFile | None:
        """Return what :meth:`open` does; ``None`` if that might wait, or fails."""
        facts = files.facts(inode)
        if facts is None or self._disks.open_files >= self._disks.most_open_files:
            return None
        number, path = files.source_file(inode)
        tree = self._trees[number]
        assert tree is not None, "a tree that has files exists"
        try:
            opened = tree.open_at_once(path)
        except OSError:
            return None
        if opened is None:
            return None
        descriptor, found = opened
        if found.st_size != facts.size or mtime_of(found) != facts.mtime_ns:
            os.close(descriptor)
            return None
        self._disks.open_files += 1
        return OpenFile(inode, descriptor, facts, self._disks.disk(found.st_dev, local=True))

    def opened(self, files: Files, inode: int) -> tuple[int, FileFacts] | None:
        """Return a descriptor of the file of an inode, and its facts, in any thread, which may have to wait.

        The descriptor is the caller's, and does not count as an open file. The result is ``None`` if the file is
        not the one that ``files`` know: :meth:`open` then finds out what it is.

        Raises
        ------
        OSError
            As open(2).
        """
        facts = files.facts(inode)
        if facts is None:
            return None
        number, path = files.source_file(inode)
        tree = self._trees[number]
        assert tree is not None, "a tree that has files exists"
        descriptor, found, _ = _open_in(tree, path)
        if found.st_size == facts.size and mtime_of(found) == facts.mtime_ns:
            return descriptor, facts
        os.close(descriptor)
        return None

    async def open(self, files: Files, inode: int) -> OpenFile:
        """Open the file of an inode.

        Raises
        ------
        OSError
            ESTALE: the file is gone, is not a regular file, or is another version than that of the inode. Then the
            kernel looks up the name again, and finds the current version under another inode. EMFILE: too many
            files are open. Otherwise the error of the system.
        FileChangedError
            ESTALE, and the change was found just now. So the kernel may have attributes of the old version.
        """
        file = self.open_at_once(files, inode)
        if file is not None:
            return file
        facts = files.facts(inode)
        if facts is None:
            raise stale()
        number, path = files.source_file(inode)
        self._disks.count_open()
        try:
            descriptor, found, local = await self._open_waiting(number, path, inode)
        except BaseException as error:
            self._disks.open_files -= 1
            if isinstance(error, OSError):
                raise self._explained(error) from error
            raise
        disk = self._disks.disk(found.st_dev, local=local)
        if found.st_size == facts.size and mtime_of(found) == facts.mtime_ns:
            return OpenFile(inode, descriptor, facts, disk)
        self._disks.open_files -= 1
        os.close(descriptor)
        complaints.info("a file of the source has changed since it was indexed")
        mode = stat.S_IMODE(found.st_mode)
        files.update(inode, FileFacts(found.st_size, mtime_of(found), mode, found.st_uid, found.st_gid))
        raise FileChangedError(errno.ESTALE, os.strerror(errno.ESTALE))

    async def _open_waiting(self, number: int, path: bytes, inode: int) -> tuple[int, os.stat_result, bool]:
        tree = self._trees[number]
        assert tree is not None
        self._being_opened += 1
        try:
            return await self._disks.threads(number).run(inode, _open_in, tree, path)
        finally:
            self._being_opened -= 1
            if self._is_closing and not self._being_opened:
                self._close_trees()

    def _explained(self, error: OSError) -> OSError:
        """Return the error for the caller, and log the reason."""
        if error.errno in _GONE:
            complaints.info("a file of the source is gone, or is no longer a regular file")
            return stale()
        if error.errno in (errno.EMFILE, errno.ENFILE):
            complaints.warning("the system allows no more open files")
        elif error.errno in (errno.EACCES, errno.EPERM):
            complaints.info("a file of the source may not be read by the drive")
        else:
            self._failed(error)
        return error

    def read_at_once(self, file: OpenFile, offset: int, size: int) -> bytes | memoryview | None:
        """Return what :meth:`read` does; ``None`` if that might wait, or if the file has waited before.

        Raises
        ------
        OSError
            As :meth:`read`.
        """
        wanted = min(size, file.facts.size - offset)
        if wanted <= 0:
            return b""
        if file.has_waited:
            return None
        content = self._cached(file, offset, wanted)
        if content is not None and self._disks.readahead:
            # This notes the position. Nothing is requested for a file that never waited.
            self._ahead(file, offset, wanted)
        return content

    async def read(self, file: OpenFile, offset: int, size: int) -> bytes | bytearray | memoryview:
        """Return up to ``size`` bytes; fewer only at the end of the file. They are valid until the next read.

        Raises
        ------
        OSError
            ESTALE: the file was written to after it was opened, so the kernel would mix two versions. Otherwise
            the error of the disk.
        """
        wanted = min(size, file.facts.size - offset)
        if wanted <= 0:
            return b""
        ahead = self._ahead(file, offset, wanted) if self._disks.readahead else None
        content = self._cached(file, offset, wanted) if ahead is None else None
        if content is not None:
            return content
        file.has_waited = True
        threads, facts = file.disk.threads, file.facts
        try:
            found = await threads.run(file.inode, _read, file.descriptor, facts, offset, wanted, ahead)
        except OSError as error:
            raise self._failed(error) from error
        except MemoryError as error:
            raise self._failed(OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))) from error
        if found is None:
            raise self._changed()
        return found

    def _cached(self, file: OpenFile, offset: int, wanted: int) -> memoryview | None:
        """Return bytes that are in the page cache; ``None`` if any is not, or if asking might wait.

        All other reads use a thread, so that a slow disk does not delay other requests (scripts/bench drive).
        """
        if not file.disk.at_once:
            return None
        buffer = self._buffer[:wanted]
        try:
            done = os.preadv(file.descriptor, (buffer,), offset, os.RWF_NOWAIT)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise self._failed(error) from error
            file.disk.at_once = False
            return None
        if done != wanted:
            return None
        if not is_as_it_was(file.descriptor, file.facts):
            raise self._changed()
        return buffer

    def _ahead(self, file: OpenFile, offset: int, size: int) -> range | None:
        """Return the bytes to request in advance from the disk, if the file is read sequentially.

        A request is for at least half of the read-ahead, and only for files that have waited for the disk.
        """
        window = self._disks.readahead
        # The kernel may request several parts at once, and the requests may arrive in any order.
        file.in_a_row = file.in_a_row + 1 if abs(offset - file.reached) <= window else 0
        file.reached = offset + size
        if file.in_a_row < _IN_A_ROW or not file.has_waited:
            file.asked_for = 0
            return None
        start = max(file.asked_for, file.reached)
        end = min(file.reached + window, file.facts.size)
        if end - start < min(window // 2, file.facts.size - file.reached):
            return None
        file.asked_for = end
        return range(start, end, _ADVICE) if start < end else None

    async def compare(self, file: OpenFile, again: OpenFile) -> None:
        """Compare an open file with the one that its path names now, opened ``again``, which is closed.

        Raises
        ------
        OSError
            ESTALE: it is another file, with other bytes.
        """
        try:
            if not await file.disk.threads.run(file.inode, are_same, file.descriptor, again.descriptor):
                complaints.info("a file of the source was replaced while it was open")
                raise stale()
        finally:
            await self.close(again)

    def _changed(self) -> OSError:
        complaints.info("a file of the source was written to while it was open")
        return stale()

    def _failed(self, error: OSError) -> OSError:
        if error.errno in (errno.EAGAIN, errno.ENOMEM):
            complaints.warning("the system gives the drive no more memory or threads")
        else:
            complaints.warning("a disk of the source failed: %s", error.strerror)
        return error

    def close_at_once(self, file: OpenFile) -> bool:
        """Close a handle's descriptor; return ``False`` if that might wait, and must be left to :meth:`close`."""
        if not file.disk.at_once:
            return False
        self._disks.open_files -= 1
        os.close(file.descriptor)
        return True

    async def close(self, file: OpenFile) -> None:
        """Close a handle's descriptor."""
        if not self.close_at_once(file):  # on a network file system, closing may wait for the server
            self._disks.open_files -= 1
            await file.disk.threads.run(file.inode, os.close, file.descriptor)

    def close_trees(self) -> None:
        """Close the two directories as soon as no file is being opened in them."""
        self._is_closing = True
        if not self._being_opened:
            self._close_trees()

    def _close_trees(self) -> None:
        for tree in self._trees:
            if tree is not None:
                tree.close()


def are_same(one: int, other: int) -> bool:
    """Return whether two descriptors are of the same file, or of files with the same bytes."""
    if os.path.sameopenfile(one, other):
        return True
    at = 0
    while (part := os.pread(one, _LARGEST_REQUEST, at)) == os.pread(other, _LARGEST_REQUEST, at):
        if not part:
            return True
        at += len(part)
    return False


def _open_in(tree: TreeReader, path: bytes) -> tuple[int, os.stat_result, bool]:
    """Open a file, and read it into the page cache if it is small and on a local disk.

    Whoever opens a small file reads it next. A file that has to be opened in a thread would have to be read in a
    thread, too, and each thread takes as long as twenty requests.
    """
    try:
        descriptor, found = tree.open_with_facts(path)
    except OSError as error:
        # The disk may have gone away and come back: then another directory has replaced the open one.
        try:
            is_another = tree.found_again()
        except OSError:
            is_another = False
        if not is_another:
            raise error from None
        descriptor, found = tree.open_with_facts(path)
    local = is_local(descriptor)
    if local and found.st_size <= _SMALL:
        with suppress(OSError):  # which the program learns when it reads
            os.pread(descriptor, found.st_size, 0)
    return descriptor, found, local


def _read(descriptor: int, facts: FileFacts, offset: int, size: int, ahead: range | None) -> bytearray | None:
    """Return ``size`` bytes; ``None`` if the file has changed since it was opened."""
    for start in ahead or ():
        os.posix_fadvise(descriptor, start, min(_ADVICE, facts.size - start), os.POSIX_FADV_WILLNEED)
    buffer, done = bytearray(size), 0
    with memoryview(buffer) as view:
        while done < size:
            count = os.preadv(descriptor, [view[done:]], offset + done)
            if count == 0:
                return None
            done += count
    return buffer if is_as_it_was(descriptor, facts) else None


def is_as_it_was(descriptor: int, facts: FileFacts) -> bool:
    """Return whether an open file has the size and time of ``facts``. To be asked after reading from it."""
    # A write sets the new time before it writes.
    found = os.fstat(descriptor)
    return mtime_of(found) == facts.mtime_ns and found.st_size == facts.size
