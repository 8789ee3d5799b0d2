"""Completion of cohorts: by click's protocol, and by the shells themselves."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from programs import needs
from trees import PIXELS, Client, Tree

from omidbfs.cli.commands.completion import script
from omidbfs.cli.complete import complete_cohort
from omidbfs.cli.main import main

Complete = Callable[..., list[str]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a database ``db`` that has an index, one ``bare`` that has none, and the program."""
    place = tmp_path_factory.mktemp("completion")
    client = Tree(place / "db").client("demd1").episode("1", "M").episode("2", "N", "2010-05-01")
    study = client.study("1.1", "1").image("1", ViewPosition="CC").image("2", ViewPosition="MLO", **PIXELS)
    study.study("1.2", "2", "2010-05-01").image("3", ViewPosition="ML", ImageLaterality="L")
    study.client("demd2").study("2.1").image("4", ViewPosition="CC")
    Tree(place / "bare").client("demd1").study().image()
    (place / "bin").mkdir()
    program = place / "bin" / "omidbfs"
    code = "from omidbfs.cli.main import main; main(prog_name='omidbfs')"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{code}" "$@"\n')
    program.chmod(0o755)
    subprocess.run([program, "count", place / "db"], check=True, capture_output=True, env=environment(place))
    return place


def environment(place: Path) -> dict[str, str]:
    path = f"{place / 'bin'}:{os.environ['PATH']}"
    user = {name: str(place / "user") for name in ("XDG_CONFIG_HOME", "HOME")}
    return {**os.environ, **user, "PATH": path, "TERM": "dumb"}


@pytest.fixture
def complete(place: Path, monkeypatch: pytest.MonkeyPatch) -> Complete:
    """A function that completes the last of some words, by the protocol of a shell.

    The program runs in this process. The tests of shells start it.
    """
    monkeypatch.chdir(place)

    def run(*words: str, shell: str = "bash") -> list[str]:
        line = ["omidbfs", *words]
        variables = {"COMP_WORDS": " ".join(line), "COMP_CWORD": str(len(line) - 1)}
        if shell == "fish":
            variables["COMP_CWORD"] = words[-1]
        environ = {**environment(place), **variables, "_OMIDBFS_COMPLETE": f"{shell}_complete"}
        done = CliRunner().invoke(main, [], prog_name="omidbfs", env=environ)
        assert done.stderr == ""
        return done.stdout.splitlines()

    return run


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("by-cli", ["by-client/", "by-client-status/"]),
        ("by-view/", ["by-view/ML", "by-view/MLO", "by-view/CC"]),
        ("by-view/M", ["by-view/ML", "by-view/MLO"]),
        ("by-view/CC,M", ["by-view/CC,ML", "by-view/CC,MLO"]),
        ("by-view/ML,", ["by-view/ML,MLO", "by-view/ML,CC"]),
        ("by-view/not-M", ["by-view/not-ML", "by-view/not-MLO"]),
        ("by-view/not-ML,M", ["by-view/not-ML,MLO", "by-view/not-ML,MLO/"]),
        ("by-client/demd1,", ["by-client/demd1,demd2", "by-client/demd1,demd2/"]),
        (
            "by-outcome/malignant/by-view/",
            ["by-outcome/malignant/by-view/MLO", "by-outcome/malignant/by-view/CC"],
        ),
        ("by-outcome/M/by-view/CC,", ["by-outcome/M/by-view/CC,MLO", "by-outcome/M/by-view/CC,MLO/"]),
        ("all/by-later", ["all/by-laterality/L", "all/by-laterality/unknown"]),
        ("by-none/", []),
        ("by-view/XYZ/by-", []),
        ("by-view/CC/by-view/", ["by-view/CC/by-view/CC", "by-view/CC/by-view/CC/"]),
        ("nothing", []),
        ("as", ["as-png/", "as-png16/", "as-tiff/", "as-npy/"]),
        ("as-png/by-view/", ["as-png/by-view/MLO", "as-png/by-view/MLO/"]),
        (
            "as-png-64/all/by-later",
            ["as-png-64/all/by-laterality/unknown", "as-png-64/all/by-laterality/unknown/"],
        ),
        (
            "by-view/MLO/as-npy/by-view-",
            [f"by-view/MLO/as-npy/by-view-modifier/unknown{end}" for end in ("", "/")],
        ),
        ("as-png/as", []),
        ("as-jpeg/by-view/", []),
    ],
)
def test_the_last_component_is_completed(complete: Complete, typed: str, found: list[str]) -> None:
    assert [line for line in complete("count", "db", typed) if line] == [f"plain,{path}" for path in found]


def test_facets_follow_that_are_not_in_the_path_yet(complete: Complete) -> None:
    lines = complete("facets", "db", "by-view/CC/")
    assert "plain,by-view/CC/by-outcome/" in lines
    assert "plain,by-view/CC/by-view/" not in lines
    assert len(lines) > 30


@pytest.mark.parametrize("command", ["ls", "count", "facets", "table", "export", "report"])
def test_every_command_with_a_cohort_completes_it(command: str) -> None:
    cohort = next(
        parameter for parameter in main.commands[command].params if parameter.name in ("cohort", "cohorts")
    )
    assert cohort._custom_shell_complete is complete_cohort


def test_the_index_named_and_the_configuration_are_those_of_the_command(
    complete: Complete, place: Path, tmp_path: Path
) -> None:
    kept = str(tmp_path / "kept")
    subprocess.run(
        [place / "bin/omidbfs", "index", "bare", "--index", kept],
        check=True,
        capture_output=True,
        cwd=place,
        env=environment(place),
    )
    assert complete("count", "--index", kept, "bare", "by-site/") == ["plain,by-site/stge", "plain,by-site/stge/"]
    config = tmp_path / "omidbfs.toml"
    config.write_text(f'index = "{kept}"\n[mount]\nallow-other = true\n[cohorts.train]\npath = "by-site/stge"\n')
    assert complete("--config", str(config), "count", "bare", "by-site/")[0] == "plain,by-site/stge"
    assert complete("--config", str(config), "count", "bare", "coh") == [
        "plain,cohorts/train",
        "plain,cohorts/train/",
    ]
    assert complete("--config", str(config), "count", "bare", "cohorts/train/by-fo")[0].startswith(
        "plain,cohorts/train/by-fold/"
    )


@pytest.mark.parametrize("source", ["bare", "none", "db/images", "-"])
def test_without_an_index_nothing_is_completed_built_or_said(complete: Complete, place: Path, source: str) -> None:
    cache = Path(os.environ["XDG_CACHE_HOME"])
    before = sorted(cache.rglob("*"))
    assert complete("count", source, "by-") in ([], [""])
    assert sorted(cache.rglob("*")) == before


def test_zsh_and_fish_get_the_numbers_of_images(complete: Complete) -> None:
    assert complete("count", "db", "by-view/CC,M", shell="zsh") == [
        *("plain", "by-view/CC,ML", "1 image"),
        *("plain", "by-view/CC,MLO", "1 image"),
    ]
    assert complete("count", "db", "by-view/CC,M", shell="fish") == [
        "plain,by-view/CC,ML\t1 image",
        "plain,by-view/CC,MLO\t1 image",
    ]


def in_bash(place: Path, *words: str) -> list[str]:
    """The candidates of bash for the last word."""
    line = f"""
        source completion.bash
        COMP_WORDS=(omidbfs {" ".join(words)}) COMP_CWORD={len(words)}
        handler=$(complete -p omidbfs | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        $handler omidbfs
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    (place / "completion.bash").write_text(script("bash", main))
    command = ["bash", "--norc", "-c", line]
    done = subprocess.run(command, cwd=place, env=environment(place), capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_bash_completes(place: Path) -> None:
    assert in_bash(place, "count", "db", "by-view/CC,M") == ["by-view/CC,ML", "by-view/CC,MLO"]
    assert in_bash(place, "count", "db", "by-later") == ["by-laterality/L", "by-laterality/unknown"]


@needs("fish")
def test_fish_completes(place: Path) -> None:
    (place / "completion.fish").write_text(script("fish", main))
    command = ["fish", "--no-config", "-c", "source completion.fish; complete -C 'omidbfs count db by-view/CC,M'"]
    done = subprocess.run(command, cwd=place, env=environment(place), capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["by-view/CC,ML\t1 image", "by-view/CC,MLO\t1 image"]


def test_completion_offers_none_of_too_many_clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from omidbfs.cli import complete
    from omidbfs.cohorts.cohort import Cohorts
    from omidbfs.database.layout import find_source
    from omidbfs.index.build import refreshed
    from omidbfs.pixels.rendition import Configured

    client: Client = Tree(tmp_path).client("demd1")
    client.study().image().client("demd2").study().image("2")
    known = complete._Known(Cohorts(refreshed(find_source(tmp_path))), {}, Configured())
    monkeypatch.setattr(complete, "_MOST", 1)
    assert complete._completed(known, "by-client/") == []
    assert [path for path, _ in complete._completed(known, "by-client")] == [
        "by-client/",
        "by-client-status/",
    ]
