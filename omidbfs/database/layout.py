"""Finds the two trees of an OMI-DB, and lists their clients, studies and files.

Commands find a source with it, and executors list its clients; a :class:`Scanner` belongs to one thread. Names are
as on disk, decoded with ``surrogateescape``, so that every file has a name. Paths in problems are relative to the
source (``data/optm1/nbss_optm1.json``). The module opens directories only, no files.
"""

import operator
import os
import re
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from omidbfs.base.errors import UserError
from omidbfs.base.words import did_you_mean
from omidbfs.database.client_files import ClientFiles, ImageFiles
from omidbfs.database.near import sources_near, trees_below
from omidbfs.database.permissions import Access, TreeReader, limited_mode, narrowed, path_access
from omidbfs.database.problems import Problem, Reporter
from omidbfs.database.records import FIRST_TIME, LAST_TIME, FileFacts, mtime_of

CLIENT_NAME = re.compile(r"[A-Za-z]{4}[0-9]{1,16}")
"""A client directory: ``demd<N>``, ``optm<N>`` or any other four letters and digits."""


_OF_A_DRIVE = re.compile(r"(^|/)(by|as)-[a-z]")
"""Matches a path that has a name as in a drive."""
NO_ANSWER = "a directory or file of the client does not answer, though the disk answers for other clients"
"""Why a client is left out whose files are waited for in vain."""

DOCUMENTS = ("nbss_", "imagedb_", "NBSS_", "IMAGEDB_")
"""Prefixes of the JSON files of a client. As in ``omidb.DB``, the lower-case spelling wins over the other."""


@dataclass(frozen=True, slots=True)
class Source:
    """An OMI-DB on disk: the directories of its two trees (either may be missing) and how to treat links.

    ``root`` is the SOURCE directory, if the trees were found below one.
    """

    images: str | None
    data: str | None
    images_label: str = "images"
    data_label: str = "data"
    follow_symlinks: bool = False
    root: str | None = None

    def trees(self) -> Iterator[str]:
        """Yield the directories of the trees that exist."""
        for tree in (self.images, self.data):
            if tree is not None:
                yield tree


def find_source(
    path: Path | None,
    images: Path | None = None,
    data: Path | None = None,
    *,
    follow_symlinks: bool = False,
) -> Source:
    """Return the trees of the OMI-DB at ``path``; ``images`` and ``data`` override one tree each.

    Raises
    ------
    UserError
        A path is not a directory, or ``path`` holds neither tree.
    """
    labels = {"images": "images", "data": "data"}
    found: dict[str, str | None] = {"images": None, "data": None}
    root = None
    for tree, given in (("images", images), ("data", data)):
        if given is not None:
            if not given.is_dir():
                raise UserError(f"no such directory (given as --{tree})", place=given)
            found[tree] = os.path.realpath(given)
    if images is None or data is None:
        if path is None:
            raise UserError("name a SOURCE directory, or both --images and --data")
        if not path.is_dir():
            remedy = "SOURCE is the directory that holds images/ and data/"
            if _OF_A_DRIVE.search(str(path)):
                remedy += ", or a mounted drive, and COHORT comes after it"
            raise UserError("no such directory", remedy, place=path)
        for tree, directory in trees_below(path).items():
            if found[tree] is None:
                root, found[tree], labels[tree] = os.path.realpath(path), str(directory), directory.name
    if found["images"] is None and found["data"] is None:
        remedy = "SOURCE is the directory that holds both, or name them apart with --images and --data"
        raise UserError(
            "holds no images/ or data/ directory",
            "; ".join(filter(None, (remedy, did_you_mean(sources_near(Path(path or ".")))))),
            place=path,
        )
    return Source(found["images"], found["data"], labels["images"], labels["data"], follow_symlinks, root)


_NAME = operator.attrgetter("name")
_READABLE = 0o555
_TYPE, _REGULAR = 0o170000, stat.S_IFREG
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class _Place(NamedTuple):
    """The path of an entry relative to the source, and the client, study and image that it belongs to."""

    path: str
    client: str = ""
    study: str = ""
    image: str = ""

    def entry(self, name: str, image: str = "") -> "_Place":
        """Return the place of an entry of this directory; ``image`` names the image of a file."""
        return _Place(f"{self.path}/{name}", self.client, self.study, image)


class _Listed:
    """A directory and its entries, sorted by name. Use it as a context manager.

    The directory stays open, since ``stat`` relative to it is faster than ``stat`` of whole paths.
    """

    __slots__ = ("access", "descriptor", "entries", "path", "place")

    def __init__(self, path: str, place: "_Place", descriptor: int | None = None) -> None:
        self.path = path
        self.place = place
        self.descriptor = descriptor
        self.access: list[Access] = []
        self.entries: list[os.DirEntry[str]] = []

    def __enter__(self) -> "_Listed":
        return self

    def __exit__(self, *exception: object) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)


class Scanner:
    """Lists the trees of a source, and collects problems of their structure in ``problems``."""

    def __init__(self, source: Source, problems: list[Problem]) -> None:
        self.source = source
        self.problems = problems
        self._same_tree = source.images == source.data
        self._ctimes: list[int] = []
        self._tree_access = {tree: path_access(tree) for tree in source.trees()}

    def beside(self, problems: list[Problem]) -> "Scanner":
        """Return a scanner of the same trees for another thread, with a list of problems of its own."""
        other = Scanner.__new__(Scanner)  # copy() takes 4 us, for each client
        other.__dict__.update(self.__dict__)
        other.problems = problems
        return other

    def is_alive(self, but: Collection[str]) -> bool:
        """Return whether each tree lists a client that is not one of ``but``.

        The call does not return while a disk hangs.

        Raises
        ------
        OSError
            A tree cannot be listed.
        """
        for tree in self.source.trees():
            with os.scandir(tree) as entries:
                client = next(
                    (one for one in entries if CLIENT_NAME.fullmatch(one.name) and one.name not in but), None
                )
            if client is None:
                return False
            os.listdir(client.path)
        return True

    def clients(self) -> list[str]:
        """Return the names of all clients in either tree, in byte order; report entries that are not clients."""
        names = set()
        for tree, label in self._trees():
            with self._listed(tree, _Place(label), [], is_link=True) as listed:  # a tree may be a symbolic link
                for entry in listed.entries:
                    place = listed.place.entry(entry.name)
                    if not CLIENT_NAME.fullmatch(entry.name):
                        self._report(place, "unexpected-entry", "not a client directory")
                    elif self._is_directory(entry, tree, place):
                        names.add(entry.name)
        for directory, missing in ((self.source.images, "images"), (self.source.data, "data")):
            if directory is None:
                self._report(_Place(missing), "tree-missing", f"the source has no {missing}/ directory")
        return sorted(names, key=os.fsencode)

    def client(self, name: str) -> ClientFiles:
        """Return the files of one client; never raises for the state of the disk."""
        files = ClientFiles(name)
        self._ctimes = files.ctimes
        for tree, label in self._trees():
            path, place = f"{tree}/{name}", _Place(f"{label}/{name}", name)
            try:
                mode = os.lstat(path).st_mode
                is_link = stat.S_ISLNK(mode)
                if is_link:
                    if not self._may_follow(path):
                        continue  # clients() has reported it
                    mode = os.stat(path).st_mode
                if not stat.S_ISDIR(mode):
                    continue
            except FileNotFoundError:
                continue
            except OSError as error:
                self._report(place, "unreadable", error.strerror or "cannot be read")
                continue
            with self._listed(path, place, self._tree_access[tree], is_link) as listed:
                for entry in listed.entries:
                    self._client_entry(entry, listed, files, tree == self.source.data)
        for lower, upper in (("nbss_", "NBSS_"), ("imagedb_", "IMAGEDB_")):
            if f"{lower}{name}.json" in files.documents and f"{upper}{name}.json" in files.documents:
                place = _Place(f"{self.source.data_label}/{name}/{upper}{name}.json", name)
                self._report(place, "duplicate-file", f"{lower}{name}.json is used")
        return files

    def _client_entry(self, entry: os.DirEntry[str], listed: _Listed, files: ClientFiles, is_data: bool) -> None:
        name = entry.name
        if is_data and name.endswith(end := f"_{files.name}.json") and name[: 1 - len(end)] in DOCUMENTS:
            facts = self._file(entry, listed)
            if facts is not None:
                files.documents[name] = facts
            return
        is_plain = entry.is_dir(follow_symlinks=False)
        if name[0] == "." or not (is_plain or entry.is_symlink()):
            place = listed.place.entry(name)
            self._report(place, "unexpected-entry", "neither a study directory nor a JSON file of the client")
            return
        place = _Place(f"{listed.place.path}/{name}", files.name, name)
        if self._is_directory(entry, listed.path, place):
            if is_data:
                files.in_data.add(name)
            images = files.studies.setdefault(name, {})
            with self._listed(f"{listed.path}/{name}", place, listed.access, not is_plain) as study:
                self._study(study, images, is_data)

    def _study(self, listed: _Listed, images: dict[str, ImageFiles], is_data: bool) -> None:
        place = listed.place
        takes_dcm = self._same_tree or not is_data
        is_open, add_ctime = not listed.access, self._ctimes.append
        doubtful: list[tuple[str, os.DirEntry[str]]] = []
        for entry in listed.entries:
            name = entry.name
            stem, dot, suffix = name.rpartition(".")
            is_json = is_data and suffix == "json"
            if not (is_json or (takes_dcm and suffix == "dcm")) or not dot or name[0] == ".":
                self._report(place.entry(name), "unexpected-entry", "neither an image nor its JSON")
                continue
            if is_json and stem.endswith(".dcm"):
                doubtful.append((stem, entry))
                continue
            # The short form of _file: it saves a call, a third of the time, for each of two million files.
            facts: FileFacts | None = None
            if is_open:
                try:
                    found = entry.stat(follow_symlinks=False)
                    mode, time = found.st_mode, found.st_mtime_ns
                    if mode & _TYPE == _REGULAR and FIRST_TIME <= time <= LAST_TIME:
                        add_ctime(found.st_ctime_ns)
                        facts = FileFacts(found.st_size, time, mode & _READABLE, found.st_uid, found.st_gid)
                except OSError:
                    pass  # _file reports why
            if facts is None and (facts := self._file(entry, listed, stem)) is None:
                continue
            image = images.get(stem)
            if image is None:
                image = images[stem] = ImageFiles()
            if is_json:
                image.sidecar = facts
            else:
                image.dcm = facts
        # <image>.dcm.json is another spelling of <image>.json, unless that exists too or an image has the name
        # <image>.dcm.
        for stem, entry in sorted(doubtful, key=lambda found: len(found[0])):
            namesake, plain = images.get(stem), stem.removesuffix(".dcm")
            is_namesakes = namesake is not None and namesake.dcm is not None
            facts = self._file(entry, listed, stem if is_namesakes else plain)
            if facts is None:
                continue
            if namesake is not None and is_namesakes:
                namesake.sidecar = facts
                continue
            image = images.setdefault(plain, ImageFiles())
            if image.sidecar is None:
                image.sidecar, image.sidecar_suffix = facts, ".dcm.json"
            else:
                self._report(place.entry(f"{stem}.json", stem), "duplicate-file", f"{plain}.json is used")
                images[stem] = ImageFiles(sidecar=facts, double=True)

    def _file(self, entry: os.DirEntry[str], listed: _Listed, image: str = "") -> FileFacts | None:
        access = listed.access
        place = listed.place.entry(entry.name, image)
        try:
            if entry.is_symlink() and not self.source.follow_symlinks:
                self._report(place, "symlink", "a symbolic link; use --follow-symlinks to follow it")
                return None
            facts = entry.stat(follow_symlinks=self.source.follow_symlinks)
            if entry.is_symlink():
                target = os.path.realpath(f"{listed.path}/{entry.name}")
                access = [*access, *path_access(os.path.dirname(target))]
        except OSError as error:
            self._report(place, "unreadable", error.strerror or "cannot be read")
            return None
        if not stat.S_ISREG(facts.st_mode):
            self._report(place, "not-a-regular-file", "a file belongs here")
            return None
        if mtime_of(facts) != facts.st_mtime_ns:
            self._report(place, "odd-time", f"{facts.st_mtime_ns // 10**9} seconds since 1970")
        self._ctimes.append(facts.st_ctime_ns)
        return file_facts(facts, access)

    def _is_directory(self, entry: os.DirEntry[str], directory: str, place: _Place) -> bool:
        if not entry.is_symlink():
            if entry.is_dir():
                return True
            self._report(place, "unexpected-entry", "a directory belongs here")
            return False
        path = f"{directory}/{entry.name}"
        if not os.path.isdir(path):  # entry.is_dir() raises for circular links
            self._report(place, "symlink", "a symbolic link that leads to no directory")
            return False
        if self._may_follow(path):
            return True
        self._report(place, "symlink", "leaves the source; use --follow-symlinks to follow it")
        return False

    def _may_follow(self, path: str) -> bool:
        if self.source.follow_symlinks:
            return True
        root = next(tree for tree in self.source.trees() if path.startswith(os.path.join(tree, "")))
        reader = TreeReader(root)
        try:
            return reader.reaches(os.fsencode(os.path.relpath(path, root)))
        finally:
            reader.close()

    def _listed(self, path: str, place: _Place, above: list[Access], is_link: bool) -> _Listed:
        """Return a directory below ``above`` with its entries, without any where it cannot be listed."""
        try:
            descriptor = os.open(path, _DIRECTORY if is_link else _DIRECTORY | os.O_NOFOLLOW)
        except OSError as error:
            self._report(place, "unreadable", error.strerror or "cannot be listed")
            return _Listed(path, place)
        listed = _Listed(path, place, descriptor)
        try:
            if is_link:  # readers must search the path to its target, too
                listed.access = [*above, *path_access(os.path.realpath(path))]
            else:
                listed.access, facts = above, os.fstat(descriptor)
                if facts.st_mode & 0o111 != 0o111:
                    listed.access = narrowed(above, Access(facts.st_mode, facts.st_uid, facts.st_gid))
            with os.scandir(descriptor) as entries:
                listed.entries = sorted(entries, key=_NAME)
        except OSError as error:
            self._report(place, "unreadable", error.strerror or "cannot be listed")
        return listed

    def _trees(self) -> Iterator[tuple[str, str]]:
        if self.source.images is not None and not self._same_tree:
            yield self.source.images, self.source.images_label
        if self.source.data is not None:
            yield self.source.data, self.source.data_label

    def no_answer(self, name: str) -> ClientFiles:
        """Return a client without files, because its directory or a file in it is never answered; report that."""
        label = self.source.images_label if self.source.data is None else self.source.data_label
        self._report(_Place(f"{label}/{name}", name), "unreadable", NO_ANSWER)
        return ClientFiles(name)

    def _report(self, place: _Place, kind: str, detail: str) -> None:
        Reporter(place.path, self.problems, *place[1:])(kind, detail)


def file_facts(facts: os.stat_result, above: list[Access]) -> FileFacts:
    """Return the facts that the drive shows of a file below the directories ``above``, without write bits."""
    mode = facts.st_mode & _READABLE
    if above:
        mode = limited_mode(mode, facts.st_uid, facts.st_gid, above)
    return FileFacts(facts.st_size, mtime_of(facts), mode, facts.st_uid, facts.st_gid)
