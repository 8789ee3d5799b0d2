"""Opens, compares, reads and closes files of the source and their renditions.

Used by :class:`~omidbfs.serving.drive.Drive` and by archives, in the loop of the drive.
"""

from omidbfs.serving.disks import stale
from omidbfs.serving.observers import Observers
from omidbfs.serving.reader import FileChangedError, OpenFile, Reader
from omidbfs.serving.renditions import ContradictionFoundError, OpenRendition, RenditionFiles
from omidbfs.view.file_keys import FileKeys
from omidbfs.view.inode import file_key, is_rendition, source_key
from omidbfs.view.view import View

OpenSource = OpenFile | OpenRendition
"""A file of the source, or a rendition of one, open for one handle."""


class Sources:
    """The files of one source. ``reader`` reads them, and ``renditions`` has what is made of them.

    ``observers`` are told of files that are found changed.
    """

    def __init__(self, reader: Reader, renditions: RenditionFiles, observers: Observers) -> None:
        self.reader = reader
        self._renditions = renditions
        self._observers = observers

    async def open(self, view: View, node: int) -> OpenSource:
        """Open a file of the source or a rendition of a view.

        Raises
        ------
        OSError
            ESTALE: the file is gone or has another version. Otherwise as
            :meth:`~omidbfs.serving.reader.Reader.open` and
            :meth:`~omidbfs.serving.renditions.RenditionFiles.open`.
        """
        if is_rendition(node):
            return await self._open_rendition(view, node)
        file = await self._open_current(view, node)
        if file.inode != node:
            await self.reader.close(file)
            raise stale()
        return file

    async def _open_current(self, view: View, node: int) -> OpenFile:
        """Open the current version of a file. For an inode of an earlier one, callers only close it again.

        That finds a further change, so the next lookup finds the file as it is.
        """
        current = view.files.current(node)
        if current is None:
            raise stale()
        return await self._open_file(view, current)

    async def _open_file(self, view: View, current: int) -> OpenFile:
        try:
            return await self.reader.open(view.files, current)
        except FileChangedError:
            await self._observers.tell_of_file(view, current)
            raise

    async def _open_rendition(self, view: View, node: int) -> OpenRendition:
        found = view.renditions.found(node)
        if found is None:
            await self.reader.close(await self._open_current(view, source_key(node)))
            raise stale()
        source = await self._open_file(view, found.source)
        try:
            return await self._renditions.open(view, self.reader, node, found, source)
        except ContradictionFoundError:
            await self._observers.tell_of_file(view, found.source)
            raise

    def read_at_once(self, file: OpenSource, offset: int, size: int) -> bytes | memoryview | None:
        """Return what :meth:`read` does; ``None`` if that might wait.

        Raises
        ------
        OSError
            As :meth:`read`.
        """
        if file.compared != file.doubts:
            return None
        if isinstance(file, OpenFile):
            return self.reader.read_at_once(file, offset, size)
        return self._renditions.read_at_once(self.reader, file, offset, size)

    async def read(self, view: View, file: OpenSource, offset: int, size: int) -> bytes | bytearray | memoryview:
        """Return up to ``size`` bytes; fewer only at the end. They are valid until the next read of any file.

        A file in doubt is compared first with the one that ``view``, the current one, leads to.

        Raises
        ------
        OSError
            As :meth:`~omidbfs.serving.reader.Reader.read`, and ``compare`` there and of
            :class:`~omidbfs.serving.renditions.RenditionFiles`.
        """
        if isinstance(file, OpenFile):
            if file.compared != file.doubts:
                await self._compare_file(view, file)
            return await self.reader.read(file, offset, size)
        if file.compared != file.doubts:
            await self._compare_rendition(view, file)
        return await self._renditions.read(self.reader, file, offset, size)

    async def _compare_file(self, view: View, file: OpenFile) -> None:
        doubts = file.doubts
        if view.files.current(file.inode) != file.inode:
            return  # names lead to another inode, and this one is left to the handles that are open
        try:
            again = await self._open_file(view, file.inode)
        except OSError:
            return
        await self.reader.compare(file, again)
        file.compared = doubts

    async def _compare_rendition(self, view: View, file: OpenRendition) -> None:
        doubts = file.doubts
        if view.renditions.found(file.inode) is None:
            return  # names lead to another inode, and this one is left to the handles that are open
        try:
            again = await self._open_rendition(view, file.inode)
        except (FileChangedError, ContradictionFoundError):
            return
        await self._renditions.compare(self.reader, file, again)
        file.compared = doubts

    def close_at_once(self, file: OpenSource) -> bool:
        """Close a file; return ``False`` if that might wait, and must be left to :meth:`close`."""
        on_disk = _on_disk(file)
        return on_disk is None or self.reader.close_at_once(on_disk)

    async def close(self, file: OpenSource) -> None:
        """Close a file."""
        on_disk = _on_disk(file)
        if on_disk is not None:
            await self.reader.close(on_disk)


def doubt(file: OpenSource, keys: FileKeys) -> None:
    """Put the bytes of a file in doubt if it, or the file of which it is a rendition, is among ``keys``."""
    file.doubts += (source_key if isinstance(file, OpenRendition) else file_key)(file.inode) in keys


def _on_disk(file: OpenSource) -> OpenFile | None:
    """Return the file from which a handle reads; ``None`` for a rendition in memory."""
    return file.file if isinstance(file, OpenRendition) else file
