"""Facets of the client, of its episodes and of its studies.

The registry of facets includes them. The workers that build an index call their functions, which are pure.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from hashlib import blake2b
from operator import attrgetter

from omidbfs.base.names import slug
from omidbfs.clinical.outcomes import (
    CLIENT_STATUSES,
    OUTCOMES,
    STATUS_LABELS,
    STATUSES,
    UNDEFINED,
    UNDEFINED_OUTCOMES,
)
from omidbfs.database.codes import EPISODE_ACTIONS, EPISODE_TYPES, EVENTS
from omidbfs.database.terms import intent, laterality, view_of
from omidbfs.facets.model import (
    NONE,
    UNLINKED,
    YES_NO,
    Facet,
    Kind,
    Level,
    Subject,
    Token,
    Value,
    imagedb,
    nbss,
    of_episode,
    one,
    table,
    yes_no,
)

_UNDEFINED_LABELS = {
    "InvalidEvents": "invalid-events",
    "InvalidFollowUp": "invalid-follow-up",
    "InvalidPrior": "invalid-prior",
    "InvalidCI": "invalid-ci",
    "DateError": "date-error",
    "NoSubsequentEpisode": "no-subsequent-episode",
}
_UNDEFINED_VALUE = Value(UNDEFINED, UNDEFINED, (), "its events or dates do not allow a decision")
_CLASSIFICATIONS = {code: CLIENT_STATUSES[code] for code in ("N", "B", "M", "CI")}
_STANDARD = frozenset((side, view) for side in "LR" for view in ("CC", "MLO"))


def outcome_tokens(code: str | None) -> tuple[str | None, str | None]:
    """Return the tokens of an outcome in the facets ``outcome`` and ``undefined-outcome``."""
    if code is None or code in OUTCOMES:
        return code, None if code is None else NONE
    return UNDEFINED, code


def _ethnicity(subject: Subject) -> str | None:
    return subject.client.nbss.ethnicity if subject.client.nbss is not None else None


def _site(subject: Subject) -> str | None:
    return subject.client.imagedb.site if subject.client.imagedb is not None else None


def _classification(subject: Subject) -> str | None:
    return subject.client.nbss.classification if subject.client.nbss is not None else None


def _episode_type(subject: Subject) -> str | None:
    episode = subject.study.episode
    return UNLINKED if episode is None else episode.type


def _episode_action(subject: Subject) -> str | None:
    episode = subject.study.episode
    return UNLINKED if episode is None else episode.action


def _closed(subject: Subject) -> str | None:
    episode = subject.study.episode
    return UNLINKED if episode is None else yes_no(episode.is_closed)


def _year(subject: Subject) -> Token | None:
    episode = subject.study.episode
    return UNLINKED if episode is None else episode.actual_opened_year


def _linked(subject: Subject, events: Iterable[str]) -> Sequence[Token]:
    if subject.study.episode is None:
        return (UNLINKED,)
    return tuple(events) or (NONE,)


def fold_of(client: str) -> int:
    """Return 0 to 9. A client has the same fold in every database and version, so a split never leaks a client."""
    return int.from_bytes(blake2b(client.encode(), digest_size=8).digest(), "big") % 10


_view_fields = attrgetter(
    "PresentationIntentType", "ImageLaterality", "FrameLaterality", "Laterality", "ViewPosition", "ViewCode"
)


def _study_views(subject: Subject) -> Hashable:
    """Return what the facet ``standard-views`` depends on."""
    return tuple([_view_fields(image.header) for image in subject.study.images])


def _standard_views(subject: Subject) -> str:
    by_intent: dict[str | None, list[tuple[str | None, str | None]]] = {}
    for image in subject.study.images:
        header = image.header
        by_intent.setdefault(intent(header), []).append((laterality(header), view_of(header)))
    if any(len(views) == len(_STANDARD) and set(views) == _STANDARD for views in by_intent.values()):
        return "complete-4"
    return "extra" if any(set(views) >= _STANDARD for views in by_intent.values()) else "incomplete"


def _links(subject: Subject) -> Hashable:
    """Return what the facets of episodes and of events depend on."""
    study = subject.study
    episode = study.episode
    if episode is None:
        return None
    decided = subject.facts[episode.id].status, subject.outcomes[episode.id].code, subject.post_ops[episode.id]
    stated = episode.type, episode.action, episode.is_closed, episode.actual_opened_year
    return decided, stated, study.events, study.all_events


def _events(labels: Mapping[str, str]) -> tuple[Value, ...]:
    return tuple(Value(name, slug(name.replace("_", "-")), (name, key)) for name, key in labels.items())


_OF_CLIENT: tuple[Facet, ...] = (
    Facet(
        "client",
        "the client; its directory is the real tree of the client",
        Level.CLIENT,
        ("directory name",),
        Kind.NAME,
    ),
    Facet(
        "client-status",
        "the most serious status among the client's episodes",
        Level.CLIENT,
        ("NBSS (omidb.client.Client.status)",),
        Kind.TABLE,
        one(lambda subject: subject.client_status),
        values=table(CLIENT_STATUSES, STATUS_LABELS),
    ),
    Facet(
        "classification",
        "the classification of the client as shipped",
        Level.CLIENT,
        ("NBSS ", nbss("Classification")),
        Kind.TABLE,
        one(_classification),
        values=table(_CLASSIFICATIONS, STATUS_LABELS),
    ),
    Facet("site", "the screening centre", Level.CLIENT, ("ImageDB ", imagedb("Site")), Kind.TEXT, one(_site)),
    Facet(
        "ethnicity",
        "the client's ethnic group",
        Level.CLIENT,
        ("NBSS ", nbss("Ethnicity"), ", else ", nbss("EthnicGroup")),
        Kind.TEXT,
        one(_ethnicity),
    ),
    Facet(
        "fold",
        "one of ten disjoint groups of clients, of about equal size in large databases, not stratified",
        Level.CLIENT,
        ("hash of the client",),
        Kind.NUMBER,
        one(lambda subject: fold_of(subject.client.name)),
        highest=9,
    ),
)

_OF_EPISODE: tuple[Facet, ...] = (
    Facet("episode", "the episode, as <client>~<number>", Level.EPISODE, ("key in NBSS",), Kind.NAME),
    Facet(
        "outcome",
        "the outcome of the episode, from its own events and the episodes after it",
        Level.EPISODE,
        ("NBSS events and types (omidb.classificationtools.episode_outcome)",),
        Kind.TABLE,
        of_episode(lambda subject, episode: outcome_tokens(subject.outcomes[episode].code)[0]),
        _links,
        values=(*table(OUTCOMES, STATUS_LABELS), _UNDEFINED_VALUE),
    ),
    Facet(
        "undefined-outcome",
        "why the outcome is undefined",
        Level.EPISODE,
        ("NBSS events and types (omidb.classificationtools.UndefinedEpisodeOutcome)",),
        Kind.TABLE,
        of_episode(lambda subject, episode: outcome_tokens(subject.outcomes[episode].code)[1]),
        _links,
        values=table(UNDEFINED_OUTCOMES, _UNDEFINED_LABELS),
    ),
    Facet(
        "episode-status",
        "the status of the episode, from its own events only",
        Level.EPISODE,
        ("NBSS events and type (omidb.episode.Episode.status)",),
        Kind.TABLE,
        of_episode(lambda subject, episode: subject.facts[episode].status or UNDEFINED),
        _links,
        values=(*table(STATUSES, STATUS_LABELS), _UNDEFINED_VALUE),
    ),
    Facet(
        "episode-type",
        "why the episode was opened",
        Level.EPISODE,
        ("NBSS ", nbss("EpisodeType")),
        Kind.TABLE,
        one(_episode_type),
        _links,
        values=table(EPISODE_TYPES),
    ),
    Facet(
        "episode-action",
        "the final decision of the episode",
        Level.EPISODE,
        ("NBSS ", nbss("EpisodeAction")),
        Kind.TABLE,
        one(_episode_action),
        _links,
        values=table(EPISODE_ACTIONS),
    ),
    Facet(
        "post-op",
        "whether surgery or an interval cancer preceded the episode",
        Level.EPISODE,
        ("NBSS events and types (omidb.classificationtools.is_post_op)",),
        Kind.TABLE,
        of_episode(lambda subject, episode: yes_no(subject.post_ops[episode])),
        _links,
        values=YES_NO,
    ),
    Facet(
        "closed",
        "whether the episode is closed",
        Level.EPISODE,
        ("NBSS ", nbss("EpisodeIsClosed")),
        Kind.TABLE,
        one(_closed),
        _links,
        values=YES_NO,
    ),
    Facet(
        "year",
        "the true year in which the episode was opened (study dates are shifted)",
        Level.EPISODE,
        ("NBSS ", nbss("ActualEpisodeOpenedYear")),
        Kind.NUMBER,
        one(_year),
        _links,
        lowest=1900,
        highest=2150,
    ),
)

_OF_STUDY: tuple[Facet, ...] = (
    Facet("study", "the examination", Level.STUDY, ("directory name",), Kind.NAME),
    Facet(
        "event",
        "the procedures that the study belongs to",
        Level.STUDY,
        ("NBSS events on the study's date",),
        Kind.TABLE,
        lambda subject: _linked(subject, subject.study.events),
        _links,
        several=True,
        values=_events(EVENTS),
    ),
    Facet(
        "event-link-all",
        "the procedures that the study may belong to, even if the link is not unique (--link-all)",
        Level.STUDY,
        ("NBSS events on the study's date, else all events of its episode",),
        Kind.TABLE,
        lambda subject: _linked(subject, subject.study.all_events),
        _links,
        several=True,
        values=_events(EVENTS),
    ),
    Facet(
        "standard-views",
        "whether the study has CC and MLO of both breasts in one intent (complete-4: and no other image of it)",
        Level.STUDY,
        ("view, laterality and intent of the study's images; each intent is judged separately",),
        Kind.TABLE,
        one(_standard_views),
        _study_views,
        values=(
            Value("complete-4", "complete-4", (), "exactly L-CC, L-MLO, R-CC and R-MLO, of one intent"),
            Value(
                "extra", "extra", (), "these four and more images of the same intent; complete-4,extra has both"
            ),
            Value("incomplete", "incomplete", (), "no intent has all four"),
        ),
        hint="complete-4,extra has all studies with these four views",
    ),
)

CLINICAL_FACETS = (*_OF_CLIENT, *_OF_EPISODE, *_OF_STUDY)
