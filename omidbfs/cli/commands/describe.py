"""``omidbfs describe``: explains one image. The command line uses it, in the main thread."""

import os
from collections.abc import Iterator, Mapping
from json import dumps
from pathlib import Path
from typing import Any

import click

from omidbfs.base.errors import UserError
from omidbfs.base.names import printable, safe_bytes
from omidbfs.base.words import counted, did_you_mean
from omidbfs.cli.options import session_of, source_options
from omidbfs.cli.selection import json_option, opened_view


@click.command()
@source_options
@click.argument("image_uid")
@json_option
def describe(source: Path, image_uid: str, json: bool, **options: Any) -> None:
    """Explain one image: files, episode, outcome, marks and facets.

    IMAGE_UID may also be a file name or a path of the drive. If a UID occurs more than once, the command explains
    each place.
    """
    session = session_of(source, options)
    view = opened_view(session, options)
    from omidbfs.cohorts.describe import close_names, described

    index = view.index
    name = image_uid.rpartition("/")[2].removesuffix(".json").removesuffix(".dcm")
    wanted = safe_bytes(os.fsencode(name))
    bare = safe_bytes(os.fsencode(name.partition("~")[0]))  # <uid>~<client>~<study>, as on the drive
    rows = index.image_table.find(wanted) or index.image_table.find(bare)
    if not rows:
        close = close_names(index.images, wanted)
        raise UserError("no image has this UID", did_you_mean(close), image_uid)
    found = [described(view.cohorts, session.source, session.classification.windows, row) for row in rows]
    if json:
        click.echo(dumps(found, indent=2))
        return
    for number, facts in enumerate(found):
        if number:
            click.echo()
        for line in _lines(facts):
            click.echo(printable(line))


def _lines(facts: Mapping[str, Any]) -> Iterator[str]:
    yield f"image    {facts['image']}"
    yield f"study    {facts['study']}, {facts['study_date'] or 'without date'}"
    yield f"client   {facts['client']}"
    for file in facts["files"]:
        size = counted(file["size"], "byte", ",") if file["present"] else "missing"
        yield f"file     {file['path']}: {size}"
    for problem in facts["problems"]:
        detail = f": {problem['detail']}" if problem["detail"] else ""
        yield f"problem  {problem['file']}: {problem['kind']}{detail}"
    if not facts["source_read"]:
        yield "source   is away, or the image is gone from it: what follows is what the index knows"
    yield from _episode_lines(facts["episode"])
    for mark in facts["marks"]:
        yield from _mark_lines(mark)
    yield ""
    width = max(map(len, facts["facets"])) + len("by-")
    for name, facet in facts["facets"].items():
        raw = "; ".join(f"{place} = {dumps(value, ensure_ascii=False)}" for place, value in facet["raw"].items())
        yield f"{'by-' + name:<{width}}  {','.join(facet['values'])}  ({raw or facet['source']})"


def _episode_lines(episode: Mapping[str, Any] | None) -> Iterator[str]:
    if episode is None:
        yield "episode  unlinked: the study belongs to no episode"
        return
    kind, day = episode["type"] or "unknown", episode["date"] or "without date"
    yield f"episode  {episode['id']}, {day}, type {kind}, status {episode['status']}"
    for event in episode["events"] or ():
        sides = [
            f"{side} {event[f'{side}_{what}']}{' (reader)' if what == 'reading' else ''}"
            for what in ("opinion", "reading")
            for side in ("left", "right")
            if event[f"{side}_{what}"] is not None
        ]
        yield f"event    {', '.join([event['name'], ' '.join(event['dates']) or 'without date', *sides])}"
    outcome = episode["undefined_outcome"] or episode["outcome"] or "none"
    yield f"outcome  {outcome}: {episode['why']}"


def _mark_lines(mark: Mapping[str, Any]) -> Iterator[str]:
    numbers = "no lesion" if mark["lesion_numbers"] is None else f"lesion {', '.join(mark['lesion_numbers'])}"
    said = [*mark["features"], mark["conspicuity"], mark["mass_classification"], mark["benign_classification"]]
    words = ", ".join(word for word in said if word is not None)
    yield f"mark     {mark['id']}: box {' '.join(map(str, mark['box']))}; {words or 'not described'}; {numbers}"
    for lesion in mark["lesions"] or ():
        words = ", ".join(lesion[key] for key in ("description", "status", "grade") if lesion[key] is not None)
        yield f"lesion   {lesion['side']} {lesion['number']}: {words or 'not described'}"
