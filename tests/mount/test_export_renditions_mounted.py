"""``omidbfs export --as`` writes what a drive shows: the same names, the same bytes, the same images."""

from pathlib import Path

import pytest
from drives import Drives
from test_generated import small_disk  # noqa: F401  a fixture
from test_tree import sha256
from trees import Quirky


@pytest.fixture(scope="module")
def mount(session_drive: Drives, quirky_database: Quirky) -> Path:
    """The odd database, mounted."""
    return session_drive(quirky_database.path)


def readable(directory: Path) -> tuple[dict[str, str], set[str]]:
    """Return path -> checksum of the files below a directory, and the paths of those that give EIO."""
    found, failed = {}, set()
    for path in directory.rglob("*"):
        if path.is_file() and path.name != ".omidbfs-export.jsonl":
            name = str(path.relative_to(directory))
            try:
                found[name] = sha256(path)
            except OSError:
                failed.add(Path(name).stem)
    return found, failed


@pytest.mark.parametrize(
    ("cohort", "rendition", "layout", "shown"),
    [
        ("", "png", "flat", "as-png/all"),
        ("", "tiff", "by-client", "as-tiff/by-client"),
        ("by-view/MLO", "npy", "flat", "by-view/MLO/as-npy"),
        ("", "png16-100x60", "by-outcome", "as-png16-100x60/by-outcome"),
    ],
)
def test_an_export_has_the_files_of_the_drive(
    drive: Drives,
    mount: Path,
    quirky_database: Quirky,
    tmp_path: Path,
    cohort: str,
    rendition: str,
    layout: str,
    shown: str,
) -> None:
    drive.expect_log("rendition could not be made")
    out = tmp_path / "out"
    where = [cohort] if cohort else []
    done = drive.run(
        "export", quirky_database.path, *where, "--as", rendition, "--layout", layout, "-o", out, status=None
    )
    expected, failed = readable(mount / shown)
    assert len(expected) > 100
    assert readable(out) == (expected, set())
    listed = {line.partition(",")[0] for line in done.stdout.splitlines()[1:]}
    assert {name.partition("~")[0] for name in failed} == listed
    assert done.returncode == (1 if failed else 0)


def test_a_full_disk_ends_an_export_and_half_a_file_is_not_left(
    small_disk: Path,  # noqa: F811  the fixture
    drive: Drives,
    demo_database: Path,
) -> None:
    for output in (small_disk / "out", small_disk / "images.npy"):
        done = drive.run("export", demo_database, "--as", "png-64x64", "-o", output, status=1)
        assert done.stderr.startswith(f"omidbfs: {output}")
        assert done.stderr.endswith(": No space left on device\n")
        assert not [*small_disk.rglob(".omidbfs-unfinished-*")]
        assert {path.stat().st_size for path in small_disk.rglob("*.png")} == {64 * 65 + 63 + 5}
        assert not [*small_disk.glob("*.npy"), *small_disk.glob("*.csv")]
