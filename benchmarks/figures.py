"""What a benchmark found: printed, and with ``--save`` kept in ``figures.json`` for the documentation.

``scripts/figures`` makes the tables of the pages from that file. It names the command, the day and the machine of
each run, and has the tables as they were printed.
"""

import json
import os
import platform
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import click
from click.core import ParameterSource
from rich.console import Console
from rich.table import Table

FILE = Path(__file__).with_name("figures.json")
_WIDTH = 150
"""Columns of a table that goes to a file."""


@dataclass(frozen=True, slots=True)
class Figures:
    """A table: its title, the headings of its columns, and its rows. The first column says what was measured."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]


def show(name: str, *tables: Figures) -> None:
    """Print the tables of a benchmark. With ``--save`` of ``scripts/bench``, keep them too."""
    console = Console(width=None if sys.stdout.isatty() else _WIDTH, highlight=False, markup=False)
    for figures in tables:
        is_headed = any(figures.columns)
        table = Table(title=figures.title, box=None, title_justify="left", pad_edge=False, show_header=is_headed)
        for number, heading in enumerate(figures.columns):
            table.add_column(heading, justify="right" if number and _is_number(figures, number) else "left")
        for row in figures.rows:
            table.add_row(*row)
        console.print(table, "", sep="\n")
    context = click.get_current_context()
    if context.find_root().params["save"]:
        given = [
            f"--{option.replace('_', '-')}={value}"
            for option, value in context.params.items()
            if option != "directory" and context.get_parameter_source(option) is not ParameterSource.DEFAULT
        ]
        save(name, " ".join(["scripts/bench", name, *given]), tables)


def _is_number(figures: Figures, column: int) -> bool:
    cells = [row[column] for row in figures.rows if row[column]]
    return all(cell[0].isdigit() for cell in cells)


def save(name: str, command: str, tables: Iterable[Figures]) -> None:
    """Keep the tables in ``figures.json``, in the place of those of an earlier run."""
    kept = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    kept[name] = {
        "command": command,
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "tables": [asdict(figures) for figures in tables],
    }
    FILE.write_text(written(dict(sorted(kept.items()))) + "\n", encoding="utf-8")


def written(thing: object, margin: str = "") -> str:
    """Return JSON with each row of a table on one line, so that a difference shows which figures have changed."""
    inner = margin + " "
    if isinstance(thing, dict):
        lines = [f"{inner}{json.dumps(key)}: {written(value, inner)}" for key, value in thing.items()]
        return "{\n" + ",\n".join(lines) + f"\n{margin}}}"
    if isinstance(thing, list) and thing and not isinstance(thing[0], str):
        return "[\n" + ",\n".join(f"{inner}{written(one, inner)}" for one in thing) + f"\n{margin}]"
    return json.dumps(thing, ensure_ascii=False)


def machine() -> str:
    """Return what the figures depend on: the system, its processors, and what runs on it. It names no host."""
    kernel = ".".join(platform.release().split(".")[:2])
    parts = [f"Linux {kernel}", f"{os.cpu_count()} processors{_model()}", f"Python {platform.python_version()}"]
    return ", ".join([*parts, *(f"{package} {version(package)}" for package in ("numpy", "pyfuse3"))])


def _model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return f" ({' '.join(line.partition(':')[2].split())})"
    return ""


def show_markdown(figures: Figures) -> None:
    """Print a table as Markdown."""
    for row in (figures.columns, ["---", *["---:"] * (len(figures.columns) - 1)], *figures.rows):
        print(f"| {' | '.join(row)} |")


def padded(rows: Iterable[Sequence[str]], columns: int) -> list[tuple[str, ...]]:
    """Return rows of one length, with empty cells at the end."""
    return [(*row, *[""] * (columns - len(row))) for row in rows]
