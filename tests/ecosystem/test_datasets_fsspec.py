"""Hugging Face datasets reads the drive without a mount, through fsspec."""

from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from PIL import Image
from test_ecosystem import answer

COHORT = "by-outcome/malignant/by-view/MLO"

_DATASETS = """
import json, sys
import numpy
from datasets import load_dataset
source, cohort = sys.argv[1:]
options = {"source": source}

def load(builder, path, **how):
    return load_dataset(builder, data_files=f"omidbfs://{path}", split="train", storage_options=options, **how)

def classes(images):
    names = images.features["label"].names
    return sorted([names[row["label"]], int(numpy.asarray(row["image"], "i8").sum())] for row in images)

pattern = "as-png-64x64/by-fold/0-1/by-outcome/*/*.png"
print(json.dumps({
    "csv": load("csv", f"{cohort}/.omidbfs/index.csv")["image"][:],
    "parquet": load("parquet", f"{cohort}/.omidbfs/index.parquet")["image"][:],
    "archive": [row["__key__"] for row in load("webdataset", f"{cohort}/.omidbfs/cohort.tar", streaming=True)],
    "images": classes(load("imagefolder", pattern)),
    "streamed": classes(load("imagefolder", pattern, streaming=True)),
}))
"""


def test_hugging_face_datasets_reads_tables_archives_and_renditions(
    demo_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")  # else it opens local files only
    monkeypatch.setenv("FSSPEC_OMIDBFS_SOURCE", str(demo_database))  # it streams images without storage options
    found: dict[str, Any] = answer(_DATASETS, demo_database, COHORT)
    fs = fsspec.filesystem("omidbfs", source=str(demo_database))
    names = [path.rpartition("/")[2].removesuffix(".dcm") for path in fs.glob(f"{COHORT}/*.dcm")]
    assert len(names) > 20
    assert sorted(found["csv"]) == sorted(found["parquet"]) == sorted(names)
    assert sorted(found["archive"]) == sorted(f"{name}/image" for name in names)
    expected = []
    for path in fs.glob("as-png-64x64/by-fold/0-1/by-outcome/*/*.png"):
        with fs.open(path) as file, Image.open(file) as image:
            expected.append([path.split("/")[-2], int(np.asarray(image, np.int64).sum())])
    assert len(expected) > 20
    assert found["images"] == found["streamed"] == sorted(expected)
