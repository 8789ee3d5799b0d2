"""What facets depend on. An index codes a facet once for each key that ``depends_on`` gives. A field that is
missing from the key gives wrong codes in silence.

Every field of every record of a client is changed, one at a time, to other values that the databases have of it.
Where two images or studies have the same key, they must have the same tokens. Then each part of each key is left
out in turn: the test has to find that.
"""

import datetime
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
import pytest
from trees import Quirky

from omidbfs.clinical.client import ClientRecord, StudyRecord, read_client
from omidbfs.database.client import ClientReader
from omidbfs.database.header import Header
from omidbfs.database.layout import Scanner, find_source
from omidbfs.database.problems import Problem
from omidbfs.database.records import Episode
from omidbfs.facets import BY_NAME, FACETS, Facet, Level, Subject
from omidbfs.facets.image import OF_TYPE, SHARED
from omidbfs.index.chunk import subject_of

pytestmark = pytest.mark.unmeasured

MOST = 5
"""The most values to try for one field."""
PLANTED = replace(BY_NAME["age"], name="planted", depends_on=BY_NAME["model"].depends_on)
"""A facet whose key lacks a field that it depends on."""

Key = Callable[[Subject], Hashable]
Values = Mapping[tuple[type, str], list[Any]]


# Changing records ----------------------------------------------------------------------------------------------


def names_of(record: object) -> tuple[str, ...]:
    """Return the fields of a record, of anything else nothing."""
    if isinstance(record, msgspec.Struct):
        return record.__struct_fields__
    return tuple(field.name for field in fields(record)) if is_dataclass(record) else ()  # type: ignore[arg-type]


def changed(record: Any, **values: Any) -> Any:
    is_struct = isinstance(record, msgspec.Struct)
    return msgspec.structs.replace(record, **values) if is_struct else replace(record, **values)


def inside(value: object) -> Iterator[object]:
    """Yield all records in a value, itself included."""
    if names := names_of(value):
        yield value
        for name in names:
            yield from inside(getattr(value, name))
    elif isinstance(value, (tuple, dict)):
        for one in value.values() if isinstance(value, dict) else value:
            yield from inside(one)


def others(value: Any, known: list[Any]) -> Iterator[Any]:
    """Yield values that a field might have in place of its own."""
    yield from [one for one in (*known[:MOST], *known[-1:]) if one != value]
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, (int, float)) or (value is None and known and isinstance(known[-1], (int, float))):
        yield (value or 0) + 7
    elif isinstance(value, datetime.date):
        yield value + datetime.timedelta(days=800)
    elif isinstance(value, (tuple, dict)) and value:
        yield value[:-1] if isinstance(value, tuple) else dict(list(value.items())[:-1])


def variants(value: Any, values: Values) -> Iterator[Any]:
    """Yield a value with one field of one record in it changed; see :func:`linked` for the episode of a study."""
    for name in names_of(value):
        field = getattr(value, name)
        if not (isinstance(value, StudyRecord) and name == "episode"):
            changes = [*others(field, values[type(value), name]), *variants(field, values)]
            yield from (changed(value, **{name: one}) for one in changes)
    if isinstance(value, tuple):
        for place, item in enumerate(value):
            yield from ((*value[:place], one, *value[place + 1 :]) for one in variants(item, values))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from ({**value, key: one} for one in variants(item, values))


def linked(client: ClientRecord, episodes: Mapping[str, int | None]) -> ClientRecord:
    """Return a client whose studies link to its own episodes, by position."""
    known: tuple[Episode, ...] = client.nbss.episodes if client.nbss is not None else ()
    studies = []
    for study in client.studies:
        place = episodes.get(study.name)
        episode = known[place] if place is not None and place < len(known) else None
        studies.append(changed(study, episode=episode))
    return replace(client, studies=tuple(studies))


def changes_of(client: ClientRecord, values: Values) -> Iterator[ClientRecord]:
    """Yield a client, also with one field changed, or with one study linked to another episode or to none."""
    ids = [episode.id for episode in client.nbss.episodes] if client.nbss is not None else []
    places = {
        study.name: None if study.episode is None else ids.index(study.episode.id) for study in client.studies
    }
    yield client
    for one in variants(client, values):
        renamed = dict(zip((study.name for study in one.studies), places.values(), strict=False))
        yield linked(one, renamed)
    for study in client.studies:
        for place in (None, *range(len(ids))):
            yield linked(client, {**places, study.name: place})


# Looking at images ---------------------------------------------------------------------------------------------


class Seen:
    """The pairs of a key and of the tokens that were seen with it, for each ``depends_on``."""

    def __init__(self) -> None:
        self.groups: dict[Key, list[Facet]] = {}
        for facet in (*FACETS, PLANTED):
            if facet.depends_on is not None:
                self.groups.setdefault(facet.depends_on, []).append(facet)
        self.pairs: dict[Key, set[tuple[Hashable, tuple[Hashable, ...]]]] = {key: set() for key in self.groups}

    def look(self, client: ClientRecord) -> None:
        """Note the keys and tokens of the studies and images of a client, like the builder of an index."""
        for study in client.studies:
            subject = subject_of(client)  # no image is set: a facet of studies that reads one raises
            subject.study = study
            self._look(subject, of_study=True)
            for image in study.images:
                subject = subject_of(client)  # a new subject: facets cache values of a client
                subject.study, subject.image = study, image
                self._look(subject, of_study=False)

    def _look(self, subject: Subject, *, of_study: bool) -> None:
        for key, facets in self.groups.items():
            if (facets[0].level in (Level.EPISODE, Level.STUDY)) == of_study:
                self.pairs[key].add((key(subject), tuple(tokens_of(facet, subject) for facet in facets)))

    def contested(self, key: Key, path: tuple[int | str, ...] | None = None) -> set[str]:
        """Return the facets with different tokens for one key. Leave out the value at ``path`` of the key."""
        tokens: defaultdict[Hashable, set[tuple[Hashable, ...]]] = defaultdict(set)
        for found, said in self.pairs[key]:
            tokens[found if path is None else without(found, path)].add(said)
        together = (zip(self.groups[key], zip(*said, strict=True), strict=True) for said in tokens.values())
        return {facet.name for pairs in together for facet, values in pairs if len(set(values)) > 1}


def tokens_of(facet: Facet, subject: Subject) -> Hashable:
    """Return the tokens of a facet as an index keeps them."""
    assert facet.tokens is not None
    tokens = facet.tokens(subject)
    return frozenset(tokens) if facet.several else tokens[0]


def without(key: Any, path: tuple[int | str, ...]) -> Any:
    """Return a key without the value at a path of positions. ``*`` is every position."""
    if not path:
        return "left out"
    if not isinstance(key, tuple):
        return key
    places = range(len(key)) if path[0] == "*" else (path[0],)
    return tuple(without(part, path[1:]) if place in places else part for place, part in enumerate(key))


@pytest.fixture(scope="module")
def clients(demo_database: Path, quirky_database: Quirky) -> list[ClientRecord]:
    found: list[ClientRecord] = []
    problems: list[Problem] = []
    for path in (demo_database, quirky_database.path):
        source = find_source(path)
        scanner = Scanner(source, problems)
        with ClientReader(source) as reader:
            found += [read_client(scanner, reader, name, problems) for name in scanner.clients()]
    return found


@pytest.fixture(scope="module")
def seen(clients: list[ClientRecord]) -> Seen:
    """All images of all clients, and one study of every sixth client with each of its fields changed."""
    seen, values = Seen(), values_of(clients)
    for client in clients:
        seen.look(client)
    for client in (*map(smaller, clients[::6]), *standard_studies(clients[0])):
        for variant in changes_of(client, values):
            seen.look(variant)
    return seen


def standard_studies(client: ClientRecord) -> Iterator[ClientRecord]:
    """Yield a client with nothing but four standard views, which say their side and view in all possible ways."""
    image = client.studies[0].images[0]
    for side, view in product(("ImageLaterality", "FrameLaterality", "Laterality"), ("ViewPosition", "ViewCode")):
        views = ("CC", "MLO") if view == "ViewPosition" else ("R-10242", "R-10226")
        said = (
            {side: of, view: code, "PresentationIntentType": "FOR PROCESSING"} for of in "LR" for code in views
        )
        images = tuple(changed(image, listed=None, header=Header(**one)) for one in said)  # type: ignore[arg-type]
        study = changed(client.studies[0], episode=None, images=images)
        yield replace(client, nbss=None, imagedb=None, studies=(study,))


def values_of(clients: list[ClientRecord]) -> Values:
    """Return the values that are known of each field that holds no records."""
    found: defaultdict[tuple[type, str], dict[str, Any]] = defaultdict(dict)
    for client in clients:
        for record in inside(client):
            for name in names_of(record):
                value = getattr(record, name)
                if not any(True for _ in inside(value)):
                    found[type(record), name].setdefault(repr(value), value)
    values = {field: list(known.values()) for field, known in found.items()}
    samples: dict[object, Any] = {
        str | None: "A1",
        int | None: 9,
        float | None: 9.5,
        tuple[str, ...]: ("A1",),
        tuple[float, ...]: (9.5, 9.5),
    }
    for name, kind in get_type_hints(Header).items():  # a facet may use a field that none of these images states
        values[Header, name].append(samples[kind])
    return defaultdict(list, values)


def smaller(client: ClientRecord) -> ClientRecord:
    """Return a client with one study, and in it two images, with marks where there are such."""

    def marks(image: Any) -> int:
        return 0 if image.listed is None else -len(image.listed.marks)

    studies = [changed(study, images=tuple(sorted(study.images, key=marks)[:2])) for study in client.studies]
    studies.sort(key=lambda study: min(map(marks, study.images), default=0))
    return replace(client, studies=tuple(studies[:1]))


# Tests ---------------------------------------------------------------------------------------------------------


def test_facets_of_a_client_look_at_nothing_else(clients: list[ClientRecord]) -> None:
    for facet in FACETS:
        if facet.level is Level.CLIENT and facet.tokens is not None:
            assert facet.depends_on is None
            for client in clients:
                facet.tokens(subject_of(client))  # neither study nor image is set


def test_facets_of_clients_and_episodes_look_at_no_image(clients: list[ClientRecord]) -> None:
    """If a saved index lacks these facets, NBSS and ImageDB are enough to make them."""
    of_documents = [facet for facet in FACETS if facet.level in (Level.CLIENT, Level.EPISODE) and facet.tokens]
    for client in clients:
        for study in client.studies:
            subject = subject_of(client)
            subject.study = changed(study, images=())
            without_images = [tokens_of(facet, subject) for facet in of_documents]
            subject.study = study
            assert [tokens_of(facet, subject) for facet in of_documents] == without_images


def test_what_has_one_key_has_the_same_tokens(seen: Seen) -> None:
    assert {facet.name for facets in seen.groups.values() for facet in facets} - {PLANTED.name} == {
        facet.name for facet in FACETS if facet.tokens is not None and facet.level is not Level.CLIENT
    }
    assert {name for key in seen.groups for name in seen.contested(key)} == {PLANTED.name}


PARTS = [
    *(("view", (place,), name) for place, name in enumerate(SHARED)),
    *(("image-type", (place,), name) for place, name in enumerate(OF_TYPE)),
    *(("outcome", (0, place), name) for place, name in enumerate(("status", "outcome", "post-op"))),
    *(("outcome", (1, place), name) for place, name in enumerate(("type", "action", "closed", "year"))),
    *(("outcome", (place,), name) for place, name in ((2, "events"), (3, "all events"))),
    *(("standard-views", ("*", place), f"field {place}") for place in range(6)),
    ("standard-views", ("*",), "images"),
    *(("side-opinion", (place,), f"part {place}") for place in range(2)),
    *(("files", (place,), name) for place, name in enumerate(("dcm", "json"))),
    *(("marked", (place,), name) for place, name in enumerate(("marks", "unread marks"))),
    *(("conspicuity", ("*", place), f"field {place}") for place in range(4)),
    ("her2", (0,), "episode"),
    *(("her2", (1, "*", "*", place), f"field {place}") for place in range(6)),
]
"""A facet, a path into its key, and the name of the field there."""


@pytest.mark.parametrize(
    ("facet", "path"), [part[:2] for part in PARTS], ids=[f"{one}: {what}" for one, _, what in PARTS]
)
def test_every_field_left_out_of_a_key_is_found(seen: Seen, facet: str, path: tuple[int | str, ...]) -> None:
    key = BY_NAME[facet].depends_on
    assert key is not None
    assert seen.contested(key, path) - {PLANTED.name}
