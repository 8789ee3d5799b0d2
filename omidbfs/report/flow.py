"""The exclusion flow of a cohort as a diagram of boxes, in the style of CONSORT.

Used by ``page``. Pure functions. The diagram is made of text and borders, so it is readable at any width.
"""

from collections.abc import Sequence
from html import escape

from omidbfs.cohorts.steps import Counts, Step
from omidbfs.cohorts.tabulated import Table
from omidbfs.cohorts.units import UNITS
from omidbfs.facets import Level


def flow(steps: Sequence[Step]) -> str:
    """Return the diagram: below each other what is left, and on the right what each part takes."""
    rows = []
    for place, step in enumerate(steps):
        if place:
            taken = (
                f'<div class="taken">{_part(step)} takes<br>{_numbers(step.takes)}</div>'
                if any(step.takes.values())
                else f'<div class="taken">{_part(step)} takes nothing</div>'
            )
            rows.append(f'<li><div class="stem"></div>{taken}</li>')
        words = _part(step) if not place else "left"
        rows.append(f'<li><div class="left">{words}<br>{_numbers(step.leaves)}</div></li>')
    return f'<ol class="flow">{"".join(rows)}</ol>'


def _part(step: Step) -> str:
    path = f"<code>{escape(step.part.path)}</code>" if step.part.path else ""
    return " ".join(filter(None, (escape(step.part.words), path)))


def _numbers(counts: Counts) -> str:
    return ", ".join(_number(counts[unit], unit) for unit in UNITS)


def _number(count: int, unit: Level) -> str:
    return f'<b data-n="{count}">{count:,}</b> {unit if count == 1 else unit.plural}'


def flow_table(steps: Sequence[Step], name: str = "") -> Table:
    """Return what each part of a definition leaves and takes, in every unit, as a table.

    ``name`` is the name of one of several cohorts.
    """
    key, title = (
        ("flow", "How the cohort came about") if not name else (f"flow-{name}", f"How cohort {name} came about")
    )
    note = (
        "What each part of the definition leaves and takes, in the order of the path. A client, episode or study "
        "is left as long as one of its images is."
    )
    rows = []
    for place, step in enumerate(steps):
        rows.append(
            (f"{step.part}: leaves" if place else str(step.part), tuple(step.leaves[unit] for unit in UNITS))
        )
        if place:
            rows.append((f"{step.part}: takes", tuple(step.takes[unit] for unit in UNITS)))
    columns = tuple(unit.plural for unit in UNITS)
    return Table(key, title, note, "part", columns, tuple(rows), (0,) * len(UNITS), has_total=False)
