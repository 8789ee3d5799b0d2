"""What commands that look at a cohort share: its argument, the view that they ask, and the cohort at a path.

Parts are imported where they are used: a command that needs no index does not pay for numpy.
"""

import os
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from omidbfs.complete import complete_cohort
from omidbfs.errors import UserError, meant
from omidbfs.options import configuration, warn

if TYPE_CHECKING:
    from omidbfs.cohort import Cohort
    from omidbfs.index.columns import Index
    from omidbfs.nodes import Directory
    from omidbfs.session import Session
    from omidbfs.view import View

cohort_argument = click.argument("cohort", default="", shell_complete=complete_cohort)
json_option = click.option("--json", is_flag=True, help="Print JSON.")


def opened_view(session: "Session", options: dict[str, Any]) -> "View":
    """Return the view that a drive would show; of a saved index at once. A terminal is told how old that is."""
    view, age = view_and_age(session, options)
    if age and sys.stderr.isatty():
        warn(age)
    return view


def view_and_age(session: "Session", options: dict[str, Any]) -> "tuple[View, str]":
    """Return the view that a drive would show, and what to say of its age: nothing if the source was looked at."""
    stored, is_fresh = session.opened(warn, verify=options["verify_first"])
    if not len(stored.index):
        warn_of_links(stored.index)
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(stored.written))
    age = f"as of {when}, when the index was written; --verify-first looks for changes since then"
    return session.view(stored), "" if is_fresh else age


def warn_of_links(index: "Index") -> None:
    """Say how many symbolic links were not followed, if any: what they lead to is not shown."""
    links = index.problem_kinds().get("symlink", 0)
    if links:
        warn(f"{len(index)} images; symbolic links that are not followed: {links}, see --follow-symlinks")


def selected_by(view: "View", path: str) -> "Cohort":
    """Return the cohort at a path of the drive."""
    from omidbfs.nodes import Shape

    directory = directory_at(view, path)
    if directory.shape is Shape.ABOUT:
        raise UserError(f"{path}: holds texts about the drive, and a cohort is needed")
    return view.cohort(directory)


def directory_at(view: "View", path: str) -> "Directory":
    """Return the directory at a path of the drive."""
    from omidbfs.nodes import Directory
    from omidbfs.view import LONGEST_PATH

    directory = view.root
    for component in path.split("/"):
        if not component:
            continue
        try:
            child = view.lookup(directory, os.fsencode(component))
        except OSError as error:
            said = f"{error.strerror}: no facet is found below a path of more than {LONGEST_PATH} bytes"
            raise UserError(f"{path[:40]}...: {said}") from None
        if child is None:
            raise UserError(f"{path}: {_unknown(view, directory, component)}")
        if not isinstance(child, Directory):
            raise UserError(f"{path}: {component} is a file, and a directory is needed")
        directory = child
    return directory


def _unknown(view: "View", directory: "Directory", component: str) -> str:
    from difflib import get_close_matches

    from omidbfs.nodes import Shape

    if directory.shape is Shape.NAMED or (directory.shape is Shape.ROOT and component == "cohorts"):
        return _no_cohort(view, component)
    if directory.shape is Shape.FACET:
        what, names = f"{component} is no value of by-{directory.facet.name}", []
        listing = view.listing(directory)
        if listing.length <= 1000:
            names = [os.fsdecode(entry.name) for entry in listing.page(0, listing.length)]
    else:
        what, names = f"there is no {component}", [f"by-{name}" for name in view.index.registry.by_name] + ["all"]
    close = get_close_matches(component, names, 1)
    return what + (f"; did you mean {close[0]}?" if close else "; `omidbfs facets SOURCE` shows what there is")


def _no_cohort(view: "View", name: str) -> str:
    """Return what there is in place of a named cohort, and which configuration says so."""
    config, named = configuration(), sorted(view.lists.named)
    if config is None:
        return "no configuration was read that names cohorts; --config FILE reads one"
    if not named:
        return f"{config} names no cohorts"
    return f"there is no cohort {name}; those of {config} are {', '.join(named)}{meant(name, named)}"
