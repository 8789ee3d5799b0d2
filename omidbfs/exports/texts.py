"""``summary.json`` and ``paths.txt``: what a cohort holds, in numbers and as a list of files."""

from collections.abc import Iterator

import numpy as np
import orjson

from omidbfs.cohorts.cohort import Cohort, Cohorts
from omidbfs.exports.fields import pages, paths
from omidbfs.facets import Kind, Level
from omidbfs.index.columns import DCM, JSON

_COUNTED = (Level.CLIENT, Level.EPISODE, Level.STUDY, Level.IMAGE, Level.MARK)


def summary(cohorts: Cohorts, cohort: Cohort, title: str) -> Iterator[bytes]:
    """Yield ``summary.json`` of a cohort: clients, episodes, studies, images, files, marks, counts per facet."""
    index, rows = cohorts.index, cohorts.row_array(cohort)
    files = {
        name: int(np.count_nonzero(index.files[kind].access[rows])) if cohort.files[kind] else 0
        for kind, name in ((DCM, "dcm"), (JSON, "json"))
    }
    size = sum(int(index.files[kind].size[rows].sum()) for kind in (DCM, JSON) if cohort.files[kind])
    counted = [facet for facet in index.registry.facets if facet.kind is not Kind.NAME]
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


def path_list(cohorts: Cohorts, cohort: Cohort) -> Iterator[bytes]:
    """Yield ``paths.txt`` of a cohort: the path of each of its files relative to the mount, one a line."""
    index, shown = cohorts.index, [kind for kind in (DCM, JSON) if cohort.files[kind]]
    for rows in pages(cohorts.row_array(cohort)):
        pairs = zip(*(paths(index, rows, kind) for kind in shown), strict=True)
        yield b"".join(path + b"\n" for pair in pairs for path in pair if path)
