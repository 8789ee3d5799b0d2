"""The texts with which a drive describes itself: ``README.txt`` and the files in ``.omidbfs/`` of the root.

Used by sessions, and by the refresh of a drive, which renews its status. Pure functions: any thread may call them.
"""

import os
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import orjson

from omidbfs.base.names import printable
from omidbfs.cohorts.cohort import EVERYTHING
from omidbfs.database.file_kinds import FILE_KINDS
from omidbfs.facets import Facet, Kind
from omidbfs.index.classification import Classification
from omidbfs.index.sections import DamagedError
from omidbfs.view.root import Root

_TEXTS = 4
"""The number of texts that a drive adds."""

_README = """\
This drive shows an OMI-DB, grouped by attributes. The path is the query.

  all/                          every image, as two files: <image>.dcm and <image>.json
  by-client/<client>/           one client, with the studies as they are in the database
  by-<facet>/<value>/           the images that have this value
  cohorts/<name>/               the cohorts that the configuration defines, if any
  .omidbfs/                     about the drive: status.json, facets.json, problems.jsonl

To combine conditions, add another by-<facet>. Every directory of images has all facets, but does not list them:

  ls by-outcome/malignant/by-view/MLO/by-laterality/L/*.dcm

Programs such as find see only what is listed; `omidbfs ls -R SOURCE COHORT` prints all paths. A value can also be:

  by-view/CC,MLO                one value or the other
  by-standard-views/complete-4,extra   all four views; complete-4 alone leaves out studies with repeats
  by-outcome/not-normal         every value but this one; further exclusions follow after commas
  by-age/50-69  by-year/2012-   a range, with or without an end
  by-outcome/CI                 a code of the database

Every directory of images also contains .omidbfs/, not listed either. In it are files made from these images:
index.csv, pairs.csv, clients.csv, studies.csv, episodes.csv and marks.csv, also as .parquet; coco.json,
summary.json, paths.txt, manifest.json. cohort.tar holds the images themselves.

Anywhere in a path, as-png shows the images as PNG instead, for programs that do not read DICOM. So do as-png16,
as-tiff and as-npy (stored values), as-png-1024x768 (scaled and padded), as-png-512 (longest side):

  ls as-png-512/by-outcome/malignant/by-view/MLO/*.png

There, tables and coco.json have boxes in its pixels. For as-png-1024x768-crop, run `omidbfs geometry SOURCE`.

The drive is read-only. Files have their original content. A file has the same inode under all its paths.

Facets (.omidbfs/facets.json describes them and their values)
"""


def generated_texts(
    root: Root,
    source: Sequence[str | None],
    classification: Classification,
    state: Mapping[str, object] | None = None,
) -> Mapping[str, bytes | memoryview]:
    """Return name -> content of the generated texts of a drive; its status has the fields of ``state``, too."""
    index = root.cohorts.index
    return LazyTexts(
        {
            "README.txt": lambda: readme(root.cohorts.facets).encode(),
            "status.json": lambda: status_text(root, source, classification, state or {}),
            "facets.json": lambda: _lines([facet_counts(root)], indent=True),
            "problems.jsonl": lambda: index.problem_lines,
        }
    )


class LazyTexts(Mapping[str, bytes | memoryview]):
    """Texts by name. Each is made when it is looked up, because counting the values of every facet takes 0.1 s."""

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
    """Return the content of ``status.json`` with another state. Nothing is counted again."""
    return _lines([{**orjson.loads(text), **state}], indent=True)


def readme(facets: Sequence[Facet]) -> str:
    """Return the text that explains the drive and names its facets by level. It fits one screen."""
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
    """Return what the drive serves: source, counts, options, problems by kind."""
    from omidbfs.base.version import (
        installed_version,  # to look takes 10 ms, and a command that only asks makes no status
    )

    index = root.cohorts.index
    windows = classification.windows
    return {
        "version": installed_version(),
        "pid": os.getpid(),
        "images_directory": source[0] and printable(source[0]),
        "data_directory": source[1] and printable(source[1]),
        "clients": len(index.client_rows) - 1,
        "studies": len(index.study_rows) - 1,
        "images": len(index),
        **_counts(root),
        "options": {
            "num_months_ci_prior": windows.ci_prior,
            "num_months_cancer_prior": windows.cancer_prior,
            "num_months_normal_follow_up": windows.normal_follow_up,
            "num_months_benign_follow_up": windows.benign_follow_up,
            "link_all": classification.link_all,
        },
    }


def _counts(root: Root) -> dict[str, object]:
    """Return numbers of files and problems; nothing if the part of the index that has them is damaged."""
    index = root.cohorts.index
    try:
        return {
            **{f"{kind.name}_files": int(np.count_nonzero(index.files[kind].access)) for kind in FILE_KINDS},
            "listed_files": root.listed_files() + _TEXTS,
            "cohorts": {name: len(root.cohorts.rows(cohort)) for name, cohort in root.named.items()},
            "problems": index.problem_kinds(),
        }
    except DamagedError:
        return {}


def facet_counts(root: Root) -> dict[str, object]:
    """Return for each facet its description, level and source, and its values with their numbers of images.

    Facets of identifiers have the number of clients, studies or episodes instead of values.
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
        for facet in cohorts.facets
    }


def _lines(objects: Sequence[object], *, indent: bool = False) -> bytes:
    option = orjson.OPT_APPEND_NEWLINE | (orjson.OPT_INDENT_2 if indent else 0)
    return b"".join(orjson.dumps(item, option=option) for item in objects)
