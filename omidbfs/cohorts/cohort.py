"""Cohorts: path components become sets of rows. A path is a conjunction of disjunctions.

The view, exports, reports and commands use :class:`Cohorts`, from any thread.

Within one component, ``A,B`` is a union and ``not-A`` a complement (``not-A,B``: neither). ``50-69``, ``2012-``
and ``-49`` are inclusive ranges of numbers. A component that is itself the name of a value means that value.
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

from omidbfs.base.names import slug
from omidbfs.cohorts.readings import Codes, compact, number_range, readings_of
from omidbfs.database.file_kinds import FILE_KINDS, KIND_NAMED, FileKind
from omidbfs.facets import FACETS, RESERVED, Facet, Kind, Level
from omidbfs.index.columns import (
    FIRST_CODE,
    Index,
    counted,
    top,
)
from omidbfs.index.levels import Among, Marks, Members, levels_of

_REMEMBERED = 256
_FEW_ROWS = 256
"""Most rows of a client or a study that are compared one by one, because making a set would take longer."""

IMAGES = ""
"""Stands for a facet in a term whose codes are rows. No facet has this name; a user may call one ``image``."""

LEVEL_OF: Mapping[str, Level] = {
    **{facet.name: facet.level for facet in FACETS if facet.kind is Kind.NAME},
    IMAGES: Level.IMAGE,
}
"""Facet of a term whose codes are ordinals -> the level of these ordinals."""


@dataclass(frozen=True, slots=True)
class Term:
    """One component of a path: rows whose value of ``facet`` is among ``codes``, or is not if ``negated``.

    For clients, studies and episodes the codes are ordinals (:data:`LEVEL_OF`).
    """

    facet: str
    codes: Codes
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Cohort:
    """The images that satisfy every term; ``files`` are the kinds of files that are shown."""

    terms: tuple[Term, ...] = ()
    files: tuple[FileKind, ...] = FILE_KINDS

    def narrowed(self, term: Term) -> "Cohort":
        """Return the cohort with one more term, or the cohort itself if it already has the term."""
        if term.facet != "file-type":
            return self if term in self.terms else Cohort((*self.terms, term), self.files)
        shown = (kind for kind in self.files if (kind.number in term.codes) != term.negated)
        return Cohort(self.terms, tuple(shown))


EVERYTHING = Cohort()


class Cohorts:
    """Finds the images and values of cohorts in an index. Thread-safe; caches the rows of recent cohorts."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self.levels: Mapping[Level, Members] = levels_of(index)
        self._counted: Mapping[Level, Among] = {**self.levels, Level.MARK: Marks(index)}
        self.identified: Mapping[str, Members] = {facet: self.levels[level] for facet, level in LEVEL_OF.items()}
        """Facet of a term whose codes are ordinals -> the members of their level."""
        self._rows: OrderedDict[Cohort | Term, BitMap] = OrderedDict()
        self._readings: dict[str, Mapping[str, int | frozenset[int]]] = {}
        self._lock = threading.Lock()

    # Names -> terms

    def term(self, facet: Facet, component: str) -> Term | None:
        """Return the term for a path component below ``by-<facet>``, ``None`` if it names no value."""
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
        if facet.kind is Kind.NAME:
            try:
                return compact(self.levels[facet.level].find(os.fsencode(name))) or None
            except UnicodeEncodeError:
                return None
        if facet.kind is Kind.FILE:
            kind = KIND_NAMED.get(name)
            return None if kind is None else frozenset([kind.number])
        readings = self._readings_of(facet)
        codes = readings.get(name)
        if codes is None and facet.kind is Kind.TEXT and facet.definition:
            codes = readings.get(slug(name))  # a facet that the user defines keeps only the raw texts of its map
        return frozenset([codes]) if isinstance(codes, int) else codes

    def _readings_of(self, facet: Facet) -> Mapping[str, int | frozenset[int]]:
        """Return the code, or the codes, for each name, source code and raw text of a coded facet."""
        known = self._readings.get(facet.name)
        if known is None:
            known = readings_of(self.index.texts.get(facet.name, facet.values))
            self._readings[facet.name] = known
        return known

    def prepare(self) -> None:
        """Read the names of the values of all facets in advance, as a free text may have millions of them."""
        for facet in self.index.registry.facets:
            if facet.kind not in (Kind.NAME, Kind.FILE):
                self._readings_of(facet)

    # Terms -> rows

    def rows(self, cohort: Cohort) -> BitMap:
        """Return the rows of a cohort. The caller must not change them.

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
        # The rows of each term are cached: gathering millions takes 30 ms, intersecting them under 1 ms.
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
        members = self.identified.get(term.facet)
        if members is not None:
            rows = members.rows(term.codes)
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
        """Return whether a row satisfies every term. It compares codes and builds no set."""
        for term in cohort.terms:  # noqa: SIM110  all() of a generator takes 1.5 times as long, at every lookup
            if not self._satisfies(term, row):
                return False
        return True

    def _satisfies(self, term: Term, row: int) -> bool:
        members = self.identified.get(term.facet)
        if members is not None:
            inside = members.ordinal(row) in term.codes
        else:
            index = self.index
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
        """Return the rows of a cohort from ``first`` to before ``end``, such as those of a client."""
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
        """Return whether the rows of a cohort are cached, and are at most ``most``."""
        known = self._rows.get(cohort)
        return known is not None and len(known) <= most

    def ordinals(self, cohort: Cohort, level: Level) -> NDArray[np.integer]:
        """Return the ordinals of a level that have an image in the cohort, ascending, without ``unlinked``."""
        return self._counted[level].among(self._some_rows(cohort))

    def count(self, cohort: Cohort, level: Level) -> int:
        """Return the number of clients, episodes, studies, images or marks of a cohort."""
        return len(self.ordinals(cohort, level))

    def _some_rows(self, cohort: Cohort) -> NDArray[np.uint32] | None:
        """Return the rows of a cohort, ``None`` for all of the index."""
        return None if cohort == EVERYTHING else self.row_array(cohort)

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
        """Return the codes (of :class:`Term`) that a facet lists in a cohort, in order, one for each name."""
        index = self.index
        if facet.kind is Kind.NAME:
            return self.levels[facet.level].listed(self._some_rows(cohort))
        if facet.kind is Kind.FILE:
            rows = self.row_array(cohort)
            present = [kind.number for kind in cohort.files if index.files[kind].access[rows].any()]
            return np.array(present, np.int64)
        codes, _ = self._code_counts(cohort, facet)
        if facet.kind is Kind.TEXT:  # their names are distinct, and there may be one for each image
            return codes
        of_label: dict[str, int] = {}
        for code in codes.tolist():
            of_label.setdefault(self.label(facet, code), code)
        return np.array(list(of_label.values()), np.int64)

    def names(self, facet: Facet, listed: NDArray[np.integer]) -> list[bytes]:
        """Return the names of some of the :meth:`values` of a facet."""
        if facet.kind is Kind.NAME:
            return self.levels[facet.level].names(listed)
        return [self.label(facet, code).encode() for code in listed.tolist()]

    def _code_counts(self, cohort: Cohort, facet: Facet) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return codes and their numbers of images, the reserved codes last."""
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

    def _name_counts(self, cohort: Cohort, facet: Facet) -> list[tuple[str, int]]:
        members = self.levels[facet.level]
        ordinals, counts = np.unique(members.ordinals(self.row_array(cohort)), return_counts=True)
        last = -int(np.searchsorted(ordinals, 0))  # unlinked is listed last
        names = map(bytes.decode, members.names(np.roll(ordinals, last)))
        merged: dict[str, int] = {}
        for name, count in zip(names, np.roll(counts, last).tolist(), strict=True):
            merged[name] = merged.get(name, 0) + count
        return list(merged.items())

    def label(self, facet: Facet, code: int) -> str:
        """Return the name under which a code is listed. For a number with bands it is the band."""
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
