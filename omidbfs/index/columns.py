"""The index: one row per image, sorted by client, study and image; see "The index" in ``docs/architecture.md``.

All floors above read it. It is immutable and safe in any thread.
"""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from omidbfs.database.file_kinds import DCM, FILE_KINDS, FileKind
from omidbfs.database.layout import DOCUMENTS
from omidbfs.database.pixel_format import Geometry, Orientation, PixelFormat
from omidbfs.database.problems import Problem
from omidbfs.facets import FACETS, RESERVED, Registry
from omidbfs.index.codes import Bits
from omidbfs.index.episodes import EpisodeColumns
from omidbfs.index.lesions import LesionColumns
from omidbfs.index.marks import MarkColumns
from omidbfs.index.names import Names, NameTable
from omidbfs.index.schema import (
    CLIENT,
    EPISODE,
    IMAGE,
    LESION,
    MARK,
    SERIES,
    STUDY,
    UID,
    Column,
    Derived,
    Listed,
    Part,
    columns_of,
    declared,
)
from omidbfs.index.sections import ReadLater

RESERVED_CODES: Mapping[str, int] = {word: code for code, word in enumerate(RESERVED)}
"""``unknown`` 0, ``other`` 1, ``none`` 2, ``unlinked`` 3: the first codes of every facet."""

FIRST_CODE = len(RESERVED)
"""Code of the first value of a table, of the lowest number, or of the first text."""


@dataclass(frozen=True, slots=True)
class FileColumns(ReadLater):
    """Facts of files: one file per row, or the four documents of one client per row (shape ``(clients, 4)``).

    ``size`` is in bytes (uint32, or uint64 if needed) and ``mtime`` in ns (int64). ``access`` (uint16, or uint32
    if needed) is a position in ``Index.accesses``; 0 means that there is no such file.
    """

    size: Annotated[NDArray[np.unsignedinteger], Column(least=np.uint32)]
    mtime: Annotated[NDArray[np.int64], Column()]
    access: Annotated[NDArray[np.unsignedinteger], Column(least=np.uint16, codes_in="accesses")]


@dataclass(frozen=True, slots=True)
class TextValue:
    """A value of a free-text facet: its name on the drive and the raw texts that it stands for."""

    label: str
    raw: tuple[str, ...]


_FEW_CODES = 24
"""The most codes that are looked for one by one."""


def blocks(count: int) -> Iterator[slice]:
    """Yield slices that cover ``count`` rows, for operations of numpy that take 8 bytes a row, such as counting.

    Without slices, 3 million rows would take 24 MB, which the allocator would keep.
    """
    for start in range(0, count, 1 << 16):
        yield slice(start, start + (1 << 16))


def runs(column: NDArray[np.uint32]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Return the distinct values of an ascending column and how often each occurs, without sorting it again."""
    starts = np.flatnonzero(np.diff(column, prepend=np.int64(-1)))
    return column[starts], np.diff(starts, append=len(column))


def occupied(bounds: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return the ordinals that have rows, from the bounds of their runs."""
    return np.flatnonzero(bounds[1:] > bounds[:-1]).astype(np.uint32)


def occurring(column: NDArray[np.unsignedinteger]) -> NDArray[np.intp]:
    """Return the codes that occur, ascending."""
    codes = int(column.max(initial=0)) + 1
    if column.itemsize > 1 or codes > _FEW_CODES:
        return np.flatnonzero(counted(column))
    # To compare 3 million bytes takes 0.3 ms, and ends with the first block that has the code. To count takes 9.
    parts = [column[rows] for rows in blocks(len(column))]
    return np.array([code for code in range(codes) if any((part == code).any() for part in parts)], np.intp)


def counted(column: NDArray[np.unsignedinteger]) -> NDArray[np.int64]:
    """Return how often each code occurs, up to the highest code that occurs."""
    codes = int(column.max(initial=0)) + 1
    counts = np.zeros(codes, np.int64)
    for rows in blocks(len(column)):
        counts += np.bincount(column[rows], minlength=codes)
    return counts


def top(column: NDArray[np.unsignedinteger]) -> int:
    """Return a number above every code of a column. It does not scan the column if its items are small."""
    return int(np.iinfo(column.dtype).max) + 1 if column.itemsize < 4 else int(column.max(initial=0)) + 1


class _Kind(msgspec.Struct):
    kind: str


_problem_decoder, _kind_decoder = msgspec.json.Decoder(Problem), msgspec.json.Decoder(_Kind)
_Decoded = TypeVar("_Decoded")


def _decoded(lines: bytes | memoryview, decoder: "msgspec.json.Decoder[_Decoded]") -> Iterator[_Decoded]:
    """Yield each line decoded."""
    for part in _parts(lines):
        yield from decoder.decode_lines(part)


def _parts(lines: bytes | memoryview) -> Iterator[bytes]:
    """Yield lines, 64 kB at a time, as there may be one for each image. The allocator reuses so little memory."""
    start, size = 0, 1 << 16
    while start < len(lines):
        part = bytes(lines[start : start + size])
        end = part.rfind(b"\n") + 1 if start + size < len(lines) else len(part)
        if end:
            yield part[:end]
        start, size = start + end, 1 << 16 if end else 2 * size


@dataclass(frozen=True, slots=True)
class Index(ReadLater):
    """Everything that is known about a database. Immutable; rows are images.

    Places
        ``study_of`` and ``client_of`` (uint32) are the ordinals of each row. ``study_rows`` and ``client_rows``
        (length n + 1) give the rows of study or client ``i`` as ``[i], [i + 1]``.
    Identities
        ``identity`` never changes for an image, and no other image ever gets it; ``row_of`` is its inverse.
        ``client_identity`` and ``client_ordinal`` are the same for clients.
    Names
        ``raw_images`` and ``raw_studies`` map ordinals to names on disk that differ from those on the drive.
        ``duplicates`` are the rows whose image UID occurs more than once. ``studies_unique`` is true if no study
        UID does. ``long_suffix`` marks sidecars named ``.dcm.json``.
    Facets
        ``columns`` holds the codes of each facet of ``registry``. For a facet with several values they are
        positions in ``combinations``, whose items are the codes that an image has together.
    Episodes and dates
        ``study_episode`` points into ``episodes``, -1 for a study without an episode. ``study_date`` (int32) is a
        proleptic ordinal, 0 if ImageDB has no date.
    Pixels
        ``matrix`` (uint16, shape ``(n, 2)``) is rows and columns of each image, 0 for unknown. ``format_of``,
        ``geometry_of`` and ``orientation_of`` are positions in ``pixel_formats``, ``geometries`` and
        ``orientations``.
    UIDs
        ``series_of`` points into ``series_uids``, which are grouped by client, -1 for an image whose series is
        unknown. ``other_uid_of`` are the rows, ascending, of the images whose SOPInstanceUID in the header differs
        from their name or is missing. ``other_uids`` are these UIDs, empty for missing.
    Source
        ``client_digest`` changes with any file of a client, so that a refresh reads only changed clients.
        ``newest`` is the latest modification time of a file in ns. ``problem_lines`` is ``problems.jsonl``; in a
        saved index it is a part of the mapped file, not a copy.
    """

    images: Annotated[Names, Column(IMAGE)]
    image_table: Annotated[NameTable, Derived("images")]
    studies: Annotated[Names, Column(STUDY)]
    study_table: Annotated[NameTable, Derived("studies")]
    clients: Annotated[Names, Column(CLIENT)]
    client_table: Annotated[NameTable, Derived("clients")]
    study_of: Annotated[NDArray[np.uint32], Derived()]
    client_of: Annotated[NDArray[np.uint32], Derived()]
    study_client: Annotated[NDArray[np.uint32], Derived()]
    study_rows: Annotated[NDArray[np.uint32], Derived()]
    client_rows: Annotated[NDArray[np.uint32], Derived()]
    identity: Annotated[NDArray[np.uint32], Derived()]
    row_of: Annotated[NDArray[np.uint32], Derived()]
    client_identity: Annotated[NDArray[np.uint32], Derived()]
    client_ordinal: Annotated[NDArray[np.uint32], Derived()]
    files: Annotated[tuple[FileColumns, ...], Part(IMAGE, each_of=tuple(kind.name for kind in FILE_KINDS))]
    documents: Annotated[FileColumns, Part(CLIENT, width=len(DOCUMENTS))]
    long_suffix: Annotated[NDArray[np.bool_], Column(IMAGE)]
    accesses: Annotated[tuple[tuple[int, int, int], ...], Listed((0, 0, 0))]
    columns: Mapping[str, NDArray[np.unsignedinteger]]
    combinations: Mapping[str, tuple[tuple[int, ...], ...]]
    texts: Mapping[str, tuple[TextValue, ...]]
    duplicates: Bits
    studies_unique: bool
    raw_images: Mapping[int, str]
    raw_studies: Mapping[int, str]
    newest: int
    problem_lines: bytes | memoryview
    episodes: Annotated[EpisodeColumns, Part(EPISODE)]
    lesions: Annotated[LesionColumns, Part(LESION)]
    episode_table: Annotated[NameTable, Derived("episodes.ids")]
    study_episode: Annotated[NDArray[np.int32], Column(STUDY, points_to=EPISODE)]
    study_date: Annotated[NDArray[np.int32], Column(STUDY)]
    matrix: Annotated[NDArray[np.uint16], Column(IMAGE, width=2)]
    marks: Annotated[MarkColumns, Part(MARK)]
    client_digest: Annotated[NDArray[np.uint64], Column(CLIENT)]
    format_of: Annotated[NDArray[np.unsignedinteger], Column(IMAGE, np.uint8, codes_in="pixel_formats")]
    geometry_of: Annotated[NDArray[np.unsignedinteger], Column(IMAGE, np.uint8, codes_in="geometries")]
    orientation_of: Annotated[NDArray[np.unsignedinteger], Column(IMAGE, np.uint8, codes_in="orientations")]
    pixel_formats: Annotated[tuple[PixelFormat, ...], Listed(PixelFormat())]
    geometries: Annotated[tuple[Geometry, ...], Listed(Geometry())]
    orientations: Annotated[tuple[Orientation, ...], Listed(Orientation())]
    series_of: Annotated[NDArray[np.int32], Column(IMAGE, points_to=SERIES)]
    series_uids: Annotated[Names, Column(SERIES)]
    other_uid_of: Annotated[NDArray[np.uint32], Column(UID, points_to=IMAGE)]
    other_uids: Annotated[Names, Column(UID)]
    registry: Registry = field(default_factory=Registry)

    def __len__(self) -> int:
        return int(self.study_rows[-1])  # the smallest section that says it

    @property
    def lacking(self) -> tuple[str, ...]:
        """The facets of the program that a saved index does not have, or has with another definition."""
        return tuple(one.name for one in FACETS if one.tokens is not None and one.name not in self.columns)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The problems of the source, sorted. Each use decodes ``problem_lines``."""
        return tuple(self.each_problem())

    def each_problem(self) -> Iterator[Problem]:
        """Yield the problems of the source, sorted. Each call decodes ``problem_lines``."""
        return _decoded(self.problem_lines, _problem_decoder)

    def problems_of(self, client: str) -> Iterator[Problem]:
        """Yield the problems of a client, sorted. Only these are decoded."""
        wanted = b'"client":' + msgspec.json.encode(client)  # a detail with this text has backslashes in it
        for part in _parts(self.problem_lines):
            at = part.find(wanted)
            while at >= 0:
                end = part.index(b"\n", at)
                yield _problem_decoder.decode(part[part.rfind(b"\n", 0, at) + 1 : end])
                at = part.find(wanted, end)

    def problem_kinds(self) -> dict[str, int]:
        """Return the number of problems of each kind, sorted by kind. Each call counts them."""
        return dict(sorted(Counter(one.kind for one in _decoded(self.problem_lines, _kind_decoder)).items()))

    def on_disk(self, row: int) -> tuple[str, str]:
        """Return the names on disk of an image's study and of the image."""
        study = self.study_of.item(row)
        image_name, study_name = self.raw_images.get(row), self.raw_studies.get(study)
        return (
            self.studies[study].decode() if study_name is None else study_name,
            self.images[row].decode() if image_name is None else image_name,
        )

    def sidecar_suffix(self, row: int) -> str:
        """Return the suffix of an image's JSON on disk."""
        return ".dcm.json" if self.long_suffix[row] else ".json"

    def image_path(self, row: int, kind: FileKind) -> bytes:
        """Return the path on disk of a file of an image, relative to its tree."""
        # Bytes throughout halve the time, which every opening of a file takes.
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

    def pixel_format(self, row: int) -> PixelFormat:
        """Return the storage format of an image's pixels."""
        return self.pixel_formats[self.format_of.item(row)]

    def geometry(self, row: int) -> Geometry:
        """Return the size of an image's pixels."""
        return self.geometries[self.geometry_of.item(row)]

    def orientation(self, row: int) -> Orientation:
        """Return the PatientOrientation of an image, and the side of its chest wall."""
        return self.orientations[self.orientation_of.item(row)]

    def chest_wall_side(self, row: int) -> str | None:
        """Return the side of the chest wall in an image: ``left`` or ``right``, ``None`` for unknown."""
        return self.orientation(row).chest_wall_side

    def series(self, row: int) -> str | None:
        """Return the SeriesInstanceUID of an image, ``None`` for unknown."""
        ordinal = self.series_of.item(row)
        return None if ordinal < 0 else self.series_uids[ordinal].decode("utf-8", "surrogatepass")

    def sop_instance_uid(self, row: int) -> str | None:
        """Return the SOPInstanceUID in the header of an image, ``None`` for unknown."""
        place = int(np.searchsorted(self.other_uid_of, row))
        if place < len(self.other_uid_of) and self.other_uid_of[place] == row:
            return self.other_uids[place].decode("utf-8", "surrogatepass") or None
        return self.on_disk(row)[1]

    def codes_of(self, facet: str, row: int) -> tuple[int, ...]:
        """Return the codes that an image has in a coded facet."""
        code = int(self.columns[facet][row])
        return self.combinations[facet][code] if facet in self.combinations else (code,)

    def has_file(self, row: int, kind: FileKind) -> bool:
        """Return whether an image has a file of a kind."""
        return bool(self.files[kind.number].access[row])


COLUMNS = tuple(columns_of(Index))
"""The table of columns, which ``chunk``, ``merge``, ``slices`` and ``store`` follow."""

LISTS: Mapping[str, Listed] = declared(Index, Listed)
"""The lists in which codes are positions, with the first entry of each."""
