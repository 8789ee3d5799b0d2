"""The argument COHORT, the view that a command asks, and the cohort at a path. Commands that look at a cohort use
this module, in the main thread.

Functions import the parts that they use: a command that needs no index does not load numpy.
"""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from omidbfs.base.errors import UserError
from omidbfs.base.words import counted, meant, moment
from omidbfs.cli.complete import complete_cohort
from omidbfs.cli.options import cohort_on_drive, configuration, warn

if TYPE_CHECKING:
    from omidbfs.cohorts.cohort import Cohort
    from omidbfs.cohorts.steps import Step
    from omidbfs.facets import Facet, Level
    from omidbfs.index.columns import Index
    from omidbfs.index.store import Stored
    from omidbfs.serving.session import Session
    from omidbfs.view.nodes import Directory
    from omidbfs.view.view import View

cohort_argument = click.argument("cohort", default="", callback=cohort_on_drive, shell_complete=complete_cohort)
_Answer = TypeVar("_Answer")

json_option = click.option("--json", is_flag=True, help="Print JSON.")

UNITS = ("clients", "episodes", "studies", "images")
"""The plurals of :data:`omidbfs.cohorts.units.UNITS`, which would load numpy."""


def level_of(unit: str) -> "Level":
    """Return the level of one of :data:`UNITS`."""
    from omidbfs.facets import Level

    return next(level for level in Level if level.plural == unit)


def opened_view(session: "Session", options: dict[str, Any]) -> "View":
    """Return the view that a drive would show. On a terminal, print the age of the saved index."""
    view, age = view_and_age(session, options)
    if age and sys.stderr.isatty():
        warn(age)
    return view


def asked(session: "Session", options: dict[str, Any], ask: "Callable[[View], _Answer]") -> _Answer:
    """Return what ``ask`` returns for the view that a drive would show. On a terminal, print the age as above.

    Only the sections of the index that ``ask`` uses are compared with their checksums. If one is damaged, the
    index is opened as a whole, which builds it anew, and ``ask`` is called again. So it must not print.
    """
    from omidbfs.index.sections import DamagedError

    try:
        view, age = view_and_age(session, options, whole=False)
        answer = ask(view)
    except DamagedError:
        view, age = view_and_age(session, options)
        answer = ask(view)
    if age and answer is not None and sys.stderr.isatty():
        warn(age)
    return answer


def view_and_age(session: "Session", options: dict[str, Any], *, whole: bool = True) -> "tuple[View, str]":
    """Return the view that a drive would show, and a line about its age. The line is empty if it is current.

    ``whole`` is that of :meth:`~omidbfs.serving.session.Session.opened`.
    """
    stored, age = stored_and_age(session, options, whole=whole)
    return session.view(stored), age


def stored_and_age(session: "Session", options: dict[str, Any], *, whole: bool = True) -> "tuple[Stored, str]":
    """Return the index of the source, whatever part of it the view shows, and a line about its age, as above."""
    stored, is_fresh = session.opened(warn, verify=options["verify_first"], whole=whole)
    if not len(stored.index):
        warn_of_links(stored.index)
        warn_of_emptiness(stored.index)
    when = moment(stored.written)
    age = f"as of {when}, when the index was written; --verify-first looks for changes since then"
    return stored, "" if is_fresh else age


def steps_to(session: "Session", stored: "Stored", view: "View", path: str) -> "list[Step]":
    """Return what each part of the definition of the cohort at a path leaves and takes. The path exists."""
    from omidbfs.cohorts.cohort import EVERYTHING, Cohorts
    from omidbfs.cohorts.steps import steps_of
    from omidbfs.cohorts.units import counts_of
    from omidbfs.view.stages import stages_at

    before = [("every image", counts_of(Cohorts(stored.index), EVERYTHING))]
    if session.only is not None:
        what = f"--clients-file ({counted(len(session.only), 'client')})"
        before.append((what, counts_of(view.cohorts, EVERYTHING)))
    cohorts, stages = stages_at(view, path, session.definitions.cohorts)
    return steps_of(cohorts, stages, before)


def facet_named(view: "View", name: str, place: str) -> "Facet":
    """Return a facet of a view by its name, with or without ``by-`` in front. ``place`` is where it was given.

    Raises
    ------
    UserError
        There is no such facet.
    """
    name = name.strip().strip("/").removeprefix("by-")
    known = {facet.name: facet for facet in view.cohorts.facets}
    if name not in known:
        hint = meant(name, known) or "`omidbfs facets SOURCE` shows what there is"
        raise UserError(f"there is no by-{name}", hint, place)
    return known[name]


def warn_of_links(index: "Index") -> None:
    """Print how many symbolic links of the source omidbfs did not follow, if any."""
    links = index.problem_kinds().get("symlink", 0)
    if links:
        warn(f"{len(index)} images; symbolic links that are not followed: {links}, see --follow-symlinks")


def warn_of_emptiness(index: "Index") -> None:
    """Print how many other problems a source has in place of images, if any."""
    kinds = index.problem_kinds()
    problems = sum(kinds.values()) - kinds.get("symlink", 0)
    if problems and not len(index):
        warn(f"0 images; `omidbfs check SOURCE` lists {counted(problems, 'problem')}")


def selected_by(view: "View", path: str) -> "Cohort":
    """Return the cohort at a path of the drive."""
    from omidbfs.view.finding import cohort_at

    return cohort_at(view, path, configuration)


def directory_at(view: "View", path: str) -> "Directory":
    """Return the directory at a path of the drive."""
    from omidbfs.view.finding import directory_at as found_at

    return found_at(view, path, configuration)
