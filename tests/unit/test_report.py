"""The report has the numbers of the index, names no client, and loads nothing from elsewhere."""

import os
import re
import stat
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from statistics import quantiles

import numpy as np
import pandas
import pytest
from click.testing import CliRunner, Result
from hypothesis import example, given
from hypothesis import strategies as st
from programs import needs
from trees import MARK, Quirky, Tree

from omidbfs.cli.commands.report import definition
from omidbfs.cli.main import main
from omidbfs.cli.options import session_of
from omidbfs.cohorts.cohort import EVERYTHING, Cohort, Cohorts
from omidbfs.cohorts.named import Criteria, NamedCohort
from omidbfs.cohorts.resolved import resolved
from omidbfs.database.file_kinds import DCM, JSON
from omidbfs.facets import Kind, Level
from omidbfs.index.columns import FIRST_CODE
from omidbfs.report.compared import standardised_difference
from omidbfs.report.figures import Figures, figures

COHORTS = ("", "by-outcome/malignant,normal", "by-view/MLO/by-laterality/L", "by-manufacturer/not-hologic")
Cells = dict[tuple[str, str, str], int]
"""(table, row, column) -> number."""


class Reader(HTMLParser):
    """The numbers in the tables of a page, and everything that it refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.cells: Cells = {}
        self.cards: dict[str, tuple[int, int]] = {}
        self.quartiles: dict[str, str] = {}
        self.identifiers: list[str] = []
        self.alternatives: list[str] = []
        self.tags: Counter[str] = Counter()
        self._table = self._row = self._unit = ""
        self._count = 0
        self._texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attributes}
        self.tags[tag] += 1
        self._table = found.get("data-table", self._table)
        self._row = found.get("data-row", self._row)
        self._unit = found.get("data-unit", self._unit)
        if "id" in found:
            self.identifiers.append(found["id"])
        if found.get("role") == "img":
            self.alternatives.append(found["aria-label"])
        if "data-column" in found:
            self.cells[self._table, self._row, found["data-column"]] = int(found["data-n"])
        if "data-of" in found:
            self.cards[self._unit] = self._count, int(found["data-of"])
        if tag == "b":
            self._count = int(found["data-n"])

    def handle_data(self, data: str) -> None:
        if self._table == "age-quartiles" and "[" in data and "," in data:
            self.quartiles[self._row] = data


def cohorts_of(source: Path, run: Callable[..., Result]) -> Cohorts:
    """The index of a source, as the command saved it."""
    assert run("count", source).exit_code == 0
    options = dict.fromkeys(("images", "data", "index", "workers"))
    with main.make_context("omidbfs", ["count", str(source)]):
        session = session_of(source, {**options, "follow_symlinks": False, "executor": "local"})
    return Cohorts(session.saved().index)


def at(cohorts: Cohorts, path: str) -> Cohort:
    return resolved(cohorts, [NamedCohort("x", Criteria(path, "here"))]).cohorts["x"]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return lambda *arguments: CliRunner().invoke(main, [str(one) for one in arguments], prog_name="omidbfs")


@pytest.fixture
def reported(run: Callable[..., Result], tmp_path: Path) -> Callable[..., str]:
    """A function that runs ``omidbfs report`` and returns the page."""

    def report(*arguments: object) -> str:
        result = run("report", *arguments, "-o", "report.html")
        assert (result.exit_code, result.stdout) == (0, "")
        return (tmp_path / "report.html").read_text(encoding="utf-8")

    return report


def cells_of(found: Figures) -> Cells:
    return {
        (table.key, label, column): count
        for table in found.tables.values()
        for label, counts in table.rows
        for column, count in zip(table.columns, counts, strict=True)
    }


# An independent count: one image at a time, with sets -------------------------------------------------------


def naive(cohorts: Cohorts, cohort: Cohort) -> Cells:
    """The expected tables, except those of ages and problems."""
    index = cohorts.index
    members: dict[tuple[str, str, str], set[object]] = defaultdict(set)
    rows = [row for row in range(len(index)) if cohorts.contains(cohort, row)]

    def labels(name: str, row: int) -> list[str]:
        facet = index.registry.by_name[name]
        return [cohorts.label(facet, code) for code in index.codes_of(name, row)]

    for row in rows:
        study = int(index.study_of[row])
        units: dict[str, object] = {"clients": int(index.client_of[row]), "studies": study, "images": row}
        if index.study_episode[study] >= 0:
            units["episodes"] = int(index.study_episode[study])
        of_episodes = ("outcome", "lesion-status", "grade", "site")
        for key in (*of_episodes, "intent", "standard-views", "model", "thickness"):
            for unit, member in units.items():
                if key in of_episodes or unit != "episodes":
                    for value in (*labels(key, row), "total"):
                        members[key, value, unit].add(member)
        for value in (*labels("outcome", row), "total"):
            for maker in (*labels("manufacturer", row), "total"):
                members["outcome-manufacturer", value, maker].add(units["clients"])
        for value in (*labels("view", row), "total"):
            for side in (*labels("laterality", row), "total"):
                members["views", value, side].add(row)
        for value in (*labels("year", row), "total"):
            for maker in (*labels("manufacturer", row), "total"):
                members["manufacturer", value, maker].add(study)
        files = [index.has_file(row, kind) for kind in (DCM, JSON)]
        pair = {
            (True, True): "DICOM file and JSON",
            (True, False): "DICOM file without JSON",
            (False, True): "JSON without DICOM file",
        }[files[0], files[1]]
        for unit in ("clients", "images"):
            members["files", pair, unit].add(units[unit])
            members["files", "total", unit].add(units[unit])
        for facet in index.registry.facets:
            if facet.kind not in (Kind.NAME, Kind.FILE):
                for value in labels(facet.name, row):
                    members["missing", f"by-{facet.name}", value].add(row)
        where = index.marks.of_rows(row, row + 1)
        for number in range(where.start, where.stop):
            mark = index.marks.mark(number)
            names = {value.code: value.label for value in index.registry.by_name["mark-feature"].values}
            said = {value.code: value.label for value in index.registry.by_name["conspicuity"].values}
            conspicuity = "unknown" if mark.conspicuity is None else said.get(mark.conspicuity, mark.conspicuity)
            shown = [names[feature] for feature in mark.features] or ["unknown"]
            for feature in (*shown, "total"):
                for column in (conspicuity, "total"):
                    members["marks", feature, column].add(number)
    return {key: len(found) for key, found in members.items()}


@pytest.mark.parametrize("path", [*COHORTS, "by-view/CC/by-view/MLO"])
@pytest.mark.parametrize("database", ["demo", "quirky"])
def test_the_numbers_of_the_page_are_those_of_the_index(
    run: Callable[..., Result], demo_database: Path, quirky_database: Quirky, database: str, path: str
) -> None:
    cohorts = cohorts_of(demo_database if database == "demo" else quirky_database.path, run)
    cohort = at(cohorts, path)
    found = figures(cohorts, cohort)
    expected = naive(cohorts, cohort)
    compared = 0
    for cell, count in cells_of(found).items():
        if cell[0] not in ("age", "problems", "priors"):
            assert count == expected.pop(cell, 0), cell
            compared += 1
    left = {cell for cell in expected if cell[0] != "missing" or cell[2] in ("unknown", "other", "unlinked")}
    assert not left, "nothing is dropped"
    assert compared > 30
    for counted, of in ((found.cohort, cohort), (found.source, EVERYTHING)):
        assert counted == {
            "clients": cohorts.count(of, Level.CLIENT),
            "episodes": cohorts.count(of, Level.EPISODE),
            "studies": cohorts.count(of, Level.STUDY),
            "images": len(cohorts.rows(of)),
        }


@pytest.mark.parametrize("path", COHORTS)
@pytest.mark.parametrize("database", ["demo", "quirky"])
def test_a_client_has_one_age_for_each_outcome(
    run: Callable[..., Result], demo_database: Path, quirky_database: Quirky, database: str, path: str
) -> None:
    cohorts = cohorts_of(demo_database if database == "demo" else quirky_database.path, run)
    cohort, index = at(cohorts, path), cohorts.index
    ages: dict[tuple[str, int], list[int]] = defaultdict(list)
    for row in cohorts.rows(cohort):
        outcome = cohorts.label(index.registry.by_name["outcome"], int(index.columns["outcome"][row]))
        code = int(index.columns["age"][row])
        for place in (outcome, "all clients"):
            ages[place, int(index.client_of[row])] += [code - FIRST_CODE] if code >= FIRST_CODE else []
    counted: Counter[tuple[str, str]] = Counter()
    stated: dict[str, list[int]] = defaultdict(list)
    for (outcome, _), found in ages.items():
        first = min(found, default=None)
        band = "unknown" if first is None else f"{first - first % 5}-{first - first % 5 + 4}"
        counted.update([(band, outcome), ("total", outcome)])
        stated[outcome] += [] if first is None else [first]
    shown = figures(cohorts, cohort)
    cells = {cell[1:]: count for cell, count in cells_of(shown).items() if cell[0] == "age" and count}
    assert cells == counted
    for outcome, found in stated.items():
        if len(found) > 1:
            ages_of = next(one for one in shown.ages if one.outcome == outcome)
            assert ages_of.quartiles == pytest.approx(tuple(quantiles(found, n=4, method="inclusive")))
            assert ages_of.stated == len(found)


@pytest.mark.parametrize("database", ["demo", "quirky"])
def test_the_page_shows_every_number(
    run: Callable[..., Result],
    reported: Callable[..., str],
    demo_database: Path,
    quirky_database: Quirky,
    database: str,
) -> None:
    path = demo_database if database == "demo" else quirky_database.path
    found = figures(cohorts_of(path, run), EVERYTHING)
    text = reported(path)
    shown = Reader(text)
    assert shown.cells == cells_of(found)
    assert shown.cards == {unit: (count, found.source[unit]) for unit, count in found.cohort.items()}
    for one in found.ages:
        if one.quartiles is not None:
            low, middle, high = one.quartiles
            assert shown.quartiles[one.outcome] == f"{middle:.1f} [{low:.1f}, {high:.1f}]"
            assert f">{shown.quartiles[one.outcome]}</text>" in text, "the plot has them, too"


def test_problems_are_counted_by_kind(run: Callable[..., Result], quirky_database: Quirky) -> None:
    cohorts = cohorts_of(quirky_database.path, run)
    cells = cells_of(figures(cohorts, EVERYTHING))
    expected = Counter(problem.kind for problem in cohorts.index.problems)
    expected["total"] = len(cohorts.index.problems)
    assert {row: count for (table, row, _), count in cells.items() if table == "problems"} == expected


def test_problems_of_a_cohort_are_those_of_its_clients(run: Callable[..., Result], tmp_path: Path) -> None:
    tree = Tree(tmp_path / "db")
    tree.client("demd1").episode("1").study("1.1", "1").image("1", has_sidecar=False, dcm=b"none")
    tree.client("demd2").episode("1").study("2.1", "1").image("2", ViewPosition="CC")
    cohorts = cohorts_of(tree.root, run)
    whole, part = (cells_of(figures(cohorts, at(cohorts, path))) for path in ("", "by-view/CC"))
    assert whole["problems", "sidecar-missing", "problems"] == 1
    assert part["problems", "total", "problems"] == 0


def test_only_a_total_is_left_out_of_plots_and_shown_as_one(
    run: Callable[..., Result], demo_database: Path
) -> None:
    cohorts = cohorts_of(demo_database, run)
    tables = figures(cohorts, at(cohorts, "by-outcome/malignant")).tables
    for table in tables.values():
        assert (table.rows[-1][0] == "total") == table.has_total, table.key
    facets = [f"by-{one.name}" for one in cohorts.index.registry.facets if one.kind not in (Kind.NAME, Kind.FILE)]
    assert [label for label, _ in tables["missing"].body()] == facets


def test_rare_manufacturers_are_one_column(run: Callable[..., Result], tmp_path: Path) -> None:
    study = Tree(tmp_path / "db").client("demd1").episode("1").study("1.1", "1")
    for number in range(12):
        study.image(str(number), Manufacturer=f"maker {number}")
    study.image("x")
    cells = cells_of(figures(cohorts_of(study.of.tree.root, run), EVERYTHING))
    columns = {column for table, _, column in cells if table == "manufacturer"}
    assert columns == {*(f"maker-{number}" for number in (0, 1, 10, 11, 2, 3, 4)), "5 further", "unknown", "total"}
    assert cells["manufacturer", "total", "5 further"] == 1


# The page ---------------------------------------------------------------------------------------------------


def test_a_page_names_no_client_study_or_image(
    reported: Callable[..., str], run: Callable[..., Result], demo_database: Path, tmp_path: Path
) -> None:
    index = cohorts_of(demo_database, run).index
    client = index.clients[0].decode()
    study = next(index.studies.__iter__()).decode()
    two = f"by-client/{client},{index.clients[1].decode()}"
    (tmp_path / "names.txt").write_text(f"{client}\n")
    (tmp_path / "omidbfs.toml").write_text(
        f'[cohorts.some]\npath = "{two}"\nclients = "names.txt"\nexclude = "by-study/{study}"\n'
    )
    for paths in (("",), (two,), (f"by-client/{client}/{study}",), ("cohorts/some",), (two, "cohorts/some", "")):
        text = reported(demo_database, *paths)
        assert str(demo_database) not in text
        assert str(tmp_path) not in text
        words = {word.strip(".").encode() for word in re.findall(r"[\w.]+", text)}
        for names in (index.clients, index.studies, index.images):
            assert not words & set(names)


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("", ""),
        ("/by-view/MLO//by-age/50-69/", "by-view/MLO/by-age/50-69"),
        ("by-client/demd1", "by-client/(1 client)"),
        ("by-client/demd1,demd2/by-view/CC", "by-client/(2 clients)/by-view/CC"),
        ("by-client/not-demd1,demd2", "by-client/not-(2 clients)"),
        ("by-client/demd1/1.2.3/by-view/CC", "by-client/(1 client)/(1 study)/by-view/CC"),
        ("by-outcome/CI/by-study/1.2.3", "by-outcome/CI/by-study/(1 study)"),
        ("by-episode/demd1~1,demd1~2", "by-episode/(2 episodes)"),
        ("all/by-view/CC", "all/by-view/CC"),
        ("cohorts/train/by-view/CC", "cohorts/train/by-view/CC"),
        ("as-png/by-view/CC", "as-png/by-view/CC"),
        ("by-view/CC/as-png/by-client/demd1", "by-view/CC/as-png/by-client/(1 client)"),
        ("1.2.3", "(1 study)"),
    ],
)
def test_the_definition_of_a_cohort_counts_what_it_names(path: str, shown: str) -> None:
    assert definition(path) == shown


def test_a_page_says_how_episodes_were_classified(reported: Callable[..., str], demo_database: Path) -> None:
    text = reported(demo_database, "by-view/CC/by-view/MLO", "--num-months-ci-prior", 36, "--link-all")
    assert "priors of interval cancers 36 months" in text
    assert "all (--link-all)" in text


def test_a_page_gives_the_size_of_the_database(reported: Callable[..., str], tmp_path: Path) -> None:
    tree = Tree(tmp_path / "db")
    tree.client("demd1").study().image("1", has_sidecar=False, dcm=b"none").image("2").client("demd2")
    (tmp_path / "clients").write_text("demd1\ndemd2\n")
    whole = "2 clients, 1 of them with images; 1 study; 2 images; 2 DICOM files and 1 JSON file of images"
    for options, words in (((), whole), (("--clients-file", "clients"), f"the 2 clients of a list: {whole}")):
        assert f"<dd>{words}</dd>" in reported(tree.root, "by-view/CC/by-view/MLO", *options)


def test_a_page_stands_alone_and_every_plot_has_an_alternative(
    reported: Callable[..., str], quirky_database: Quirky
) -> None:
    text = reported(quirky_database.path)
    assert not re.search(r"https?:|//[a-z]|@import|src=|<script|<link rel=\"(?!icon)", text)
    found = Reader(text)
    assert found.tags["svg"] == len(found.alternatives) == found.tags["figure"] >= 7
    assert all("table below" in words for words in found.alternatives)
    assert len(found.identifiers) == len(set(found.identifiers))
    assert set(re.findall(r"(?:url\(|href=\")#([^)\"]+)", text)) <= set(found.identifiers)


def test_two_reports_differ_in_their_date_only(demo_database: Path, tmp_path: Path) -> None:
    texts = []
    for seed in ("1", "2"):
        path = tmp_path / seed
        command = [sys.executable, "-m", "omidbfs", "report", str(demo_database), "by-age/50-54", "-o", str(path)]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONHASHSEED": seed})
        texts.append(re.sub(r"<dt>Made</dt><dd>[^<]*</dd>", "", path.read_text()))
    assert texts[0] == texts[1]


@pytest.mark.parametrize("path", ["by-view/CC/by-view/MLO", "by-site/adde"])
def test_a_cohort_of_nothing_and_one_of_next_to_nothing_have_a_page(
    reported: Callable[..., str], tmp_path: Path, path: str
) -> None:
    client = Tree(tmp_path / "db").client("demd1", site="adde").study().image(marks=MARK, PatientAge="000Y")
    text = reported(client.of.tree.root, path)
    found = Reader(text)
    if "site" in path:
        assert found.cards["images"] == (1, 1)
        assert found.cells["outcome", "total", "clients"] == 1
        assert found.cells["age", "unknown", "all clients"] == 1
    else:
        assert "<strong>The cohort is empty: by-view/CC took the only image.</strong>" in text
        assert (found.cells, found.cards) == ({}, {}), "one sentence, and no tables"


def test_a_page_is_for_its_owner_only_and_appears_whole(
    reported: Callable[..., str], demo_database: Path, tmp_path: Path
) -> None:
    reported(demo_database, "by-view/CC/by-view/MLO")
    assert stat.S_IMODE((tmp_path / "report.html").stat().st_mode) == 0o600
    command = f"ulimit -f 0; exec {sys.executable} -m omidbfs report {demo_database} -o report.html"
    before = (tmp_path / "report.html").read_bytes()
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode != 0
    assert (tmp_path / "report.html").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".report")] == []


@pytest.mark.parametrize("name", ["x.pdf", "x.PDF", "x.txt", "some.where/x.json"])
def test_an_output_that_is_not_named_html_is_refused(
    run: Callable[..., Result], demo_database: Path, tmp_path: Path, name: str
) -> None:
    result = run("report", demo_database, "-o", name)
    assert result.exit_code == 1
    better = f"{name.rpartition('.')[0]}.html"
    assert result.stderr == (
        f"omidbfs: {name}: a report is HTML; name it {better}, and a browser prints that as PDF\n"
    )
    assert list(tmp_path.glob("x*")) == []


def test_a_page_can_go_to_standard_output(run: Callable[..., Result], demo_database: Path, tmp_path: Path) -> None:
    result = run("report", demo_database, "by-view/CC/by-view/MLO", "-o", "-", "--verify-first")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("<!DOCTYPE html>")
    assert list(tmp_path.glob("-*")) == []


def test_without_a_library_for_plots_a_line_says_so(
    run: Callable[..., Result], demo_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omidbfs.cli.commands.report.find_spec", lambda name: None)
    result = run("report", demo_database, "-o", "report.html")
    assert result.exit_code == 1
    assert result.stderr == "omidbfs: report: not installed; pip install 'omidbfs[report]'\n"


# Several cohorts --------------------------------------------------------------------------------------------


def plain_difference(one: list[int], other: list[int]) -> float:
    """The formula of Yang and Dalton, term by term, without the first category."""
    p, q = [n / sum(one) for n in one], [n / sum(other) for n in other]
    size = len(p)
    s = np.zeros((size - 1, size - 1))
    for k in range(1, size):
        for j in range(1, size):
            both = p[k] * (1 - p[k]) + q[k] * (1 - q[k]) if k == j else -p[k] * p[j] - q[k] * q[j]
            s[k - 1, j - 1] = both / 2
    d = np.array([p[k] - q[k] for k in range(1, size)])
    return float(np.sqrt(d @ np.linalg.inv(s) @ d))


counts = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=2, max_size=7)


@given(counts)
@example([(10, 90), (90, 10)])
@example([(5, 0), (5, 9), (0, 1)])
def test_a_standardised_difference_is_that_of_yang_and_dalton(pairs: list[tuple[int, int]]) -> None:
    one, other = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    found = standardised_difference(one, other)
    if not sum(one) or not sum(other):
        assert found is None
    elif not any(a and b for a, b in pairs):
        assert found == float("inf")
    else:
        assert found is not None
        kept = [pair for pair in pairs if any(pair)]
        kept = kept if len(kept) > 1 else [*kept, *kept]
        if len([pair for pair in pairs if any(pair)]) > 1:
            assert found == pytest.approx(plain_difference(*map(list, zip(*kept, strict=True))), abs=1e-9)
        else:
            assert found == 0
        assert found == pytest.approx(standardised_difference(other[::-1], one[::-1]), abs=1e-9)
        if len(pairs) == 2:  # the known formula for two categories
            p, q = one[0] / sum(one), other[0] / sum(other)
            spread = (p * (1 - p) + q * (1 - q)) / 2
            assert found == pytest.approx(abs(p - q) / spread**0.5 if spread else 0, abs=1e-9)


def test_a_known_difference() -> None:
    assert standardised_difference([50, 50], [60, 40]) == pytest.approx(0.2020, abs=1e-4)
    assert standardised_difference([1, 2, 3], [10, 20, 30]) == pytest.approx(0)


@pytest.mark.parametrize("database", ["demo", "quirky"])
def test_cohorts_side_by_side_have_the_numbers_of_the_index(
    run: Callable[..., Result],
    reported: Callable[..., str],
    demo_database: Path,
    quirky_database: Quirky,
    database: str,
    tmp_path: Path,
) -> None:
    path = demo_database if database == "demo" else quirky_database.path
    cohorts = cohorts_of(path, run)
    paths = ("by-laterality/L", "by-manufacturer/hologic", "by-view/CC/by-view/MLO")
    text = reported(path, *paths, "--tables", "tables")
    found = Reader(text)
    index, by_name = cohorts.index, cohorts.index.registry.by_name
    assert "Cohort C is empty: by-view/MLO took" in text
    for letter, one in zip("ABC", paths, strict=True):
        rows = [row for row in range(len(index)) if cohorts.contains(at(cohorts, one), row)]
        assert found.cells["units", "images", letter] == len(rows)
        assert found.cells["units", "clients", letter] == len({int(index.client_of[row]) for row in rows})
        for name, of in (
            ("grade", None),
            ("view", None),
            ("site", index.client_of),
            ("standard-views", index.study_of),
        ):
            members = {
                (
                    " + ".join(
                        dict.fromkeys(cohorts.label(by_name[name], code) for code in index.codes_of(name, row))
                    ),
                    row if of is None else int(of[row]),
                )
                for row in rows
            }
            expected = Counter(label for label, _ in members)
            shown = {
                row: count
                for (table, row, column), count in found.cells.items()
                if (table, column) == (name, letter)
            }
            assert shown.pop("total") == sum(expected.values()), "every member is in one row"
            assert {row: count for row, count in shown.items() if count} == expected
    first, second = (
        [
            count
            for (table, row, column), count in found.cells.items()
            if (table, column) == ("view", letter) and row != "total"
        ]
        for letter in "AB"
    )
    shares = re.search(r'data-row="view"><th.*?</th><td>([^<]*)</td><td>([^<]*)</td>', text)
    assert shares is not None
    assert shares.groups() == (f"{plain_difference(first, second):.2f}", "–")
    assert found.tags["svg"] == len(found.alternatives) == 1


def test_tables_are_written_for_papers(
    run: Callable[..., Result], reported: Callable[..., str], demo_database: Path, tmp_path: Path
) -> None:
    text = reported(demo_database, "by-intent/presentation", "--tables", "tables")
    folder = tmp_path / "tables"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    cells = Reader(text).cells
    tables = {table for table, _, _ in cells}
    names = {f"{table}.{suffix}" for table in tables for suffix in ("csv", "tex")}
    assert {path.name for path in folder.iterdir()} == names
    for table in tables - {"flow"}:
        read = pandas.read_csv(folder / f"{table}.csv", index_col=0, keep_default_na=False, dtype={0: str})
        read.index = read.index.map(str)
        told = {(row, column): count for (of, row, column), count in cells.items() if of == table}
        assert {place: read.loc[place] for place in told} == told
    again = run("report", demo_database, "by-intent/processing", "-o", "report.html", "--tables", "tables")
    assert again.exit_code == 0
    assert {path.name for path in folder.iterdir()} == names
    (tmp_path / "file").write_text("")
    assert run("report", demo_database, "-o", "r.html", "--tables", "file").exit_code == 1
    assert (tmp_path / "file").read_text() == ""


# In a browser -----------------------------------------------------------------------------------------------


def browsed(page: Path, *options: str) -> tuple[str, list[str]]:
    """The page in Chromium, and the messages on its console."""
    profile = page.with_name(f"{page.name}.profile")
    quiet = ("background-networking", "component-update", "sync", "quic", "gpu", "dev-shm-usage", "extensions")
    command = [
        "chromium",
        "--headless",
        "--no-sandbox",
        "--no-first-run",
        f"--user-data-dir={profile}",
        "--enable-logging=stderr",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        *(f"--disable-{what}" for what in quiet),
        *options,
        page.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@needs("chromium")
def test_a_browser_shows_the_page_without_a_warning(
    reported: Callable[..., str], quirky_database: Quirky, tmp_path: Path
) -> None:
    written = Reader(reported(quirky_database.path))
    shown, console = browsed(tmp_path / "report.html", "--dump-dom")
    assert console == []
    found = Reader(shown)
    assert found.cells == written.cells
    assert found.tags["svg"] == written.tags["svg"]
    assert found.identifiers == written.identifiers


@needs("chromium")
def test_a_browser_reports_errors_and_the_page_loads_nothing(
    reported: Callable[..., str], demo_database: Path, tmp_path: Path
) -> None:
    text = reported(demo_database, "by-view/CC")
    (tmp_path / "bad.html").write_text(text.replace("<body>", '<body><img src="http://127.0.0.1:9/x.png">'))
    _, console = browsed(tmp_path / "bad.html", "--dump-dom")
    assert any("Content Security Policy" in line for line in console)


@needs("chromium")
def test_the_page_prints(reported: Callable[..., str], demo_database: Path, tmp_path: Path) -> None:
    reported(demo_database)
    browsed(tmp_path / "report.html", f"--print-to-pdf={tmp_path / 'report.pdf'}")
    content = (tmp_path / "report.pdf").read_bytes()
    assert content.startswith(b"%PDF-")
    assert 4 <= len(re.findall(rb"/Type\s*/Page\b", content)) <= 20
