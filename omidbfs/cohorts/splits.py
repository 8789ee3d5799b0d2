"""Splits the clients of a cohort into parts, such as train, validation and test, with every stratum in proportion.

``omidbfs split`` uses it. Pure functions: any thread may call them.

A client is in one part with all its images. The parts depend on the clients, their strata, the parts and the seed,
and on nothing else: neither on the order of the clients nor on the machine.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from omidbfs.cohorts.cohort import Cohort, Cohorts
from omidbfs.facets import Facet, Level
from omidbfs.index.columns import FIRST_CODE

POOLED = "(pooled)"
"""The stratum of all clients whose own stratum has fewer clients than there are parts."""


@dataclass(frozen=True, slots=True)
class Split:
    """A split. ``part_of`` has the part of each client. ``counts`` has, for each stratum, the number of clients in
    each part. ``pooled`` has the size of each stratum that was pooled.
    """

    part_of: Mapping[str, str]
    counts: Mapping[str, Sequence[int]]
    pooled: Mapping[str, int]


def strata_of(cohorts: Cohorts, cohort: Cohort, facets: Sequence[Facet]) -> dict[str, str]:
    """Return the stratum of each client of a cohort: for each facet, the values of the client's images in it.

    Values of one facet are joined by ``+``, and facets by a comma. Without facets every client has the stratum
    ``all``.
    """
    rows = cohorts.rows(cohort)
    clients = cohorts.levels[Level.CLIENT].ordinals(rows)
    ordinals = np.unique(clients)
    texts = [_values(cohorts, facet, rows, clients) for facet in facets]
    names = cohorts.levels[Level.CLIENT].names(ordinals)
    return {
        name.decode(): ",".join("+".join(values[ordinal]) for values in texts) or "all"
        for name, ordinal in zip(names, ordinals.tolist(), strict=True)
    }


def _values(
    cohorts: Cohorts, facet: Facet, rows: NDArray[np.uint32], clients: NDArray[np.integer]
) -> dict[int, list[str]]:
    """Return the names of the values of each client, in the order in which the facet lists them."""
    index = cohorts.index
    combinations = index.combinations.get(facet.name)
    pairs = np.unique(np.stack([clients, index.columns[facet.name][rows]]).astype(np.int64), axis=1)
    codes: dict[int, set[int]] = defaultdict(set)
    for client, code in pairs.T.tolist():
        codes[client].update((code,) if combinations is None else combinations[code])
    return {
        client: list(dict.fromkeys(cohorts.label(facet, code) for code in sorted(found, key=_place)))
        for client, found in codes.items()
    }


def _place(code: int) -> tuple[bool, int]:
    return code < FIRST_CODE, code  # facets list reserved codes last


def split(
    stratum_of: Mapping[str, str],
    parts: Mapping[str, int],
    seed: int = 0,
    earlier: Mapping[str, str] | None = None,
) -> Split:
    """Divide clients into parts.

    Without ``earlier``, the number of clients in each part of a stratum, and in each part as a whole, is the exact
    share rounded down or up (controlled rounding). A stratum with fewer clients than parts is pooled with all
    others of its kind.

    Parameters
    ----------
    stratum_of
        Client -> stratum.
    parts
        Part -> weight, a positive number. The shares are weights of their sum.
    seed
        Another seed chooses other clients.
    earlier
        Client -> part of an earlier split, one of ``parts``. These clients stay where they are. Each other client
        goes to the part that lacks most in its stratum. Clients that ``stratum_of`` lacks are kept, and counted
        nowhere.
    """
    known = dict(earlier or {})
    sizes = Counter(stratum_of.values())
    pooled = {name: size for name, size in sorted(sizes.items()) if size < len(parts)}
    members: dict[str, list[str]] = defaultdict(list)
    for client, stratum in stratum_of.items():
        members[POOLED if stratum in pooled else stratum].append(client)
    strata = sorted(members, key=lambda name: (name == POOLED, name))
    names, weights = list(parts), list(parts.values())
    before = [Counter(known[client] for client in members[name] if client in known) for name in strata]
    taken = [[counted[part] for part in names] for counted in before]
    wanted = (
        grown(taken, [len(members[name]) for name in strata], weights)
        if known
        else rounded([len(members[name]) for name in strata], weights)
    )
    part_of = dict(known)
    for name, row, already in zip(strata, wanted, taken, strict=True):
        free = (part for part, size, there in zip(names, row, already, strict=True) for _ in range(size - there))
        part_of |= zip(_shuffled((one for one in members[name] if one not in known), seed), free, strict=True)
    return Split(dict(sorted(part_of.items())), dict(zip(strata, map(tuple, wanted), strict=True)), pooled)


def _shuffled(clients: Iterable[str], seed: int) -> list[str]:
    return sorted(
        clients, key=lambda client: blake2b(f"{seed}:{client}".encode(errors="surrogateescape")).digest()
    )


def rounded(sizes: Sequence[int], weights: Sequence[int]) -> list[list[int]]:
    """Return how many of each stratum go to each part: strata x parts, with the sizes as the sums of rows.

    Each number is ``size * weight / sum(weights)``, rounded down or up, and so is the sum of each column. Such a
    table always exists (Bacharach, 1966). The remainders of a row go where the column lacks most. Then units move
    along chains of columns until every sum is within its bounds.
    """
    whole, total = sum(weights), sum(sizes)
    table = [[size * weight // whole for weight in weights] for size in sizes]
    may_grow = [[bool(size * weight % whole) for weight in weights] for size in sizes]
    has_grown = [[False] * len(weights) for _ in sizes]
    floors = [sum(column) for column in zip(*table, strict=True)] or [0] * len(weights)
    least = [total * weight // whole - floor for weight, floor in zip(weights, floors, strict=True)]
    most = [-(-total * weight // whole) - floor for weight, floor in zip(weights, floors, strict=True)]
    extra = [0] * len(weights)
    columns = range(len(weights))
    for size, row, growing, grew in zip(sizes, table, may_grow, has_grown, strict=True):
        lacking = sorted(
            (column for column in columns if growing[column]),
            key=lambda column: (extra[column] + floors[column]) * whole - total * weights[column],
        )
        for column in lacking[: size - sum(row)]:
            grew[column] = True
            extra[column] += 1
    while chain := _chain(extra, least, most, may_grow, has_grown):
        for one, other in pairwise(chain):
            number = _movable(one, other, may_grow, has_grown)
            assert number is not None, "each link of the chain has a unit to move"
            has_grown[number][one], has_grown[number][other] = False, True
        extra[chain[0]] -= 1
        extra[chain[-1]] += 1
    return [
        [number + more for number, more in zip(row, grew, strict=True)]
        for row, grew in zip(table, has_grown, strict=True)
    ]


def _chain(
    extra: Sequence[int],
    least: Sequence[int],
    most: Sequence[int],
    may_grow: Sequence[Sequence[bool]],
    has_grown: Sequence[Sequence[bool]],
) -> list[int] | None:
    """Return a chain of columns along which a unit has to move; ``None`` if every sum is within its bounds."""
    columns = range(len(extra))
    starts = [column for column in columns if extra[column] > most[column]]
    ends = {column for column in columns if extra[column] < most[column]}
    if not starts:
        starts = [column for column in columns if extra[column] > least[column]]
        ends = {column for column in columns if extra[column] < least[column]}
        if not ends:
            return None
    came_from = dict.fromkeys(starts, -1)
    for column in (queue := list(starts)):
        for other in columns:
            if other in came_from or _movable(column, other, may_grow, has_grown) is None:
                continue
            came_from[other] = column
            queue.append(other)
            if other in ends:
                chain = [other]
                while came_from[chain[0]] >= 0:
                    chain.insert(0, came_from[chain[0]])
                return chain
    raise AssertionError("a table within the bounds always exists")


def _movable(
    one: int, other: int, may_grow: Sequence[Sequence[bool]], has_grown: Sequence[Sequence[bool]]
) -> int | None:
    """Return the row in which a unit can move from one column to another, ``None`` if there is none."""
    for number, (growing, grew) in enumerate(zip(may_grow, has_grown, strict=True)):
        if grew[one] and growing[other] and not grew[other]:
            return number
    return None


def grown(taken: Sequence[Sequence[int]], sizes: Sequence[int], weights: Sequence[int]) -> list[list[int]]:
    """Return how many of each stratum each part has after growth: no fewer than ``taken``, ``sizes`` in each row.

    Each new client goes to the part that lacks most of its share in the stratum. Of equals, it goes to the part
    that lacks most as a whole.
    """
    whole, total = sum(weights), sum(sizes)
    table = [list(row) for row in taken]
    sums = [sum(column) for column in zip(*table, strict=True)]
    for size, row in zip(sizes, table, strict=True):
        for _ in range(size - sum(row)):
            column = max(
                range(len(weights)),
                key=lambda column: (
                    size * weights[column] - row[column] * whole,
                    total * weights[column] - sums[column] * whole,
                    -column,
                ),
            )
            row[column] += 1
            sums[column] += 1
    return table
