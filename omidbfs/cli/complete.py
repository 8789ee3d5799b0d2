"""Completion of COHORT in a shell: facets, their values and named cohorts, from the saved index of SOURCE. Used by
the argument COHORT of every command; one thread.

A shell waits for us at every press of its key: nothing is built, the source is not touched, and whatever goes
wrong completes nothing. A word is completed component by component. A shell puts a space behind the only
candidate, and a path may go on; so there are always two of them, or the one that there is ends in a slash.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem, FishComplete, add_completion_class

from omidbfs.base.words import counted

if TYPE_CHECKING:
    from omidbfs.cohorts.cohort import Cohort, Cohorts
    from omidbfs.facets import Facet
    from omidbfs.serving.session import Session

_MOST = 500
"""Of more candidates (clients, mostly) a shell would show none either."""

Candidate = tuple[str, str]
"""A component that may stand in the place of what was typed, and a word on it."""


class _Fish(FishComplete):
    """What click has for fish cuts a word at its first comma, and a union has one."""

    source_template = FishComplete.source_template.replace('string split ","', 'string split --max 1 ","')


add_completion_class(_Fish)


def complete_cohort(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return what the last component of a cohort's path may become."""
    try:
        with ctx.scope(cleanup=False):
            session = _session(ctx)
            stored = session.saved_or_none() if session is not None else None
        if session is None or stored is None:
            return []
        from omidbfs.cohorts.cohort import Cohorts
        from omidbfs.cohorts.named import resolved

        cohorts = Cohorts(stored.index)
        found = _completed(cohorts, resolved(cohorts, session.definitions.cohorts)[0], incomplete)
    except Exception:  # a message would land in the middle of what the user is typing
        return []
    return [CompletionItem(path, help=word) for path, word in found]


def _session(ctx: click.Context) -> "Session | None":
    """Return what the words typed so far ask for, the configuration included: its defaults are not set here."""
    from pathlib import Path

    from omidbfs.cli.options import session_of
    from omidbfs.serving.configuration import config_file, read_config

    options: dict[str, Any] = dict(ctx.params)
    source, root = options.pop("source", None), ctx.find_root()
    if source is None or not isinstance(root.command, click.Group):
        return None
    names = {
        name: {parameter.name or "" for parameter in command.params}
        for name, command in root.command.commands.items()
    }
    config = root.params["config"] = root.params.get("config") or config_file()
    defaults = read_config(config, names).get(ctx.info_name or "", {})
    for name in ("images", "data", "index"):
        if options.get(name) is None and isinstance(defaults.get(name), str):
            options[name] = Path(str(defaults[name]))
    options["follow_symlinks"] = options["follow_symlinks"] or bool(defaults.get("follow_symlinks"))
    return session_of(source, {**options, "clients_file": None, "facets": None})


def _completed(cohorts: "Cohorts", named: "dict[str, Cohort]", path: str) -> list[Candidate]:
    """Return the paths that an unfinished one may become."""
    *done, last = path.split("/")
    start = "".join(f"{component}/" for component in done)
    place = _at(cohorts, named, done)
    if place is None:
        return []
    cohort, facet = place
    if facet is None and done != ["cohorts"]:
        found = [pair for pair in _directories(cohorts, named, done, cohort) if pair[0].startswith(last)]
        if len(found) > 1 or not found:
            return [(f"{start}{name}/", word) for name, word in found]
        # The only one: what is in it goes beyond its slash, so that no space is put behind that.
        inside = f"{start}{found[0][0]}/"
        return _completed(cohorts, named, inside) or [(f"{inside}{more}", found[0][1]) for more in ("", "not-")]
    if facet is None:
        sizes = ((name, counted(len(cohorts.rows(one)), "image")) for name, one in named.items())
        found = [pair for pair in sizes if pair[0].startswith(last)]
    else:
        found = list(_values(cohorts, cohort, facet, last))
    if len(found) > _MOST:
        return []
    if len(found) == 1:
        found.append((f"{found[0][0]}/", found[0][1]))
    return [(f"{start}{name}", word) for name, word in found]


def _at(
    cohorts: "Cohorts", named: "dict[str, Cohort]", done: Sequence[str]
) -> "tuple[Cohort, Facet | None] | None":
    """Return the cohort at a path, and the facet of which a value is to follow, if one is."""
    from omidbfs.cohorts.cohort import EVERYTHING

    cohort, facet = EVERYTHING, None
    words = [word for word in done if word]
    if words[:1] == ["all"]:
        words = words[1:]
    elif words[:1] == ["cohorts"] and len(words) > 1:
        if words[1] not in named:
            return None
        cohort, words = named[words[1]], words[2:]
    elif words == ["cohorts"]:
        words = []
    for word in words:
        if facet is not None:
            term = cohorts.term(facet, word)
            if term is None:
                return None
            cohort, facet = cohort.narrowed(term), None
        elif (facet := cohorts.index.registry.by_name.get(word.removeprefix("by-"))) is None:
            return None
    return cohort, facet


def _directories(
    cohorts: "Cohorts", named: "dict[str, Cohort]", done: Sequence[str], cohort: "Cohort"
) -> Iterator[Candidate]:
    if not any(done):
        yield "all", "every image"
        if named:
            yield "cohorts", "of the configuration"
    used = {term.facet for term in cohort.terms}
    for facet in cohorts.index.registry.facets:
        if facet.name not in used:
            yield f"by-{facet.name}", facet.description


def _values(cohorts: "Cohorts", cohort: "Cohort", facet: "Facet", typed: str) -> Iterator[Candidate]:
    """Yield the values in the cohort that the part after the last comma may become, with all before it."""
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
