"""Cohorts: path components become sets of rows. A path is a conjunction of disjunctions.

Within one component, ``A,B`` is a union, ``not-A`` a complement (``not-A,B``: neither), ``50-69``, ``2012-``
and ``-49`` are inclusive ranges on numbers. A literal value always wins over such a reading.
"""

import functools
import os
import re
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap, FrozenBitMap

from omidbfs.facets import RESERVED, UNLINKED, Facet, Kind
from omidbfs.index.columns import DCM, FIRST_CODE, JSON, RESERVED_CODES, Index, blocks
from omidbfs.index.names import NameTable
from omidbfs.names import safe_bytes, slug

_RANGE = re.compile(r"([0-9]{1,9})?(-)?([0-9]{1,9})?")
_REMEMBERED = 256
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
    codes: frozenset[int] | FrozenBitMap
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Cohort:
    """The images that satisfy every term; ``files`` says which of their files are shown, (dcm, json)."""

    terms: tuple[Term, ...] = ()
    files: tuple[bool, bool] = (True, True)

    def narrowed(self, term: Term) -> "Cohort":
        """Return the cohort with one more term."""
        if term.facet != "file-type":
            return Cohort((*self.terms, term), self.files)
        shown = [(kind in term.codes) != term.negated for kind in (DCM, JSON)]
        return Cohort(self.terms, (self.files[DCM] and shown[DCM], self.files[JSON] and shown[JSON]))


EVERYTHING = Cohort()


class Cohorts:
    """Answers what a cohort holds. Thread-safe; keeps the rows of recent cohorts."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self._rows: OrderedDict[Cohort | Term, BitMap] = OrderedDict()
        self._lock = threading.Lock()

    # Names -> terms

    def term(self, facet: Facet, component: str) -> Term | None:
        """Return what one path component below ``by-<facet>`` says, ``None`` if it names nothing."""
        codes = self._union(facet, component)
        if codes is None and component.startswith("not-"):
            codes = self._union(facet, component.removeprefix("not-"))
            return None if codes is None else Term(facet.name, codes, negated=True)
        return None if codes is None else Term(facet.name, codes)

    def _union(self, facet: Facet, text: str) -> frozenset[int] | None:
        codes = self._literal(facet, text)
        if codes is not None:
            return codes
        union: set[int] = set()
        for part in text.split(","):
            codes = self._literal(facet, part)
            if codes is None:
                codes = _number_range(facet, part)
            if codes is None:
                return None
            union |= codes
        return frozenset(union)

    def _literal(self, facet: Facet, name: str) -> frozenset[int] | None:
        if facet.name == "episode":
            return self._episodes(name)
        if facet.kind is Kind.NAME:
            table = self._name_table(facet)
            try:
                return frozenset(table.find(name.encode())) or None
            except UnicodeEncodeError:
                return None
        if facet.kind is Kind.FILE:
            kinds = {"dcm": DCM, "json": JSON}
            return frozenset([kinds[name]]) if name in kinds else None
        # A name on the drive before a code or a raw text: what is listed is found. One name may stand for two:
        # what NBSS calls "Other" is listed with what is outside its table.
        names = [value.label for value in self.index.texts.get(facet.name, facet.values)]
        codes = {code for code, label in enumerate(names, FIRST_CODE) if label == name}
        if name in RESERVED:
            codes.add(RESERVED_CODES[name])
        if codes:
            return frozenset(codes)
        if facet.kind is Kind.TEXT:
            label = slug(name) if facet.definition else None  # of a user's facet only those in a map are kept
            for code, text in enumerate(self.index.texts[facet.name], FIRST_CODE):
                if name in text.raw or text.label == label:
                    return frozenset([code])
        for code, choice in enumerate(facet.values, FIRST_CODE):
            if name == choice.code or name in choice.aliases:
                return frozenset([code])
        return None

    def _name_table(self, facet: Facet) -> NameTable:
        return self.index.client_table if facet.name == "client" else self.index.study_table

    def _episodes(self, name: str) -> frozenset[int] | None:
        """Return the episode ``<client>~<number>``, or all that have a number."""
        if name == UNLINKED:
            return frozenset([_NO_EPISODE])
        client, tilde, number = os.fsencode(name).partition(b"~")
        if not tilde:
            return frozenset(self.index.episode_table.find(client)) or None
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

        A cohort that shows only one type of file holds the images that have such a file.
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
        if not any(cohort.files):
            return BitMap()
        # A term of millions of rows takes 30 ms to gather from its column; the intersection then takes under 1 ms.
        parts = [self._remembered(term, functools.partial(self._term_rows, term)) for term in cohort.terms]
        for kind in (DCM, JSON):
            if not cohort.files[kind]:
                present = np.flatnonzero(self.index.files[1 - kind].access)
                parts.append(BitMap(present.astype(np.uint32)))
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
            wanted = np.zeros(_top(column), np.bool_)
            combinations = index.combinations.get(term.facet)
            if combinations is None:
                wanted[[code for code in term.codes if code < len(wanted)]] = True
            else:
                wanted[: len(combinations)] = [any(map(term.codes.__contains__, codes)) for codes in combinations]
            rows = BitMap(np.flatnonzero(wanted[column]).astype(np.uint32))
        return rows.flip(0, len(index)) if term.negated else rows

    def contains(self, cohort: Cohort, row: int) -> bool:
        """Return whether a row satisfies every term: a comparison of codes, no set is built."""
        return all(self._satisfies(term, row) for term in cohort.terms)

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

    def clients(self, cohort: Cohort) -> NDArray[np.uint32]:
        """Return the ordinals of the clients with an image in the cohort, ascending."""
        if cohort == EVERYTHING:
            return _occupied(self.index.client_rows)
        return _runs(self.index.client_of[self.row_array(cohort)])[0]

    def studies(self, cohort: Cohort) -> NDArray[np.uint32]:
        """Return the ordinals of the studies with an image in the cohort, ascending."""
        if cohort == EVERYTHING:
            return _occupied(self.index.study_rows)
        return _runs(self.index.study_of[self.row_array(cohort)])[0]

    def counts(self, cohort: Cohort, facet: Facet) -> list[tuple[str, int]]:
        """Return the values of a facet that occur in the cohort, as listed, with their number of images."""
        if facet.kind is Kind.FILE:
            rows = slice(None) if cohort == EVERYTHING else self.row_array(cohort)
            access = [files.access[rows] for files in self.index.files]
            found = [(name, int(np.count_nonzero(access[kind]))) for kind, name in ((DCM, "dcm"), (JSON, "json"))]
            return [(name, count) for kind, (name, count) in enumerate(found) if count and cohort.files[kind]]
        if facet.kind is Kind.NAME:
            return self._name_counts(cohort, facet)
        counts: dict[str, int] = {}
        for code, count in self._code_counts(cohort, facet):
            label = self.label(facet, code)
            counts[label] = counts.get(label, 0) + count
        return list(counts.items())

    def _code_counts(self, cohort: Cohort, facet: Facet) -> list[tuple[int, int]]:
        """Return (code, images), the values of the table first and the reserved ones last."""
        column = self.index.columns[facet.name]
        counts = _counted(column if cohort == EVERYTHING else column[self.row_array(cohort)])
        if facet.several:
            found: Counter[int] = Counter()
            for codes, count in zip(self.index.combinations[facet.name], counts, strict=False):
                found.update(dict.fromkeys(codes, count))
            pairs = list(found.items())
        else:
            pairs = list(enumerate(counts))
        occurring = [(code, count) for code, count in pairs if count]
        return sorted(occurring, key=lambda pair: (pair[0] < FIRST_CODE, pair[0]))

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
        ordinals, counts = _runs(column[self.row_array(cohort)])
        merged: dict[str, int] = {}
        for name, count in zip(names.take(ordinals), counts.tolist(), strict=True):
            merged[name.decode()] = merged.get(name.decode(), 0) + count
        return list(merged.items())

    def label(self, facet: Facet, code: int) -> str:
        """Return the name under which a code is listed; for a number with bands, its band."""
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


def _runs(column: NDArray[np.uint32]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Return the distinct values of an ascending column and how often each occurs, without sorting it again."""
    starts = np.flatnonzero(np.diff(column, prepend=np.int64(-1)))
    return column[starts], np.diff(starts, append=len(column))


def _occupied(bounds: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return between which neighbouring bounds there are rows."""
    return np.flatnonzero(bounds[1:] > bounds[:-1]).astype(np.uint32)


def _counted(column: NDArray[np.unsignedinteger]) -> list[int]:
    """Return how often each code occurs, up to the highest that does."""
    codes = int(column.max(initial=0)) + 1
    counts = np.zeros(codes, np.int64)
    for rows in blocks(len(column)):
        counts += np.bincount(column[rows], minlength=codes)
    found: list[int] = counts.tolist()
    return found


def _top(column: NDArray[np.unsignedinteger]) -> int:
    """Return a number above every code of a column, without looking at each where codes are small."""
    return int(np.iinfo(column.dtype).max) + 1 if column.itemsize < 4 else int(column.max(initial=0)) + 1


def _number_range(facet: Facet, text: str) -> frozenset[int] | None:
    """Return the codes of ``50-69``, ``2012-``, ``-49`` or ``57``; ``None`` if the text is no range."""
    if facet.kind is not Kind.NUMBER:
        return None
    match = _RANGE.fullmatch(text)
    if match is None or (match[1] is None and match[3] is None):
        return None
    low = int(match[1]) if match[1] is not None else facet.lowest
    high = int(match[3]) if match[3] is not None else facet.highest if match[2] else low
    if match[1] is not None and match[3] is not None and low > high:
        return None
    numbers = range(max(low, facet.lowest), min(high, facet.highest) + 1)
    return frozenset(number - facet.lowest + FIRST_CODE for number in numbers)
