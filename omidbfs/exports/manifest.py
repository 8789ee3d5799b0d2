"""``manifest.json``: the definition of a cohort in full, its counts, and digests of its files.

``formats`` and ``omidbfs verify`` use it. It is pure, for any thread. ``docs/exports.md`` describes the file.

The identity of a file is a line: its path below ``by-client`` of the cohort, a blank, its size in bytes, a blank,
its modification time in nanoseconds since 1970, and a newline. The digest of a cohort is the SHA-256 of its lines
in the order of their bytes. The digest of a client is the beginning of the SHA-256 of the client's lines.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from time import gmtime, strftime
from typing import Any, NamedTuple

import numpy as np
import orjson

from omidbfs.base.names import printable
from omidbfs.cohorts.cohort import COHORT, Cohort, Cohorts
from omidbfs.cohorts.named import Criteria, NamedCohort, Others
from omidbfs.database.file_kinds import FILE_KINDS
from omidbfs.exports.selection import Selection
from omidbfs.facets import NONE, Level
from omidbfs.index.columns import Index
from omidbfs.index.store import SCHEMA, definition_of

VERSION = 1
RULES = "omidb 0.13.1"
"""The rules of links, statuses and outcomes."""
COUNTED = (Level.CLIENT, Level.EPISODE, Level.STUDY, Level.IMAGE, Level.MARK)
_DIGITS = 16
"""Hexadecimal digits of the digest of a client."""

Json = dict[str, Any]


class ClientDigest(NamedTuple):
    """The digest of the files of a client, with and without their modification times."""

    client: str
    with_times: str
    without_times: str


@dataclass(slots=True)
class Identities:
    """Digests of the files of a cohort; iterating over them, once, makes them."""

    cohorts: Cohorts
    cohort: Cohort
    with_times: str = ""
    without_times: str = ""

    def __iter__(self) -> Iterator[ClientDigest]:
        """Yield the digests of each client in the order of clients."""
        index, rows = self.cohorts.index, self.cohorts.rows(self.cohort)
        totals = sha256(), sha256()
        starts = np.flatnonzero(np.diff(index.client_of[rows].astype(np.int64), prepend=-1))
        for first, end in pairwise((*starts.tolist(), len(rows))):
            lines = sorted(_lines(index, self.cohort, rows[first:end]))
            if not lines:
                continue
            texts = b"".join(lines), b"".join(line[: line.rindex(b" ")] + b"\n" for line in lines)
            for total, text in zip(totals, texts, strict=True):
                total.update(text)
            client = index.clients[int(index.client_of[rows[first]])].decode()
            yield ClientDigest(client, *(sha256(text).hexdigest()[:_DIGITS] for text in texts))
        self.with_times, self.without_times = (total.hexdigest() for total in totals)


def _lines(index: Index, cohort: Cohort, rows: Any) -> Iterator[bytes]:
    """Yield the identities of the files of some images of one client."""
    client = index.clients[int(index.client_of[rows[0]])]
    names = list(zip(index.studies.take(index.study_of[rows]), index.images.take(rows), strict=True))
    for kind in cohort.files:
        files = index.files[kind]
        facts = zip(
            names, *(column[rows].tolist() for column in (files.access, files.size, files.mtime)), strict=True
        )
        for (study, image), access, size, mtime in facts:
            if access:
                yield b"%b/%b/%b%b %d %d\n" % (client, study, image, kind.suffix, size, mtime)


def manifest(chosen: Selection) -> Iterator[bytes]:
    """Yield ``manifest.json`` of a cohort. The same index and configuration give the same bytes."""
    option = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    yield orjson.dumps(manifest_of(chosen, Identities(chosen.cohorts, chosen.cohort)), option=option)


def manifest_of(chosen: Selection, identities: Iterable[ClientDigest]) -> Json:
    """Return the content of a manifest; ``identities`` are the :class:`Identities` of the selection."""
    from omidbfs.base.version import installed_version

    cohorts, cohort, index, origin = chosen.cohorts, chosen.cohort, chosen.cohorts.index, chosen.origin
    rows = cohorts.rows(cohort)
    digests = list(identities)
    present = {kind: index.files[kind].access[rows] != 0 for kind in cohort.files}
    sizes = (int(index.files[kind].size[rows][is_there].sum()) for kind, is_there in present.items())
    size = sum(sizes)
    whole = identities if isinstance(identities, Identities) else Identities(cohorts, cohort)
    return {
        "manifest": VERSION,
        "made": {
            "omidbfs": installed_version(),
            "rules": RULES,
            "index": SCHEMA,
            "index_written": strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(origin.written)),
            "source": sha256(origin.source_fingerprint.encode()).hexdigest(),
        },
        "cohort": _definition(chosen),
        "counts": {level.plural: cohorts.count(cohort, level) for level in COUNTED},
        "files": {
            **{kind.name: int(np.count_nonzero(present[kind])) if kind in present else 0 for kind in FILE_KINDS},
            "bytes": size,
            "sha256": whole.with_times,
            "sha256_without_times": whole.without_times,
            "clients": sorted(one.with_times for one in digests),
            "clients_without_times": sorted(one.without_times for one in digests),
        },
    }


# The definition


def _definition(chosen: Selection) -> Json:
    origin, rendition = chosen.origin, chosen.cohort.rendition
    words = chosen.title.split("/")
    known = {one.name: one for one in origin.definitions}
    used = _used(words, known)
    facets = _facets_in(words).union(*(_facets_of(known[name]) for name in used))
    by_name = chosen.cohorts.index.registry.by_name
    windows = origin.classification.windows
    return {
        "path": printable(chosen.title),
        "rendition": None
        if rendition is None
        else {"name": rendition.name, "definition": rendition.text.decode()},
        "cohorts": {name: _named(known[name]) for name in sorted(used)},
        "facets": {
            name: json.loads(by_name[name].definition)
            if by_name[name].tokens is None
            else definition_of(by_name[name])
            for name in sorted(facets)
            if name in by_name and (by_name[name].tokens is not None or by_name[name].definition)
        },
        "options": {
            "num_months_ci_prior": windows.ci_prior,
            "num_months_cancer_prior": windows.cancer_prior,
            "num_months_normal_follow_up": windows.normal_follow_up,
            "num_months_benign_follow_up": windows.benign_follow_up,
            "link_all": origin.classification.link_all,
            "clients_file": None if origin.only is None else _listed(origin.only),
        },
    }


def _listed(names: Iterable[str]) -> Json:
    """Return how many names a list has, and the SHA-256 of its names, sorted, each with a newline."""
    lines = sorted({name.encode("utf-8", "surrogateescape") + b"\n" for name in names})
    return {"names": len(lines), "sha256": sha256(b"".join(lines)).hexdigest()}


def _named(one: NamedCohort) -> Json:
    """Return the definition of a named cohort, with counts and checksums in place of the names in its lists."""
    found = {} if one.include is None else _criteria(one.include)
    if one.of is not None:
        found["include"] = list(one.of.names)
    if isinstance(one.exclude, Others):
        found["exclude"] = list(one.exclude.names)
    elif one.exclude is not None:
        found["exclude"] = _criteria(one.exclude)
    return found


def _criteria(criteria: Criteria) -> Json:
    path: Json = {"path": printable(criteria.path)} if criteria.path else {}
    return path | {level.plural: _listed(names) for level, names in criteria.lists}


def _used(words: list[str], known: Mapping[str, NamedCohort]) -> set[str]:
    """Return the named cohorts that a path uses, and those that their definitions use."""
    left, found = _cohorts_in(words, known), set[str]()
    while left:
        name = left.pop()
        if name in known and name not in found:
            found.add(name)
            one = known[name]
            for part in (one.include, one.exclude, one.of):
                if isinstance(part, Others):
                    left |= {*part.names}
                elif part is not None:
                    left |= _cohorts_in(part.path.split("/"), known)
    return found


def _cohorts_in(words: list[str], known: Mapping[str, NamedCohort]) -> set[str]:
    words = [word for word in words if word]
    found = {after for before, after in pairwise(words) if before == "cohorts"}
    for before, after in pairwise(words):
        if before == f"by-{COHORT}":
            names = {after} if after in known else {*after.removeprefix("not-").split(",")}
            found |= names | ({*known} if NONE in names else set())
    return found


def _facets_in(words: Iterable[str]) -> set[str]:
    return {word.removeprefix("by-") for word in words if word.startswith("by-")}


def _facets_of(one: NamedCohort) -> set[str]:
    parts = (part for part in (one.include, one.exclude) if isinstance(part, Criteria))
    return set[str]().union(*(_facets_in(part.path.split("/")) for part in parts))


# Comparison


def differences(then: Json, now: Json) -> Iterator[tuple[str, object, object]]:
    """Yield the place, the earlier and the current value of everything in which two objects differ."""
    for key in {**then, **now}:
        one, other = then.get(key), now.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            yield from ((f"{key}.{place}", *values) for place, *values in differences(one, other))  # type: ignore[misc]
        elif one != other:
            yield key, one, other
