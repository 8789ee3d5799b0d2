"""The page of a directory: its facets with counts, its images, its generated files.

Used by ``pages``. Functions that count run in threads, because the cohort may have millions of images. They
count facets only for a moment. The page then has places for the others, which its script asks for one by one.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote_from_bytes

import numpy as np

from omidbfs.exports.formats import BY_FILE
from omidbfs.facets import Facet, Kind, Level
from omidbfs.http.markup import link, text
from omidbfs.pixels.rendition import Rendition
from omidbfs.view.generated import ExportsDirectory
from omidbfs.view.nodes import Directory, Listing
from omidbfs.view.top import RootDirectory
from omidbfs.view.view import View

IMAGES = 60
"""Images on one page."""
NAMES = 500
"""Names on one page of a long directory."""
_COUNTING = 0.1
"""Seconds for which a page counts before it is sent."""
_VALUES = 12
"""Values of a facet that a page shows at once; the most frequent ones."""
THUMBNAIL = "png-256"
LARGE = "png-1024"
_UNITS = (Level.CLIENT, Level.STUDY, Level.IMAGE)
_FIRST = ("outcome", "view", "laterality", "manufacturer", "age", "intent", "marked", "modality", "site", "year")
"""Facets that come first: those that most users ask for."""


@dataclass(frozen=True, slots=True)
class Place:
    """A directory of images and the path that leads to it. The images of the root are those of ``all``."""

    view: View
    directory: Directory
    names: tuple[bytes, ...]

    @property
    def files(self) -> tuple[bytes, ...]:
        """The path of the directory that has the files of the images."""
        return (*self.names, b"all") if isinstance(self.directory, RootDirectory) else self.names


def cohort_parts(place: Place, number: int) -> tuple[str, list[str]]:
    """Return the title and the parts of the page of a directory of images; ``number`` counts its pages from 1."""
    started = time.monotonic()
    view, cohort = place.view, place.view.cohort(place.directory)
    rows = view.cohorts.rows(cohort)
    units = [(level.plural, view.cohorts.count(cohort, level)) for level in _UNITS]
    title = "/".join(name.decode("utf-8", "replace") for name in place.names) or "OMI-DB"
    cards = "".join(f'<div><dt>{name}</dt><dd data-n="{count}">{count:,}</dd></div>' for name, count in units)
    parts = [
        '<div class="columns">',
        _facets(place, started),
        f'<main id="main" tabindex="-1">\n<h1>{text(title)}</h1>\n<dl class="units">{cards}</dl>',
        '<p class="below"><a href="#facets">Facets below the images</a></p>',
        _generated(place),
        _grid(place, rows[(number - 1) * IMAGES : number * IMAGES].tolist()),
        _turning(place.names, number, len(rows), IMAGES),
        "</main>\n</div>",
    ]
    return title, parts


def _facets(place: Place, started: float) -> str:
    order = {name: position for position, name in enumerate(_FIRST)}
    known = sorted(
        place.view.cohorts.facets,
        key=lambda facet: (facet.kind is Kind.NAME, order.get(facet.name, len(order)), facet.name),
    )
    parts = ['<nav class="facets" id="facets" aria-label="Facets">\n<h2>Facets</h2>']
    for facet in known:
        if facet.kind is Kind.NAME:
            where = link([*place.names, b"by-" + facet.name.encode()])
            parts.append(f'<p class="names"><a href="{where}">by-{text(facet.name)}</a></p>')
        elif time.monotonic() - started < _COUNTING:
            parts.append(facet_part(place, facet))
        else:
            parts.append(_waiting(place, facet))
    return "\n".join([*parts, "</nav>"])


def _waiting(place: Place, facet: Facet) -> str:
    name, where = text(facet.name), link([*place.names, b"by-" + facet.name.encode()])
    asked = link(place.names, f"facet={facet.name}") if place.names else text(f"/?facet={facet.name}")
    return (
        f'<section class="facet" data-facet="{asked}" aria-busy="true">'
        f'<h3><a href="{where}">by-{name}</a></h3></section>'
    )


def facet_part(place: Place, facet: Facet) -> str:
    """Return the values of a facet in a directory of images, each with its number of images and a link."""
    counts = place.view.cohorts.counts(place.view.cohort(place.directory), facet)
    below = [*place.names, b"by-" + facet.name.encode()]
    shown = counts
    if len(counts) > _VALUES:
        least = sorted((count for _, count in counts), reverse=True)[_VALUES - 1]
        shown = [pair for pair in counts if pair[1] >= least][:_VALUES]
    most = max((count for _, count in counts), default=1)
    items = "".join(
        f'<li><a href="{link([*below, value.encode()])}"><span>{text(value)}</span> '
        f'<meter min="0" max="{most}" value="{count}" aria-hidden="true"></meter> '
        f'<span class="n" data-n="{count}">{count:,}</span></a></li>'
        for value, count in shown
    )
    left = len(counts) - len(shown)
    more = f'<p class="more"><a href="{link(below)}">and {left:,} more</a></p>' if left else ""
    name = text(facet.name)
    return f'<section class="facet"><h3><a href="{link(below)}">by-{name}</a></h3><ul>{items}</ul>{more}</section>'


def _generated(place: Place) -> str:
    exports = place.view.lookup(place.directory, b".omidbfs")
    where = place.names
    if not isinstance(exports, ExportsDirectory):
        everything = place.view.resolve(b"/".join(place.files))
        exports = place.view.lookup(everything, b".omidbfs") if everything is not None else None
        where = place.files
    if not isinstance(exports, ExportsDirectory):
        return ""
    names = [name for name in BY_FILE if place.view.lookup(exports, name) is not None]
    items = "".join(
        f'<li><a href="{link([*where, b".omidbfs", name], is_file=True)}">{text(name)}</a></li>' for name in names
    )
    return f'<nav aria-label="Generated files"><ul class="files"><li>Files of these images:</li>{items}</ul></nav>'


def shown_as(place: Place, name: str) -> tuple[Rendition | None, tuple[bytes, ...]]:
    """Return the rendition in which a page shows images, and the path of its files.

    That is the rendition ``name``, or the one of the path, if it is one that browsers show; else ``None``.
    """
    of_path = place.view.cohort(place.directory).rendition
    if of_path is not None:
        return (of_path, place.files) if of_path.suffix == b".png" else (None, place.files)
    rendition = place.view.renditions.named(name)
    first = place.names if not isinstance(place.directory, RootDirectory) else ()
    last = place.files[len(first) :]
    return rendition, (*first, b"as-" + name.encode(), *last)


def _grid(place: Place, rows: Sequence[int]) -> str:
    if not rows:
        return "<p>No image is here.</p>"
    index = place.view.index
    numbers = np.array(rows, np.uint32)
    names = place.directory.image_names(index, numbers)
    rendition, where = shown_as(place, THUMBNAIL)
    views, sides = (index.registry.by_name[name] for name in ("view", "laterality"))
    items = []
    for row, name in zip(rows, names, strict=True):
        label = " ".join(
            text(place.view.cohorts.label(facet, code))
            for facet in (sides, views)
            for code in index.codes_of(facet.name, row)
        )
        query = (
            link(place.names, f"image={query_text(name)}") if place.names else text(f"/?image={query_text(name)}")
        )
        shown = "<span class='none'>no picture</span>"
        if rendition is not None and place.view.renditions.inode(row, rendition) is not None:
            source = link([*where, *(name + rendition.suffix).split(b"/")], is_file=True)
            shown = f'<img src="{source}" alt="{label}" loading="lazy" decoding="async">'
        items.append(f'<li><a href="{query}">{shown}<span>{label}</span></a></li>')
    return f'<h2>Images</h2>\n<ul class="images">{"".join(items)}</ul>'


def query_text(name: bytes) -> str:
    """Return a name as a value in a query."""
    return quote_from_bytes(name, safe="~")


def _turning(names: tuple[bytes, ...], number: int, count: int, each: int) -> str:
    """Return links to the pages before and after."""
    pages = max(1, -(-count // each))
    if pages == 1 and number == 1:
        return ""
    before = f'<a rel="prev" href="{_numbered(names, number - 1)}">Previous</a>' if number > 1 else ""
    after = f'<a rel="next" href="{_numbered(names, number + 1)}">Next</a>' if number < pages else ""
    return (
        f'<nav class="turning" aria-label="Pages">{before}<span>page {number:,} of {pages:,}</span>{after}'
        f'<form method="get"><label>Page <input name="page" type="number" min="1" max="{pages}" value="{number}">'
        '</label><button type="submit">Show</button></form></nav>'
    )


def _numbered(names: tuple[bytes, ...], number: int) -> str:
    return link(names, f"page={number}") if names else text(f"/?page={number}")


def names_parts(place: Place, listing: Listing, number: int) -> tuple[str, list[str]]:
    """Return the title and the parts of the page of any other directory: its names, and the counts of a facet."""
    directory, counts = place.directory, dict[str, int]()
    facet = getattr(directory, "facet", None)
    if facet is not None and facet.kind is not Kind.NAME:
        counts = dict(place.view.cohorts.counts(place.view.cohort(directory), facet))
    entries = listing.page((number - 1) * NAMES, NAMES)
    items = []
    for entry in entries:
        count = counts.get(entry.name.decode("utf-8", "replace"))
        said = "" if count is None else f' <span class="n" data-n="{count}">{count:,}</span>'
        where = link([*place.names, entry.name], is_file=entry.directory is None)
        items.append(f'<li><a href="{where}"><span>{text(entry.name)}</span>{said}</a></li>')
    title = "/".join(name.decode("utf-8", "replace") for name in place.names)
    about = f"<p>{text(facet.description)}</p>" if facet is not None else ""
    parts = [
        f'<main id="main" tabindex="-1" class="alone">\n<h1>{text(title)}</h1>{about}',
        f'<ul class="list">{"".join(items)}</ul>' if items else "<p>Nothing is here.</p>",
        _turning(place.names, number, listing.length, NAMES),
        "</main>",
    ]
    return title, parts
