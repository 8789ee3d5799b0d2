"""Cohorts: path components become sets of rows. A path is a conjunction of disjunctions.

Within one component, ``A,B`` is a union, ``not-A`` a complement (``not-A,B``: neither), ``50-69``, ``2012-``
and ``-49`` are inclusive ranges on numbers. A literal value always wins over such a reading.
"""

import functools
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from omidbfs.base.names import safe_bytes, slug
from omidbfs.cohorts.readings import Codes, compact, number_range, readings_of
from omidbfs.database.file_kinds import FILE_KINDS, KIND_NAMED, FileKind
from omidbfs.facets import RESERVED, UNLINKED, Facet, Kind
from omidbfs.index.columns import (
    FIRST_CODE,
    Index,
    blocks,
    counted,
    occupied,
    runs,
    top,
)
from omidbfs.index.names import NameTable, first_of_each

_REMEMBERED = 256
_FEW_ROWS = 256
"""Rows of a client or a study that are compared one by one: a set is not worth its making."""
_NO_EPISODE = -1
"""Stands for ``unlinked`` among the ordinals of episodes."""

IMAGES = "image"
"""In place of a facet in a term: its codes are rows."""


@dataclass(frozen=True, slots=True)
class Term:
    """One component of a path: rows whose value of ``facet`` is among ``codes``, or is not if ``negated``.

    Of clients, studies and episodes the codes are ordinals; see :data:`IMAGES` for lists of images.
    """

    facet: str
    codes: Codes
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Cohort:
    """The images that satisfy every term; ``files`` are the kinds of files that are shown, by their numbers."""

    terms: tuple[Term, ...] = ()
    files: tuple[FileKind, ...] = FILE_KINDS

    def narrowed(self, term: Term) -> "Cohort":
        """Return the cohort with one more term; the cohort itself if it has it already."""
        if term.facet != "file-type":
            return self if term in self.terms else Cohort((*self.terms, term), self.files)
        shown = (kind for kind in self.files if (kind.number in term.codes) != term.negated)
        return Cohort(self.terms, tuple(shown))


EVERYTHING = Cohort()


class Cohorts:
    """Answers what a cohort holds. Thread-safe; keeps the rows of recent cohorts."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self._rows: OrderedDict[Cohort | Term, BitMap] = OrderedDict()
        self._readings: dict[str, Mapping[str, int | frozenset[int]]] = {}
        self._lock = threading.Lock()

    # Names -> terms

    def term(self, facet: Facet, component: str) -> Term | None:
        """Return what one path component below ``by-<facet>`` says, ``None`` if it names nothing."""
        codes = self._union(facet, component)
        if codes is None and component.startswith("not-"):
            codes = self._union(facet, component.removeprefix("not-"))
            return None if codes is None else Term(facet.name, codes, negated=True)
        return None if codes is None else Term(facet.name, codes)

    def _union(self, facet: Facet, text: str) -> Codes | None:
        codes = self._literal(facet, text)
        if codes is not None:
            return codes
        union: set[int] = set()
        for part in text.split(","):
            codes = self._literal(facet, part)
            if codes is None:
                codes = number_range(facet, part)
            if codes is None:
                return None
            union.update(codes)
        return compact(union)

    def _literal(self, facet: Facet, name: str) -> Codes | None:
        if facet.name == "episode":
            return self._episodes(name)
        if facet.kind is Kind.NAME:
            table = self._name_table(facet)
            try:
                return frozenset(table.find(name.encode())) or None
            except UnicodeEncodeError:
                return None
        if facet.kind is Kind.FILE:
            kind = KIND_NAMED.get(name)
            return None if kind is None else frozenset([kind.number])
        readings = self._readings_of(facet)
        codes = readings.get(name)
        if codes is None and facet.kind is Kind.TEXT and facet.definition:
            codes = readings.get(slug(name))  # of a user's facet only the raw texts in a map are kept
        return frozenset([codes]) if isinstance(codes, int) else codes

    def _readings_of(self, facet: Facet) -> Mapping[str, int | frozenset[int]]:
        """Return what the names, codes and raw texts of a coded facet stand for: one code, or several."""
        known = self._readings.get(facet.name)
        if known is None:
            known = readings_of(self.index.texts.get(facet.name, facet.values))
            self._readings[facet.name] = known
        return known

    def prepare(self) -> None:
        """Read the names of the values of all facets now: a free text may have millions of them."""
        for facet in self.index.registry.facets:
            if facet.kind not in (Kind.NAME, Kind.FILE):
                self._readings_of(facet)

    def _name_table(self, facet: Facet) -> NameTable:
        return self.index.client_table if facet.name == "client" else self.index.study_table

    def _episodes(self, name: str) -> Codes | None:
        """Return the episode ``<client>~<number>``, or all that have a number."""
        if name == UNLINKED:
            return frozenset([_NO_EPISODE])
        client, tilde, number = os.fsencode(name).partition(b"~")
        if not tilde:
            return compact(self.index.episode_table.find(client)) or None
        ids = self.index.episodes.ids
        hers = (
            range(*self._first_episode[ordinal : ordinal + 2]) for ordinal in self.index.client_table.find(client)
        )
        return frozenset(one for run in hers for one in run if safe_bytes(ids[one]) == number) or None

    @functools.cached_property
    def _first_episode(self) -> list[int]:
        counts: list[int] = np.cumsum(self.index.episodes.per_client, dtype=np.uint32).tolist()
        return [0, *counts]

    def episode_names(self, ordinals: NDArray[np.integer]) -> list[bytes]:
        """Return the names of episodes, as listed."""
        clients = self.index.clients.take(np.searchsorted(self._first_episode, ordinals, side="right") - 1)
        numbers = self.index.episodes.ids.take(ordinals)
        return [b"%s~%s" % (client, safe_bytes(id_)) for client, id_ in zip(clients, numbers, strict=True)]

    # Terms -> rows

    def rows(self, cohort: Cohort) -> BitMap:
        """Return the rows of a cohort; do not change it.

        A cohort that shows only some kinds of files holds the images that have a file of one of them.
        """
        return self._remembered(cohort, functools.partial(self._compute, cohort))

    def _remembered(self, key: Cohort | Term, compute: Callable[[], BitMap]) -> BitMap:
        with self._lock:
            known = self._rows.get(key)
            if known is not None:
                self._rows.move_to_end(key)
                return known
        rows = compute()
        with self._lock:
            self._rows[key] = rows
            while len(self._rows) > _REMEMBERED:
                self._rows.popitem(last=False)
        return rows

    def _compute(self, cohort: Cohort) -> BitMap:
        if not cohort.files:
            return BitMap()
        # A term of millions of rows takes 30 ms to gather from its column; the intersection then takes under 1 ms.
        parts = [self._remembered(term, functools.partial(self._term_rows, term)) for term in cohort.terms]
        if cohort.files != FILE_KINDS:
            present = np.logical_or.reduce([self.index.files[kind].access != 0 for kind in cohort.files])
            parts.append(BitMap(np.flatnonzero(present).astype(np.uint32)))
        if not parts:
            return BitMap().flip(0, len(self.index))
        parts.sort(key=len)
        return BitMap.intersection(*parts) if len(parts) > 1 else parts[0]

    def _term_rows(self, term: Term) -> BitMap:
        index = self.index
        rows = BitMap()
        if term.facet == IMAGES:
            rows = BitMap(term.codes)
        elif term.facet == "episode":
            wanted = np.isin(index.study_episode, np.array(list(term.codes), np.int64))
            rows = BitMap(np.flatnonzero(wanted[index.study_of]).astype(np.uint32))
        elif term.facet in ("client", "study"):
            bounds = index.client_rows if term.facet == "client" else index.study_rows
            for ordinal in term.codes:
                rows.add_range(int(bounds[ordinal]), int(bounds[ordinal + 1]))
        else:
            column = index.columns[term.facet]
            wanted = np.zeros(top(column), np.bool_)
            combinations = index.combinations.get(term.facet)
            if combinations is None:
                wanted[[code for code in term.codes if code < len(wanted)]] = True
            else:
                wanted[: len(combinations)] = [any(map(term.codes.__contains__, codes)) for codes in combinations]
            rows = BitMap(np.flatnonzero(wanted[column]).astype(np.uint32))
        return rows.flip(0, len(index)) if term.negated else rows

    def contains(self, cohort: Cohort, row: int) -> bool:
        """Return whether a row satisfies every term: a comparison of codes, no set is built."""
        for term in cohort.terms:  # noqa: SIM110  all() of a generator takes half as long again, at every lookup
            if not self._satisfies(term, row):
                return False
        return True

    def _satisfies(self, term: Term, row: int) -> bool:
        index = self.index
        if term.facet == "client":
            inside = int(index.client_of[row]) in term.codes
        elif term.facet == "study":
            inside = int(index.study_of[row]) in term.codes
        elif term.facet == "episode":
            inside = int(index.study_episode[index.study_of[row]]) in term.codes
        elif term.facet == IMAGES:
            inside = row in term.codes
        else:
            code = int(index.columns[term.facet][row])
            combinations = index.combinations.get(term.facet)
            codes = (code,) if combinations is None else combinations[code]
            inside = any(map(term.codes.__contains__, codes))
        return inside != term.negated

    # Rows -> values

    def row_array(self, cohort: Cohort) -> NDArray[np.uint32]:
        """Return the rows of a cohort, ascending."""
        if cohort == EVERYTHING:
            return np.arange(len(self.index), dtype=np.uint32)
        return np.array(self.rows(cohort).to_array(), np.uint32)

    def rows_between(self, cohort: Cohort, first: int, end: int) -> NDArray[np.uint32]:
        """Return the rows of a cohort in a run of rows, such as those of a client."""
        if end - first > _FEW_ROWS:
            return np.array((self.rows(cohort) & BitMap(range(first, end))).to_array(), np.uint32)
        index = self.index
        rows = [
            row
            for row in range(first, end)
            if self.contains(cohort, row) and any(index.has_file(row, kind) for kind in cohort.files)
        ]
        return np.array(rows, np.uint32)

    def are_at_hand(self, cohort: Cohort, most: int) -> bool:
        """Return whether the rows of a cohort are remembered, and are at most so many."""
        known = self._rows.get(cohort)
        return known is not None and len(known) <= most

    def clients(self, cohort: Cohort) -> NDArray[np.uint32]:
        """Return the ordinals of the clients with an image in the cohort, ascending."""
        if cohort == EVERYTHING:
            return occupied(self.index.client_rows)
        return runs(self.index.client_of[self.row_array(cohort)])[0]

    def studies(self, cohort: Cohort) -> NDArray[np.uint32]:
        """Return the ordinals of the studies with an image in the cohort, ascending."""
        if cohort == EVERYTHING:
            return occupied(self.index.study_rows)
        return runs(self.index.study_of[self.row_array(cohort)])[0]

    def counts(self, cohort: Cohort, facet: Facet) -> list[tuple[str, int]]:
        """Return the values of a facet that occur in the cohort, as listed, with their number of images."""
        if facet.kind is Kind.FILE:
            rows = slice(None) if cohort == EVERYTHING else self.row_array(cohort)
            found = ((kind, self.index.files[kind].access[rows]) for kind in cohort.files)
            counted_files = [(kind.name, int(np.count_nonzero(access))) for kind, access in found]
            return [(name, count) for name, count in counted_files if count]
        if facet.kind is Kind.NAME:
            return self._name_counts(cohort, facet)
        counts: dict[str, int] = {}
        codes, images = self._code_counts(cohort, facet)
        for code, count in zip(codes.tolist(), images.tolist(), strict=True):
            label = self.label(facet, code)
            counts[label] = counts.get(label, 0) + count
        return list(counts.items())

    def values(self, cohort: Cohort, facet: Facet) -> NDArray[np.integer]:
        """Return what a facet lists in a cohort, in order, one for each name: the codes of :class:`Term`."""
        index = self.index
        match facet.name:
            case "client":  # at the root all are listed, with or without images
                everyone = cohort == EVERYTHING
                return np.arange(len(index.clients), dtype=np.uint32) if everyone else self.clients(cohort)
            case "study":
                studies = self.studies(cohort)
                return studies if index.studies_unique else first_of_each(index.studies, studies)
            case "episode":
                is_unlinked = bool((index.study_episode[self.studies(cohort)] < 0).any())
                return np.append(self.episodes(cohort), np.array([_NO_EPISODE] * is_unlinked, np.int32))
            case "file-type":
                rows = self.row_array(cohort)
                present = [kind.number for kind in cohort.files if index.files[kind].access[rows].any()]
                return np.array(present, np.int64)
        codes, _ = self._code_counts(cohort, facet)
        if facet.kind is Kind.TEXT:  # no two have one name, and there may be one for each image
            return codes
        of_label: dict[str, int] = {}
        for code in codes.tolist():
            of_label.setdefault(self.label(facet, code), code)
        return np.array(list(of_label.values()), np.int64)

    def names(self, facet: Facet, listed: NDArray[np.integer]) -> list[bytes]:
        """Return the names of some of the :meth:`values` of a facet."""
        match facet.name:
            case "client":
                return self.index.clients.take(listed)
            case "study":
                return self.index.studies.take(listed)
            case "episode":
                linked = listed[listed >= 0]
                return self.episode_names(linked) + [UNLINKED.encode()] * (len(listed) - len(linked))
        return [self.label(facet, code).encode() for code in listed.tolist()]

    def _code_counts(self, cohort: Cohort, facet: Facet) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return codes and their numbers of images, the values of the table first and the reserved ones last."""
        column = self.index.columns[facet.name]
        counts = counted(column if cohort == EVERYTHING else column[self.row_array(cohort)])
        if facet.several:
            combinations = self.index.combinations[facet.name][: len(counts)]
            each = np.repeat(counts[: len(combinations)], [len(codes) for codes in combinations])
            together = [code for codes in combinations for code in codes]
            counts = np.zeros(max(together, default=0) + 1, np.int64)
            np.add.at(counts, together, each)
        occurring = np.flatnonzero(counts)
        first = np.searchsorted(occurring, FIRST_CODE)
        occurring = np.roll(occurring, -int(first))
        return occurring, counts[occurring]

    def episodes(self, cohort: Cohort) -> NDArray[np.int32]:
        """Return the ordinals of the episodes with an image in the cohort, ascending."""
        studies = self.studies(cohort)
        has_image = np.zeros(len(self.index.episodes.type) + 1, np.bool_)  # the last is _NO_EPISODE, -1
        for part in blocks(len(studies)):
            has_image[self.index.study_episode[studies[part]]] = True
        return np.flatnonzero(has_image[:-1]).astype(np.int32)

    def _episode_counts(self, cohort: Cohort) -> list[tuple[str, int]]:
        index = self.index
        of_row = index.study_episode[index.study_of[self.row_array(cohort)]]
        ordinals, counts = np.unique(of_row, return_counts=True)
        linked = ordinals != _NO_EPISODE
        names = [name.decode() for name in self.episode_names(ordinals[linked])]
        found = list(zip(names, counts[linked].tolist(), strict=True))
        return found + [(UNLINKED, count) for count in counts[~linked].tolist()]

    def _name_counts(self, cohort: Cohort, facet: Facet) -> list[tuple[str, int]]:
        index = self.index
        if facet.name == "episode":
            return self._episode_counts(cohort)
        if facet.name == "client":
            names, column = index.clients, index.client_of
        else:
            names, column = index.studies, index.study_of
        ordinals, counts = runs(column[self.row_array(cohort)])
        merged: dict[str, int] = {}
        for name, count in zip(names.take(ordinals), counts.tolist(), strict=True):
            merged[name.decode()] = merged.get(name.decode(), 0) + count
        return list(merged.items())

    def label(self, facet: Facet, code: int) -> str:
        """Return the name under which a code is listed; for a number with bands, its band."""
        if facet.kind is Kind.FILE:
            return facet.values[code].label
        if code < FIRST_CODE:
            return list(RESERVED)[code]
        position = code - FIRST_CODE
        if facet.kind is Kind.TEXT:
            return self.index.texts[facet.name][position].label
        if facet.kind is Kind.NUMBER:
            number = facet.lowest + position
            if facet.band == 1:
                return str(number)
            low = number - number % facet.band
            return f"{low}-{low + facet.band - 1}"
        return facet.values[position].label
