"""``omidbfs table``: counts a cohort by the values of two facets. The command line uses it, in the main thread."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from omidbfs.cli.command import command
from omidbfs.cli.options import PATH, session_of, source_options
from omidbfs.cli.selection import UNITS, asked, cohort_argument, facet_named, level_of, selected_by

if TYPE_CHECKING:
    from omidbfs.cohorts.tabulated import Table
    from omidbfs.view.view import View


@command(example="omidbfs table db by-outcome/malignant --rows outcome --columns manufacturer")
@source_options
@cohort_argument
@click.option("--rows", metavar="FACET", required=True, help="The facet whose values are the rows.")
@click.option("--columns", metavar="FACET", required=True, help="The facet whose values are the columns.")
@click.option("--of", type=click.Choice(UNITS), default="images", show_default=True, help="What to count.")
@click.option(
    "--format",
    type=click.Choice(["text", "csv", "markdown", "latex", "json"]),
    help="The form of the table.  [default: the name of FILE decides, else text]",
)
@click.option("--output", "-o", type=PATH, metavar="FILE", help="The file to write.  [default: standard output]")
def table(
    source: Path,
    cohort: str,
    rows: str,
    columns: str,
    of: str,
    format: str | None,
    output: Path | None,
    **options: Any,
) -> None:
    """Count COHORT by the values of two facets, with totals and shares.

    A client, episode or study with several values is counted in each of them, and once in the totals. Shares are
    of the total of each column, rounded to one decimal.
    """
    from omidbfs.cli.output import write

    def ask(view: "View") -> "Table":
        from omidbfs.cohorts.tabulated import crossed
        from omidbfs.cohorts.units import Selected

        facets = facet_named(view, rows, "--rows"), facet_named(view, columns, "--columns")
        return crossed(Selected(view.cohorts, selected_by(view, cohort)), *facets, level_of(of))

    found = asked(session_of(source, options), options, ask)
    from omidbfs.exports.counts import WRITERS

    by_name = {".csv": "csv", ".md": "markdown", ".tex": "latex", ".json": "json"}
    chosen = format or by_name.get(output.suffix.lower() if output is not None else "", "text")
    write([WRITERS[chosen](found).encode()], output)
