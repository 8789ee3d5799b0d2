"""Building and refreshing an index. A refresh reads only the clients whose files changed.

Sessions and commands call these functions, from a thread that may wait. An executor reads runs of clients.

A refresh lists every client. It takes a digest of names, sizes, times (including ``st_ctime``) and permissions,
and compares it with the digest in the index. Clients whose digest differs are read again. The columns of all
others are copied.
"""

from array import array
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from omidbfs.base.errors import UserError
from omidbfs.base.names import printable
from omidbfs.database.client_files import listing_digest
from omidbfs.database.layout import Scanner, Source
from omidbfs.database.problems import OF_LISTS, Problem
from omidbfs.facets.defined import Definition
from omidbfs.index.chunk import Chunk, read_chunk
from omidbfs.index.columns import Index
from omidbfs.index.completion import completed, needs_everything
from omidbfs.index.executors import Work, in_order
from omidbfs.index.lanes import Admit, Reading
from omidbfs.index.merge import merge
from omidbfs.index.saved import source_fingerprint
from omidbfs.index.slices import problems_by_client, slices_of
from omidbfs.index.user_facets import with_user_facets

CLIENTS_PER_CHUNK = 512
"""Most clients in one task of an executor."""


def refreshed(
    source: Source,
    previous: Index | None = None,
    work: Work | None = None,
    only: Collection[str] | None = None,
    user_facets: Sequence[Definition] = (),
) -> Index:
    """Return the current index of the source, or ``previous`` itself if nothing has changed.

    ``only`` names the clients to read, by default all. ``user_facets`` are the facets that the user defines. If
    nothing else has changed, only the files that they need are read. If ``previous`` lacks facets of the program,
    they are made from NBSS and ImageDB if these suffice, or else every client is read.

    Outcomes are decided with all windows off, and events are linked uniquely. The same must hold for ``previous``.

    Raises
    ------
    UserError
        The source was replaced or became unreachable, so the data read so far are unreliable.
    """
    work = work or Work()
    with _staying(source):
        problems: list[Problem] = []
        clients = Scanner(source, problems).clients()
        if only is not None:
            problems += clients_not_on_disk(only, set(clients))
            clients = [client for client in clients if client in only]
        changed = _changed(source, clients, previous, work)
        if previous is not None and previous.lacking:
            if needs_everything(previous):
                changed = set(clients)
            else:
                unchanged = [client for client in clients if client not in changed]
                previous, meanwhile = completed(previous, source, list(_runs(unchanged, work.workers)), work)
                changed |= meanwhile
        if previous is not None and not changed and len(clients) == len(previous.clients):
            others = (problem for problem in previous.each_problem() if not problem.client)
            known = {problem for problem in others if problem.kind not in OF_LISTS}
            if known == set(problems):
                if previous.registry.user == tuple(one.facet() for one in user_facets):
                    return previous
                return with_facets(previous, source, user_facets, work)
        chunks = _chunks(source, clients, changed, previous, work)
        index = merge(chunks, problems, source, previous)
        return with_user_facets(index, source, user_facets, previous, work, CLIENTS_PER_CHUNK)


def with_facets(index: Index, source: Source, user_facets: Sequence[Definition], work: Work) -> Index:
    """Return an index with ``user_facets`` in place of the facets that the user defined before.

    Only the files that they need are read.
    """
    return with_user_facets(index, source, user_facets, index, work, CLIENTS_PER_CHUNK)


@contextmanager
def _staying(source: Source) -> Iterator[None]:
    """Raise ``UserError`` at the end of the block if the source was replaced or is gone."""
    before = source_fingerprint(source)
    try:
        yield
    except OSError:
        _compare(source, before)
        raise
    _compare(source, before)


def _compare(source: Source, before: str) -> None:
    if source_fingerprint(source) != before:
        raise UserError("the source was replaced or unmounted while it was read", place=next(source.trees()))


def clients_not_on_disk(only: Collection[str], on_disk: Collection[str]) -> list[Problem]:
    """Return a problem for each client in ``only`` that the source does not have."""
    return [
        Problem(printable(name), "client-not-on-disk", "named in the list of clients")
        for name in sorted(only)
        if name not in on_disk
    ]


def _runs(clients: Sequence[str], workers: int) -> Iterator[Sequence[str]]:
    """Yield runs of clients.

    With several workers the first run is short, since it shows how long the rest will take. The last runs are
    shorter again, so that all workers end together.
    """
    start, least = 0, max(1, CLIENTS_PER_CHUNK // 16)
    size = least if workers > 1 else CLIENTS_PER_CHUNK
    while start < len(clients):
        if workers > 1:
            size = min(size, max(least, (len(clients) - start) // (3 * workers)))
        yield clients[start : start + size]
        start += size
        size = min(2 * size, CLIENTS_PER_CHUNK)


def _changed(source: Source, clients: Sequence[str], previous: Index | None, work: Work) -> set[str]:
    """Return the clients that are new, or whose files differ from the previous index."""
    if previous is None:
        return set(clients)
    known = dict(zip(previous.clients, previous.client_digest.tolist(), strict=True))
    changed, done = set(), 0
    compared = in_order(work.executor, work.workers, partial(digests_of, source), _runs(clients, work.workers))
    for run, digests in zip(_runs(clients, work.workers), compared, strict=True):
        pairs = zip(run, digests.tolist(), strict=True)
        changed |= {client for client, digest in pairs if known.get(client.encode()) != digest}
        done += len(run)
        if work.progress is not None:
            work.progress("comparing", done, len(clients), 0)
    return changed


def digests_of(source: Source, clients: Sequence[str]) -> NDArray[np.uint64]:
    """Return the digest of the files of each client on disk."""
    scanner, digests = Scanner(source, []), array("Q")

    def read(client: str, admit: Admit) -> int:
        problems: list[Problem] = []
        return listing_digest(scanner.beside(problems).client(client), problems)

    def given_up(client: str) -> int:
        problems: list[Problem] = []
        return listing_digest(scanner.beside(problems).no_answer(client), problems)

    Reading(read, digests.append, given_up, scanner.is_alive).all_of(clients)
    return np.array(digests, np.uint64)


def _chunks(
    source: Source,
    clients: Sequence[str],
    changed: Collection[str],
    previous: Index | None,
    work: Work,
) -> list[Chunk]:
    """Return the chunks of all clients in order: changed clients are read, others are slices of ``previous``."""
    segments = [(is_changed, list(run)) for is_changed, run in groupby(clients, changed.__contains__)]
    runs = [run for is_changed, segment in segments if is_changed for run in _runs(segment, work.workers)]
    read = in_order(work.executor, work.workers, partial(read_chunk, source), runs)
    problems = problems_by_client(previous) if previous is not None else {}
    chunks: list[Chunk] = []
    done = images = 0
    for is_changed, segment in segments:
        if not is_changed:
            assert previous is not None
            chunks += slices_of(previous, [client.encode() for client in segment], problems)
            continue
        for run in _runs(segment, work.workers):
            chunks.append(next(read))
            done, images = done + len(run), images + len(chunks[-1].values["images"])
            if work.progress is not None:
                work.progress("reading", done, len(changed), images)
    return chunks
