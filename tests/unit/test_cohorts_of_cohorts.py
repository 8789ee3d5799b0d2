"""Cohorts that a configuration defines by other cohorts, and the facet ``by-cohort``."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from trees import Tree

from omidbfs.cli.main import main
from omidbfs.cohorts.cohort import EVERYTHING, Cohorts
from omidbfs.cohorts.named import Criteria, NamedCohort, Others
from omidbfs.cohorts.resolved import Resolved, resolved
from omidbfs.database.layout import find_source
from omidbfs.facets import COHORT_FACET
from omidbfs.index.build import refreshed
from omidbfs.index.columns import Index
from omidbfs.serving.configuration import read_definitions
from omidbfs.view.root import Root

CONFIGURATION = """\
[cohorts.base]
path = "by-view/CC"

[cohorts.left]
path = "cohorts/base/by-laterality/L"

[cohorts.joined]
include = ["left", "mlo"]

[cohorts.mlo]
path = "by-view/MLO"

[cohorts.rest]
exclude = ["joined"]

[cohorts.one]
include = ["joined"]
path = "by-client/demd1"
exclude = ["left"]

[cohorts.by-path]
path = "by-cohort/not-left,mlo"

[cohorts.no-cc-of-1]
exclude = { path = "cohorts/base/by-client/demd1" }
"""
IMAGES = {
    "1.1.1": ("demd1", "CC", "L"),
    "1.1.2": ("demd1", "CC", "R"),
    "1.1.3": ("demd1", "MLO", "L"),
    "2.1.1": ("demd2", "CC", "L"),
    "2.1.2": ("demd2", "MLO", "R"),
    "2.1.3": ("demd2", "ML", "R"),
}
EXPECTED = {
    "base": {"1.1.1", "1.1.2", "2.1.1"},
    "left": {"1.1.1", "2.1.1"},
    "joined": {"1.1.1", "2.1.1", "1.1.3", "2.1.2"},
    "mlo": {"1.1.3", "2.1.2"},
    "rest": {"1.1.2", "2.1.3"},
    "one": {"1.1.3"},
    "by-path": {"1.1.2", "2.1.3"},
    "no-cc-of-1": {"1.1.3", "2.1.1", "2.1.2", "2.1.3"},
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    tree = Tree(tmp_path_factory.mktemp("cohorts") / "db")
    for client in ("demd1", "demd2"):
        study = tree.client(client).study(f"{client[-1]}.1")
        for name, (of, view, side) in IMAGES.items():
            if of == client:
                study.image(name, ViewPosition=view, ImageLaterality=side)
    return tree


@pytest.fixture(scope="module")
def index(tree: Tree) -> Index:
    return refreshed(find_source(tree.root))


@pytest.fixture
def run(tmp_path: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run a command with a configuration."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)

    def run(configuration: str, command: str, *arguments: str) -> Result:
        (tmp_path / "omidbfs.toml").write_text(configuration)
        words = [command, str(tree.root), "--index", str(tmp_path / "index"), *arguments]
        return CliRunner().invoke(main, words, prog_name="omidbfs")

    return run


def shown(run: Callable[..., Result], path: str, configuration: str = CONFIGURATION) -> set[str]:
    done = run(configuration, "ls", f"{path}/by-file-type/dcm")
    assert done.exit_code == 0, done.stderr
    return {line.removesuffix(".dcm") for line in done.stdout.split()}


def test_a_cohort_is_made_of_other_cohorts(run: Callable[..., Result]) -> None:
    for name, images in EXPECTED.items():
        assert shown(run, f"cohorts/{name}") == images, name


@pytest.mark.parametrize(
    ("path", "images"),
    [
        ("by-cohort/left", {"1.1.1", "2.1.1"}),
        ("by-cohort/left,one", {"1.1.1", "2.1.1", "1.1.3"}),
        ("by-cohort/not-base,mlo", {"2.1.3"}),
        ("by-cohort/base/by-cohort/not-left", {"1.1.2"}),
        ("cohorts/joined/by-cohort/base", {"1.1.1", "2.1.1"}),
        ("by-client/demd2/by-cohort/joined/by-view/MLO", {"2.1.2"}),
        ("by-cohort/none", set()),
    ],
)
def test_named_cohorts_nest_join_and_complement_in_paths(
    run: Callable[..., Result], path: str, images: set[str]
) -> None:
    assert shown(run, path) == images


def test_cohorts_are_counted_and_listed_like_other_facets(run: Callable[..., Result]) -> None:
    assert "by-cohort/" in run(CONFIGURATION, "ls").stdout.split()
    listed = run(CONFIGURATION, "ls", "cohorts/mlo/by-cohort").stdout.split()
    assert listed == ["joined/", "mlo/", "one/", "no-cc-of-1/"]
    counted = json.loads(run(CONFIGURATION, "facets", "--json").stdout)["cohort"]
    assert counted == {name: len(images) for name, images in EXPECTED.items()}
    some = '[cohorts.some]\npath = "by-view/ML"\n'
    assert json.loads(run(some, "facets", "--json").stdout)["cohort"] == {"some": 1, "none": 5}
    assert shown(run, "by-cohort/none", some) == set(IMAGES) - {"2.1.3"}
    options = ("--json", "cohorts/joined", "by-cohort", "--of", "clients")
    clients = json.loads(run(CONFIGURATION, "facets", *options).stdout)
    of_client = {image: client for image, (client, *_) in IMAGES.items()}
    both = {name: {of_client[image] for image in images & EXPECTED["joined"]} for name, images in EXPECTED.items()}
    assert clients == {"cohort": {name: len(found) for name, found in both.items() if found}}
    assert list(clients["cohort"]) == [name for name in EXPECTED if both[name]], "in the order of the drive"
    table = run(some, "table", "--rows", "cohort", "--columns", "by-view", "--format", "csv").stdout.splitlines()
    assert [line.split(",")[-2] for line in table] == ["total", "1", "5", "6"]
    assert "by-cohort" not in run("", "ls").stdout
    done = run("", "count", "by-cohort/left")
    assert done.exit_code == 1
    assert "names no cohorts" in done.stderr


BROKEN = """\
[cohorts.good]
path = "by-view/CC"
[cohorts.misspelt]
path = "by-vew/CC"
[cohorts.no-list]
clients = "gone.txt"
[cohorts.uses]
include = ["good", "misspelt"]
[cohorts.a]
include = ["b", "good"]
[cohorts.b]
path = "cohorts/c/by-view/CC"
[cohorts.c]
exclude = ["a"]
[cohorts.itself]
path = "by-cohort/itself"
"""


@pytest.mark.parametrize("value", ["C\\t", "\ufeffCI", "\\u0085x"])
def test_the_mistake_of_a_broken_cohort_has_no_control_characters(
    run: Callable[..., Result], index: Index, tmp_path: Path, value: str
) -> None:
    done = run(f'[cohorts.odd]\npath = "by-outcome/{value}"\n', "count", "cohorts/odd")
    assert (done.exit_code, done.stderr.count("\n"), done.stderr.rstrip("\n").isprintable()) == (1, 1, True)
    found = resolved(Cohorts(index), read_definitions(tmp_path / "omidbfs.toml").cohorts)
    assert str(found.broken["odd"]).isprintable()


def test_a_broken_cohort_breaks_no_other_cohort_and_no_command(run: Callable[..., Result]) -> None:
    assert run(BROKEN, "count", "cohorts/good").stdout == "3\n"
    assert run(BROKEN, "count").stdout == "6\n"
    assert run(BROKEN, "ls", "cohorts").stdout == run(BROKEN, "ls", "by-cohort").stdout.replace("none/\n", "")
    for name, reason in (
        ("misspelt", "omidbfs.toml:4: [cohorts.misspelt]: path: there is no by-vew; did you mean by-view?"),
        ("no-list", "gone.txt cannot be read: No such file or directory"),
        ("uses", "uses the cohort misspelt, which is broken: path: there is no by-vew"),
        ("a", "cohorts are defined by each other: a > b > c > a"),
        ("b", "a > b > c > a"),
        ("c", "a > b > c > a"),
        ("itself", "cohorts are defined by each other: itself > itself"),
    ):
        for path in (f"cohorts/{name}", f"by-cohort/{name}", f"by-cohort/not-good,{name}"):
            done = run(BROKEN, "count", path)
            assert (done.exit_code, reason in done.stderr) == (1, True), (path, done.stderr)
    problems = [json.loads(line) for line in run(BROKEN, "check", "--json").stdout.splitlines()]
    broken = {one["file"]: one["detail"] for one in problems if one["kind"] == "bad-cohort"}
    assert sorted(broken) == [
        f"cohorts/{name}" for name in ("a", "b", "c", "itself", "misspelt", "no-list", "uses")
    ]
    assert "there is no by-vew" in broken["cohorts/misspelt"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('include = "a"', "include is a list of names of cohorts; for a path use path"),
        ("include = []", "include is a list of names of cohorts, and this list is empty"),
        ('include = ["b"]', "include: there is no cohort b; there are it"),
        ('exclude = ["its"]', "exclude: there is no cohort its; did you mean it?"),
        (
            'exclude = ["by-view/CC"]',
            'by-view/CC is a path, and the list has names of cohorts; write exclude = "by',
        ),
        ('exclude = ["cohorts/its"]', 'cohorts/its is a path, and the list has names of cohorts; write "its"'),
        ("exclude = [1]", "exclude is a path, a list of names of cohorts, or a table"),
        ('path = "cohorts"', "path: cohorts holds cohorts, and one is needed; add its name"),
        ('path = "cohorts/them"', "path: there is no cohort them"),
        ('path = "by-cohort/none"', "path: by-cohort/none depends on every cohort, also on this one"),
        ('path = "cohorts/it"', "cohorts are defined by each other: it > it"),
    ],
)
def test_a_mistake_about_other_cohorts_says_what_to_write(
    run: Callable[..., Result], text: str, reason: str
) -> None:
    done = run(f"[cohorts.it]\n{text}\n", "count", "cohorts/it")
    assert done.exit_code == 1
    assert "omidbfs.toml:2: [cohorts.it]: " in done.stderr
    assert reason in done.stderr


def test_none_is_no_name_of_a_cohort(run: Callable[..., Result]) -> None:
    done = run('[cohorts.none]\npath = "by-view/CC"\n', "count", "cohorts/none")
    assert "by-cohort/none has the images that no cohort has; choose another name" in done.stderr


def test_cohorts_that_use_each_other_in_a_long_row_are_refused(index: Index) -> None:
    first = NamedCohort("c0", Criteria("by-view/CC", ""))
    row = [NamedCohort(f"c{n}", None, Others((f"c{n - 1}",), "")) for n in range(1, 200)]
    for definitions in ([first, *row], [first, *row][::-1]):
        found = resolved(Cohorts(index), definitions)
        assert len(found.cohorts) >= 45
        assert {str(one) for one in found.broken.values() if "in a row" in one.what}
        cohorts = Cohorts(index, found.named)
        for cohort in found.cohorts.values():
            inside = [row for row in range(len(index)) if cohorts.contains(cohort, row)]
            assert inside == cohorts.rows(cohort).tolist()


def test_shared_parts_are_asked_once(index: Index) -> None:
    """Each of 40 cohorts uses the one before twice: without sharing that would be 2 ** 40 questions."""
    definitions = [NamedCohort("a0", Criteria("by-view/CC", "")), NamedCohort("b0", Criteria("by-view/MLO", ""))]
    for n in range(1, 40):
        both = Others((f"a{n - 1}", f"b{n - 1}"), "")
        definitions += [NamedCohort(f"a{n}", None, None, both), NamedCohort(f"b{n}", None, None, both)]
    found = resolved(Cohorts(index), definitions)
    cohorts, last = Cohorts(index, found.named), found.cohorts["a39"]
    inside = [row for row in range(len(index)) if cohorts.contains(last, row)]
    assert inside == cohorts.rows(last).tolist() == [0, 1, 2, 3, 4]


def test_looking_up_finds_the_rows_of_no_cohort(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also not resolving definitions, which starting a drive does."""
    monkeypatch.setattr(Cohorts, "rows", None)
    definitions = [
        NamedCohort("a", Criteria("by-view/CC", "")),
        NamedCohort("b", Criteria("by-laterality/L", ""), Criteria("by-view/MLO/by-client/demd1", "")),
        NamedCohort("c", None, Others(("a",), ""), Others(("a", "b"), "")),
    ]
    found = resolved(Cohorts(index), definitions)
    cohorts = Cohorts(index, found.named)
    term = cohorts.term(COHORT_FACET, "c,none")
    assert term is not None
    inside = [row for row in range(len(index)) if cohorts.contains(EVERYTHING.narrowed(term), row)]
    assert [index.images[row].decode() for row in inside] == ["1.1.3", "2.1.2", "2.1.3"]
    some = np.arange(1, len(index), dtype=np.uint32)
    for cohort in (EVERYTHING.narrowed(term), EVERYTHING.narrowed(replace(term, negated=True))):
        mask = [cohorts.contains(cohort, row) for row in some.tolist()]
        assert cohorts.which(cohort, some).tolist() == cohorts.which(cohort, slice(1, len(index))).tolist() == mask
    root = Root(cohorts, cohorts.facets, found.cohorts)  # stat shows link counts
    assert {root.links.item(row) for row in range(len(index))}


NAMES = ("a", "b", "c", "d")
PATHS = ("by-view/CC", "by-laterality/L", "by-client/demd1", "by-view/not-MLO", "all")


@st.composite
def configurations(draw: st.DrawFn) -> list[NamedCohort]:
    """Definitions that may use any other, and so may be circular."""
    found = []
    for name in NAMES:
        others = st.lists(st.sampled_from(NAMES), min_size=1, max_size=2, unique=True)
        path = st.sampled_from(PATHS) | st.sampled_from(NAMES).map("cohorts/{}".format)
        include = draw(st.none() | path.map(lambda path: Criteria(path, "")))
        of = draw(st.none() | others.map(lambda names: Others(tuple(names), "")))
        exclude = draw(
            st.none()
            | path.map(lambda path: Criteria(path, ""))
            | others.map(lambda names: Others(tuple(names), ""))
        )
        if include is None and of is None and exclude is None:
            include = Criteria("all", "")
        found.append(NamedCohort(name, include, exclude, of))
    return found


class _LoopError(Exception):
    pass


def naive(definitions: dict[str, NamedCohort], name: str, image: str, above: tuple[str, ...] = ()) -> bool:
    """Whether a cohort has an image, by its definition alone."""
    if name in above:
        raise _LoopError
    client, view, side = IMAGES[image]
    truths = {
        "by-view/CC": view == "CC",
        "by-laterality/L": side == "L",
        "by-client/demd1": client == "demd1",
        "by-view/not-MLO": view != "MLO",
        "all": True,
    }

    def of_path(path: str) -> bool:
        if path.startswith("cohorts/"):
            return naive(definitions, path[8:], image, (*above, name))
        return truths[path]

    def of_others(others: Others) -> bool:
        return sum(naive(definitions, other, image, (*above, name)) for other in others.names) > 0

    one = definitions[name]
    parts = [one.include is None or of_path(one.include.path), one.of is None or of_others(one.of)]
    if isinstance(one.exclude, Others):
        parts.append(not of_others(one.exclude))
    elif one.exclude is not None:
        parts.append(not of_path(one.exclude.path))
    return all(parts)


@settings(max_examples=150, deadline=None)
@given(configurations())
def test_cohorts_are_what_their_definitions_say(index: Index, definitions: list[NamedCohort]) -> None:
    found: Resolved = resolved(Cohorts(index), definitions)
    cohorts, by_name = Cohorts(index, found.named), {one.name: one for one in definitions}
    images = [name.decode() for name in index.images]
    counts = dict(cohorts.counts(EVERYTHING, COHORT_FACET)) if found.cohorts else {}
    for name in NAMES:
        try:
            expected = [row for row, image in enumerate(images) if naive(by_name, name, image)]
        except _LoopError:
            assert name in found.broken
            continue
        cohort = found.cohorts[name]
        term = cohorts.term(COHORT_FACET, name)
        assert term is not None
        for each in (cohort, EVERYTHING.narrowed(term)):
            assert cohorts.rows(each).tolist() == expected
            assert [row for row in range(len(index)) if cohorts.contains(each, row)] == expected
            assert cohorts.which(each, slice(None)).nonzero()[0].tolist() == expected
        assert counts.get(name, 0) == len(expected)
