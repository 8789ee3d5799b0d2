"""The columns of facets that a user defines. They are made after all other columns.

``build`` and ``slices`` use it. The workers of an executor read the source, and only the files that the facets
need. All else runs in the calling thread.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import msgspec
import numpy as np
from numpy.typing import NDArray

from omidbfs.database.client import ClientReader
from omidbfs.database.dataset import numbered
from omidbfs.database.file_kinds import DCM, JSON
from omidbfs.database.header import JsonError, load_json
from omidbfs.database.layout import Source
from omidbfs.database.problems import OF_LISTS, Problem, problem_lines
from omidbfs.facets import OTHER, UNKNOWN, UNLINKED, Level, Registry
from omidbfs.facets.defined import Definition
from omidbfs.facets.lists import lost
from omidbfs.index.columns import FIRST_CODE, RESERVED_CODES, Index, TextValue
from omidbfs.index.executors import Work, in_order
from omidbfs.index.identity import NOBODY
from omidbfs.index.lanes import Admit, Reading
from omidbfs.index.levels import levels_of
from omidbfs.index.schema import smallest

_raw = msgspec.json.Decoder(dict[str, msgspec.Raw])


@dataclass(frozen=True, slots=True)
class _Image:
    """An image whose label a worker finds; ``sidecar`` is the suffix of its JSON, empty for none."""

    study: str
    name: str
    sidecar: str
    has_dcm: bool
    episode: str | None


_Task = tuple[str, str, list[_Image]]
"""A client, its NBSS document (empty for none), its images."""


def with_user_facets(
    index: Index,
    source: Source,
    wanted: Sequence[Definition],
    previous: Index | None,
    work: Work,
    clients_per_chunk: int,
) -> Index:
    """Return an index in which ``wanted`` are the facets that the user defines.

    The labels of unchanged clients are copied from ``previous`` if it has a facet with the same definition.
    """
    if not wanted and not index.registry.user:
        return index
    columns = {name: column for name, column in index.columns.items() if name not in _names(index)}
    texts = {name: values for name, values in index.texts.items() if name not in _names(index)}
    labels = {one.name: np.full(len(index), "", object) for one in wanted}
    needed: dict[str, NDArray[np.bool_]] = {}
    of_tables: list[Problem] = []
    for one in wanted:
        if one.table is not None:
            labels[one.name], problems = _from_table(index, one, one.table)
            of_tables += problems
            continue
        needed[one.name] = np.ones(len(index.clients), np.bool_)
        if previous is not None and one.facet() in previous.registry.user:
            labels[one.name], needed[one.name] = _carried(index, previous, one.name)
    for pattern, clients in _patterns(index, [one for one in wanted if one.table is None], needed).items():
        runs = [clients[start : start + clients_per_chunk] for start in range(0, len(clients), clients_per_chunk)]
        _read(index, source, pattern, runs, labels, work)
    for one in wanted:
        known = [TextValue(name, tuple(text for text, to in one.texts if to == name)) for name in one.ordered()]
        columns[one.name], texts[one.name] = _coded(known, labels[one.name])
    lines = index.problem_lines
    if of_tables or index.registry.user:
        others = [problem for problem in index.problems if problem.kind not in OF_LISTS]
        lines = problem_lines(sorted([*others, *of_tables]))
    registry = Registry(tuple(one.facet() for one in wanted))
    return replace(index, columns=columns, texts=texts, registry=registry, problem_lines=lines)


def carried_over(index: Index, previous: Index) -> Index:
    """Return ``index``, a part of ``previous``, with the facets of the user that ``previous`` has."""
    columns, texts = dict(index.columns), dict(index.texts)
    for facet in previous.registry.user:
        labels, _ = _carried(index, previous, facet.name)
        columns[facet.name], texts[facet.name] = _coded(previous.texts[facet.name], labels)
    return replace(index, columns=columns, texts=texts, registry=previous.registry)


def _names(index: Index) -> set[str]:
    return {facet.name for facet in index.registry.user}


def _carried(index: Index, previous: Index, name: str) -> tuple[NDArray[np.object_], NDArray[np.bool_]]:
    """Return the labels of the rows that the previous index has, and which clients are new or changed."""
    inverse = np.append(previous.client_ordinal, np.uint32(NOBODY))
    before = inverse[np.minimum(index.client_identity, len(inverse) - 1)]
    missing = before == NOBODY
    missing[~missing] = previous.client_digest[before[~missing]] != index.client_digest[~missing]
    rows = np.append(previous.row_of, np.uint32(NOBODY))[np.minimum(index.identity, len(previous.row_of))]
    known = ~missing[index.client_of] & (rows != NOBODY)
    names = np.array([*RESERVED_CODES, *(value.label for value in previous.texts[name])], object)
    labels = np.full(len(index), "", object)
    labels[known] = names[previous.columns[name][rows[known]]]
    return labels, missing


def _from_table(
    index: Index, one: Definition, table: Sequence[tuple[str, str]]
) -> tuple[NDArray[np.object_], list[Problem]]:
    """Return the labels from a table, and a problem for each identifier that is missing or has contradictory rows.

    A contradiction has the label ``other``.
    """
    members = levels_of(index)[one.level]
    label_of = {text: one.label(text) for text in {text for _, text in table}}
    of_member = [""] * members.total()
    contested: dict[int, dict[str, None]] = {}
    missing: dict[str, str] = {}
    for identifier, text in table:
        ordinals, label = members.named(identifier), label_of[text]
        if not ordinals:
            missing[identifier] = ""
        for ordinal in ordinals:
            if of_member[ordinal] not in ("", label):
                contested.setdefault(ordinal, {of_member[ordinal]: None})[label] = None
            of_member[ordinal] = label
    contradictory: dict[str, str] = {}
    names = members.names(np.fromiter(contested, np.intp))
    for name, (ordinal, contradiction) in zip(names, contested.items(), strict=True):
        of_member[ordinal] = OTHER
        contradictory[name.decode()] = f": {', '.join(contradiction)}"
    where = f"in the table of the facet {one.name}"
    problems = [*lost("entry-missing", where, missing), *lost("entry-conflict", where, contradictory)]
    labels = np.array([label or UNKNOWN for label in of_member], object)
    return labels[members.ordinals(np.arange(len(index), dtype=np.uint32))], problems


def _coded(
    known: Sequence[TextValue], labels: NDArray[np.object_]
) -> tuple[NDArray[np.unsignedinteger], tuple[TextValue, ...]]:
    """Return the column of labels, and the values of its codes: first the ``known`` ones, in their order."""
    order = {value.label: place for place, value in enumerate(known)}
    raw = {value.label: value.raw for value in known}
    found = {str(label) for label in labels.tolist()} - RESERVED_CODES.keys()
    values = sorted(found, key=lambda label: (order.get(label, len(order)), label))
    codes = {**RESERVED_CODES, **{label: code for code, label in enumerate(values, FIRST_CODE)}}
    column = np.fromiter(map(codes.__getitem__, labels.tolist()), np.uint32, len(labels))
    return smallest(column), tuple(TextValue(label, raw.get(label, ())) for label in values)


# Reading ------------------------------------------------------------------------------------------------------


def _patterns(
    index: Index, wanted: Sequence[Definition], needed: Mapping[str, NDArray[np.bool_]]
) -> dict[tuple[Definition, ...], list[int]]:
    """Return the clients that have to be read, grouped by the definitions that they need."""
    patterns: dict[tuple[Definition, ...], list[int]] = {}
    with_images = np.flatnonzero(index.client_rows[1:] > index.client_rows[:-1]).tolist() if wanted else []
    for client in with_images:
        pattern = tuple(one for one in wanted if needed[one.name][client])
        if pattern:
            patterns.setdefault(pattern, []).append(client)
    return patterns


def _read(
    index: Index,
    source: Source,
    wanted: Sequence[Definition],
    runs: Sequence[Sequence[int]],
    labels: Mapping[str, NDArray[np.object_]],
    work: Work,
) -> None:
    """Set the labels of the images of some clients."""
    tasks = ([_task(index, client) for client in run] for run in runs)
    found = in_order(work.executor, work.workers, partial(read_labels, source, wanted), tasks)
    done, total = 0, sum(map(len, runs))
    for run, of_run in zip(runs, found, strict=True):
        for client, of_client in zip(run, of_run, strict=True):
            rows = slice(int(index.client_rows[client]), int(index.client_rows[client + 1]))
            for one, values in zip(wanted, of_client, strict=True):
                labels[one.name][rows] = values
        done += len(run)
        if work.progress is not None:
            work.progress("reading facets of", done, total, 0)


def _task(index: Index, client: int) -> _Task:
    slots = np.flatnonzero(index.documents.access[client]).tolist()
    names = [index.document_name(client, slot).decode() for slot in slots]
    nbss = next((name for name in names if name.lower().startswith("nbss_")), "")
    images = []
    for row in range(int(index.client_rows[client]), int(index.client_rows[client + 1])):
        study, image = index.on_disk(row)
        episode = int(index.study_episode[index.study_of[row]])
        id_ = index.episodes.ids[episode].decode("utf-8", "surrogatepass") if episode >= 0 else None
        sidecar = index.sidecar_suffix(row) if index.has_file(row, JSON) else ""
        images.append(_Image(study, image, sidecar, index.has_file(row, DCM), id_))
    return index.clients[client].decode(), nbss, images


def read_labels(source: Source, wanted: Sequence[Definition], tasks: Sequence[_Task]) -> list[list[list[str]]]:
    """Return, for each client and each definition, the label of each image."""
    labels: list[list[list[str]]] = []
    with ClientReader(source) as reader:

        def read(task: _Task, admit: Admit) -> list[list[str]]:
            return _labels(reader, wanted, task)

        Reading(read, labels.append).all_of(tasks)
    return labels


def _labels(reader: ClientReader, wanted: Sequence[Definition], task: _Task) -> list[list[str]]:
    client, nbss, images = task
    document = reader.document(client, nbss) if nbss and any(one.nbss for one in wanted) else {}
    found: list[list[str]] = [[] for _ in wanted]
    tags = [one.tag for one in wanted if one.tag]
    for image in images:
        attributes = _attributes(reader, client, image, tags) if tags else {}
        for one, labels in zip(wanted, found, strict=True):
            if one.tag:
                value = attributes.get(one.tag)
            else:
                value = _at(document if one.level is Level.CLIENT else document.get(image.episode or ""), one.nbss)
                if one.level is Level.EPISODE and image.episode is None:
                    labels.append(UNLINKED)
                    continue
            labels.append(OTHER if isinstance(value, (dict, list)) and value else one.label(_text(value)))
    return found


def _at(value: object, path: Sequence[str]) -> object:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _text(value: object) -> str | None:
    """Return a value as text; ``None`` for a missing, nested or anonymised value."""
    if value is None or isinstance(value, (dict, list)) or value == "Data anonymised":
        return None
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)


def _attributes(
    reader: ClientReader, client: str, image: _Image, paths: Sequence[tuple[str, ...]]
) -> dict[tuple[str, ...], object]:
    """Return the value at each path of tags, from the sidecar, or else from the DICOM header."""
    if image.sidecar:
        content = reader.content(client, image.study, f"{image.name}{image.sidecar}")
        try:
            elements: Mapping[str, object] | None
            raw = _raw.decode(content)
            firsts = {numbered(path[0])[0] for path in paths}
            elements = {tag: msgspec.json.decode(raw[tag]) for tag in firsts if tag in raw}
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            try:
                elements = load_json(content)
            except JsonError:
                elements = None
        if elements is not None:
            return {path: _first(elements, path) for path in paths}
    return {**reader.attributes(client, image.study, image.name, paths)} if image.has_dcm else {}


def _first(elements: Mapping[str, object], path: Sequence[str]) -> object:
    value: object = elements
    for part in path:
        tag, place = numbered(part)
        element = value.get(tag) if isinstance(value, dict) else None
        values = element.get("Value") if isinstance(element, dict) else None
        value = values[place - 1] if isinstance(values, list) and len(values) >= place else None
    return value.get("Alphabetic") if isinstance(value, dict) and "Alphabetic" in value else value
