"""The parts of the definition of a named cohort, one after the other.

``view/stages`` uses it. It is pure, for any thread.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate

from omidbfs.base.words import counted
from omidbfs.cohorts.cohort import Cohorts
from omidbfs.cohorts.named import Criteria, NamedCohort, Others
from omidbfs.cohorts.resolved import resolved
from omidbfs.cohorts.steps import Part, Stage


def stages_of(cohorts: Cohorts, definitions: Sequence[NamedCohort], name: str) -> tuple[Cohorts, list[Stage]]:
    """Return what each part of the definition of a cohort makes of all images. The last stage is the cohort.

    The parts are its path, its lists, ``include`` and ``exclude``, in this order. ``definitions`` are those of
    ``cohorts``, and that of ``name`` has no mistake. The stages, and all cohorts of ``cohorts``, are of the
    :class:`Cohorts` returned.
    """
    definition = next(one for one in definitions if one.name == name)
    parts = [(part, replace(one, name=f"{name}/{place}")) for place, (part, one) in enumerate(_parts(definition))]
    found = resolved(cohorts, [*definitions, *(one for _, one in parts)])
    stages = [Stage(part, found.cohorts[one.name]) for part, one in parts]
    return Cohorts(cohorts.index, found.named), stages


def _parts(definition: NamedCohort) -> Iterator[tuple[Part, NamedCohort]]:
    """Yield each part, and the definition of the cohort that has this part and those before."""
    known = NamedCohort(definition.name, None)
    if definition.include is not None:
        path, place, lists = definition.include.path, definition.include.place, definition.include.lists
        words = [word for word in path.split("/") if word]
        if words == ["all"]:
            known = replace(known, include=Criteria(path, place))
            yield Part(path), known
        if words[:1] == ["all"]:
            del words[0]
        pairs = ["/".join(words[at : at + 2]) for at in range(0, len(words), 2)]
        for pair, so_far in zip(pairs, accumulate(pairs, "{}/{}".format), strict=True):
            known = replace(known, include=Criteria(so_far, place))
            yield Part(pair), known
        for number, (level, names) in enumerate(lists, 1):
            known = replace(known, include=Criteria(path, place, lists[:number]))
            yield Part("", f"list of {counted(len(names), level)}"), known
    if definition.of is not None:
        known = replace(known, of=definition.of)
        yield Part("", f"in {_joined(definition.of)}"), known
    if definition.exclude is not None:
        exclude = definition.exclude
        if isinstance(exclude, Others):
            part = Part("", f"without {_joined(exclude)}")
        else:
            texts = [f"list of {counted(len(names), level)}" for level, names in exclude.lists]
            part = Part(exclude.path, f"without {' and '.join([*texts, *[''] * bool(exclude.path)])}".rstrip())
        yield part, definition


def _joined(others: Others) -> str:
    return f"{'cohort' if len(others.names) == 1 else 'cohorts'} {', '.join(others.names)}"
