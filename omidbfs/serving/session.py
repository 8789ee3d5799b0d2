"""Turns the options of a command into an index and a view: opens the saved index, or builds and saves it.

Used by commands and by the refresher. A session is immutable, and any thread may use it.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from heapq import merge
from pathlib import Path

from omidbfs.base.errors import UserError
from omidbfs.base.names import printable
from omidbfs.base.progress import Progress
from omidbfs.cohorts.cohort import Cohorts
from omidbfs.cohorts.named import resolved
from omidbfs.database.layout import Source
from omidbfs.database.problems import problem_lines
from omidbfs.index.build import clients_not_on_disk, refreshed, saved_index, source_fingerprint, with_facets
from omidbfs.index.classification import Classification, classified
from omidbfs.index.columns import Index
from omidbfs.index.executors import Work, executor_for
from omidbfs.index.slices import only_clients
from omidbfs.index.store import IndexFileError, NoIndexError, Stored, load, may_replace, save
from omidbfs.serving.configuration import Definitions
from omidbfs.view.about import generated_texts
from omidbfs.view.ownership import Ownership, drive_access
from omidbfs.view.root import Root, root_of
from omidbfs.view.texts import Content
from omidbfs.view.view import View

Shown = Callable[[], AbstractContextManager[Progress]]


class _NotKeptError(UserError):
    """The index cannot be written to its place."""


@dataclass(frozen=True, slots=True)
class Session:
    """The source, the place of its index, how it is read, and what is shown of it.

    ``only`` names the clients to show (``None``: all). ``executor`` and ``workers`` are those of
    ``executor_for``. ``progress`` shows the progress of long work. ``definitions`` are those of the file
    ``config``. ``is_config_named`` says that the user named this file; otherwise it was found. ``listed`` names
    the facets that the root lists (``None``: all).
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
    is_config_named: bool = True
    definitions: Definitions = field(default_factory=Definitions)
    listed: frozenset[str] | None = None
    ownership: Ownership = field(default_factory=Ownership)

    def saved(self) -> Stored:
        """Return the saved index.

        Raises
        ------
        IndexFileError
            There is no usable index.
        UserError
            The source is gone.
        """
        return saved_index(self.index_path, self.source)

    def saved_or_none(self) -> Stored | None:
        """Return the saved index; ``None`` if there is no usable one."""
        try:
            return self.saved()
        except IndexFileError:
            return None

    def saved_or_told(self, warn: Callable[[str], None]) -> Stored | None:
        """Return the saved index; ``None`` if there is no usable one.

        ``warn`` gets a line if an index exists and cannot be used.

        Raises
        ------
        UserError
            The source is gone, or the file in the place of the index is not an index.
        """
        try:
            return self.saved()
        except IndexFileError as error:
            self._check_replaceable()
            if not isinstance(error, NoIndexError):
                warn(f"{self.index_path}: {error}; building it anew")
            return None

    def opened(self, warn: Callable[[str], None], *, verify: bool = False) -> tuple[Stored, bool]:
        """Return an index for a command that only asks, and whether it is known to be up to date.

        This is the saved index, which is updated first with ``verify``. If there is no usable index, the source
        is read. The result is saved if possible. But a saved index keeps its facets: if the configuration or the
        program defines other facets, the result is for this command alone, and ``warn`` gets a line.

        Raises
        ------
        UserError
            The source went away, or the file in the place of the index is not an index.
        """
        is_closed = False
        try:
            stored = self.saved_or_told(warn)
        except _NotKeptError as error:
            warn(f"{error}; this command goes on without")
            stored, is_closed = None, True
        has_facets = stored is None or self.has_all_facets(stored)
        if stored is not None and has_facets and not verify:
            return stored, False
        fingerprint = source_fingerprint(self.source)
        # Reading everything may take hours, so warn before it if the result cannot be kept.
        keeps = has_facets and not is_closed and (stored is not None or self._can_be_kept(warn))
        if stored is not None:
            self._tell_of_facets(stored, warn)
        with self._work() as work:
            if stored is not None and not verify and not stored.index.lacking:
                index = with_facets(stored.index, self.source, self.definitions.facets, work)
                return Stored(index, stored.written), False
            known = stored.index if stored is not None else None
            index = refreshed(self.source, known, work, user_facets=self.definitions.facets)
        if stored is not None and index is known:
            return stored, True
        try:
            return self._saved(index, fingerprint) if keeps else Stored(index, time.time()), True
        except _NotKeptError as error:
            warn(f"{error}; this command goes on without")
            return Stored(index, time.time()), True

    def _can_be_kept(self, warn: Callable[[str], None]) -> bool:
        try:
            self._check_place()
        except _NotKeptError as error:
            warn(f"{error}; this command goes on without")
            return False
        return True

    def _tell_of_facets(self, stored: Stored, warn: Callable[[str], None]) -> None:
        of_user = {one.facet() for one in self.definitions.facets} - {*stored.index.registry.user}
        for whose, lacking in (
            ("the configuration", {facet.name for facet in of_user}),
            ("this version", {*stored.index.lacking}),
        ):
            if lacking:
                names = ", ".join(sorted(lacking))
                warn(
                    f"{self.index_path}: lacks facets of {whose} ({names}); they are made for this command "
                    "alone, and `omidbfs index` keeps them"
                )

    def has_all_facets(self, stored: Stored) -> bool:
        """Return whether an index has all facets of the configuration and the program, with these definitions."""
        is_as_defined = stored.index.registry.user == tuple(one.facet() for one in self.definitions.facets)
        return is_as_defined and not stored.index.lacking

    @contextmanager
    def _work(self) -> Iterator[Work]:
        with self.progress() as progress, executor_for(self.executor, self.workers) as executor:
            yield Work(executor, self.workers, progress)

    def brought_up_to_date(self, previous: Stored | None) -> Stored:
        """Return the index of the source as it is. If anything has changed, save the index first.

        Raises
        ------
        UserError
            The source went away, or the index cannot be written.
        """
        fingerprint = source_fingerprint(self.source)
        if previous is None:  # reading everything may take hours, so check first that the result can be kept
            self._check_replaceable()
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
        except IndexFileError as error:  # another process replaced it at this moment
            raise UserError(
                str(error), "another process is writing it, try again", place=self.index_path
            ) from error

    def _check_place(self) -> None:
        try:
            self.index_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=os.path.dirname(os.path.realpath(self.index_path))):
                pass
        except OSError as error:
            raise self._cannot_be_kept(error) from error

    def _check_replaceable(self) -> None:
        try:
            is_replaceable = may_replace(self.index_path)
        except PermissionError as error:
            raise self._cannot_be_kept(error) from error
        if not is_replaceable:
            raise UserError(
                "is not known to be an index of omidbfs, and is left alone",
                "name another --index, or remove it",
                place=self.index_path,
            )

    def _cannot_be_kept(self, error: OSError) -> "_NotKeptError":
        return _NotKeptError(
            f"{self.index_path}: the index cannot be kept there ({error.strerror}); "
            "name another place with --index FILE"
        )

    def drive_view(self, stored: Stored, state: Mapping[str, object]) -> View:
        """Return the view of an index for a drive, with everything prepared so that no request waits for it.

        ``state`` has further fields of ``status.json``.
        """
        view = self._view(stored, state)
        view.prepare()
        return view

    def view(self, stored: Stored) -> View:
        """Return the view of an index for a command, which prepares only what it needs."""
        return self._view(stored, {})

    def _view(self, stored: Stored, state: Mapping[str, object]) -> View:
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
            self._texts(root, stored.written, state),
            links_to=self._trees() if self.symlinks else None,
            list_nested=self.list_nested,
            list_empty=self.list_empty,
            root=root,
            ownership=self.ownership,
        )

    def _root(self, index: Index) -> Root:
        """Return the root over an index, with what named cohorts lack added to the problems of the index."""
        facets = [facet for facet in index.registry.facets if self.listed is None or facet.name in self.listed]
        named, problems = resolved(Cohorts(index), self.definitions.cohorts)
        if problems:
            index = replace(index, problem_lines=problem_lines(merge(index.each_problem(), sorted(problems))))
        return root_of(index, facets, named)

    def _texts(self, root: Root, written: float, state: Mapping[str, object]) -> Mapping[str, Content]:
        follows = self.source.follow_symlinks
        about = {
            "index": printable(str(self.index_path)),
            "index_written": written,
            "follow_symlinks": follows,
            **state,
        }
        return generated_texts(root, (self.source.images, self.source.data), self.classification, about)

    def _trees(self) -> tuple[bytes, bytes]:
        return os.fsencode(self.source.images or ""), os.fsencode(self.source.data or "")
