"""What a facet is, and the image that facets look at.

The modules of facets build on it, and all floors above read it. All of it is immutable but :class:`Subject`, which
belongs to the builder of a chunk and to its thread.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum

from omidbfs.base.names import slug, table_label
from omidbfs.clinical.client import ClientRecord, StudyRecord
from omidbfs.clinical.outcomes import EpisodeFacts, Outcome
from omidbfs.database.records import OTHER
from omidbfs.database.study import ImageRecord

UNKNOWN, NONE, UNLINKED = "unknown", "none", "unlinked"
RESERVED: dict[str, str] = {
    UNKNOWN: "the source does not say",
    OTHER: "the source says something outside the table",
    NONE: "known to be empty",
    UNLINKED: "the image belongs to no episode",
}
"""Values that every facet shares, with codes 0 to 3 in this order; :func:`slug` gives none of them to a text."""

Token = str | int | None


class Level(StrEnum):
    """What the value of a facet belongs to, from the client down; see :mod:`omidbfs.index.levels` for its members.

    A text, so that it can be a key of JSON and of what users write.
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
        """The word for several."""
        return "studies" if self is Level.STUDY else f"{self}s"


@dataclass(frozen=True, slots=True)
class Tag:
    """A place in a DICOM dataset: its keyword, and a path of tags.

    ``00540220``, ``00080104`` is a tag in the first item of a sequence, and ``00080008[3]`` is Value 3 of an
    attribute. The keyword is empty where nobody gave one.
    """

    keyword: str
    path: tuple[str, ...]

    def __str__(self) -> str:
        numbers = ".".join(f"({part[:4]},{part[4:8]}){part[8:]}" for part in self.path)
        return f"{self.keyword} {numbers}".strip()


@dataclass(frozen=True, slots=True)
class Key:
    """A place in a JSON file of a client, ``nbss`` or ``imagedb``: a path of keys.

    The path of a facet of episodes starts in the episode, and of all others at the top of the file.
    """

    document: str
    path: tuple[str, ...]

    def __str__(self) -> str:
        return ".".join(self.path)


Origin = tuple[Tag | Key | str, ...]
"""Tags and keys, with the words that are between them for people."""


class Kind(Enum):
    """How the tokens of a facet become values."""

    TABLE = "one of a fixed list"
    NUMBER = "whole numbers, grouped in bands; ranges are understood"
    TEXT = "free text, normalised"
    NAME = "identifiers, verbatim"
    FILE = "the type of the file; narrows the files, not the images"


@dataclass(frozen=True, slots=True)
class Value:
    """A value of a table: the code in the source, the name on the drive, further names that resolve to it."""

    code: str
    label: str
    aliases: tuple[str, ...] = ()
    meaning: str = ""


@dataclass(slots=True)
class Subject:
    """The image at hand, for the facets to look at. Reused from image to image by the index builder.

    ``facts``, ``outcomes`` and ``post_ops`` have an entry for each episode of the client; ``opinions`` are those
    of a breast in an episode, of its side and its number, and ``lesions`` what is said of a lesion, by its id(),
    both as far as somebody has asked.
    """

    client: ClientRecord
    client_status: str | None
    facts: Mapping[str, EpisodeFacts]
    outcomes: Mapping[str, Outcome]
    post_ops: Mapping[str, bool | None]
    opinions: dict[tuple[str, str], tuple[str | None, str | None]] = field(default_factory=dict, init=False)
    lesions: dict[int, tuple[str | None, ...]] = field(default_factory=dict, init=False)
    study: StudyRecord = field(init=False)
    image: ImageRecord = field(init=False)


@dataclass(frozen=True, slots=True)
class Facet:
    """One facet.

    It takes one or several *tokens* from each image: a code of its table, a number, one of the :data:`RESERVED`
    words, or free text, which may read like one of these and is none of them. ``None`` is ``unknown``. Images
    (studies, clients, by its ``level``) for which ``depends_on`` gives the same have the same tokens.

    ``origin`` says where the tokens are taken from. ``tags`` and ``keys`` are its data; ``source`` is its text.
    ``lowest``, ``highest`` and ``band`` belong to numbers; ``label`` names the value of a free text.
    ``definition`` is that of a facet of the user's (:mod:`omidbfs.facets.defined`), as text that changes with it.
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

    @property
    def source(self) -> str:
        """Where the tokens are taken from, for people."""
        return "".join(map(str, self.origin))

    @property
    def tags(self) -> tuple[Tag, ...]:
        """The places in the dataset of an image that the tokens are taken from."""
        return tuple(place for place in self.origin if isinstance(place, Tag))

    @property
    def keys(self) -> tuple[Key, ...]:
        """The places in the NBSS or ImageDB file of a client that the tokens are taken from."""
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
    """Return the tokens of a facet with one value per image; ``None`` is ``unknown``."""
    return lambda subject: (read(subject),)


def of_episode(read: Callable[[Subject, str], Token]) -> Callable[[Subject], Sequence[Token]]:
    """Return the tokens of a facet of the episode, given by its number; without episode ``unlinked``."""

    def token(subject: Subject) -> Token:
        episode = subject.study.episode
        return UNLINKED if episode is None else read(subject, episode.id)

    return one(token)


def table(texts: Mapping[str, str], labels: Mapping[str, str] | None = None) -> tuple[Value, ...]:
    """Return the values of a table of codes and their texts; what has no label of its own is named by its text."""
    return tuple(
        Value(code, (labels or {}).get(code) or table_label(text), (code, text), text)
        for code, text in texts.items()
    )


YES_NO = (Value("yes", "yes", ("YES", "Y")), Value("no", "no", ("NO", "N")))


def yes_no(fact: bool | None) -> str | None:
    """Return the token of a fact that may be unknown."""
    return None if fact is None else "yes" if fact else "no"
