"""Steps: what each part of the definition of a cohort leaves and takes.

``omidbfs count --steps`` and reports use it. Pure functions of an index: any thread may call them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from omidbfs.cohorts.cohort import Cohort, Cohorts
from omidbfs.cohorts.units import UNITS, counts_of
from omidbfs.facets import Level

Counts = Mapping[Level, int]


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the definition of a cohort: a path such as ``by-view/MLO``, words, or words before a path.

    A path may name clients, studies and episodes, and words do not.
    """

    path: str
    words: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, (self.words, self.path)))


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of a definition, and the cohort of this part and all parts before it."""

    part: Part
    cohort: Cohort


@dataclass(frozen=True, slots=True)
class Step:
    """What is left after a part of a definition, and what the part took from what was left before.

    The first step is where a flow begins: it takes nothing.
    """

    part: Part
    leaves: Counts
    takes: Counts


def steps_of(cohorts: Cohorts, stages: Iterable[Stage], before: Iterable[tuple[str, Counts]]) -> list[Step]:
    """Return a step for each count in ``before``, in order, and for each stage.

    ``before`` has the counts of what the index was taken from, and of the index: (words, counts). It is not empty.
    """
    start = [(Part("", words), counts) for words, counts in before]
    counted = [*start, *((stage.part, counts_of(cohorts, stage.cohort)) for stage in stages)]
    found: list[Step] = []
    for part, leaves in counted:
        last = found[-1].leaves if found else leaves
        found.append(Step(part, leaves, {level: last[level] - leaves[level] for level in UNITS}))
    return found


def emptied_by(steps: Sequence[Step]) -> Step | None:
    """Return the step that took the last image; ``None`` if there are images, or never were any."""
    return next((step for step in steps if step.takes[Level.IMAGE] and not step.leaves[Level.IMAGE]), None)


def why_empty(steps: Sequence[Step]) -> str:
    """Return a sentence that says which step left nothing; the empty text if a step did not."""
    step = emptied_by(steps)
    if step is None:
        return ""
    images = step.takes[Level.IMAGE]
    number = "the only image" if images == 1 else f"the last {images:,} images"
    return f"{step.part} took {number}"


def as_lines(steps: Sequence[Step]) -> Iterator[str]:
    """Yield the lines of a table for people: what each step leaves and takes, a column for each unit."""
    rows: list[tuple[str, str, Counts]] = []
    for place, step in enumerate(steps):
        rows.append((str(step.part), "leaves" if place else "", step.leaves))
        if place:
            rows.append(("", "takes", step.takes))
    width = max(len(part) for part, _, _ in rows)
    columns = [max(len(unit.plural), *(len(str(counts[unit])) for _, _, counts in rows)) for unit in UNITS]
    head = "  ".join(f"{unit.plural:>{column}}" for unit, column in zip(UNITS, columns, strict=True))
    yield f"{'':<{width}}          {head}"
    for part, verb, counts in rows:
        cells = "  ".join(f"{counts[unit]:>{column}}" for unit, column in zip(UNITS, columns, strict=True))
        yield f"{part:<{width}}  {verb:<6}  {cells}"


def as_objects(steps: Sequence[Step]) -> list[dict[str, object]]:
    """Return the steps as plain objects for JSON."""
    return [
        {
            "part": str(step.part),
            "leaves": {level.plural: step.leaves[level] for level in UNITS},
            "takes": {level.plural: step.takes[level] for level in UNITS},
        }
        for step in steps
    ]
