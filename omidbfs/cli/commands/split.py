"""``omidbfs split``: divides the clients of a cohort into parts. The command line uses it, in the main thread."""

import csv
import io
import re
from collections.abc import Iterator, Mapping
from fractions import Fraction
from math import lcm
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from omidbfs.base.errors import UserError
from omidbfs.base.words import counted, meant
from omidbfs.cli.command import command
from omidbfs.cli.options import PATH, session_of, source_options
from omidbfs.cli.selection import asked, cohort_argument, facet_named, selected_by

if TYPE_CHECKING:
    from omidbfs.cohorts.splits import Split
    from omidbfs.facets import Facet
    from omidbfs.view.view import View

_PART = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_LARGEST_WEIGHT = 1_000_000
_HEADER = ("client", "part")


def _parts(context: click.Context, parameter: click.Parameter, value: str) -> dict[str, int]:
    """Return part -> weight for ``train=70,val=10,test=20``: whole numbers in the same proportions."""
    weights: dict[str, Fraction] = {}
    for text in value.split(","):
        name, _, number = (word.strip() for word in text.partition("="))
        if not _PART.fullmatch(name):
            raise click.BadParameter(f"{name or 'nothing'} is no name of a part: use a-z, 0-9 and hyphens")
        if name in weights:
            raise click.BadParameter(f"{name} is there twice")
        if not re.fullmatch(r"[0-9]{1,7}(\.[0-9]{1,6})?", number) or not 0 < Fraction(number) <= _LARGEST_WEIGHT:
            raise click.BadParameter(f"{name} needs a positive number, as in {name}=70")
        weights[name] = Fraction(number)
    if len(weights) == 1:
        raise click.BadParameter("name two parts or more, as in train=70,val=10,test=20")
    whole = lcm(*(weight.denominator for weight in weights.values()))
    return {name: int(weight * whole) for name, weight in weights.items()}


@command(example="omidbfs split db by-intent/presentation --parts train=80,test=20 -o split.csv")
@source_options
@cohort_argument
@click.option(
    "--parts",
    callback=_parts,
    required=True,
    metavar="NAME=SHARE,...",
    help="The parts and their shares, such as train=70,val=10,test=20.",
)
@click.option(
    "--stratify", default="", metavar="NAMES", help="Keep the shares for each value of these facets, as a,b,c."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed chooses other clients.")
@click.option(
    "--extend",
    type=PATH,
    metavar="FILE",
    help="Keep every client in the part that this earlier split gives, and add the new clients.",
)
@click.option("--output", "-o", type=PATH, metavar="FILE", help="The file to write.  [default: standard output]")
def split(
    source: Path,
    cohort: str,
    parts: dict[str, int],
    stratify: str,
    seed: int,
    extend: Path | None,
    output: Path | None,
    **options: Any,
) -> None:
    """Divide the clients of COHORT into parts, such as train, validation and test, and write them as a table.

    A client is in one part with all images. With --stratify, the stratum of a client is the set of values of its
    images in COHORT, and each part gets its share of each stratum, rounded down or up. The same seed and the same
    clients give the same parts. The table is one that [facets.NAME] csv = "parts.csv" takes as it is.
    """
    from omidbfs.cli.output import STANDARD, write
    from omidbfs.cohorts.splits import split as divided
    from omidbfs.cohorts.splits import strata_of

    def ask(view: "View") -> dict[str, str]:
        facets = [_facet(view, name) for name in stratify.split(",") if name]
        return strata_of(view.cohorts, selected_by(view, cohort), facets)

    strata = asked(session_of(source, options), options, ask)
    earlier = _earlier(extend, parts) if extend is not None else {}
    found = divided(strata, parts, seed, earlier)
    write(_table(found.part_of), output)
    is_to_file = output is not None and output != STANDARD
    for line in _report(found, list(parts), len(found.part_of.keys() - strata.keys())):
        click.echo(line, err=not is_to_file)


def _facet(view: "View", name: str) -> "Facet":
    from omidbfs.facets import Kind

    facet = facet_named(view, name, "--stratify")
    if facet.kind in (Kind.NAME, Kind.FILE, Kind.COHORT):
        raise UserError("its values are identifiers, files or cohorts, and no strata", place=f"by-{facet.name}")
    return facet


def _earlier(path: Path, parts: Mapping[str, int]) -> dict[str, str]:
    """Return the part of each client in an earlier split."""
    from omidbfs.base.definitions import RefusedError
    from omidbfs.facets import Level
    from omidbfs.facets.lists import table

    try:
        level, _, pairs = table(path, "client")
    except RefusedError as refused:
        raise UserError(str(refused), "name a table that omidbfs split wrote") from None
    assert level is Level.CLIENT, "the key is a client"
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(client for client, part in pairs if found[client] != part)
        raise UserError(f"{twice} is in two parts", "name a table that omidbfs split wrote", path)
    if other := sorted({*found.values()} - {*parts}):
        raise UserError(f"has the part {other[0]}, which --parts lacks", meant(other[0], parts), path)
    return found


def _table(part_of: Mapping[str, str]) -> Iterator[bytes]:
    """Yield the table: a header, and a line for each client."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_HEADER)
    writer.writerows(part_of.items())
    yield text.getvalue().encode("utf-8", "surrogateescape")


def _report(found: "Split", parts: list[str], gone: int) -> Iterator[str]:
    """Yield the lines that say how many clients of each stratum are in each part."""
    rows = [(name, *map(str, counts), str(sum(counts))) for name, counts in found.counts.items()]
    totals = [sum(column) for column in zip(*found.counts.values(), strict=True)] or [0] * len(parts)
    rows = [("stratum", *parts, "clients"), *rows, ("all", *map(str, totals), str(sum(totals)))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        yield f"{row[0]:<{widths[0]}}  {'  '.join(cells)}"
    if found.pooled:
        yield f"too small for {len(parts)} parts, and so pooled:"
        for name, size in found.pooled.items():
            yield f"  {name}: {counted(size, 'client')}"
    if gone:
        yield f"kept from the earlier split, and not in this cohort: {counted(gone, 'client')}"
