"""Reads the images of one study: their files, headers and ImageDB entries, and the problems found in them.

:class:`~omidbfs.database.client.ClientReader` uses it. A reader belongs to one thread.
"""

import os
from collections.abc import Sequence
from functools import partial
from types import TracebackType

import msgspec

from omidbfs.database.boxes import box_problem
from omidbfs.database.client_files import ImageFiles
from omidbfs.database.dicom import dicom_texts, read_dicom
from omidbfs.database.header import Header, JsonError
from omidbfs.database.layout import Source
from omidbfs.database.permissions import TreeReader, read_listed
from omidbfs.database.pixel_format import completed, lacks_size
from omidbfs.database.problems import Problem, Report, Reporter
from omidbfs.database.records import DbImage, FileFacts
from omidbfs.database.sidecar import decode_sidecar
from omidbfs.database.terms import oddities
from omidbfs.database.values import shown

MAX_JSON = 64 << 20
"""Largest JSON file that is read, in bytes; usual files have 10 kB, the largest NBSS files a few MB."""

_DCM, _SIDECAR = 0, 1


class ImageRecord(msgspec.Struct, frozen=True, gc=False):  # a Struct, as FileFacts: there is one for each image
    """One image: ``name`` as on disk without suffix, the facts of its files, its header, its ImageDB entry.

    ``pixels`` is the header completed from the DICOM file, where the sidecar lacks the size of the pixels.
    """

    name: str
    dcm: FileFacts | None
    sidecar: FileFacts | None
    sidecar_suffix: str
    header: Header
    listed: DbImage | None
    pixels: Header | None = None


def other_image(name: str, header: Header) -> str | None:
    """Return what is wrong if a header names another image than ``name``, otherwise ``None``."""
    uid = header.SOPInstanceUID
    if uid is None or name in (uid, f"{uid}.dcm"):  # the name of a second sidecar
        return None
    return f"its SOPInstanceUID is {shown(uid)}"


def _silent(kind: str, detail: str) -> None:
    pass


class StudyReader:
    """Reads the images of one study; a context manager. Images are found on disk; JSON only describes them.

    ``listed`` holds the images that ImageDB lists for the study, ``None`` if it does not list the study.
    """

    def __init__(
        self,
        source: Source,
        trees: tuple[TreeReader | None, TreeReader | None],
        client: str,
        study: str,
        listed: dict[str, DbImage] | None,
        problems: list[Problem],
    ) -> None:
        self._source = source
        self._trees = trees
        self._client, self._study = client, study
        self._place = f"{client}/{study}"
        self._listed = listed
        self._problems = problems
        self._directory: int | None = None

    def __enter__(self) -> "StudyReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._directory is not None:
            os.close(self._directory)

    def image(self, name: str, files: ImageFiles) -> ImageRecord:
        """Return the record of one image; never raises for the state of the disk."""
        dcm, sidecar, listed = files.dcm, files.sidecar, self._listed
        entry = listed.get(name) if listed is not None else None
        if not files.double:
            if dcm is None and self._source.images is not None:
                self._report(name, files, _DCM, "dcm-missing")
            if sidecar is None and self._source.data is not None:
                self._report(name, files, _SIDECAR, "sidecar-missing")
            if entry is None and listed is not None:
                self._report(name, files, _DCM if sidecar is None else _SIDECAR, "image-not-in-imagedb")
        header, described_by = self._header(name, files)
        for kind, detail in oddities(header):
            self._report(name, files, described_by, kind, detail)
        if header.SOPInstanceUID != name and (other := other_image(name, header)) is not None:
            self._report(name, files, described_by, "image-mismatch", other)
        if entry is not None and header.Rows and header.Columns:
            for mark in entry.marks:
                problem = box_problem(mark, header.Rows, header.Columns)
                if problem is not None:
                    self._report(name, files, described_by, "odd-box", f"mark {shown(mark.id)}: {problem}")
        pixels = None
        if described_by == _SIDECAR and dcm is not None and dcm.size and lacks_size(header):
            # The file is read for sizes only: `omidbfs check --dicom` reports its problems.
            pixels = completed(header, self.dicom(name, _silent))
        return ImageRecord(name, dcm, sidecar, files.sidecar_suffix, header, entry, pixels)

    def _header(self, name: str, files: ImageFiles) -> tuple[Header, int]:
        """Return the header of an image, and the file that it comes from."""
        dcm, sidecar = files.dcm, files.sidecar
        is_empty = dcm is not None and dcm.size == 0
        if is_empty:
            self._report(name, files, _DCM, "bad-dicom", "empty file")
        if sidecar is not None:
            try:
                content = self._sidecar(name + files.sidecar_suffix, sidecar.size)
                return decode_sidecar(content, partial(self._report, name, files, _SIDECAR)), _SIDECAR
            except OSError as error:
                self._report(name, files, _SIDECAR, "unreadable", error.strerror or "cannot be read")
            except JsonError as error:
                self._report(name, files, _SIDECAR, "bad-json", str(error))
        if dcm is not None and not is_empty:
            return self.dicom(name, partial(self._report, name, files, _DCM)), _DCM
        return Header(), _DCM if sidecar is None else _SIDECAR

    def dicom(self, name: str, report: Report) -> Header:
        """Return the header of a DICOM file as far as it can be read; report what prevents the rest."""
        try:
            descriptor = self._opened(name)
        except OSError as error:
            report("unreadable", error.strerror or "cannot be read")
            return Header()
        try:
            return read_dicom(descriptor, report)
        finally:
            os.close(descriptor)

    def texts(self, name: str, paths: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], str | None]:
        """Return the texts in the header of a DICOM file at paths of tags.

        Raises
        ------
        OSError
            The file cannot be opened.
        """
        descriptor = self._opened(name)
        try:
            return dicom_texts(descriptor, paths)
        finally:
            os.close(descriptor)

    def _opened(self, name: str) -> int:
        images = self._trees[_DCM]
        assert images is not None
        return images.open(os.fsencode(f"{self._place}/{name}.dcm"))

    def _sidecar(self, name: str, size: int) -> bytes:
        # The path to the directory of the study, three levels, is resolved once and not for each image.
        data = self._trees[_SIDECAR]
        assert data is not None
        if self._directory is None:
            self._directory = data.directory(os.fsencode(self._place))
        return read_listed(data, self._directory, name, size, MAX_JSON)

    def _report(self, name: str, files: ImageFiles, tree: int, kind: str, detail: str = "") -> None:
        label = self._source.images_label if tree == _DCM else self._source.data_label
        suffix = ".dcm" if tree == _DCM else files.sidecar_suffix
        place = f"{label}/{self._place}/{name}{suffix}"
        Reporter(place, self._problems, self._client, self._study, name)(kind, detail)
