"""``omidbfs check``: the problems of a source. The command line uses it, in the main thread."""

from collections import Counter
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from omidbfs.base.words import counted
from omidbfs.cli.options import session_of, source_options
from omidbfs.cli.selection import json_option, opened_view

if TYPE_CHECKING:
    from omidbfs.database.problems import Problem


@click.command()
@source_options
@json_option
@click.option("--dicom", is_flag=True, help="Also compare every DICOM header with its JSON. Slow.")
@click.pass_context
def check(ctx: click.Context, /, source: Path, json: bool, dicom: bool, **options: Any) -> None:
    """List every problem of SOURCE as it is now. The exit status is 1 if there is a problem."""
    session = session_of(source, options)
    view = opened_view(session, {**options, "verify_first": True})  # else it would list problems that are fixed
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
        for kind, number in Counter(problem.kind for problem in problems).most_common():
            click.echo(f"{number:8}  {kind}: {KINDS[kind]}", err=True)
    ctx.exit(1 if problems else 0)


def _problem_line(problem: "Problem", json: bool) -> str:
    from msgspec import to_builtins

    if json:
        return dumps(to_builtins(problem))
    return f"{problem.file}: {problem.kind}" + (f": {problem.detail}" if problem.detail else "")
