"""The types of the facets: what a facet is, and the image that it reads.

The other modules of this folder build on it, and all floors above read it. Its objects are immutable and safe in
any thread, except :class:`Subject`, which belongs to the thread that builds a chunk.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import TYPE_CHECKING

from omidbfs.base.names import slug, table_label
from omidbfs.clinical.outcomes import EpisodeFacts, Outcome
from omidbfs.database.records import OTHER

if TYPE_CHECKING:
    from omidbfs.clinical.client import ClientRecord, StudyRecord
    from omidbfs.database.study import ImageRecord

UNKNOWN, NONE, UNLINKED = "unknown", "none", "unlinked"
RESERVED: dict[str, str] = {
    UNKNOWN: "the source does not say",
    OTHER: "the source says something outside the table",
    NONE: "known to be empty",
    UNLINKED: "the image belongs to no episode",
}
"""The values that all facets share, with codes 0 to 3 in this order. :func:`slug` never returns one of them."""

Token = str | int | None


class Level(StrEnum):
    """What a value of a facet belongs to, from the client down. :mod:`omidbfs.index.levels` holds the members.

    Levels are texts, because they are keys in JSON and in the files that users write.
    """

    CLIENT = "client"
    EPISODE = "episode"
    STUDY = "study"
    IMAGE = "image"
    MARK = "mark"
    LESION = "lesion"
    FILE = "file"

    @property
    def plural(self) -> str:
        """The plural of the level's name."""
        return "studies" if self is Level.STUDY else f"{self}s"


@dataclass(frozen=True, slots=True)
class Tag:
    """A place in a DICOM dataset: its keyword, and a path of tags.

    ``00540220``, ``00080104`` is a tag in the first item of a sequence. ``00080008[3]`` is Value 3 of an
    attribute. The keyword may be empty.
    """

    keyword: str
    path: tuple[str, ...]

    def __str__(self) -> str:
        numbers = ".".join(f"({part[:4]},{part[4:8]}){part[8:]}" for part in self.path)
        return f"{self.keyword} {numbers}".strip()


@dataclass(frozen=True, slots=True)
class Key:
    """A place in a JSON file of a client, ``nbss`` or ``imagedb``: a path of keys.

    For a facet of episodes, the path starts in the episode. For all others, it starts at the top of the file.
    """

    document: str
    path: tuple[str, ...]

    def __str__(self) -> str:
        return ".".join(self.path)


Origin = tuple[Tag | Key | str, ...]
"""Tags and keys, with the words that join them into a readable text."""


class Kind(Enum):
    """How the tokens of a facet become values."""

    TABLE = "one of a fixed list"
    NUMBER = "whole numbers, grouped in bands; ranges are understood"
    TEXT = "free text, normalised"
    NAME = "identifiers, verbatim"
    FILE = "the type of the file; narrows the files, not the images"
    COHORT = "the cohorts that a configuration names; no column of the index has them"


@dataclass(frozen=True, slots=True)
class Value:
    """A value of a table: its code in the source, its name on the drive, and other names that users may write."""

    code: str
    label: str
    aliases: tuple[str, ...] = ()
    meaning: str = ""


@dataclass(slots=True)
class Subject:
    """The current image, which facets read. The index builder reuses the object for the next image.

    ``facts``, ``outcomes`` and ``post_ops`` have an entry for each episode of the client. ``opinions`` and
    ``lesions`` are caches that the facets fill: ``opinions`` maps an episode and a side to the opinions on that
    breast, and ``lesions`` maps the id() of a lesion to what the facets of lesions return for it. ``latest`` has
    the study looked at last, and says for its images whether they are the latest of their view.
    """

    client: "ClientRecord"
    client_status: str | None
    facts: Mapping[str, EpisodeFacts]
    outcomes: Mapping[str, Outcome]
    post_ops: Mapping[str, bool | None]
    opinions: dict[tuple[str, str], tuple[str | None, str | None]] = field(default_factory=dict, init=False)
    lesions: dict[int, tuple[str | None, ...]] = field(default_factory=dict, init=False)
    latest: "tuple[StudyRecord | None, Mapping[str, bool]]" = field(default=(None, {}), init=False)
    study: "StudyRecord" = field(init=False)
    image: "ImageRecord" = field(init=False)


@dataclass(frozen=True, slots=True)
class Facet:
    """One facet.

    A facet gives each image one or several *tokens*. A token is a code of its table, a number, one of the
    :data:`RESERVED` words, or free text. Free text that reads like a reserved word is still free text. ``None``
    means ``unknown``. Two images (or studies, or clients, by ``level``) with equal ``depends_on`` have equal
    tokens.

    ``origin`` says where the tokens come from: ``tags`` and ``keys`` as data, ``source`` as text. ``lowest``,
    ``highest`` and ``band`` are for numbers. ``label`` names the value of a free text. ``hint`` is a line for
    those who look at values. ``definition`` is a text that changes whenever the definition of a facet changes
    (:mod:`omidbfs.facets.defined`). If the code that reads the tokens of a facet of the program changes, change
    its ``definition`` too, so that saved indexes are updated.
    """

    name: str
    description: str
    level: Level
    origin: Origin
    kind: Kind
    tokens: Callable[[Subject], Sequence[Token]] | None = None
    depends_on: Callable[[Subject], Hashable] | None = None
    several: bool = False
    values: tuple[Value, ...] = ()
    lowest: int = 0
    highest: int = 0
    band: int = 1
    label: Callable[[str], str] = slug
    definition: str = ""
    hint: str = ""

    @property
    def source(self) -> str:
        """Where the tokens come from, as readable text."""
        return "".join(map(str, self.origin))

    @property
    def tags(self) -> tuple[Tag, ...]:
        """The places in the dataset of an image that the tokens come from."""
        return tuple(place for place in self.origin if isinstance(place, Tag))

    @property
    def keys(self) -> tuple[Key, ...]:
        """The places in the NBSS or ImageDB file of a client that the tokens come from."""
        return tuple(place for place in self.origin if isinstance(place, Key))


def tag(keyword: str, *path: str) -> Tag:
    """Return a place in a DICOM dataset."""
    return Tag(keyword, path)


def nbss(*path: str) -> Key:
    """Return a place in the NBSS file of a client."""
    return Key("nbss", path)


def imagedb(*path: str) -> Key:
    """Return a place in the ImageDB file of a client."""
    return Key("imagedb", path)


def one(read: Callable[[Subject], Token]) -> Callable[[Subject], Sequence[Token]]:
    """Return the ``tokens`` of a facet with one value per image. ``None`` means ``unknown``."""
    return lambda subject: (read(subject),)


def of_episode(read: Callable[[Subject, str], Token]) -> Callable[[Subject], Sequence[Token]]:
    """Return the ``tokens`` of a facet of episodes; ``read`` takes the episode's number."""

    def token(subject: Subject) -> Token:
        episode = subject.study.episode
        return UNLINKED if episode is None else read(subject, episode.id)

    return one(token)


def table(texts: Mapping[str, str], labels: Mapping[str, str] | None = None) -> tuple[Value, ...]:
    """Return the values of a table of codes and texts. A text names its code unless ``labels`` has a name."""
    return tuple(
        Value(code, (labels or {}).get(code) or table_label(text), (code, text), text)
        for code, text in texts.items()
    )


YES_NO = (Value("yes", "yes", ("YES", "Y")), Value("no", "no", ("NO", "N")))


def yes_no(fact: bool | None) -> str | None:
    """Return ``yes``, ``no``, or ``None`` for an unknown fact."""
    return None if fact is None else "yes" if fact else "no"
