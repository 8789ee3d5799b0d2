"""Reads the files of one client into records, and reports every problem found in them.

Executors that build an index use it, and so does every part that reads one file of the source again. Threads may
share a reader. Images are found on disk; JSON only describes them. No content of a client raises an error.
"""

import os
from collections.abc import Callable, Sequence
from typing import TypeVar

from omidbfs.database.client_files import ClientFiles
from omidbfs.database.header import Header, JsonError, load_json
from omidbfs.database.imagedb import parse_imagedb
from omidbfs.database.layout import Source
from omidbfs.database.nbss import parse_nbss
from omidbfs.database.permissions import TreeReader, read_file
from omidbfs.database.problems import Problem, Report, Reporter
from omidbfs.database.records import DbImage, ImageDb, Nbss
from omidbfs.database.study import MAX_JSON, ImageRecord, StudyReader

_Document = TypeVar("_Document", Nbss, ImageDb)


class ClientReader:
    """Reads clients of one source. Holds two directory descriptors, until it is closed or not used by anything.

    Without ``headers`` it reads only NBSS and ImageDB, and the headers of images are empty.
    """

    def __init__(self, source: Source, *, headers: bool = True) -> None:
        self.source = source
        self._headers = headers
        follow = source.follow_symlinks
        self._trees = (
            TreeReader(source.images, follow_symlinks=follow) if source.images is not None else None,
            TreeReader(source.data, follow_symlinks=follow) if source.data is not None else None,
        )

    def __enter__(self) -> "ClientReader":
        return self

    def __exit__(self, *exception: object) -> None:
        for tree in self._trees:
            if tree is not None:
                tree.close()

    def documents(self, files: ClientFiles, problems: list[Problem]) -> tuple[Nbss | None, ImageDb | None]:
        """Return the NBSS and ImageDB records of a client; problems are appended to ``problems``."""
        return (
            self._document(files, "nbss", parse_nbss, problems),
            self._document(files, "imagedb", parse_imagedb, problems),
        )

    def images(
        self, files: ClientFiles, study: str, imagedb: ImageDb | None, problems: list[Problem]
    ) -> tuple[ImageRecord, ...]:
        """Return the images of a study on disk, in the order of their names."""
        images, listed = files.studies[study], self._listed(files, study, imagedb, problems)
        if not self._headers:
            found = ((name, images[name], (listed or {}).get(name)) for name in sorted(images))
            return tuple(
                ImageRecord(name, one.dcm, one.sidecar, one.sidecar_suffix, Header(), entry)
                for name, one, entry in found
            )
        with StudyReader(self.source, self._trees, files.name, study, listed, problems) as reader:
            return tuple(reader.image(image, images[image]) for image in sorted(images))

    def imagedb_report(self, files: ClientFiles, problems: list[Problem]) -> Reporter:
        """Return the reporter for problems of the ImageDB file of a client."""
        place = f"{self.source.data_label}/{files.name}/{self._document_name(files, 'imagedb')}"
        return Reporter(place, problems, files.name)

    def sidecar(self, client: str, study: str, image: str, suffix: str) -> dict[str, object]:
        """Return the whole JSON sidecar of an image, ``{}`` where it cannot be read."""
        try:
            return load_json(self._read_data(client, study, f"{image}{suffix}"))
        except (OSError, JsonError):
            return {}

    def document(self, client: str, name: str) -> dict[str, object]:
        """Return the whole of an NBSS or ImageDB file, ``{}`` where it cannot be read."""
        try:
            return load_json(self._read_data(client, name))
        except (OSError, JsonError):
            return {}

    def content(self, client: str, study: str, name: str) -> bytes:
        """Return the content of a sidecar, ``b""`` where it cannot be read."""
        try:
            return self._read_data(client, study, name)
        except OSError:
            return b""

    def attributes(
        self, client: str, study: str, image: str, paths: Sequence[tuple[str, ...]]
    ) -> dict[tuple[str, ...], str | None]:
        """Return the values in the header of a DICOM file at some paths of tags.

        See :func:`~omidbfs.database.dicom.dicom_texts`.
        """
        try:
            with StudyReader(self.source, self._trees, client, study, None, []) as reader:
                return reader.texts(image, paths)
        except OSError:
            return {}

    def dicom(self, client: str, study: str, image: str, report: Report) -> Header:
        """Return the header of a DICOM file as far as it can be read; report what prevents the rest."""
        with StudyReader(self.source, self._trees, client, study, None, []) as reader:
            return reader.dicom(image, report)

    def _document_name(self, files: ClientFiles, kind: str) -> str:
        names = [f"{prefix}_{files.name}.json" for prefix in (kind, kind.upper())]
        return next((name for name in names if name in files.documents), names[0])

    def _document(
        self,
        files: ClientFiles,
        kind: str,
        parse: Callable[[object, Reporter], _Document],
        problems: list[Problem],
    ) -> _Document | None:
        place = f"{self.source.data_label}/{files.name}"
        document = self._document_name(files, kind)
        if document not in files.documents:
            if self.source.data is not None:
                Reporter(place, problems, files.name)(f"{kind}-missing", f"no {kind}_{files.name}.json")
            return None
        report = Reporter(f"{place}/{document}", problems, files.name)
        try:
            parsed = parse(load_json(self._read_data(files.name, document)), report)
        except OSError as error:
            report("unreadable", error.strerror or "cannot be read")
            return None
        except JsonError as error:
            report("bad-json", str(error))
            return None
        if parsed.client_id is not None and parsed.client_id != files.name:
            report("client-mismatch", "its ClientID names another client")
        return parsed

    def _listed(
        self, files: ClientFiles, study: str, imagedb: ImageDb | None, problems: list[Problem]
    ) -> dict[str, DbImage] | None:
        """Return the entries of ImageDB for the images of a study; ``None`` if it does not list the study."""
        if imagedb is None:
            return None
        if study not in imagedb.studies:
            label = self.source.data_label if study in files.in_data else self.source.images_label
            Reporter(f"{label}/{files.name}/{study}", problems, files.name, study)("study-not-in-imagedb", "")
            return None
        listed: dict[str, DbImage] = {}
        for series in imagedb.studies[study].series.values():
            if listed.keys().isdisjoint(series):  # as nearly always
                listed |= series
                continue
            # An image in two series has the marks of both.
            both = {image: _joined(listed[image], series[image]) for image in listed.keys() & series.keys()}
            listed |= series
            listed |= both
        return listed

    def _read_data(self, *parts: str) -> bytes:
        data = self._trees[1]
        assert data is not None
        return read_file(data, os.fsencode("/".join(parts)), MAX_JSON)


def _joined(one: DbImage, other: DbImage) -> DbImage:
    return DbImage(one.marks + other.marks, one.unread_marks + other.unread_marks)
