"""What is open for one handle: a file of the source, a rendition, a generated file, an archive, or a text.

Used by :class:`~omidbfs.serving.drive.Drive`, in its loop.
"""

from omidbfs.serving.archives import OpenArchive
from omidbfs.serving.disks import stale
from omidbfs.serving.generated import OpenGenerated
from omidbfs.serving.sources import OpenSource
from omidbfs.view.texts import Content
from omidbfs.view.view import View


class OpenText:
    """A text of the drive, open for one handle."""

    __slots__ = ("content",)

    def __init__(self, content: Content) -> None:
        self.content = content


Opened = OpenSource | OpenGenerated | OpenArchive | OpenText


def opened_text(view: View, inode: int) -> OpenText:
    """Open a text.

    Raises
    ------
    OSError
        ESTALE: the view has no such text.
    """
    content = view.files.texts.content(inode)
    if content is None:
        raise stale()
    return OpenText(content)


def descriptors_of(file: Opened) -> list[int]:
    """Return the descriptors of a handle."""
    if isinstance(file, OpenArchive):
        return file.descriptors()
    return [] if isinstance(file, OpenText) or file.descriptor < 0 else [file.descriptor]
