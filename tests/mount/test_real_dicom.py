"""A drive shows the real files of the pydicom wheel, of all modalities, also broken ones."""

import json
import os
import warnings
from pathlib import Path

import pydicom
import pytest
from drives import Drives

STUDIES = 5


def real_files() -> list[Path]:
    """Return the DICOM files that pydicom brings along."""
    found = sorted(Path(pydicom.__file__).parent.rglob("*.dcm"))
    assert len(found) > 50
    return found


def json_of(path: Path) -> bytes | None:
    """Return the sidecar that pydicom makes of a file, or ``None`` if it fails."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dataset = pydicom.dcmread(path, stop_before_pixels=True)
            return json.dumps(dataset.to_json_dict(suppress_invalid_tags=True)).encode()
        except Exception:  # pydicom raises different errors for broken files
            return None


@pytest.mark.parametrize("has_sidecars", [False, True], ids=["without sidecars", "with sidecars"])
def test_real_files_mount_and_read_back_byte_for_byte(drive: Drives, tmp_path: Path, has_sidecars: bool) -> None:
    originals: dict[str, bytes] = {}
    sidecars: dict[str, bytes] = {}
    for number, path in enumerate(real_files()):
        name, study = f"1.2.826.{number}", f"demd1/1.2.{number % STUDIES}"
        originals[name] = path.read_bytes()
        image = tmp_path / "db/images" / study / f"{name}.dcm"
        image.parent.mkdir(parents=True, exist_ok=True)
        image.write_bytes(originals[name])
        sidecar = json_of(path) if has_sidecars else None
        if sidecar is not None:
            sidecars[name] = sidecar
            place = tmp_path / "db/data" / study / f"{name}.json"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(sidecar)
    assert len(sidecars) > 50 or not has_sidecars

    mount = drive(tmp_path / "db")
    expected = {f"{name}.dcm" for name in originals} | {f"{name}.json" for name in sidecars}
    assert set(os.listdir(mount / "all")) == expected
    for name, original in originals.items():
        assert (mount / "all" / f"{name}.dcm").read_bytes() == original
    for name, sidecar in sidecars.items():
        assert (mount / "all" / f"{name}.json").read_bytes() == sidecar
    for facet in ("view", "manufacturer", "age", "intent", "laterality"):
        listed = [
            name
            for value in os.listdir(mount / f"by-{facet}")
            for name in os.listdir(mount / f"by-{facet}" / value)
        ]
        assert sorted(listed) == sorted(expected), "each in exactly one directory"
    drive.umount(mount)
    assert drive.bad_log_lines() == []
