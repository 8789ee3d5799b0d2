"""``omidbfs describe``: explains one image, client or study. The command line uses it, in the main thread."""

import os
import re
from collections.abc import Iterator, Mapping
from json import dumps
from pathlib import Path
from typing import Any

import click

from omidbfs.base.errors import UserError
from omidbfs.base.names import printable, safe_bytes
from omidbfs.base.words import counted, did_you_mean
from omidbfs.cli.command import command
from omidbfs.cli.commands.timeline import describe_client
from omidbfs.cli.options import session_of, source_options
from omidbfs.cli.output import aligned
from omidbfs.cli.selection import json_option, opened_view


@command(example="omidbfs describe db 1.2.826.0.1.3680043.9.3218.1.1.1")
@source_options
@click.argument("name")
@json_option
def describe(source: Path, name: str, json: bool, **options: Any) -> None:
    """Explain one image, or give the timeline of a client or study.

    NAME is the UID of an image or a study, or the name of a client. It may also be a file name or a path of the
    drive. If a UID occurs more than once, the command explains each place.

    Of an image, it shows files, renditions, episode, outcome, marks and facets. Of a client or study, it shows
    episodes, events, opinions, outcomes and their reasons in the order of time, and the images by view.
    """
    session = session_of(source, options)
    view = opened_view(session, options)
    from omidbfs.cohorts.describe import close_names, described

    index = view.index
    place, name = name, re.sub(r"\.(png|tiff|npy|json)$", "", name.rstrip("/").rpartition("/")[2])
    name = name.removesuffix(".dcm")
    wanted = safe_bytes(os.fsencode(name))
    bare = safe_bytes(os.fsencode(name.partition("~")[0]))  # <uid>~<client>~<study>, as on the drive
    rows = index.image_table.find(wanted) or index.image_table.find(bare)
    if not rows and (lines := describe_client(session, view, wanted, json=json)) is not None:
        for line in lines:
            click.echo(line)
        return
    if not rows:
        close = close_names(index.images, wanted) or close_names(index.studies, wanted)
        hint = did_you_mean(close) or "`omidbfs ls SOURCE by-client` lists the clients"
        raise UserError("no image, study or client has this name", hint, place)
    windows, renditions = session.classification.windows, view.configured.all()
    records = map(view.geometries.record, rows)
    found = [
        described(view.cohorts, session.source, windows, row, renditions, record)
        for row, record in zip(rows, records, strict=True)
    ]
    if json:
        click.echo(dumps(found, indent=2))
        return
    for number, facts in enumerate(found):
        if number:
            click.echo()
        for line in _lines(facts):
            click.echo(printable(line))


def _lines(facts: Mapping[str, Any]) -> Iterator[str]:
    yield from aligned(list(_facts(facts)))
    yield ""
    yield from aligned([(f"by-{name}", _values(facet)) for name, facet in facts["facets"].items()])


def _values(facet: Mapping[str, Any]) -> str:
    raw = "; ".join(f"{place} = {dumps(value, ensure_ascii=False)}" for place, value in facet["raw"].items())
    return f"{','.join(facet['values'])}  ({raw or facet['source']})"


def _facts(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "image", f"{facts['image']}"
    yield "study", f"{facts['study']}, {facts['study_date'] or 'without date'}"
    yield "client", f"{facts['client']}"
    for file in facts["files"]:
        size = counted(file["size"], "byte", ",") if file["present"] else "missing"
        yield "file", f"{file['path']}: {size}"
    pixels = facts["pixels"]
    spacings = [pixels["row_spacing"], pixels["column_spacing"]]
    size = " x ".join(f"{number or 'unknown'}" for number in (pixels["rows"], pixels["columns"]))
    yield (
        "pixels",
        size + (f", {' x '.join(f'{mm:.4g}' for mm in spacings)} mm in the breast" if all(spacings) else ""),
    )
    if any(file["present"] and file["type"] == "dcm" for file in facts["files"]):
        yield "breast", _breast(facts["breast"])
    for name, rendition in facts["renditions"].items():
        size, reason = rendition["size"], rendition["why_not"]
        yield f"as-{name}", f"none: {reason}" if size is None else counted(size, "byte", ",")
    for problem in facts["problems"]:
        detail = f": {problem['detail']}" if problem["detail"] else ""
        yield "problem", f"{problem['file']}: {problem['kind']}{detail}"
    if not facts["source_read"]:
        yield "source", "is away, or the image is gone from it: what follows is what the index knows"
    yield from _episode_lines(facts["episode"])
    for mark in facts["marks"]:
        yield from _mark_lines(mark)


def _breast(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "unmeasured: `omidbfs geometry SOURCE` measures it"
    if found["why_not"] is not None:
        return f"none: {found['why_not']}"
    if found["box"] is None:
        return "none found"
    top, left, bottom, right = found["box"].values()
    side = found["chest_wall_side"]
    wall = "at no side" if side is None else f"at the {side}"
    share = f"{100 * found['share']:.1f} % of the image"
    return f"rows {top} to {bottom}, columns {left} to {right}; {share}; chest wall {wall}"


def _episode_lines(episode: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    if episode is None:
        yield "episode", "unlinked: the study belongs to no episode"
        return
    kind, day = episode["type"] or "unknown", episode["date"] or "without date"
    yield "episode", f"{episode['id']}, {day}, type {kind}, status {episode['status']}"
    for event in episode["events"] or ():
        sides = [
            f"{side} {event[f'{side}_{what}']}{' (reader)' if what == 'reading' else ''}"
            for what in ("opinion", "reading")
            for side in ("left", "right")
            if event[f"{side}_{what}"] is not None
        ]
        yield "event", f"{', '.join([event['name'], ' '.join(event['dates']) or 'without date', *sides])}"
    outcome = episode["undefined_outcome"] or episode["outcome"] or "none"
    yield "outcome", f"{outcome}: {episode['why']}"


def _mark_lines(mark: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    numbers = "no lesion" if mark["lesion_numbers"] is None else f"lesion {', '.join(mark['lesion_numbers'])}"
    said = [*mark["features"], mark["conspicuity"], mark["mass_classification"], mark["benign_classification"]]
    words = ", ".join(word for word in said if word is not None)
    yield "mark", f"{mark['id']}: box {' '.join(map(str, mark['box']))}; {words or 'not described'}; {numbers}"
    for lesion in mark["lesions"] or ():
        words = ", ".join(lesion[key] for key in ("description", "status", "grade") if lesion[key] is not None)
        yield "lesion", f"{lesion['side']} {lesion['number']}: {words or 'not described'}"
