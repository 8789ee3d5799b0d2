"""Merging: joins the columns of chunks into one index.

``build`` and ``slices`` use it, in the thread that makes an index.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from omidbfs.base.names import printable
from omidbfs.database.file_kinds import DCM, JSON, KIND_NAMED
from omidbfs.database.layout import Source
from omidbfs.database.problems import Problem, problem_lines
from omidbfs.facets import FACETS, Facet, Kind
from omidbfs.index.chunk import Chunk
from omidbfs.index.codes import Bits
from omidbfs.index.columns import COLUMNS, FIRST_CODE, LISTS, Index, TextValue
from omidbfs.index.identity import client_identities, image_identities
from omidbfs.index.names import Names, NameTable, checksums, duplicated
from omidbfs.index.schema import fields_of, joined, smallest, united, without_unused


def merge(
    chunks: Sequence[Chunk],
    problems: Iterable[Problem],
    source: Source,
    previous: Index | None = None,
) -> Index:
    """Return the index of all chunks, which hold clients in ascending order.

    Images and clients that ``previous`` has keep their identities. An identity is never reused.
    """
    values, lists = joined(COLUMNS, LISTS, [chunk.values for chunk in chunks], [chunk.lists for chunk in chunks])
    images, studies, clients = values["images"], values["studies"], values["clients"]
    study_images = _joined(np.uint32, [chunk.study_images for chunk in chunks])
    client_studies = _joined(np.uint32, [chunk.client_studies for chunk in chunks])
    study_of = np.repeat(np.arange(len(studies), dtype=np.uint32), study_images)
    study_client = np.repeat(np.arange(len(clients), dtype=np.uint32), client_studies)
    study_rows = _boundaries(study_images)
    columns, texts, combinations = coded(chunks, [facet for facet in FACETS if facet.tokens is not None])
    identity, row_of = image_identities(chunks, previous)
    client_identity, client_ordinal = client_identities(chunks, previous)
    image_sums = _checksums([(chunk.values["images"], chunk.image_sums) for chunk in chunks])
    study_sums = _checksums([(chunk.values["studies"], chunk.study_sums) for chunk in chunks])
    duplicates = duplicated(images, image_sums)
    times = [values[f"{name}.mtime"] for name in (*KIND_NAMED, "documents")]
    index = Index(
        **fields_of(Index, values) | lists,
        image_table=NameTable.of(images, image_sums),
        study_table=NameTable.of(studies, study_sums),
        client_table=NameTable.of(clients),
        episode_table=NameTable.of(values["episodes.ids"]),
        study_of=study_of,
        client_of=study_client[study_of],
        study_client=study_client,
        study_rows=study_rows,
        client_rows=study_rows[_boundaries(client_studies)],
        identity=identity,
        row_of=row_of,
        client_identity=client_identity,
        client_ordinal=client_ordinal,
        columns=columns,
        combinations=combinations,
        texts=texts,
        duplicates=Bits.of(duplicates),
        studies_unique=not len(duplicated(studies, study_sums)),
        raw_images=dict(_raw_names([(len(chunk.values["images"]), chunk.raw_images) for chunk in chunks])),
        raw_studies=dict(_raw_names([(len(chunk.values["studies"]), chunk.raw_studies) for chunk in chunks])),
        newest=max((int(time.max()) for time in times if time.size), default=0),
        problem_lines=b"",
    )
    found = [*problems, *(problem for chunk in chunks for problem in chunk.problems)]
    found += (_duplicate(index, source, row) for row in duplicates.tolist())
    return replace(index, problem_lines=problem_lines(sorted(found)))


def _checksums(parts: Sequence[tuple[Names, NDArray[np.uint32] | None]]) -> NDArray[np.uint32]:
    return _joined(np.uint32, [checksums(names) if sums is None else sums for names, sums in parts])


def _duplicate(index: Index, source: Source, row: int) -> Problem:
    kind = JSON if index.has_file(row, JSON) else DCM
    label = source.data_label if kind is JSON else source.images_label
    place = os.fsdecode(index.image_path(row, kind))
    client = index.clients[int(index.client_of[row])].decode()
    names = f"{label}/{place}", client, *index.on_disk(row)
    file, *about = map(printable, names)
    return Problem(file, "duplicate-uid", "this image UID occurs more than once", *about)


_Scalar = TypeVar("_Scalar", bound=np.generic)


def _joined(dtype: type[_Scalar], parts: Sequence[NDArray[_Scalar]]) -> NDArray[_Scalar]:
    return np.concatenate(parts or [np.zeros(0, dtype)])


def _boundaries(counts: NDArray[np.uint32]) -> NDArray[np.uint32]:
    return np.concatenate([np.zeros(1, np.uint32), np.cumsum(counts, dtype=np.uint32)])


def coded(
    chunks: Sequence[Chunk], facets: Sequence[Facet]
) -> tuple[
    dict[str, NDArray[np.unsignedinteger]],
    dict[str, tuple[TextValue, ...]],
    dict[str, tuple[tuple[int, ...], ...]],
]:
    """Return the joined columns of facets, their texts and their combinations."""
    columns: dict[str, NDArray[np.unsignedinteger]] = {}
    texts: dict[str, tuple[TextValue, ...]] = {}
    combinations: dict[str, tuple[tuple[int, ...], ...]] = {}
    for facet in facets:
        parts: list[NDArray[np.unsignedinteger]] = [chunk.columns[facet.name] for chunk in chunks]
        if facet.kind is Kind.TEXT:
            texts[facet.name], tables = text_values(facet, [chunk.texts[facet.name] for chunk in chunks])
            parts = [table[part] for table, part in zip(tables, parts, strict=True)]
        elif facet.several:
            combinations[facet.name], tables = united([chunk.combinations[facet.name] for chunk in chunks], 0)
            parts = [table[part] for table, part in zip(tables, parts, strict=True)]
        column = np.concatenate([np.zeros(0, np.uint8), *parts])
        # A slice of an earlier index may have values that only removed images had.
        if facet.kind is Kind.TEXT:
            (column,), texts[facet.name] = without_unused([column], texts[facet.name], FIRST_CODE)
        elif facet.several:
            (column,), combinations[facet.name] = without_unused([column], combinations[facet.name], 0)
        columns[facet.name] = smallest(column)
    return columns, texts, combinations


def text_values(
    facet: Facet,
    dictionaries: Sequence[tuple[tuple[str, ...], ...]],
) -> tuple[tuple[TextValue, ...], list[NDArray[np.uint32]]]:
    """Return the values of all raw texts, sorted by name, and for each chunk the final code of each code."""
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
