"""Examples of other programs in the documentation, run as they stand there."""

import re
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
HEAVY = re.compile(r"(?:import|from) (?:cv2|datasets|torch)")
"""Sessions of packages that only ``scripts/test --ecosystem`` installs."""


def sessions(page: str) -> list[str]:
    """Return the blocks of a page in which a Python session is pasted."""
    return _blocks(page, "pycon")


def commands(page: str) -> list[tuple[str, str]]:
    """Return the commands that are pasted into a page, each with what it prints."""
    parts = [part for block in _blocks(page, "console") for part in re.split(r"^\$ ", block, flags=re.M)[1:]]
    return [(command, text) for command, _, text in (part.partition("\n") for part in parts)]


def _blocks(page: str, language: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


def shows(session: str, directory: Path) -> None:
    """Check that a session prints what the page shows. Its process starts in this directory."""
    (directory / "session.txt").write_text(session, encoding="utf-8")
    command = [sys.executable, "-m", "doctest", "session.txt"]
    done = subprocess.run(command, cwd=directory, capture_output=True, encoding="utf-8", check=False, timeout=240)
    assert (done.returncode, done.stdout) == (0, ""), f"{session}\n{done.stdout}{done.stderr}"
