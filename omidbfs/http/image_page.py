"""The page of one image: the image with its marks, its facets, and why it is where it is.

Used by ``pages``. :func:`image_parts` reads the source, so it runs in a thread that may wait for a disk.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from omidbfs.clinical.outcomes import Windows
from omidbfs.cohorts.describe import described
from omidbfs.database.layout import Source
from omidbfs.facets import Kind
from omidbfs.http.cohort_page import LARGE, Place, query_text, shown_as
from omidbfs.http.markup import link, text


def image_parts(place: Place, source: Source, windows: Windows, row: int) -> tuple[str, list[str]]:
    """Return the title and the parts of the page of the image at a row of the index."""
    facts: Mapping[str, Any] = described(place.view.cohorts, source, windows, row, place.view.configured.all())
    (name,) = place.directory.image_names(place.view.index, np.array([row], np.uint32))
    title = name.decode("utf-8", "replace")
    parts = [
        f'<main id="main" tabindex="-1" class="image">\n<h1>{text(title)}</h1>',
        _neighbours(place, row),
        '<div class="columns"><div>',
        _picture(place, row, name, facts),
        _files(place, name, facts),
        "</div><div>",
        _why(place, row, facts),
        _marks(facts["marks"]),
        _problems(facts["problems"]),
        _facets(place, facts),
        "</div></div></main>",
    ]
    return title, parts


def _neighbours(place: Place, row: int) -> str:
    rows = place.view.cohorts.rows(place.view.cohort(place.directory))
    at = int(np.searchsorted(rows, row))
    others = [("prev", "Previous", at - 1), ("next", "Next", at + 1)]
    links = []
    for rel, label, other in others:
        if 0 <= other < len(rows):
            (name,) = place.directory.image_names(place.view.index, rows[other : other + 1])
            links.append(f'<a rel="{rel}" href="{_address(place, name)}">{label}</a>')
    said = f"<span>image {at + 1:,} of {len(rows):,}</span>"
    back = f'<a href="{link(place.names)}">Back to the images</a>'
    return f'<nav class="turning" aria-label="Images">{back}{said}{"".join(links)}</nav>'


def _address(place: Place, name: bytes) -> str:
    query = f"image={query_text(name)}"
    return link(place.names, query) if place.names else text(f"/?{query}")


def _picture(place: Place, row: int, name: bytes, facts: Mapping[str, Any]) -> str:
    """Return the image with its marks over it, in the coordinates of the DICOM file (pixels from the top left)."""
    rendition, where = shown_as(place, LARGE)
    form = place.view.index.pixel_format(row)
    if (
        rendition is None
        or not form.Rows
        or not form.Columns
        or place.view.renditions.inode(row, rendition) is None
    ):
        reason = facts["renditions"].get("png", {}).get("why_not") or "this rendition is none that browsers show"
        return f'<p class="none">There is no picture: {text(reason)}.</p>'
    source = link([*where, *(name + rendition.suffix).split(b"/")], is_file=True)
    boxes = "".join(_box(mark) for mark in facts["marks"]) if rendition.name == LARGE else ""
    count = len(facts["marks"])
    label = f"The image, with {count} mark{'' if count == 1 else 's'}"
    toggle = '<input type="checkbox" id="marks" checked> <label for="marks">Marks</label>' if boxes else ""
    return (
        f'<div class="picture">{toggle}\n<svg viewBox="0 0 {form.Columns} {form.Rows}" role="img" '
        f'aria-label="{label}"><image href="{source}" width="{form.Columns}" height="{form.Rows}" '
        f'preserveAspectRatio="none"></image>{boxes}</svg></div>'
    )


def _box(mark: Mapping[str, Any]) -> str:
    x1, y1, x2, y2 = mark["box"]
    if None in (x1, y1, x2, y2):
        return ""
    left, top = min(x1, x2), min(y1, y2)
    return (
        f'<rect class="mark" x="{left}" y="{top}" width="{abs(x2 - x1)}" height="{abs(y2 - y1)}">'
        f"<title>mark {text(mark['id'])}</title></rect>"
    )


def _files(place: Place, name: bytes, facts: Mapping[str, Any]) -> str:
    if place.view.cohort(place.directory).rendition is not None:
        return ""
    items = "".join(
        f'<li><a href="{link([*place.files, *(name + b"." + one["type"].encode()).split(b"/")], is_file=True)}">'
        f"{text(one['type'])}</a> {one['size']:,} bytes</li>"
        for one in facts["files"]
        if one["present"]
    )
    return f'<ul class="files"><li>Files:</li>{items}</ul>'


def _rows(pairs: Iterator[tuple[str, str]]) -> str:
    return "<dl>" + "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in pairs) + "</dl>"


def _why(place: Place, row: int, facts: Mapping[str, Any]) -> str:
    def pairs() -> Iterator[tuple[str, str]]:
        index = place.view.index
        client, study = int(index.client_of[row]), int(index.study_of[row])
        for level, name in (("client", index.clients[client]), ("study", index.studies[study])):
            yield level, f'<a href="{link([b"by-" + level.encode(), name])}">{text(facts[level])}</a>'
        yield "date of the study", text(facts["study_date"] or "unknown")
        episode = facts["episode"]
        if episode is None:
            yield "episode", "unlinked: the study belongs to no episode"
            return
        kind, day = episode["type"] or "unknown", episode["date"] or "without date"
        yield "episode", text(f"{episode['id']}, {day}, type {kind}, status {episode['status']}")
        for event in episode["events"] or ():
            opinions = [
                f"{side} {event[f'{side}_{what}']}{' (reader)' if what == 'reading' else ''}"
                for what in ("opinion", "reading")
                for side in ("left", "right")
                if event[f"{side}_{what}"] is not None
            ]
            yield "event", text(", ".join([event["name"], " ".join(event["dates"]) or "without date", *opinions]))
        yield "outcome", text(f"{episode['undefined_outcome'] or episode['outcome'] or 'none'}: {episode['why']}")

    note = "" if facts["source_read"] else "<p>The source is away: this is what the index knows.</p>"
    return f"<section><h2>Why it is here</h2>{note}{_rows(pairs())}</section>"


def _marks(marks: list[Mapping[str, Any]]) -> str:
    if not marks:
        return ""

    def pairs() -> Iterator[tuple[str, str]]:
        for mark in marks:
            said = [
                *mark["features"],
                mark["conspicuity"],
                mark["mass_classification"],
                mark["benign_classification"],
            ]
            words = ", ".join(word for word in said if word is not None) or "not described"
            numbers = mark["lesion_numbers"]
            lesion = "no lesion" if numbers is None else f"lesion {', '.join(map(str, numbers))}"
            box = " ".join(map(str, mark["box"]))
            yield f"mark {text(mark['id'])}", text(f"box {box}; {words}; {lesion}")

    return f"<section><h2>Marks</h2>{_rows(pairs())}</section>"


def _problems(problems: list[Mapping[str, Any]]) -> str:
    if not problems:
        return ""
    items = "".join(f"<li>{text(one['kind'])}: {text(one['detail'] or one['file'])}</li>" for one in problems)
    return f"<section><h2>Problems</h2><ul>{items}</ul></section>"


def _facets(place: Place, facts: Mapping[str, Any]) -> str:
    names = {facet.name for facet in place.view.cohorts.facets if facet.kind is not Kind.NAME}
    rows = []
    for name, facet in facts["facets"].items():
        if name not in names:
            continue
        values = ", ".join(
            f'<a href="{link([b"by-" + name.encode(), value.encode()])}">{text(value)}</a>'
            for value in facet["values"]
        )
        raw = "; ".join(f"{where} = {value}" for where, value in facet["raw"].items())
        cells = f"<td>{values}</td><td>{text(raw or facet['source'])}</td>"
        rows.append(f'<tr><th scope="row">by-{text(name)}</th>{cells}</tr>')
    head = '<thead><tr><th scope="col">facet</th><th scope="col">value</th><th scope="col">from</th></tr></thead>'
    return f"<section><h2>Facets</h2><table>{head}<tbody>{''.join(rows)}</tbody></table></section>"
