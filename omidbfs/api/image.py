"""An image of a cohort: its names, its files, its pixels, its marks and the values of its facets.

Cohorts and datasets make them. They are immutable, and any thread may use them.
"""

import io
import os
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from omidbfs.api.connection import Connection
from omidbfs.api.files import Stream
from omidbfs.api.selecting import facet_named
from omidbfs.base.errors import NotFoundError, UserError
from omidbfs.database.file_kinds import DCM
from omidbfs.exports.fields import marks_of, values_of
from omidbfs.exports.rendered import images_at, made_apart
from omidbfs.facets import Kind
from omidbfs.index.columns import Index
from omidbfs.index.flat_names import flat_names
from omidbfs.pixels.rendition import Format, Rendition
from omidbfs.pixels.sizes import size_of, why_not
from omidbfs.pixels.worker import Request
from omidbfs.view.finding import no_rendition
from omidbfs.view.view import View

if TYPE_CHECKING:
    from pydicom import FileDataset


@dataclass(frozen=True, slots=True, repr=False)
class Image:
    """An image of a database. ``image["outcome"]`` is the value of a facet."""

    _connection: Connection
    _row: int

    @property
    def _view(self) -> View:
        return self._connection.view

    @property
    def _index(self) -> Index:
        return self._view.index

    @property
    def client(self) -> str:
        """The client, by the name on the drive."""
        return self._value("client")

    @property
    def study(self) -> str:
        """The study, by the name on the drive."""
        return self._value("study")

    @property
    def name(self) -> str:
        """The name in flat cohorts, without suffix: ``all/<name>.dcm`` is its path on the drive."""
        return flat_names(self._index, np.array([self._row]))[0].decode()

    @property
    def path(self) -> Path | None:
        """The DICOM file in the source; ``None`` if the image has none.

        Read it with :meth:`open` or :meth:`dataset`, which notice if it is written to meanwhile.
        """
        images = self._connection.session.source.images
        if images is None or not self._index.has_file(self._row, DCM):
            return None
        return Path(images, os.fsdecode(self._index.image_path(self._row, DCM)))

    @property
    def marks(self) -> list[dict[str, object]]:
        """The marks, as in the column ``boxes`` of tables: corners in pixels of the source, features and more."""
        return marks_of(self._index.marks, np.array([self._row], np.uint32))[0]

    def __getitem__(self, facet: str) -> str | tuple[str, ...]:
        """Return the value of a facet, by its name on the drive; a tuple for a facet with several values.

        A number is not banded: ``image["age"]`` is ``"57"``.

        Raises
        ------
        NotFoundError
            There is no such facet of images.
        """
        found = facet_named(self._view, facet)
        if found.kind is Kind.FILE:
            raise NotFoundError("is a facet of files, and not of images", place=f"by-{found.name}")
        values = values_of(self._view.cohorts, found, self._row)
        return values if found.several else values[0]

    def _value(self, facet: str) -> str:
        return values_of(self._view.cohorts, self._index.registry.by_name[facet], self._row)[0]

    # Files

    def open(self) -> io.BufferedReader:
        """Open the DICOM file to read its bytes. If it has changed since it was indexed, these are its new bytes.

        Raises
        ------
        UserError
            The image has no DICOM file.
        OSError
            ESTALE: the file is gone, or was written to while it was read. Otherwise the error of the system.
        """
        return Stream(self._connection.now().source_file(self._inode()))

    def _inode(self) -> int:
        inode = self._view.files.image(self._row, DCM)
        if inode is None:
            raise UserError("the image has no DICOM file", place=self.name)
        return inode

    def dataset(self, **options: Any) -> "FileDataset":
        """Return the DICOM file as a dataset of pydicom; ``options`` are those of ``pydicom.dcmread``.

        Errors are those of :meth:`open` and of pydicom.
        """
        from pydicom import dcmread

        with self.open() as file:
            return dcmread(file, **options)

    def pixels(self, rendition: str = "npy") -> NDArray[Any]:
        """Return the pixels of a rendition: rows x columns, with frames before and samples after if there are any.

        A process apart decodes them, so a damaged file cannot end this one.

        Parameters
        ----------
        rendition
            What follows ``as-`` in a path: ``npy`` for the stored values, ``png16-1024x768``, or a name that the
            configuration defines. ``png`` gives 8 bits; all others with a window give 16.

        Raises
        ------
        NotFoundError
            There is no such rendition.
        UserError
            The image has no such rendition, or its pixels cannot be decoded.
        OSError
            As :meth:`open`.
        """
        return self._rendered(rendition_named(self._view, rendition))

    def _rendered(self, wanted: Rendition) -> NDArray[Any]:
        opened = self._connection.now()
        inode = self._inode()
        [known] = images_at(self._index, [self._row])
        reason = why_not(wanted, known.format)
        if reason is not None:
            raise UserError(f"has no as-{wanted.name}: {reason}", place=self.name)
        is_png = wanted.format is Format.PNG  # every other format has the numbers of npy
        made_as = wanted if is_png else replace(wanted, format=Format.NPY)
        request = Request(made_as, known.format, known.side, size_of(made_as, known.format) or 0)
        memory = os.memfd_create("omidbfs")
        with (
            os.fdopen(memory, "r+b", buffering=0) as made,
            opened.source_file(inode) as file,
            opened.apart() as apart,
        ):
            kind = made_apart(file.descriptor, (file.facts.size, file.facts.mtime_ns), request, apart, memory)
            if kind is not None:
                raise UserError(f"the pixels cannot be decoded: {kind}", place=self.name)
            made.seek(0)
            if is_png:
                return _of_png(made.read())
            pixels: NDArray[Any] = np.load(made, allow_pickle=False)
            return pixels

    def __repr__(self) -> str:
        return f"<omidbfs image {self.name} of {self.client}>"


def rendition_named(view: View, name: str) -> Rendition:
    """Return the rendition with a name, with or without ``as-``.

    Raises
    ------
    NotFoundError
        There is no such rendition.
    """
    bare = name.removeprefix("as-")
    rendition = view.renditions.named(bare)
    if rendition is None:
        raise NotFoundError(*no_rendition(view, None, f"as-{bare}"))
    return rendition


def _of_png(content: bytes) -> NDArray[np.uint8]:
    """Return the values of a PNG file of omidbfs: 8 bits, one IDAT, and rows without a filter (``encode.png``)."""
    columns, rows = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
    samples = 3 if content[25] == 2 else 1
    length = int.from_bytes(content[33:37], "big")
    lines = np.frombuffer(zlib.decompress(content[41 : 41 + length]), np.uint8).reshape(rows, -1)
    pixels = lines[:, 1:].reshape((rows, columns, samples) if samples > 1 else (rows, columns))
    return pixels.copy() if pixels.base is not None else pixels
