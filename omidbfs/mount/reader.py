"""Open files of the source: one descriptor for each open handle, read without making anybody wait."""

import errno
import os

import trio

from omidbfs.database.access import TreeReader
from omidbfs.database.layout import Source
from omidbfs.database.records import FileFacts
from omidbfs.files import Files

_GONE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO)


class FileChangedError(OSError):
    """A source file was found changed when it was opened."""


class OpenFile:
    """A file of the source, open for one handle, as it was when it was opened."""

    __slots__ = ("descriptor", "facts", "inode")

    def __init__(self, inode: int, descriptor: int, facts: FileFacts) -> None:
        self.inode = inode
        self.descriptor = descriptor
        self.facts = facts


class Reader:
    """Opens and reads source files for inodes of a drive."""

    def __init__(self, source: Source) -> None:
        follow = source.follow_symlinks
        self._trees = [
            TreeReader(tree, follow_symlinks=follow) if tree is not None else None
            for tree in (source.images, source.data)
        ]

    def open(self, files: Files, inode: int) -> OpenFile:
        """Open the file of an inode.

        Raises
        ------
        OSError
            ESTALE if the file is gone, is no regular file, or is not the version that the inode stands for. The
            kernel then looks the name up again, and finds the file as it is now under another inode.
        FileChangedError
            The same, found out just now: the kernel may have attributes of the old version.
        """
        facts = files.facts(inode)
        if facts is None:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        tree, path = files.source_file(inode)
        reader = self._trees[tree]
        assert reader is not None, "a tree that has files exists"
        try:
            descriptor = reader.open(path)
        except OSError as error:
            if error.errno in _GONE:
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE)) from error
            raise
        found = os.fstat(descriptor)
        if found.st_size == facts.size and found.st_mtime_ns == facts.mtime_ns:
            return OpenFile(inode, descriptor, facts)
        os.close(descriptor)
        # The directories above were judged when the source was read: the file gains no bits.
        mode = found.st_mode & facts.mode
        files.update(inode, FileFacts(found.st_size, found.st_mtime_ns, mode, found.st_uid, found.st_gid))
        raise FileChangedError(errno.ESTALE, os.strerror(errno.ESTALE))

    async def read(self, file: OpenFile, offset: int, size: int) -> bytes | bytearray | memoryview:
        """Return up to ``size`` bytes; fewer only at the end of the file."""
        # What is in the page cache is answered at once, without a thread: 3 x the small files per second. What is
        # not may take as long as the disk likes, and everybody else goes on (scripts/bench drive).
        buffer = bytearray(size)
        try:
            done = os.preadv(file.descriptor, [buffer], offset, os.RWF_NOWAIT)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EOPNOTSUPP):
                raise
            done = 0
        if done < size and offset + done < file.facts.size:
            done = await trio.to_thread.run_sync(_read_rest, file.descriptor, buffer, offset, done)
        return buffer if done == size else memoryview(buffer)[:done]

    def close(self, file: OpenFile) -> None:
        """Close a handle's descriptor."""
        os.close(file.descriptor)

    def close_trees(self) -> None:
        """Close the two directories."""
        for tree in self._trees:
            if tree is not None:
                tree.close()


def _read_rest(descriptor: int, buffer: bytearray, offset: int, done: int) -> int:
    with memoryview(buffer) as view:
        while done < len(buffer):
            count = os.preadv(descriptor, [view[done:]], offset + done)
            if count == 0:
                break
            done += count
    return done
