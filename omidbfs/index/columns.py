"""The index: one row per image, sorted by client, study and image; see DESIGN in ``docs/architecture.md``."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from omidbfs.database.file_kinds import DCM, FileKind
from omidbfs.database.layout import DOCUMENTS
from omidbfs.database.problems import Problem
from omidbfs.facets import RESERVED, Registry
from omidbfs.index.names import Names, NameTable

if TYPE_CHECKING:
    from omidbfs.index.episodes import EpisodeColumns
    from omidbfs.index.marks import MarkColumns

RESERVED_CODES: Mapping[str, int] = {word: code for code, word in enumerate(RESERVED)}
"""``unknown`` 0, ``other`` 1, ``none`` 2, ``unlinked`` 3: the first codes of every facet."""

FIRST_CODE = len(RESERVED)
"""Code of the first value of a table, of the lowest number, of the first text."""


@dataclass(frozen=True, slots=True)
class FileColumns:
    """Facts of one file per row (or of the documents of one client per row: shape ``(clients, 4)``).

    ``size`` in bytes (uint64, or uint32 where that is enough), ``mtime`` in ns (int64), ``access`` (uint16, or
    uint32 where that is not enough) points into ``Index.accesses``; access 0 says that there is no such file.
    """

    size: NDArray[np.unsignedinteger]
    mtime: NDArray[np.int64]
    access: NDArray[np.unsignedinteger]


@dataclass(frozen=True, slots=True)
class TextValue:
    """A value of a free-text facet: its name on the drive and the raw texts that it stands for."""

    label: str
    raw: tuple[str, ...]


def blocks(count: int) -> Iterator[slice]:
    """Yield slices of so many rows, for what numpy does with 8 bytes for each of them, such as to count codes.

    All 3 million at once would take 24 MB, which the allocator then keeps.
    """
    for start in range(0, count, 1 << 16):
        yield slice(start, start + (1 << 16))


def smallest(column: NDArray[np.unsignedinteger]) -> NDArray[np.unsignedinteger]:
    """Return a column in the smallest type that holds it."""
    return column.astype(np.min_scalar_type(int(column.max(initial=0))))


def runs(column: NDArray[np.uint32]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Return the distinct values of an ascending column and how often each occurs, without sorting it again."""
    starts = np.flatnonzero(np.diff(column, prepend=np.int64(-1)))
    return column[starts], np.diff(starts, append=len(column))


def occupied(bounds: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return between which neighbouring bounds there are rows."""
    return np.flatnonzero(bounds[1:] > bounds[:-1]).astype(np.uint32)


def counted(column: NDArray[np.unsignedinteger]) -> NDArray[np.int64]:
    """Return how often each code occurs, up to the highest that does."""
    codes = int(column.max(initial=0)) + 1
    counts = np.zeros(codes, np.int64)
    for rows in blocks(len(column)):
        counts += np.bincount(column[rows], minlength=codes)
    return counts


def top(column: NDArray[np.unsignedinteger]) -> int:
    """Return a number above every code of a column, without looking at each where codes are small."""
    return int(np.iinfo(column.dtype).max) + 1 if column.itemsize < 4 else int(column.max(initial=0)) + 1


class _Kind(msgspec.Struct):
    kind: str


_problem_decoder, _kind_decoder = msgspec.json.Decoder(Problem), msgspec.json.Decoder(_Kind)
_Decoded = TypeVar("_Decoded")


def _decoded(lines: bytes | memoryview, decoder: "msgspec.json.Decoder[_Decoded]") -> Iterator[_Decoded]:
    """Yield what each line says; there may be one for each image, so they are decoded a megabyte at a time."""
    start, size = 0, 1 << 20
    while start < len(lines):
        part = bytes(lines[start : start + size])
        end = part.rfind(b"\n") + 1 if start + size < len(lines) else len(part)
        yield from decoder.decode_lines(part[:end])
        start, size = start + end, size if end else 2 * size


@dataclass(frozen=True, slots=True)
class Index:
    """Everything that is known of a database, immutable.

    Rows are images. ``study_of`` and ``client_of`` are ordinals (uint32); ``study_rows`` and ``client_rows``
    (length n + 1) give the rows of study or client ``i`` as ``[i], [i + 1]``. ``identity`` never changes for an
    image and is never given to another; ``row_of`` is its inverse. ``long_suffix`` marks sidecars named
    ``.dcm.json``. ``columns`` holds the codes of each facet of ``registry``; of one with several values they are
    positions in ``combinations``, whose items are the codes that an image has together. ``duplicates`` are the
    rows whose image UID occurs more than once; ``studies_unique`` says that no study UID does. ``raw_images`` and
    ``raw_studies`` name what is called otherwise on disk. ``study_episode`` points into ``episodes``, -1 for a
    study that is linked to none; ``study_date`` (int32) is a proleptic ordinal, 0 where ImageDB has none.
    ``matrix`` (uint16, shape ``(n, 2)``) is rows and columns of each image, 0 for unknown. ``client_digest``
    changes with any file of a client, so that a refresh reads only clients that changed. ``problem_lines`` is
    ``problems.jsonl``: of a saved index a part of its file, not a copy.
    """

    images: Names
    image_table: NameTable
    studies: Names
    study_table: NameTable
    clients: Names
    client_table: NameTable
    study_of: NDArray[np.uint32]
    client_of: NDArray[np.uint32]
    study_client: NDArray[np.uint32]
    study_rows: NDArray[np.uint32]
    client_rows: NDArray[np.uint32]
    identity: NDArray[np.uint32]
    row_of: NDArray[np.uint32]
    client_identity: NDArray[np.uint32]
    client_ordinal: NDArray[np.uint32]
    files: tuple[FileColumns, ...]
    documents: FileColumns
    long_suffix: NDArray[np.bool_]
    accesses: tuple[tuple[int, int, int], ...]
    columns: Mapping[str, NDArray[np.unsignedinteger]]
    combinations: Mapping[str, tuple[tuple[int, ...], ...]]
    texts: Mapping[str, tuple[TextValue, ...]]
    duplicates: BitMap
    studies_unique: bool
    raw_images: Mapping[int, str]
    raw_studies: Mapping[int, str]
    newest: int
    problem_lines: bytes | memoryview
    episodes: "EpisodeColumns"
    episode_table: NameTable
    study_episode: NDArray[np.int32]
    study_date: NDArray[np.int32]
    matrix: NDArray[np.uint16]
    marks: "MarkColumns"
    client_digest: NDArray[np.uint64]
    registry: Registry = field(default_factory=Registry)

    def __len__(self) -> int:
        return len(self.study_of)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is odd in the source, sorted; read anew from ``problem_lines`` at every use."""
        return tuple(self.each_problem())

    def each_problem(self) -> Iterator[Problem]:
        """Yield the same, one by one."""
        return _decoded(self.problem_lines, _problem_decoder)

    def problem_kinds(self) -> dict[str, int]:
        """Return how many problems there are of each kind, sorted; counted anew at every use."""
        return dict(sorted(Counter(one.kind for one in _decoded(self.problem_lines, _kind_decoder)).items()))

    def on_disk(self, row: int) -> tuple[str, str]:
        """Return the names of an image's study and of the image itself as on disk."""
        study = self.study_of.item(row)
        image_name, study_name = self.raw_images.get(row), self.raw_studies.get(study)
        return (
            self.studies[study].decode() if study_name is None else study_name,
            self.images[row].decode() if image_name is None else image_name,
        )

    def sidecar_suffix(self, row: int) -> str:
        """Return how the name of an image's JSON ends on disk."""
        return ".dcm.json" if self.long_suffix[row] else ".json"

    def image_path(self, row: int, kind: FileKind) -> bytes:
        """Return the path of a file of an image as on disk, relative to its tree."""
        # In bytes all along: half the time, at every opening.
        number = self.study_of.item(row)
        raw_image, raw_study = self.raw_images.get(row), self.raw_studies.get(number)
        client = self.clients[self.client_of.item(row)]
        study = self.studies[number] if raw_study is None else os.fsencode(raw_study)
        image = self.images[row] if raw_image is None else os.fsencode(raw_image)
        return b"%b/%b/%b%b" % (
            client,
            study,
            image,
            kind.suffix if kind is DCM else self.sidecar_suffix(row).encode(),
        )

    def document_name(self, client: int, slot: int) -> bytes:
        """Return the name of an NBSS or ImageDB file, on disk and on the drive."""
        return DOCUMENTS[slot].encode() + self.clients[client] + b".json"

    def codes_of(self, facet: str, row: int) -> tuple[int, ...]:
        """Return the codes that an image has in a coded facet."""
        code = int(self.columns[facet][row])
        return self.combinations[facet][code] if facet in self.combinations else (code,)

    def has_file(self, row: int, kind: FileKind) -> bool:
        """Return whether an image has a file of a kind."""
        return bool(self.files[kind.number].access[row])
