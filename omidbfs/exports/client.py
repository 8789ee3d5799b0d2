"""``client.json``: the timeline of a client, in the directory of the client.

``formats`` uses it, in a thread that may wait for a disk.
"""

import errno
import os
from collections.abc import Iterator

import orjson

from omidbfs.cohorts.describe_client import described_client
from omidbfs.database.client import ClientReader
from omidbfs.database.client_files import listing_digest
from omidbfs.database.layout import Scanner
from omidbfs.database.problems import Problem
from omidbfs.database.records import Nbss
from omidbfs.exports.selection import Selection


def client(chosen: Selection) -> Iterator[bytes]:
    """Yield ``client.json``. Its source is read again, for the facts that the index does not have.

    Raises
    ------
    OSError
        EIO: a file of the client is not as the index says, so the content would not be that of the index.
    """
    assert chosen.client is not None, "only directories of clients have it"
    index, ordinal = chosen.cohorts.index, chosen.client
    rows = chosen.cohorts.rows_between(chosen.cohort, *index.client_rows[ordinal : ordinal + 2].tolist())
    windows = chosen.origin.classification.windows
    facts = described_client(chosen.cohorts, windows, ordinal, rows, _read_again(chosen, ordinal))
    yield orjson.dumps(facts, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _read_again(chosen: Selection, client: int) -> Nbss | None:
    index, source = chosen.cohorts.index, chosen.origin.source
    assert source is not None, "the view of a session knows its source"
    problems: list[Problem] = []
    files = Scanner(source, problems).client(index.clients[client].decode())
    if listing_digest(files, problems) != index.client_digest.item(client):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    with ClientReader(source, headers=False) as reader:
        return reader.documents(files, problems)[0]
