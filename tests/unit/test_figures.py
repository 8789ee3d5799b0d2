"""The pages have the figures of ``benchmarks/figures.json``, and benchmarks write that file."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def figures_script() -> dict[str, object]:
    return runpy.run_path(str(ROOT / "scripts/figures"))


def test_the_pages_have_the_figures_of_the_file() -> None:
    command = [sys.executable, str(ROOT / "scripts/figures"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_figure_that_changes_makes_a_page_out_of_date() -> None:
    script = figures_script()
    runs = json.loads((ROOT / "benchmarks/figures.json").read_text(encoding="utf-8"))
    for page in script["PAGES"]:  # type: ignore[attr-defined]
        text = (ROOT / page).read_text(encoding="utf-8")
        names = re.findall("^<!-- figures: (.*?) -->$", text, re.M)
        assert names
        assert script["made"](page, runs) == text  # type: ignore[operator]
    for row in (row for run in runs.values() for table in run["tables"] for row in table["rows"]):
        row[1] += "0"
    for page in script["PAGES"]:  # type: ignore[attr-defined]
        assert script["made"](page, runs) != (ROOT / page).read_text(encoding="utf-8")  # type: ignore[operator]


def test_each_run_that_is_kept_is_on_a_page_with_its_command_day_and_machine() -> None:
    texts = [(ROOT / page).read_text(encoding="utf-8") for page in figures_script()["PAGES"]]  # type: ignore[attr-defined]
    pages = " ".join(word for text in texts for word in text.replace("`", "").split())
    for run in json.loads((ROOT / "benchmarks/figures.json").read_text(encoding="utf-8")).values():
        assert f" {run['command']} (" in pages
        assert f"{run['date']}: {run['machine']}." in pages
        for row in (row for table in run["tables"] for row in table["rows"]):
            assert all(cell.strip() in pages for cell in row), row


def test_a_benchmark_prints_its_figures_and_keeps_them_only_if_it_is_asked_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import click
    import figures
    from click.testing import CliRunner

    monkeypatch.setattr(figures, "FILE", tmp_path / "figures.json")
    table = figures.Figures("a title", ("", "[x]"), [("reads", "1,000"), ("writes [none]", "2")])

    @click.group()
    @click.option("--save", is_flag=True)
    def main(save: bool) -> None: ...

    @main.command()
    @click.option("--rounds", default=3)
    @click.option("--directory", default="")
    def measure(rounds: int, directory: str) -> None:
        figures.show("measure", table)

    for arguments, command in (
        ([], None),
        (["--save"], "scripts/bench measure"),
        (["--save", "--rounds=1"], "scripts/bench measure --rounds=1"),
    ):
        options = [one for one in arguments if one != "--save"]
        chosen = ["--save"] * ("--save" in arguments)
        done = CliRunner().invoke(main, [*chosen, "measure", *options, "--directory", str(tmp_path)])
        assert done.exit_code == 0, done.output
        assert "writes [none]" in done.output
        if command is None:
            assert not figures.FILE.exists()
            continue
        text = figures.FILE.read_text(encoding="utf-8")
        kept = json.loads(text)["measure"]
        assert kept["command"] == command
        assert kept["tables"] == [
            {"title": "a title", "columns": ["", "[x]"], "rows": [list(row) for row in table.rows]}
        ]
        assert '["writes [none]", "2"]' in text
        assert str(tmp_path) not in text
