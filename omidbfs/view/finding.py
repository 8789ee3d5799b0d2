"""Finds the cohort or directory at a path that a person typed, and explains what does not exist.

Commands and the Python API use it. Pure functions of a view: any thread may call them.
"""

import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from omidbfs.base.errors import NotFoundError, UserError
from omidbfs.base.words import closest, did_you_mean, meant
from omidbfs.cohorts.cohort import Cohort
from omidbfs.facets import RESERVED, Facet, Kind, Level
from omidbfs.facets.model import YES_NO
from omidbfs.pixels.rendition import Rendition, mistake_in_size
from omidbfs.view.facet import FacetDirectory
from omidbfs.view.images import LONGEST_PATH
from omidbfs.view.nodes import Directory
from omidbfs.view.top import AboutDirectory, NamedDirectory, RootDirectory
from omidbfs.view.view import View

_MOST_TEXTS = 5000
"""The most values of a free-text facet that a misspelt word is compared with. This takes a moment."""

Configuration = Callable[[], Path | None]
"""Returns the configuration that was read."""


def cohort_at(view: View, path: str, config: Configuration) -> Cohort:
    """Return the cohort at a path of the drive. It raises the errors of :func:`directory_at`."""
    directory = directory_at(view, path, config)
    if isinstance(directory, AboutDirectory):
        raise UserError("holds texts about the drive, and a cohort is needed", place=path)
    return view.cohort(directory)


def directory_at(view: View, path: str, config: Configuration) -> Directory:
    """Return the directory at a path of the drive.

    Raises
    ------
    NotFoundError
        The path has a name that does not exist. The message tells which, and what may be meant.
    UserError
        The path is too long, or leads to a file.
    """
    directory = view.root
    components = [component for component in path.split("/") if component]
    for number, component in enumerate(components):
        try:
            child = view.lookup(directory, os.fsencode(component))
        except OSError as error:
            said = f"{error.strerror}: no facet is found below a path of more than {LONGEST_PATH} bytes"
            raise UserError(f"{path[:40]}...: {said}") from None
        if child is None:
            raise NotFoundError(*_unknown(view, directory, components[number:], config), path)
        if not isinstance(child, Directory):
            raise UserError(f"{component} is a file, and a directory is needed", place=path)
        directory = child
    return directory


def _unknown(
    view: View, directory: Directory, components: Sequence[str], config: Configuration
) -> tuple[str, str]:
    """Return why a directory lacks the first of some components, and a hint: what the user may have meant."""
    component = components[0]
    is_at_root = isinstance(directory, RootDirectory)
    if (
        isinstance(directory, NamedDirectory)
        or (is_at_root and component == "cohorts")
        or component == "by-cohort"
    ):
        return _no_cohort(view, component, config())
    if isinstance(directory, FacetDirectory):
        if directory.facet.kind is Kind.COHORT:
            parts = component.removeprefix("not-").split(",")
            return _no_cohort(view, next(part for part in parts if part not in view.lists.named), config())
        return no_value(view, directory.cohort, directory.facet, component)
    if component.startswith("as-"):
        return no_rendition(view, directory.cohort.rendition, component)
    facets = {facet.name: facet for facet in view.cohorts.facets}
    known = {"all": "all"} | {name: f"by-{name}" for name in facets}
    close = closest(re.sub("^by[-_ ]", "", component, flags=re.IGNORECASE), known) or [
        f"by-{name}/{component}" for name, facet in facets.items() if _has(view, facet, component)
    ]
    close = close or [path for path in [_on_a_drive(view, components[1:])] if path]
    return f"there is no {component}", did_you_mean(close[:3]) or "`omidbfs facets SOURCE` shows what there is"


def _on_a_drive(view: View, components: Sequence[str]) -> str:
    """Return the end of a path that is a path of the drive: what the user means whose drive is not mounted."""
    with suppress(OSError):  # a name or a path that is too long
        for number, first in enumerate(components):
            node = view.lookup(view.root, os.fsencode(first))
            if isinstance(node, Directory):
                for component in components[number + 1 :]:
                    node = view.lookup(node, os.fsencode(component)) if isinstance(node, Directory) else None
                return "/".join(components[number:]) if isinstance(node, Directory) else ""
    return ""


def no_rendition(view: View, above: Rendition | None, component: str) -> tuple[str, str]:
    """Return why there is no rendition of a name, below a path that has the rendition ``above``, and a hint."""
    if above is not None:
        return f"there is no {component} below as-{above.name}", "a path has one rendition"
    names = [f"as-{rendition.name}" for rendition in view.configured.all()]
    hint = (
        mistake_in_size(component.removeprefix("as-"))
        or meant(component, names)
        or f"there are {', '.join(names)}, and sizes such as as-png-1024x768 or as-png-512"
    )
    return f"there is no {component}", hint


def _no_cohort(view: View, name: str, config: Path | None) -> tuple[str, str]:
    """Return which named cohorts there are, in which configuration, and a hint."""
    named = sorted(view.lists.named)
    broken = view.lists.broken.get(name) or next(iter(() if named else view.lists.broken.values()), None)
    if broken is not None:
        return f"its definition has a mistake: {broken.place}: {broken.what}", broken.remedy
    if config is None:
        return "no configuration was read that names cohorts", "--config FILE reads one"
    if not named:
        return f"{config} names no cohorts", ""
    return f"there is no cohort {name}; those of {config} are {', '.join(named)}", meant(name, named)


def _has(view: View, facet: Facet, word: str) -> bool:
    """Return whether a word alone tells the facet: ``MLO`` does, ``yes`` or a number does not."""
    says_much = word not in RESERVED and not any(word in (one.label, *one.aliases) for one in YES_NO)
    return says_much and facet.kind in (Kind.TABLE, Kind.TEXT) and view.cohorts.term(facet, word) is not None


def no_value(view: View, cohort: Cohort, facet: Facet, component: str) -> tuple[str, str]:
    """Return which parts of a component are no values of a facet, and a hint: the component that may be meant."""
    parts = component.removeprefix("not-").split(",")
    wrong = [part for part in parts if view.cohorts.term(facet, part) is None]
    if not wrong:
        return "not- stands only once, before all values", "not-CC,MLO leaves out both"
    close = [_values_like(view, cohort, facet, part) if part in wrong else [part] for part in parts]
    likely = close[0] if len(parts) == 1 else [",".join(some[0] for some in close)] if all(close) else []
    negated = "not-" if component.startswith("not-") else ""
    list_them = "`omidbfs facets SOURCE` shows what there is"
    if facet.kind is Kind.NAME:
        list_them = f"`omidbfs ls SOURCE by-{facet.name}` lists them"
    elif facet.kind is Kind.NUMBER:
        list_them = f"numbers are {facet.lowest} to {facet.highest}"
    is_none = "is no value" if len(wrong) == 1 else "are no values"
    hint = did_you_mean(f"{negated}{one}" for one in likely) or list_them
    return f"{' and '.join(part or 'nothing' for part in wrong)} {is_none} of by-{facet.name}", hint


def _values_like(view: View, cohort: Cohort, facet: Facet, word: str) -> list[str]:
    """Return the values of a facet that are like a word. Return only values that occur, if any do."""
    if facet.kind is Kind.NAME:
        if facet.level is Level.STUDY:
            from omidbfs.base.names import safe_bytes
            from omidbfs.cohorts.describe import close_names  # which reads the source, and takes time to load

            return close_names(view.index.studies, safe_bytes(os.fsencode(word)))
        return [word.lower()] if view.cohorts.term(facet, word.lower()) is not None else []
    if facet.kind is Kind.NUMBER:
        ends = sorted(map(int, re.findall("[0-9]+", word)))
        if len(ends) == 2 and view.cohorts.term(facet, f"{ends[0]}-{ends[1]}") is not None:
            return [f"{ends[0]}-{ends[1]}"]
    known = {name: name for name in RESERVED}
    for value in facet.values:
        known |= dict.fromkeys((value.label, value.code, *value.aliases), value.label)
    for text in islice(view.index.texts.get(facet.name, ()), _MOST_TEXTS):
        known |= dict.fromkeys((text.label, *text.raw), text.label)
    likely, occurring = closest(word, known), dict(view.cohorts.counts(cohort, facet))
    return [name for name in likely if name in occurring] or likely
