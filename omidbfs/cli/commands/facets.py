"""``omidbfs facets``: shows the facets of a cohort, their values, and the number of images of each value. The
command line uses it, in the main thread.
"""

from collections.abc import Iterator, Mapping, Sequence
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from omidbfs.cli.options import session_of, source_options
from omidbfs.cli.selection import cohort_argument, json_option, opened_view, selected_by

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from omidbfs.facets import Facet

_LONGEST = 12
"""The most values of a facet that a terminal shows without ``--all``."""
_WIDEST_VALUE = 48
_BAR = (8, 40)
"""The narrowest and the widest bar, in characters."""
_INDENT, _GAP = 2, 2

Counted = Sequence[tuple[str, int]]


@click.command()
@source_options
@cohort_argument
@json_option
@click.option("--all", is_flag=True, help="Show every value of long lists on a terminal too.")
def facets(source: Path, cohort: str, json: bool, all: bool, **options: Any) -> None:
    """Show the facets of COHORT, their values and numbers of images."""
    from omidbfs.facets import Kind

    view = opened_view(session_of(source, options), options)
    selected = selected_by(view, cohort)
    known = [facet for facet in view.index.registry.facets if facet.kind is not Kind.NAME]
    counted = {facet.name: view.cohorts.counts(selected, facet) for facet in known}
    if json:
        click.echo(dumps({name: dict(values) for name, values in counted.items()}, indent=2))
        return
    from rich.console import Console

    console = Console(highlight=False)
    if console.is_terminal:
        images = len(view.cohorts.rows(selected))
        _print_table(console, _in_order(known), counted, images, None if all else _LONGEST)
        return
    for line in _lines({facet.name: counted[facet.name] for facet in _in_order(known)}):
        click.echo(line)


def _in_order(known: "Sequence[Facet]") -> "list[Facet]":
    """Return facets in order of their levels, from the client down to the file."""
    from omidbfs.facets import Level

    return sorted(known, key=lambda facet: list(Level).index(facet.level))


def _lines(counted: Mapping[str, Counted]) -> Iterator[str]:
    """Yield a line for each value: its path on the drive and its number of images."""
    rows = [(f"by-{name}/{value}", str(images)) for name, values in counted.items() for value, images in values]
    path, number = (max((len(row[column]) for row in rows), default=0) for column in (0, 1))
    return (f"{row[0]:<{path}}  {row[1]:>{number}}" for row in rows)


def _print_table(
    console: "Console", known: "Sequence[Facet]", counted: Mapping[str, Counted], total: int, longest: int | None
) -> None:
    from rich.padding import Padding
    from rich.table import Column, Table
    from rich.text import Text

    shown = {facet.name: _cut(counted[facet.name], longest) for facet in known}
    values = [value for pairs, _ in shown.values() for value, _ in pairs]
    numbers = max(len("images"), len(f"{total:,}"))
    fixed = _INDENT + _GAP * 3 + numbers + len("100 %")
    value_width = max(min(max(map(len, values), default=0), console.width - fixed - _BAR[0], _WIDEST_VALUE), 5)
    bar = max(min(console.width - fixed - value_width, _BAR[1]), 0)
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
        for value, images in pairs:
            name = value if len(value) <= value_width else f"{value[: value_width - 3]}..."
            part = _bar(images, total, bar, ascii_only=console.options.ascii_only)
            table.add_row(Text(name), f"{images:,}", share(images, total), part)
        console.print(Text(f"by-{facet.name}", "bold"), no_wrap=True, overflow="crop")
        console.print(Padding.indent(table, _INDENT), no_wrap=True, crop=True)
        if left:
            more = Text(f"and {left} more: --all", "dim")
            console.print(Padding.indent(more, _INDENT), no_wrap=True, overflow="crop")


def _cut(pairs: Counted, longest: int | None) -> tuple[Counted, int]:
    """Return the most frequent values in their original order, and the number of values left out."""
    if longest is None or len(pairs) <= longest:
        return pairs, 0
    kept = sorted(pairs, key=lambda pair: -pair[1])[: longest - 1]
    return [pair for pair in pairs if pair in kept], len(pairs) - len(kept)


def share(images: int, total: int) -> str:
    """Return the rounded share of a total in per cent. Only no images are 0 %, and only all images are 100 %."""
    rounded = (200 * images + total) // (2 * total) if total else 0
    if rounded == 0 and images:
        return "<1 %"
    return ">99 %" if rounded == 100 and images < total else f"{rounded} %"


def _bar(images: int, total: int, width: int, *, ascii_only: bool) -> "RenderableType":
    """Return a bar for ``images`` of ``total``; a bar of all images has ``width`` characters."""
    from rich.bar import Bar

    if ascii_only:
        return "#" * round(images / max(total, 1) * width)
    return Bar(max(total, 1), 0, images, width=width)
