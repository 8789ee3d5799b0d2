"""A WebDataset loader: reads a cohort as a stream of samples from archives, with labels from its table.

    omidbfs export db by-view/MLO --format tar --shard-size 1G -o mlo.tar
    omidbfs export db by-view/MLO -o mlo.csv
    python webdataset_loader.py mlo.csv mlo-*.tar

On a mounted drive the archive takes no space, and nothing needs to be written:

    cohort=drive/by-view/MLO/.omidbfs
    python webdataset_loader.py $cohort/index.csv $cohort/cohort.tar
"""

import csv
import io
import sys
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pydicom
import webdataset


def samples(table: str, archives: list[str]) -> Iterator[tuple[np.ndarray, str]]:
    """Yield the pixels and the outcome of each image. Shuffled, so that a training sees them mixed."""
    with open(table, encoding="utf-8", newline="") as file:
        outcomes = {row["image"]: row["outcome"] for row in csv.DictReader(file)}
    stream = webdataset.WebDataset(archives, shardshuffle=len(archives)).shuffle(100)
    for sample in stream:
        name, _, _ = sample["__key__"].rpartition("/")  # <name>/image
        yield pydicom.dcmread(io.BytesIO(sample["dcm"])).pixel_array, outcomes[name]


if __name__ == "__main__":
    found: Counter[str] = Counter()
    for pixels, outcome in samples(sys.argv[1], sys.argv[2:]):
        assert pixels.ndim >= 2
        found[outcome] += 1
    for outcome, count in sorted(found.items()):
        print(f"{outcome}: {count}")
