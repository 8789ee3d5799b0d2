"""The shipped manual pages and completions are those of the commands."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from programs import needs

from omidbfs.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
SHARE = ROOT / "share"


def test_the_manual_pages_are_those_of_the_commands() -> None:
    made = dict(runpy.run_path(str(ROOT / "scripts/share"))["files"]())
    pages = {path: text for path, text in made.items() if path.parts[0] == "man"}
    shipped = {path.relative_to(SHARE): path.read_text() for path in (SHARE / "man").rglob("*.1")}
    assert shipped == pages, "run: scripts/share"
    assert len(pages) == len(main.commands) + 1


def test_every_completion_is_shipped() -> None:
    for shell, place in runpy.run_path(str(ROOT / "scripts/share"))["COMPLETIONS"].items():
        printed = CliRunner().invoke(main, ["completion", shell])
        assert printed.exit_code == 0
        assert "_OMIDBFS_COMPLETE" in printed.output
        assert "_OMIDBFS_COMPLETE" in (SHARE / place).read_text(), "run: scripts/share"


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A PATH on which ``omidbfs`` is this program."""
    program = tmp_path / "omidbfs"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m omidbfs "$@"\n')
    program.chmod(0o755)
    return f"{tmp_path}:{os.environ['PATH']}"


def completed(path: str, *command: str) -> str:
    done = subprocess.run(
        command, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_bash_completes_commands_and_options(path: str) -> None:
    file = SHARE / "bash-completion/completions/omidbfs"
    for words, expected in (("omidbfs sta", "status"), ("omidbfs mount --rep", "--replace")):
        script = f". {file}; COMP_WORDS=({words}); COMP_CWORD={words.count(' ')}; _omidbfs_completion omidbfs"
        assert completed(path, "bash", "-c", script + '; echo "${COMPREPLY[@]}"').split() == [expected]


@needs("fish")
def test_fish_completes_commands_and_options(path: str) -> None:
    file = SHARE / "fish/vendor_completions.d/omidbfs.fish"
    script = f"source {file}; complete --do-complete 'omidbfs umo'; complete --do-complete 'omidbfs umount --la'"
    lines = completed(path, "fish", "--no-config", "-c", script).splitlines()
    assert [line.split("\t")[0] for line in lines] == ["umount", "--lazy"]


@needs("zsh")
def test_zsh_understands_what_is_shipped(path: str) -> None:
    completed(path, "zsh", "--no-exec", str(SHARE / "zsh/site-functions/_omidbfs"))
    words = {"COMP_WORDS": "omidbfs umo", "COMP_CWORD": "1", "_OMIDBFS_COMPLETE": "zsh_complete"}
    script = " ".join(f"{name}='{value}'" for name, value in words.items())
    assert "umount" in completed(path, "sh", "-c", f"{script} omidbfs")
