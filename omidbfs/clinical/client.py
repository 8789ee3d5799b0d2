"""The whole record of one client: the content of its files, and the episode and events of each study.

Executors that build an index use it, and so do the parts that read a client again. Any thread may call the
functions with a reader of its own.
"""

import datetime
from dataclasses import dataclass

import msgspec

from omidbfs.base.names import printable
from omidbfs.clinical.linking import (
    NO_LINK,
    StudyLink,
    all_links,
    match_studies,
    study_list_conflicts,
    unique_links,
)
from omidbfs.database.client import ClientReader
from omidbfs.database.client_files import ClientFiles
from omidbfs.database.layout import Scanner
from omidbfs.database.problems import Problem, Reporter
from omidbfs.database.records import Episode, FileFacts, ImageDb, Nbss
from omidbfs.database.study import ImageRecord


class StudyRecord(msgspec.Struct, frozen=True, gc=False):
    """One study on disk, with its episode and the names of the events that it is linked to.

    ``all_events`` are the events of ``link all``, whose links need not be unique. ``date`` is that of ImageDB.
    """

    name: str
    images: tuple[ImageRecord, ...]
    episode: Episode | None
    events: tuple[str, ...]
    all_events: tuple[str, ...]
    date: datetime.date | None = None


@dataclass(frozen=True, slots=True)
class ClientRecord:
    """One client. ``links`` covers every study of ImageDB, on disk or not; ``in_data`` is that of ``ClientFiles``.

    ``all_links`` are the links with all matching events, unique or not.
    """

    name: str
    documents: dict[str, FileFacts]
    nbss: Nbss | None
    imagedb: ImageDb | None
    studies: tuple[StudyRecord, ...]
    links: dict[str, StudyLink]
    all_links: dict[str, StudyLink]
    in_data: frozenset[str]


def read_client(scanner: Scanner, reader: ClientReader, name: str, problems: list[Problem]) -> ClientRecord:
    """List and read one client of the source, and return its record."""
    return client_record(reader, scanner.client(name), problems)


def client_record(reader: ClientReader, files: ClientFiles, problems: list[Problem]) -> ClientRecord:
    """Return the record of a client; problems are appended to ``problems``."""
    nbss, imagedb = reader.documents(files, problems)
    db_studies = imagedb.studies if imagedb is not None else {}
    report = reader.imagedb_report(files, problems)
    known = nbss.episodes if nbss is not None else ()
    listed_studies = list(db_studies.values())
    # Without NBSS nothing can be linked: nbss-missing is the only problem to report.
    matches = match_studies(known, listed_studies, report if nbss is not None else Reporter(report.file, []))
    links = unique_links(listed_studies, matches, files.in_data)
    every_link = all_links(listed_studies, matches)
    study_list_conflicts(known, links, report)
    episodes = {episode.id: episode for episode in known}
    studies = []
    for study in sorted(files.studies):
        link, all_link = links.get(study, NO_LINK), every_link.get(study, NO_LINK)
        images = reader.images(files, study, imagedb, problems)
        episode = episodes[link.episode] if link.episode is not None else None
        date = db_studies[study].date if study in db_studies else None
        studies.append(StudyRecord(study, images, episode, link.events, all_link.events, date))
    _report_absent(files, imagedb, report)
    return ClientRecord(
        files.name, files.documents, nbss, imagedb, tuple(studies), links, every_link, frozenset(files.in_data)
    )


def _report_absent(files: ClientFiles, imagedb: ImageDb | None, report: Reporter) -> None:
    """Report studies and images of ImageDB that are not on disk."""
    for study, db_study in imagedb.studies.items() if imagedb is not None else ():
        if study not in files.studies:
            report.of(study)("study-not-on-disk", f"study {printable(study)}")
            continue
        on_disk = files.studies[study]
        missing = [image for series in db_study.series.values() for image in series if image not in on_disk]
        for image in dict.fromkeys(missing):
            report.of(study, image)("image-not-on-disk", f"image {printable(image)} of study {printable(study)}")
