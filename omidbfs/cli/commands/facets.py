"""``omidbfs facets``: shows the facets of a cohort, their values, and how many images, clients, episodes or
studies have each value. The command line uses it, in the main thread.
"""

from collections.abc import Iterator, Mapping, Sequence
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from omidbfs.cli.command import command
from omidbfs.cli.options import session_of, source_options
from omidbfs.cli.selection import (
    UNITS,
    asked,
    cohort_argument,
    directory_at,
    facet_named,
    json_option,
    level_of,
    selected_by,
)

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from omidbfs.facets import Facet
    from omidbfs.view.view import View

_LONGEST = 12
"""The most values of a facet that a terminal shows without ``--all``."""
_WIDEST_VALUE = 48
_BAR = (8, 40)
"""The narrowest and the widest bar, in characters."""
_INDENT, _GAP = 2, 2

Counted = Sequence[tuple[str, int]]


@command(example="omidbfs facets db by-outcome/malignant")
@source_options
@cohort_argument
@click.argument("names", metavar="[FACET]...", nargs=-1)
@click.option("--of", type=click.Choice(UNITS), default="images", show_default=True, help="What to count.")
@json_option
@click.option("--all", is_flag=True, help="Show every value of long lists on a terminal too.")
def facets(
    source: Path, cohort: str, names: tuple[str, ...], of: str, json: bool, all: bool, **options: Any
) -> None:
    """Show the facets of COHORT, their values, and how many images, clients, episodes or studies have each.

    A client, episode or study with several values is counted in each of them. With one FACET or several, such as
    by-manufacturer, or with a COHORT that ends in a facet, the command shows these facets only.
    """
    from omidbfs.cohorts.units import Selected
    from omidbfs.facets import Kind
    from omidbfs.view.facet import FacetDirectory

    def ask(view: "View") -> "tuple[list[Facet], dict[str, Counted], int]":
        chosen, level = Selected(view.cohorts, selected_by(view, cohort)), level_of(of)
        directory = directory_at(view, cohort)
        known = [directory.facet] if isinstance(directory, FacetDirectory) else []
        known += [facet for name in names if (facet := facet_named(view, name, "FACET")) not in known]
        if not known:
            known = [facet for facet in view.cohorts.facets if facet.kind is not Kind.NAME]
            known = known if json else _in_order(known)
        counted: dict[str, Counted] = {}
        for facet in known:
            groups = chosen.groups(facet)
            counts = zip(groups.labels, chosen.per_value(groups, level), strict=True)
            counted[facet.name] = [pair for pair in counts if pair[1]]
        return known, counted, chosen.totals[level]

    known, counted, total = asked(session_of(source, options), options, ask)
    if json:
        click.echo(dumps({name: dict(values) for name, values in counted.items()}, indent=2))
        return
    from rich.console import Console

    console = Console(highlight=False)
    if console.is_terminal:
        _print_table(console, known, counted, of, total, None if all else _LONGEST)
        return
    for line in _lines(counted, of, total):
        click.echo(line)


def _in_order(known: "Sequence[Facet]") -> "list[Facet]":
    """Return facets in order of their levels, from the client down to the file."""
    from omidbfs.facets import Level

    return sorted(known, key=lambda facet: list(Level).index(facet.level))


def _lines(counted: Mapping[str, Counted], unit: str, total: int) -> Iterator[str]:
    """Yield a heading that names the unit, and a line for each value: its path on the drive, number and share."""
    rows = [
        (f"by-{name}/{value}", str(number), share(number, total))
        for name, values in counted.items()
        for value, number in values
    ]
    rows.insert(0, ("value", unit, f"of {total}"))
    path, number, part = (max(len(row[column]) for row in rows) for column in range(3))
    return (f"{row[0]:<{path}}  {row[1]:>{number}}  {row[2]:>{part}}" for row in rows)


def _print_table(
    console: "Console",
    known: "Sequence[Facet]",
    counted: Mapping[str, Counted],
    unit: str,
    total: int,
    longest: int | None,
) -> None:
    from rich.padding import Padding
    from rich.table import Column, Table
    from rich.text import Text

    shown = {facet.name: _cut(counted[facet.name], longest) for facet in known}
    values = [value for pairs, _ in shown.values() for value, _ in pairs]
    numbers = max(len(unit), len(f"{total:,}"))
    fixed = _INDENT + _GAP * 3 + numbers + len("100 %")
    value_width = max(min(max(map(len, values), default=0), console.width - fixed - _BAR[0], _WIDEST_VALUE), 5)
    bar = max(min(console.width - fixed - value_width, _BAR[1]), 0)
    heading = f"numbers of {unit}, of {total:,} in all; shares are rounded to whole per cent"
    console.print(Text(heading, "italic"), no_wrap=True, overflow="crop")
    for facet in known:
        pairs, left = shown[facet.name]
        # All tables have the same widths, so the numbers of all facets line up.
        table = Table.grid(
            Column(width=value_width, no_wrap=True, overflow="crop"),
            Column(width=numbers, justify="right", no_wrap=True, overflow="crop"),
            Column(width=len("100 %"), justify="right", no_wrap=True, overflow="crop"),
            Column(width=bar),
            padding=(0, _GAP, 0, 0),
        )
        for value, count in pairs:
            name = value if len(value) <= value_width else f"{value[: value_width - 3]}..."
            part = _bar(count, total, bar, ascii_only=console.options.ascii_only)
            table.add_row(Text(name), f"{count:,}", share(count, total), part)
        console.print(Text(f"by-{facet.name}", "bold"), no_wrap=True, overflow="crop")
        console.print(Padding.indent(table, _INDENT), no_wrap=True, crop=True)
        if facet.hint and pairs:
            console.print(Padding.indent(Text(facet.hint, "dim"), _INDENT), no_wrap=True, overflow="crop")
        if left:
            more = Text(f"and {left} more: --all", "dim")
            console.print(Padding.indent(more, _INDENT), no_wrap=True, overflow="crop")


def _cut(pairs: Counted, longest: int | None) -> tuple[Counted, int]:
    """Return the most frequent values in their original order, and the number of values left out."""
    if longest is None or len(pairs) <= longest:
        return pairs, 0
    kept = sorted(pairs, key=lambda pair: -pair[1])[: longest - 1]
    return [pair for pair in pairs if pair in kept], len(pairs) - len(kept)


def share(count: int, total: int) -> str:
    """Return a share in whole per cent, a half rounded up. Only nothing is 0 %, and only everything is 100 %."""
    rounded = (200 * count + total) // (2 * total) if total else 0
    if rounded == 0 and count:
        return "<1 %"
    return ">99 %" if rounded == 100 and count < total else f"{rounded} %"


def _bar(count: int, total: int, width: int, *, ascii_only: bool) -> "RenderableType":
    """Return a bar for ``count`` of ``total``; a bar of all has ``width`` characters."""
    from rich.bar import Bar

    if ascii_only:
        return "#" * round(count / max(total, 1) * width)
    return Bar(max(total, 1), 0, count, width=width)
