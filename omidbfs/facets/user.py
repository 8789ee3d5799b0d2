"""Facets that a user defines: from a DICOM attribute, from NBSS, or from a table of her own.

A definition says where a text is found, and how the text becomes the name of a value: by bins of numbers, by a
map, or as a slug. It is plain data, so that it can be handed to other processes and kept in an index.
"""

import csv
import json
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from itertools import pairwise
from math import isfinite
from pathlib import Path

from omidbfs.definitions import RefusedError, defined
from omidbfs.facets import BY_NAME, OTHER, UNKNOWN, Facet, Kind
from omidbfs.names import LONGEST, slug

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_TAG = re.compile(r"\(?([0-9A-Fa-f]{4}),?([0-9A-Fa-f]{4})\)?")
_NUMBERED = re.compile(r"(.*)(\[[1-9][0-9]{0,3}\])")
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_LARGEST = 1e300
_KEYS: Mapping[str, tuple[str, ...]] = {
    "client": ("client", "ClientID"),
    "study": ("study", "StudyInstanceUID"),
    "image": ("image", "SOPInstanceUID"),
}
"""Level -> the names that the column with the identifiers of a table may have."""

_OPTIONS = {
    "tag": {"description", "bins", "map"},
    "nbss": {"description", "bins", "map", "level"},
    "csv": {"description", "bins", "map", "key", "column"},
}


@dataclass(frozen=True, slots=True)
class Definition:
    """A facet of the user's.

    ``tag`` is a path of DICOM tags (``00540220``, ``00080104``: in the first item of the sequence;
    ``00080008[3]``: Value 3), ``nbss`` a path of keys, within the episode unless ``level`` is ``client``;
    ``table`` maps identifiers to texts. Exactly one of them is there. ``bins`` are ascending edges, each the start
    of a half-open interval; ``texts`` maps texts to names.
    """

    name: str
    description: str
    level: str
    source: str
    tag: tuple[str, ...] = ()
    nbss: tuple[str, ...] = ()
    table: Mapping[str, str] | None = field(default=None, repr=False)
    bins: tuple[float, ...] = ()
    texts: tuple[tuple[str, str], ...] = ()

    def facet(self) -> Facet:
        """Return the facet, with the whole definition as text; of a table its digest."""
        whole = asdict(self)
        if self.table is not None:
            content = json.dumps(sorted(self.table.items())).encode("utf-8", "surrogatepass")
            whole["table"] = blake2b(content, digest_size=16).hexdigest()
        definition = json.dumps(whole, sort_keys=True)
        return Facet(self.name, self.description, self.level, self.source, Kind.TEXT, definition=definition)

    def label(self, text: str | None) -> str:
        """Return the name of the value that a text of the source has; it may be a reserved word."""
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
        """Return the names of values in the order in which they are to be listed; others follow by alphabet."""
        if not self.bins:
            return list(dict.fromkeys(name for _, name in self.texts))
        edges = [f"{edge:.15g}".replace("-", "minus-") for edge in self.bins]
        between = [f"{low}-{high}" for low, high in pairwise(edges)]
        return [f"below-{edges[0]}", *between, f"from-{edges[-1]}"]


def definitions(tables: Mapping[str, object], place: Path, text: str) -> tuple[Definition, ...]:
    """Return the definitions in the ``[facets.NAME]`` tables of a configuration; see :func:`defined`.

    Raises
    ------
    UserError
        A definition is wrong: file, line, reason.
    """
    return defined("facets", tables, place, text, _definition)


def _definition(name: str, table: object, _: str, directory: Path) -> Definition:
    if not isinstance(table, dict):
        raise RefusedError("is not a table")
    if not NAME.fullmatch(name) or len(name) > LONGEST:
        raise RefusedError(f"a name has lower-case letters, digits and single hyphens, {LONGEST} at most")
    if name in BY_NAME:
        raise RefusedError(f"there is a facet {name} already; choose another name")
    kinds = [kind for kind in _OPTIONS if kind in table]
    if len(kinds) != 1:
        raise RefusedError("needs exactly one of tag, nbss and csv")
    kind = kinds[0]
    for key, value in table.items():
        if key != kind and key not in _OPTIONS[kind]:
            raise RefusedError(f"{key} is not understood beside {kind}; {', '.join(sorted(_OPTIONS[kind]))} are")
        if key not in ("bins", "map") and not isinstance(value, str):
            raise RefusedError(f"{key} has to be text")
    bins, texts = _bins(table.get("bins")), _map(table.get("map"))
    if bins and texts:
        raise RefusedError("bins and map exclude each other")
    said = str(table[kind])
    description = str(table.get("description", f"{kind} {said}"))
    if kind == "tag":
        path = tuple(_tag(part) for part in said.split("."))
        shown = ".".join(f"({tag[:4]},{tag[4:8]}){tag[8:]}" for tag in path)
        source = shown if said == shown or _TAG.fullmatch(said) else f"{said} {shown}"
        return Definition(name, description, "image", source, tag=path, bins=bins, texts=texts)
    if kind == "nbss":
        level = str(table.get("level", "episode"))
        if level not in ("episode", "client"):
            raise RefusedError("level is episode or client")
        if not all(said.split(".")):
            raise RefusedError("nbss is a path of keys, as SCREENING.L.EquipmentMakeModel")
        keys = tuple(said.split("."))
        return Definition(name, description, level, f"NBSS {said}", nbss=keys, bins=bins, texts=texts)
    level, column, rows = _table(directory / said, table.get("key"), table.get("column"))
    return Definition(name, description, level, f"{said}, {column}", table=rows, bins=bins, texts=texts)


def _bins(edges: object) -> tuple[float, ...]:
    if edges is None:
        return ()
    if not isinstance(edges, list) or not edges or not all(type(edge) in (int, float) for edge in edges):
        raise RefusedError("bins is a list of numbers")
    if not all(-_LARGEST < edge < _LARGEST for edge in edges):  # which no NaN is
        raise RefusedError("bins is a list of numbers, none of them beyond all measure")
    numbers = [float(f"{edge:.15g}") for edge in edges]  # as they are named
    if any(low >= high for low, high in pairwise(numbers)):
        raise RefusedError("bins have to ascend")
    return tuple(numbers)


def _map(texts: object) -> tuple[tuple[str, str], ...]:
    if texts is None:
        return ()
    if not isinstance(texts, dict) or not texts or not all(isinstance(name, str) for name in texts.values()):
        raise RefusedError("map is a table of texts")
    return tuple((text, _safe(name)) for text, name in texts.items())


def _safe(name: str) -> str:
    return name if _PLAIN.fullmatch(name) and len(name) <= LONGEST else slug(name)


def _tag(text: str) -> str:
    """Return eight hexadecimal digits, and after them the number of a value if there is one."""
    if (parts := _NUMBERED.fullmatch(text)) is not None:
        return _tag(parts[1]) + parts[2]
    match = _TAG.fullmatch(text)
    if match is not None:
        return (match[1] + match[2]).upper()
    from pydicom.datadict import tag_for_keyword  # here: it takes 0.2 s to import

    tag = tag_for_keyword(text)
    if tag is None:
        raise RefusedError(f"tag: {text} is neither a DICOM keyword nor a tag like 0018,0060")
    return f"{tag:08X}"


def _table(path: Path, key: str | None, column: str | None) -> tuple[str, str, dict[str, str]]:
    """Return level, column and content of a table of the user's."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            header = list(reader.fieldnames or ())
            level, key = _key(header, key)
            others = [name for name in header if name != key]
            if column is None and len(others) != 1:
                raise RefusedError(f"column: name one of {', '.join(others) or 'the columns: there is none'}")
            column = column or others[0]
            if column not in header:
                raise RefusedError(f"column: {path} has no column {column}")
            return level, column, dict(_rows(reader, key, column))
    except OSError as error:
        raise RefusedError(f"csv: {path} cannot be read: {error.strerror}") from None
    except (ValueError, csv.Error) as error:
        raise RefusedError(f"csv: {path} is no table in UTF-8: {error}") from None


def _rows(reader: "csv.DictReader[str]", key: str, column: str) -> Iterator[tuple[str, str]]:
    for row in reader:
        if row[key] and row[column]:
            yield row[key].strip(), row[column].strip()


def _key(header: list[str], wanted: str | None) -> tuple[str, str]:
    """Return the level of a table, and the column that holds the identifiers."""
    if wanted is not None:
        level = next((level for level, names in _KEYS.items() if wanted in names), None)
        column = next((name for name in _KEYS[level] if name in header), None) if level is not None else None
        if level is None or column is None:
            raise RefusedError(f"key: {wanted} is not client, study or image, or the table has no such column")
        return level, column
    for level, names in _KEYS.items():
        for name in names:
            if name in header:
                return level, name
    raise RefusedError("csv: the table has no column client, study or image to tell whose the values are")
