"""``omidbfs geometry``: finds the breast in every image. The command line uses it, in the main thread."""

import csv
import sys
from collections import Counter
from importlib.util import find_spec
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from omidbfs.base.errors import UserError
from omidbfs.base.words import counted
from omidbfs.cli.command import command
from omidbfs.cli.options import session_of, source_options, warn
from omidbfs.cli.output import aligned
from omidbfs.cli.selection import cohort_argument, json_option, opened_view, selected_by

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from omidbfs.index.columns import Index
    from omidbfs.index.measured import Measured


@command(example="omidbfs geometry db")
@source_options
@json_option
@cohort_argument
@click.pass_context
def geometry(ctx: click.Context, /, source: Path, cohort: str, json: bool, **options: Any) -> None:
    """Find the breast in the images of COHORT that are new or have changed. Slow.

    The bounding box, the side of the chest wall and the share of the image are kept beside the index. Interrupt it
    at any time: what it has found is kept. A drive takes it over with its next refresh.

    The exit status is 1 if an image cannot be measured. Such images are listed.
    """
    if find_spec("scipy") is None:
        raise UserError("scipy is not installed", "pip install 'omidbfs[pixels]', on the workers too", "geometry")
    import numpy as np

    from omidbfs.index.executors import Work, executor_for
    from omidbfs.index.measured import keys_of, place_of
    from omidbfs.index.saved import source_fingerprint
    from omidbfs.pixels.check import with_dicom
    from omidbfs.pixels.survey import Survey

    session = session_of(source, options)
    known = session.measured(warn)  # before the index, so that it has no image that the index does not have yet
    view = opened_view(session, {**options, "verify_first": True})
    found_at = np.sort(np.asarray(view.cohorts.rows(selected_by(view, cohort)), np.uint32))
    index, rows = view.index, with_dicom(view.index, found_at)
    fingerprint = source_fingerprint(session.source)
    survey = Survey(place_of(session.index_path), fingerprint, known)
    missing = survey.missing(index, rows)
    if len(missing):
        survey.save()  # a place that cannot be written to is no use after hours
        with session.progress() as progress, executor_for(session.executor, session.workers) as executor:
            survey.run(session.source, index, missing, Work(executor, session.workers, progress))
    gone = np.setdiff1d(known.keys, keys_of(index)) if session.only is None else known.keys[:0]
    if len(gone):
        survey.save(gone=gone)
    failed = _failed(index, rows, survey.known) | dict(survey.failed)
    _report(index, rows, len(missing), failed, survey.known, json)
    ctx.exit(1 if failed else 0)


def _failed(index: "Index", rows: "NDArray[np.integer]", known: "Measured") -> dict[int, str]:
    """Return row -> kind of the images whose pixels could not be measured, as the records say."""
    pairs = zip(rows.tolist(), known.places(index, rows).tolist(), strict=True)
    kinds = known.kind.tolist()
    return {row: known.kinds[kinds[place]] for row, place in pairs if place >= 0 and kinds[place]}


def _report(
    index: "Index",
    rows: "NDArray[np.integer]",
    computed: int,
    failed: dict[int, str],
    known: "Measured",
    json: bool,
) -> None:
    """Print the images that failed, and what was done."""
    from omidbfs.index.measured import SIDES

    places = known.places(index, rows)
    boxes = contradictions = 0
    for row, place in zip(rows.tolist(), places.tolist(), strict=True):
        if place >= 0:
            side = SIDES[known.side[place]]
            boxes += bool(known.box[place].any())
            contradictions += None not in (side, index.chest_wall_side(row)) and side != index.chest_wall_side(row)
    kinds = Counter(failed.values()).most_common()
    if json:
        numbers = {"images": len(rows), "measured": computed, "up_to_date": len(rows) - computed}
        of_pixels = {"with_breast": boxes, "chest_wall_contradicts": contradictions, "failed": dict(kinds)}
        click.echo(dumps(numbers | of_pixels))
        return
    if failed:
        table = csv.writer(sys.stdout, lineterminator="\n")
        table.writerow(("image", "kind"))
        table.writerows((index.images[row].decode(), kind) for row, kind in sorted(failed.items()))
        sys.stdout.flush()
    parts = [
        counted(len(rows), "image"),
        f"{computed or 'none'} measured",
        f"{len(rows) - computed or 'none'} up to date",
        f"{boxes or 'none'} with a breast",
        f"{contradictions or 'none'} with the chest wall at the other side",
        f"{len(failed) or 'none'} that cannot be measured",
    ]
    click.echo(", ".join(parts), err=True)
    for line in aligned([(number, kind) for kind, number in kinds], 8):
        click.echo(line, err=True)
