"""The distribution omidbfs-core: everything but a mount works with the packages that it names, and no others."""

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import distribution, metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


_ELSEWHERE = re.compile("extra ==|sys_platform|os_name|implementation")
"""Markers of requirements that do not hold here."""


def name_of(requirement: str) -> str:
    """Return the name of the distribution that is required."""
    return re.split(r"[ ;<>=!~\[(]", requirement)[0].lower()


def closure(requirements: list[str], known: set[str]) -> Iterator[str]:
    """Yield the distributions that some requirements without extras need, and what these need."""
    for requirement in requirements:
        name = name_of(requirement)
        if _ELSEWHERE.search(requirement) or name in known:
            continue
        try:
            found = distribution(name)
        except ModuleNotFoundError:  # for older Pythons
            continue
        known.add(name)
        yield name
        yield from closure(found.requires or [], known)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this tree."""
    place = tmp_path_factory.mktemp("wheel")
    script = "import backend, sys; print(backend.build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", script, place],
        cwd=ROOT / "packaging/core",
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return place / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def clean(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the content of the wheel and the packages that it needs, as pip would make it."""
    place = tmp_path_factory.mktemp("clean")
    zipfile.ZipFile(wheel).extractall(place)
    [info] = place.glob("*.dist-info")
    requires = re.findall("^Requires-Dist: (.*)", (info / "METADATA").read_text(encoding="utf-8"), re.M)
    for name in closure([*requires, "fsspec"], set()):
        for file in distribution(name).files or ():
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not (place / top).exists():
                (place / top).symlink_to(distribution(name).locate_file(top))  # type: ignore[arg-type]
    return place


def test_it_needs_what_omidbfs_needs_but_pyfuse3(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as content:
        [name] = [one for one in content.namelist() if one.endswith("/METADATA")]
        text = content.read(name).decode()
        names = {one for one in content.namelist() if one.startswith("omidbfs/")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [one for some in project["optional-dependencies"].values() for one in some]
    whole = Counter(map(name_of, [*project["dependencies"], *extras]))
    mine = Counter(map(name_of, re.findall("^Requires-Dist: (.*)", text, re.M)))
    mine["omidbfs"] = mine.pop("omidbfs-core")
    assert "\nName: omidbfs-core\n" in text
    assert whole - mine == {"pyfuse3": 1}
    assert not mine - whole
    assert names >= {str(path.relative_to(ROOT)) for path in (ROOT / "omidbfs").rglob("*.py")}
    assert "omidbfs/py.typed" in names


_SCRIPT = """
import json, sys
sys.path[:0] = [sys.argv[1]]
import fsspec, omidbfs
from pathlib import Path
from omidbfs.demo import generate
generate(Path("db"), 2, seed=1)
db = omidbfs.open("db", index="index")
fs = fsspec.filesystem("omidbfs", source="db", index="index")
image = db.all[0]
places = {name: getattr(module, "__file__", None) or "" for name, module in sys.modules.items()}
loaded = [name for name, place in places.items() if "site-packages" in place]
print(json.dumps({
    "images": len(db.all), "version": omidbfs.__version__, "listed": len(fs.ls("all")),
    "shape": image.pixels().shape, "same": fs.cat_file(f"all/{image.name}.dcm") == image.path.read_bytes(),
    "csv": len(fs.cat_file("all/.omidbfs/index.csv")) > 0, "others": loaded,
}))
"""


def test_python_fsspec_and_commands_work_where_nothing_else_is_installed(clean: Path, tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "PATH": "/nonexistent", "PYTHONPATH": str(clean), "LANG": "C.UTF-8"}

    def run(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-S", "-P", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120
        )

    done = run("-c", _SCRIPT, clean)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["images"] > 0
    assert (said["same"], said["csv"], said["others"]) == (True, True, [])
    assert said["version"] == metadata("omidbfs")["Version"]
    counted = run("-m", "omidbfs", "count", "db", "--index", "index")
    assert counted.stdout == f"{said['images']}\n", counted.stderr
    (tmp_path / "drive").mkdir()
    refused = run("-m", "omidbfs", "mount", "db", "drive", "--index", "index")
    assert refused.returncode == 1
    assert re.fullmatch("omidbfs: pyfuse3: not installed, and mounting needs it; .*\n", refused.stderr)
    assert os.listdir(tmp_path / "drive") == []
