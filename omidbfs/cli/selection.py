"""The argument COHORT, the view that a command asks, and the cohort at a path. Commands that look at a cohort use
this module, in the main thread.

Functions import the parts that they use: a command that needs no index does not load numpy.
"""

import os
import re
import sys
import time
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from omidbfs.base.errors import UserError
from omidbfs.base.words import closest, did_you_mean, meant
from omidbfs.cli.complete import complete_cohort
from omidbfs.cli.options import cohort_on_drive, configuration, warn

if TYPE_CHECKING:
    from omidbfs.cohorts.cohort import Cohort
    from omidbfs.facets import Facet
    from omidbfs.index.columns import Index
    from omidbfs.serving.session import Session
    from omidbfs.view.facet import FacetDirectory
    from omidbfs.view.nodes import Directory
    from omidbfs.view.view import View

cohort_argument = click.argument("cohort", default="", callback=cohort_on_drive, shell_complete=complete_cohort)
_MOST_TEXTS = 5000
"""The most values of a free-text facet that a misspelt word is compared with. This takes a moment."""

json_option = click.option("--json", is_flag=True, help="Print JSON.")


def opened_view(session: "Session", options: dict[str, Any]) -> "View":
    """Return the view that a drive would show. On a terminal, print the age of the saved index."""
    view, age = view_and_age(session, options)
    if age and sys.stderr.isatty():
        warn(age)
    return view


def view_and_age(session: "Session", options: dict[str, Any]) -> "tuple[View, str]":
    """Return the view that a drive would show, and a line about its age. The line is empty if it is current."""
    stored, is_fresh = session.opened(warn, verify=options["verify_first"])
    if not len(stored.index):
        warn_of_links(stored.index)
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(stored.written))
    age = f"as of {when}, when the index was written; --verify-first looks for changes since then"
    return session.view(stored), "" if is_fresh else age


def warn_of_links(index: "Index") -> None:
    """Print how many symbolic links of the source omidbfs did not follow, if any."""
    links = index.problem_kinds().get("symlink", 0)
    if links:
        warn(f"{len(index)} images; symbolic links that are not followed: {links}, see --follow-symlinks")


def selected_by(view: "View", path: str) -> "Cohort":
    """Return the cohort at a path of the drive."""
    from omidbfs.view.top import AboutDirectory

    directory = directory_at(view, path)
    if isinstance(directory, AboutDirectory):
        raise UserError("holds texts about the drive, and a cohort is needed", place=path)
    return view.cohort(directory)


def directory_at(view: "View", path: str) -> "Directory":
    """Return the directory at a path of the drive."""
    from omidbfs.view.images import LONGEST_PATH
    from omidbfs.view.nodes import Directory

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
            raise UserError(*_unknown(view, directory, component), path)
        if not isinstance(child, Directory):
            raise UserError(f"{component} is a file, and a directory is needed", place=path)
        directory = child
    return directory


def _unknown(view: "View", directory: "Directory", component: str) -> tuple[str, str]:
    """Return why a directory has no entry of a name, and a hint: the names that the user may have meant."""
    from omidbfs.view.facet import FacetDirectory
    from omidbfs.view.top import NamedDirectory, RootDirectory

    if isinstance(directory, NamedDirectory) or (isinstance(directory, RootDirectory) and component == "cohorts"):
        return _no_cohort(view, component)
    if isinstance(directory, FacetDirectory):
        return _no_value(view, directory, component)
    facets = view.index.registry.by_name
    known = {"all": "all"} | {name: f"by-{name}" for name in facets}
    close = closest(re.sub("^by[-_ ]", "", component, flags=re.IGNORECASE), known) or [
        f"by-{name}/{component}" for name, facet in facets.items() if _has(view, facet, component)
    ]
    return f"there is no {component}", did_you_mean(close[:3]) or "`omidbfs facets SOURCE` shows what there is"


def _no_cohort(view: "View", name: str) -> tuple[str, str]:
    """Return which named cohorts there are, in which configuration, and a hint."""
    config, named = configuration(), sorted(view.lists.named)
    if config is None:
        return "no configuration was read that names cohorts", "--config FILE reads one"
    if not named:
        return f"{config} names no cohorts", ""
    return f"there is no cohort {name}; those of {config} are {', '.join(named)}", meant(name, named)


def _has(view: "View", facet: "Facet", word: str) -> bool:
    """Return whether a word alone tells the facet: ``MLO`` does, ``yes`` or a number does not."""
    from omidbfs.facets import RESERVED, Kind
    from omidbfs.facets.model import YES_NO

    says_much = word not in RESERVED and not any(word in (one.label, *one.aliases) for one in YES_NO)
    return says_much and facet.kind in (Kind.TABLE, Kind.TEXT) and view.cohorts.term(facet, word) is not None


def _no_value(view: "View", directory: "FacetDirectory", component: str) -> tuple[str, str]:
    """Return which parts of a component are no values of a facet, and a hint: the component that may be meant."""
    from omidbfs.facets import Kind

    facet = directory.facet
    parts = component.removeprefix("not-").split(",")
    wrong = [part for part in parts if view.cohorts.term(facet, part) is None]
    close = [_values_like(view, directory, part) if part in wrong else [part] for part in parts]
    likely = close[0] if len(parts) == 1 else [",".join(some[0] for some in close)] if all(close) else []
    negated = "not-" if component.startswith("not-") else ""
    list_them = "`omidbfs facets SOURCE` shows what there is"
    if facet.kind is Kind.NAME:
        list_them = f"`omidbfs ls SOURCE by-{facet.name}` lists them"
    is_none = "is no value" if len(wrong) == 1 else "are no values"
    hint = did_you_mean(f"{negated}{one}" for one in likely) or list_them
    return f"{' and '.join(part or 'nothing' for part in wrong)} {is_none} of by-{facet.name}", hint


def _values_like(view: "View", directory: "FacetDirectory", word: str) -> list[str]:
    """Return the values of a facet that are like a word. Return only values that occur, if any do."""
    from omidbfs.base.names import safe_bytes
    from omidbfs.cohorts.describe import close_names
    from omidbfs.facets import RESERVED, Kind, Level

    facet = directory.facet
    if facet.kind is Kind.NAME:
        if facet.level is Level.STUDY:
            return close_names(view.index.studies, safe_bytes(os.fsencode(word)))
        return [word.lower()] if view.cohorts.term(facet, word.lower()) is not None else []
    if facet.kind is Kind.NUMBER:
        ends = sorted(map(int, re.findall("[0-9]{1,9}", word)))
        if len(ends) == 2 and view.cohorts.term(facet, f"{ends[0]}-{ends[1]}") is not None:
            return [f"{ends[0]}-{ends[1]}"]
    known = {name: name for name in RESERVED}
    for value in facet.values:
        known |= dict.fromkeys((value.label, value.code, *value.aliases), value.label)
    for text in islice(view.index.texts.get(facet.name, ()), _MOST_TEXTS):
        known |= dict.fromkeys((text.label, *text.raw), text.label)
    likely, occurring = closest(word, known), dict(view.cohorts.counts(directory.cohort, facet))
    return [name for name in likely if name in occurring] or likely
