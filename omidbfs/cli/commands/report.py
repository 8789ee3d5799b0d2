"""``omidbfs report``: writes a page about a cohort, with tables and plots. The command line uses it, in the
main thread.
"""

import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from omidbfs import __version__
from omidbfs.base.errors import UserError
from omidbfs.base.words import counted
from omidbfs.cli.options import PATH, session_of, source_options, warn
from omidbfs.cli.selection import cohort_argument, selected_by, view_and_age

if TYPE_CHECKING:
    from omidbfs.index.columns import Index
    from omidbfs.serving.session import Session

_IDENTIFIERS = ("by-client", "by-study", "by-episode")


@click.command()
@source_options
@cohort_argument
@click.option(
    "--output", "-o", type=PATH, metavar="FILE", required=True, help="The HTML file. - is standard output."
)
def report(source: Path, cohort: str, output: Path, **options: Any) -> None:
    """Write an HTML page about COHORT, with tables and plots.

    The page covers outcomes, views, units, ages, marks and missing data. It names no client, study or image, and
    loads nothing from elsewhere.
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
    view, age = view_and_age(session, options)
    selected = selected_by(view, cohort)
    from omidbfs.cli.output import write
    from omidbfs.report.figures import figures
    from omidbfs.report.page import page

    made = time.strftime("%Y-%m-%d %H:%M")
    text = page(
        figures(view.cohorts, selected), _facts(session, view.index), definition(cohort), __version__, made
    )
    write([text.encode()], output)
    if output != Path("-"):
        click.echo(f"{output}: {counted(len(view.cohorts.rows(selected)), 'image')}", err=True)
    if age:
        warn(age)


def definition(cohort: str) -> str:
    """Return the path of a cohort. Replace names of clients, studies and episodes by their number."""
    shown, facet = [], ""
    for word in (word for word in cohort.split("/") if word):
        if facet in _IDENTIFIERS or (not facet and not word.startswith("by-") and word not in ("all", "cohorts")):
            # An identifier, or a directory in the real tree of a client.
            shown.append(_counted(word, facet.removeprefix("by-") or "study"))
            facet = ""
        else:
            shown.append(word)
            facet = word if not facet and word != "all" else ""
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
