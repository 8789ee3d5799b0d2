"""``omidbfs check``: the problems of a source. The command line uses it, in the main thread."""

import csv
import sys
from collections import Counter
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from omidbfs.base.errors import UserError
from omidbfs.base.words import counted
from omidbfs.cli.command import command
from omidbfs.cli.options import session_of, source_options
from omidbfs.cli.output import aligned
from omidbfs.cli.selection import cohort_argument, json_option, opened_view, selected_by

if TYPE_CHECKING:
    from omidbfs.database.problems import Problem
    from omidbfs.serving.session import Session
    from omidbfs.view.view import View


@command(example="omidbfs check db")
@source_options
@json_option
@click.option("--dicom", is_flag=True, help="Also compare every DICOM header with its JSON. Slow.")
@click.option("--pixels", is_flag=True, help="Decode every image of COHORT, and list only those that fail. Slow.")
@cohort_argument
@click.pass_context
def check(
    ctx: click.Context, /, source: Path, cohort: str, json: bool, dicom: bool, pixels: bool, **options: Any
) -> None:
    """List every problem of SOURCE as it is now. The exit status is 1 if there is a problem."""
    if dicom and pixels:
        raise UserError("--dicom and --pixels list different things", "run both, one after the other")
    if cohort and not pixels:
        raise UserError("only --pixels takes a COHORT", "problems are those of the whole source", cohort)
    session = session_of(source, options)
    view = opened_view(session, {**options, "verify_first": True})  # else it would list problems that are fixed
    if pixels:
        ctx.exit(1 if _list_undecodable(session, view, cohort, json) else 0)
    problems = list(view.index.problems)
    if dicom:
        from omidbfs.index.check import header_problems

        problems = sorted({*problems, *header_problems(session.source, view.index, problems)})
    for problem in problems:
        click.echo(_problem_line(problem, json))
    if not json:
        from omidbfs.database.problems import KINDS

        images, clients = len(view.index), len(view.index.clients)
        numbers = counted(images, "image"), counted(clients, "client"), counted(len(problems), "problem")
        click.echo("{} of {}, {}".format(*numbers), err=True)
        kinds = Counter(problem.kind for problem in problems).most_common()
        for line in aligned([(number, f"{kind}: {KINDS[kind]}") for kind, number in kinds], 8):
            click.echo(line, err=True)
    ctx.exit(1 if problems else 0)


def _list_undecodable(session: "Session", view: "View", path: str, json: bool) -> int:
    """Print a table of the images that cannot be decoded, for ``exclude`` of a cohort, and return their number."""
    import numpy as np

    from omidbfs.index.executors import Work, executor_for
    from omidbfs.pixels.check import undecodable, with_dicom

    found_at = np.sort(np.asarray(view.cohorts.rows(selected_by(view, path)), np.uint32))
    rows = with_dicom(view.index, found_at)
    kinds: Counter[str] = Counter()
    with session.progress() as progress, executor_for(session.executor, session.workers) as executor:
        work = Work(executor, session.workers, progress)
        table = csv.writer(sys.stdout, lineterminator="\n")
        if not json:
            table.writerow(("image", "kind"))
        for found in undecodable(session.source, view.index, rows, work):
            kinds[found.kind] += 1
            click.echo(dumps(found._asdict())) if json else table.writerow((found.image, found.kind))
    if not json:
        failed = kinds.total()
        click.echo(f"{counted(len(rows), 'image')}, {failed or 'none'} that cannot be decoded", err=True)
        for kind, number in kinds.most_common():
            click.echo(f"{number:8}  {kind}", err=True)
    return kinds.total()


def _problem_line(problem: "Problem", json: bool) -> str:
    from msgspec import to_builtins

    if json:
        return dumps(to_builtins(problem))
    return f"{problem.file}: {problem.kind}" + (f": {problem.detail}" if problem.detail else "")
