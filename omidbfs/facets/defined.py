"""Facets that a user defines: from a DICOM attribute, from NBSS, or from a table.

Sessions read definitions from the configuration, and ``index/user_facets.py`` makes columns from them. Definitions
are immutable: any thread may read them, worker processes receive them, and an index stores them.

A definition says where to find a text, and how the text becomes the name of a value: by bins of numbers, by a map,
or as a slug.
"""

import json
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import blake2b
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import Annotated

import msgspec

from omidbfs.base.definitions import RefusedError, Where, defined
from omidbfs.base.names import LONGEST, slug
from omidbfs.base.tables import Text, understood
from omidbfs.base.words import meant
from omidbfs.facets import BY_NAME, COHORT_FACET, OTHER, UNKNOWN, Facet, Key, Kind, Level, Tag
from omidbfs.facets.lists import table as read_table
from omidbfs.facets.model import Origin

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_TAG = re.compile(r"\(?([0-9A-Fa-f]{4}),?([0-9A-Fa-f]{4})\)?")
_NUMBERED = re.compile(r"(.*)(\[[1-9][0-9]{0,3}\])")
_PLAIN = re.compile(r"(?!not-)[A-Za-z0-9][A-Za-z0-9._+-]*")
_LARGEST = 1e300
_LEVELS_OF_NBSS = (Level.EPISODE, Level.CLIENT)


_Level = Annotated[str, msgspec.Meta(description="has to be text")]
_NOT_EMPTY = msgspec.Meta(min_length=1)
_Edges = Annotated[
    Annotated[list[int | float], _NOT_EMPTY] | None, msgspec.Meta(description="is a list of numbers")
]
_Texts = Annotated[Annotated[dict[str, str], _NOT_EMPTY] | None, msgspec.Meta(description="is a table of texts")]


class _Given(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The keys that every table ``[facets.NAME]`` may have."""

    description: Text = None
    bins: _Edges = None
    map: _Texts = None


class _OfTag(_Given, kw_only=True):
    tag: Text


class _OfNbss(_Given, kw_only=True):
    nbss: Text
    level: _Level = Level.EPISODE


class _OfTable(_Given, kw_only=True):
    csv: Text
    key: Text = None
    column: Text = None


_KINDS: Mapping[str, type[_OfTag | _OfNbss | _OfTable]] = {"tag": _OfTag, "nbss": _OfNbss, "csv": _OfTable}
"""Key that says where a facet comes from -> the form of a table with that key."""


@dataclass(frozen=True, slots=True)
class Definition:
    """The definition of a facet that the user defines.

    Exactly one of ``tag``, ``nbss`` and ``table`` is set. ``tag`` is a path of DICOM tags (``00540220``,
    ``00080104``: in the first item of the sequence; ``00080008[3]``: Value 3). ``nbss`` is a path of keys, which
    starts in the episode unless ``level`` is ``client``. ``table`` has pairs of an identifier and a text, and may
    repeat an identifier. ``bins`` are ascending edges, each the start of a half-open interval. ``texts`` maps
    texts to names.
    """

    name: str
    description: str
    level: Level
    source: str
    tag: tuple[str, ...] = ()
    nbss: tuple[str, ...] = ()
    table: tuple[tuple[str, str], ...] | None = field(default=None, repr=False)
    bins: tuple[float, ...] = ()
    texts: tuple[tuple[str, str], ...] = ()

    def facet(self) -> Facet:
        """Return the facet. Its ``definition`` is this definition as text, with a digest in place of the table."""
        whole = asdict(self)
        if self.table is not None:
            content = json.dumps(sorted(self.table)).encode("utf-8", "surrogatepass")
            whole["table"] = blake2b(content, digest_size=16).hexdigest()
        definition = json.dumps(whole, sort_keys=True)
        return Facet(self.name, self.description, self.level, self._origin(), Kind.TEXT, definition=definition)

    def _origin(self) -> Origin:
        if self.tag:
            numbers = str(Tag("", self.tag))
            return (Tag(self.source.removesuffix(numbers).rstrip(), self.tag),)
        return ("NBSS ", Key("nbss", self.nbss)) if self.nbss else (self.source,)

    def label(self, text: str | None) -> str:
        """Return the name of the value for a text of the source. It may be a reserved word."""
        text = None if text is None else text.strip(" \0")
        if not text:
            return UNKNOWN
        if self.bins:
            try:
                number = float(text)
            except ValueError:
                return OTHER
            return self.ordered()[bisect_right(self.bins, number)] if isfinite(number) else OTHER
        if self.texts:
            return dict(self.texts).get(text, OTHER)
        return slug(text)

    def ordered(self) -> list[str]:
        """Return names of values in the order of listings. All other names follow in alphabetical order."""
        if not self.bins:
            return list(dict.fromkeys(name for _, name in self.texts))
        edges = [f"{edge:.15g}".replace("-", "minus-") for edge in self.bins]
        between = [f"{low}-{high}" for low, high in pairwise(edges)]
        return [f"below-{edges[0]}", *between, f"from-{edges[-1]}"]


def stored_facet(definition: str) -> Facet:
    """Return the facet for the text ``definition``, which is all that an index stores of it.

    Raises
    ------
    ValueError
        The text is not a definition.
    """
    try:
        stored = {**json.loads(definition), "table": None}
        return replace(msgspec.convert(stored, Definition).facet(), definition=definition)
    except (msgspec.ValidationError, TypeError) as error:
        raise ValueError("no definition of a facet") from error


def definitions(tables: Mapping[str, object], place: Path, text: str) -> tuple[Definition, ...]:
    """Return the definitions in the ``[facets.NAME]`` tables of a configuration; see :func:`defined`.

    Raises
    ------
    UserError
        A definition is wrong: file, line, reason.
    """
    return defined("facets", tables, place, text, _definition)


def _definition(name: str, table: object, _: Where, directory: Path) -> Definition:
    if not isinstance(table, dict):
        raise RefusedError("is not a table")
    if not NAME.fullmatch(name) or len(name) > LONGEST:
        raise RefusedError(f"a name has lower-case letters, digits and single hyphens, {LONGEST} at most")
    if name.startswith("by-"):
        remedy = f"write [facets.{name.removeprefix('by-')}]"
        raise RefusedError(f"the drive would call it by-{name}", remedy=remedy)
    if name in BY_NAME or name == COHORT_FACET.name:
        raise RefusedError(f"there is a facet {name} already", remedy="choose another name")
    kinds = [kind for kind in _KINDS if kind in table]
    if len(kinds) != 1:
        raise RefusedError("needs exactly one of tag, nbss and csv")
    kind = kinds[0]
    beside = sorted({*_KINDS[kind].__struct_fields__} - {kind})
    given = understood(_KINDS[kind], table, f"is not understood beside {kind}; {', '.join(beside)} are")
    bins, texts = _edges(given.bins or ()), tuple((text, _safe(name)) for text, name in (given.map or {}).items())
    if bins and texts:
        raise RefusedError("bins and map exclude each other", "map")
    origin: str = getattr(given, kind)
    description = f"{kind} {origin}" if given.description is None else given.description
    match given:
        case _OfTag():
            path = tuple(_tag(part) for part in origin.split("."))
            shown = str(Tag("", path))
            source = shown if origin == shown or _TAG.fullmatch(origin) else f"{origin} {shown}"
            return Definition(name, description, Level.IMAGE, source, tag=path, bins=bins, texts=texts)
        case _OfNbss(level=level):
            if level not in _LEVELS_OF_NBSS:
                raise RefusedError("level is episode or client", "level", remedy=meant(level, _LEVELS_OF_NBSS))
            keys = tuple(origin.split("."))
            if not all(keys):
                raise RefusedError("nbss is a path of keys, as SCREENING.L.EquipmentMakeModel", "nbss")
            return Definition(name, description, Level(level), f"NBSS {origin}", nbss=keys, bins=bins, texts=texts)
        case _OfTable(key=key, column=column):
            try:
                of, read, rows = read_table(directory / origin, key, column)
            except RefusedError as error:
                raise error.below(*(error.keys or ("csv",))) from None
            return Definition(name, description, of, f"{origin}, {read}", table=rows, bins=bins, texts=texts)


def _edges(edges: Sequence[float]) -> tuple[float, ...]:
    if not all(-_LARGEST < edge < _LARGEST for edge in edges):  # rejects NaN too
        raise RefusedError(f"bins is a list of numbers between {-_LARGEST:g} and {_LARGEST:g}", "bins")
    numbers = [float(f"{edge:.15g}") for edge in edges]  # rounded as in the names of values
    if any(low >= high for low, high in pairwise(numbers)):
        raise RefusedError("bins have to ascend", "bins")
    return tuple(numbers)


def _safe(name: str) -> str:
    return name if _PLAIN.fullmatch(name) and len(name) <= LONGEST else slug(name)


def _tag(text: str) -> str:
    """Return the tag as eight hexadecimal digits, followed by ``[n]`` if the text asks for Value n."""
    if (parts := _NUMBERED.fullmatch(text)) is not None:
        return _tag(parts[1]) + parts[2]
    match = _TAG.fullmatch(text)
    if match is not None:
        return (match[1] + match[2]).upper()
    from pydicom.datadict import keyword_dict, tag_for_keyword  # the import takes 0.2 s

    tag = tag_for_keyword(text)
    if tag is None:
        reason = f"tag: {text} is neither a DICOM keyword nor a tag like 0018,0060"
        raise RefusedError(reason, "tag", remedy=meant(text, keyword_dict))
    return f"{tag:08X}"
