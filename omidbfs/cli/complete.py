"""Completes COHORT in a shell: facets, their values, named cohorts and renditions, from the saved index of SOURCE.
The argument COHORT of every command uses this module, in the main thread.

The shell waits for the answer at every press of the key. So this module builds no index, does not touch the
source, and offers nothing after an error, such as a damaged index. It completes one component at a time. A shell
puts a space behind the only candidate, but a path may go on. So there are always two candidates, or the only one
ends in a slash.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem, FishComplete, add_completion_class

from omidbfs.base.words import counted

if TYPE_CHECKING:
    from omidbfs.cohorts.cohort import Cohort, Cohorts
    from omidbfs.facets import Facet
    from omidbfs.pixels.rendition import Configured
    from omidbfs.serving.session import Session

_MOST = 500
"""With more candidates (usually clients) the answer is empty: a shell would not show them either."""

Candidate = tuple[str, str]
"""A component that may replace the typed one, and its description."""


class _Fish(FishComplete):
    """Completion in fish. The class of click cuts a word at its first comma, and a union has a comma."""

    source_template = FishComplete.source_template.replace('string split ","', 'string split --max 1 ","')


add_completion_class(_Fish)


def complete_cohort(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the paths that complete the last component of an unfinished one."""
    try:
        with ctx.scope(cleanup=False):
            session = _session(ctx)
            stored = session.saved_or_none(whole=False) if session is not None else None
        if session is None or stored is None:
            return []
        from omidbfs.cohorts.cohort import Cohorts

        cohorts = Cohorts(stored.index)
        named: Mapping[str, Cohort] = {}
        if session.definitions.cohorts:
            from omidbfs.cohorts.resolved import resolved

            found_there = resolved(cohorts, session.definitions.cohorts)
            named, cohorts = found_there.cohorts, Cohorts(stored.index, found_there.named)
        found = _completed(_Known(cohorts, named, session.definitions.renditions), incomplete)
    except Exception:  # a message would appear in the middle of the line that the user types
        return []
    return [CompletionItem(path, help=word) for path, word in found]


def _session(ctx: click.Context) -> "Session | None":
    """Return the session of the words typed so far. Read the configuration, because click has not done it yet."""
    from pathlib import Path

    from omidbfs.cli.options import OptionNames, session_of
    from omidbfs.serving.configuration import config_file, read_config

    options: dict[str, Any] = dict(ctx.params)
    source, root = options.pop("source", None), ctx.find_root()
    if source is None or not isinstance(root.command, click.Group):
        return None
    config = root.params["config"] = root.params.get("config") or config_file()
    defaults = read_config(config, OptionNames(root.command.commands)).get(ctx.info_name or "", {})
    for name in ("images", "data", "index"):
        if options.get(name) is None and isinstance(defaults.get(name), str):
            options[name] = Path(str(defaults[name]))
    options["follow_symlinks"] = options["follow_symlinks"] or bool(defaults.get("follow_symlinks"))
    return session_of(source, {**options, "clients_file": None, "facets": None})


@dataclass(frozen=True)
class _Known:
    """What a path may lead through: facets and their values, named cohorts, and renditions."""

    cohorts: "Cohorts"
    named: "Mapping[str, Cohort]"
    configured: "Configured"


def _completed(known: _Known, path: str) -> list[Candidate]:
    """Return the paths that complete an unfinished one, with descriptions."""
    *done, last = path.split("/")
    start = "".join(f"{component}/" for component in done)
    place = _at(known, done)
    if place is None:
        return []
    cohort, facet = place
    if facet is None and done[-1:] != ["cohorts"]:
        found = [pair for pair in _directories(known, done, cohort, last) if pair[0].startswith(last)]
        if len(found) > 1 or not found:
            return [(f"{start}{name}/", word) for name, word in found]
        # The only candidate: add its own entries, so that the shell puts no space behind it.
        inside = f"{start}{found[0][0]}/"
        return _completed(known, inside) or [(f"{inside}{more}", found[0][1]) for more in ("", "not-")]
    if facet is None:
        sizes = ((name, counted(len(known.cohorts.rows(one)), "image")) for name, one in known.named.items())
        found = [pair for pair in sizes if pair[0].startswith(last)]
    else:
        found = list(_values(known.cohorts, cohort, facet, last))
    if len(found) > _MOST:
        return []
    if len(found) == 1:
        found.append((f"{found[0][0]}/", found[0][1]))
    return [(f"{start}{name}", word) for name, word in found]


def _at(known: _Known, done: Sequence[str]) -> "tuple[Cohort, Facet | None] | None":
    """Return the cohort at a path, and the facet that the path ends in, if any; ``None`` for an unknown path."""
    from omidbfs.cohorts.cohort import EVERYTHING

    cohort, facet = EVERYTHING, None
    words = [word for word in done if word]
    first = words.pop(0) if words and words[0].startswith("as-") else None
    if words[:1] == ["all"]:
        words = words[1:]
    elif words[:1] == ["cohorts"] and len(words) > 1:
        if words[1] not in known.named:
            return None
        cohort, words = known.named[words[1]], words[2:]
    elif words == ["cohorts"]:
        words = []
    for word in words if first is None else (first, *words):
        if facet is None and word.startswith("as-"):
            rendered = _rendered(known, cohort, word.removeprefix("as-"))
            if rendered is None:
                return None
            cohort = rendered
        elif facet is not None:
            term = known.cohorts.term(facet, word)
            if term is None:
                return None
            cohort, facet = cohort.narrowed(term), None
        elif (facet := known.cohorts.facet(word.removeprefix("by-"))) is None:
            return None
    return cohort, facet


def _rendered(known: _Known, cohort: "Cohort", name: str) -> "Cohort | None":
    """Return the images of a cohort that have a rendition; ``None`` if there is no such rendition."""
    from omidbfs.cohorts.rendered import sizes_in, terms_of

    rendition, index = known.configured.named(name), known.cohorts.index
    if rendition is None or cohort.rendition is not None:
        return None
    return cohort.rendered(rendition, terms_of(index, sizes_in(index, rendition)))


def _directories(known: _Known, done: Sequence[str], cohort: "Cohort", typed: str) -> Iterator[Candidate]:
    """Yield the directories below a cohort. Renditions, which no directory lists, are offered after ``as``."""
    if not any(done) or (len(done) == 1 and cohort.rendition is not None):
        yield "all", "every image"
        if known.named:
            yield "cohorts", "of the configuration"
    used = {term.facet for term in cohort.terms}
    if typed.startswith("as") and cohort.rendition is None:
        for rendition in known.configured.all():
            yield f"as-{rendition.name}", "a rendition of each image"
    for facet in known.cohorts.facets:
        if facet.name not in used:
            yield f"by-{facet.name}", facet.description


def _values(cohorts: "Cohorts", cohort: "Cohort", facet: "Facet", typed: str) -> Iterator[Candidate]:
    """Yield the components that complete the part after the last comma with a value that occurs in the cohort."""
    before, comma, part = typed.rpartition(",")
    chosen = set(before.removeprefix("not-").split(",")) if comma else set()
    complement = "not-" if not comma and part.startswith("not-") else ""
    for value, images in cohorts.counts(cohort, facet):
        if value in chosen:
            continue
        if value.startswith(part):
            yield f"{before}{comma}{value}", counted(images, "image")
        elif complement and value.startswith(part.removeprefix(complement)):
            yield f"{complement}{value}", f"all but {counted(images, 'image')}"
