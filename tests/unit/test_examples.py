"""Each file of ``examples/`` works as it stands."""

import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import omidbfs
from omidbfs.cli.commands.fstab import arguments
from omidbfs.cli.main import main
from omidbfs.serving.configuration import read_config

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(directory: Path, *command: str | Path) -> str:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_page_of_examples_names_each_of_them() -> None:
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    named = {target.split("/")[0] for target in re.findall(r"\]\(([^.)][^)]*)\)", page)}
    assert named == {path.name for path in EXAMPLES.iterdir()} - {"README.md"}


@pytest.mark.unmeasured
def test_the_notebook_prints_what_it_shows_and_tells_views_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    notebook = json.loads((EXAMPLES / "classifier.ipynb").read_text(encoding="utf-8"))
    names: dict[str, object] = {"__name__": "__main__"}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                exec("".join(cell["source"]), names)
            shown = "".join(line for output in cell["outputs"] for line in output["text"])
            if not shown.startswith("right: "):  # which may differ by the rounding of another processor
                assert printed.getvalue() == shown
    assert names["right"] > 0.9  # type: ignore[operator]
    assert names["always"] < 0.7  # type: ignore[operator]


@pytest.mark.unmeasured
def test_the_dask_job_finds_what_one_process_finds(demo_database: Path, tmp_path: Path) -> None:
    cohort = omidbfs.open(demo_database)["by-view/MLO"]
    printed = run(tmp_path, sys.executable, EXAMPLES / "dask_job.py", demo_database, "by-view/MLO")
    lines = dict(re.findall(r"^(.+): (\d+) images, \d+\.\d$", printed, re.M))
    assert {name: int(count) for name, count in lines.items()} == cohort.counts("manufacturer")


def test_the_loader_of_webdataset_gives_each_image_its_label(demo_database: Path, tmp_path: Path) -> None:
    exports = re.findall(r"^    (omidbfs export .*)$", (EXAMPLES / "webdataset_loader.py").read_text(), re.M)
    assert len(exports) == 2
    for line in exports:
        words = [str(demo_database) if word == "db" else "100K" if word == "1G" else word for word in line.split()]
        run(tmp_path, sys.executable, "-m", *words)
    archives = sorted(tmp_path.glob("mlo-*.tar"))
    assert len(archives) > 1
    printed = run(tmp_path, sys.executable, EXAMPLES / "webdataset_loader.py", "mlo.csv", *archives)
    counts = {name: int(count) for name, count in re.findall(r"^(.+): (\d+)$", printed, re.M)}
    assert counts == omidbfs.open(demo_database)["by-view/MLO"].counts("outcome")


def test_the_configuration_defines_what_its_comments_say(
    demo_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    whole = (EXAMPLES / "omidbfs.toml").read_text(encoding="utf-8")
    everyone = omidbfs.open(demo_database).all
    client, *_ = sorted({image.client for image in everyone})
    Path("density.csv").write_text(f"client,acr\n{client},b\n")
    Path("bad-images.txt").write_text(
        f"{everyone.where(client=client, view='CC', intent='presentation')[0].name}\n"
    )
    found = {}
    for name, text in (("short", whole), ("long", re.sub("^#(?! |index)", "", whole, flags=re.M))):
        Path(f"{name}.toml").write_text(text)
        db = omidbfs.open(demo_database, config=f"{name}.toml", index=f"{name}.index")
        assert sum(db.all.counts("kvp").values()) == len(db.all)
        assert (
            len(db["cohorts/train"]) + len(db["cohorts/test"])
            == len(db["cohorts/base"])
            > len(db["cohorts/cancers"])
            > 0
        )
        assert db["cohorts/base"][0].pixels("network").shape == (1024, 768)
        found[name] = db
    assert "acr" not in found["short"].facets
    assert found["long"].all.counts("acr")["b"] == len(everyone.where(client=client))
    assert len(found["short"]["cohorts/base"]) - len(found["long"]["cohorts/base"]) == 1
    options = {name: {one.name or "" for one in command.params} for name, command in main.commands.items()}
    assert read_config(Path("short.toml"), options)["mount"]["refresh_every"] == 3600


def accepted(words: list[str]) -> dict[str, object]:
    """Return what ``omidbfs mount`` takes from these arguments."""
    with (
        click.Context(main) as parent,
        main.commands["mount"].make_context("mount", words, parent=parent) as context,
    ):
        return context.params


def test_the_line_of_fstab_has_options_of_mount() -> None:
    [line] = [one for one in (EXAMPLES / "fstab").read_text().splitlines() if not one.startswith("#")]
    source, mountpoint, kind, options, *_ = line.split()
    assert kind == "fuse.omidbfs"
    words = arguments([source, mountpoint, "-o", options], main)
    taken = accepted(words[words.index("mount") + 1 :])
    assert (str(taken["source"]), str(taken["mountpoint"])) == (source, mountpoint)
    assert (taken["allow_other"], taken["refresh_every"], str(taken["index"])) == (
        True,
        3600,
        "/var/cache/omidb.index",
    )


def test_the_script_for_systemd_makes_the_unit_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    script = EXAMPLES / "systemd/setup.sh"
    subprocess.run(["sh", "-n", script], check=True)
    [command] = re.findall(r"^/opt/omidbfs/bin/omidbfs (systemd (?:.*\\\n)*.*)$", script.read_text(), re.M)
    words = shlex.split(command.replace("\\\n", ""))
    words[words.index("/etc/systemd/system")] = str(tmp_path)
    monkeypatch.setattr(sys, "argv", [os.path.join(sys.prefix, "bin/omidbfs")])
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    [unit] = (EXAMPLES / "systemd").glob("*.service")
    made = re.sub("(?<=ExecStart=).*?(?= mount )", "/opt/omidbfs/bin/omidbfs", (tmp_path / unit.name).read_text())
    assert made == unit.read_text()
