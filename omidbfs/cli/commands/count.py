"""``omidbfs count``: counts the images, clients, episodes and studies of a cohort. The command line uses it, in
the main thread.
"""

import sys
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from omidbfs.cli.command import command
from omidbfs.cli.options import session_of, source_options, warn
from omidbfs.cli.selection import (
    UNITS,
    asked,
    cohort_argument,
    json_option,
    level_of,
    selected_by,
    steps_to,
    stored_and_age,
)

if TYPE_CHECKING:
    from omidbfs.view.view import View


@command(example="omidbfs count db by-outcome/malignant/by-view/MLO")
@source_options
@cohort_argument
@click.option("--of", type=click.Choice(UNITS), help="What to count.  [default: images]")
@click.option("--all", is_flag=True, help="Count clients, episodes, studies and images.")
@click.option("--steps", is_flag=True, help="Show what each part of the definition of COHORT leaves and takes.")
@json_option
def count(source: Path, cohort: str, of: str | None, all: bool, steps: bool, json: bool, **options: Any) -> None:
    """Count the images of COHORT, or its clients, episodes or studies.

    A client, episode or study is counted if at least one of its images is in COHORT. With --json, the command
    counts all four, unless --of names one.
    """
    if sum((of is not None, all, steps)) > 1:
        raise click.UsageError("--of, --all and --steps exclude each other")
    if steps:
        _show_steps(source, cohort, json, options)
        return
    units = (of,) if of is not None else UNITS if all or json else ("images",)

    def ask(view: "View") -> dict[str, int]:
        selected = selected_by(view, cohort)
        return {unit: view.cohorts.count(selected, level_of(unit)) for unit in units}

    session = session_of(source, options)
    counts = asked(session, options, ask)
    if json:
        click.echo(dumps(counts))
    elif all:
        width = len(str(counts["images"]))
        for unit, number in counts.items():
            click.echo(f"{unit:<8}  {number:>{width}}")
    else:
        click.echo(counts[units[0]])
    if not any(counts.values()) and sys.stderr.isatty():
        from omidbfs.cohorts.steps import why_empty

        stored, _ = stored_and_age(session, options)
        if why := why_empty(steps_to(session, stored, session.view(stored), cohort)):
            warn(f"{why}: --steps shows more")


def _show_steps(source: Path, cohort: str, json: bool, options: dict[str, Any]) -> None:
    from omidbfs.cohorts.steps import as_lines, as_objects, why_empty

    session = session_of(source, options)
    stored, age = stored_and_age(session, options)
    view = session.view(stored)
    selected_by(view, cohort)
    steps = steps_to(session, stored, view, cohort)
    if json:
        click.echo(dumps(as_objects(steps), indent=2))
    else:
        for line in as_lines(steps):
            click.echo(line)
        if why := why_empty(steps):
            click.echo(f"\nThe cohort is empty: {why}.")
    if age and sys.stderr.isatty():
        warn(age)
