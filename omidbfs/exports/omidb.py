"""``omidb-summary``: the table of a cohort that ``omidb summarise`` writes.

``omidbfs export`` uses it, in a thread that may wait for a disk.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping

from omidbfs.clinical.client import ClientRecord, read_client
from omidbfs.clinical.summary import HEADER, summary_rows
from omidbfs.cohorts.cohort import EVERYTHING, Cohort, Cohorts
from omidbfs.database.client import ClientReader
from omidbfs.database.layout import Scanner, Source
from omidbfs.database.problems import Problem
from omidbfs.database.records import ImageDb, Nbss
from omidbfs.exports.table import harmless
from omidbfs.facets import BY_NAME
from omidbfs.index.classification import Classification

Row = tuple[object, ...]
_PIECE = 1 << 16


def omidb_summary(
    source: Source, classification: Classification, cohorts: Cohorts, cohort: Cohort
) -> Iterator[Row]:
    """Yield the rows that ``omidb summarise`` writes for the cohort's ``by-client`` tree, header first.

    For the cohort of all images these are the rows that it writes for the source. The table has facts that the
    index does not have, so the clients of the cohort are read again, one at a time. Rule:
    ``omidb.commands.summarise``.
    """
    index = cohorts.index
    clients = cohorts.values(cohort, BY_NAME["client"]).tolist()
    problems: list[Problem] = []  # the index already has them
    scanner = Scanner(source, problems)
    yield HEADER
    with ClientReader(source) as reader:
        for client in clients:
            problems.clear()
            record = read_client(scanner, reader, index.clients[client].decode(), problems)
            of_client = cohorts.rows_between(cohort, *index.client_rows[client : client + 2].tolist()).tolist()
            suffixes = {index.on_disk(row): index.sidecar_suffix(row) for row in of_client}
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


def lines(rows: Iterable[Row]) -> Iterator[bytes]:
    """Yield rows as lines of CSV, as ``omidb`` writes them. Characters that are not valid Unicode are escaped.

    Unlike in ``omidb``, texts are :func:`~omidbfs.exports.table.harmless` in spreadsheets.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    for row in rows:
        writer.writerow(map(_harmless, row))
        if text.tell() > _PIECE:
            yield text.getvalue().encode("utf-8", "backslashreplace")
            text.seek(0)
            text.truncate()
    yield text.getvalue().encode("utf-8", "backslashreplace")


def _harmless(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = value.encode("utf-8", "surrogatepass")
    return value if harmless(text) == text else f"'{value}"
