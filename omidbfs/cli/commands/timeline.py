"""The timeline of a client or study as lines for people, or as JSON. ``describe`` uses it, in the main thread."""

from collections.abc import Iterator, Mapping, Sequence
from json import dumps
from typing import TYPE_CHECKING, Any

from omidbfs.base.names import printable
from omidbfs.base.words import counted
from omidbfs.cli.output import aligned

if TYPE_CHECKING:
    from omidbfs.database.records import Nbss
    from omidbfs.serving.session import Session
    from omidbfs.view.view import View

_NO_DATE = "no date"


def describe_client(session: "Session", view: "View", name: bytes, *, json: bool) -> Iterator[str] | None:
    """Return lines about the client or the studies with a name; ``None`` if there are none."""
    index = view.index
    places: list[tuple[int, int | None]] = [(client, None) for client in index.client_table.find(name)]
    places = places or [(int(index.study_client[study]), study) for study in index.study_table.find(name)]
    if not places:
        return None
    found = [_facts(session, view, client, study) for client, study in places]
    return iter([dumps(found, indent=2)]) if json else map(printable, _lines(found))


def _facts(session: "Session", view: "View", client: int, study: int | None) -> Mapping[str, Any]:
    import numpy as np

    from omidbfs.cohorts.describe_client import described_client

    bounds = (
        view.index.client_rows[client : client + 2] if study is None else view.index.study_rows[study : study + 2]
    )
    nbss = _nbss(session, view.index.clients[client].decode())
    rows = np.arange(*bounds.tolist())
    return described_client(view.cohorts, session.classification.windows, client, rows, nbss, study=study)


def _nbss(session: "Session", client: str) -> "Nbss | None":
    """Return what NBSS says of a client, ``None`` if its file is missing, damaged or cannot be reached."""
    from omidbfs.database.client import ClientReader
    from omidbfs.database.layout import Scanner
    from omidbfs.database.problems import Problem

    problems: list[Problem] = []
    try:
        with ClientReader(session.source, headers=False) as reader:
            return reader.documents(Scanner(session.source, problems).client(client), problems)[0]
    except OSError:  # the disk went away
        return None


def _lines(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for number, facts in enumerate(found):
        if number:
            yield ""
        yield from aligned(list(_heading(facts)))
        yield ""
        yield from aligned([(entry["date"] or _NO_DATE, _entry(facts, entry)) for entry in facts["timeline"]])
        for study in facts["studies"]:
            yield ""
            yield f"study {study['study']}, {study['date'] or _NO_DATE}"
            yield from aligned(
                [(f"  {view}", _image(image)) for view, some in study["views"].items() for image in some]
            )


def _heading(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if facts["study"] is not None:
        yield "study", facts["study"]
    yield "client", facts["client"]
    for name, values in facts["facets"].items():
        yield f"by-{name}", ",".join(values)
    for file in facts["files"]:
        yield "file", f"{file['name']}: {counted(file['size'], 'byte', ',')}"
    if not facts["nbss_read"]:
        yield "nbss", "is missing, damaged or cannot be reached: what follows is what the index knows"
    for problem in facts["problems"]:
        detail = f": {problem['detail']}" if problem["detail"] else ""
        yield "problem", f"{problem['file']}: {problem['kind']}{detail}"


def _entry(facts: Mapping[str, Any], entry: Mapping[str, Any]) -> str:
    """Return what happened on a day."""
    if entry["what"] == "study":
        study = facts["studies"][entry["study"]]
        views = ", ".join(f"{view} {len(images)}" for view, images in study["views"].items())
        of = "no episode" if study["episode"] is None else f"episode {study['episode']}"
        return f"study {study['study']}, {of}: {views}"
    episode = next(one for one in facts["episodes"] if one["id"] == entry["episode"])
    if entry["what"] == "event":
        return f"{_event(episode['events'][entry['event']])}, episode {episode['id']}"
    if entry["what"] == "episode-closed":
        return f"episode {episode['id']} closed, action {_word(episode['action'])}"
    outcome = episode["undefined_outcome"] or episode["outcome"]
    kind = f"type {_word(episode['type'])}, status {_word(episode['status'])}"
    lesions = "".join(f"; lesion {_lesion(one)}" for one in episode["lesions"] or ())
    return f"episode {episode['id']} opened, {kind}, outcome {_word(outcome)}: {episode['why']}{lesions}"


def _word(coded: Mapping[str, str] | None) -> str:
    """Return the name of a value with its code beside it."""
    if coded is None:
        return "unknown"
    return coded["name"] if coded["name"] == coded["code"] else f"{coded['name']} ({coded['code']})"


def _event(event: Mapping[str, Any]) -> str:
    said = [
        f"{side} {_word(event[f'{side}_{what}'])}{' by the reader' if what == 'reading' else ''}"
        for what in ("opinion", "reading")
        for side in ("left", "right")
        if event[f"{side}_{what}"] is not None
    ]
    return ", ".join([event["name"], *said])


def _lesion(lesion: Mapping[str, Any]) -> str:
    words = [_word(lesion[key]) for key in ("description", "status", "grade") if lesion[key] is not None]
    return f"{lesion['side']} {lesion['number']}: {', '.join(words) or 'not described'}"


def _image(image: Mapping[str, Any]) -> str:
    latest = {"yes": "latest of its view", "no": "an earlier one"}.get(image["latest_of_view"], "view unknown")
    marks = f", {counted(image['marks'], 'mark')}" if image["marks"] else ""
    return f"{image['image']}  {image['intent']}, {latest}, {'+'.join(image['files'])}{marks}"
