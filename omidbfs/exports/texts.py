"""``summary.json`` and ``paths.txt``: the counts of a cohort, and a list of its files.

``formats`` uses it. It is pure, for any thread.
"""

from collections.abc import Iterator

import numpy as np
import orjson

from omidbfs.cohorts.cohort import Cohort, Cohorts
from omidbfs.database.file_kinds import FILE_KINDS
from omidbfs.exports.fields import pages
from omidbfs.exports.paths import Paths, on_the_drive
from omidbfs.facets import Kind, Level

_COUNTED = (Level.CLIENT, Level.EPISODE, Level.STUDY, Level.IMAGE, Level.MARK)


def summary(cohorts: Cohorts, cohort: Cohort, title: str) -> Iterator[bytes]:
    """Yield ``summary.json`` of a cohort: the counts of each level, of files, and of the values of each facet."""
    index, rows = cohorts.index, cohorts.rows(cohort)
    files = {
        kind.name: int(np.count_nonzero(index.files[kind].access[rows])) if kind in cohort.files else 0
        for kind in FILE_KINDS
    }
    size = sum(int(index.files[kind].size[rows].sum()) for kind in cohort.files)
    counted = [facet for facet in cohorts.facets if facet.kind is not Kind.NAME]
    yield orjson.dumps(
        {
            "cohort": title,
            **{level.plural: cohorts.count(cohort, level) for level in _COUNTED},
            "files": files,
            "bytes": size,
            "facets": {facet.name: dict(cohorts.counts(cohort, facet)) for facet in counted},
        },
        option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE,
    )


def path_list(cohorts: Cohorts, cohort: Cohort, paths: Paths = on_the_drive) -> Iterator[bytes]:
    """Yield ``paths.txt`` of a cohort: the paths of its files, one in each line."""
    index = cohorts.index
    for rows in pages(cohorts.rows(cohort)):
        pairs = zip(*(paths(index, kind, rows) for kind in cohort.files), strict=True)
        yield b"".join(path + b"\n" for pair in pairs for path in pair if path)
