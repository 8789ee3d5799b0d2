"""The texts that a drive generates: README.txt and the files of ``.omidbfs/`` in the root.

Used by ``files``, and by what shows or renews a text. Any thread may read; only the loop of a drive calls
``replace``.
"""

import threading
from collections import deque
from collections.abc import Mapping

from omidbfs.database.permissions import Access
from omidbfs.view.inode import is_text, text_inode, text_number

Content = bytes | memoryview

_ABOUT_THE_DRIVE = ("README.txt", "status.json")
"""The texts that quote nothing of the source. All other texts do."""
_KEPT = 4
"""Old contents of texts that can still be opened: more than change between a lookup and an open."""


class Texts:
    """Makes each text at its first use.

    The inode of a text contains a checksum of its content, which takes 0.1 s for a million problems. So both are
    made at the first use of the text, and kept.

    Parameters
    ----------
    generated
        Name -> content. Each content is looked up once, when it is needed.
    access
        The access to texts about the drive.
    quoting
        The access to texts that quote the source.
    """

    def __init__(self, generated: Mapping[str, Content], access: Access, quoting: Access) -> None:
        self._generated = generated
        self.names = [name.encode() for name in generated]
        self._accesses = [access if name in _ABOUT_THE_DRIVE else quoting for name in generated]
        self._inodes: dict[bytes, int] = {}
        self._contents: dict[int, Content] = {}
        self._replaced: deque[tuple[int, Content]] = deque(maxlen=_KEPT)
        self._making = {name: threading.Lock() for name in self.names}

    def prepare(self) -> None:
        """Make all texts."""
        for name in self.names:
            self.inode(name)

    def inode(self, name: bytes) -> int | None:
        """Return the inode of a text; ``None`` if there is none of this name."""
        inode = self._inodes.get(name)
        if inode is None and name in self._making:
            with self._making[name]:
                inode = self._inodes.get(name) or self._made(name)
        return inode

    def _made(self, name: bytes) -> int:
        content = self._generated[name.decode()]
        inode = text_inode(self.names.index(name), content)
        self._contents[inode] = content  # first, so that every thread that finds the inode finds the content
        self._inodes[name] = inode
        return inode

    def content(self, inode: int) -> Content | None:
        """Return the content of a text; ``None`` for other files, and for a text that has changed."""
        if not is_text(inode):
            return None
        content = self._contents.get(inode)
        if content is None and text_number(inode) < len(self.names):
            self.inode(self.names[text_number(inode)])  # not made yet
            content = self._contents.get(inode)
        return dict(self._replaced).get(inode) if content is None else content

    def access(self, inode: int) -> Access:
        """Return the access to a text."""
        return self._accesses[text_number(inode)]

    def replace(self, name: bytes, content: Content) -> None:
        """Replace the content of a text, and so its inode. The last few contents can still be read."""
        old = self.inode(name)
        assert old is not None, "the text exists"
        inode = text_inode(text_number(old), content)
        if inode == old:
            return
        # In this order, so that every thread that has an inode finds its content.
        self._contents[inode], self._inodes[name] = content, inode
        self._replaced.append((old, self._contents[old]))
        del self._contents[old]

    def continue_from(self, old: "Texts") -> None:
        """Take over the old contents of the view before."""
        self._replaced = old._replaced
