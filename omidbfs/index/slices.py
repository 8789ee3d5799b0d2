"""Parts of an index as chunks: what a refresh takes over of the clients that have not changed."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from omidbfs.database.layout import Source
from omidbfs.database.problems import Problem
from omidbfs.index.chunk import Chunk
from omidbfs.index.columns import FileColumns, Index
from omidbfs.index.episodes import COLUMNS, EpisodeColumns
from omidbfs.index.merge import merge
from omidbfs.index.user_facets import carried_over


def slices_of(
    index: Index, clients: Sequence[bytes], problems: Mapping[bytes, Sequence[Problem]]
) -> Iterator[Chunk]:
    """Yield chunks with the columns of ``clients``, each a run of neighbours in the index, and their problems."""
    ordinals = np.array([index.client_table.find(client)[0] for client in clients], np.intp)
    for run in np.split(ordinals, np.flatnonzero(np.diff(ordinals) != 1) + 1):
        yield _slice(index, int(run[0]), int(run[-1]) + 1, problems)


def problems_by_client(index: Index) -> Mapping[bytes, Sequence[Problem]]:
    """Return the problems of each client, but for those that are found anew whenever an index is made."""
    problems: dict[bytes, list[Problem]] = {}
    for problem in index.each_problem():
        if problem.client and problem.kind != "duplicate-uid":
            problems.setdefault(problem.client.encode(), []).append(problem)
    return problems


def only_clients(index: Index, clients: Collection[str], problems: Iterable[Problem], source: Source) -> Index:
    """Return an index with some of the clients, under the identities that they have in the whole.

    ``problems`` are added to those of the trees and of the clients.
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
    episodes = slice(int(per_client[:first].sum()), int(per_client[:end].sum()))
    clients = slice(first, end)
    return Chunk(
        clients=index.clients.between(first, end),
        studies=index.studies.between(studies.start, studies.stop),
        images=index.images.between(rows.start, rows.stop),
        client_studies=np.bincount(of_client[studies] - np.uint32(first), minlength=end - first).astype(np.uint32),
        study_images=np.diff(index.study_rows[studies.start : studies.stop + 1]),
        study_episode=_shifted(index.study_episode[studies], episodes.start),
        study_date=index.study_date[studies],
        matrix=index.matrix[rows],
        marks=index.marks.part(rows),
        episodes=_episodes(index.episodes, clients, episodes),
        dcm=_files(index.files[0], rows),
        json=_files(index.files[1], rows),
        documents=_files(index.documents, clients),
        long_suffix=index.long_suffix[rows],
        accesses=index.accesses[1:],
        columns={name: column[rows].astype(np.uint32) for name, column in index.columns.items()},
        combinations=dict(index.combinations),
        texts={name: tuple(value.raw for value in values) for name, values in index.texts.items()},
        raw_images=_raw(index.raw_images, rows),
        raw_studies=_raw(index.raw_studies, studies),
        problems=[problem for name in index.clients.between(first, end) for problem in problems.get(name, ())],
        client_digest=index.client_digest[clients],
        identity=index.identity[rows],
        client_identity=index.client_identity[clients],
    )


def _files(files: FileColumns, rows: slice) -> FileColumns:
    return FileColumns(files.size[rows].reshape(-1), files.mtime[rows].reshape(-1), files.access[rows].reshape(-1))


def _episodes(episodes: EpisodeColumns, clients: slice, rows: slice) -> EpisodeColumns:
    columns = {name: getattr(episodes, name)[clients if name == "per_client" else rows] for name in COLUMNS}
    return EpisodeColumns(ids=episodes.ids.between(rows.start, rows.stop), **columns)


def _shifted(pointers: NDArray[np.int32], start: int) -> NDArray[np.int32]:
    return np.where(pointers < 0, np.int32(-1), pointers - np.int32(start))


def _raw(names: Mapping[int, str], rows: slice) -> dict[int, str]:
    return {row - rows.start: name for row, name in names.items() if rows.start <= row < rows.stop}
