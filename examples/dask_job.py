"""A Dask job: the mean brightness of the breast for each manufacturer.

    python dask_job.py SOURCE [COHORT] [SCHEDULER]

    python dask_job.py db by-view/MLO
    python dask_job.py db by-view/MLO tcp://127.0.0.1:8786

Without SCHEDULER two worker processes are started on this machine. On a cluster, every worker must see SOURCE and
the index (omidbfs index SOURCE --index FILE) at the same path, and have the same version of omidbfs.
"""

import sys
from collections import defaultdict
from logging import CRITICAL

import numpy as np
from dask.distributed import Client

import omidbfs
from omidbfs import Cohort

PART = 64
"""The number of images that one task reads. A task should take seconds."""


def brightness(cohort: Cohort, start: int) -> list[tuple[str, float]]:
    """Return the manufacturer and the mean of the pixels that are not dark, for each image of a part.

    A cohort can be pickled. A worker opens the saved index, and reads only its own images.
    """
    found = []
    for number in range(start, min(start + PART, len(cohort))):
        image = cohort[number]
        pixels = image.pixels("png-256")
        found.append((image["manufacturer"], float(pixels[pixels > 10].mean()) if (pixels > 10).any() else np.nan))
    return found


def main(source: str, path: str = "all", scheduler: str | None = None) -> None:
    """Print a line for each manufacturer."""
    cohort = omidbfs.open(source)[path]
    # Workers that end report lost connections as errors. Errors of tasks are raised by gather() all the same.
    here = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0", "silence_logs": CRITICAL}
    with Client(scheduler) if scheduler else Client(**here) as dask:
        parts = dask.map(lambda start: brightness(cohort, start), range(0, len(cohort), PART))
        means = defaultdict(list)
        for part in dask.gather(parts):
            for manufacturer, mean in part:
                means[manufacturer].append(mean)
    for manufacturer, values in sorted(means.items()):
        print(f"{manufacturer}: {len(values)} images, {np.nanmean(values):.1f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
