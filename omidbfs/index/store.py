"""The index on disk: one file of arrays (``container``).

Sessions save and load it, from a thread that may wait for a disk.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from operator import attrgetter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np

from omidbfs.base.errors import UserError
from omidbfs.base.places import user_directory
from omidbfs.database.layout import Source
from omidbfs.facets import BY_NAME, Facet, Registry
from omidbfs.index import container
from omidbfs.index.codes import Bits
from omidbfs.index.columns import COLUMNS, LISTS, Index, TextValue
from omidbfs.index.container import NOT_OURS, Arrays, FileKind, NoFileError, mapped, save_arrays
from omidbfs.index.names import Names, NameTable
from omidbfs.index.schema import Column, Derived, Part, arrays_of, declared, marked, values_of
from omidbfs.index.sections import IndexFileError, Read, Sections, UnreadMapping, read_all, unread

SCHEMA = "6"
"""Version of the format. It changes with any change to the meaning of the arrays."""

KIND = FileKind("omidbfs index", SCHEMA)
_DERIVED: Mapping[str, Derived] = declared(Index, Derived)


NoIndexError = NoFileError


@dataclass(frozen=True, slots=True)
class Stored:
    """An index, and when it was written, in seconds since 1970; ``sections`` are those of its file, if any.

    ``source`` is the fingerprint of its source.
    """

    index: Index
    written: float
    sections: Sections | None = None
    source: str = ""

    def verify(self) -> None:
        """Compare all of the file with its checksums.

        Raises
        ------
        DamagedError
            A section is damaged.
        """
        if self.sections is not None:
            self.sections.verify()
            read_all(self.index)


def default_path(source: Source) -> Path:
    """Return the default place for the index of a source, in the user's cache.

    Raises
    ------
    UserError
        The user has no home directory.
    """
    cache = user_directory("cache")
    if cache is None:
        raise UserError("no place for the index: name one with --index, or set HOME")
    key = blake2b(repr((source.images, source.data, source.follow_symlinks)).encode(), digest_size=12)
    return cache / f"{key.hexdigest()}.index"


def may_replace(path: Path) -> bool:
    """Return whether ``path`` does not exist, is an empty file, or has the header of an index of any version.

    omidbfs never replaces another file.

    Raises
    ------
    PermissionError
        The user may not read the file.
    """
    return container.may_replace(path, KIND)


def save(path: Path, index: Index, source_fingerprint: str) -> None:
    """Write an index with all windows off and unique links, completely or not at all.

    Raises
    ------
    OSError
        The file cannot be written. An old file stays as it was.
    """
    save_arrays(path, KIND, _arrays(index), source_fingerprint)


def load(path: Path, source_fingerprint: str, *, whole: bool = True) -> Stored:
    """Map the index at ``path`` into memory.

    Every section is compared with its checksum first. Without ``whole`` this happens at the first use of a
    section, which may then raise :class:`~omidbfs.index.sections.DamagedError`.

    Raises
    ------
    IndexFileError
        There is no usable index of this source.
    """
    sections = mapped(path, KIND, source_fingerprint)
    try:
        stored = replace(_stored(sections), source=source_fingerprint)
        if whole:
            stored.verify()
        return stored
    except NOT_OURS as error:
        raise IndexFileError(f"damaged: {type(error).__name__}") from error


# Index <-> arrays -------------------------------------------------------------------------------------------


def _arrays(index: Index) -> Arrays:
    arrays: Arrays = arrays_of(COLUMNS, values_of(index))
    for field, derived in _DERIVED.items():
        value = getattr(index, field)
        arrays |= {f"{derived.names}.slots": value.slots} if derived.names else {field: value}
    arrays |= {f"columns.{name}": column for name, column in index.columns.items()}
    arrays["duplicates"] = index.duplicates.array().astype(np.uint32)
    arrays["problems"] = np.frombuffer(index.problem_lines, np.uint8)
    meta = {
        "lists": {name: getattr(index, name) for name in LISTS},
        "texts": {name: [[value.label, value.raw] for value in values] for name, values in index.texts.items()},
        "raw_images": list(index.raw_images.items()),
        "raw_studies": list(index.raw_studies.items()),
        "studies_unique": index.studies_unique,
        "newest": index.newest,
        "combinations": index.combinations,
        "facets": {name: definition_of(BY_NAME[name]) for name in index.columns if name in BY_NAME},
        "user": [[facet.name, facet.definition] for facet in index.registry.user],
        "written": time.time(),
    }
    arrays["meta"] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    return arrays


def _stored(sections: Sections) -> Stored:
    meta = json.loads(sections.read("meta").tobytes())
    # Facets whose definition has changed are left out, and facets of the user whose names the program now uses.
    own = {
        name
        for name, definition in meta["facets"].items()
        if name in BY_NAME and definition == definition_of(BY_NAME[name])
    }
    user = _user_facets(meta["user"])
    coded = own | {facet.name for facet in user}
    reads, known = _parts(Index, sections)
    problems, duplicates = sections.later("problems"), sections.later("duplicates")
    reads |= {"problem_lines": lambda: problems().data, "duplicates": lambda: Bits.of(duplicates())}
    for field, derived in _DERIVED.items():
        if derived.names:
            slots = sections.later(f"{derived.names}.slots")
            names = attrgetter(derived.names)(SimpleNamespace(**known))
            known[field] = unread(NameTable, {"slots": slots}, names=names)
        else:
            reads[field] = sections.later(field)
    for name, listed in LISTS.items():
        known[name] = tuple(_entry(listed.nothing, one) for one in meta["lists"][name])
    index = unread(
        Index,
        reads,
        **known,
        columns=UnreadMapping({name: sections.later(f"columns.{name}") for name in coded}),
        combinations={
            name: tuple(tuple(one) for one in combinations)
            for name, combinations in meta["combinations"].items()
            if name in coded
        },
        texts={
            name: tuple(TextValue(label, tuple(raw)) for label, raw in values)
            for name, values in meta["texts"].items()
            if name in coded
        },
        studies_unique=meta["studies_unique"],
        raw_images=dict(meta["raw_images"]),
        raw_studies=dict(meta["raw_studies"]),
        newest=meta["newest"],
        registry=Registry(tuple(user)),
    )
    return Stored(index, meta["written"], sections)


def _user_facets(stored: Sequence[tuple[str, str]]) -> list[Facet]:
    if not stored:
        return []
    from omidbfs.facets.defined import stored_facet

    return [stored_facet(definition) for name, definition in stored if name not in BY_NAME]


def _parts(declaring: type, sections: Sections, prefix: str = "") -> tuple[dict[str, Read], dict[str, Any]]:
    """Return functions that read the columns of a class, and the values of the fields that have columns in them.

    These values are objects, of which nothing has been read.
    """
    reads: dict[str, Read] = {}
    known: dict[str, Any] = {}
    for field, (type_, annotation) in marked(declaring).items():
        name = f"{prefix}{field}"
        if isinstance(annotation, Column) and type_ is Names:
            heap, offsets = sections.later(f"{name}.heap"), sections.later(f"{name}.offsets")
            known[field] = unread(Names, {"heap": heap, "offsets": offsets})
        elif isinstance(annotation, Column):
            reads[field] = sections.later(name)
        elif isinstance(annotation, Part) and annotation.each_of:
            inner = get_args(type_)[0]
            known[field] = tuple(_part(inner, sections, f"{each}.") for each in annotation.each_of)
        elif isinstance(annotation, Part):
            known[field] = _part(type_, sections, f"{field}.")
    return reads, known


def _part(declaring: type, sections: Sections, prefix: str) -> Any:
    reads, known = _parts(declaring, sections, prefix)
    return unread(declaring, reads, **known)


def _entry(nothing: tuple[Any, ...], stored: Sequence[Any]) -> tuple[Any, ...]:
    """Return an entry of a list, in the class of ``nothing`` and with as many items."""
    entry: tuple[Any, ...] = getattr(nothing, "_make", tuple)(stored)
    if len(entry) != len(nothing):
        raise ValueError
    return entry


def definition_of(facet: Facet) -> str:
    """Return a text that changes with the meaning of the codes of a facet of the program, and with its places.

    A change of the code that reads the facet shows only in ``definition`` of the facet.
    """
    places = [tag.path for tag in facet.tags], [(key.document, key.path) for key in facet.keys]
    codes = [value.code for value in facet.values]
    numbers = (facet.lowest, facet.highest)
    facts = (facet.kind.name, facet.several, numbers, codes, places, facet.label.__name__, facet.definition)
    return blake2b(repr(facts).encode(), digest_size=8).hexdigest()
