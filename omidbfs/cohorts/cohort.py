"""Cohorts: path components become sets of rows. A path is a conjunction of disjunctions.

The view, exports, reports and commands use :class:`Cohorts`, from any thread.

Within one component, ``A,B`` is a union and ``not-A`` a complement (``not-A,B``: neither). ``50-69``, ``2012-``
and ``-49`` are inclusive ranges of numbers. A component that is itself the name of a value means that value.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from omidbfs.base.names import slug
from omidbfs.cohorts.conditions import Condition, Where, condition, left, satisfying
from omidbfs.cohorts.members import Named, NamedMembers
from omidbfs.cohorts.readings import number_range, readings_of
from omidbfs.cohorts.remembered import Remembered
from omidbfs.database.file_kinds import DCM, FILE_KINDS, KIND_NAMED, FileKind
from omidbfs.facets import COHORT_FACET, FACETS, RESERVED, Facet, Kind, Level
from omidbfs.index.codes import Bits, Codes, Mask, compact, size_of
from omidbfs.index.columns import FIRST_CODE, Index, counted
from omidbfs.index.levels import Among, Marks, Members, levels_of
from omidbfs.pixels.rendition import Rendition

_FEW_ROWS = 32
"""Most rows of a client or a study that are compared one by one, because a call of numpy for each takes longer."""

IMAGES = ""
"""Stands for a facet in a term whose codes are rows. No facet has this name; a user may call one ``image``."""

COHORT = COHORT_FACET.name
"""The facet of a term whose codes are those of :class:`Named`."""

FORMATS = "."
"""Stands for a facet in a term whose codes are positions in ``Index.pixel_formats``. No facet has this name."""

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
    """The images that satisfy every term; ``files`` are the kinds of files of which each has one at least.

    These files are shown, or else the ``rendition`` of each image. A cohort with a rendition has no kind but
    ``DCM``, and a term that all its images satisfy if they have the rendition.
    """

    terms: tuple[Term, ...] = ()
    files: tuple[FileKind, ...] = FILE_KINDS
    rendition: Rendition | None = None

    @property
    def shown(self) -> tuple[FileKind | Rendition, ...]:
        """The files that are shown of each image."""
        return self.files if self.rendition is None or not self.files else (self.rendition,)

    def narrowed(self, term: Term) -> "Cohort":
        """Return the cohort with one more term, or the cohort itself if it already has the term."""
        if term.facet != "file-type":
            return self if term in self.terms else Cohort((*self.terms, term), self.files, self.rendition)
        shown = (kind for kind in self.files if (kind.number in term.codes) != term.negated)
        return Cohort(self.terms, tuple(shown), self.rendition)

    def rendered(self, rendition: Rendition, terms: Iterable[Term]) -> "Cohort":
        """Return the cohort of the images that have a rendition, and so satisfy ``terms``. It shows them only."""
        files = tuple(kind for kind in self.files if kind is DCM)
        return Cohort((*self.terms, *terms), files, rendition)


EVERYTHING = Cohort()


class Cohorts:
    """Finds the images and values of cohorts in an index. Thread-safe; caches the rows of recent cohorts."""

    def __init__(self, index: Index, named: Named | None = None) -> None:
        self.index = index
        self.named = named or Named()
        self.facets = (*index.registry.facets, *([COHORT_FACET] if self.named.codes else []))
        """The facets that a path can name: those of the index, and ``cohort`` if a cohort has a name."""
        self.levels: Mapping[Level, Members] = levels_of(index)
        self._counted: Mapping[Level, Among] = {**self.levels, Level.MARK: Marks(index)}
        self.identified: Mapping[str, Members] = {facet: self.levels[level] for facet, level in LEVEL_OF.items()}
        """Facet of a term whose codes are ordinals -> the members of their level."""
        self._code_of: dict[str, Callable[[int], int]] = {}
        """Facet with one value for each image -> function that returns the code, or the ordinal, of a row."""
        self._remembered = Remembered()
        self._members = NamedMembers(self, self.named)
        self._readings: dict[str, Mapping[str, int | frozenset[int]]] = {}

    # Names -> terms

    def facet(self, name: str) -> Facet | None:
        """Return the facet with a name; ``None`` if a path cannot name it."""
        if name == COHORT and self.named.codes:
            return COHORT_FACET
        return self.index.registry.by_name.get(name)

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
            is_named = facet is COHORT_FACET
            known = (
                self.named.readings() if is_named else readings_of(self.index.texts.get(facet.name, facet.values))
            )
            self._readings[facet.name] = known
        return known

    def prepare(self) -> None:
        """Read the names of the values of all facets in advance, as a free text may have millions of them."""
        for facet in self.index.registry.facets:
            if facet.kind not in (Kind.NAME, Kind.FILE):
                self._readings_of(facet)

    # Terms -> rows

    def rows(self, cohort: Cohort) -> NDArray[np.uint32]:
        """Return the rows of a cohort, ascending, as an array that cannot be changed.

        A cohort that shows only some kinds of files holds the images that have a file of one of them.
        """
        if cohort == EVERYTHING:
            return np.arange(len(self.index), dtype=np.uint32)
        known = self._remembered.get(cohort)
        if known is None:
            size_of_terms = sum(size_of(term.codes) for term in cohort.terms)
            known = self._remembered.put(cohort, self._found(cohort), size_of_terms)
        return known

    def _found(self, cohort: Cohort) -> NDArray[np.uint32]:
        # The rows of clients, episodes, studies and images are known. The other terms are compared for these only.
        named = [term for term in cohort.terms if term.facet in self.identified and not term.negated]
        if not named or not cohort.files:
            return self._between(cohort, 0, len(self.index))
        least = named[0] if len(named) == 1 else min(named, key=self._share)
        others = Cohort(tuple(term for term in cohort.terms if term is not least), cohort.files)
        return left(self._conditions(others), self.identified[least.facet].rows(least.codes))

    def _share(self, term: Term) -> float:
        return len(term.codes) / max(1, self.identified[term.facet].total())

    def _between(self, cohort: Cohort, first: int, end: int) -> NDArray[np.uint32]:
        return satisfying(self._conditions(cohort), first, end) if cohort.files else np.zeros(0, np.uint32)

    def _conditions(self, cohort: Cohort) -> list[Condition]:
        conditions = [self._condition(term) for term in cohort.terms]
        if cohort.files != FILE_KINDS:
            columns = [self.index.files[kind].access for kind in cohort.files]

            def are_present(rows: Where) -> Mask:
                present: Mask = np.logical_or.reduce([column[rows] != 0 for column in columns])
                return present

            conditions.append(Condition(are_present, is_simple=True))
        return conditions

    def _condition(self, term: Term) -> Condition:
        members = self.identified.get(term.facet)
        if members is not None:
            return condition(members.ordinals, term.codes, negated=term.negated)
        if term.facet == COHORT:
            return self._members.condition(term.codes, negated=term.negated)
        codes, combinations = term.codes, self.index.combinations.get(term.facet)
        if combinations is not None:
            together = enumerate(combinations)
            codes = compact(position for position, of in together if any(map(term.codes.__contains__, of)))
        return condition(self._column(term.facet).__getitem__, codes, negated=term.negated)

    def contains(self, cohort: Cohort, row: int) -> bool:
        """Return whether a row satisfies every term, without finding the rows of any of them."""
        # Every lookup of a file comes here. The items of columns are kept as functions, which saves half the time.
        for term in cohort.terms:
            code_of = self._code_of.get(term.facet)
            inside = self.is_inside(term, row) if code_of is None else code_of(row) in term.codes
            if inside == term.negated:
                return False
        return True

    def _column(self, facet: str) -> NDArray[np.unsignedinteger]:
        return self.index.format_of if facet == FORMATS else self.index.columns[facet]

    def bits(self, cohort: Cohort) -> Bits:
        """Return the rows of a cohort as a set."""
        known = self._remembered.bits(cohort)
        return Bits.of(self.rows(cohort)) if known is None else known

    def codes_of(self, facet: Facet, row: int) -> tuple[int, ...]:
        """Return the codes that an image has in a facet that is no identifier."""
        return self._members.of_row(row) if facet is COHORT_FACET else self.index.codes_of(facet.name, row)

    def named_together(self, rows: NDArray[np.integer]) -> tuple[list[tuple[int, ...]], NDArray[np.uint32]]:
        """Return sets of codes of :class:`Named` that some rows have, and for each row the place of its set."""
        return self._members.together(rows)

    def is_inside(self, term: Term, row: int) -> bool:
        """Return whether the value of a row is among the codes of a term, negated or not."""
        if term.facet == COHORT:
            return self._members.has_row(term.codes, row)
        combinations = self.index.combinations.get(term.facet)
        if combinations is not None:
            codes = combinations[self.index.columns[term.facet].item(row)]
            return any(map(term.codes.__contains__, codes))
        members = self.identified.get(term.facet)
        code_of = self._column(term.facet).item if members is None else members.ordinal
        self._code_of[term.facet] = code_of
        return code_of(row) in term.codes

    def which(self, cohort: Cohort, rows: Where) -> Mask:
        """Return for each of some rows whether the cohort has it. It takes no longer than the rows are many."""
        count = len(self.index.study_of[rows])
        if not cohort.files:
            return np.zeros(count, np.bool_)
        masks = [one.of(rows) for one in self._conditions(cohort)]
        found: Mask = np.logical_and.reduce([np.ones(count, np.bool_), *masks])
        return found

    def rows_between(self, cohort: Cohort, first: int, end: int) -> NDArray[np.uint32]:
        """Return the rows of a cohort from ``first`` to before ``end``, such as those of a client.

        It compares these rows only.
        """
        if end - first > _FEW_ROWS:
            return self._between(cohort, first, end)
        index = self.index
        rows = [
            row
            for row in range(first, end)
            if self.contains(cohort, row) and any(index.has_file(row, kind) for kind in cohort.files)
        ]
        return np.array(rows, np.uint32)

    # Rows -> values

    def are_at_hand(self, cohort: Cohort, most: int) -> bool:
        """Return whether the rows of a cohort are cached, and are at most ``most``."""
        known = self._remembered.length(cohort)
        return known is not None and known <= most

    def ordinals(self, cohort: Cohort, level: Level) -> NDArray[np.integer]:
        """Return the ordinals of a level that have an image in the cohort, ascending, without ``unlinked``."""
        return self._counted[level].among(self._some_rows(cohort))

    def count(self, cohort: Cohort, level: Level) -> int:
        """Return the number of clients, episodes, studies, images or marks of a cohort."""
        if cohort == EVERYTHING and level is Level.IMAGE:
            return len(self.index)
        return len(self.ordinals(cohort, level))

    def _some_rows(self, cohort: Cohort) -> NDArray[np.uint32] | None:
        """Return the rows of a cohort, ``None`` for all of the index."""
        return None if cohort == EVERYTHING else self.rows(cohort)

    def counts(self, cohort: Cohort, facet: Facet) -> list[tuple[str, int]]:
        """Return the values of a facet that occur in the cohort, as listed, with their number of images."""
        if facet.kind is Kind.FILE:
            rows = slice(None) if cohort == EVERYTHING else self.rows(cohort)
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
            rows = self.rows(cohort)
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
        if facet is COHORT_FACET:
            return self._members.counts(cohort)
        column = self.index.columns[facet.name]
        # take() needs two thirds of the time of an index.
        counts = counted(column if cohort == EVERYTHING else column.take(self.rows(cohort)))
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
        ordinals, counts = np.unique(members.ordinals(self.rows(cohort)), return_counts=True)
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
        if facet is COHORT_FACET:
            return self.named.name(code) or ""
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
