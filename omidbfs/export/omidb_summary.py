"""A cohort as a table. Formats: ``omidb-summary``, what ``omidb summarise`` writes."""

import csv
import errno
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from omidbfs.cohort import EVERYTHING, Cohort, Cohorts
from omidbfs.database.client import ClientReader, ClientRecord
from omidbfs.database.layout import Scanner, Source
from omidbfs.database.problems import Problem
from omidbfs.database.records import ImageDb, Nbss
from omidbfs.index.classification import Classification
from omidbfs.summary import HEADER, summary_rows

Row = tuple[object, ...]


def omidb_summary(
    source: Source, classification: Classification, cohorts: Cohorts, cohort: Cohort
) -> Iterator[Row]:
    """Yield the rows that ``omidb summarise`` writes of the cohort's ``by-client`` tree, header first.

    For every image of the database these are the rows that it writes of the source. The clients of the cohort
    are read again, one at a time: the table holds what the index does not. Rule: ``omidb.commands.summarise``.
    """
    index = cohorts.index
    clients = range(len(index.clients)) if cohort == EVERYTHING else cohorts.clients(cohort).tolist()
    rows = cohorts.rows(cohort)
    problems: list[Problem] = []  # known already, from building the index
    scanner = Scanner(source, problems)
    yield HEADER
    with ClientReader(source) as reader:
        for client in clients:
            problems.clear()
            record = reader.read(scanner.client(index.clients[client].decode()), problems)
            hers = range(int(index.client_rows[client]), int(index.client_rows[client + 1]))
            suffixes = {index.on_disk(row): index.sidecar_suffix(row) for row in hers if row in rows}
            studies = set(record.in_data)
            if cohort != EVERYTHING:
                studies &= {study for study, _ in suffixes}
            yield from _client_rows(reader, record, classification, studies, suffixes)


def _client_rows(
    reader: ClientReader,
    record: ClientRecord,
    classification: Classification,
    studies: set[str],
    suffixes: Mapping[tuple[str, str], str],
) -> Iterator[Row]:
    return summary_rows(
        record.name,
        record.nbss or Nbss(None, None, ()),
        record.imagedb or ImageDb(None, None, {}),
        record.all_links if classification.link_all else record.links,
        classification.windows,
        studies.__contains__,
        lambda study, image: (study, image) in suffixes,
        lambda study, image: reader.sidecar(record.name, study, image, suffixes[study, image]),
    )


def write_csv(rows: Iterable[Row], output: Path | None) -> int:
    """Write rows to a file, or to standard output; return how many there are, header not counted.

    The file appears whole or not at all, readable by its owner only: it holds patient data. What is no file but
    a pipe or a device is written to, not replaced.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    if output is None:
        return _write(rows, sys.stdout)
    if output.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(output))
    if output.exists() and not output.is_file():
        with open(output, "w", newline="", encoding="utf-8", errors="backslashreplace") as stream:
            return _write(rows, stream)
    output = Path(os.path.realpath(output))  # a link keeps leading to the file
    if not output.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(output.parent))
    descriptor, temporary = tempfile.mkstemp(prefix=f".{output.name}.", dir=output.parent)  # made with mode 0600
    try:
        with open(descriptor, "w", newline="", encoding="utf-8", errors="backslashreplace") as stream:
            count = _write(rows, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, output)
    except BaseException:
        os.unlink(temporary)
        raise
    return count


def _write(rows: Iterable[Row], stream: object) -> int:
    writer = csv.writer(stream)  # type: ignore[arg-type]
    count = -1
    for row in rows:
        writer.writerow(row)
        count += 1
    return max(count, 0)
