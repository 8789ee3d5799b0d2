"""Every example of the README, in a shell and in its order: it prints what the page shows."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[2] / "README.md"
VARYING = re.compile(r"as of \d{4}-\d\d-\d\d \d\d:\d\d|^\w+ clients: \d+ of .*\n", re.M)  # dates, and progress


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A shell's environment for a directory that may hold a drive, which it does not afterwards."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "LC_ALL": "C", "COLUMNS": "80"}
    environment |= {f"XDG_{name}_HOME": str(tmp_path / name) for name in ("CONFIG", "CACHE", "STATE")}
    environment.pop("COVERAGE_PROCESS_START", None)  # what is run here is measured elsewhere, where it is smaller
    yield environment
    subprocess.run(["omidbfs", "umount", tmp_path / "drive"], env=environment, check=False)


def examples() -> list[tuple[str, str]]:
    """Return the commands of the page and what each prints; first those that make and mount a database."""
    teaser, begin, rest = README.read_text(encoding="utf-8").partition("## First mount")
    blocks = re.findall(r"^```console\n(.*?)^```$", begin + rest + teaser, re.M | re.S)
    example = re.compile(r'^\$ ((?:[^"\n]|"[^"]*")*)\n((?:(?!\$ ).*\n)*)', re.M)  # quotes may hold line ends
    return [found for block in blocks for found in example.findall(block)]


def test_the_examples_of_the_readme_print_what_it_shows(tmp_path: Path, environment: dict[str, str]) -> None:
    assert len(examples()) > 25
    for command, shown in examples():
        done = subprocess.run(
            command,
            shell=True,
            executable="/bin/bash",
            check=False,
            cwd=tmp_path,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=120,
        )
        assert VARYING.sub("", done.stdout.expandtabs()) == VARYING.sub("", shown), command
