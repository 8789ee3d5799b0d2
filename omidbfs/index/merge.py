"""Merging chunks: the columns of runs of clients become one index."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from omidbfs.base.names import printable
from omidbfs.database.file_kinds import DCM, JSON
from omidbfs.database.layout import DOCUMENTS, Source
from omidbfs.database.problems import Problem, problem_lines
from omidbfs.facets import FACETS, Facet, Kind
from omidbfs.index.chunk import Chunk
from omidbfs.index.columns import FIRST_CODE, FileColumns, Index, TextValue, smallest
from omidbfs.index.episodes import joined_episodes
from omidbfs.index.identity import client_identities, image_identities
from omidbfs.index.marks import joined_marks
from omidbfs.index.names import Names, NameTable, checksums, duplicated, joined_names, shorter


def merge(
    chunks: Sequence[Chunk],
    problems: Iterable[Problem],
    source: Source,
    previous: Index | None = None,
) -> Index:
    """Return the index of all chunks, which hold clients in ascending order.

    What the ``previous`` index knew keeps its identity; an identity is never used again.
    """
    images = joined_names([chunk.images for chunk in chunks])
    studies = joined_names([chunk.studies for chunk in chunks])
    clients = joined_names([chunk.clients for chunk in chunks])
    study_images = _joined(np.uint32, [chunk.study_images for chunk in chunks])
    client_studies = _joined(np.uint32, [chunk.client_studies for chunk in chunks])
    study_of = np.repeat(np.arange(len(studies), dtype=np.uint32), study_images)
    study_client = np.repeat(np.arange(len(clients), dtype=np.uint32), client_studies)
    study_rows = _boundaries(study_images)
    accesses = list(dict.fromkeys(access for chunk in chunks for access in chunk.accesses))
    access_codes = {access: code for code, access in enumerate(accesses, 1)}
    files = (
        _file_columns([(chunk, chunk.dcm) for chunk in chunks], access_codes),
        _file_columns([(chunk, chunk.json) for chunk in chunks], access_codes),
    )
    documents = _file_columns([(chunk, chunk.documents) for chunk in chunks], access_codes)
    shape = (len(clients), len(DOCUMENTS))
    documents = FileColumns(
        documents.size.reshape(shape), documents.mtime.reshape(shape), documents.access.reshape(shape)
    )
    columns, texts, combinations = _coded(chunks)
    identity, row_of = image_identities(chunks, previous)
    client_identity, client_ordinal = client_identities(chunks, previous)
    episodes = joined_episodes([chunk.episodes for chunk in chunks])
    study_episode = _study_episodes(chunks)
    image_sums = _checksums([(chunk.images, chunk.image_sums) for chunk in chunks])
    study_sums = _checksums([(chunk.studies, chunk.study_sums) for chunk in chunks])
    duplicates = duplicated(images, image_sums)
    newest = max((int(column.mtime.max()) for column in (*files, documents) if column.mtime.size), default=0)
    index = Index(
        images=images,
        image_table=NameTable.of(images, image_sums),
        studies=studies,
        study_table=NameTable.of(studies, study_sums),
        clients=clients,
        client_table=NameTable.of(clients),
        study_of=study_of,
        client_of=study_client[study_of],
        study_client=study_client,
        study_rows=study_rows,
        client_rows=study_rows[_boundaries(client_studies)],
        identity=identity,
        row_of=row_of,
        client_identity=client_identity,
        client_ordinal=client_ordinal,
        files=files,
        documents=documents,
        long_suffix=_joined(np.bool_, [chunk.long_suffix for chunk in chunks]),
        accesses=((0, 0, 0), *accesses),
        columns=columns,
        combinations=combinations,
        texts=texts,
        duplicates=BitMap(duplicates),
        studies_unique=not len(duplicated(studies, study_sums)),
        raw_images=dict(_raw_names([(len(chunk.images), chunk.raw_images) for chunk in chunks])),
        raw_studies=dict(_raw_names([(len(chunk.studies), chunk.raw_studies) for chunk in chunks])),
        newest=newest,
        problem_lines=b"",
        episodes=episodes,
        episode_table=NameTable.of(episodes.ids),
        study_episode=study_episode,
        study_date=_joined(np.int32, [chunk.study_date for chunk in chunks]),
        matrix=np.concatenate([np.zeros((0, 2), np.uint16), *(chunk.matrix for chunk in chunks)]),
        marks=joined_marks([(len(chunk.images), chunk.marks) for chunk in chunks]),
        client_digest=_joined(np.uint64, [chunk.client_digest for chunk in chunks]),
    )
    found = [*problems, *(problem for chunk in chunks for problem in chunk.problems)]
    found += (_duplicate(index, source, row) for row in duplicates.tolist())
    return replace(index, problem_lines=problem_lines(sorted(found)))


def _checksums(parts: Sequence[tuple[Names, NDArray[np.uint32] | None]]) -> NDArray[np.uint32]:
    return _joined(np.uint32, [checksums(names) if sums is None else sums for names, sums in parts])


def _study_episodes(chunks: Sequence[Chunk]) -> NDArray[np.int32]:
    parts, first = [], 0
    for chunk in chunks:
        parts.append(np.where(chunk.study_episode < 0, np.int32(-1), chunk.study_episode + np.int32(first)))
        first += len(chunk.episodes.type)
    return _joined(np.int32, parts)


def _duplicate(index: Index, source: Source, row: int) -> Problem:
    kind = JSON if index.has_file(row, JSON) else DCM
    label = source.data_label if kind is JSON else source.images_label
    place = printable(os.fsdecode(index.image_path(row, kind)))
    return Problem(f"{label}/{place}", "duplicate-uid", "this image UID occurs more than once")


_Scalar = TypeVar("_Scalar", bound=np.generic)
_Value = TypeVar("_Value")


def _joined(dtype: type[_Scalar], parts: Sequence[NDArray[_Scalar]]) -> NDArray[_Scalar]:
    return np.concatenate(parts or [np.zeros(0, dtype)])


def _boundaries(counts: NDArray[np.uint32]) -> NDArray[np.uint32]:
    return np.concatenate([np.zeros(1, np.uint32), np.cumsum(counts, dtype=np.uint32)])


def _file_columns(
    parts: Sequence[tuple[Chunk, FileColumns]], access_codes: dict[tuple[int, int, int], int]
) -> FileColumns:
    code_type = np.promote_types(np.uint16, np.min_scalar_type(len(access_codes)))
    access = [
        np.array([0, *(access_codes[key] for key in chunk.accesses)], code_type)[files.access]
        for chunk, files in parts
    ]
    return FileColumns(
        shorter(np.concatenate([np.zeros(0, np.uint64), *(files.size for _, files in parts)])),
        _joined(np.int64, [files.mtime for _, files in parts]),
        np.concatenate([np.zeros(0, np.uint16), *access]),
    )


def _coded(
    chunks: Sequence[Chunk],
) -> tuple[
    dict[str, NDArray[np.unsignedinteger]],
    dict[str, tuple[TextValue, ...]],
    dict[str, tuple[tuple[int, ...], ...]],
]:
    columns: dict[str, NDArray[np.unsignedinteger]] = {}
    texts: dict[str, tuple[TextValue, ...]] = {}
    combinations: dict[str, tuple[tuple[int, ...], ...]] = {}
    for facet in FACETS:
        if facet.tokens is None:
            continue
        parts: list[NDArray[np.unsignedinteger]] = [chunk.columns[facet.name] for chunk in chunks]
        if facet.kind is Kind.TEXT:
            texts[facet.name], tables = text_values(facet, [chunk.texts[facet.name] for chunk in chunks])
            parts = [table[part] for table, part in zip(tables, parts, strict=True)]
        elif facet.several:
            combinations[facet.name], tables = _combined([chunk.combinations[facet.name] for chunk in chunks])
            parts = [table[part] for table, part in zip(tables, parts, strict=True)]
        column = np.concatenate([np.zeros(0, np.uint8), *parts])
        # A slice of an earlier index brings along what only images that are gone had.
        if facet.kind is Kind.TEXT:
            column, texts[facet.name] = without_unused(column, texts[facet.name], FIRST_CODE)
        elif facet.several:
            column, combinations[facet.name] = without_unused(column, combinations[facet.name], 0)
        columns[facet.name] = smallest(column)
    return columns, texts, combinations


def _combined(
    parts: Sequence[tuple[tuple[int, ...], ...]],
) -> tuple[tuple[tuple[int, ...], ...], list[NDArray[np.uint32]]]:
    """Return the combinations of all chunks in ascending order, and for each chunk its codes' final codes."""
    combinations = sorted({combination for part in parts for combination in part})
    code_of = {combination: code for code, combination in enumerate(combinations)}
    return tuple(combinations), [np.array([code_of[one] for one in part], np.uint32) for part in parts]


def without_unused(
    column: NDArray[np.unsignedinteger], values: tuple[_Value, ...], first: int
) -> tuple[NDArray[np.unsignedinteger], tuple[_Value, ...]]:
    """Return column and values without the values that no image has; codes of values count from ``first``."""
    is_used = np.zeros(first + len(values), np.bool_)
    is_used[:first] = True
    is_used[column] = True
    codes = np.cumsum(is_used, dtype=np.uint32) - np.uint32(1)
    return codes[column], tuple(value for code, value in enumerate(values, first) if is_used[code])


def text_values(
    facet: Facet,
    dictionaries: Sequence[tuple[tuple[str, ...], ...]],
) -> tuple[tuple[TextValue, ...], list[NDArray[np.uint32]]]:
    """Return the values of all raw texts, sorted by name, and for each chunk its codes' final codes."""
    raw_of: dict[str, set[str]] = {}
    for raw in {raw for texts in dictionaries for several in texts for raw in several}:
        raw_of.setdefault(facet.label(raw), set()).add(raw)
    values = tuple(TextValue(label, tuple(sorted(raw_of[label]))) for label in sorted(raw_of))
    code_of = {raw: code for code, value in enumerate(values, FIRST_CODE) for raw in value.raw}
    reserved = list(range(FIRST_CODE))
    return values, [np.array(reserved + [code_of[raw] for raw, *_ in texts], np.uint32) for texts in dictionaries]


def _raw_names(parts: Sequence[tuple[int, dict[int, str]]]) -> Iterator[tuple[int, str]]:
    first = 0
    for count, raw in parts:
        yield from ((first + ordinal, name) for ordinal, name in raw.items())
        first += count
