"""A plain model of the drive: the source as a dictionary of paths, made with loops and dictionaries only.

Files are found here by walking the source, and read by :mod:`naive`, without the package. Which values an image
has comes from the facets' token functions, which :mod:`test_naive_facets` compares with a second opinion. No
columns, no caches: whatever the drive shows has to be what these few loops say.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from naive import documents, header_of, links_of, pixels_of, rendered_size

from omidbfs.base.names import digest, safe_bytes
from omidbfs.clinical.client import ClientRecord, StudyRecord
from omidbfs.clinical.linking import StudyLink
from omidbfs.clinical.outcomes import Windows, client_status, episode_facts, outcome, post_op
from omidbfs.database.records import DbImage, Episode, FileFacts
from omidbfs.database.study import ImageRecord
from omidbfs.facets import COHORT_FACET, FACETS, Facet, Kind, Subject

RESERVED = ("unknown", "other", "none", "unlinked")
KINDS = ("dcm", "json")
DOCUMENT = re.compile(r"(nbss|NBSS|imagedb|IMAGEDB)_(.*)\.json")
_NUMBER = "(1[6-9]|[2-9][0-9]|[1-9][0-9]{2}|[1-7][0-9]{3}|80[0-9]{2}|81[0-8][0-9]|819[0-2])"
RENDITION = re.compile(rf"png(16)?(-{_NUMBER}(x{_NUMBER})?)?|tiff|npy")
TEXTS = {"README.txt", ".omidbfs/status.json", ".omidbfs/facets.json", ".omidbfs/problems.jsonl"}


@dataclass(frozen=True)
class File:
    """A source file, or the ``rendition`` of one, and its attributes on the drive."""

    source: str
    size: int
    mtime: int
    mode: int
    uid: int
    gid: int
    rendition: str = ""


@dataclass(eq=False)
class Image:
    """An image: its names on the drive, its files by kind, its tokens by facet."""

    client: str
    study: str
    name: str
    files: dict[str, File]
    episode: str = "unlinked"
    number: str = ""
    tokens: dict[str, list[Any]] = field(default_factory=dict)
    pixels: dict[str, Any] = field(default_factory=dict)

    def rendered(self, name: str) -> int | None:
        """Return the bytes of a rendition, ``None`` if the image does not have it."""
        return rendered_size(name, self.pixels) if "dcm" in self.files else None


@dataclass(frozen=True)
class Place:
    """A directory. ``images`` are those of its cohort, ``kinds`` the files of them that it shows.

    With a ``rendition`` it shows that of the DICOM files.
    """

    shape: str
    images: tuple[Image, ...] = ()
    kinds: tuple[str, ...] = KINDS
    whole: bool = True
    facet: Facet | None = None
    client: str = ""
    study: str = ""
    rendition: str = ""

    def shown(self) -> list[Image]:
        """Return the images with at least one file to show."""
        return [image for image in self.images if any(kind in image.files for kind in self.kinds)]


Node = Place | File | str
"""A directory, a file of the source, or the path of a text that the drive adds."""


class Reference:
    """The drive over ``source``, with named cohorts, each defined by a path."""

    def __init__(
        self,
        source: Path,
        windows: Windows | None = None,
        *,
        follow_symlinks: bool = False,
        cohorts: Mapping[str, str] | None = None,
    ) -> None:
        self.source = Path(os.path.realpath(source))
        self.follow = follow_symlinks
        self.documents: dict[str, dict[str, File]] = {}
        self.images: list[Image] = []
        self.episodes: set[str] = set()
        self.numbers: set[str] = set()
        self._links: Counter[str] = Counter()
        self._read(windows or Windows())
        occurrences = Counter(image.name for image in self.images)
        self.duplicates = {name for name, count in occurrences.items() if count > 1}
        self.root = Place("root", tuple(self.images))
        self.cohorts: dict[str, tuple[Image, ...]] = {}
        self.facets = FACETS
        if cohorts:
            found = {name: self.node(path) for name, path in cohorts.items()}
            self.cohorts = {name: place.images for name, place in found.items() if isinstance(place, Place)}
            for image in self.images:
                of = [name for name, images in self.cohorts.items() if image in images]
                image.tokens["cohort"] = of or ["none"]
            self.facets = (*FACETS, COHORT_FACET)

    # Content of the source

    def _read(self, windows: Windows) -> None:
        for client in self._clients():
            nbss, imagedb = documents(self.source / "data", client)
            episodes = {episode.id: episode for episode in nbss.episodes} if nbss is not None else {}
            facts = {number: episode_facts(episode) for number, episode in episodes.items()}
            every = list(facts.values())
            self.numbers |= facts.keys()
            self.episodes |= {f"{client}~{safe_bytes(os.fsencode(number)).decode()}" for number in facts}
            in_data = {entry.name for entry in self._studies("data", client)}
            links, all_links = links_of(nbss, imagedb, in_data)
            subject = Subject(
                ClientRecord(client, {}, nbss, imagedb, (), links, all_links, frozenset(in_data)),
                client_status(every) if nbss is not None else None,
                facts,
                {number: outcome(fact, every, windows) for number, fact in facts.items()},
                {number: post_op(fact, every) for number, fact in facts.items()},
            )
            self.documents[client] = dict(self._documents(client))
            by_study: dict[str, dict[str, dict[str, File]]] = {}
            for (study, name), files in self._files(client).items():
                by_study.setdefault(study, {})[name] = files
            for study, images in by_study.items():
                subject.study = self._study(study, images, subject.client, episodes)
                for record in subject.study.images:
                    subject.image = record
                    name = safe_bytes(os.fsencode(record.name)).decode()
                    image = Image(client, safe_bytes(os.fsencode(study)).decode(), name, images[record.name])
                    image.pixels = self._pixels(image)
                    if subject.study.episode is not None:
                        image.number = subject.study.episode.id
                        image.episode = f"{client}~{safe_bytes(os.fsencode(image.number)).decode()}"
                    for facet in FACETS:
                        if facet.tokens is not None:
                            image.tokens[facet.name] = list(dict.fromkeys(facet.tokens(subject)))
                    self.images.append(image)
        self.images.sort(key=lambda image: (image.client, image.study, image.name))

    def _pixels(self, image: Image) -> dict[str, Any]:
        json, dcm = (Path(image.files[kind].source) if kind in image.files else None for kind in ("json", "dcm"))
        return pixels_of(json, dcm)

    def _study(
        self, name: str, images: dict[str, dict[str, File]], client: ClientRecord, episodes: dict[str, Episode]
    ) -> StudyRecord:
        """Return a study with its images, as its files, NBSS and ImageDB describe them."""
        link = client.links.get(name, StudyLink(None))
        every_link = client.all_links.get(name, StudyLink(None))
        listed: dict[str, DbImage] = {}
        known = client.imagedb.studies.get(name) if client.imagedb is not None else None
        for series in known.series.values() if known is not None else ():
            for uid, one in series.items():
                both = listed.get(uid, DbImage())
                listed[uid] = DbImage(both.marks + one.marks, both.unread_marks + one.unread_marks)
        records = []
        for image, files in sorted(images.items()):
            dcm, json = (Path(files[kind].source) if kind in files else None for kind in KINDS)
            facts = [None if kind is None else FileFacts(0, 0, 0, 0, 0) for kind in (dcm, json)]
            records.append(ImageRecord(image, *facts, ".json", header_of(json, dcm), listed.get(image)))
        episode = episodes[link.episode] if link.episode is not None else None
        date = known.date if known is not None else None
        return StudyRecord(name, tuple(records), episode, link.events, every_link.events, date)

    def _clients(self) -> list[str]:
        names = {
            entry.name
            for tree in ("images", "data")
            for entry in self._entries(self.source / tree)
            if re.fullmatch("[A-Za-z]{4}[0-9]+", entry.name) and entry.is_dir()
        }
        return sorted(names)

    def _entries(self, directory: Path) -> list[Path]:
        if not directory.is_dir():
            return []
        return sorted(entry for entry in directory.iterdir() if self.follow or not entry.is_symlink())

    def _studies(self, tree: str, client: str) -> list[Path]:
        entries = self._entries(self.source / tree / client)
        return [entry for entry in entries if entry.is_dir() and not entry.name.startswith(".")]

    def _documents(self, client: str) -> Iterator[tuple[str, File]]:
        for entry in self._entries(self.source / "data" / client):
            match = DOCUMENT.fullmatch(entry.name)
            if match is not None and match[2] == client and entry.is_file():
                yield entry.name, self._file(entry)

    def _files(self, client: str) -> dict[tuple[str, str], dict[str, File]]:
        images: dict[tuple[str, str], dict[str, File]] = {}
        for tree, suffix in (("images", ".dcm"), ("data", ".json")):
            for study in self._studies(tree, client):
                names = {
                    entry.name.removesuffix(suffix): entry
                    for entry in self._entries(study)
                    if entry.name.endswith(suffix) and entry.is_file() and not entry.name.startswith(".")
                }
                for name, entry in names.items():
                    bare = name.removesuffix(".dcm") if suffix == ".json" else name
                    shown = bare if bare not in names else name  # both spellings: each under its own name
                    images.setdefault((study.name, shown), {})[suffix[1:]] = self._file(entry)
        return images

    def _file(self, path: Path) -> File:
        facts = path.stat()
        mode = facts.st_mode & 0o555
        for above in path.parents:
            directory = above.stat()
            ours = directory.st_uid == facts.st_uid and directory.st_gid == facts.st_gid
            for who in range(3):
                bit = 0o100 >> 3 * who if ours else 0o001
                if not directory.st_mode & bit:
                    mode &= ~(0o700 >> 3 * who)
        return File(str(path), facts.st_size, facts.st_mtime_ns, mode, facts.st_uid, facts.st_gid)

    # Paths

    def flat_name(self, image: Image) -> str:
        """Return the name of an image in flat cohorts; where it would be too long, a hash stands for the study."""
        if image.name not in self.duplicates:
            return image.name
        long = len(f"{image.name}~{image.client}{image.study}") > 240
        study = digest(image.study.encode())[:16].decode() if long else image.study
        return f"{image.name}~{image.client}~{study}"

    def children(self, place: Place) -> dict[str, Node]:
        """Return what a directory lists."""
        shown = place.shown()
        nodes: dict[str, Node] = {}
        if place.shape == "root":
            nodes = {"all": replace(place, shape="flat")}
            if not place.rendition:
                nodes |= {".omidbfs": Place("about"), "README.txt": "README.txt"}
            nodes |= {f"by-{facet.name}": self._below(place, facet) for facet in self.facets}
            if self.cohorts:
                nodes["cohorts"] = replace(place, shape="cohorts")
        elif place.shape == "cohorts":
            nodes = {name: self._named(place, name) for name in self.cohorts}
        elif place.shape == "about":
            nodes = {text.removeprefix(".omidbfs/"): text for text in TEXTS if text.startswith(".omidbfs/")}
        elif place.shape == "facet":
            assert place.facet is not None
            nodes = {name: self._value(place, name) for name in self.values(place)}  # type: ignore[misc]
        elif place.shape == "flat":
            for image in shown:
                nodes |= self._pair(place, image, self.flat_name(image))
        elif place.shape == "client":
            of_client = [image for image in shown if image.client == place.client]
            if "json" in place.kinds and (place.whole or of_client):
                nodes |= self.documents[place.client]
            nodes |= {
                image.study: replace(place, shape="study", whole=False, study=image.study) for image in of_client
            }
        elif place.shape == "study":
            for image in shown:
                if (image.client, image.study) == (place.client, place.study):
                    nodes |= self._pair(place, image, image.name)
        return nodes

    def values(self, place: Place) -> dict[str, int]:
        """Return the values that a facet directory lists, each with its number of images."""
        facet, counts = place.facet, Counter[str]()
        assert facet is not None
        if facet.name == "client" and place.whole:
            counts.update(dict.fromkeys(self.documents, 0))
        for image in place.shown():
            if facet.kind is Kind.FILE:
                counts.update(kind for kind in KINDS if kind in image.files and kind in place.kinds)
            elif facet.kind is Kind.NAME:
                counts[getattr(image, facet.name)] += 1
            else:
                counts.update({label(facet, token) for token in image.tokens[facet.name]})
        return dict(counts)

    def lookup(self, place: Place, name: str) -> Node | None:
        """Return what a directory answers to a name, listed or not."""
        if place.shape in ("root", "flat", "client", "study") and name.startswith("by-"):
            facet = next((facet for facet in self.facets if facet.name == name[3:]), None)
            return self._below(place, facet) if facet is not None else None
        if place.shape in ("root", "flat", "client", "study") and name.startswith("as-"):
            return self._rendered(place, name[3:])
        if place.shape == "facet":
            return self._value(place, name)
        return self.children(place).get(name)

    def node(self, path: str) -> Node | None:
        """Return what is at a path, listed or not."""
        node: Node | None = self.root
        for name in path.split("/") if path else ():
            node = self.lookup(node, name) if isinstance(node, Place) else None
        return node

    def walk(self, place: Place | None = None, path: str = "") -> Iterator[tuple[str, Node]]:
        """Yield every listed path with what is there."""
        for name, node in self.children(place or self.root).items():
            inner = f"{path}/{name}" if path else name
            yield inner, node
            if isinstance(node, Place):
                yield from self.walk(node, inner)

    def links(self) -> Counter[str]:
        """Return source file -> number of paths under which it is listed."""
        if not self._links:
            self._links = Counter(node.source for _, node in self.walk() if isinstance(node, File))
        return self._links

    def _pair(self, place: Place, image: Image, name: str) -> dict[str, Node]:
        files = {f"{name}.{kind}": image.files[kind] for kind in place.kinds if kind in image.files}
        if not place.rendition:
            return {**files}
        format, size = place.rendition.partition("-")[0].removesuffix("16"), image.rendered(place.rendition)
        assert size is not None
        return {f"{name}.{format}": replace(file, size=size, rendition=place.rendition) for file in files.values()}

    def _rendered(self, place: Place, name: str) -> Place | None:
        if place.rendition or not RENDITION.fullmatch(name):
            return None
        images = tuple(image for image in place.images if image.rendered(name) is not None)
        kinds = tuple(kind for kind in place.kinds if kind == "dcm")
        return replace(place, images=images, kinds=kinds, whole=False, rendition=name)

    def _named(self, place: Place, name: str) -> Place:
        images = tuple(image for image in place.images if image in self.cohorts[name])
        return replace(place, shape="flat", images=images, whole=False)

    def _below(self, place: Place, facet: Facet) -> Place:
        images = [
            image
            for image in place.images
            if place.client in ("", image.client) and place.study in ("", image.study)
        ]
        whole = place.whole and not place.client
        return replace(place, shape="facet", images=tuple(images), whole=whole, facet=facet, client="", study="")

    def _value(self, place: Place, name: str) -> Place | None:
        facet = place.facet
        assert facet is not None
        if facet.name == "client" and name in self.documents:
            return replace(place, shape="client", client=name)
        if facet.kind is Kind.FILE:
            wanted = self._tested(name, lambda text: (lambda kind: kind == text) if text in KINDS else None)
            if wanted is None:
                return None
            kinds = tuple(kind for kind in place.kinds if wanted(kind))
            return replace(place, shape="flat", kinds=kinds, whole=place.whole and kinds == KINDS)
        test = self._tested(name, lambda text: self._test(facet, text))
        if test is None:
            return None
        images = tuple(image for image in place.images if test(image))
        return replace(place, shape="flat", images=images, whole=False)

    def _tested(self, name: str, test: Callable[[str], Any]) -> Callable[[Any], bool] | None:
        """Return the test of a component: a literal value, else a complement, a union, a range."""
        for text in (name, name.removeprefix("not-")):
            literal = test(text)
            parts = [literal] if literal is not None else [test(part) for part in text.split(",")]
            if None not in parts:
                return lambda thing: any(part(thing) for part in parts) != (text != name)
        return None

    def _test(self, facet: Facet, text: str) -> Callable[[Image], bool] | None:
        """Return the test of one value: by its name, its code, an alias, or as a range of numbers."""
        if facet.name == "episode":
            if "~" in text or text == "unlinked":
                return (
                    (lambda image: image.episode == text) if text in self.episodes or text == "unlinked" else None
                )
            numbers = {number for number in self.numbers if safe_bytes(os.fsencode(number)).decode() == number}
            return (lambda image: image.number == text) if text in numbers else None
        if facet.kind is Kind.NAME:
            names = {image.study for image in self.images} if facet.name == "study" else set(self.documents)
            return (lambda image: getattr(image, facet.name) == text) if text in names else None
        tokens = {token for image in self.images for token in image.tokens[facet.name]}
        wanted: set[Any] = set()
        listed = {label(facet, token) for token in tokens}
        if facet.kind is Kind.COHORT:
            if text not in self.cohorts and text != "none":
                return None
            wanted = {text}
        elif text in RESERVED or (facet.kind is Kind.TEXT and text in listed):
            wanted = {token for token in tokens if label(facet, token) == text}
        elif facet.kind is Kind.TEXT:
            if text not in tokens:
                return None
            same = {token for token in tokens if label(facet, token) == label(facet, text)}
            wanted = same
        elif facet.kind is Kind.TABLE:
            found = [value for value in facet.values if text in (value.code, *value.aliases)]
            found = [value for value in facet.values if text == value.label] or found[:1]
            if not found:
                return None
            wanted = {value.code for value in found}
        else:
            match = re.fullmatch(r"(\d{0,9})(-?)(\d{0,9})", text, re.ASCII)
            if match is None or not (match[1] or match[3]):
                return None
            low = int(match[1]) if match[1] else facet.lowest
            high = int(match[3]) if match[3] else facet.highest if match[2] else low
            low, high = max(low, facet.lowest), min(high, facet.highest)
            if low > high:
                return None
            wanted = {token for token in tokens if isinstance(token, int) and low <= token <= high}
        return lambda image: any(token in wanted for token in image.tokens[facet.name])


def label(facet: Facet, token: str | int | None) -> str:
    """Return the name under which a token is listed."""
    if token is None:
        return "unknown"
    if isinstance(token, int):
        if not facet.lowest <= token <= facet.highest:
            return "other"
        low = token - token % facet.band
        return str(token) if facet.band == 1 else f"{low}-{low + facet.band - 1}"
    if facet.kind is Kind.TEXT:
        return facet.label(token)
    return next((value.label for value in facet.values if value.code == token), token)
