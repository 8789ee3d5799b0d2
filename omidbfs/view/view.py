"""What the drive looks like: path -> node, a node's children and files. No FUSE in it.

Used by whatever shows a drive, such as ``fuse/operations.py``, by commands, and by tests. A view is immutable but
for ``files.update``, which records that a source file was found changed; every method may be called from any
thread. Names are bytes. Directories are :class:`Directory` values, files are inode numbers.

A directory or generated file belongs to the view that made it: what it holds means something else in any other.
A view refuses those of others with ESTALE.

Each kind of directory is a class that knows what is in it. :data:`ENTRANCES` has the kinds that can be entered
wherever images are; another such kind is another class, and another line there.
"""

import errno
import functools
import os
from collections.abc import Iterator, Mapping

from omidbfs.cohorts.cohort import EVERYTHING, Cohort
from omidbfs.database.permissions import Access
from omidbfs.exports.formats import FORMATS, Selection
from omidbfs.index.columns import Index
from omidbfs.view.context import Context, Enter
from omidbfs.view.facet import enter_facet
from omidbfs.view.files import Content, Files
from omidbfs.view.generated import enter_exports
from omidbfs.view.inode import ROOT_INODE
from omidbfs.view.nodes import OMIDBFS, Attributes, Directory, Export, Listing, Node
from omidbfs.view.ownership import Ownership
from omidbfs.view.quoting import export_access
from omidbfs.view.root import Root, root_of
from omidbfs.view.top import RootDirectory

ENTRANCES: Mapping[bytes, Enter] = {b"by-": enter_facet, OMIDBFS: enter_exports}
"""What the root and every directory of images can be entered by, by how a name begins.

Of several that a name begins like, the first that knows the name wins.
"""


class View:
    """The drive over one index.

    Parameters
    ----------
    generated
        Name -> content of the texts: ``README.txt`` in the root, all others in ``.omidbfs/``. Each is looked up
        when somebody first asks for it.
    links_to
        The directories of the two trees, (images, data), where files are to be symbolic links into them.
    list_nested
        Whether nested facet directories are listed; they are always found.
    list_empty
        Whether a facet in a cohort lists the values that it has in the root, identifiers left out.
    root
        What the root lists; by default every facet, and no named cohorts.
    ownership
        What is shown in place of the owners and modes of the source.
    """

    def __init__(
        self,
        index: Index,
        access: Access,
        generated: Mapping[str, Content],
        *,
        links_to: tuple[bytes, bytes] | None = None,
        list_nested: bool = False,
        list_empty: bool = False,
        root: Root | None = None,
        ownership: Ownership | None = None,
    ) -> None:
        ownership = ownership or Ownership()
        access = Access(*ownership.shown(access.mode, access.uid, access.gid))
        self.index = index
        self.lists = root_of(index) if root is None else root
        self.cohorts = self.lists.cohorts
        self.name = os.urandom(16)
        self.root: Directory = RootDirectory(self.name, b"", ROOT_INODE, EVERYTHING)
        self.export_access = export_access(index, access, ownership)
        """Who may read what quotes the source: generated files, and lists of problems and values."""
        self.files = Files(index, access, self.export_access, generated, self.lists.links, links_to, ownership)
        self._context = Context(
            index=index,
            cohorts=self.cohorts,
            lists=self.lists,
            files=self.files,
            access=access,
            quoting=self.export_access,
            entrances=ENTRANCES,
            list_nested=list_nested,
            list_empty=list_empty,
        )

    def prepare(self) -> None:
        """Make now what is otherwise made at its first use, which takes 0.1 s and more for a million images.

        A drive does that where nobody waits; a command makes only what it needs.
        """
        self.cohorts.prepare()
        self.files.prepare()

    def has_made(self, node: Directory | Export) -> bool:
        """Return whether a directory or generated file is of this view."""
        return node.view == self.name

    def _check(self, directory: Directory) -> None:
        if directory.view != self.name:
            raise OSError(errno.ESTALE, "a directory of another view")

    def lookup(self, directory: Directory, name: bytes) -> Node | None:
        """Return the child of a directory: a directory, a generated file, the inode of a file, or ``None``.

        Raises
        ------
        OSError
            ESTALE: the directory is of another view. So do all methods that take a directory or generated file.
            ENAMETOOLONG: a facet in a directory whose path is longer than
            :data:`~omidbfs.view.images.LONGEST_PATH`.
        """
        self._check(directory)
        return directory.lookup(self._context, name)

    def resolve(self, path: bytes) -> Directory | None:
        """Return the directory at a path from the root, ``None`` if there is none."""
        directory = self.root
        for name in path.split(b"/") if path else ():
            child = directory.lookup(self._context, name)
            if not isinstance(child, Directory):
                return None
            directory = child
        return directory

    def listing(self, directory: Directory) -> Listing:
        """Return the entries of a directory, without ``.`` and ``..``.

        What takes room for each image, or value, is shared by all listings of one cohort.
        """
        self._check(directory)
        return directory.listing(self._context)

    def lists_at_once(self, directory: Directory) -> bool:
        """Return whether :meth:`listing` takes no longer than a few lookups; otherwise do not let others wait."""
        return directory.lists_at_once(self._context)

    def directory_attributes(self, directory: Directory) -> Attributes:
        """Return the attributes of a directory; its link count of 1 says that it is not counted."""
        return self._context.attributes(directory)

    # What a directory stands for, and what is made of it

    def cohort(self, directory: Directory) -> Cohort:
        """Return the images that a directory stands for: a place in the real tree is a term like others."""
        self._check(directory)
        return directory.stands_for

    def selection(self, directory: Directory) -> Selection:
        """Return what is exported of a directory, which may be the ``.omidbfs/`` in it."""
        path = directory.path.removesuffix(OMIDBFS).rstrip(b"/") or b"all"
        title = path.decode("utf-8", "backslashreplace")
        names_of = functools.partial(directory.image_names, self.index)
        return Selection(self.cohorts, self.cohort(directory), title, names_of)

    def content(self, export: Export) -> Iterator[bytes]:
        """Yield the content of a generated file of this view."""
        return FORMATS[export.format].content(self.selection(export.directory))

    def export_attributes(self, export: Export, size: int) -> Attributes:
        """Return the attributes of a generated file whose content has a size."""
        return self._context.export_attributes(export, size)
