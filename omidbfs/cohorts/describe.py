"""Description of one image: all known facts and their origin, as plain objects for JSON.

``omidbfs describe`` prints it. The functions have no state, but they read the source, so they belong in a thread
that may wait for a disk.

Values have their names on the drive, and ``raw`` has the values in the source. Most facts come from the index. The
client is read once more for the facts that the index does not hold: events, opinions, lesions and raw values. If
the source is not reachable, these facts are left out.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from omidbfs.base.names import printable
from omidbfs.clinical.client import ClientRecord, read_client
from omidbfs.clinical.explain import why
from omidbfs.clinical.outcomes import UNDEFINED, Outcome, Windows, lesion_grade, lesion_status
from omidbfs.cohorts.cohort import Cohorts
from omidbfs.database.client import ClientReader
from omidbfs.database.dataset import numbered
from omidbfs.database.file_kinds import DCM, FILE_KINDS, JSON, FileKind, Tree
from omidbfs.database.layout import Scanner, Source
from omidbfs.database.problems import Problem
from omidbfs.database.records import Lesion, Mark
from omidbfs.facets import BY_NAME, Facet, Kind, Level, named
from omidbfs.facets.clinical import outcome_tokens
from omidbfs.index.columns import Index
from omidbfs.index.episodes import outcome_at
from omidbfs.index.measured import Record
from omidbfs.index.names import Names
from omidbfs.pixels.rendition import Rendition
from omidbfs.pixels.sizes import size_of, why_not

Facts = dict[str, object]

_CODE_VALUE = "00080100"
_LONGEST_RAW = 200
_MISTAKES = 3
"""Most wrong characters in a UID that is still close to another."""


@dataclass(frozen=True, slots=True)
class _Reread:
    """The client, read once more: its record, and its documents as decoded."""

    reader: ClientReader
    record: ClientRecord
    documents: Mapping[str, Mapping[str, object]]
    source: Source


def described(
    cohorts: Cohorts,
    source: Source,
    windows: Windows,
    row: int,
    renditions: Iterable[Rendition] = (),
    record: Record | None = None,
) -> Facts:
    """Return all that is known about the image at a row of the index, and which of some renditions it has.

    ``record`` is what was found in its pixels, ``None`` if it has not been measured.
    """
    index = cohorts.index
    study, image = index.on_disk(row)
    client = index.clients[int(index.client_of[row])].decode()
    episode = int(index.study_episode[index.study_of[row]])
    day = int(index.study_date[index.study_of[row]])
    with ClientReader(source) as reader:
        reread = _reread(reader, source, client, study, image)
        return {
            "client": client,
            "study": printable(study),
            "image": printable(image),
            "study_date": str(date.fromordinal(day)) if day else None,
            "source_read": reread is not None,
            "files": [_file(index, source, row, kind) for kind in FILE_KINDS],
            "pixels": _pixels(index, row),
            "breast": None if record is None else _breast(record),
            "renditions": {one.name: _rendition(index, row, one) for one in renditions},
            "problems": _problems(index, source, row, client, study, image),
            "episode": _episode(index, row, episode, windows, reread),
            "marks": _marks(index, row, reread, study, image),
            "facets": {
                facet.name: _facet(cohorts, row, facet, reread, (client, study, image))
                for facet in cohorts.facets
                if facet.kind is not Kind.FILE
            },
        }


def _reread(reader: ClientReader, source: Source, client: str, study: str, image: str) -> _Reread | None:
    """Return the client read from the source, ``None`` if the source does not have the image."""
    problems: list[Problem] = []
    try:
        record = read_client(Scanner(source, problems), reader, client, problems)
    except OSError:  # the disk went away
        return None
    if not any(one.name == study and any(each.name == image for each in one.images) for one in record.studies):
        return None
    documents = {}
    for kind in ("nbss", "imagedb"):
        names = [
            name for name in (f"{kind}_{client}.json", f"{kind.upper()}_{client}.json") if name in record.documents
        ]
        documents[kind] = reader.document(client, names[0]) if names else {}
    return _Reread(reader, record, documents, source)


def _file(index: Index, source: Source, row: int, kind: FileKind) -> Facts:
    present = index.has_file(row, kind)
    return {
        "type": kind.name,
        "path": _path(index, source, row, kind),
        "size": int(index.files[kind].size[row]) if present else None,
        "present": present,
    }


def _pixels(index: Index, row: int) -> Facts:
    """Return rows and columns of an image, and the size of its pixels in the breast in mm; ``None`` is unknown."""
    form, sizes = index.pixel_format(row), index.geometry(row)
    spacings = {"row_spacing": sizes.row_spacing, "column_spacing": sizes.column_spacing}
    known = {
        name: mm / sizes.magnification if mm and sizes.magnification else None for name, mm in spacings.items()
    }
    return {"rows": form.Rows, "columns": form.Columns, **known}


def _breast(record: Record) -> Facts:
    corners = (
        None if record.box is None else dict(zip(("top", "left", "bottom", "right"), record.box, strict=True))
    )
    return {
        "box": corners,
        "chest_wall_side": record.side,
        "share": round(record.share, 4),
        "why_not": record.kind or None,
    }


def _rendition(index: Index, row: int, rendition: Rendition) -> Facts:
    """Return the size of a rendition in bytes, or else why the image does not have it."""
    form = index.pixel_format(row)
    reason = why_not(rendition, form) if index.has_file(row, DCM) else "it has no DICOM file"
    return {"size": size_of(rendition, form) if reason is None else None, "why_not": reason}


def _path(index: Index, source: Source, row: int, kind: FileKind) -> str:
    label = source.images_label if kind.tree is Tree.IMAGES else source.data_label
    return f"{label}/{printable(index.image_path(row, kind).decode('utf-8', 'surrogateescape'))}"


def _problems(index: Index, source: Source, row: int, client: str, study: str, image: str) -> list[Facts]:
    """Return the problems of an image, of its study, and of its client that may concern the image."""
    places, study, image = set(), printable(study), printable(image)
    for label in (source.images_label, source.data_label):
        places |= {f"{label}/{client}", f"{label}/{client}/{study}"}
    places |= {
        f"{source.data_label}/{client}/{kind}_{client}.json" for kind in ("nbss", "imagedb", "NBSS", "IMAGEDB")
    }
    places |= {_path(index, source, row, kind) for kind in FILE_KINDS}
    return [
        {"file": problem.file, "kind": problem.kind, "detail": problem.detail}
        for problem in index.problems_of(client)
        if problem.file in places and problem.study in ("", study) and problem.image in ("", image)
    ]


def _episode(index: Index, row: int, ordinal: int, windows: Windows, reread: _Reread | None) -> Facts | None:
    if ordinal < 0:
        return None
    counts = index.episodes.per_client
    first = int(np.sum(counts[: index.client_of[row]], dtype=np.int64))
    of_client = index.episodes.facts(first, first + int(counts[index.client_of[row]]))
    facts = of_client[ordinal - first]
    code = outcome_at(int(index.episodes.outcome[ordinal]))
    outcome, reason = outcome_tokens(code)
    decided = Outcome(code, _future(of_client, ordinal - first, windows))
    read = (
        next((one for one in reread.record.nbss.episodes if one.id == facts.id), None)
        if (reread is not None and reread.record.nbss is not None)
        else None
    )
    return {
        "id": printable(facts.id),
        "type": named("episode-type", facts.type),
        "status": named("episode-status", facts.status or UNDEFINED),
        "date": facts.date and str(facts.date),
        "outcome": named("outcome", outcome),
        "undefined_outcome": named("undefined-outcome", reason) if outcome == UNDEFINED else None,
        "future_episode": decided.future_episode and printable(decided.future_episode),
        "why": printable(why(facts, of_client, decided, windows)),
        "windows": {name: getattr(windows, name) for name in Windows.__dataclass_fields__},
        "events": None
        if read is None
        else [
            {
                "name": named("event", event.name),
                "dates": [str(day) for day in event.dates],
                "left_opinion": named("side-opinion", event.left_opinion),
                "right_opinion": named("side-opinion", event.right_opinion),
                "left_reading": named("reading-opinion", event.left_reading),
                "right_reading": named("reading-opinion", event.right_reading),
            }
            for event in read.events or ()
        ],
    }


def _future(of_client: Sequence[object], position: int, windows: Windows) -> str | None:
    from omidbfs.clinical.outcomes import outcomes

    return outcomes(of_client, windows)[position].future_episode  # type: ignore[arg-type]


def _marks(index: Index, row: int, reread: _Reread | None, study: str, image: str) -> list[Facts]:
    where = index.marks.of_rows(row, row + 1)
    marks = [index.marks.mark(number) for number in range(where.start, where.stop)]
    lesions: Sequence[Lesion] = ()
    side: str | None = None
    if reread is not None:
        from omidbfs.database.terms import laterality

        of_study = next(one for one in reread.record.studies if one.name == study)
        lesions = of_study.episode.lesions if of_study.episode is not None else ()
        side = laterality(next(one.header for one in of_study.images if one.name == image))
    return [_mark(mark, [one for one in lesions if one.side == side], reread is not None) for mark in marks]


def _mark(mark: Mark, lesions: Sequence[Lesion], known: bool) -> Facts:
    numbers = mark.lesion_numbers
    return {
        "id": printable(mark.id),
        "box": [mark.x1, mark.y1, mark.x2, mark.y2],
        "features": [value.label for value in BY_NAME["mark-feature"].values if value.code in mark.features],
        "conspicuity": named("conspicuity", mark.conspicuity),
        "mass_classification": named("mass-classification", mark.mass_classification),
        "benign_classification": named("benign-classification", mark.benign_classification),
        "lesion_numbers": None if numbers is None else sorted(numbers),
        "lesions": [
            {
                "side": lesion.side,
                "number": printable(lesion.number),
                "description": named("lesion-description", lesion.description),
                "status": named("lesion-status", lesion_status(lesion)),
                "grade": named("grade", lesion_grade(lesion)),
            }
            for lesion in lesions
            if numbers is not None and lesion.number in numbers
        ]
        if known
        else None,
    }


def _facet(cohorts: Cohorts, row: int, facet: Facet, reread: _Reread | None, place: tuple[str, str, str]) -> Facts:
    index = cohorts.index
    if facet.kind is Kind.NAME:
        members = cohorts.levels[facet.level]
        values = [name.decode() for name in members.names(np.array([members.ordinal(row)]))]
    else:
        values = list(dict.fromkeys(cohorts.label(facet, code) for code in cohorts.codes_of(facet, row)))
    raw = {} if reread is None else dict(_raw(index, row, facet, reread, place))
    return {"values": values, "level": facet.level, "source": facet.source, "raw": raw}


def _raw(
    index: Index, row: int, facet: Facet, reread: _Reread, place: tuple[str, str, str]
) -> Iterator[tuple[str, object]]:
    """Yield the places that a facet comes from, with their values in the source, if they have one."""
    for tag in facet.tags:
        value = _of_tag(index, row, reread, place, tag.path)
        if value is not None:
            yield str(tag), value
    for key in facet.keys:
        document: object = reread.documents[key.document]
        if facet.level is Level.EPISODE and isinstance(document, dict):
            ordinal = int(index.study_episode[index.study_of[row]])
            id_ = index.episodes.ids[ordinal].decode("utf-8", "surrogatepass") if ordinal >= 0 else ""
            document = document.get(id_)
        value = _inside(document, key.path)
        if value is not None:
            yield str(key), value


def _of_tag(index: Index, row: int, reread: _Reread, place: tuple[str, str, str], path: tuple[str, ...]) -> object:
    """Return the value at a path of tags in the JSON of an image, or in its DICOM header if it has no JSON."""
    client, study, image = place
    if index.has_file(row, JSON):
        found: object = reread.reader.sidecar(client, study, image, index.sidecar_suffix(row))
        for part in path:
            tag, place_of = numbered(part)
            element = found.get(tag) if isinstance(found, dict) else None
            values = element.get("Value") if isinstance(element, dict) else element
            if isinstance(values, list) and (part is not path[-1] or "[" in part or len(values) == 1):
                values = values[place_of - 1] if len(values) >= place_of else None
            found = values
        if isinstance(found, dict):  # for an item of a sequence of codes, the code is the value
            found = _code(found)
        elif isinstance(found, list):
            found = [_code(item) if isinstance(item, dict) else item for item in found] or None
        if found is not None:
            return _short(found)
    if index.has_file(row, DCM) and reread.source.images is not None and not index.has_file(row, JSON):
        return _short(reread.reader.attributes(client, study, image, [path]).get(path))
    return None


def _code(item: Mapping[str, object]) -> object:
    element = item.get(_CODE_VALUE)
    values = element.get("Value") if isinstance(element, dict) else None
    return values[0] if isinstance(values, list) and values else None


def _inside(document: object, keys: Sequence[str]) -> object:
    for key in keys:
        document = document.get(key) if isinstance(document, dict) else None
    return _short(document) if isinstance(document, (str, int, float)) else None


def _short(value: object) -> object:
    """Return a value of the source as it is, or the start of a long text."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    text = printable("\\".join(map(str, value)) if isinstance(value, list) else str(value))
    return text if len(text) <= _LONGEST_RAW else f"{text[:_LONGEST_RAW]}..."


def close_names(names: Names, wanted: bytes, most: int = 3) -> list[str]:
    """Return at most ``most`` names that differ from ``wanted`` by a few characters, or that begin with it."""
    found: list[tuple[int, str]] = []
    letters = np.frombuffer(wanted, np.uint8)
    lengths = np.diff(names.offsets)
    candidates = np.flatnonzero(lengths >= len(wanted)) if len(wanted) > _MISTAKES else np.zeros(0, np.int64)
    for start in range(0, len(candidates), 1 << 16):
        part = candidates[start : start + (1 << 16)]
        places = names.offsets[part].astype(np.int64)[:, np.newaxis] + np.arange(len(wanted))
        mistakes = np.count_nonzero(names.heap[places] != letters, axis=1)
        close = (mistakes == 0) | ((mistakes <= _MISTAKES) & (lengths[part] == len(wanted)))
        near = zip(mistakes[close].tolist(), names.take(part[close]), strict=True)
        found = sorted({*found, *((number, name.decode()) for number, name in near)})[:most]
    return [name for _, name in found]
