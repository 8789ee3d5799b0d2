"""Counts of clients, episodes, studies and images among the images of a cohort, also by the values of facets.

``omidbfs facets`` and ``table``, reports and exclusion flows use it. A :class:`Selected` belongs to one thread.

A client, episode or study is counted if at least one of its images is in the cohort. It is counted in each value
that its images in the cohort have, and once in a total. ``unlinked`` is no episode.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from omidbfs.cohorts.cohort import EVERYTHING, Cohort, Cohorts
from omidbfs.facets import Facet, Kind, Level
from omidbfs.index.columns import FIRST_CODE, blocks, counted, occurring

UNITS = (Level.CLIENT, Level.EPISODE, Level.STUDY, Level.IMAGE)
"""What can be counted."""

_MOST_CELLS = 1 << 26
"""The most pairs of a member and a set of values that are marked in an array of booleans. Others are sorted."""

Numbers = NDArray[np.integer]


def counts_of(cohorts: Cohorts, cohort: Cohort) -> dict[Level, int]:
    """Return how many clients, episodes, studies and images a cohort has."""
    return {level: cohorts.count(cohort, level) for level in UNITS}


@dataclass(frozen=True, slots=True)
class Groups:
    """The values that some images have of a facet. ``labels`` are their names, in the order of the facet.

    ``codes`` has a number for each image, a position in ``sets``: the positions in ``labels`` of all values that
    the image has. Without ``sets``, an image has one value, and its number is the position in ``labels``.
    """

    labels: tuple[str, ...]
    codes: Numbers
    sets: tuple[tuple[int, ...], ...] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def crossed(self, other: "Groups") -> "Groups":
        """Return the pairs of a value of this facet and a value of another one: row by row, without labels."""
        mine, its = self._each(), other._each()
        codes = self.codes.astype(np.int64) * len(its) + other.codes
        if self.sets is None and other.sets is None:
            return Groups(("",) * (len(self) * len(other)), codes)
        occurring, codes = np.unique(codes, return_inverse=True)
        pairs = (divmod(code, len(its)) for code in occurring.tolist())
        sets = tuple(tuple(a * len(other) + b for a in mine[one] for b in its[two]) for one, two in pairs)
        return Groups(("",) * (len(self) * len(other)), codes, sets)

    def _each(self) -> Sequence[tuple[int, ...]]:
        return self.sets if self.sets is not None else [(place,) for place in range(len(self.labels))]


class Selected:
    """The images of a cohort, and the clients, episodes and studies that they belong to."""

    def __init__(self, cohorts: Cohorts, cohort: Cohort) -> None:
        self.cohorts, self.cohort, self.index = cohorts, cohort, cohorts.index
        self.rows = cohorts.rows(cohort)
        self.totals: Mapping[Level, int] = counts_of(cohorts, cohort)
        self._members: dict[Level, Numbers] = {}

    def members(self, level: Level) -> Numbers:
        """Return the ordinal of each image's client, episode (-1: none) or study, or its place in the cohort."""
        if level not in self._members:
            is_image = level is Level.IMAGE
            self._members[level] = (
                np.arange(len(self.rows)) if is_image else self.cohorts.levels[level].ordinals(self.rows)
            )
        return self._members[level]

    def groups(self, facet: Facet) -> Groups:
        """Return the values of a facet that the images have."""
        if facet.kind is Kind.FILE:
            return self._by_file(facet)
        if facet.kind is Kind.NAME:
            return self._by_name(facet)
        is_named = facet.kind is Kind.COHORT
        combinations: Sequence[Sequence[int]] | None
        column: NDArray[np.unsignedinteger]
        if is_named:
            combinations, column = self.cohorts.named_together(self.rows)
        else:
            combinations, column = self.index.combinations.get(facet.name), self.index.columns[facet.name]
            if self.cohort != EVERYTHING:
                column = column.take(self.rows)
        codes = occurring(column).tolist()
        together = {code: (code,) if combinations is None else combinations[code] for code in codes}
        order = {code: place for place, code in enumerate(self.cohorts.named.codes.values())} if is_named else {}
        labels: dict[str, int] = {}
        place_of: dict[int, int] = {}
        for code in sorted(
            {code for several in together.values() for code in several},
            key=lambda code: (code < FIRST_CODE, order.get(code, code)),
        ):
            place_of[code] = labels.setdefault(self.cohorts.label(facet, code), len(labels))
        table: Numbers = np.zeros(max(codes, default=0) + 1, np.min_scalar_type(len(codes)))
        if combinations is None:
            table[codes] = [place_of[code] for code in codes]
            return Groups(tuple(labels), table.take(column))
        table[codes] = range(len(codes))
        sets = tuple(tuple(dict.fromkeys(place_of[code] for code in together[one])) for one in codes)
        return Groups(tuple(labels), table.take(column), sets)

    def _by_name(self, facet: Facet) -> Groups:
        members = self.cohorts.levels[facet.level]
        ordinals, codes = np.unique(members.ordinals(self.rows), return_inverse=True)
        unlinked = int(np.searchsorted(ordinals, 0))  # listed last
        labels: dict[str, int] = {}
        names = members.names(np.roll(ordinals, -unlinked))
        places = np.array([labels.setdefault(name.decode(), len(labels)) for name in names], np.int64)
        return Groups(tuple(labels), np.roll(places, unlinked)[codes] if len(codes) else codes)

    def _by_file(self, facet: Facet) -> Groups:
        rows = slice(None) if self.cohort == EVERYTHING else self.rows
        present = {kind: self.index.files[kind].access[rows] != 0 for kind in self.cohort.files}
        kinds = [kind for kind, mask in present.items() if mask.any()]
        codes = np.zeros(len(self.rows), np.uint8)
        for bit, kind in enumerate(kinds):
            codes |= present[kind].astype(np.uint8) << np.uint8(bit)
        sets = (tuple(bit for bit in range(len(kinds)) if code >> bit & 1) for code in range(1 << len(kinds)))
        return Groups(tuple(facet.values[kind.number].label for kind in kinds), codes, tuple(sets))

    def per_value(self, groups: Groups, level: Level) -> list[int]:
        """Return for each value how many different clients, episodes, studies or images have it."""
        width = len(groups)
        if not width:
            return []
        if level is Level.IMAGE:
            number = counted(groups.codes.astype(np.uint32, copy=False))
            if groups.sets is None:
                return [*number.tolist(), *[0] * (width - len(number))]
            found = np.zeros(width, np.int64)
            for count, places in zip(number.tolist(), groups.sets, strict=False):
                found[list(places)] += count
            return [int(count) for count in found]
        members, codes = _without_repeats(self.members(level), groups.codes)
        top = int(members.max()) + 1 if len(members) else 0
        height = width if groups.sets is None else len(groups.sets)
        if top * height <= _MOST_CELLS:
            seen = _seen(members, codes, top, height)
            if groups.sets is None:
                return [int(count) for count in np.count_nonzero(seen, axis=1)]
            of_label: list[list[int]] = [[] for _ in range(width)]
            for code, places in enumerate(groups.sets):
                for place in places:
                    of_label[place].append(code)
            return [int(np.count_nonzero(np.logical_or.reduce(seen[of]))) for of in of_label]
        if groups.sets is not None:
            pairs = _distinct(members, codes, height)
            members, codes = pairs // height, pairs % height
            lengths = np.array([len(places) for places in groups.sets])
            ends = np.cumsum(lengths)
            times = lengths[codes]
            inside = np.arange(times.sum()) - np.repeat(np.cumsum(times) - times, times)
            flat = np.array([place for places in groups.sets for place in places], np.int64)
            codes = flat[np.repeat(ends[codes] - times, times) + inside]
            members = np.repeat(members, times)
        counts: list[int] = np.bincount(_distinct(members, codes, width) % width, minlength=width).tolist()
        return counts


def _seen(members: Numbers, codes: Numbers, top: int, height: int) -> NDArray[np.bool_]:
    """Return for each code below ``height`` and each member below ``top`` whether they are a pair.

    Members below 0 are left out.
    """
    seen = np.zeros(top * height, np.bool_)
    may_lack = members.dtype.kind == "i"
    for part in blocks(len(members)):
        of, code = members[part], codes[part]
        if may_lack:
            of, code = of[of >= 0], code[of >= 0]
        seen[code.astype(np.int64) * top + of] = True
    return seen.reshape(height, top)


def _distinct(members: Numbers, codes: Numbers, width: int) -> NDArray[np.int64]:
    """Return each pair of a member and a code below ``width`` once, as member * width + code, ascending.

    Members below 0 are left out.
    """
    linked = members >= 0
    ordered = np.sort(members[linked].astype(np.int64) * width + codes[linked])
    return ordered[np.flatnonzero(np.diff(ordered, prepend=-1))]


def _without_repeats(members: Numbers, codes: Numbers) -> tuple[Numbers, Numbers]:
    """Return members and codes without pairs that are as the pair before, or all if most would remain."""
    # Neighbours mostly are of the same member, and have the same value of most facets. To find where a value
    # changes takes 2 ms for 3 million images, and to mark all pairs 8.
    is_new = np.ones(len(codes), np.bool_)
    for part in blocks(len(codes)):
        inside = slice(part.start + 1, part.stop + 1)
        of, code = members[part.start : part.stop + 1], codes[part.start : part.stop + 1]
        is_new[inside] = (of[1:] != of[:-1]) | (code[1:] != code[:-1])
    if 2 * np.count_nonzero(is_new) > len(codes):
        return members, codes
    kept = np.flatnonzero(is_new)
    return members[kept], codes[kept]
