"""``omidbfs report``: writes a page about one cohort or several, with tables and plots. The command line uses it,
in the main thread.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from omidbfs.base.errors import UserError
from omidbfs.base.version import installed_version
from omidbfs.base.words import counted, moment
from omidbfs.cli.command import command
from omidbfs.cli.complete import complete_cohort
from omidbfs.cli.options import PATH, cohort_on_drive, session_of, source_options, warn
from omidbfs.cli.selection import selected_by, steps_to, stored_and_age

if TYPE_CHECKING:
    from omidbfs.cohorts.steps import Step
    from omidbfs.cohorts.tabulated import Table
    from omidbfs.index.columns import Index
    from omidbfs.report.page import Definition
    from omidbfs.serving.session import Session

_IDENTIFIERS = ("by-client", "by-study", "by-episode")


def _on_drive(ctx: click.Context, parameter: click.Parameter, cohorts: tuple[str, ...]) -> tuple[str, ...]:
    """Return each COHORT as a path from the root of the drive."""
    return tuple(cohort_on_drive(ctx, parameter, one) for one in cohorts or ("",))


@command(example="omidbfs report db by-outcome/malignant -o malignant.html")
@source_options
@click.argument("cohorts", metavar="[COHORT]...", nargs=-1, callback=_on_drive, shell_complete=complete_cohort)
@click.option(
    "--output", "-o", type=PATH, metavar="FILE", required=True, help="The HTML file. - is standard output."
)
@click.option(
    "--tables",
    type=PATH,
    metavar="DIRECTORY",
    help="Also write each table into this directory, as CSV and as LaTeX.",
)
def report(source: Path, cohorts: tuple[str, ...], output: Path, tables: Path | None, **options: Any) -> None:
    """Write an HTML page about COHORT, with tables and plots. With several, compare them with the first.

    The page covers the exclusion flow, units, outcomes, lesions, views, devices, ages, prior intervals, marks and
    missing data. With several cohorts, it has them side by side, with standardised differences. It names no
    client, study or image, shows no image, and loads nothing from elsewhere.
    """
    if output.suffix.lower() not in ("", ".html"):
        raise UserError(
            "a report is HTML",
            f"name it {output.with_suffix('.html')}, and a browser prints that as PDF",
            place=output,
        )
    if find_spec("matplotlib") is None:  # check before the command builds an index
        raise UserError("not installed", "pip install 'omidbfs[report]'", place="report")
    session = session_of(source, options)
    stored, age = stored_and_age(session, options)
    view, paths = session.view(stored), cohorts or ("",)
    selected = [selected_by(view, path) for path in paths]
    from omidbfs.cli.output import write
    from omidbfs.report.page import Definition

    definitions = [
        Definition(definition(path), [_without_names(step) for step in steps_to(session, stored, view, path)])
        for path in paths
    ]
    facts, made = _facts(session, view.index), moment(time.time())
    if len(paths) == 1:
        from omidbfs.report.figures import figures
        from omidbfs.report.page import page

        found = figures(view.cohorts, selected[0])
        text = page(found, definitions[0], facts, installed_version(), made)
        written, differences = [*_flows(definitions), *found.tables.values()], []
    else:
        from omidbfs.report.compared import compared
        from omidbfs.report.page import page_of_several

        units, comparisons = compared(view.cohorts, selected)
        text = page_of_several(units, comparisons, definitions, facts, installed_version(), made)
        written = [units, *_flows(definitions, units.columns), *(one.table for one in comparisons)]
        differences = [(one.table.title, *one.texts(), one.table.unit) for one in comparisons]
    if tables is not None:
        _write_tables(written, differences, tables)
    write([text.encode()], output)
    if output != Path("-"):
        images = [counted(len(view.cohorts.rows(one)), "image") for one in selected]
        click.echo(f"{output}: {', '.join(images)}", err=True)
    if age:
        warn(age)


def _flows(definitions: "Sequence[Definition]", names: Sequence[str] = ("",)) -> "list[Table]":
    """Return the exclusion flow of each cohort of which something was taken."""
    return [one.flow(name) for one, name in zip(definitions, names, strict=False) if len(one.steps) > 1]


def _write_tables(tables: "Sequence[Table]", differences: Sequence[Sequence[str]], directory: Path) -> None:
    """Write each table as CSV and LaTeX into a directory, which is made for its owner only if it is not there.

    ``differences`` are rows of standardised differences: a title, one text for each cohort but the first, a unit.
    """
    from omidbfs.cli.output import write
    from omidbfs.exports.counts import as_csv, as_latex, csv_of, latex_of
    from omidbfs.report.compared import letters

    if not directory.is_dir():
        directory.mkdir(0o700)
    texts = {f"{table.key}.csv": as_csv(table) for table in tables}
    texts |= {f"{table.key}.tex": as_latex(table) for table in tables}
    if differences:
        head = ("facet", *letters(len(differences[0]) - 1)[1:], "unit")
        texts["differences.csv"] = csv_of([head, *differences])
        texts["differences.tex"] = latex_of("Standardised differences from cohort A.", head, differences)
    for name, text in texts.items():
        write([text.encode()], directory / name)


def _without_names(step: "Step") -> "Step":
    """Return a step whose part names no client, study or episode."""
    return replace(step, part=replace(step.part, path=definition(step.part.path)))


def definition(cohort: str) -> str:
    """Return the path of a cohort. Replace names of clients, studies and episodes by their number."""
    shown, facet = [], ""
    for word in (word for word in cohort.split("/") if word):
        is_known = word.startswith(("by-", "as-")) or word in ("all", "cohorts")
        if facet in _IDENTIFIERS or not (facet or is_known):
            # An identifier, or a directory in the real tree of a client.
            shown.append(_counted(word, facet.removeprefix("by-") or "study"))
            facet = ""
        else:
            shown.append(word)
            facet = word if not facet and word != "all" and not word.startswith("as-") else ""
    return "/".join(shown)


def _counted(names: str, what: str) -> str:
    number = names.count(",") + 1
    return f"{'not-' * names.startswith('not-')}({counted(number, what)})"


def _facts(session: "Session", index: "Index") -> dict[str, str]:
    """Return the size of the database, its restriction to a list, and the options of classification."""
    from omidbfs.database.file_kinds import DCM, JSON

    windows = session.classification.windows
    asked = (
        ("priors of interval cancers", windows.ci_prior),
        ("priors of other cancers", windows.cancer_prior),
        ("follow-up of normal episodes", windows.normal_follow_up),
        ("follow-up of benign episodes", windows.benign_follow_up),
    )
    words = [f"{what} {counted(months, 'month')}" for what, months in asked if months is not None]
    files = [int((files.access != 0).sum()) for files in index.files]
    seen = int((index.client_rows[1:] > index.client_rows[:-1]).sum())
    database = (
        f"{counted(len(index.clients), 'client', ',')}, {seen:,} of them with images; "
        f"{counted(len(index.studies), 'study', ',')}; {counted(len(index), 'image', ',')}; "
        f"{counted(files[DCM], 'DICOM file', ',')} and {counted(files[JSON], 'JSON file', ',')} of images"
    )
    if session.only is not None:
        database = f"the {counted(len(session.only), 'client', ',')} of a list: {database}"
    facts = {"Database": database}
    facts |= {"Windows": ", ".join(words) or "none: no limit for priors, no follow-up asked for"}
    facts["Links"] = "all (--link-all)" if session.classification.link_all else "unique ones only"
    return facts
