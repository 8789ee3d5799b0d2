"""What a mount says of itself: ``README.txt`` and the texts in ``.omidbfs/``.

Used by sessions, and by the refresh of a drive, which renews its status. Pure functions: any thread may call them.
"""

import os
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import orjson

from omidbfs import __version__
from omidbfs.base.names import printable
from omidbfs.cohorts.cohort import EVERYTHING
from omidbfs.database.file_kinds import FILE_KINDS
from omidbfs.facets import Facet, Kind
from omidbfs.index.classification import Classification
from omidbfs.view.root import Root

_TEXTS = 4
"""How many texts a drive adds."""

_README = """\
This drive shows an OMI-DB grouped by attributes. The path is the query.

  all/                          every image, as pairs <image>.dcm and <image>.json
  by-client/<client>/           the real tree of one client
  by-<facet>/<value>/           the images that have this value
  cohorts/<name>/               the cohorts of the configuration, where there are any
  .omidbfs/                     status.json, facets.json, problems.jsonl

Inside every directory of images each by-<facet> can be entered again, though it is not listed (find and
some globs find nothing there; `omidbfs ls -R SOURCE COHORT` prints the paths):

  ls by-outcome/malignant/by-view/MLO/by-laterality/L/*.dcm

  by-view/CC,MLO                either
  by-outcome/not-normal         neither this value nor any other named after the comma
  by-age/50-69  by-year/2012-   from, to
  by-outcome/CI                 the database's own codes are understood too

Nor is .omidbfs/, which every such directory has too: index.csv, index.parquet, coco.json, summary.json, paths.txt.

Everything is read-only, and each file is the untouched original. A file has one inode under all its paths.

Facets, described in .omidbfs/facets.json
"""


def generated_texts(
    root: Root,
    source: Sequence[str | None],
    classification: Classification,
    state: Mapping[str, object] | None = None,
) -> Mapping[str, bytes | memoryview]:
    """Return name -> content of the generated texts of a drive; ``state`` joins its status."""
    index = root.cohorts.index
    return LazyTexts(
        {
            "README.txt": lambda: readme(index.registry.facets).encode(),
            "status.json": lambda: status_text(root, source, classification, state or {}),
            "facets.json": lambda: _lines([facet_counts(root)], indent=True),
            "problems.jsonl": lambda: index.problem_lines,
        }
    )


class LazyTexts(Mapping[str, bytes | memoryview]):
    """Texts by name, each made when it is looked up: counting the values of every facet takes 0.1 s."""

    def __init__(self, makers: Mapping[str, Callable[[], bytes | memoryview]]) -> None:
        self._makers = makers

    def __getitem__(self, name: str) -> bytes | memoryview:
        return self._makers[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


def status_text(
    root: Root, source: Sequence[str | None], classification: Classification, state: Mapping[str, object]
) -> bytes:
    """Return the content of ``status.json``."""
    return _lines([{**status(root, source, classification), **state}], indent=True)


def renewed_status(text: bytes | memoryview, state: Mapping[str, object]) -> bytes:
    """Return the content of ``status.json`` with another state: what is served is not counted again."""
    return _lines([{**orjson.loads(text), **state}], indent=True)


def readme(facets: Sequence[Facet]) -> str:
    """Return the text that explains the drive, and names its facets by level, in one screen."""
    by_level: dict[str, list[str]] = {}
    for facet in facets:
        by_level.setdefault(facet.level, []).append(f"by-{facet.name}")
    return _README + "".join(
        textwrap.fill(
            " ".join(names),
            100,
            initial_indent=f"  {level:<9}",
            subsequent_indent=" " * 11,
            break_on_hyphens=False,
        )
        + "\n"
        for level, names in by_level.items()
    )


def status(root: Root, source: Sequence[str | None], classification: Classification) -> dict[str, object]:
    """Return what is being served: source, counts, options, problems by kind."""
    index = root.cohorts.index
    windows = classification.windows
    return {
        "version": __version__,
        "pid": os.getpid(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "images_directory": source[0] and printable(source[0]),
        "data_directory": source[1] and printable(source[1]),
        "clients": len(index.clients),
        "studies": len(index.studies),
        "images": len(index),
        **{f"{kind.name}_files": int(np.count_nonzero(index.files[kind].access)) for kind in FILE_KINDS},
        "listed_files": root.listed_files() + _TEXTS,
        "cohorts": {name: len(root.cohorts.rows(cohort)) for name, cohort in root.named.items()},
        "options": {
            "num_months_ci_prior": windows.ci_prior,
            "num_months_cancer_prior": windows.cancer_prior,
            "num_months_normal_follow_up": windows.normal_follow_up,
            "num_months_benign_follow_up": windows.benign_follow_up,
            "link_all": classification.link_all,
        },
        "problems": index.problem_kinds(),
    }


def facet_counts(root: Root) -> dict[str, object]:
    """Return for each facet its description, level and source, and its values with their numbers of images.

    Clients, studies and episodes are counted, not listed.
    """
    cohorts = root.cohorts
    return {
        facet.name: {
            "description": facet.description,
            "level": facet.level,
            "source": facet.source,
            "several": facet.several,
            **(
                {"count": cohorts.levels[facet.level].total()}
                if facet.kind is Kind.NAME
                else {"values": dict(cohorts.counts(EVERYTHING, facet))}
            ),
        }
        for facet in cohorts.index.registry.facets
    }


def _lines(objects: Sequence[object], *, indent: bool = False) -> bytes:
    option = orjson.OPT_APPEND_NEWLINE | (orjson.OPT_INDENT_2 if indent else 0)
    return b"".join(orjson.dumps(item, option=option) for item in objects)
