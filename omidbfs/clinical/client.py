"""One client, whole: what its files say, and which episode and events each study is linked to."""

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
from omidbfs.database.layout import ClientFiles, Scanner
from omidbfs.database.problems import Problem, Reporter
from omidbfs.database.records import Episode, FileFacts, ImageDb, Nbss
from omidbfs.database.study import ImageRecord


class StudyRecord(msgspec.Struct, frozen=True, gc=False):  # as the records
    """One study on disk, with the episode it belongs to and the names of the events it is linked to.

    ``all_events`` are those that ``link all`` gives, where a link need not be unique; ``date`` is as in ImageDB.
    """

    name: str
    images: tuple[ImageRecord, ...]
    episode: Episode | None
    events: tuple[str, ...]
    all_events: tuple[str, ...]
    date: datetime.date | None = None


@dataclass(frozen=True, slots=True)
class ClientRecord:
    """One client. ``links`` covers every study of ImageDB, on disk or not; ``in_data`` as in ``ClientFiles``.

    ``all_links`` are the links with events also where those are not unique.
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
    """Return one client of the source, listed and read."""
    return client_record(reader, scanner.client(name), problems)


def client_record(reader: ClientReader, files: ClientFiles, problems: list[Problem]) -> ClientRecord:
    """Return the record of a client; what is odd is appended to ``problems``."""
    nbss, imagedb = reader.documents(files, problems)
    db_studies = imagedb.studies if imagedb is not None else {}
    report = reader.imagedb_report(files, problems)
    known = nbss.episodes if nbss is not None else ()
    listed_studies = list(db_studies.values())
    # Without NBSS nothing is linked: nbss-missing says it all.
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
    """Report what ImageDB lists and is not on disk."""
    for study, db_study in imagedb.studies.items() if imagedb is not None else ():
        if study not in files.studies:
            report.of(study)("study-not-on-disk", f"study {printable(study)}")
            continue
        on_disk = files.studies[study]
        missing = [image for series in db_study.series.values() for image in series if image not in on_disk]
        for image in dict.fromkeys(missing):
            report.of(study, image)("image-not-on-disk", f"image {printable(image)} of study {printable(study)}")
