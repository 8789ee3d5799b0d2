"""The view: turns paths into nodes, and lists the children of a directory. It knows no front end.

Used by front ends such as ``fuse/operations.py``, by commands, and by tests. A view is immutable, except for
``files.update``, which records that a source file was found changed, and for texts that are replaced. Any thread
may call every method. Names are bytes. Directories are :class:`Directory` values, and files are inode numbers.

A directory or generated file belongs to the view that made it, because its ordinals and codes differ in other
views. A view refuses those of other views with ESTALE.

Each kind of directory is a class that knows its content. :data:`ENTRANCES` has the kinds that can be entered in
every directory of images. To add such a kind, add a class, and a line there.
"""

import errno
import functools
import os
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from omidbfs.base.errors import UserError
from omidbfs.cohorts.cohort import EVERYTHING, Cohort
from omidbfs.database.file_kinds import DCM, FileKind
from omidbfs.database.permissions import Access
from omidbfs.database.records import FileFacts
from omidbfs.exports.coordinates import Coordinates
from omidbfs.exports.formats import FORMATS
from omidbfs.exports.origin import Origin
from omidbfs.exports.paths import on_the_drive
from omidbfs.exports.selection import Selection
from omidbfs.index.columns import Index
from omidbfs.index.levels import Rows
from omidbfs.index.measured import OF_PIXELS, Geometries
from omidbfs.pixels.rendition import Configured, Rendition
from omidbfs.view.context import Context, Enter
from omidbfs.view.facet import enter_facet
from omidbfs.view.files import Files
from omidbfs.view.generated import enter_exports, number_without_coordinates
from omidbfs.view.inode import ROOT_INODE, is_rendition
from omidbfs.view.nodes import OMIDBFS, Attributes, Directory, Export, Listing, Node
from omidbfs.view.ownership import Ownership
from omidbfs.view.quoting import export_access
from omidbfs.view.rendered import enter_rendition
from omidbfs.view.renditions import Renditions
from omidbfs.view.root import Root, root_of
from omidbfs.view.texts import Content
from omidbfs.view.top import RootDirectory

if TYPE_CHECKING:
    from omidbfs.exports.tar import Archive

ENTRANCES: Mapping[bytes, Enter] = {b"by-": enter_facet, b"as-": enter_rendition, OMIDBFS: enter_exports}
"""The beginning of a name -> the function that looks up such names, in the root and in every directory of images.

If several entrances fit a name, the first that finds it wins.
"""


class View:
    """The drive over one index.

    Parameters
    ----------
    generated
        Name -> content of the texts: ``README.txt`` in the root, all others in ``.omidbfs/``. Each content is
        looked up at its first use.
    links_to
        The directories of the two trees, (images, data), if files are to be symbolic links into them.
    list_nested
        Whether nested facet directories are listed. They can always be entered.
    list_empty
        Whether a facet in a cohort lists all values that it has in the root. This excludes identifiers.
    root
        The facets and cohorts that the root lists; by default every facet, and no named cohorts.
    ownership
        Replaces the owners and modes of the source.
    configured
        The renditions that the configuration defines.
    geometries
        What was found in the pixels of the images of ``index``.
    origin
        Where the index comes from, and the options that it was shown with.
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
        configured: Configured | None = None,
        geometries: Geometries | None = None,
        origin: Origin | None = None,
    ) -> None:
        ownership = ownership or Ownership()
        access = Access(*ownership.shown(access.mode, access.uid, access.gid))
        self.index = index
        self.lists = root_of(index) if root is None else root
        self.cohorts = self.lists.cohorts
        self.name = os.urandom(16)
        self.root: Directory = RootDirectory(self.name, b"", ROOT_INODE, EVERYTHING)
        self.export_access = export_access(index, access, ownership)
        """The access to everything that quotes the source: generated files, and lists of problems and values."""
        self.files = Files(index, access, self.export_access, generated, self.lists.links, links_to, ownership)
        self.configured = configured or Configured()
        self.geometries = geometries or Geometries(index)
        self.renditions = Renditions(index, self.files, self.lists.links, self.configured)
        self.origin = origin or Origin()
        self._context = Context(
            index=index,
            cohorts=self.cohorts,
            lists=self.lists,
            files=self.files,
            renditions=self.renditions,
            geometries=self.geometries,
            access=access,
            quoting=self.export_access,
            entrances=ENTRANCES,
            list_nested=list_nested,
            list_empty=list_empty,
        )

    def continue_from(self, old: "View", seen: Mapping[int, FileFacts]) -> None:
        """Take over what was found out while the view before was shown; ``seen`` as in ``Files.continue_from``."""
        self.files.continue_from(old.files, seen)
        self.renditions.continue_from(old.renditions)

    def prepare(self) -> None:
        """Make everything that is otherwise made at its first use: 0.1 s and more for a million images.

        A drive calls this while no request waits. A command makes only what it needs.
        """
        self.cohorts.prepare()
        self.files.prepare()
        self.geometries.prepare()
        for facet in OF_PIXELS:  # their columns are made of records and marks, not read
            _ = self.index.columns[facet]

    def has_made(self, node: Directory | Export) -> bool:
        """Return whether a directory or generated file belongs to this view."""
        return node.view == self.name

    def _check(self, directory: Directory) -> None:
        if directory.view != self.name:
            raise OSError(errno.ESTALE, "a directory of another view")

    def lookup(self, directory: Directory, name: bytes) -> Node | None:
        """Return the child of a directory: a directory, a generated file, the inode of a file, or ``None``.

        Raises
        ------
        OSError
            ESTALE: the directory belongs to another view. ``listing``, ``cohort``, ``selection`` and ``content``
            raise it, too.
            ENAMETOOLONG: the name is a facet, and the path of the directory is longer than
            :data:`~omidbfs.view.images.LONGEST_PATH`.
        """
        if directory.view != self.name:  # without a call of _check: this is the hottest path
            self._check(directory)
        return directory.lookup(self._context, name)

    def resolve(self, path: bytes) -> Directory | None:
        """Return the directory at a path from the root; ``None`` if there is none."""
        directory = self.root
        for name in path.split(b"/") if path else ():
            child = directory.lookup(self._context, name)
            if not isinstance(child, Directory):
                return None
            directory = child
        return directory

    def listing(self, directory: Directory) -> Listing:
        """Return the entries of a directory, without ``.`` and ``..``.

        All open listings of one cohort share the array of its files or values.
        """
        self._check(directory)
        return directory.listing(self._context)

    def lists_at_once(self, directory: Directory) -> bool:
        """Return whether :meth:`listing` takes no longer than a few lookups. If not, call it in a thread."""
        return directory.lists_at_once(self._context)

    def attributes(self, inode: int) -> Attributes | None:
        """Return the attributes of a file that is not generated; ``None`` if it is gone or has another version."""
        return self.renditions.attributes(inode) if is_rendition(inode) else self.files.attributes(inode)

    def file(self, row: int, shown: FileKind | Rendition) -> int | None:
        """Return the inode of a file or of a rendition of an image; ``None`` if there is no such file."""
        return self.renditions.inode(row, shown) if isinstance(shown, Rendition) else self.files.image(row, shown)

    def facts(self, inode: int) -> FileFacts | None:
        """Return size, time and owner of a file of the source or of a rendition; ``None`` if it is gone."""
        if not is_rendition(inode):
            return self.files.facts(inode)
        found = self.renditions.found(inode)
        return None if found is None else found.facts

    def place(self, inode: int) -> tuple[int, FileKind | None] | None:
        """Return what :meth:`~omidbfs.view.files.Files.place` returns; for a rendition the place of its source."""
        if not is_rendition(inode):
            return self.files.place(inode)
        found = self.renditions.found(inode)
        return None if found is None else (found.row, DCM)

    def directory_attributes(self, directory: Directory) -> Attributes:
        """Return the attributes of a directory. The link count 1 means that subdirectories are not counted."""
        return self._context.attributes(directory)

    @property
    def updates(self) -> int:
        """How often a file was found to be another than the index says. Older pages of entries may be outdated."""
        return self.files.updates + self.renditions.updates

    # Cohorts and generated files

    def cohort(self, directory: Directory) -> Cohort:
        """Return the images for which a directory stands. A client or study in the path is a term, too."""
        self._check(directory)
        return directory.stands_for

    def selection(self, directory: Directory) -> Selection:
        """Return the selection for exports of a directory, which may be its ``.omidbfs/``."""
        path = directory.path.removesuffix(OMIDBFS).rstrip(b"/") or b"all"
        title = path.decode("utf-8", "backslashreplace")
        names_of = functools.partial(directory.image_names, self.index)
        return self.selection_of(
            self.cohort(directory), title, names_of, client=directory.client_shown(self._context)
        )

    def selection_of(
        self, cohort: Cohort, title: str, names: "Callable[[Rows], list[bytes]]", *, client: int | None = None
    ) -> Selection:
        """Return the selection for exports of a cohort; the parameters are those of :class:`Selection`."""
        rendition, boxes = cohort.rendition, self.geometries.boxes
        coordinates = None if rendition is None else Coordinates(self.index, rendition, boxes)
        defined = 0 if rendition is None else self.configured.time_of(rendition)
        return Selection(
            self.cohorts, cohort, title, names, self.origin, client, on_the_drive, coordinates, defined
        )

    def check_coordinates(self, cohort: Cohort, place: str | None = None) -> None:
        """Check that formats with boxes can be made of a cohort. ``place`` is its path, for the message.

        Raises
        ------
        UserError
            It shows crops, and where the breast is in an image is not known.
        """
        number = number_without_coordinates(self._context, cohort)
        if number:
            raise UserError(
                f"where the breast is in {number} of the {len(self.cohorts.rows(cohort))} images is not known",
                "run `omidbfs geometry SOURCE`, and leave out the images that it lists",
                place,
            )

    def content(self, export: Export) -> Iterator[bytes]:
        """Yield the content of a generated file of this view, which is not an archive."""
        content = FORMATS[export.format].content
        assert content is not None, "an archive is read in parts"
        return content(self.selection(export.directory))

    def archive(self, export: Export) -> "Archive":
        """Return the archive that a generated file of this view is. Call it in a thread.

        Raises
        ------
        OSError
            ESTALE: the file is of another view.
        """
        archive = FORMATS[export.format].archive
        assert archive is not None, "any other file has a content"
        return archive(self.selection(export.directory))

    def export_attributes(self, export: Export, size: int) -> Attributes:
        """Return the attributes of a generated file with a size in bytes."""
        return self._context.export_attributes(export, size)
