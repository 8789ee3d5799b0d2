"""From what a command was asked for to an index and a view: opens the saved index, or builds and saves it."""

import errno
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from omidbfs.about import generated_texts
from omidbfs.cohort import Cohorts
from omidbfs.config import Definitions
from omidbfs.database.layout import Source
from omidbfs.database.problems import problem_lines
from omidbfs.errors import UserError
from omidbfs.index.build import clients_not_on_disk, refreshed, source_fingerprint, with_facets
from omidbfs.index.classification import Classification, classified
from omidbfs.index.columns import Index
from omidbfs.index.executors import Work, executor_for
from omidbfs.index.slices import only_clients
from omidbfs.index.store import IndexFileError, Stored, load, may_replace, save
from omidbfs.named import resolved
from omidbfs.ownership import Ownership
from omidbfs.progress import Progress
from omidbfs.root import Root, root_of
from omidbfs.view import View, drive_access

Shown = Callable[[], AbstractContextManager[Progress]]


@dataclass(frozen=True, slots=True)
class Session:
    """What is to be shown of which source, where its index is kept, and how it is read.

    ``only`` names the clients to show (``None``: all); ``executor`` and ``workers`` as in ``executor_for``;
    ``progress`` shows how far long work has come. ``definitions`` are those of the file ``config``; ``listed``
    names the facets that the root lists (``None``: all).
    """

    source: Source
    index_path: Path
    progress: Shown
    classification: Classification = field(default_factory=Classification)
    only: frozenset[str] | None = None
    executor: str = "local"
    workers: int = 1
    symlinks: bool = False
    list_nested: bool = False
    list_empty: bool = False
    config: Path | None = None
    definitions: Definitions = field(default_factory=Definitions)
    listed: frozenset[str] | None = None
    ownership: Ownership = field(default_factory=Ownership)

    def saved(self) -> Stored:
        """Return the saved index.

        Raises
        ------
        IndexFileError
            There is none that can be used.
        UserError
            The source is gone.
        """
        return load(self.index_path, source_fingerprint(self.source))

    def saved_or_none(self) -> Stored | None:
        """Return the saved index, ``None`` if there is none that can be used."""
        try:
            return self.saved()
        except IndexFileError:
            return None

    def opened(self, warn: Callable[[str], None], *, verify: bool = False) -> tuple[Stored, bool]:
        """Return the saved index, and whether it is known to be up to date; without one, build and save it.

        ``warn`` is told of an index that cannot be used, other than for being missing. ``verify`` looks for
        changes first.
        """
        try:
            stored = self.saved()
        except IndexFileError as error:
            if str(error) != "missing":
                warn(f"{self.index_path}: {error}; building it anew")
            return self.brought_up_to_date(None), True
        if verify:
            return self.brought_up_to_date(stored), True
        return (stored if self.has_all_facets(stored) else self._with_facets(stored)), False

    def has_all_facets(self, stored: Stored) -> bool:
        """Return whether an index has the facets that are defined, as they are defined."""
        return stored.index.registry.user == tuple(one.facet() for one in self.definitions.facets)

    def _with_facets(self, stored: Stored) -> Stored:
        """Return a saved index with the facets that are defined; nothing else of the source is looked at."""
        fingerprint = source_fingerprint(self.source)
        with self._work() as work:
            index = with_facets(stored.index, self.source, self.definitions.facets, work)
        return self._saved(index, fingerprint)

    @contextmanager
    def _work(self) -> Iterator[Work]:
        with self.progress() as progress, executor_for(self.executor, self.workers) as executor:
            yield Work(executor, self.workers, progress)

    def brought_up_to_date(self, previous: Stored | None) -> Stored:
        """Return the index of the source as it is now, having saved it if anything has changed.

        Raises
        ------
        UserError
            The source went away, or the index cannot be written.
        """
        fingerprint = source_fingerprint(self.source)
        if previous is None:  # reading everything may take hours: first see whether it can be kept
            self._check_place()
        known = previous.index if previous is not None else None
        with self._work() as work:
            index = refreshed(self.source, known, work, user_facets=self.definitions.facets)
        if index is known and previous is not None:
            return previous
        return self._saved(index, fingerprint)

    def _saved(self, index: Index, fingerprint: str) -> Stored:
        self._check_replaceable()
        try:
            save(self.index_path, index, fingerprint)
            return load(self.index_path, fingerprint)
        except OSError as error:
            raise self._cannot_be_kept(error) from error
        except IndexFileError as error:  # somebody replaced it at this very moment
            raise UserError(f"{self.index_path}: {error}; another process is writing it, try again") from error

    def _check_place(self) -> None:
        directory = self.index_path.parent
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=directory):
                pass
            if self.index_path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        except OSError as error:
            raise self._cannot_be_kept(error) from error
        self._check_replaceable()

    def _check_replaceable(self) -> None:
        if not may_replace(self.index_path):
            raise UserError(f"{self.index_path}: is no index of omidbfs, and is left alone; name another --index")

    def _cannot_be_kept(self, error: OSError) -> UserError:
        return UserError(
            f"{self.index_path}: the index cannot be kept there ({error.strerror}); "
            "name another place with --index FILE"
        )

    def view(self, stored: Stored, state: Mapping[str, object] | None = None) -> View:
        """Return what is to be shown of an index; ``state`` joins what the drive says of itself."""
        index = stored.index
        if self.only is not None:
            missing = clients_not_on_disk(self.only, {name.decode() for name in index.clients})
            index = only_clients(index, self.only, missing, self.source)
        index = classified(index, self.classification)
        root = self._root(index)
        index = root.cohorts.index
        return View(
            index,
            drive_access(self.source),
            self._texts(root, stored.written, state or {}),
            links_to=self._trees() if self.symlinks else None,
            list_nested=self.list_nested,
            list_empty=self.list_empty,
            root=root,
            ownership=self.ownership,
        )

    def _root(self, index: Index) -> Root:
        """Return what the root lists of an index; what named cohorts miss joins its problems."""
        facets = [facet for facet in index.registry.facets if self.listed is None or facet.name in self.listed]
        named, problems = resolved(Cohorts(index), self.definitions.cohorts)
        if problems:
            index = replace(index, problem_lines=problem_lines(sorted([*index.problems, *problems])))
        return root_of(index, facets, named)

    def _texts(self, root: Root, written: float, state: Mapping[str, object]) -> dict[str, bytes]:
        follows = self.source.follow_symlinks
        about = {"index": str(self.index_path), "index_written": written, "follow_symlinks": follows, **state}
        return generated_texts(root, (self.source.images, self.source.data), self.classification, about)

    def _trees(self) -> tuple[bytes, bytes]:
        return os.fsencode(self.source.images or ""), os.fsencode(self.source.data or "")
