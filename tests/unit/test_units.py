"""Clients, episodes, studies and images are counted as pandas counts them in the raw JSON."""

import csv
import io
import json
import os
import stat
import subprocess
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from naive import documents, links_of
from programs import needs
from test_cli import on_terminal
from test_naive_facets import first, loaded, of_marks, side_of
from trees import MARK, Quirky, Tree

import omidbfs.cohorts.tabulated
import omidbfs.cohorts.units
from omidbfs.base.errors import UserError
from omidbfs.cli.main import main
from omidbfs.cohorts.cohort import EVERYTHING, Cohort, Cohorts, Term
from omidbfs.cohorts.tabulated import Table, crossed, most_frequent, share, words
from omidbfs.cohorts.units import UNITS, Groups, Selected
from omidbfs.database.layout import find_source
from omidbfs.exports.counts import WRITERS, as_csv, as_latex, as_markdown
from omidbfs.facets import Level
from omidbfs.index.build import refreshed
from omidbfs.index.columns import occurring
from omidbfs.report.priors import intervals, priors

CLASSES = {"N": "normal", "B": "benign", "M": "malignant", "CI": "interval-cancer"}
MAKERS = {"fu": "fujifilm", "ge": "ge", "ho": "hologic", "lo": "hologic", "ph": "philips"}
MAKERS |= {"se": "sectra", "si": "siemens"}
FACETS = ("classification", "site", "intent", "laterality", "manufacturer", "age", "grade", "conspicuity")
Run = Callable[..., Result]


@pytest.fixture(scope="module")
def frame(demo_database: Path) -> pandas.DataFrame:
    """One row per image, read from the raw JSON; facets with several values have lists."""
    rows = []
    for folder in sorted((demo_database / "data").iterdir()):
        client = folder.name
        nbss, imagedb = (loaded(folder / f"{kind}_{client}.json") for kind in ("nbss", "imagedb"))
        assert nbss is not None
        assert imagedb is not None
        links, _ = links_of(*documents(demo_database / "data", client), {path.name for path in folder.iterdir()})
        for path in sorted(folder.glob("*/*.json")):
            sidecar, study = loaded(path), path.parent.name
            assert sidecar is not None
            link = links.get(study)
            number = None if link is None else link.episode
            episode = None if number is None else nbss[number]
            series = imagedb["STUDIES"].get(study, {})
            marks = next(
                (one[path.stem] for one in series.values() if isinstance(one, dict) and path.stem in one), None
            )
            of_lesions = of_marks(marks or None, side_of(sidecar), episode)
            age = str(first(sidecar, "00101010")).rstrip("Y")
            low = int(age) // 5 * 5 if age.isdecimal() and int(age) else None
            rows.append(
                {
                    "clients": client,
                    "episodes": None if number is None else f"{client}~{number}",
                    "studies": study,
                    "images": path.stem,
                    "day": series.get("StudyDate"),
                    "classification": CLASSES.get(nbss.get("Classification"), "unknown"),
                    "site": imagedb.get("Site", "unknown"),
                    "intent": str(first(sidecar, "00080068")).removeprefix("FOR ").lower(),
                    "laterality": side_of(sidecar) or "unknown",
                    "manufacturer": MAKERS[str(first(sidecar, "00080070")).lower()[:2]],
                    "age": "unknown" if low is None else f"{low}-{low + 4}",
                    "grade": of_lesions["grade"],
                    "conspicuity": of_lesions["conspicuity"],
                }
            )
    return pandas.DataFrame(rows)


@pytest.fixture(scope="module")
def cohorts(demo_database: Path) -> Cohorts:
    return Cohorts(refreshed(find_source(demo_database)))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return lambda *arguments: CliRunner().invoke(main, [str(one) for one in arguments], prog_name="omidbfs")


def said(result: Result) -> str:
    assert result.exit_code == 0, result.stderr
    return result.stdout


def at(cohorts: Cohorts, **values: str) -> Cohort:
    cohort = EVERYTHING
    for name, value in values.items():
        term = cohorts.term(cohorts.index.registry.by_name[name], value)
        assert term is not None
        cohort = cohort.narrowed(term)
    return cohort


def chosen(frame: pandas.DataFrame, values: dict[str, str]) -> pandas.DataFrame:
    for name, value in values.items():
        frame = frame[frame[name] == value]
    return frame


SOME = (
    {},
    {"intent": "presentation", "manufacturer": "hologic"},
    {"classification": "malignant", "laterality": "L"},
)


@pytest.mark.parametrize("values", SOME, ids=len)
def test_each_value_has_as_many_members_as_pandas_counts(
    frame: pandas.DataFrame, cohorts: Cohorts, values: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    part, selected = chosen(frame, values), Selected(cohorts, at(cohorts, **values))
    assert {level.plural: number for level, number in selected.totals.items()} == {
        unit.plural: part[unit.plural].nunique() for unit in UNITS
    }
    for most in (omidbfs.cohorts.units._MOST_CELLS, 0):  # an array of booleans, and a sort
        monkeypatch.setattr(omidbfs.cohorts.units, "_MOST_CELLS", most)
        for name in FACETS:
            groups = selected.groups(cohorts.index.registry.by_name[name])
            for unit in UNITS:
                counts = part.explode(name).groupby(name)[unit.plural].nunique()
                found = zip(groups.labels, selected.per_value(groups, unit), strict=True)
                assert dict(found) == counts.to_dict(), (name, unit)


@pytest.mark.parametrize("values", SOME, ids=len)
@pytest.mark.parametrize(
    ("down", "across"),
    [
        ("classification", "manufacturer"),
        ("manufacturer", "site"),
        ("grade", "conspicuity"),
        ("grade", "laterality"),
    ],
)
def test_each_pair_of_values_has_as_many_members_as_pandas_counts(
    frame: pandas.DataFrame, cohorts: Cohorts, values: dict[str, str], down: str, across: str
) -> None:
    part, selected = chosen(frame, values), Selected(cohorts, at(cohorts, **values))
    by_name = cohorts.index.registry.by_name
    for unit in UNITS:
        table = crossed(selected, by_name[down], by_name[across], unit)
        pairs = part.explode(down).explode(across)
        counts = pairs.groupby([down, across])[unit.plural].nunique().to_dict()
        cells = {
            (label, column): count
            for label, counted in table.body()
            for column, count in zip(table.columns[:-1], counted, strict=False)
            if count
        }
        assert cells == {pair: count for pair, count in counts.items() if count}
        rows = pairs.groupby(down)[unit.plural].nunique().to_dict()
        assert {label: counted[-1] for label, counted in table.body()} == rows
        columns = pairs.groupby(across)[unit.plural].nunique().to_dict()
        assert dict(zip(table.columns[:-1], table.rows[-1][1], strict=False)) == columns
        assert table.rows[-1] == ("total", (*table.of[:-1], part[unit.plural].nunique()))
        is_sum = sum(rows.values()) == part[unit.plural].nunique() == sum(columns.values())
        assert is_sum or "the totals need not be the sums" in table.note


def test_identifiers_and_types_of_files_are_counted_too(cohorts: Cohorts, quirky_database: Quirky) -> None:
    by_name, index = cohorts.index.registry.by_name, cohorts.index
    selected = Selected(cohorts, EVERYTHING)
    for name in ("client", "study", "episode"):
        groups = selected.groups(by_name[name])
        counts = dict(zip(groups.labels, selected.per_value(groups, Level.IMAGE), strict=True))
        assert counts == dict(cohorts.counts(EVERYTHING, by_name[name]))
        assert list(counts) == [label for label, _ in cohorts.counts(EVERYTHING, by_name[name])]
    assert len(index.clients) == len(selected.groups(by_name["client"]))
    odd = Cohorts(refreshed(find_source(quirky_database.path)))
    for facet in odd.index.registry.facets:
        for terms in ((), (Term("laterality", frozenset([0])),), (Term("view", frozenset(), negated=False),)):
            part = Selected(odd, Cohort(terms))
            groups = part.groups(facet)
            counts = dict(zip(groups.labels, part.per_value(groups, Level.IMAGE), strict=True))
            if not facet.several:  # counts() counts an image twice if two of its codes share a name
                assert counts == dict(odd.counts(Cohort(terms), facet)), facet.name


@given(
    st.lists(st.tuples(st.integers(-1, 4), st.integers(0, 3), st.integers(1, 5)), max_size=12),
    st.sampled_from([None, ((0,), (1, 3), (1, 2), (2,))]),
)
def test_each_member_is_counted_once_in_each_of_its_values(
    runs: list[tuple[int, int, int]], sets: tuple[tuple[int, ...], ...] | None
) -> None:
    pairs = [(member, code) for member, code, times in runs for _ in range(times)]
    selected = Selected.__new__(Selected)
    selected._members = {Level.EPISODE: np.array([member for member, _ in pairs], np.int32)}
    groups = Groups(("a", "b", "c", "d"), np.array([code for _, code in pairs], np.uint8), sets)
    of_code = sets or tuple((code,) for code in range(4))
    wanted = [len({member for member, code in pairs if member >= 0 and at in of_code[code]}) for at in range(4)]
    with pytest.MonkeyPatch.context() as patch:
        for most in (omidbfs.cohorts.units._MOST_CELLS, 0):  # an array of booleans, and a sort
            patch.setattr(omidbfs.cohorts.units, "_MOST_CELLS", most)
            assert selected.per_value(groups, Level.EPISODE) == wanted


@given(st.lists(st.integers(0, 40), max_size=50), st.sampled_from([np.uint8, np.uint16, np.uint32]))
def test_codes_that_occur_are_those_of_numpy(codes: list[int], dtype: type[np.unsignedinteger]) -> None:
    assert occurring(np.array(codes, dtype)).tolist() == sorted(set(codes))


def test_a_table_that_would_not_fit_into_memory_is_refused(
    cohorts: Cohorts, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_name, selected = cohorts.index.registry.by_name, Selected(cohorts, EVERYTHING)
    cells = len(selected.groups(by_name["client"])) * len(selected.groups(by_name["view"]))
    monkeypatch.setattr(omidbfs.cohorts.tabulated, "_MOST_CELLS", cells)
    assert crossed(selected, by_name["client"], by_name["view"], Level.IMAGE).rows[-1][0] == "total"
    monkeypatch.setattr(omidbfs.cohorts.tabulated, "_MOST_CELLS", cells - 1)
    with pytest.raises(UserError, match=r"by-client and by-view: .* values are too many for a table"):
        crossed(selected, by_name["client"], by_name["view"], Level.IMAGE)


def test_rare_values_become_one(cohorts: Cohorts) -> None:
    sets = ((0,), (1, 2), (2, 3), (3,), (4,))
    groups = Groups(("a", "b", "c", "d", "unknown"), np.array([0, 0, 0, 1, 2, 3, 4]), sets)
    joined = most_frequent(groups, 3)
    assert joined.labels == ("a", "unknown", "3 further") or joined.labels == ("a", "c", "unknown", "2 further")
    assert joined.sets is not None
    assert all(len(set(places)) == len(places) for places in joined.sets)
    assert most_frequent(groups, 5) is groups


def test_priors_are_those_of_pandas(frame: pandas.DataFrame, cohorts: Cohorts) -> None:
    studies = frame.drop_duplicates("studies").assign(day=lambda one: pandas.to_datetime(one.day))
    expected: dict[str, int] = {}
    for name, of in studies.dropna(subset="episodes").groupby("episodes"):
        start = of.day.min()
        before = studies[(studies.clients == str(name).partition("~")[0]) & (studies.day < start)]
        expected[str(name)] = -1 if before.empty else (start - before.day.max()).days
    ordinals = cohorts.ordinals(EVERYTHING, Level.EPISODE)
    names = [name.decode() for name in cohorts.levels[Level.EPISODE].names(ordinals)]
    found = dict(zip(names, intervals(cohorts.index, ordinals).tolist(), strict=True))
    assert found == expected
    assert sum(days > 0 for days in found.values()) > 10
    rows = dict(priors(Selected(cohorts, EVERYTHING)).rows)
    years = pandas.Series([days for days in expected.values() if days >= 0]) / 365.25
    assert rows["3 to under 4 years"][0] == ((years >= 3) & (years < 4)).sum()
    assert rows["no earlier study"][0] == list(expected.values()).count(-1)
    assert rows["total"] == (len(expected), len({name.partition("~")[0] for name in expected}))
    part = Selected(cohorts, at(cohorts, classification="malignant"))
    assert dict(priors(part).rows)["total"][0] == part.totals[Level.EPISODE]


def test_only_studies_with_a_date_are_priors(tmp_path: Path) -> None:
    client = Tree(tmp_path / "db").client("demd1").episode("2", day="2015-01-01")
    client.study("1.1", "2", "2015-01-01").image("1").study("1.2", "2", "2015-02-01").image("2")
    client.study("1.3", None, None).image("3")
    client.client("demd2").study("2.1", None, "2014-01-01").image("4")
    index = refreshed(find_source(tmp_path / "db"))
    assert intervals(index, np.array([0])).tolist() == [-1]
    client.study("1.4", None, "2014-12-02").image("5")
    index = refreshed(find_source(tmp_path / "db"))
    assert intervals(index, np.array([0])).tolist() == [30]
    assert intervals(index, np.array([], np.int64)).tolist() == []


# Commands ---------------------------------------------------------------------------------------------------


def test_count_prints_one_number_or_all(run: Run, demo_database: Path, frame: pandas.DataFrame) -> None:
    part = frame[frame.laterality == "L"]
    counts = {unit: part[unit].nunique() for unit in ("clients", "episodes", "studies", "images")}
    for unit, number in counts.items():
        assert said(run("count", demo_database, "by-laterality/L", "--of", unit)) == f"{number}\n"
    lines = said(run("count", demo_database, "by-laterality/L", "--all")).splitlines()
    assert {line.split()[0]: int(line.split()[1]) for line in lines} == counts
    assert json.loads(said(run("count", demo_database, "by-laterality/L", "--json"))) == counts
    assert json.loads(said(run("count", demo_database, "--of", "studies", "--json"))) == {
        "studies": frame.studies.nunique()
    }
    wrong = run("count", demo_database, "--all", "--of", "clients")
    assert wrong.exit_code == 2
    assert "--of, --all and --steps exclude each other" in wrong.stderr


def test_facets_counts_units_and_names_the_unit(run: Run, demo_database: Path, frame: pandas.DataFrame) -> None:
    counts = frame.groupby("manufacturer").clients.nunique()
    found = run("facets", demo_database, "by-intent/presentation", "by-site", "manufacturer", "--of", "clients")
    head, *lines = said(found).splitlines()
    assert head.split() == ["value", "clients", "of", str(frame.clients.nunique())]
    assert [line.split("/")[0] for line in lines] == sorted((line.split("/")[0] for line in lines), reverse=True)
    shown = {line.split()[0]: line.split()[1:] for line in lines}
    for maker, number in counts.items():
        percent = int(100 * Fraction(int(number), frame.clients.nunique()) + Fraction(1, 2))
        assert shown[f"by-manufacturer/{maker}"] == [str(number), f"{percent}", "%"]
    in_facet = json.loads(
        said(run("facets", demo_database, "by-laterality/L/by-grade", "--of", "episodes", "--json"))
    )
    left = frame[frame.laterality == "L"].explode("grade")
    assert in_facet == {"grade": left.groupby("grade").episodes.nunique().to_dict()}
    assert "numbers of studies, of " in on_terminal("facets", demo_database, "--of", "studies")[0]
    wrong = run("facets", demo_database, "", "by-manufacter")
    assert wrong.exit_code == 1
    assert "omidbfs: FACET: there is no by-manufacter; did you mean manufacturer?" in wrong.stderr


def test_table_counts_pairs_in_every_form(
    run: Run, demo_database: Path, frame: pandas.DataFrame, tmp_path: Path
) -> None:
    words_of = ("table", demo_database, "--rows", "by-manufacturer", "--columns", "age", "--of", "clients")
    counts = frame.groupby(["manufacturer", "age"]).clients.nunique()
    total = frame.clients.nunique()
    found = json.loads(said(run(*words_of, "--format", "json")))
    assert found["total"] == total
    of_column = frame.groupby("age").clients.nunique()
    assert found["column_totals"] == of_column.to_dict()
    assert found["row_totals"] == frame.groupby("manufacturer").clients.nunique().to_dict()
    table = pandas.read_csv(io.StringIO(said(run(*words_of, "--format", "csv"))), index_col=0)
    assert table.loc["total", "total"] == total
    text = said(run(*words_of))
    for (maker, age), number in counts.items():
        assert found["counts"][maker][age] == number == table.loc[maker, age]
        percent = round(100 * number / of_column[age] + 1e-9, 1)
        assert found["shares"][maker][age] == pytest.approx(percent) == table.loc[maker, f"{age} %"]
        assert f"{number} ({percent} %)" in text
    assert said(run(*words_of, "--format", "markdown")).count("\n|") == len(found["counts"]) + 2
    latex = said(run(*words_of, "--format", "latex"))
    assert latex.count(r"\\") == len(found["counts"]) + 2
    assert {line.count("&") for line in latex.splitlines() if line.endswith(r"\\")} == {len(of_column) + 1}
    assert said(run(*words_of, "-o", "t.tex")) == ""
    assert (tmp_path / "t.tex").read_text() == latex
    assert stat.S_IMODE((tmp_path / "t.tex").stat().st_mode) == 0o600
    wrong = run("table", demo_database, "--rows", "lateralty", "--columns", "view")
    assert (wrong.exit_code, wrong.stderr) == (
        1,
        "omidbfs: --rows: there is no by-lateralty; did you mean laterality?\n",
    )


def test_a_facet_of_the_configuration_is_counted_like_others(
    run: Run, demo_database: Path, frame: pandas.DataFrame, tmp_path: Path
) -> None:
    clients = sorted(frame.clients.unique())
    (tmp_path / "arms.csv").write_text("client,arm\n" + "".join(f"{one},total\n" for one in clients[:9]))
    (tmp_path / "omidbfs.toml").write_text('[facets.arm]\ncsv = "arms.csv"\n')
    found = json.loads(
        said(
            run(
                "table", demo_database, "--rows", "arm", "--columns", "site", "--of", "clients", "--format", "json"
            )
        )
    )
    assert found["row_totals"] == {"total": 9, "unknown": len(clients) - 9}, "a value may be called total"


def test_tables_escape_what_has_a_meaning_in_their_form() -> None:
    odd = r"=A&B_%$#{}~^\ |x| <y> [z] *"
    table = Table("k", "Title", "A note_of 50 %.", odd, (odd,), ((odd, (1,)), ("total", (2,))), (2,))
    latex = as_latex(table)
    assert r"=A\&B\_\%\$\#\{\}\textasciitilde{}\textasciicircum{}\textbackslash{} \textbar{}x" in latex
    assert "{[}z{]} {*}" in latex
    assert as_latex(replace(table, rows=(("a--b", (0,)), ('"', (1,))))).count(r"a-{}-b & \textendash{} ") == 1
    assert latex.splitlines()[0].startswith("% Title. A note_of 50 %.")
    cells = list(csv.reader(io.StringIO(as_csv(table))))
    assert cells == [[f"'{odd}", f"'{odd}", f"'{odd} %"], [f"'{odd}", "1", "50.0"], ["total", "2", "100.0"]]
    assert r"=A&B\_%\$\#\{\}\~^\\ \|x\| \<y\> \[z\] \*" in as_markdown(table)
    assert set(WRITERS) == {"text", "csv", "markdown", "latex", "json"}


@needs("pdflatex")
def test_latex_compiles(run: Run, demo_database: Path, tmp_path: Path) -> None:
    cohorts = ["by-outcome/malignant", "by-outcome/interval-cancer", "by-view/CC/by-view/MLO"]
    said(run("report", demo_database, *cohorts, "-o", "r.html", "--tables", "several"))
    said(run("report", demo_database, cohorts[0], "-o", "r.html", "--tables", "one"))
    odd = "".join(map(chr, range(33, 127))) + "\u2013 \u221e -- ?` [z]"
    table = Table("k", "Title", "A note", odd, (odd, odd), ((odd, (0, 1)), (f"[{odd}", (1, 2))), (2, 2))
    (tmp_path / "odd.tex").write_text(as_latex(table))
    files = [path for path in sorted(tmp_path.rglob("*.tex")) if path.stat().st_size]
    inputs = "".join(f"\\input{{{path.relative_to(tmp_path)}}}\n\n" for path in files)
    text = f"\\documentclass{{article}}\\usepackage{{booktabs}}\n\\begin{{document}}\n{inputs}\\end{{document}}"
    (tmp_path / "all.tex").write_text(text)
    assert len(files) > 20
    assert any("$\\infty$" in path.read_text() for path in files)
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-draftmode", "all.tex"],
        cwd=tmp_path,
        env=os.environ | {"HOME": str(tmp_path), "MKTEXPK": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]


@pytest.mark.parametrize(
    ("count", "of", "shown"),
    [
        (0, 0, ""),
        (0, 3, "0.0"),
        (1, 2000, "0.1"),
        (1, 2001, "0.0"),
        (2, 3, "66.7"),
        (5, 5, "100.0"),
        (999, 1000, "99.9"),
    ],
)
def test_a_half_is_rounded_up(count: int, of: int, shown: str) -> None:
    assert share(count, of) == (f"{shown}\N{NO-BREAK SPACE}%" if shown else "")


def test_names_of_tables_become_words() -> None:
    for label, shown in {
        "interval-cancer": "interval cancer",
        "MLO": "MLO",
        "50-54": "50-54",
        "r1-normal": "r1 normal",
        "senograph-ds-43.10.1": "senograph-ds-43.10.1",
    }.items():
        assert words(label) == shown


# Steps ------------------------------------------------------------------------------------------------------


def steps(run: Run, *arguments: object) -> list[tuple[str, dict[str, int], dict[str, int]]]:
    found = json.loads(said(run("count", *arguments, "--steps", "--json")))
    return [(one["part"], one["leaves"], one["takes"]) for one in found]


def units_of(frame: pandas.DataFrame) -> dict[str, int]:
    return {unit.plural: frame[unit.plural].nunique() for unit in UNITS}


def checked(
    found: list[tuple[str, dict[str, int], dict[str, int]]], parts: list[tuple[str, pandas.DataFrame]]
) -> None:
    """Check names and numbers of steps, from the frames that pandas has left after each."""
    assert [part for part, _, _ in found] == [part for part, _ in parts]
    before = units_of(parts[0][1])
    for (_, leaves, takes), (_, frame) in zip(found, parts, strict=True):
        assert leaves == units_of(frame)
        assert takes == {unit: before[unit] - leaves[unit] for unit in leaves}
        before = leaves


def test_each_part_of_a_path_leaves_and_takes_what_pandas_says(
    run: Run, demo_database: Path, frame: pandas.DataFrame
) -> None:
    left, parts = frame, [("every image", frame)]
    for name, value in (("intent", "presentation"), ("manufacturer", "hologic"), ("laterality", "L")):
        left = left[left[name] == value]
        parts.append((f"by-{name}/{value}", left))
    path = "/".join(part for part, _ in parts[1:])
    checked(steps(run, demo_database, f"all/{path}/by-laterality/L"), parts)
    text = said(run("count", demo_database, path, "--steps"))
    assert text.splitlines()[0].split() == [unit.plural for unit in UNITS]
    assert [line.split()[-1] for line in text.splitlines()[1:]][-2] == str(len(left))
    client, study = left.clients.iloc[0], left.studies.iloc[0]
    of_client, of_study = frame[frame.clients == client], frame[frame.studies == study]
    tree = [("every image", frame), (f"by-client/{client}", of_client), (study, of_study)]
    checked(steps(run, demo_database, f"by-client/{client}/{study}"), tree)


def test_named_cohorts_and_lists_have_a_step_for_each_part(
    run: Run, demo_database: Path, frame: pandas.DataFrame, tmp_path: Path
) -> None:
    clients, images = sorted(frame.clients.unique()), sorted(frame.images)
    (tmp_path / "clients.txt").write_text("\n".join(clients[:15]))
    (tmp_path / "images.txt").write_text("\n".join(images[::7]))
    (tmp_path / "only.txt").write_text("\n".join(clients[3:]))
    (tmp_path / "omidbfs.toml").write_text(
        '[cohorts.train]\npath = "by-laterality/L/by-intent/presentation"\nclients = "clients.txt"\n'
        '[cohorts.train.exclude]\npath = "by-manufacturer/hologic"\nimages = "images.txt"\n'
        '[cohorts.every]\npath = "all"\n'
        '[cohorts.most]\npath = "all"\ninclude = ["every"]\nexclude = "by-laterality/R"\n'
    )
    checked(steps(run, demo_database, "cohorts/every"), [("every image", frame), ("cohorts/every: all", frame)])
    checked(
        steps(run, demo_database, "cohorts/most"),
        [
            ("every image", frame),
            ("cohorts/most: all", frame),
            ("cohorts/most: in cohort every", frame),
            ("cohorts/most: without by-laterality/R", frame[frame.laterality == "L"]),
        ],
    )
    only = frame[frame.clients.isin(clients[3:])]
    left = only[only.laterality == "L"]
    shown = left[left.intent == "presentation"]
    listed = shown[shown.clients.isin(clients[:15])]
    kept = listed[~((listed.manufacturer == "hologic") & listed.images.isin(images[::7]))]
    last = kept[kept.site == "stge"]
    found = steps(run, demo_database, "cohorts/train/by-site/stge", "--clients-file", "only.txt")
    parts = [
        ("every image", frame),
        (f"--clients-file ({len(clients) - 3} clients)", only),
        ("cohorts/train: by-laterality/L", left),
        ("cohorts/train: by-intent/presentation", shown),
        ("cohorts/train: list of 15 clients", listed),
        (f"cohorts/train: without list of {len(images[::7])} images and by-manufacturer/hologic", kept),
        ("by-site/stge", last),
    ]
    checked(found, parts)
    assert (
        str(len(last))
        == said(run("count", demo_database, "cohorts/train/by-site/stge", "--clients-file", "only.txt")).strip()
    )


def test_a_step_may_be_a_rendition_or_a_type_of_file(run: Run, tmp_path: Path) -> None:
    study = Tree(tmp_path / "db").client("demd1").study()
    study.image("1", has_sidecar=False, dcm=b"none").image("2", Rows=2, Columns=2, BitsAllocated=16)
    found = steps(run, "db", "as-npy/by-file-type/dcm")
    assert [part for part, _, _ in found] == ["every image", "as-npy"]
    found = steps(run, "db", "by-file-type/json")
    assert found[-1][0] == "by-file-type/json"
    assert found[-1][2]["images"] == 1


def test_an_empty_cohort_says_which_part_emptied_it(run: Run, tmp_path: Path) -> None:
    study = Tree(tmp_path / "db").client("demd1").study()
    study.image("1", ViewPosition="CC", marks=MARK).image("2", ViewPosition="CC").image("3", ViewPosition="MLO")
    text = said(run("count", "db", "by-view/CC/by-marked/yes/by-view/MLO/by-intent/processing", "--steps"))
    assert text.endswith("\nThe cohort is empty: by-view/MLO took the only image.\n")
    text = said(run("count", "db", "by-view/CC/by-view/MLO", "--steps"))
    assert text.endswith("\nThe cohort is empty: by-view/MLO took the last 2 images.\n")
    assert "empty" not in said(run("count", "db", "by-view/CC", "--steps"))
    assert run("count", "db", "by-view/CC/by-view/MLO").stderr == ""
    assert on_terminal_error("count", str(tmp_path / "db"), "by-view/CC/by-view/MLO") == [
        "omidbfs: by-view/MLO took the last 2 images: --steps shows more"
    ]


def on_terminal_error(*words_of: str) -> list[str]:
    import os
    import subprocess
    import sys

    terminal, its_end = os.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "omidbfs", *words_of], stdout=subprocess.PIPE, stderr=its_end, check=True
    )
    os.close(its_end)
    lines = os.read(terminal, 1 << 16).decode().splitlines()
    os.close(terminal)
    assert done.stdout == b"0\n"
    return [line for line in lines if "as of" not in line]
