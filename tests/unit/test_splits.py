"""Splits: shares of strata and of parts, reproducible, and unchanged under growth."""

import csv
import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from omidbfs.cli.main import main
from omidbfs.cohorts.splits import POOLED, grown, rounded, split

WEIGHTS = st.lists(st.integers(1, 60), min_size=2, max_size=6)
SIZES = st.lists(st.integers(0, 60), max_size=12)
PARTS = {"train": 70, "val": 10, "test": 20}


@st.composite
def clients(draw: st.DrawFn) -> dict[str, str]:
    strata = draw(st.lists(st.sampled_from("abcdefgh"), max_size=80))
    return {f"demd{number}": stratum for number, stratum in enumerate(strata)}


def is_rounded(number: int, size: int, weight: int, whole: int) -> bool:
    return size * weight // whole <= number <= -(-size * weight // whole)


@given(SIZES, WEIGHTS)
def test_each_cell_and_each_sum_is_the_share_rounded_down_or_up(sizes: list[int], weights: list[int]) -> None:
    table, whole = rounded(sizes, weights), sum(weights)
    assert [sum(row) for row in table] == sizes
    for size, row in zip(sizes, table, strict=True):
        assert all(is_rounded(number, size, weight, whole) for number, weight in zip(row, weights, strict=True))
    for place, weight in enumerate(weights):
        assert is_rounded(sum(row[place] for row in table), sum(sizes), weight, whole)


@pytest.mark.parametrize(
    ("sizes", "weights", "table"),
    [
        ([2, 1, 3], [1, 1, 4], [[0, 0, 2], [0, 1, 0], [1, 0, 2]]),
        ([1, 2, 1, 4], [1, 3, 4], [[0, 0, 1], [0, 1, 1], [0, 1, 0], [1, 1, 2]]),  # by way of a third part
    ],
)
def test_units_move_between_parts_where_rounding_each_row_gives_a_wrong_sum(
    sizes: list[int], weights: list[int], table: list[list[int]]
) -> None:
    assert rounded(sizes, weights) == table


@given(SIZES, WEIGHTS, st.data())
def test_growth_takes_from_no_part_and_goes_where_most_is_missing(
    sizes: list[int], weights: list[int], data: st.DataObject
) -> None:
    taken = [data.draw(st.lists(st.integers(0, 9), min_size=len(weights), max_size=len(weights))) for _ in sizes]
    sizes = [sum(row) + size for row, size in zip(taken, sizes, strict=True)]
    table, whole = grown(taken, sizes, weights), sum(weights)
    for size, before, after in zip(sizes, taken, table, strict=True):
        assert sum(after) == size
        lacking = [size * weight - number * whole for weight, number in zip(weights, after, strict=True)]
        for place, (old, new) in enumerate(zip(before, after, strict=True)):
            assert new >= old
            # A client that a part got would be missed more there than in any other part.
            assert new == old or lacking[place] + whole >= max(lacking)


@given(clients(), st.integers(0, 3))
def test_a_client_is_in_one_part_whatever_the_order_of_the_clients(strata: dict[str, str], seed: int) -> None:
    found = split(strata, PARTS, seed)
    assert found.part_of.keys() == strata.keys()
    assert found == split(dict(reversed(strata.items())), PARTS, seed)
    counted: Mapping[str, Counter[str]] = defaultdict(Counter)
    for client, part in found.part_of.items():
        counted[POOLED if strata[client] in found.pooled else strata[client]][part] += 1
    assert {name: tuple(counts[part] for part in PARTS) for name, counts in counted.items()} == found.counts
    sizes = Counter(strata.values())
    assert found.pooled == {name: size for name, size in sizes.items() if size < len(PARTS)}


@given(clients(), clients())
def test_an_extended_split_moves_nobody_and_forgets_nobody(first: dict[str, str], other: dict[str, str]) -> None:
    earlier = split(first, PARTS)
    later = {f"new{name}": stratum for name, stratum in other.items()} | dict(list(first.items())[::2])
    found = split(later, PARTS, earlier=earlier.part_of)
    assert earlier.part_of.items() <= found.part_of.items()
    assert found.part_of.keys() == first.keys() | later.keys()
    assert sum(map(sum, found.counts.values())) == len(later)


def test_another_seed_chooses_other_clients() -> None:
    strata = {f"demd{number}": "all" for number in range(100)}
    assert split(strata, PARTS, 1).part_of != split(strata, PARTS, 2).part_of
    assert split(strata, PARTS, 1).counts == split(strata, PARTS, 2).counts


# The command


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)])


@pytest.fixture
def table(demo_database: Path, tmp_path: Path) -> Path:
    path = tmp_path / "split.csv"
    parts = "train=70,val=10,test=20"
    done = run("split", demo_database, "by-view/MLO", "--parts", parts, "--stratify", "outcome", "-o", path)
    assert done.exit_code == 0
    return path


def part_of(path: Path) -> dict[str, str]:
    with path.open(newline="") as stream:
        return {row["client"]: row["part"] for row in csv.DictReader(stream)}


def test_the_strata_are_the_sets_of_values_of_the_images_in_the_cohort(
    demo_database: Path, tmp_path: Path, table: Path
) -> None:
    naive: dict[str, set[str]] = defaultdict(set)
    outcomes = json.loads(run("facets", demo_database, "by-view/MLO", "--json").stdout)["outcome"]
    for outcome in outcomes:
        paths = run("export", demo_database, f"by-view/MLO/by-outcome/{outcome}", "--format", "csv").stdout
        for row in csv.DictReader(paths.splitlines()):
            naive[row["client"]].add(outcome)
    sizes = Counter("+".join(one for one in outcomes if one in values) for values in naive.values())
    parts = "train=70,val=10,test=20"
    done = run("split", demo_database, "by-view/MLO", "--parts", parts, "--stratify", "by-outcome", "-o", table)
    lines = [line.split() for line in done.stdout.splitlines()]
    shown = {line[0]: int(line[-1]) for line in lines[1:] if len(line) == 5}
    kept = {name: size for name, size in sizes.items() if size >= 3}
    pooled = sum(size for size in sizes.values() if size < 3)
    assert shown == kept | {"(pooled)": pooled, "all": len(naive)}
    assert f"  {min(name for name, size in sizes.items() if size < 3)}: " in done.stdout
    assert part_of(table).keys() == naive.keys()
    assert table.stat().st_mode & 0o777 == 0o600


def test_the_table_defines_a_facet_that_commands_take(demo_database: Path, tmp_path: Path, table: Path) -> None:
    config = tmp_path / "omidbfs.toml"
    config.write_text('[facets.part]\ncsv = "split.csv"\n')
    for part, size in Counter(part_of(table).values()).items():
        done = run("--config", config, "count", demo_database, f"by-part/{part}", "--json")
        assert json.loads(done.stdout)["clients"] == size


def test_extending_keeps_every_client_where_it_is(demo_database: Path, table: Path) -> None:
    before = part_of(table)
    arguments = ("split", demo_database, "all", "--parts", "train=70,val=10,test=20", "--stratify", "outcome")
    done = run(*arguments, "--extend", table, "-o", table)
    assert done.exit_code == 0
    assert before.items() <= part_of(table).items()
    done = run(*arguments[:2], "by-client/none", *arguments[3:])
    assert done.exit_code == 1
    only = next(iter(before))
    done = run(*arguments[:2], f"by-client/{only}", *arguments[3:], "--extend", table)
    assert f"kept from the earlier split, and not in this cohort: {len(part_of(table)) - 1} clients" in done.stderr
    assert len(done.stdout.splitlines()) == 1 + len(part_of(table))


def test_a_cohort_without_clients_gives_a_table_without_lines(demo_database: Path) -> None:
    done = run("split", demo_database, "by-view/CC/by-view/MLO", "--parts", "a=1,b=1")
    assert (done.exit_code, done.stdout) == (0, "client,part\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--parts", "train"], "train needs a positive number, as in train=70"),
        (["--parts", "a=1,b=0"], "b needs a positive number"),
        (["--parts", "a=1,b=nan"], "b needs a positive number"),
        (["--parts", "A=1,b=2"], "A is no name of a part: use a-z, 0-9 and hyphens"),
        (["--parts", "a=1,,b=2"], "nothing is no name of a part"),
        (["--parts", "a=1"], "name two parts or more"),
        (["--parts", "a=1,a=2"], "a is there twice"),
        (
            ["--parts", "a=1,b=2", "--stratify", "outcom"],
            "--stratify: there is no by-outcom; did you mean outcome",
        ),
        (
            ["--parts", "a=1,b=2", "--stratify", "client"],
            "by-client: its values are identifiers, files or",
        ),
        (["--parts", "a=1,b=2", "--extend", "TABLE"], "which --parts lacks"),
        (["--parts", "a=1,b=2", "--extend", "TWICE"], "demd1 is in two parts"),
        (["--parts", "a=1,b=2", "--extend", "none.csv"], "none.csv cannot be read"),
    ],
)
def test_a_mistake_is_said_in_one_line(
    demo_database: Path, tmp_path: Path, table: Path, options: list[str], message: str
) -> None:
    (tmp_path / "twice.csv").write_text("client,part\ndemd1,a\ndemd1,b\n")
    files = {"TABLE": str(table), "TWICE": str(tmp_path / "twice.csv")}
    done = run("split", demo_database, "all", *(files.get(option, option) for option in options))
    assert done.exit_code in (1, 2)
    assert message in done.stderr.splitlines()[-1]


def test_shares_may_have_decimals(demo_database: Path) -> None:
    whole = run("split", demo_database, "all", "--parts", "a=7,b=3")
    assert run("split", demo_database, "all", "--parts", "a=0.7,b=0.3").stdout == whole.stdout
