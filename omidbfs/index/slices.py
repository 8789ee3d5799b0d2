"""Slices: parts of an index as chunks, for a refresh that keeps the clients that have not changed.

``build`` uses them, and sessions use :func:`only_clients`, in the thread that makes an index.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from omidbfs.database.layout import Source
from omidbfs.database.problems import Problem
from omidbfs.index.chunk import Chunk
from omidbfs.index.columns import COLUMNS, LISTS, Index
from omidbfs.index.merge import merge
from omidbfs.index.schema import CLIENT, EPISODE, IMAGE, LESION, MARK, SERIES, STUDY, UID, sliced, values_of
from omidbfs.index.user_facets import carried_over


def slices_of(
    index: Index, clients: Sequence[bytes], problems: Mapping[bytes, Sequence[Problem]]
) -> Iterator[Chunk]:
    """Yield chunks of ``clients`` with their problems. Each chunk is a run of neighbours in the index."""
    ordinals = np.array([index.client_table.find(client)[0] for client in clients], np.intp)
    for run in np.split(ordinals, np.flatnonzero(np.diff(ordinals) != 1) + 1):
        yield _slice(index, int(run[0]), int(run[-1]) + 1, problems)


def problems_by_client(index: Index) -> Mapping[bytes, Sequence[Problem]]:
    """Return the problems of each client, except those that every merge finds again."""
    problems: dict[bytes, list[Problem]] = {}
    for problem in index.each_problem():
        if problem.client and problem.kind != "duplicate-uid":
            problems.setdefault(problem.client.encode(), []).append(problem)
    return problems


def only_clients(index: Index, clients: Collection[str], problems: Iterable[Problem], source: Source) -> Index:
    """Return an index with some of the clients, which keep their identities.

    ``problems`` are added to the problems of the trees and of these clients.
    """
    kept = [name for name in index.clients if name.decode() in clients]
    of_trees = [problem for problem in index.each_problem() if not problem.client]
    chunks = list(slices_of(index, kept, problems_by_client(index))) if kept else []
    return carried_over(merge(chunks, [*of_trees, *problems], source, index), index)


def _slice(index: Index, first: int, end: int, problems: Mapping[bytes, Sequence[Problem]]) -> Chunk:
    rows = slice(int(index.client_rows[first]), int(index.client_rows[end]))
    of_client = index.study_client
    studies = slice(int(np.searchsorted(of_client, first)), int(np.searchsorted(of_client, end)))
    per_client = index.episodes.per_client
    start = int(per_client[:first].sum())
    episodes = slice(start, start + int(per_client[first:end].sum()))
    per_episode = index.lesions.per_episode
    lesion = int(per_episode[:start].sum())
    inside = {
        CLIENT: slice(first, end),
        STUDY: studies,
        IMAGE: rows,
        EPISODE: episodes,
        LESION: slice(lesion, lesion + int(per_episode[episodes].sum())),
        MARK: index.marks.of_rows(rows.start, rows.stop),
        SERIES: _pointed_to(index.series_of[rows]),
        UID: slice(*np.searchsorted(index.other_uid_of, [rows.start, rows.stop]).tolist()),
    }
    return Chunk(
        values=sliced(COLUMNS, values_of(index), inside),
        lists={name: getattr(index, name) for name in LISTS},
        client_studies=np.bincount(of_client[studies] - np.uint32(first), minlength=end - first).astype(np.uint32),
        study_images=np.diff(index.study_rows[studies.start : studies.stop + 1]),
        columns={name: column[rows].astype(np.uint32) for name, column in index.columns.items()},
        combinations=dict(index.combinations),
        texts={name: tuple(value.raw for value in values) for name, values in index.texts.items()},
        raw_images=_raw(index.raw_images, rows),
        raw_studies=_raw(index.raw_studies, studies),
        problems=[problem for name in index.clients.between(first, end) for problem in problems.get(name, ())],
        identity=index.identity[rows],
        client_identity=index.client_identity[first:end],
    )


def _pointed_to(pointers: NDArray[np.int32]) -> slice:
    """Return the slice of ordinals that pointers point to. It has no gaps."""
    known = pointers[pointers >= 0]
    return slice(int(known.min()), int(known.max()) + 1) if len(known) else slice(0, 0)


def _raw(names: Mapping[int, str], rows: slice) -> dict[int, str]:
    return {row - rows.start: name for row, name in names.items() if rows.start <= row < rows.stop}
