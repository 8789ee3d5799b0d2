"""A database: paths of the drive become cohorts. ``omidbfs.open`` returns it.

Any thread may use a database, and it can be pickled.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec

from omidbfs.api.cohort import Cohort
from omidbfs.api.connection import Connection, warn
from omidbfs.api.opened import Opened
from omidbfs.base.errors import UserError
from omidbfs.base.names import printable
from omidbfs.base.progress import shown_progress
from omidbfs.base.words import counted
from omidbfs.clinical.outcomes import Windows
from omidbfs.cohorts.cohort import EVERYTHING
from omidbfs.database.layout import find_source
from omidbfs.index.classification import Classification
from omidbfs.index.store import default_path
from omidbfs.serving.configuration import config_file, read_definitions, shared_defaults
from omidbfs.serving.session import Session, read_clients
from omidbfs.view.finding import cohort_at

Name = str | os.PathLike[str]


class _Options(msgspec.Struct, frozen=True, kw_only=True):
    """The options that a configuration may set, with the types that they have there."""

    images: str | None = None
    data: str | None = None
    index: str | None = None
    clients_file: str | None = None
    link_all: bool = False
    num_months_ci_prior: Annotated[int, msgspec.Meta(ge=0)] | None = None
    num_months_cancer_prior: Annotated[int, msgspec.Meta(ge=0)] | None = None
    num_months_normal_follow_up: Annotated[int, msgspec.Meta(ge=0)] | None = None
    num_months_benign_follow_up: Annotated[int, msgspec.Meta(ge=0)] | None = None
    follow_symlinks: bool = False
    verify_first: bool = False


def open(
    source: Name | None = None,
    *,
    images: Name | None = None,
    data: Name | None = None,
    index: Name | None = None,
    config: Name | None = None,
    clients_file: Name | None = None,
    link_all: bool | None = None,
    num_months_ci_prior: int | None = None,
    num_months_cancer_prior: int | None = None,
    num_months_normal_follow_up: int | None = None,
    num_months_benign_follow_up: int | None = None,
    follow_symlinks: bool | None = None,
    verify_first: bool | None = None,
    workers: int = 1,
) -> "Database":
    """Return a database. The parameters are the options of the commands with the same names.

    A parameter that is ``None`` has the value that the top level of the configuration sets, if it sets one. The
    saved index is used as it is. If there is none, the source is read, and an index is saved if possible. What the
    commands would print besides their answers is a ``UserWarning``.

    Parameters
    ----------
    source
        The directory that holds ``images/`` and ``data/``.
    images, data
        The two trees, if they are not below one directory.
    index
        The file of the index; by default in the user's cache.
    config
        The file that defines facets, cohorts and renditions; by default ``omidbfs.toml`` in the current directory,
        else that of the user. ``os.devnull`` stands for none.
    clients_file
        A list or table of the clients to use.
    link_all
        Whether studies are linked to events even if the links are not unique.
    num_months_ci_prior, num_months_cancer_prior, num_months_normal_follow_up, num_months_benign_follow_up
        The windows of outcomes, in months; ``None`` is off.
    follow_symlinks
        Whether symbolic links are followed, even out of the source.
    verify_first
        Whether to look for changes of the source first, and to bring the index up to date.
    workers
        The largest number of processes that read the source. With more than one, the program must be safe to
        import, as for ``multiprocessing``.

    Raises
    ------
    UserError
        There is no such source, or a file or option is wrong. The message is one line.
    """
    given: dict[str, object] = {
        "images": images,
        "data": data,
        "index": index,
        "clients_file": clients_file,
        "link_all": link_all,
        "num_months_ci_prior": num_months_ci_prior,
        "num_months_cancer_prior": num_months_cancer_prior,
        "num_months_normal_follow_up": num_months_normal_follow_up,
        "num_months_benign_follow_up": num_months_benign_follow_up,
        "follow_symlinks": follow_symlinks,
        "verify_first": verify_first,
    }
    path = _path(config) or config_file(warn)
    options = _options(path, given)
    found = find_source(
        _path(source), _path(options.images), _path(options.data), follow_symlinks=options.follow_symlinks
    )
    windows = Windows(
        options.num_months_ci_prior,
        options.num_months_cancer_prior,
        options.num_months_normal_follow_up,
        options.num_months_benign_follow_up,
    )
    clients = options.clients_file
    session = Session(
        found,
        (_path(options.index) or default_path(found)).absolute(),
        shown_progress,
        Classification(windows, options.link_all),
        None if clients is None else read_clients(Path(clients), "clients_file"),
        workers=workers,
        config=None if path is None else path.absolute(),
        is_config_named=config is not None,
        definitions=read_definitions(path),
    )
    stored, _ = session.opened(warn, verify=options.verify_first)
    return Database(Connection(session, stored.written, Opened(session, stored)))


def _options(path: Path | None, given: Mapping[str, object]) -> _Options:
    known = shared_defaults(path, given.keys())
    known |= {
        name: os.fspath(value) if isinstance(value, os.PathLike) else value
        for name, value in given.items()
        if value is not None
    }
    try:
        return msgspec.convert(known, _Options)
    except msgspec.ValidationError as error:
        raise UserError(f"an option has a wrong value: {error}", place=path) from None


def _path(name: Name | None) -> Path | None:
    return None if name is None else Path(name)


class Database:
    """The images of a source, as an index has them. ``omidbfs.open`` makes it.

    ``database[path]`` is the :class:`~omidbfs.api.cohort.Cohort` at a path of the drive. A database does not
    change: open it again to see what has changed.
    """

    __iter__ = None
    """Its paths have no end, so a database is not iterable. ``all`` is."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def all(self) -> Cohort:
        """All images."""
        return Cohort(self._connection, EVERYTHING, "all")

    def __getitem__(self, path: str) -> Cohort:
        """Return the cohort at a path of the drive, such as ``by-outcome/malignant/by-view/CC,MLO``.

        Raises
        ------
        NotFoundError
            The path has a name that does not exist. It is a ``KeyError``, and names what may be meant.
        UserError
            The path leads to a file or to texts.
        """
        if not isinstance(path, str):
            raise TypeError("a database has paths, such as by-view/MLO")
        words = [word for word in path.split("/") if word]
        cohort = cohort_at(self._connection.view, path, lambda: self._connection.session.config)
        return Cohort(self._connection, cohort, "/".join(words) or "all")

    def __contains__(self, path: object) -> bool:
        """Return whether a path leads to a cohort. A cohort may have no image."""
        try:
            return isinstance(path, str) and self[path] is not None
        except UserError:
            return False

    @property
    def facets(self) -> tuple[str, ...]:
        """The names of the facets, without ``by-``."""
        return tuple(facet.name for facet in self._connection.view.cohorts.facets)

    @property
    def cohorts(self) -> tuple[str, ...]:
        """The names of the cohorts that the configuration defines: ``database["cohorts/NAME"]``."""
        return tuple(self._connection.view.lists.named)

    def __eq__(self, other: object) -> bool:
        """Return whether it is the same index of the same source, under the same options."""
        return self._connection == other._connection if isinstance(other, Database) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._connection)

    def __repr__(self) -> str:
        source = self._connection.session.source
        everything = self.all
        images, clients = counted(len(everything), "image"), counted(everything.count("clients"), "client")
        place = source.root or source.images or source.data
        return f"<omidbfs database {printable(str(place))}: {images} of {clients}>"

    def _repr_html_(self) -> str:
        return self.all._repr_html_()
