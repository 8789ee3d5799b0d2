"""Examples in the documentation that need a mounted drive print what the page shows."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
VARYING = re.compile(
    r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(?::\d\dZ| [^\s,;]+)|^\w+ clients: \d+ of .*\n", re.M
)  # times, progress
ORDER = (r"omidbfs demo ", r"mkdir drive$", r"omidbfs mount ", r"(?!omidbfs umount )", r"")
"""Patterns of commands, in the order in which the examples of a page run. A page may show a drive first."""


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a shell in a directory for drives. Drives there are unmounted afterwards."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "LC_ALL": "C", "COLUMNS": "80"}
    environment["EXAMPLES"] = str(ROOT / "examples")
    environment |= {f"XDG_{name}_HOME": str(tmp_path / name) for name in ("CONFIG", "CACHE", "STATE")}
    environment.pop("COVERAGE_PROCESS_START", None)  # smaller tests measure the coverage of this code
    yield environment
    subprocess.run(["omidbfs", "umount", tmp_path / "drive"], env=environment, check=False)


def examples(page: str) -> list[tuple[str, str]]:
    """Return the commands of a page and their output, in an order in which they can run."""
    blocks = re.findall(r"^```console\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.M | re.S)
    example = re.compile(r'^\$ ((?:[^"\n]|"[^"]*")*)\n((?:(?!\$ ).*\n)*)', re.M)  # quotes may hold line ends
    found = [("omidbfs demo db --clients 100", "db: a synthetic OMI-DB of 100 clients\n")]
    found += [one for block in blocks for one in example.findall(block)]
    return sorted(
        dict.fromkeys(found),
        key=lambda one: next(place for place, start in enumerate(ORDER) if re.match(start, one[0])),
    )


@pytest.mark.parametrize(
    "page", ["README.md", "docs/tutorial.md", "docs/cli.md", "docs/operations.md", "examples/README.md"]
)
def test_the_examples_of_a_page_print_what_it_shows(
    tmp_path: Path, environment: dict[str, str], page: str
) -> None:
    for command, shown in examples(page):
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
