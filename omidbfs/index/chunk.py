"""Chunks: a chunk holds the columns of a run of clients.

The workers of an executor make chunks (:func:`read_chunk`), and ``merge`` joins them into an index. A
:class:`ChunkBuilder` belongs to one thread at a time. ``slices`` cuts chunks out of an index.
"""

import os
from array import array
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omidbfs.base.names import LONGEST, safe_bytes
from omidbfs.clinical.client import ClientRecord, client_record
from omidbfs.clinical.outcomes import EpisodeFacts, Windows, client_status, decided, episode_facts
from omidbfs.database.client import ClientReader
from omidbfs.database.client_files import ClientFiles, bytes_to_read, listing_digest
from omidbfs.database.header import Header
from omidbfs.database.layout import DOCUMENTS, Scanner, Source
from omidbfs.database.pixel_format import (
    format_key,
    format_of,
    geometry_key,
    geometry_of,
    orientation_key,
    orientation_of,
    uid,
)
from omidbfs.database.problems import Problem
from omidbfs.database.records import FileFacts
from omidbfs.facets import FACETS, UNKNOWN, Facet, Kind, Level, Subject, Token
from omidbfs.index.columns import COLUMNS, FIRST_CODE, LISTS, RESERVED_CODES
from omidbfs.index.episodes import add_episodes
from omidbfs.index.lanes import Admit, Reading
from omidbfs.index.lesions import add_lesions
from omidbfs.index.marks import add_marks
from omidbfs.index.names import Names, checksums
from omidbfs.index.schema import Column, Values, smallest

_Read = tuple[ClientRecord, int, list[Problem]]
"""A client, the digest of its files, and the problems found in them."""

Keys = Callable[[Subject], Hashable]


def _by_dependence(levels: Collection[Level]) -> dict[Keys, tuple[Facet, ...]]:
    """Return the coded facets of some levels, grouped by ``depends_on``."""
    groups: dict[Keys, list[Facet]] = {}
    for facet in FACETS:
        if facet.tokens is not None and facet.level in levels:
            assert facet.depends_on is not None, facet.name
            groups.setdefault(facet.depends_on, []).append(facet)
    return {keys: tuple(facets) for keys, facets in groups.items()}


_CODED = tuple(facet for facet in FACETS if facet.tokens is not None)
_OF_CLIENT = tuple(facet for facet in _CODED if facet.level is Level.CLIENT)
_OF_STUDY = _by_dependence((Level.EPISODE, Level.STUDY))
_OF_IMAGE = _by_dependence((Level.IMAGE, Level.MARK, Level.LESION))
_OTHER = RESERVED_CODES["other"]
_TABLE_CODES = {
    facet.name: {value.code: code for code, value in enumerate(facet.values, FIRST_CODE)} for facet in _CODED
}

_UID_BYTES = b"0123456789."

Accesses = dict[tuple[int, int, int] | None, int]
Codes = tuple[int | tuple[int, ...], ...]
"""The code of each facet of a group, or its codes if the facet has several values."""


class _Known(dict[Token, int]):
    """Token -> code of one facet. A new free text gets the next code and is appended to ``texts``."""

    def __init__(self, facet: Facet) -> None:
        super().__init__()
        self.facet = facet
        self.texts: list[str] = []

    def __missing__(self, token: Token) -> int:
        code = self[token] = self._code(token)
        return code

    def _code(self, token: Token) -> int:
        facet = self.facet
        if isinstance(token, int):
            return token - facet.lowest + FIRST_CODE if facet.lowest <= token <= facet.highest else _OTHER
        if token is None:
            return RESERVED_CODES[UNKNOWN]
        if facet.kind is Kind.TEXT:
            self.texts.append(token)
            return FIRST_CODE + len(self.texts) - 1
        code = RESERVED_CODES.get(token)
        return _TABLE_CODES[facet.name][token] if code is None else code


@dataclass(slots=True)
class _Table:
    """The codes of a group of facets: ``rows`` has a position in ``codes`` for each study or image.

    Studies or images with equal keys share their codes. ``known`` maps a key to its position.
    """

    facets: tuple[Facet, ...]
    key_of: Keys
    known: dict[Hashable, int] = field(default_factory=dict)
    codes: list[Codes] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Chunk:
    """The columns of some clients; :class:`~omidbfs.index.columns.Index` describes their meaning.

    ``values`` are the columns of ``COLUMNS`` by name, and ``lists`` holds the entries that their codes stand for.
    Rows, ordinals and the codes of lists, texts and combinations count from the start of the chunk.
    ``client_studies`` is the number of studies of each client, and ``study_images`` the number of images of each
    study. ``texts`` holds, for each code of a free-text facet, the texts that it stands for. A slice of an index
    has ``identity`` and ``client_identity``. A chunk that was read has ``image_sums`` and ``study_sums``, the
    checksums of names.
    """

    values: Values
    lists: dict[str, Sequence[Any]]
    client_studies: NDArray[np.uint32]
    study_images: NDArray[np.uint32]
    columns: dict[str, NDArray[np.unsignedinteger]]
    combinations: dict[str, tuple[tuple[int, ...], ...]]
    texts: dict[str, tuple[tuple[str, ...], ...]]
    raw_images: dict[int, str]
    raw_studies: dict[int, str]
    problems: list[Problem]
    image_sums: NDArray[np.uint32] | None = None
    study_sums: NDArray[np.uint32] | None = None
    identity: NDArray[np.uint32] | None = None
    client_identity: NDArray[np.uint32] | None = None


@dataclass(slots=True)
class _Listing:
    """The entries of a list in the order of their first use, and ``codes``, the column with their positions.

    Headers with equal keys share an entry. ``known`` maps a key to its position.
    """

    nothing: tuple[Any, ...]
    key_of: Callable[[Header], Hashable]
    entry_of: Callable[[Header], tuple[Any, ...]]
    codes: "array[int]"
    known: dict[Hashable, int] = field(default_factory=dict)
    entries: dict[tuple[Any, ...], int] = field(init=False)

    def __post_init__(self) -> None:
        self.entries = {self.nothing: 0}

    def extend(self, headers: Sequence[Header]) -> None:
        """Append the codes of headers."""
        key_of, known, codes = self.key_of, self.known, self.codes
        for header in headers:
            code = known.get(key_of(header))
            codes.append(self._new(header) if code is None else code)

    def _new(self, header: Header) -> int:
        code = self.entries.setdefault(self.entry_of(header), len(self.entries))
        self.known[self.key_of(header)] = code
        return code


_matrix = attrgetter("Rows", "Columns")


def _numbers(column: Column) -> "array[int]":
    return array("Q" if column.dtype is np.uint64 else "d" if column.dtype is np.float64 else "q")


class ChunkBuilder:
    """Takes clients in ascending order and makes their chunk.

    Most images share their attributes with others, so the codes of a header are computed once and cached.
    Attributes that few images share, such as the client's age, have caches of their own. Coding every image
    separately would take a third of the time of reading the source (scripts/bench index).
    """

    def __init__(self, problems: list[Problem]) -> None:
        self._problems = problems
        # Numbers in arrays, not records: every object that is kept makes further allocations slower.
        self._found: dict[str, Any] = {one.name: [] if one.dtype is None else _numbers(one) for one in COLUMNS}
        self._accesses: Accesses = {None: 0}
        self._listings = {
            name: _Listing(LISTS[name].nothing, key_of, entry_of, self._found[codes])
            for name, codes, key_of, entry_of in (
                ("pixel_formats", "format_of", format_key, format_of),
                ("geometries", "geometry_of", geometry_key, geometry_of),
                ("orientations", "orientation_of", orientation_key, orientation_of),
            )
        }
        self._studies: list[str] = []
        self._images: list[str] = []
        self._client_studies: list[int] = []
        self._study_images: list[int] = []
        self._client_codes: list[Codes] = []
        self._of_study = [_Table(facets, keys) for keys, facets in _OF_STUDY.items()]
        self._of_image = [_Table(facets, keys) for keys, facets in _OF_IMAGE.items()]
        self._known = {facet.name: _Known(facet) for facet in _CODED}

    def add(self, client: ClientRecord, digest: int) -> None:
        """Append the rows of one client, and the digest of the client's files."""
        found = self._found
        found["clients"].append(client.name.encode())
        found["client_digest"].append(digest)
        self._add_files("documents", [client.documents.get(f"{prefix}{client.name}.json") for prefix in DOCUMENTS])
        subject = subject_of(client)
        first_episode = len(found["episodes.ids"])
        episodes = client.nbss.episodes if client.nbss is not None else ()
        add_episodes(found, episodes, list(subject.facts.values()), list(subject.outcomes.values()))
        add_lesions(found, episodes)
        position = {id_: first_episode + number for number, id_ in enumerate(subject.facts)}
        series: dict[str, int] = {}
        studies = [study for study in client.studies if study.images]
        self._client_studies.append(len(studies))
        self._client_codes.append(self._codes(_OF_CLIENT, subject))
        for study in studies:
            subject.study = study
            images = study.images
            self._studies.append(study.name)
            self._study_images.append(len(images))
            found["study_episode"].append(-1 if study.episode is None else position[study.episode.id])
            found["study_date"].append(0 if study.date is None else study.date.toordinal())
            for table in self._of_study:
                row = table.known.get(table.key_of(subject))
                table.rows.append(self._new_row(table, subject) if row is None else row)
            first_row = len(self._images)
            self._images += [image.name for image in images]
            self._add_files("dcm", [image.dcm for image in images])
            self._add_files("json", [image.sidecar for image in images])
            found["long_suffix"].extend([image.sidecar_suffix == ".dcm.json" for image in images])
            found["matrix"].extend([side or 0 for image in images for side in _matrix(image.header)])
            headers = [image.header for image in images]
            self._listings["pixel_formats"].extend([image.pixels or image.header for image in images])
            self._listings["geometries"].extend(headers)
            self._listings["orientations"].extend(headers)
            found["series_of"].extend([self._series(series, header.SeriesInstanceUID) for header in headers])
            for row, image in enumerate(images, first_row):
                if image.header.SOPInstanceUID != image.name:
                    found["other_uid_of"].append(row)
                    found["other_uids"].append(uid(image.header.SOPInstanceUID))
                if image.listed is not None and image.listed.marks:
                    add_marks(found, row, image.listed.marks)
            # Table by table, not image by image: looking up the attributes of a table would take 2 us an image.
            for table in self._of_image:
                key_of, known, rows = table.key_of, table.known, table.rows
                for image in images:
                    subject.image = image
                    place = known.get(key_of(subject))
                    rows.append(self._new_row(table, subject) if place is None else place)

    def _series(self, known: dict[str, int], name: str | None) -> int:
        """Return the ordinal of a series of a client, -1 for none; a new series gets the next ordinal."""
        if name is None:
            return -1
        ordinal = known.get(name)
        if ordinal is None:
            names, encoded = self._found["series_uids"], uid(name)
            ordinal = known[name] = len(names) if encoded else -1
            names += [encoded] if encoded else []
        return ordinal

    def _add_files(self, name: str, facts: Sequence[FileFacts | None]) -> None:
        """Append the facts of files, ``None`` for a missing file."""
        found, accesses = self._found, self._accesses
        found[f"{name}.size"].extend([0 if fact is None else fact.size for fact in facts])
        found[f"{name}.mtime"].extend([0 if fact is None else fact.mtime_ns for fact in facts])
        codes = found[f"{name}.access"]
        for fact in facts:
            access = None if fact is None else (fact.mode, fact.uid, fact.gid)
            code = accesses.get(access)
            codes.append(accesses.setdefault(access, len(accesses)) if code is None else code)

    def _new_row(self, table: _Table, subject: Subject) -> int:
        """Return the position of new codes, those of the current study or image."""
        row = table.known[table.key_of(subject)] = len(table.codes)
        table.codes.append(self._codes(table.facets, subject))
        return row

    def _codes(self, facets: Sequence[Facet], subject: Subject) -> Codes:
        codes: list[int | tuple[int, ...]] = []
        for facet in facets:
            known, tokens = self._known[facet.name], facet.tokens(subject)  # type: ignore[misc]
            codes.append(tuple(sorted({known[token] for token in tokens})) if facet.several else known[tokens[0]])
        return tuple(codes)

    def finish(self) -> Chunk:
        """Return the columns of all clients added."""
        images, image_sums, raw_images = _on_the_drive(self._images)
        studies, study_sums, raw_studies = _on_the_drive(self._studies)
        study_images = np.array(self._study_images, np.uint32)
        per_study = np.repeat(np.arange(len(self._studies), dtype=np.intp), study_images)
        per_client = np.repeat(np.arange(len(self._client_studies), dtype=np.intp), self._client_studies)[
            per_study
        ]
        columns: dict[str, NDArray[np.unsignedinteger]] = {}
        combinations: dict[str, tuple[tuple[int, ...], ...]] = {}
        for facets, table, entries in (
            (_OF_CLIENT, self._client_codes, per_client),
            *((one.facets, one.codes, np.array(one.rows, np.intp)[per_study]) for one in self._of_study),
            *((one.facets, one.codes, np.array(one.rows, np.intp)) for one in self._of_image),
        ):
            for number, facet in enumerate(facets):
                codes: list[Any] = [row[number] for row in table]
                if facet.several:
                    known: dict[tuple[int, ...], int] = {}
                    codes = [known.setdefault(combination, len(known)) for combination in codes]
                    combinations[facet.name] = tuple(known)
                columns[facet.name] = smallest(np.array(codes, np.uint32))[entries]
        self._found |= {"images": images, "studies": studies}
        return Chunk(
            values={
                one.name: found if isinstance(found := self._found[one.name], Names) else one.of(found)
                for one in COLUMNS
            },
            lists={
                "accesses": tuple(self._accesses),
                **{name: tuple(listing.entries) for name, listing in self._listings.items()},
            },
            client_studies=np.array(self._client_studies, np.uint32),
            study_images=study_images,
            columns=columns,
            combinations=combinations,
            texts={
                f.name: tuple((text,) for text in self._known[f.name].texts) for f in _CODED if f.kind is Kind.TEXT
            },
            raw_images=raw_images,
            raw_studies=raw_studies,
            problems=self._problems,
            image_sums=image_sums,
            study_sums=study_sums,
        )


def read_chunk(source: Source, clients: Sequence[str], *, headers: bool = True) -> Chunk:
    """Return the chunk of some clients, read from the source, with or without the headers of their images."""
    problems: list[Problem] = []
    builder = ChunkBuilder(problems)
    scanner = Scanner(source, problems)
    reader = ClientReader(source, headers=headers)  # closed with the last lane that uses it

    def record(files: ClientFiles, found: list[Problem]) -> _Read:
        digest = listing_digest(files, found)
        return client_record(reader, files, found), digest, found

    def read(client: str, admit: Admit) -> _Read:
        found: list[Problem] = []
        files = scanner.beside(found).client(client)
        admit(bytes_to_read(files))
        return record(files, found)

    def take(answer: _Read) -> None:
        client, digest, found = answer
        problems.extend(found)
        builder.add(client, digest)

    def given_up(client: str) -> _Read:
        found: list[Problem] = []
        return record(scanner.beside(found).no_answer(client), found)

    Reading(read, take, given_up, scanner.is_alive).all_of(clients)
    return builder.finish()


def _on_the_drive(raw: Sequence[str]) -> tuple[Names, NDArray[np.uint32], dict[int, str]]:
    """Return the names on the drive, their checksums, and by ordinal the names on disk that differ."""
    encoded = [os.fsencode(name) for name in raw]
    on_disk = Names.of(encoded)
    lengths, first = np.diff(on_disk.offsets), on_disk.heap[on_disk.offsets[:-1]]
    # Nearly all names are UIDs. All are tested together: a test of each takes as long as a stat of its file.
    only_uids = not on_disk.heap.tobytes().translate(None, _UID_BYTES)
    if only_uids and (first != ord(".")).all() and (lengths <= LONGEST).all():
        return on_disk, checksums(encoded), {}
    names = [safe_bytes(name) for name in on_disk]
    changed = [number for number, (one, other) in enumerate(zip(names, on_disk, strict=True)) if one != other]
    return Names.of(names), checksums(names), {number: raw[number] for number in changed}


def subject_of(client: ClientRecord, windows: Windows | None = None) -> Subject:
    """Return the subject for the facets of a client. The caller sets ``study`` and ``image``."""
    episodes = client.nbss.episodes if client.nbss is not None else ()
    facts: dict[str, EpisodeFacts] = {episode.id: episode_facts(episode) for episode in episodes}
    everything = list(facts.values())
    found, after_surgery = decided(everything, windows or Windows())
    return Subject(
        client,
        client_status(everything) if client.nbss is not None else None,
        facts,
        dict(zip(facts, found, strict=True)),
        dict(zip(facts, after_surgery, strict=True)),
    )
