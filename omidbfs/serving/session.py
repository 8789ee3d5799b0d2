"""Turns the options of a command into an index and a view: opens the saved index, or builds and saves it.

Used by commands and by the refresher. A session is immutable, and any thread may use it.
"""

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from heapq import merge
from pathlib import Path
from typing import TYPE_CHECKING

from omidbfs.base.errors import UserError
from omidbfs.base.names import printable
from omidbfs.database.layout import Source
from omidbfs.database.problems import Problem, problem_lines
from omidbfs.index.classification import Classification, classified
from omidbfs.index.columns import Index
from omidbfs.index.measured import Geometries, Measured, place_of
from omidbfs.index.measured import load as load_measured
from omidbfs.index.saved import saved_index, source_fingerprint
from omidbfs.index.sections import IndexFileError, replaced
from omidbfs.index.store import NoIndexError, Stored, load, may_replace, save
from omidbfs.pixels.rendition import DETECTOR
from omidbfs.serving.configuration import Definitions

if TYPE_CHECKING:
    from omidbfs.base.progress import Progress
    from omidbfs.cohorts.resolved import Resolved
    from omidbfs.index.executors import Work
    from omidbfs.view.ownership import Ownership
    from omidbfs.view.root import Root
    from omidbfs.view.texts import Content
    from omidbfs.view.view import View

log = logging.getLogger(__name__)

Shown = Callable[[], "AbstractContextManager[Progress]"]


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
    ownership: "Ownership | None" = None

    def saved(self, *, whole: bool = True) -> Stored:
        """Return the saved index; ``whole`` is that of :func:`~omidbfs.index.store.load`.

        Raises
        ------
        IndexFileError
            There is no usable index.
        UserError
            The source is gone.
        """
        return saved_index(self.index_path, self.source, whole=whole)

    def saved_or_none(self, *, whole: bool = True) -> Stored | None:
        """Return the saved index; ``None`` if there is no usable one."""
        try:
            return self.saved(whole=whole)
        except IndexFileError:
            return None

    def saved_or_told(self, warn: Callable[[str], None], *, whole: bool = True) -> Stored | None:
        """Return the saved index; ``None`` if there is no usable one.

        ``warn`` gets a line if an index exists and cannot be used.

        Raises
        ------
        UserError
            The source is gone, or the file in the place of the index is not an index.
        """
        try:
            return self.saved(whole=whole)
        except IndexFileError as error:
            self._check_replaceable()
            if not isinstance(error, NoIndexError):
                warn(f"{self.index_path}: {error}; building it anew")
            return None

    def opened(
        self, warn: Callable[[str], None], *, verify: bool = False, whole: bool = True
    ) -> tuple[Stored, bool]:
        """Return an index for a command that only asks, and whether it is known to be up to date.

        This is the saved index, which is updated first with ``verify``. If there is no usable index, the source
        is read. The result is saved if possible. But a saved index keeps its facets: if the configuration or the
        program defines other facets, the result is for this command alone, and ``warn`` gets a line.

        Without ``whole``, sections of the saved index are compared with their checksums at their first use, which
        may then raise :class:`~omidbfs.index.sections.DamagedError`.

        Raises
        ------
        UserError
            The source went away, or the file in the place of the index is not an index.
        """
        is_closed = False
        try:
            stored = self.saved_or_told(warn, whole=whole)
        except _NotKeptError as error:
            warn(f"{error}; this command goes on without")
            stored, is_closed = None, True
        has_facets = stored is None or self.has_all_facets(stored)
        if stored is not None and has_facets and not verify:
            return stored, False
        if stored is not None:
            stored.verify()  # all of it is used
        from omidbfs.index.build import refreshed, with_facets

        fingerprint = source_fingerprint(self.source)
        # Reading everything may take hours, so warn before it if the result cannot be kept.
        keeps = has_facets and not is_closed and (stored is not None or self._can_be_kept(warn))
        if stored is not None:
            self._tell_of_facets(stored, warn)
        with self._work() as work:
            if stored is not None and not verify and not stored.index.lacking:
                index = with_facets(stored.index, self.source, self.definitions.facets, work)
                return Stored(index, stored.written, source=stored.source), False
            known = stored.index if stored is not None else None
            index = refreshed(self.source, known, work, user_facets=self.definitions.facets)
        if stored is not None and index is known:
            return stored, True
        try:
            return self._saved(index, fingerprint) if keeps else Stored(
                index, time.time(), source=fingerprint
            ), True
        except _NotKeptError as error:
            warn(f"{error}; this command goes on without")
            return Stored(index, time.time(), source=fingerprint), True

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
    def _work(self) -> "Iterator[Work]":
        from omidbfs.index.executors import Work, executor_for

        with self.progress() as progress, executor_for(self.executor, self.workers) as executor:
            yield Work(executor, self.workers, progress)

    def brought_up_to_date(self, previous: Stored | None) -> Stored:
        """Return the index of the source as it is. If anything has changed, save the index first.

        Raises
        ------
        UserError
            The source went away, or the index cannot be written.
        """
        from omidbfs.index.build import refreshed

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
        import tempfile

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

    def view(self, stored: Stored, state: Mapping[str, object] | None = None) -> "View":
        """Return the view of an index. It makes only what it is asked for, until it is told to prepare.

        ``state`` has further fields of ``status.json``.
        """
        from omidbfs.exports.origin import Origin
        from omidbfs.view.ownership import drive_access
        from omidbfs.view.view import View

        index = stored.index
        if self.only is not None:
            from omidbfs.index.build import clients_not_on_disk
            from omidbfs.index.slices import only_clients

            missing = clients_not_on_disk(self.only, {name.decode() for name in index.clients})
            index = only_clients(index, self.only, missing, self.source)
        index = classified(index, self.classification)
        geometries = Geometries(index)
        if self.geometry_stamp() is not None:
            from omidbfs.index.measured_facets import with_measured

            geometries = Geometries(index, self.measured)
            index = with_measured(index, geometries)
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
            configured=self.definitions.renditions,
            geometries=geometries,
            origin=Origin(
                self.source,
                stored.source,
                stored.written,
                self.classification,
                self.only,
                self.definitions.cohorts,
            ),
        )

    def measured(self, warn: Callable[[str], None] | None = None) -> Measured:
        """Return what was found in pixels (:mod:`omidbfs.index.measured`), nothing if that cannot be used.

        ``warn`` gets a line if there is a file that cannot be used.
        """
        path = place_of(self.index_path)
        try:
            return load_measured(path, source_fingerprint(self.source), DETECTOR)
        except IndexFileError as error:
            if warn is None:
                log.info("the geometry is not used: %s", error)
            else:
                warn(f"{path}: {error}; the images are measured anew")
            return Measured(detector=DETECTOR)

    def geometry_stamp(self) -> tuple[int, int, int] | None:
        """Return what changes with the file of what was found in pixels; ``None`` without one."""
        try:
            seen = place_of(self.index_path).stat()
        except OSError:
            return None
        return seen.st_ino, seen.st_size, seen.st_mtime_ns

    def _root(self, index: Index) -> "Root":
        """Return the root over an index, with what named cohorts lack added to the problems of the index."""
        from omidbfs.cohorts.cohort import Cohorts
        from omidbfs.view.root import Root

        defined: Resolved | None = None
        if self.definitions.cohorts:
            from omidbfs.cohorts.resolved import resolved

            defined = resolved(Cohorts(index), self.definitions.cohorts)
            if defined.problems:
                lines = partial(_with_problems, index, defined.problems)
                index = replaced(index, {"problem_lines": lines})
        cohorts = Cohorts(index, None if defined is None else defined.named)
        facets = tuple(facet for facet in cohorts.facets if self.listed is None or facet.name in self.listed)
        return Root(cohorts, facets) if defined is None else Root(cohorts, facets, defined.cohorts, defined.broken)

    def _texts(self, root: "Root", written: float, state: Mapping[str, object]) -> "Mapping[str, Content]":
        from omidbfs.view.about import generated_texts

        follows = self.source.follow_symlinks
        about = {
            "index": printable(str(self.index_path)),
            "index_written": written,
            "follow_symlinks": follows,
            "configuration": None if self.config is None else printable(str(self.config.absolute())),
            **state,
        }
        return generated_texts(root, (self.source.images, self.source.data), self.classification, about)

    def _trees(self) -> tuple[bytes, bytes]:
        return os.fsencode(self.source.images or ""), os.fsencode(self.source.data or "")


def _with_problems(index: Index, found: Iterable[Problem]) -> bytes:
    return problem_lines(merge(index.each_problem(), sorted(found)))


def read_clients(path: Path, place: str) -> frozenset[str]:
    """Return the names in a list of clients (:func:`omidbfs.facets.lists.listed`).

    ``place`` is the option that names the file, for messages.

    Raises
    ------
    UserError
        The file cannot be read as a list of clients.
    """
    from omidbfs.base.definitions import RefusedError
    from omidbfs.facets import Level
    from omidbfs.facets.lists import listed

    try:
        return frozenset(listed(path, Level.CLIENT))
    except RefusedError as error:
        raise UserError(printable(str(error)), printable(error.remedy), place) from None
