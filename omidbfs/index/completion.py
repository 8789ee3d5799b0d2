"""Completion: adds the facets that a saved index lacks, because they are new or their definition changed.

``build.py`` uses it, in the thread that makes an index. The workers of its executor read the source.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from omidbfs.database.layout import Source
from omidbfs.facets import BY_NAME, Level
from omidbfs.index.chunk import Chunk, read_chunk
from omidbfs.index.columns import Index
from omidbfs.index.executors import Work, in_order
from omidbfs.index.merge import coded

_OF_DOCUMENTS = (Level.CLIENT, Level.EPISODE)
"""Levels of facets that depend only on NBSS and ImageDB."""


def needs_everything(index: Index) -> bool:
    """Return whether a facet that the index lacks needs headers, so that every client has to be read."""
    lacking = [BY_NAME[name] for name in index.lacking]
    return any(facet.tags or facet.level not in _OF_DOCUMENTS for facet in lacking)


def completed(index: Index, source: Source, runs: Sequence[Sequence[str]], work: Work) -> tuple[Index, set[str]]:
    """Return the index with the facets that it lacks, and the clients that must be read anew.

    Those are clients whose files have changed meanwhile, or whose documents could not be read. Only documents of
    clients are read. ``runs`` are the clients to read, whose files the index describes. All other clients have no
    valid values of the new facets.
    """
    facets = [BY_NAME[name] for name in index.lacking]
    read = in_order(work.executor, work.workers, partial(read_documents, source), runs)
    chunks: list[Chunk] = []
    rows, is_known = [np.zeros(0, np.intp)], [np.zeros(0, np.bool_)]
    changed: set[str] = set()
    done, total = 0, sum(map(len, runs))
    for run, chunk in zip(runs, read, strict=True):
        chunks.append(chunk)
        ordinals = np.array([index.client_table.find(client.encode())[0] for client in run], np.intp)
        is_same = index.client_digest[ordinals] == chunk.values["client_digest"]
        changed |= {client for client, same in zip(run, is_same.tolist(), strict=True) if not same}
        changed |= {problem.client for problem in chunk.problems if problem.kind == "unreadable"}
        study_client = np.repeat(np.arange(len(run)), chunk.client_studies)
        is_known.append(is_same[np.repeat(study_client, chunk.study_images)])
        starts, ends = index.client_rows[ordinals[is_same]], index.client_rows[ordinals[is_same] + 1]
        rows += [np.arange(start, end) for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
        done += len(run)
        if work.progress is not None:
            work.progress("reading facets of", done, total, 0)
    columns, texts, combinations = coded(chunks, facets)
    for name, column in columns.items():
        columns[name] = np.zeros(len(index), column.dtype)
        columns[name][np.concatenate(rows)] = column[np.concatenate(is_known)]
    return replace(
        index,
        columns={**index.columns, **columns},
        texts={**index.texts, **texts},
        combinations={**index.combinations, **combinations},
    ), changed


def read_documents(source: Source, clients: Sequence[str]) -> Chunk:
    """Return the chunk of some clients, from NBSS and ImageDB only. Facets that depend on headers are invalid."""
    return read_chunk(source, clients, headers=False)
