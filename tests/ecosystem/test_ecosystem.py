"""Unmodified packages for training, and a file manager, read renditions from a real drive.

Each test runs its program in a process of its own, as a user does.
"""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from drives import eventually
from PIL import Image
from programs import needs
from sessions import sessions, shows

CLASSES = "as-png-64x64/by-fold/0-7/by-outcome"


def answer(script: str, *arguments: str | Path) -> Any:
    """Return what a script prints last, which is JSON."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def sums(directory: Path) -> dict[str, int]:
    """Return the sum of the values of each image of a folder of classes, by its path below the folder."""
    found = {}
    for path in directory.glob("*/*.png"):
        with Image.open(path) as image:
            found[f"{path.parent.name}/{path.name}"] = int(np.asarray(image, np.int64).sum())
    assert len(found) > 200
    return found


needs_torchvision = pytest.mark.skipif(
    find_spec("torchvision") is None, reason="not installed: torchvision (scripts/test --ecosystem --torch)"
)


@pytest.mark.parametrize(
    "session",
    [pytest.param(one, marks=needs_torchvision if "torch" in one else ()) for one in sessions("renditions.md")],
)
def test_a_session_of_the_page_prints_what_the_page_shows(session: str, mount: Path) -> None:
    shows(session, mount.parent)


_TORCH = """
import json, sys
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import PILToTensor
images = ImageFolder(sys.argv[1], PILToTensor())
loader = DataLoader(images, batch_size=16, num_workers=2)
epochs = []
for epoch in range(2):
    pixels, classes = zip(*loader)
    values = [int(one[0].sum()) for batch in pixels for one in batch]
    labels = [images.classes[number] for batch in classes for number in batch]
    names = [path.rpartition("/")[2] for path, _ in images.samples]
    epochs.append({f"{label}/{name}": value for label, name, value in zip(labels, names, values)})
print(json.dumps(epochs))
"""


@needs_torchvision
def test_torchvision_reads_a_folder_of_classes_with_two_workers(mount: Path) -> None:
    expected = sums(mount / CLASSES)
    assert answer(_TORCH, mount / CLASSES) == [expected, expected]


_DATASETS = """
import json, sys
import numpy
from datasets import load_dataset
images = load_dataset("imagefolder", data_dir=sys.argv[1], split="train")
names = images.features["label"].names
print(json.dumps([[names[row["label"]], row["image"].size, int(numpy.asarray(row["image"], "i8").sum())]
                  for row in images]))
"""


def test_hugging_face_datasets_reads_a_folder_of_classes(mount: Path) -> None:
    expected = [[name.split("/")[0], [64, 64], value] for name, value in sums(mount / CLASSES).items()]
    assert sorted(answer(_DATASETS, mount / CLASSES)) == sorted(expected)


_OPENCV = """
import json, sys
import cv2
pixels = [cv2.imread(path, cv2.IMREAD_UNCHANGED) for path in sys.argv[1:]]
print(json.dumps([[str(one.dtype), one.tolist()] for one in pixels]))
"""


def test_opencv_reads_sixteen_bits_unchanged(mount: Path) -> None:
    for directory in ("as-png16", "as-png16-30x40", "as-tiff"):
        paths = sorted((mount / directory / "by-view/MLO").iterdir())[::10]
        expected = []
        for path in paths:
            with Image.open(path) as image:
                expected.append(["uint16", np.asarray(image).tolist()])
        assert answer(_OPENCV, *paths) == expected


_WEBDATASET = """
import hashlib, json, sys
import webdataset
found = {
    sample["__key__"]: [hashlib.sha256(sample["dcm"]).hexdigest(), sample["json"]["00080018"]["Value"][0]]
    for sample in webdataset.WebDataset(sys.argv[1], shardshuffle=False).decode(only="json")
}
print(json.dumps(found))
"""


def test_webdataset_reads_an_archive_of_the_drive(mount: Path) -> None:
    cohort = mount / "by-outcome/malignant/by-view/MLO"
    images = sorted(path for path in cohort.iterdir() if path.suffix == ".dcm")
    expected = {
        f"{path.stem}/image": [hashlib.sha256(path.read_bytes()).hexdigest(), path.stem] for path in images
    }
    assert len(expected) > 10
    assert answer(_WEBDATASET, cohort / ".omidbfs/cohort.tar") == expected


_WEBDATASET_OF_PNG = """
import hashlib, json, sys
import webdataset
samples = webdataset.WebDataset(sys.argv[1], shardshuffle=False).decode("l8")
print(json.dumps({one["__key__"]: hashlib.sha256(one["png"].tobytes()).hexdigest() for one in samples}))
"""


def test_webdataset_decodes_an_archive_of_renditions(mount: Path) -> None:
    cohort = mount / "as-png-128/by-outcome/malignant/by-view/MLO"
    expected = {}
    for path in sorted(cohort.glob("*.png")):
        image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        expected[f"{path.stem}/image"] = hashlib.sha256(image.tobytes()).hexdigest()
    assert len(expected) > 10
    assert answer(_WEBDATASET_OF_PNG, cohort / ".omidbfs/cohort.tar") == expected


def seen(images: list[Path], screenshot: Path) -> int:
    """Return how many images are on a screenshot, scaled into 48 rows and 36 columns.

    They differ from it by at most 0.0002 there, and other images of the demo by 0.002 or more.
    """
    screen = cv2.imread(str(screenshot), cv2.IMREAD_GRAYSCALE)
    small = [cv2.resize(cv2.imread(str(path), 0), (36, 48), interpolation=cv2.INTER_AREA) for path in images]
    return sum(cv2.matchTemplate(screen, one, cv2.TM_SQDIFF_NORMED).min() < 0.001 for one in small)


@contextlib.contextmanager
def running(*command: str | Path, **options: Any) -> Iterator[None]:
    """Run a program meanwhile."""
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, **silent, **options) as process:
        try:
            yield
        finally:
            process.terminate()


@needs("Xvfb", "pcmanfm", "import")
def test_a_file_manager_shows_thumbnails(mount: Path, tmp_path: Path) -> None:
    directory = mount / "as-png-192x144/by-outcome/malignant/by-view/MLO"
    images = sorted(directory.iterdir())
    screenshot = tmp_path / "screenshot.png"
    reading, writing = os.pipe()
    size = ("-screen", "0", "1000x700x24", "-nolisten", "tcp")
    with open(reading) as display, running("Xvfb", "-displayfd", str(writing), *size, pass_fds=[writing]):
        os.close(writing)
        environment = {**os.environ, "DISPLAY": f":{display.readline().strip()}"}

        def shown() -> int:
            subprocess.run(["import", "-window", "root", screenshot], env=environment, check=True)
            return seen(images, screenshot)

        assert shown() == 0
        with running("pcmanfm", directory, env=environment):
            eventually(lambda: shown() >= 10, "ten thumbnails on the screen", 60)
