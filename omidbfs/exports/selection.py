"""What is exported: :class:`Selection`. Views make it, and formats are made from it. One thread uses it."""

from collections.abc import Callable
from dataclasses import dataclass

from omidbfs.cohorts.cohort import Cohort, Cohorts
from omidbfs.database.file_kinds import DCM
from omidbfs.exports.coordinates import Coordinates
from omidbfs.exports.origin import Origin
from omidbfs.exports.paths import Paths, on_the_drive
from omidbfs.index.levels import Rows


@dataclass(frozen=True, slots=True)
class Selection:
    """What is exported: a cohort, and the names of its directory and of its images.

    ``title`` is the path of the cohort on the drive. ``names`` returns the names of images without suffixes,
    relative to that directory. ``paths`` returns the paths of files in tables, relative to the mount unless the
    user asks for others. ``coordinates`` has the places of images in the rendition that the directory shows.
    ``defined`` is when the configuration defined that rendition, in ns, or 0. ``origin`` says where the index
    comes from. ``client`` is the ordinal of the client whose directory it is, ``None`` for any other directory.
    """

    cohorts: Cohorts
    cohort: Cohort
    title: str
    names: Callable[[Rows], list[bytes]]
    origin: Origin
    client: int | None = None
    paths: Paths = on_the_drive
    coordinates: Coordinates | None = None
    defined: int = 0

    def files(self, rows: Rows) -> list[bytes]:
        """Return the names of DICOM files, or of the renditions that the directory shows, relative to it."""
        suffix = (self.cohort.rendition or DCM).suffix
        return [name + suffix for name in self.names(rows)]
